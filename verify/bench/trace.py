"""Reads routing's share of a decode step's GPU time from a torch profiler's trace.

In the replay of a CUDA graph a kernel has a name, a start and a duration, but nothing tells the Python
line that launched it. So a call of the router is found by its position. In every MoE layer of Gemma 4
the order on the stream is

    router GEMM (and its split-K sum) | RMSNorm of the experts' input | ROUTING | moe_align… | experts

Between the last matrix product and each ``moe_align`` (or whatever first dispatches tokens to experts),
the first kernel with "topk", "routing" or "router_chain" in its name begins the call. Every kernel from there to the
dispatch belongs to it, except fills and memsets, which prepare the dispatch's buffers. The torch ops
are ``gatherTopK``, a sort of the winners, softmax, index, casts and a product (six to eight kernels); a
fused router is one kernel. All calls should consist of the same kernels: ``odd`` counts those that
differ from the commonest.

The share is a ratio of summed durations, so the gaps between kernels, which a profiler stretches, do
not count. There is a check that needs no names: the GPU time of a whole step, ``step_us``, must differ
between two routers by as much as their routing does.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

_DISPATCH = re.compile(
    r"moe_align|align_few|count_and_sort_expert|fused_moe_kernel|moe_permute", re.I
)
_PRODUCT = re.compile(r"gemm(?!a)|gemv|nvjet|cutlass|cublas|splitk|xmma|wgmma", re.I)  # not Gemma
_BEGINS = re.compile(r"topk|routing|router_chain", re.I)
_NOT_ROUTING = re.compile(r"memset|FillFunctor|memcpy", re.I)
_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")


class Kernel(NamedTuple):
    """One piece of work on the GPU; times in microseconds."""

    name: str
    start: float
    duration: float


class NoRouting(Exception):
    """The trace holds nothing that looks like a call of the router."""


def read(path: Path) -> list[Kernel]:
    """What ran on the GPU, from a Chrome trace that torch wrote, compressed (.gz) or plain."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        events = json.load(file)["traceEvents"]
    return [
        Kernel(str(event["name"]), float(event["ts"]), float(event["dur"]))
        for event in events
        if event.get("ph") == "X" and str(event.get("cat", "")).lower() in _ON_GPU
    ]


def calls(kernels: list[Kernel]) -> list[list[Kernel]]:
    """The kernels of each call of the router, in the order in which they ran."""
    ordered = sorted(kernels, key=lambda kernel: kernel.start)
    routed = []
    for at, kernel in enumerate(ordered):
        if not _DISPATCH.search(kernel.name):
            continue
        first = at
        while first and not _ends_layer(ordered[first - 1].name):
            first -= 1
        while first < at and not _BEGINS.search(ordered[first].name):
            first += 1
        if first < at:
            routed.append([k for k in ordered[first:at] if not _NOT_ROUTING.search(k.name)])
    return routed


def _ends_layer(name: str) -> bool:
    return bool(_DISPATCH.search(name) or _PRODUCT.search(name))


def routing(kernels: list[Kernel], layers: int) -> dict[str, Any]:
    """Routing's share of the GPU time of these decode steps, of a model with ``layers`` MoE layers.

    ``share_percent``; ``call_us`` and ``step_us``: mean GPU time of one layer's routing, and of one
    step; ``steps``: their number; ``kernels``: the names in one call; ``calls``, ``odd``. Raises
    NoRouting if there is no call of a router.
    """
    routed = calls(kernels)
    if not routed:
        common = Counter(short(kernel.name) for kernel in kernels).most_common(8)
        listed = ", ".join(f"{count} x {name}" for name, count in common) or "no GPU work at all"
        raise NoRouting(f"no call of a router among {len(kernels)} kernels: {listed}")
    sequences = Counter(tuple(kernel.name for kernel in call) for call in routed)
    usual, equal_calls = sequences.most_common(1)[0]
    total = sum(kernel.duration for kernel in kernels)
    spent = sum(kernel.duration for call in routed for kernel in call)
    steps = len(routed) / layers
    return {
        "share_percent": round(100 * spent / total, 3),
        "call_us": round(spent / len(routed), 3),
        "step_us": round(total / steps, 1),
        "steps": round(steps, 2),
        "kernels": [short(name) for name in usual],
        "calls": len(routed),
        "odd": len(routed) - equal_calls,
    }


def short(name: str) -> str:
    """A kernel's name without its return type, and with at most 90 characters."""
    return name.removeprefix("void ").replace("at::native::", "")[:90]
