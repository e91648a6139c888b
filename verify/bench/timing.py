"""Times calls on a CUDA GPU. They take turns, so that a drifting clock affects all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def microseconds(run: Callable[[], object]) -> float:
    """GPU time of ``run``."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) * 1e3


def capture(calls: Iterable[Callable[[], object]]) -> Any:
    """A CUDA graph of these calls, replayed once. No answer is kept, so that the calls share memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    torch.cuda.synchronize()
    return graph


def in_turns(runs: Mapping[Name, Callable[[], float]], times: int) -> dict[Name, list[float]]:
    """[median, least, most] of so many results of each function. They take turns (A B C, A B C)."""
    found: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            found[name].append(run())
    return {
        name: [round(us, 3) for us in (statistics.median(all_), min(all_), max(all_))]
        for name, all_ in found.items()
    }


def empty_kernel() -> Callable[[torch.Tensor], object]:
    """A launch of one program that does nothing with the tensor."""
    import triton

    @triton.jit
    def nothing(pointer):  # type: ignore[no-untyped-def]  # Triton reads annotations
        pass

    return lambda tensor: nothing[(1,)](tensor, num_warps=1)
