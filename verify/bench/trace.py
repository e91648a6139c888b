"""How much of a decode step's GPU time routing takes, read from a torch profiler's trace.

In a CUDA graph's replay kernels have a name, a start and a duration, and nothing that says which Python
line they are from. So a call of the router is found by where it stands. In every MoE layer of Gemma 4
the order on the stream is

    router GEMM (and its split-K sum) | RMSNorm of the experts' input | ROUTING | moe_align… | experts

Looked at backwards from each ``moe_align`` (or whatever dispatches tokens to experts first), as far as
the last matrix product, the first kernel with "topk" or "routing" in its name begins the call, and
every kernel from there up to the dispatch belongs to it, but for fills and memsets, which prepare the
dispatch's buffers. The torch ops are ``gatherTopK``, a sort of the winners, softmax, index, casts and a
product (six to eight kernels); a fused router is one. All of a layer's calls must look alike: ``odd`` counts
those that do not look like the commonest.

The share is a ratio of summed durations, so gaps between kernels, which a profiler stretches, count on
neither side. A check that needs no names: the GPU time of a whole step, ``step_us``, must differ
between two routers by what their routing differs.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

_DISPATCH = re.compile(r"moe_align|count_and_sort_expert|fused_moe_kernel|moe_permute", re.I)
_PRODUCT = re.compile(r"gemm(?!a)|gemv|nvjet|cutlass|cublas|splitk|xmma|wgmma", re.I)  # not Gemma
_BEGINS = re.compile(r"topk|routing", re.I)
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
    """What ran on the GPU, from a Chrome trace as torch writes it, .gz or plain."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        events = json.load(file)["traceEvents"]
    return [
        Kernel(str(one["name"]), float(one["ts"]), float(one["dur"]))
        for one in events
        if one.get("ph") == "X" and str(one.get("cat", "")).lower() in _ON_GPU
    ]


def calls(kernels: list[Kernel]) -> list[list[Kernel]]:
    """The kernels of each call of the router, in the order in which they ran."""
    ordered = sorted(kernels, key=lambda one: one.start)
    found = []
    for at, kernel in enumerate(ordered):
        if not _DISPATCH.search(kernel.name):
            continue
        first = at
        while first and not _ends_a_search(ordered[first - 1].name):
            first -= 1
        while first < at and not _BEGINS.search(ordered[first].name):
            first += 1
        if first < at:
            found.append([one for one in ordered[first:at] if not _NOT_ROUTING.search(one.name)])
    return found


def _ends_a_search(name: str) -> bool:
    return bool(_DISPATCH.search(name) or _PRODUCT.search(name))


def routing(kernels: list[Kernel], layers: int) -> dict[str, Any]:
    """Routing's share of the GPU time of these decode steps, of a model with ``layers`` MoE layers.

    ``share_percent``; ``call_us`` and ``step_us``: mean GPU time of one layer's routing, and of one
    step; ``steps``: how many there were; ``kernels``: the names in one call; ``calls``, ``odd``.
    """
    found = calls(kernels)
    if not found:
        common = Counter(short(one.name) for one in kernels).most_common(8)
        seen = ", ".join(f"{count} x {name}" for name, count in common) or "no GPU work at all"
        raise NoRouting(f"no call of a router among {len(kernels)} kernels: {seen}")
    shapes = Counter(tuple(one.name for one in call) for call in found)
    usual, alike = shapes.most_common(1)[0]
    total = sum(one.duration for one in kernels)
    spent = sum(one.duration for call in found for one in call)
    steps = len(found) / layers
    return {
        "share_percent": round(100 * spent / total, 3),
        "call_us": round(spent / len(found), 3),
        "step_us": round(total / steps, 1),
        "steps": round(steps, 2),
        "kernels": [short(name) for name in usual],
        "calls": len(found),
        "odd": len(found) - alike,
    }


def short(name: str) -> str:
    """A kernel's name without its return type, and not a screenful of template arguments."""
    return name.removeprefix("void ").replace("at::native::", "")[:90]
