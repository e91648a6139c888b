"""Times routing kernels on a CUDA GPU, side by side: verify/bench/NOTES.md holds what was learned.

    routing.py [--kernel NAME[@PATH[:ROWSxWARPS]]=FILE ...] [--peer NAME=FILE ...] [--only PART ...]
               [--seconds N] [--warm JOBS] [--out JSON] [--plot PNG] [--draw JSON]

Without --kernel it is FIXTOOL_TREE's. Beside it: each peer (a file with a launcher of its own, such as
that of an SGLang wheel or vLLM's model: `peer.py`), SGLang's torch ops, an empty kernel, a copy of the logits.
Ratios are to the first peer. @PATH forces one of the file's kernels (`verify.routing.variants`: heads, merge,
rounds) on whatever it can take, with :ROWSxWARPS of so many tokens and warps a program.

Parts: ``bf16``, ``fp16``, ``fp32`` (E=128, K=8, every T), ``host`` (eager, host time a call), ``experts``,
``topk`` (other E, other K; bf16 and fp32), ``paths`` (bf16, where one kernel takes over from another),
``first`` (a process's first call, compiled or out of Triton's cache). Whatever answers wrongly is named
and not timed. A time is the median of REPLAYS replays of a CUDA graph of many calls, the rows taking
turns (A B C, A B C), so that a drifting clock drifts under all. Exit 4 without a GPU; 1 if a --kernel
was wrong or raised.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from verify.answer import CANNOT_RUN, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from verify.bench import peer as peers
from verify.bench.plot import plot
from verify.routing import load as kernel
from verify.routing import variants as paths
from verify.routing.compare import judge

DEVICE = "cuda"
REPLAYS, BATCH_US = 15, 2000
TOKENS = (1, 8, 64, 256, 1024, 8192, 65536)
FEW = (1, 1024, 8192)
AROUND = (1024, 2048, 3072, 4096, 6144, 8192, 16384)  # where merge takes over from heads
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PARTS = ("bf16", "host", "first", "paths", "fp32", "experts", "topk", "fp16")
UNCHECKED = ("empty", "copy")

Routing = Callable[[torch.Tensor, torch.Tensor, int], Any]


@dataclass
class Point:
    part: str
    dtype: str
    tokens: int
    experts: int = 128
    topk: int = 8

    @property
    def shape(self) -> str:
        return f"{self.dtype} E={self.experts} K={self.topk}"


@dataclass
class Row:
    """What is called, and for which points."""

    routing: Routing
    fits: Callable[[Point], bool] = lambda point: True


@dataclass
class Bench:
    rows: dict[str, Row]
    peer: str | None
    deadline: float
    wrong: dict[str, str] = field(default_factory=dict)  # row -> what; no longer run
    refused: set[str] = field(default_factory=set)  # row and shape, said once
    points: list[dict[str, Any]] = field(default_factory=list)


def points(parts: tuple[str, ...]) -> Iterator[Point]:
    for part in parts:
        if part in DTYPES:
            yield from (Point(part, part, tokens) for tokens in TOKENS)
        elif part == "host":
            yield from (Point(part, "bf16", tokens) for tokens in (1, 64))
        elif part == "first":  # each another kernel of ours, and two of one
            yield from (Point(part, *one) for one in (("bf16", 1), ("fp32", 1), ("bf16", 8192)))
            yield Point(part, "bf16", 1, 256)
        elif part == "paths":
            yield from (Point(part, "bf16", tokens) for tokens in AROUND)
        else:
            others = (64, 96, 256, 512) if part == "experts" else (1, 2, 4, 6, 16)
            for dtype in ("bf16", "fp32"):
                for other in others:
                    shape = (other, 8) if part == "experts" else (128, other)
                    yield from (Point(part, dtype, tokens, *shape) for tokens in FEW)


# --- what is timed ------------------------------------------------------------------------------


def torch_ops(
    logits: torch.Tensor, scale: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What Gemma 4 routes with where nothing is fused."""
    top, ids = torch.topk(logits, k=topk, dim=-1)
    weights = torch.nn.functional.softmax(top, dim=-1)
    weights = weights * scale[ids].to(weights.dtype)
    return weights.to(torch.float32), ids.to(torch.int32)


def empty_kernel() -> Routing:
    """A launch of one program that does nothing."""
    import triton

    @triton.jit
    def nothing(pointer):
        pass

    return lambda logits, scale, topk: nothing[(1,)](scale, num_warps=1)


def load(said: str, number: int, peer: bool) -> tuple[str, Row]:
    """NAME[@PATH[:ROWSxWARPS]]=FILE, or FILE alone, as a name and what to call."""
    name, _, file = said.rpartition("=")
    name = name or Path(file).stem
    module = (peers.load if peer else kernel.load)(file, f"routing_row_{number}_{int(peer)}")
    row = Row(module.gemma4_fused_routing)
    if "@" in name:
        path, _, tile = name.rpartition("@")[2].partition(":")
        table = paths.table(module, path, *(int(one) for one in tile.split("x") if one))
        setattr(module, paths.TABLE, table)
        row.fits = lambda point: path in paths.reached(module, point)
    return name, row


def compiled(said: str, peer: bool, part: str) -> str:
    """In a process of its own: each shape once, so that triton's cache on disk holds it."""
    try:
        name, row = load(said, 0, peer)
    except Exception as error:
        return f"{said}: {error!r}"
    problems = set()
    for point in filter(row.fits, points((part,))):
        try:
            row.routing(*inputs(point), point.topk)
        except Exception as error:
            problems.add(f"{name} {point.shape}: {error!r}"[:300])
    return "; ".join(sorted(problems))


# --- the first call -----------------------------------------------------------------------------


def first_calls(said: str, peer: bool, cache: str) -> tuple[str, list[float | None]]:
    """In a process of its own: the row's name, and seconds of its first call at each point. Triton
    itself is warm: it has compiled another kernel. ``cache`` is its folder."""
    os.environ["TRITON_CACHE_DIR"] = cache
    name, row = load(said, 0, peer)
    given = [(inputs(point), point) for point in points(("first",))]
    empty_kernel()(None, given[0][0][1], 1)
    torch.cuda.synchronize()
    found: list[float | None] = []
    for (logits, scale), point in given:
        if not row.fits(point):
            found.append(None)
            continue
        begun = time.perf_counter()
        row.routing(logits, scale, point.topk)
        torch.cuda.synchronize()
        found.append(round(time.perf_counter() - begun, 4))
    return name, found


def measure_first(
    said: list[tuple[str, bool]], refused: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Every row at once, each with an empty cache of its own; then once more with what that holds.
    ``refused`` learns of those that raise."""
    spawn = multiprocessing.get_context("spawn")
    found = [
        {"part": "first", "dtype": one.dtype, "T": one.tokens, "E": one.experts, "K": one.topk,
         "compiled_s": {}, "cached_s": {}}
        for one in points(("first",))
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for key in ("compiled_s", "cached_s"):
            with ProcessPoolExecutor(len(said) or 1, mp_context=spawn) as pool:
                tasks = [
                    pool.submit(first_calls, one, peer, f"{folder}/{number}")
                    for number, (one, peer) in enumerate(said)
                ]
            for (one, _), task in zip(said, tasks, strict=True):
                try:
                    name, seconds = task.result()
                except Exception as error:
                    print(f"FAILED first calls of {one}: {error!r}"[:500], flush=True)
                    refused.add((one, "first call"))
                    continue
                for point, took in zip(found, seconds, strict=True):
                    if took is not None:
                        point[key][name] = took
    return found


def show_first(found: list[dict[str, Any]]) -> None:
    print("\nfirst: seconds of a process's first call: compiled, and out of Triton's cache")
    for one in found:
        print(f"  {one['dtype']} E={one['E']} K={one['K']} T={one['T']}")
        for name, took in one["compiled_s"].items():
            print(f"{name:>14} {took:8.3f} {one['cached_s'].get(name, float('nan')):8.3f}")
    sys.stdout.flush()


# --- how it is timed ----------------------------------------------------------------------------


def inputs(point: Point) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits [T, E] and a scale [E]; the same for every row."""
    torch.manual_seed(point.tokens * 1031 + point.experts)
    logits = torch.randn(point.tokens, point.experts, device=DEVICE)
    return logits.to(DTYPES[point.dtype]), torch.rand(point.experts, device=DEVICE) + 0.5


def problem(
    routing: Routing, point: Point, logits: torch.Tensor, scale: torch.Tensor, sample: torch.Tensor
) -> str:
    """What is wrong with a row's answer, judged on some of its tokens; nothing if it is right."""
    weights, ids = routing(logits, scale, point.topk)
    if tuple(weights.shape) != (point.tokens, point.topk) or weights.shape != ids.shape:
        return f"shapes {list(weights.shape)} and {list(ids.shape)}"
    said = judge(weights[sample], ids[sample], logits[sample], scale, point.topk)
    return "; ".join(said.problems)[:400]


def microseconds(run: Callable[[], object]) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) * 1e3


def graph_of(call: Callable[[], object]) -> tuple[Any, int]:
    """A CUDA graph of some BATCH_US of calls, and how many."""

    def captured(calls: int) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                call()
        graph.replay()
        torch.cuda.synchronize()
        return graph

    few = captured(10)
    each = statistics.median(microseconds(few.replay) for _ in range(3)) / 10
    calls = max(10, min(600, int(BATCH_US / each)))
    return captured(calls), calls


def host_batch(call: Callable[[], object], calls: int = 200) -> float:
    """Microseconds of host time a call, eager, the GPU idle before and never waited for."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    took = (time.perf_counter() - begun) / calls * 1e6
    torch.cuda.synchronize()
    return took


def measure(bench: Bench, point: Point) -> None:
    """Time every row of one point, in turns, and keep [median, least, most] of each."""
    logits, scale = inputs(point)
    some = min(point.tokens, 512)
    sample = torch.randperm(point.tokens, device=DEVICE)[:some]
    runs: dict[str, Callable[[], float]] = {}
    for name, row in bench.rows.items():
        if name in bench.wrong or (name, point.shape) in bench.refused or not row.fits(point):
            continue
        call = lambda row=row: row.routing(logits, scale, point.topk)
        try:
            call()
            torch.cuda.synchronize()
            if name not in UNCHECKED and (
                what := problem(row.routing, point, logits, scale, sample)
            ):
                if name == "torch ops":  # its ties go either way
                    what = ""
                elif name == bench.peer:
                    print(f"NOTE peer {name} {point.shape} T={point.tokens}: {what}"[:300])
                else:
                    raise ValueError(f"wrong: {what}")
            if point.part == "host":
                host_batch(call)
                runs[name] = lambda call=call: host_batch(call)
            else:
                graph, calls = graph_of(call)
                runs[name] = lambda graph=graph, calls=calls: microseconds(graph.replay) / calls
        except Exception as error:
            what = f"{name} {point.shape} T={point.tokens}: {error!r}"[:500]
            print(f"FAILED {what}", flush=True)
            bench.refused.add((name, point.shape))
            if isinstance(error, ValueError):
                bench.wrong[name] = what
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPLAYS):
        for name, run in runs.items():
            times[name].append(run())
    bench.points.append(
        {
            "part": point.part,
            "dtype": point.dtype,
            "T": point.tokens,
            "E": point.experts,
            "K": point.topk,
            "us": {
                name: [round(one, 3) for one in (statistics.median(all_), min(all_), max(all_))]
                for name, all_ in times.items()
            },
        }
    )


# --- what is said -------------------------------------------------------------------------------


def show(bench: Bench, part: str) -> None:
    """Per shape: microseconds, and how many times the first peer's speed that is."""
    shapes: dict[str, list[dict[str, Any]]] = {}
    for one in bench.points:
        if one["part"] == part:
            shapes.setdefault(f"{one['dtype']} E={one['E']} K={one['K']}", []).append(one)
    what = "host us a call, eager" if part == "host" else "us a call in a CUDA graph"
    for shape, of in shapes.items():
        print(f"\n{part}: {what}; {shape} | x = times as fast as {bench.peer}")
        print(f"{'T':>14} " + " ".join(f"{one['T']:>12}" for one in of))
        for name in bench.rows:
            cells = []
            for one in of:
                mine, peer = one["us"].get(name), one["us"].get(bench.peer)
                ratio = f"{peer[0] / mine[0]:5.2f}x" if mine and peer else ""
                cells.append(f"{mine[0]:6.2f}{ratio:>6}" if mine else "-")
            if any(cell != "-" for cell in cells):
                print(f"{name:>14} " + " ".join(f"{cell:>12}" for cell in cells))
    sys.stdout.flush()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", action="append", metavar="NAME[@PATH[:ROWSxWARPS]]=FILE")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", action="append", choices=PARTS, help="default: all, in turn")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no point after these")
    parser.add_argument("--warm", type=int, default=0, help="compile first, by so many processes")
    parser.add_argument("--warm-only", action="store_true", help="compile, and time nothing")
    parser.add_argument("--out", metavar="FILE", help="JSON")
    parser.add_argument("--plot", metavar="FILE", help="PNG, with matplotlib")
    parser.add_argument("--draw", metavar="JSON", help="draw what an earlier run left in --out")
    return parser.parse_args()


def main(given: argparse.Namespace) -> Answer:
    if given.draw:
        kept = json.loads(Path(given.draw).read_text(encoding="utf-8"))
        return Answer(PASSED, plot(kept["points"], kept["peer"], given.plot, kept["device"]))
    if not torch.cuda.is_available():
        return Answer(CANNOT_RUN, "no CUDA GPU to time anything on")
    import triton

    begun = time.perf_counter()
    parts = tuple(part for part in PARTS if not given.only or part in given.only)
    timed = tuple(part for part in parts if part != "first")
    kernels = given.kernel
    if not kernels:
        file = kernel.find(tree())
        if file is None:
            return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
        kernels = [f"this={file}"]
    said = [(one, True) for one in given.peer] + [(one, False) for one in kernels]

    if given.warm:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.warm, mp_context=spawn) as pool:
            tasks = [pool.submit(compiled, *one, part) for part in timed for one in said]
            for done in as_completed(tasks):
                if what := done.result():
                    print(f"compiling: {what[:600]}", flush=True)
        print(f"compiled in {time.perf_counter() - begun:.1f} s", flush=True)
    if given.warm_only:
        return Answer(PASSED, f"compiled in {time.perf_counter() - begun:.1f} s")

    rows: dict[str, Row] = {}
    named_peers: list[str] = []
    broken: dict[str, str] = {}
    for number, (one, is_peer) in enumerate(said):
        try:
            name, row = load(one, number, is_peer)
        except Exception as error:
            broken[one] = f"{one}: {error!r}"
            print(f"FAILED {broken[one]}", flush=True)
            continue
        rows[name] = row
        named_peers += [name] if is_peer else []
    peer = next(iter(named_peers), None)
    rows |= {"torch ops": Row(torch_ops), "empty": Row(empty_kernel())}
    rows["copy"] = Row(lambda logits, scale, topk: logits.clone())

    bench = Bench(rows, peer, begun + given.seconds, wrong=broken)
    skipped = 0
    whole = [one for one in said if one[0] not in broken and "@" not in one[0].rpartition("=")[0]]
    first = measure_first(whole, bench.refused) if "first" in parts else []
    if first:
        show_first(first)
    todo = list(points(timed))
    for number, point in enumerate(todo):
        if time.perf_counter() > bench.deadline:
            skipped += 1
        else:
            measure(bench, point)
        if number + 1 == len(todo) or todo[number + 1].part != point.part:
            show(bench, point.part)
    details = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "files": {one: kernel.blob(one.rpartition("=")[2]) for one, _ in said if one not in broken},
        "patch": "gemma4-fused-routing",
        "peer": peer,
        "peers": named_peers,
        "points": bench.points,
        "first_calls": first,
        "points_skipped": skipped,
        "wrong": bench.wrong,
        "refused": sorted(f"{name}: {shape}" for name, shape in bench.refused),
        "seconds": round(time.perf_counter() - begun, 1),
    }
    if given.out:
        Path(given.out).write_text(json.dumps(details, indent=1), encoding="utf-8")
    if given.plot:
        print(plot(bench.points, peer, given.plot, details["device"]))
    saw = f"{len(bench.points)} points timed, {skipped} skipped, {len(rows)} rows"
    saw += f"; {details['device']}, {details['seconds']} s"
    if failed := [*bench.wrong.values()] or details["refused"]:
        return Answer(FAILED, f"{saw}; wrong or raised: {'; '.join(failed)[:600]}", details)
    return Answer(PASSED, saw, details)


if __name__ == "__main__":
    given = options()
    answer(lambda: main(given))
