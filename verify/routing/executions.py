"""How a case is run: called once, replayed in a CUDA graph, under torch.compile, on several streams.

`run_case` runs one case and never raises: an exception becomes that case's result.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from verify.routing.cases import DTYPES, Case, build, rows_of, scale_of
from verify.routing.compare import as_bits, compare_with_oracle, fill_new_memory
from verify.routing.load import load_kernel
from verify.routing.variants import forced

Routed = tuple[torch.Tensor, torch.Tensor]
Routing = Callable[[torch.Tensor, torch.Tensor, int], Routed]


@dataclass
class CaseResult:
    """The result of one case. ``status`` is "passed", "failed" or "skipped"; ``what`` says why.

    ``rows`` counts the rows compared with the oracle; ``absolute`` and ``relative`` are the worst
    errors of their weights. ``lost``: the process can no longer use its GPU.

    Of ``seconds``, Triton took ``compiling``, and the oracle took ``comparing``. ``compiled`` holds
    Triton's hash of each kernel that it did not find in its cache.
    """

    case: Case
    status: str
    what: str = ""
    rows: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    seconds: float = 0.0
    compiling: float = 0.0
    comparing: float = 0.0
    compiled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: bool = False


class SkipCase(Exception):
    """This host cannot run the case; the message says why."""


class CaseChecker:
    """Collects the problems, notes and errors of one case, and makes its inputs."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.rows = 0
        self.absolute = self.relative = self.comparing = 0.0

    def compare(
        self, routed: Routed, logits: torch.Tensor, scale: torch.Tensor, where: str = ""
    ) -> None:
        """Compare an answer (weights, ids) with the oracle's."""
        start = time.perf_counter()
        comparison = compare_with_oracle(*routed, logits, scale, self.case.topk)
        self.comparing += time.perf_counter() - start
        self.problems += [f"{where}: {text}" if where else text for text in comparison.problems]
        self.rows += comparison.rows
        self.absolute = max(self.absolute, comparison.absolute)
        self.relative = max(self.relative, comparison.relative)

    def expect(self, right: bool, problem: str) -> None:
        if not right:
            self.problems.append(problem)

    def rows_for(self, turn: int, tokens: int | None = None) -> torch.Tensor:
        """Rows of the case's shape with values of every kind, on the device; others for each turn."""
        case = dataclasses.replace(self.case, values="mixed", seed=self.case.seed + 7919 * turn)
        return rows_of(case, self.case.tokens if tokens is None else tokens).to(self.device)

    def scale(self) -> torch.Tensor:
        return scale_of(self.case, self.device)


def _call(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    logits, scale = build(checker.case, checker.device)
    before = as_bits(logits).clone(), as_bits(scale).clone()
    with fill_new_memory():
        routed = fn(logits, scale, checker.case.topk)
    checker.compare(routed, logits, scale)
    checker.expect(torch.equal(as_bits(logits), before[0]), "the logits were written to")
    checker.expect(torch.equal(as_bits(scale), before[1]), "the scale was written to")


def _refuse(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, device=checker.device)

    what = checker.case.execution.removeprefix("refuse ")
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
        checker.expect(bool(str(error)), f"refuses {what} without a word")
    else:
        checker.problems.append(f"takes {what}")


def _names(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """The compiler accepts every name that the kernels refer to, also inside a server.

    SGLang, once imported, replaces ``triton.next_power_of_2`` by a function of its own, and Triton
    compiles no kernel that refers to it: one kernel passed every case alone, and died in every server.
    """
    from triton.runtime.jit import JITFunction

    interpreted = {"TRITON_INTERPRET": "0"}  # read by @triton.jit
    sglang = lambda number: 1 << (number - 1).bit_length()
    with mock.patch.dict(os.environ, interpreted), mock.patch("triton.next_power_of_2", sglang):
        alone = load_kernel(str(module.__file__), f"{module.__name__}_names")
        kernels = {name: f for name, f in vars(alone).items() if isinstance(f, JITFunction)}
        for name, kernel in kernels.items():
            try:
                kernel.cache_key  # noqa: B018  # resolves what it refers to, without a GPU
            except RuntimeError as error:
                checker.problems.append(f"{name}: {error}")
    checker.expect(bool(kernels), "the file holds no kernel")


# --- on a GPU only ----------------------------------------------------------------------------


def _graph(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """Captured once, replayed over new inputs."""
    k, logits, scale = checker.case.topk, checker.rows_for(0), checker.scale()
    fn(logits, scale, k)  # compiles outside the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        weights, ids = fn(logits, scale, k)
    for turn in range(1, 5):
        logits.copy_(checker.rows_for(turn))
        if turn == 3:
            scale.mul_(-0.5)
        weights.fill_(123.0), ids.fill_(-1)
        graph.replay()
        torch.cuda.synchronize()
        checker.compare((weights, ids), logits, scale, f"replay {turn}")


def _graphs(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """Several numbers of tokens captured into one memory pool, as SGLang does, replayed in turn."""
    k, scale = checker.case.topk, checker.scale()
    logits = checker.rows_for(0)
    sizes = (len(logits), 4097, 256, 8, 1)
    for tokens in sizes:
        fn(logits[:tokens], scale, k)
    torch.cuda.synchronize()
    pool, graphs = torch.cuda.graph_pool_handle(), []
    for tokens in sizes:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            routed = fn(logits[:tokens], scale, k)
        graphs.append((tokens, graph, routed))
    for turn in range(1, 4):
        logits.copy_(checker.rows_for(turn))
        for _, graph, _ in graphs if turn % 2 else reversed(graphs):
            graph.replay()
        torch.cuda.synchronize()
        for tokens, _, routed in graphs:
            checker.compare(routed, logits[:tokens], scale, f"replay {turn} of {tokens} tokens")


COMPILES: dict[
    str, tuple[dict[str, Any], tuple[int, ...]]
] = {  # mode -> options of torch.compile, numbers of tokens in turn
    "default": ({}, (64, 64, 7, 1, 5000, 64)),
    "dynamic": ({"dynamic": True}, (64, 7, 200, 5000, 64)),
    "reduce-overhead": ({"mode": "reduce-overhead"}, (64, 64, 64, 64, 8, 8, 8, 64)),
}
HOWS = {"one graph": "one graph", "breaks": "a graph with breaks", "apart": "a graph around it"}


def _compiled(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """torch.compile of a function that calls the routing.

    As one graph; if that fails, with graph breaks where Dynamo puts them; if that fails too, with
    the call left out of the graph. A note says which it was.
    """
    options, sizes = COMPILES[checker.case.execution.removeprefix("compile-")]
    k, scale, dtype = checker.case.topk, checker.scale(), DTYPES[checker.case.dtype]
    draw = torch.Generator().manual_seed(checker.case.seed)
    matrix = torch.randn(checker.case.experts, 96, generator=draw).to(dtype).to(checker.device)

    def calling(routing: Routing) -> Callable[..., Any]:
        def caller(x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits = torch.nn.functional.linear(x, matrix)
            weights, ids = routing(logits, scale, k)
            return logits, weights, ids, weights.sum(-1) * 2

        return caller

    def inputs(tokens: int) -> torch.Tensor:
        x = torch.randn(tokens, 96, generator=draw)
        for row, value in enumerate((0.0, float("nan"), float("inf"), -0.0)):
            x[row + 1 : row + 2] = value  # ties, NaN and mixed NaN rows, if there are so many
        return x.to(dtype).to(checker.device)

    def steps(run: Callable[..., Any]) -> None:
        for turn, tokens in enumerate(sizes):
            torch.compiler.cudagraph_mark_step_begin()
            logits, weights, ids, twice = (tensor.clone() for tensor in run(inputs(tokens), scale))
            where = f"call {turn} of {tokens} tokens"
            checker.compare((weights, ids), logits, scale, where)
            want = weights.double().sum(-1) * 2
            near = torch.allclose(twice.double(), want, rtol=1e-5, atol=1e-5, equal_nan=True)
            checker.expect(near, f"{where}: what follows it is wrong")

    with torch.no_grad():
        fn(torch.nn.functional.linear(inputs(sizes[0]), matrix), scale, k)
        apart = torch._dynamo.disable(fn)
        for how, routing in (("one graph", fn), ("breaks", fn), ("apart", apart)):
            torch._dynamo.reset()
            try:
                steps(torch.compile(calling(routing), fullgraph=how == "one graph", **options))
                checker.notes.append(HOWS[how])
                break
            except Exception as error:
                text = " ".join(str(error).split())[:300]
                checker.notes.append(f"not as {HOWS[how]}: {type(error).__name__}: {text}")
                if how == "apart":
                    raise
    torch._dynamo.reset()


def _streams(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """Four streams at once, each with its own logits, refilled between its calls."""
    k, turns, scale = checker.case.topk, 6, checker.scale()
    sizes = (checker.case.tokens, 3, 5000, 64)
    fed = [[checker.rows_for(10 * n + turn, size) for turn in range(turns)] for n, size in enumerate(sizes)]  # fmt: skip
    logits = [batches[0].clone() for batches in fed]
    streams = [torch.cuda.Stream() for _ in sizes]
    for batch in logits:
        fn(batch, scale, k)
    torch.cuda.synchronize()
    answers = []
    for turn in range(turns):
        for n, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                logits[n].copy_(fed[n][turn])
                answers.append((n, turn, fn(logits[n], scale, k)))
    torch.cuda.synchronize()
    for n, turn, answer in answers:
        checker.compare(answer, fed[n][turn], scale, f"stream {n}, turn {turn}")


def _late_stream(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """The logits are written late on one stream, and routed on another that waits for them. A
    kernel that is launched on any stream but the current one reads the earlier logits."""
    k, scale = checker.case.topk, checker.scale()
    logits, late = checker.rows_for(0), checker.rows_for(1)
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
    routed_late = weights.clone(), ids.clone()
    torch.cuda.synchronize()
    checker.compare(routed_late, late, scale)


def _launches(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """No host sync, two allocations, one kernel."""
    k, logits, scale = checker.case.topk, checker.rows_for(0), checker.scale()
    fn(logits, scale, k)
    torch.cuda.synchronize()
    count = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]
    before = count()
    torch.cuda.set_sync_debug_mode("error")
    try:
        routed = fn(logits, scale, k)
    except RuntimeError as error:
        raise AssertionError(f"a host sync: {error}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
    checker.expect(count() - before == 2, f"{count() - before} allocations, not 2")
    checker.compare(routed, logits, scale)
    try:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            fn(logits, scale, k)
            torch.cuda.synchronize()
        events = [event for event in profiler.events() if "CUDA" in str(event.device_type)]
        ignored = ("sync", "activity buffer")
        names = [e.name for e in events if not any(word in e.name.lower() for word in ignored)]
    except Exception as error:
        checker.notes.append(f"launches not counted: {type(error).__name__}: {error}"[:300])
        return
    if names:
        checker.expect(len(names) == 1, f"{len(names)} launches, not 1: {names}")
    else:
        checker.notes.append("launches not counted: the profiler saw no kernel on this host")


def _variants(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """Sixteen numbers of tokens compile at most two variants."""
    kernels = [value for value in vars(module).values() if hasattr(value, "device_caches")]
    if not kernels:
        raise SkipCase("the file holds no triton kernel that says what it compiled")
    size = lambda: sum(len(cache[0]) for k in kernels for cache in k.device_caches.values())
    logits, scale = checker.rows_for(0), checker.scale()
    before = size()
    for tokens in (1, 2, 3, 5, 16, 17, 31, 64, 100, 128, 1000, 1024, 1025, 1040, 2049, 4096):
        routed = fn(logits[:tokens], scale, checker.case.topk)
        checker.compare(routed, logits[:tokens], scale, f"{tokens} tokens")
    checker.notes.append(f"{size() - before} variants")
    checker.expect(size() - before <= 2, f"{size() - before} variants compiled, at most 2 wanted")


def _far(fn: Routing, checker: CaseChecker, module: ModuleType) -> None:
    """Rows so far apart that the last begins past 2**31 elements, or just before."""
    stride = int(checker.case.execution.removeprefix("far "))
    tokens, experts = checker.case.tokens, checker.case.experts
    dtype = DTYPES[checker.case.dtype]
    elements = (tokens - 1) * stride + experts
    wanted = elements * dtype.itemsize + 2**30
    if torch.cuda.mem_get_info()[1] < 2 * wanted:
        raise SkipCase(f"needs {2 * wanted / 2**30:.0f} GiB of GPU memory")
    for seconds_left in reversed(range(90)):  # other processes of the check may hold it
        try:
            if torch.cuda.mem_get_info()[0] > wanted:
                storage = torch.empty(elements, dtype=dtype, device=checker.device)
                break
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if not seconds_left:
            raise SkipCase(f"waited in vain for {wanted / 2**30:.0f} GiB of free GPU memory")
        time.sleep(1)
    logits = storage.as_strided((tokens, experts), (stride, 1))
    logits.copy_(checker.rows_for(0))
    scale = checker.scale()
    checker.compare(fn(logits, scale, checker.case.topk), logits, scale)


EXECUTIONS: dict[str, Callable[[Routing, CaseChecker, ModuleType], None]] = {
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


@contextmanager
def watch_compiler(result: CaseResult) -> Iterator[None]:
    """Add what Triton compiles meanwhile to ``result``. Versions before 3.4 do not tell."""
    import triton

    def note(*, metadata: dict[str, Any], times: Any, cache_hit: bool, **_: Any) -> None:
        result.compiling += times.total / 1e6
        result.compiled += [] if cache_hit else [metadata["hash"]]

    knobs = getattr(triton, "knobs", None)
    if knobs is None:
        yield
        return
    with mock.patch.object(knobs.compilation, "listener", note):
        yield


def run_case(module: ModuleType, case: Case, device: str) -> CaseResult:
    """Run one case of a kernel's module on "cpu" (Triton's interpreter) or "cuda"."""
    start = time.perf_counter()
    checker = CaseChecker(case, device)
    result = CaseResult(case, "passed")
    if case.gpu_only and device == "cpu":
        return dataclasses.replace(result, status="skipped", what="needs a CUDA GPU")
    try:
        # Four tokens a program: the interpreter takes as long for a full program as for a part.
        tile = (4, 1) if device == "cpu" else ()
        with watch_compiler(result), forced(module, case.variant, *tile):
            EXECUTIONS[case.execution.split(" ")[0]](module.gemma4_fused_routing, checker, module)
    except SkipCase as reason:
        result.status, result.what = "skipped", str(reason)
    except torch.OutOfMemoryError:
        result.status = "skipped" if case.family == "far" else "failed"
        result.what = "out of GPU memory"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        text = f"raised {type(error).__name__}: {error} ({at.name}, line {at.lineno})"
        checker.problems.append(" ".join(text.split())[:1500])
    if checker.problems:
        result.status, result.what = "failed", "; ".join(checker.problems)[:3000]
        result.lost = not _usable(device)
    if device == "cuda" and case.family == "far" and not result.lost:
        torch.cuda.empty_cache()
    result.rows, result.absolute, result.relative = checker.rows, checker.absolute, checker.relative
    result.notes, result.comparing = checker.notes, checker.comparing
    result.seconds = time.perf_counter() - start
    return result
