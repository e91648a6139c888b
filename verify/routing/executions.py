"""The ways a case is run: called once, replayed in a CUDA graph, compiled around, on streams, …

`run` runs one case and never raises: whatever happens is that case's outcome.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from unittest import mock

import torch

from verify.routing import load as kernel
from verify.routing.cases import DTYPES, Case, build, rows_of, scale_of
from verify.routing.compare import as_bits, judge, unwritten_shows
from verify.routing.variants import forced

Routing = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Outcome:
    """What came of one case. ``status``: passed, failed or skipped; ``what``: why, if not passed.

    ``rows`` counts rows compared with the oracle. ``lost``: the process can use its GPU no more.
    """

    case: Case
    status: str
    what: str = ""
    rows: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    lost: bool = False


class Skip(Exception):
    """This host cannot run the case; says why."""


class Tally:
    """Gathers what the comparisons of one case say."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.rows = 0
        self.absolute = self.relative = 0.0

    def judge(self, got, logits: torch.Tensor, scale: torch.Tensor, where: str = "") -> None:
        """Compare an answer (weights, ids) with the oracle's."""
        said = judge(*got, logits, scale, self.case.topk)
        self.problems += [f"{where}: {one}" if where else one for one in said.problems]
        self.rows += said.rows
        self.absolute = max(self.absolute, said.absolute)
        self.relative = max(self.relative, said.relative)

    def expect(self, right: bool, problem: str) -> None:
        if not right:
            self.problems.append(problem)

    def rows_for(self, turn: int, tokens: int | None = None) -> torch.Tensor:
        """Other rows of the case's shape for each turn, of every kind, on the device."""
        case = dataclasses.replace(self.case, values="mixed", seed=self.case.seed + 7919 * turn)
        return rows_of(case, self.case.tokens if tokens is None else tokens).to(self.device)

    def scale(self) -> torch.Tensor:
        return scale_of(self.case, self.device)


def _call(fn: Routing, tally: Tally, module: ModuleType) -> None:
    logits, scale = build(tally.case, tally.device)
    before = as_bits(logits).clone(), as_bits(scale).clone()
    with unwritten_shows():
        got = fn(logits, scale, tally.case.topk)
    tally.judge(got, logits, scale)
    tally.expect(torch.equal(as_bits(logits), before[0]), "the logits were written to")
    tally.expect(torch.equal(as_bits(scale), before[1]), "the scale was written to")


def _refuse(fn: Routing, tally: Tally, module: ModuleType) -> None:
    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, device=tally.device)

    what = tally.case.way.removeprefix("refuse ")
    arguments = {
        "1-D": (zeros(8), zeros(8), 2),
        "3-D": (zeros(2, 2, 8), zeros(8), 2),
        "fp64": (zeros(2, 8, dtype=torch.float64), zeros(8), 2),
        "E=1025": (zeros(2, 1025), zeros(1025), 2),
        "K=0": (zeros(2, 64), zeros(64), 0),
        "K=33": (zeros(2, 64), zeros(64), 33),
        "K>E": (zeros(2, 5), zeros(5), 6),
        "short-scale": (zeros(2, 64), zeros(63), 4),
    }
    try:
        fn(*arguments[what])
    except (AssertionError, ValueError) as error:
        tally.expect(bool(str(error)), f"refuses {what} without a word")
    else:
        tally.problems.append(f"takes {what}")


def _names(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """The compiler takes all that the kernels refer to, in a server as well.

    SGLang, once imported, has a function of its own as ``triton.next_power_of_2``, and Triton compiles
    no kernel that refers to it: one passed every case alone, and died in every server.
    """
    from triton.runtime.jit import JITFunction

    interpreted = {"TRITON_INTERPRET": "0"}  # read by @triton.jit
    sglang = lambda number: 1 << (number - 1).bit_length()
    with mock.patch.dict(os.environ, interpreted), mock.patch("triton.next_power_of_2", sglang):
        alone = kernel.load(str(module.__file__), f"{module.__name__}_names")
        found = {name: one for name, one in vars(alone).items() if isinstance(one, JITFunction)}
        for name, one in found.items():
            try:
                one.cache_key  # noqa: B018  # finds what it refers to, without a GPU
            except RuntimeError as error:
                tally.problems.append(f"{name}: {error}")
    tally.expect(bool(found), "the file holds no kernel")


# --- on a GPU only ----------------------------------------------------------------------------


def _graph(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """Captured once, replayed over new inputs."""
    k, logits, scale = tally.case.topk, tally.rows_for(0), tally.scale()
    fn(logits, scale, k)  # compiles outside the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        weights, ids = fn(logits, scale, k)
    for turn in range(1, 5):
        logits.copy_(tally.rows_for(turn))
        if turn == 3:
            scale.mul_(-0.5)
        weights.fill_(123.0), ids.fill_(-1)
        graph.replay()
        torch.cuda.synchronize()
        tally.judge((weights, ids), logits, scale, f"replay {turn}")


def _graphs(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """Several numbers of tokens captured into one memory pool, as SGLang does, replayed in turn."""
    k, scale = tally.case.topk, tally.scale()
    logits = tally.rows_for(0)
    sizes = (len(logits), 4097, 256, 8, 1)
    for tokens in sizes:
        fn(logits[:tokens], scale, k)
    torch.cuda.synchronize()
    pool, graphs = torch.cuda.graph_pool_handle(), []
    for tokens in sizes:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            got = fn(logits[:tokens], scale, k)
        graphs.append((tokens, graph, got))
    for turn in range(1, 4):
        logits.copy_(tally.rows_for(turn))
        for _, graph, _ in graphs if turn % 2 else reversed(graphs):
            graph.replay()
        torch.cuda.synchronize()
        for tokens, _, got in graphs:
            tally.judge(got, logits[:tokens], scale, f"replay {turn} of {tokens} tokens")


COMPILES = {  # mode -> options of torch.compile, numbers of tokens in turn
    "default": ({}, (64, 64, 7, 1, 5000, 64)),
    "dynamic": ({"dynamic": True}, (64, 7, 200, 5000, 64)),
    "reduce-overhead": ({"mode": "reduce-overhead"}, (64, 64, 64, 64, 8, 8, 8, 64)),
}
HOWS = {"one graph": "one graph", "breaks": "a graph with breaks", "apart": "a graph around it"}


def _compiled(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """torch.compile of a function that calls it: as one graph; where that does not go, with graph
    breaks where Dynamo puts them; where that does not, with one around it. Which it was is noted."""
    options, sizes = COMPILES[tally.case.way.removeprefix("compile-")]
    k, scale, dtype = tally.case.topk, tally.scale(), DTYPES[tally.case.dtype]
    draw = torch.Generator().manual_seed(tally.case.seed)
    matrix = torch.randn(tally.case.experts, 96, generator=draw).to(dtype).to(tally.device)

    def calling(routing: Routing):
        def caller(x: torch.Tensor, scale: torch.Tensor):
            logits = torch.nn.functional.linear(x, matrix)
            weights, ids = routing(logits, scale, k)
            return logits, weights, ids, weights.sum(-1) * 2

        return caller

    def inputs(tokens: int) -> torch.Tensor:
        x = torch.randn(tokens, 96, generator=draw)
        for row, value in enumerate((0.0, float("nan"), float("inf"), -0.0)):
            x[row + 1 : row + 2] = value  # ties, NaN and mixed NaN rows, if there are so many
        return x.to(dtype).to(tally.device)

    def steps(run) -> None:
        for turn, tokens in enumerate(sizes):
            torch.compiler.cudagraph_mark_step_begin()
            logits, weights, ids, twice = (one.clone() for one in run(inputs(tokens), scale))
            where = f"call {turn} of {tokens} tokens"
            tally.judge((weights, ids), logits, scale, where)
            want = weights.double().sum(-1) * 2
            near = torch.allclose(twice.double(), want, rtol=1e-5, atol=1e-5, equal_nan=True)
            tally.expect(near, f"{where}: what follows it is wrong")

    with torch.no_grad():
        fn(torch.nn.functional.linear(inputs(sizes[0]), matrix), scale, k)
        apart = torch._dynamo.disable(fn)
        for how, routing in (("one graph", fn), ("breaks", fn), ("apart", apart)):
            torch._dynamo.reset()
            try:
                steps(torch.compile(calling(routing), fullgraph=how == "one graph", **options))
                tally.notes.append(HOWS[how])
                break
            except Exception as error:
                said = " ".join(str(error).split())[:300]
                tally.notes.append(f"not as {HOWS[how]}: {type(error).__name__}: {said}")
                if how == "apart":
                    raise
    torch._dynamo.reset()


def _streams(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """Four streams at once, each with its own logits, refilled between its calls."""
    k, turns, scale = tally.case.topk, 6, tally.scale()
    sizes = (tally.case.tokens, 3, 5000, 64)
    fed = [[tally.rows_for(10 * n + turn, size) for turn in range(turns)] for n, size in enumerate(sizes)]  # fmt: skip
    logits = [one[0].clone() for one in fed]
    streams = [torch.cuda.Stream() for _ in sizes]
    for one in logits:
        fn(one, scale, k)
    torch.cuda.synchronize()
    got = []
    for turn in range(turns):
        for n, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                logits[n].copy_(fed[n][turn])
                got.append((n, turn, fn(logits[n], scale, k)))
    torch.cuda.synchronize()
    for n, turn, answer in got:
        tally.judge(answer, fed[n][turn], scale, f"stream {n}, turn {turn}")


def _late_stream(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """The logits come late, on one stream; it is called on another that waits for them. A kernel
    launched anywhere but on the current stream reads what was there before."""
    k, scale = tally.case.topk, tally.scale()
    logits, late = tally.rows_for(0), tally.rows_for(1)
    fn(logits, scale, k)
    torch.cuda.synchronize()
    feeds, calls = torch.cuda.Stream(), torch.cuda.Stream()
    with torch.cuda.stream(feeds):
        torch.cuda._sleep(100_000_000)  # cycles: some 50 ms
        logits.copy_(late)
        fed = feeds.record_event()
    with torch.cuda.stream(calls):
        calls.wait_event(fed)
        weights, ids = fn(logits, scale, k)
        routed = calls.record_event()
    torch.cuda.current_stream().wait_event(routed)
    got = weights.clone(), ids.clone()
    torch.cuda.synchronize()
    tally.judge(got, late, scale)


def _launches(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """No host sync, two allocations, one kernel."""
    k, logits, scale = tally.case.topk, tally.rows_for(0), tally.scale()
    fn(logits, scale, k)
    torch.cuda.synchronize()
    count = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]
    before = count()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = fn(logits, scale, k)
    except RuntimeError as error:
        raise AssertionError(f"a host sync: {error}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
    tally.expect(count() - before == 2, f"{count() - before} allocations, not 2")
    tally.judge(got, logits, scale)
    try:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            fn(logits, scale, k)
            torch.cuda.synchronize()
        events = [one for one in seen.events() if "CUDA" in str(one.device_type)]
        apart = ("sync", "activity buffer")
        names = [one.name for one in events if not any(word in one.name.lower() for word in apart)]
    except Exception as error:
        tally.notes.append(f"launches not counted: {type(error).__name__}: {error}"[:300])
        return
    if names:
        tally.expect(len(names) == 1, f"{len(names)} launches, not 1: {names}")
    else:
        tally.notes.append("launches not counted: the profiler saw no kernel on this host")


def _variants(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """Sixteen numbers of tokens compile at most two variants."""
    kernels = [one for one in vars(module).values() if hasattr(one, "device_caches")]
    if not kernels:
        raise Skip("the file holds no triton kernel that says what it compiled")
    size = lambda: sum(len(one[0]) for kernel in kernels for one in kernel.device_caches.values())
    logits, scale = tally.rows_for(0), tally.scale()
    before = size()
    for tokens in (1, 2, 3, 5, 16, 17, 31, 64, 100, 128, 1000, 1024, 1025, 1040, 2049, 4096):
        got = fn(logits[:tokens], scale, tally.case.topk)
        tally.judge(got, logits[:tokens], scale, f"{tokens} tokens")
    tally.notes.append(f"{size() - before} variants")
    tally.expect(size() - before <= 2, f"{size() - before} variants compiled, at most 2 wanted")


def _far(fn: Routing, tally: Tally, module: ModuleType) -> None:
    """Rows so far apart that the last begins past 2**31 elements, or just before."""
    stride = int(tally.case.way.removeprefix("far "))
    tokens, experts = tally.case.tokens, tally.case.experts
    dtype = DTYPES[tally.case.dtype]
    elements = (tokens - 1) * stride + experts
    wanted = elements * dtype.itemsize + 2**30
    if torch.cuda.mem_get_info()[1] < 2 * wanted:
        raise Skip(f"needs {2 * wanted / 2**30:.0f} GiB of GPU memory")
    for patience in reversed(range(90)):  # other processes of the check may hold it
        try:
            if torch.cuda.mem_get_info()[0] > wanted:
                storage = torch.empty(elements, dtype=dtype, device=tally.device)
                break
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if not patience:
            raise Skip(f"waited in vain for {wanted / 2**30:.0f} GiB of free GPU memory")
        time.sleep(1)
    logits = storage.as_strided((tokens, experts), (stride, 1))
    logits.copy_(tally.rows_for(0))
    scale = tally.scale()
    tally.judge(fn(logits, scale, tally.case.topk), logits, scale)


WAYS: dict[str, Callable[[Routing, Tally, ModuleType], None]] = {
    "call": _call,
    "refuse": _refuse,
    "names": _names,
    "graph": _graph,
    "graphs": _graphs,
    "compile-default": _compiled,
    "compile-dynamic": _compiled,
    "compile-reduce-overhead": _compiled,
    "streams": _streams,
    "late-stream": _late_stream,
    "launches": _launches,
    "variants": _variants,
    "far": _far,
}


def _usable(device: str) -> bool:
    if device == "cpu":
        return True
    try:
        torch.cuda.synchronize()
        return torch.ones(1, device=device).item() == 1.0
    except Exception:
        return False


def run(module: ModuleType, case: Case, device: str) -> Outcome:
    """Run one case of a kernel's module on "cpu" (interpreter) or "cuda"."""
    begun = time.perf_counter()
    tally = Tally(case, device)
    done = Outcome(case, "passed")
    if case.gpu_only and device == "cpu":
        return dataclasses.replace(done, status="skipped", what="needs a CUDA GPU")
    try:
        # Four tokens a program: the interpreter's time goes by those that a program may hold.
        with forced(module, case.path, *((4, 1) if device == "cpu" else ())):
            WAYS[case.way.split(" ")[0]](module.gemma4_fused_routing, tally, module)
    except Skip as reason:
        done.status, done.what = "skipped", str(reason)
    except torch.OutOfMemoryError:
        out = "out of GPU memory"
        done.status, done.what = ("skipped" if case.family == "far" else "failed"), out
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = f"raised {type(error).__name__}: {error} ({at.name}, line {at.lineno})"
        tally.problems.append(" ".join(said.split())[:1500])
    if tally.problems:
        done.status, done.what = "failed", "; ".join(tally.problems)[:3000]
        done.lost = not _usable(device)
    if device == "cuda" and case.family == "far" and not done.lost:
        torch.cuda.empty_cache()
    done.rows, done.absolute, done.relative = tally.rows, tally.absolute, tally.relative
    done.notes, done.seconds = tally.notes, time.perf_counter() - begun
    return done
