"""Times routing kernels on a CUDA GPU, side by side. verify/bench/NOTES.md holds what was learned.

    routing.py [--kernel NAME[@VARIANT[:ROWSxWARPS]]=FILE ...] [--peer NAME=FILE ...] [--only PART ...]
               [--seconds N] [--warm JOBS] [--out JSON] [--plot PNG] [--draw JSON]

Without --kernel it times FIXTOOL_TREE's kernel. Beside it run each peer (a file with a launcher of
its own, such as that of an SGLang wheel or of vLLM's model: `peer.py`), SGLang's torch ops, an empty
kernel, and a copy of the logits. Ratios are to the first peer. @VARIANT forces one of the file's
kernels (`verify.routing.variants`: heads, merge, rounds) on every batch that it can take; with
:ROWSxWARPS it takes that many tokens and warps a program.

Parts: ``bf16``, ``fp16``, ``fp32`` (E=128, K=8, every T), ``host`` (eager, host time a call), ``experts``
and ``topk`` (other E, other K; bf16 and fp32), ``paths`` (bf16, around the T where one kernel takes over
from another), ``first`` (a process's first call, compiled or from Triton's cache). A kernel that
answers wrongly is named and not timed. A time is the median of REPLAYS replays of a CUDA graph of
many calls. The kernels take turns (A B C, A B C), so that a drifting clock affects all alike. Exit 4
without a GPU; 1 if a --kernel was wrong or raised.
"""

from __future__ import annotations

import argparse
import importlib.metadata
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

from fixtool.verify.answer import CANNOT_RUN, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from fixtool.verify.runner.git_ids import blob_id
from verify.bench.peer import load_peer
from verify.bench.plot import plot
from verify.bench.timing import capture, empty_kernel, in_turns, microseconds
from verify.routing import variants
from verify.routing.cases import Case
from verify.routing.compare import compare_with_oracle
from verify.routing.load import find_kernel, load_kernel

DEVICE = "cuda"
REPLAYS, BATCH_US = 15, 2000
TOKENS = (1, 8, 64, 256, 1024, 8192, 65536)
FEW = (1, 1024, 8192)
AROUND = (1024, 2048, 3072, 4096, 6144, 8192, 16384)  # where merge takes over from heads
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PARTS = ("bf16", "host", "first", "paths", "fp32", "experts", "topk", "fp16")
UNCHECKED = ("empty", "copy")

Routing = Callable[[torch.Tensor, torch.Tensor, int], Any]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # logits, scale, sampled rows


@dataclass
class Point:
    """One batch that is timed: its part of the benchmark, dtype and shape."""

    part: str
    dtype: str
    tokens: int
    experts: int = 128
    topk: int = 8

    @property
    def shape(self) -> str:
        return f"{self.dtype} E={self.experts} K={self.topk}"

    def details(self) -> dict[str, Any]:
        names = {"T": self.tokens, "E": self.experts, "K": self.topk}
        return {"part": self.part, "dtype": self.dtype, **names}


@dataclass
class Row:
    """A function that is timed, and the points for which it can be called."""

    routing: Routing
    fits: Callable[[Point], bool] = lambda point: True


@dataclass
class RoutingBench:
    """What a run times (``rows``, by name) and what it has measured so far."""

    rows: dict[str, Row]
    peer: str | None
    deadline: float
    wrong: dict[str, str] = field(default_factory=dict)  # row -> what is wrong; no longer run
    refused: set[tuple[str, str]] = field(default_factory=set)  # row and shape: it raised
    points: list[dict[str, Any]] = field(default_factory=list)


def points(parts: tuple[str, ...]) -> Iterator[Point]:
    for part in parts:
        if part in DTYPES:
            yield from (Point(part, part, tokens) for tokens in TOKENS)
        elif part == "host":
            yield from (Point(part, "bf16", tokens) for tokens in (1, 64))
        elif part == "first":  # each another kernel of ours, and two of one
            for dtype, tokens in (("bf16", 1), ("fp32", 1), ("bf16", 8192)):
                yield Point(part, dtype, tokens)
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
    """SGLang's routing of Gemma 4 without a fused kernel."""
    top, ids = torch.topk(logits, k=topk, dim=-1)
    weights = torch.nn.functional.softmax(top, dim=-1)
    weights = weights * scale[ids].to(weights.dtype)
    return weights.to(torch.float32), ids.to(torch.int32)


def load(argument: str, number: int, peer: bool) -> tuple[str, Row]:
    """The name and the row of an argument NAME[@VARIANT[:ROWSxWARPS]]=FILE, or FILE alone."""
    name, _, file = argument.rpartition("=")
    name = name or Path(file).stem
    module = (load_peer if peer else load_kernel)(file, f"routing_row_{number}_{int(peer)}")
    row = Row(module.gemma4_fused_routing)
    if "@" in name:
        variant, _, tile = name.rpartition("@")[2].partition(":")
        sizes = (int(number) for number in tile.split("x") if number)
        setattr(module, variants.TABLE, variants.forced_table(module, variant, *sizes))
        row.fits = lambda point: variant in variants.reachable(module, _case(point))
    return name, row


def _case(point: Point) -> Case:
    return Case("", point.part, point.dtype, point.tokens, point.experts, point.topk)


def compile_part(argument: str, peer: bool, part: str) -> str:
    """In a process of its own, call each shape of a part once, so that Triton's cache on disk has
    it. Returns the problems as text, "" if there are none."""
    try:
        name, row = load(argument, 0, peer)
    except Exception as error:
        return f"{argument}: {error!r}"
    problems = set()
    for point in filter(row.fits, points((part,))):
        try:
            row.routing(*inputs(point), point.topk)
        except Exception as error:
            problems.add(f"{name} {point.shape}: {error!r}"[:300])
    return "; ".join(sorted(problems))


def compile_all(arguments: list[tuple[str, bool]], parts: tuple[str, ...], jobs: int) -> None:
    """Compile every kernel for every part in ``jobs`` processes, and print the problems."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        tasks = [pool.submit(compile_part, *arg, part) for part in parts for arg in arguments]
        for task in as_completed(tasks):
            if problem := task.result():
                print(f"compiling: {problem[:600]}", flush=True)


# --- the first call -----------------------------------------------------------------------------


def first_calls(argument: str, peer: bool, cache: str) -> tuple[str, list[float | None]]:
    """In a process of its own: the row's name, and the seconds of its first call at each point.

    None for a point that does not fit. Triton itself is warm: it has compiled another kernel.
    ``cache`` is the folder of its cache.
    """
    os.environ["TRITON_CACHE_DIR"] = cache
    name, row = load(argument, 0, peer)
    batches = [(inputs(point), point) for point in points(("first",))]
    empty_kernel()(batches[0][0][1])
    torch.cuda.synchronize()
    seconds: list[float | None] = []
    for (logits, scale), point in batches:
        if not row.fits(point):
            seconds.append(None)
            continue
        start = time.perf_counter()
        row.routing(logits, scale, point.topk)
        torch.cuda.synchronize()
        seconds.append(round(time.perf_counter() - start, 4))
    return name, seconds


def measure_first(
    arguments: list[tuple[str, bool]], refused: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Time the first calls of every row at once, each with an empty cache, then again with that
    cache. Rows that raise are added to ``refused``."""
    spawn = multiprocessing.get_context("spawn")
    measured: list[dict[str, Any]] = [
        {**point.details(), "compiled_s": {}, "cached_s": {}} for point in points(("first",))
    ]
    with tempfile.TemporaryDirectory() as folder:
        for key in ("compiled_s", "cached_s"):
            with ProcessPoolExecutor(len(arguments) or 1, mp_context=spawn) as pool:
                tasks = [
                    pool.submit(first_calls, argument, peer, f"{folder}/{number}")
                    for number, (argument, peer) in enumerate(arguments)
                ]
            for (argument, _), task in zip(arguments, tasks, strict=True):
                try:
                    name, seconds = task.result()
                except Exception as error:
                    print(f"FAILED first calls of {argument}: {error!r}"[:500], flush=True)
                    refused.add((argument, "first call"))
                    continue
                for point, took in zip(measured, seconds, strict=True):
                    if took is not None:
                        point[key][name] = took
    return measured


def show_first(measured: list[dict[str, Any]]) -> None:
    print("\nfirst: seconds of a process's first call: compiled, and out of Triton's cache")
    for point in measured:
        print(f"  {point['dtype']} E={point['E']} K={point['K']} T={point['T']}")
        for name, took in point["compiled_s"].items():
            print(f"{name:>14} {took:8.3f} {point['cached_s'].get(name, float('nan')):8.3f}")
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
    """What is wrong with a row's answer on the sampled tokens; "" if it is right."""
    weights, ids = routing(logits, scale, point.topk)
    if tuple(weights.shape) != (point.tokens, point.topk) or weights.shape != ids.shape:
        return f"shapes {list(weights.shape)} and {list(ids.shape)}"
    comparison = compare_with_oracle(
        weights[sample], ids[sample], logits[sample], scale, point.topk
    )
    return "; ".join(comparison.problems)[:400]


def graph_of(call: Callable[[], object]) -> tuple[Any, int]:
    """A CUDA graph of about BATCH_US microseconds of calls, and their number."""
    few = capture([call] * 10)
    each = statistics.median(microseconds(few.replay) for _ in range(3)) / 10
    calls = max(10, min(600, int(BATCH_US / each)))
    return capture([call] * calls), calls


def host_batch(call: Callable[[], object], calls: int = 200) -> float:
    """Microseconds of host time a call, eager, the GPU idle before and never waited for."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    took = (time.perf_counter() - start) / calls * 1e6
    torch.cuda.synchronize()
    return took


def prepare(bench: RoutingBench, name: str, point: Point, batch: Batch) -> Callable[[], float]:
    """Check a row's answer, and return a function that times a call in microseconds. Raises
    ValueError if the answer is wrong, and whatever the row raises."""
    logits, scale, sample = batch
    routing = bench.rows[name].routing
    call = lambda: routing(logits, scale, point.topk)
    call()
    torch.cuda.synchronize()
    # The torch ops break ties either way.
    if name not in (*UNCHECKED, "torch ops") and (
        wrong := problem(routing, point, logits, scale, sample)
    ):
        if name != bench.peer:
            raise ValueError(f"wrong: {wrong}")
        print(f"NOTE peer {name} {point.shape} T={point.tokens}: {wrong}"[:300])
    if point.part == "host":
        host_batch(call)
        return lambda: host_batch(call)
    graph, calls = graph_of(call)
    return lambda: microseconds(graph.replay) / calls


def measure(bench: RoutingBench, point: Point) -> None:
    """Time every row of one point, in turns, and keep [median, least, most] of each."""
    logits, scale = inputs(point)
    sample = torch.randperm(point.tokens, device=DEVICE)[: min(point.tokens, 512)]
    runs: dict[str, Callable[[], float]] = {}
    for name, row in bench.rows.items():
        if name in bench.wrong or (name, point.shape) in bench.refused or not row.fits(point):
            continue
        try:
            runs[name] = prepare(bench, name, point, (logits, scale, sample))
        except Exception as error:
            what = f"{name} {point.shape} T={point.tokens}: {error!r}"[:500]
            print(f"FAILED {what}", flush=True)
            bench.refused.add((name, point.shape))
            if isinstance(error, ValueError):
                bench.wrong[name] = what
    bench.points.append({**point.details(), "us": in_turns(runs, REPLAYS)})


# --- the report ---------------------------------------------------------------------------------


def show(bench: RoutingBench, part: str) -> None:
    """Print, per shape, microseconds and how many times the first peer's speed that is."""
    shapes: dict[str, list[dict[str, Any]]] = {}
    for point in bench.points:
        if point["part"] == part:
            shape = f"{point['dtype']} E={point['E']} K={point['K']}"
            shapes.setdefault(shape, []).append(point)
    what = "host us a call, eager" if part == "host" else "us a call in a CUDA graph"
    for shape, measured in shapes.items():
        print(f"\n{part}: {what}; {shape} | x = times as fast as {bench.peer}")
        print(f"{'T':>14} " + " ".join(f"{point['T']:>12}" for point in measured))
        for name in bench.rows:
            cells = []
            for point in measured:
                mine, peer = point["us"].get(name), point["us"].get(bench.peer)
                ratio = f"{peer[0] / mine[0]:5.2f}x" if mine and peer else ""
                cells.append(f"{mine[0]:6.2f}{ratio:>6}" if mine else "-")
            if any(cell != "-" for cell in cells):
                print(f"{name:>14} " + " ".join(f"{cell:>12}" for cell in cells))
    sys.stdout.flush()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", action="append", metavar="NAME[@VARIANT[:ROWSxWARPS]]=FILE")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", action="append", choices=PARTS, help="default: all, in turn")
    parser.add_argument("--seconds", type=float, default=600.0, help="start no point after these")
    parser.add_argument("--warm", type=int, default=0, help="compile first, in this many processes")
    parser.add_argument("--warm-only", action="store_true", help="compile only")
    parser.add_argument("--out", metavar="FILE", help="JSON")
    parser.add_argument("--plot", metavar="FILE", help="PNG, with matplotlib")
    parser.add_argument(
        "--draw", metavar="JSON", help="draw an earlier run's --out, and time nothing"
    )
    return parser.parse_args()


def load_rows(
    arguments: list[tuple[str, bool]],
) -> tuple[dict[str, Row], list[str], dict[str, str]]:
    """What is timed, by name; the names of the peers; and the arguments that cannot be loaded, with why."""
    rows: dict[str, Row] = {}
    peers: list[str] = []
    broken: dict[str, str] = {}
    for number, (argument, is_peer) in enumerate(arguments):
        try:
            name, row = load(argument, number, is_peer)
        except Exception as error:
            broken[argument] = f"{argument}: {error!r}"
            print(f"FAILED {broken[argument]}", flush=True)
            continue
        rows[name] = row
        peers += [name] if is_peer else []
    nothing = empty_kernel()
    rows["torch ops"] = Row(torch_ops)
    rows["empty"] = Row(lambda logits, scale, topk: nothing(scale))
    rows["copy"] = Row(lambda logits, scale, topk: logits.clone())
    return rows, peers, broken


def measure_all(bench: RoutingBench, parts: tuple[str, ...]) -> int:
    """Time every point of the parts until the deadline, and show each part. Returns how many were skipped."""
    skipped = 0
    todo = list(points(parts))
    for number, point in enumerate(todo):
        if time.perf_counter() > bench.deadline:
            skipped += 1
        else:
            measure(bench, point)
        if number + 1 == len(todo) or todo[number + 1].part != point.part:
            show(bench, point.part)
    return skipped


def main(options: argparse.Namespace) -> Answer:
    if options.draw:
        earlier = json.loads(Path(options.draw).read_text(encoding="utf-8"))
        saw = plot(earlier["points"], earlier["peer"], options.plot, earlier["device"])
        return Answer(PASSED, saw)
    if not torch.cuda.is_available():
        return Answer(CANNOT_RUN, "no CUDA GPU to time anything on")
    start = time.perf_counter()
    parts = tuple(part for part in PARTS if not options.only or part in options.only)
    timed = tuple(part for part in parts if part != "first")
    kernels = options.kernel
    if not kernels:
        file = find_kernel(tree())
        if file is None:
            return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
        kernels = [f"this={file}"]
    arguments = [(peer, True) for peer in options.peer] + [(kernel, False) for kernel in kernels]
    if options.warm:
        compile_all(arguments, timed, options.warm)
        print(f"compiled in {time.perf_counter() - start:.1f} s", flush=True)
    if options.warm_only:
        return Answer(PASSED, f"compiled in {time.perf_counter() - start:.1f} s")

    rows, peers, broken = load_rows(arguments)
    bench = RoutingBench(rows, next(iter(peers), None), start + options.seconds, wrong=broken)
    files = {arg: arg.rpartition("=")[2] for arg, _ in arguments if arg not in broken}
    whole = [
        pair for pair in arguments if pair[0] in files and "@" not in pair[0].rpartition("=")[0]
    ]
    first = measure_first(whole, bench.refused) if "first" in parts else []
    if first:
        show_first(first)
    skipped = measure_all(bench, timed)
    details = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "files": {arg: blob_id(Path(file).read_bytes()) for arg, file in files.items()},
        "patch": "gemma4-fused-routing",
        "peer": bench.peer,
        "peers": peers,
        "points": bench.points,
        "first_calls": first,
        "points_skipped": skipped,
        "wrong": bench.wrong,
        "refused": sorted(f"{name}: {shape}" for name, shape in bench.refused),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return report(bench, details, options)


def report(bench: RoutingBench, details: dict[str, Any], options: argparse.Namespace) -> Answer:
    """Write --out and --plot, and give the answer."""
    if options.out:
        Path(options.out).write_text(json.dumps(details, indent=1), encoding="utf-8")
    if options.plot:
        print(plot(bench.points, bench.peer, options.plot, details["device"]))
    saw = f"{len(bench.points)} points timed, {details['points_skipped']} skipped, {len(bench.rows)} rows"
    saw += f"; {details['device']}, {details['seconds']} s"
    if failed := [*bench.wrong.values()] or details["refused"]:
        return Answer(FAILED, f"{saw}; wrong or raised: {'; '.join(failed)[:600]}", details)
    return Answer(PASSED, saw, details)


if __name__ == "__main__":
    options = parse_arguments()
    answer(lambda: main(options))
