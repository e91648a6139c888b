"""Times routing kernels on a CUDA GPU: microseconds a call inside a CUDA graph, median of 41 replays.

    bench.py [--kernel FILE] [--peer NAME=FILE ...] [--sweep]

Without --kernel it is FIXTOOL_TREE's. Beside it: SGLang's torch ops, each peer (a file with a
gemma4_fused_routing of its own), and a copy of the logits. --sweep times every tile of our kernel.
The last line is RES and one JSON object; exit 4 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from verify.answer import CANNOT_RUN, DOES_NOT_APPLY, PASSED, Answer, answer, tree
from verify.routing import kernel

TOKENS = [1, 8, 64, 256, 1024, 8192, 65536]
TILES = [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8)]  # rows, warps
SHAPES = {
    "bf16": (torch.bfloat16, 128, 8),
    "fp32": (torch.float32, 128, 8),
    "bf16_E256": (torch.bfloat16, 256, 8),
}
Table = dict[str, list[float | None]]


def torch_ops(
    logits: torch.Tensor, scale: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What Gemma 4 routes with where nothing is fused."""
    top, ids = torch.topk(logits, k=topk, dim=-1)
    weights = torch.nn.functional.softmax(top, dim=-1)
    weights = weights * scale[ids].to(weights.dtype)
    return weights.to(torch.float32), ids.to(torch.int32)


def microseconds(call: Callable[[], object], replays: int = 41) -> float:
    """Median time of one call, of some 4 ms of calls in a CUDA graph."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def took(run: Callable[[], object]) -> float:
        start.record(), run(), stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) * 1e3

    calls = max(10, min(200, int(4000 / max(1.0, took(call)))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    for _ in range(3):
        graph.replay()
    return round(statistics.median(took(graph.replay) / calls for _ in range(replays)), 3)


def inputs(tokens: int, dtype: torch.dtype, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits [T, E] and a scale [E] on the GPU."""
    logits = torch.randn(tokens, experts, device="cuda").to(dtype)
    return logits, torch.rand(experts, device="cuda")


def show(title: str, table: Table) -> None:
    print(f"\n{title}\n{'T':>16} " + " ".join(f"{tokens:>8}" for tokens in TOKENS))
    for name, times in table.items():
        print(f"{name:>16} " + " ".join(f"{'-' if one is None else one:>8}" for one in times))


def bench(routings: dict[str, Callable[..., Any]], shape: str) -> Table:
    """Microseconds of each routing for each number of TOKENS; None where it raised."""
    dtype, experts, topk = SHAPES[shape]
    table: Table = {name: [] for name in routings}
    for tokens in TOKENS:
        logits, scale = inputs(tokens, dtype, experts)
        for name, routing in routings.items():
            try:
                table[name].append(microseconds(lambda: routing(logits, scale, topk)))
            except Exception as error:
                print(f"{name} T={tokens}: {error!r}"[:300])
                table[name].append(None)
    show(f"microseconds a call; {shape}, K={topk}", table)
    return table


def sweep(module: ModuleType, shape: str) -> Table:
    """Microseconds of each tile of our kernel, to see whether the launcher's choice is the best."""
    import triton

    run = getattr(module, "_gemma4_fused_routing_kernel", None)
    if run is None:
        print("sweep: no _gemma4_fused_routing_kernel in this file")
        return {}
    dtype, experts, topk = SHAPES[shape]
    table: Table = {}
    for rows, warps in TILES:
        times = table[f"{rows} rows {warps} w"] = []
        for tokens in TOKENS:
            logits, scale = inputs(tokens, dtype, experts)
            weights = torch.empty(tokens, topk, device="cuda")
            ids = torch.empty(tokens, topk, device="cuda", dtype=torch.int32)
            blocks = triton.next_power_of_2(experts), triton.next_power_of_2(topk)
            launch = lambda: run[(triton.cdiv(tokens, rows),)](
                logits, scale, weights, ids, tokens, logits.stride(0),
                E=experts, K=topk, ROWS=rows, BLOCK_E=blocks[0], BLOCK_K=blocks[1],
                num_warps=warps,
            )  # fmt: skip
            times.append(microseconds(launch, 15))
    show(f"tiles, microseconds a call; {shape}", table)
    return table


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", metavar="FILE")
    parser.add_argument("--peer", action="append", default=[], metavar="[NAME=]FILE")
    parser.add_argument("--sweep", action="store_true")
    return parser.parse_args()


def main(given: argparse.Namespace) -> Answer:
    if not torch.cuda.is_available():
        return Answer(CANNOT_RUN, "no CUDA GPU to time anything on")
    file = given.kernel or kernel.find(tree())
    if file is None:
        return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
    import triton

    module = kernel.load(file)
    routings = {"torch ops": torch_ops, "this": module.gemma4_fused_routing}
    for number, one in enumerate(given.peer):
        name, _, path = one.rpartition("=")
        peer = kernel.load(path, f"peer{number}")
        routings[name or f"peer{number}"] = peer.gemma4_fused_routing
    routings["clone"] = lambda logits, scale, topk: logits.clone()

    result: dict[str, Any] = {
        "kernel": str(file),
        "blob": kernel.blob(file),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "T": TOKENS,
    }
    for shape in SHAPES:
        result[f"bench_{shape}"] = bench(routings, shape)
        if given.sweep and SHAPES[shape][1] == 128:
            result[f"sweep_{shape}"] = sweep(module, shape)
    return Answer(PASSED, f"RES {json.dumps(result)}", result)


if __name__ == "__main__":
    given = options()
    answer(lambda: main(given))
