"""Wraps gemma4_fused_routing and gemma4_router_chain inside a live server. Records which files they come
from, how often they run, whether they route as the oracle does, and that the chain's kernel was launched
for each batch that is small enough for it.

Evidence goes to FIXTOOL_LIVE/<pid>.jsonl, one JSON object a line, flushed at once, since a server's
processes are killed without warning:

    installed  once, when sglang.srt.models.gemma4_causal has been imported: files and blob ids
    native     a layer that float32.py has compute in PyTorch ops
    summary    the counts so far; the last one stands
    mismatch   a routing that is not the oracle's
    error      the recorder itself failed; from then on it only counts

A call outside a graph is compared at once. While a CUDA graph is captured nothing may be read. So
copies of the inputs and results are captured with the call, into buffers that every replay fills
again, and so is a counter that every replay raises. The next call outside a graph (a prefill) reads
them. The buffers are allocated at the first such call: memory that is allocated during a capture
belongs to the graph's pool, which reuses it. (SGLang runs each shape eagerly before it captures it.)

The chain routes the logits that it computes itself. They are compared with their definition, and what it
chose with the oracle on these logits; in a graph, where its inputs are not kept, only the latter. A batch
that the chain takes and that comes to gemma4_fused_routing nevertheless is counted as `bypassed`.

With FIXTOOL_ROUTES=N every call outside a graph of at least N rows (a long prefill) is saved in
FIXTOOL_LIVE/<pid>-<number>.pt, to be compared with another server's.

Standard library only until the first call, which imports the routing oracle and torch.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from fixtool.verify.runner.git_ids import blob_id
from verify.routing.launcher import CHAIN, kernels_of, most_tokens, on_launch

CALLER = "sglang.srt.models.gemma4_causal"
ROUTING = "gemma4_fused_routing"

# Every call is compared until its number of rows was seen this often (the length of a prompt is mostly
# new, and all layers of a model run on it). Then every 53rd is: no number of layers divides a prime.
_COMPARED_PER_ROWS = 64
_THEN_EVERY = 53
_ROWS_AT_ONCE = 4096
_READS_PER_SLOT = 8
_REPORTED_MISMATCHES = 8


class EvidenceFile:
    """Appends events to this process's file. It is opened for each, so that a fork has its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def write(self, event: str, **content: Any) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), **content}, default=str)
        with open(os.path.join(self.folder, f"{os.getpid()}.jsonl"), "a", encoding="utf-8") as file:
            file.write(line + "\n")


# --- what was imported ---------------------------------------------------------------------------


def install(module: ModuleType, evidence: EvidenceFile) -> Recorder | None:
    """Record which files this process runs, and have a recorder stand before both launchers."""
    routing, chain = getattr(module, ROUTING, None), getattr(module, CHAIN, None)
    sglang = sys.modules.get("sglang")
    evidence.write(
        "installed",
        argv=sys.argv,
        sglang=getattr(sglang, "__file__", None),
        caller=_of_file(module.__file__),
        kernel=None if routing is None else _of_function(routing),
        chain=None if chain is None else _of_function(chain),
        patched=_Patched().new(),
    )
    if routing is None:
        return None
    recorder = Recorder(routing, evidence, chain=chain)
    setattr(module, ROUTING, recorder.wrapped())
    if chain is not None:
        setattr(module, CHAIN, recorder.wrapped_chain())
    atexit.register(recorder.summarise)
    return recorder


def _of_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {"file": None, "blob": None}
    with open(path, "rb") as file:
        return {"file": os.path.abspath(path), "blob": blob_id(file.read())}


def _of_function(function: Any) -> dict[str, Any]:
    inner = inspect.unwrap(function)
    path = inspect.getsourcefile(inner)
    same = None
    if path is not None and isinstance(code := getattr(inner, "__code__", None), CodeType):
        # What runs may not be the file's text: bytecode can be stale, a function replaced.
        with open(path, "rb") as file:
            same = _holds(compile(file.read(), path, "exec", dont_inherit=True), code)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    return {**_of_file(path), "name": f"{inner.__module__}.{name}", "runs_its_file": same}


def _holds(outer: CodeType, wanted: CodeType) -> bool:
    inner = [constant for constant in outer.co_consts if isinstance(constant, CodeType)]
    return any(code == wanted or _holds(code, wanted) for code in inner)


class _Patched:
    """The files that the series touches, as this process imported them. Each is reported once."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        try:
            with open(os.environ["FIXTOOL_TREE_BLOBS"], encoding="utf-8") as file:
                paths = list(json.load(file))
        except (KeyError, OSError, ValueError):
            paths = []
        for path in paths:
            if path.startswith("python/") and path.endswith(".py"):
                name = path.removeprefix("python/").removesuffix(".py").replace("/", ".")
                self._waiting[path] = name.removesuffix(".__init__")

    def new(self) -> dict[str, dict[str, Any]]:
        """Path in the tree → the file that was imported under its module's name, with its blob id."""
        imported = {}
        for path, name in list(self._waiting.items()):
            if (module := sys.modules.get(name)) is not None:
                imported[path] = _of_file(getattr(module, "__file__", None))
                del self._waiting[path]
        return imported


# --- what it does --------------------------------------------------------------------------------


@dataclass
class _Slot:
    """One captured call: buffers that every replay of its graph fills again."""

    index: int  # of its counter
    logits: Any
    weights: Any
    ids: Any
    scale: Any
    topk: int
    chained: bool = False  # the chain routes it
    replays_read: int = 0  # replays, when last read
    reads: int = 0


class _Buffers:
    """Memory outside every graph's pool, handed out in slots until it is used up (24 MiB). Counter
    0 belongs to captured calls for which no slot was left: they are only counted."""

    def __init__(
        self, torch: Any, device: Any, floats: int = 1 << 22, counters: int = 4096
    ) -> None:
        with torch.inference_mode(False):  # so that they can be written outside inference mode
            self._logits = torch.zeros(floats, dtype=torch.float32, device=device)
            self._weights = torch.zeros(floats // 4, dtype=torch.float32, device=device)
            self._ids = torch.zeros(floats // 4, dtype=torch.int32, device=device)
            self.counters = torch.zeros(counters, dtype=torch.int64, device=device)
        self._used = self._chosen = 0
        self._counters = 1

    def slot(self, rows: int, experts: int, scale: Any, topk: int) -> _Slot | None:
        used, chosen = self._used + rows * experts, self._chosen + rows * topk
        if (
            used > len(self._logits)
            or chosen > len(self._ids)
            or self._counters == len(self.counters)
        ):
            return None
        slot = _Slot(
            self._counters,
            self._logits[self._used : used].view(rows, experts),
            self._weights[self._chosen : chosen].view(rows, topk),
            self._ids[self._chosen : chosen].view(rows, topk),
            scale,
            topk,
        )
        self._used, self._chosen, self._counters = used, chosen, self._counters + 1
        return slot


@dataclass
class _Call:
    logits: Any
    scale: Any
    topk: int
    slot: _Slot | None
    captured: bool


class Recorder:
    """Counts and compares the calls of a routing function, and of the chain that takes small batches
    in its place, if there is one. It never disturbs them. ``capturing`` says whether a call on such a
    tensor is being captured; tests pass their own."""

    def __init__(
        self,
        routing: Callable[..., Any],
        evidence: EvidenceFile,
        capturing: Callable[[Any], bool] | None = None,
        floats: int = 1 << 22,
        chain: Callable[..., Any] | None = None,
    ) -> None:
        self._routing, self._chain = routing, chain
        self._signature = inspect.signature(routing)
        self._evidence = evidence
        self._capturing = capturing or self._cuda_capturing
        self._floats = floats
        self._buffers: _Buffers | None = None
        self._slots: list[_Slot] = []
        self._rows: Counter[tuple[str, int]] = Counter()
        self._patched = _Patched()
        self._broken = False
        self._reported = 0
        self._saved = 0
        self._save_from = int(os.environ.get("FIXTOOL_ROUTES", "0"))
        self.counts: Counter[str] = Counter()
        self._count_enqueues(routing, "enqueued")
        self._chained_to = 0  # the most tokens of a batch that the chain takes
        if chain is not None:
            self._chained_to = most_tokens(chain)
            self._count_enqueues(chain, "chain_enqueued")

    def wrapped(self) -> Callable[..., Any]:
        @functools.wraps(self._routing)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            import torch

            if torch.compiler.is_compiling():  # the tracer must see only the function itself
                return self._routing(*args, **kwargs)
            call = self._guarded(self._before, args, kwargs)
            result = self._routing(*args, **kwargs)
            if call is not None:
                self._guarded(self._after, call, result)
            return result

        return recorded

    def wrapped_chain(self) -> Callable[..., Any]:
        chain = self._chain
        assert chain is not None
        signature = inspect.signature(chain)

        @functools.wraps(chain)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            answer = chain(*args, **kwargs)
            self._guarded(self._after_chain, signature, args, kwargs, answer)
            return answer

        return recorded

    def summarise(self) -> None:
        """Write the counts so far."""
        self._evidence.write("summary", **self.counts, patched=self._patched.new())

    def _guarded(self, step: Callable[..., Any], *args: Any) -> Any:
        if self._broken:
            self.counts["launches"] += step == self._before
            return None
        try:
            return step(*args)
        except Exception:
            self._broken = True
            self._evidence.write("error", at=step.__name__, traceback=traceback.format_exc())
            return None

    @staticmethod
    def _cuda_capturing(logits: Any) -> bool:
        import torch

        return bool(logits.is_cuda and torch.cuda.is_current_stream_capturing())

    def _before(self, args: Any, kwargs: Any) -> _Call | None:
        logits, scale, topk = list(self._signature.bind(*args, **kwargs).arguments.values())[:3]
        rows = logits.shape[0]
        if rows == 0:
            return None  # nothing is launched
        self.counts["launches"] += 1
        self.counts["bypassed"] += rows <= self._chained_to
        if self._capturing(logits):
            slot = self._capture(logits, scale, topk)
            return _Call(logits, scale, topk, slot, captured=True)
        if not self._is_compared("routing", logits):
            return None
        before = logits[:_ROWS_AT_ONCE].detach().clone()  # the routing might write to them
        return _Call(before, scale, topk, None, captured=False)

    def _is_compared(self, which: str, logits: Any) -> bool:
        """Count a call outside a graph. Whether this one is to be compared."""
        import torch

        self.counts["eager"] += 1
        if self._buffers is None:
            self._buffers = _Buffers(torch, logits.device, self._floats)
        seen = which, len(logits)
        self._rows[seen] += 1
        return self._rows[seen] <= _COMPARED_PER_ROWS or not self.counts["eager"] % _THEN_EVERY

    def _capture(
        self, logits: Any, scale: Any, topk: int, *, chained: bool = False
    ) -> _Slot | None:
        """Count a captured call, and have a copy of its logits captured with it."""
        self.counts["captured"] += 1
        slot = None
        if self._buffers is not None:
            slot = self._buffers.slot(len(logits), logits.shape[1], scale, topk)
        if slot is not None:
            slot.chained = chained
            slot.logits.copy_(logits)
            self._slots.append(slot)
            self.counts["slots"] += 1
        return slot

    def _after(self, call: _Call, result: Any) -> None:
        weights, ids = result
        if not call.captured:
            rows = len(call.logits)
            problems = self._compare(weights[:rows], ids[:rows], call.logits, call.scale, call.topk)
            self._record("eager", call.logits, problems)
            if 0 < self._save_from <= rows:
                self._save(call.logits, ids[:rows])
            self._read_replays()
            self.summarise()
            return
        self._captured(call.slot, weights, ids)

    def _after_chain(self, signature: Any, args: Any, kwargs: Any, answer: Any) -> None:
        """Record one answer of the chain; None, if it left the batch to other kernels."""
        given = list(signature.bind(*args, **kwargs).arguments.values())
        x, scale, topk = given[0], given[4], given[5]
        if not 0 < len(x) <= self._chained_to:
            return
        self.counts["chain_calls"] += 1
        if answer is None:
            return
        self.counts["chain_taken"] += 1
        logits, weights, ids, _ = answer
        if self._capturing(x):
            self._captured(self._capture(logits, scale, topk, chained=True), weights, ids)
        elif self._is_compared("chain", logits):
            problems = self._compare_chain(given, answer)
            self._record("chain", logits, problems)
            self._read_replays()
            self.summarise()

    def _captured(self, slot: _Slot | None, weights: Any, ids: Any) -> None:
        """Have copies of a captured call's answer captured too, and a count of its replays."""
        if self._buffers is None:
            return
        if slot is not None:
            # Checked here, since copying into the buffers would convert a wrong dtype or shape.
            wrong = [
                f"{name} of {value.dtype} {list(value.shape)}, not {copy.dtype} {list(copy.shape)}"
                for name, value, copy in (
                    ("weights", weights, slot.weights),
                    ("ids", ids, slot.ids),
                )
                if value.dtype != copy.dtype or value.shape != copy.shape
            ]
            if wrong:
                self._record("capture", slot.logits, wrong)
                return
            slot.weights.copy_(weights)
            slot.ids.copy_(ids)
        self._buffers.counters[slot.index if slot else 0].add_(1)

    def _save(self, logits: Any, ids: Any) -> None:
        import torch

        self._saved += 1
        path = os.path.join(self._evidence.folder, f"{os.getpid()}-{self._saved:06}.pt")
        saved = {"place": _place(), "logits": logits.cpu(), "ids": ids.detach().cpu()}
        torch.save(saved, path)

    def _read_replays(self) -> None:
        """Compare what the graphs' replays left since the last time. Not during a capture."""
        import torch

        if self._buffers is None or not self.counts["captured"]:
            return
        if self._buffers.counters.is_cuda:
            torch.cuda.synchronize(self._buffers.counters.device)
        counters = self._buffers.counters.tolist()
        self.counts["replayed"] = sum(counters)
        self.counts["chain_replayed"] = sum(counters[s.index] for s in self._slots if s.chained)
        for slot in self._slots:
            replays = counters[slot.index]
            if replays == slot.replays_read or slot.reads >= _READS_PER_SLOT:
                continue
            slot.replays_read, slot.reads = replays, slot.reads + 1
            problems = self._compare(slot.weights, slot.ids, slot.logits, slot.scale, slot.topk)
            self._record("graph", slot.logits, problems)

    @staticmethod
    def _compare(weights: Any, ids: Any, logits: Any, scale: Any, topk: int) -> list[str]:
        from verify.routing.compare import compare_with_oracle

        answer = weights.detach().cpu(), ids.detach().cpu()
        inputs = logits.detach().cpu(), scale.detach().cpu(), topk
        return compare_with_oracle(*answer, *inputs).problems

    @staticmethod
    def _compare_chain(given: list[Any], answer: Any) -> list[str]:
        from verify.routing.chain_oracle import ChainInputs, compare_chain

        x, channel, matrix, eps, scale, topk, norm, norm_eps, *twice = given
        inputs = ChainInputs(x, channel, matrix, scale, norm, topk, eps, norm_eps, *twice)
        return compare_chain(answer, inputs).problems

    def _record(self, where: str, logits: Any, problems: list[str]) -> None:
        """Count a comparison, and report a mismatch.

        ``varied`` counts rows whose logits are not all equal. Equal logits prove little, and a server
        whose activations have collapsed has no others.
        """
        self.counts[f"{where}_compared"] += 1
        self.counts[f"{where}_rows"] += len(logits)
        self.counts[f"{where}_varied"] += int((logits.amax(-1) > logits.amin(-1)).sum())
        if problems:
            self.counts["mismatches"] += 1
            if self._reported < _REPORTED_MISMATCHES:
                self._reported += 1
                shape = list(logits.shape)
                self._evidence.write("mismatch", where=where, shape=shape, problems=problems[:4])

    def _count_enqueues(self, launcher: Any, name: str) -> None:
        """Count, as ``name``, the Triton launches of the kernels that a launcher names."""

        def count() -> None:
            self.counts[name] += 1

        for kernel in kernels_of(launcher):
            try:
                on_launch(kernel, count)
                self.counts[name] += 0
            except Exception:
                self._evidence.write("note", text=f"cannot count launches of {kernel!r}")


def _place() -> tuple[int, int]:
    """The stage of the pipeline that this process is, and its tensor-parallel rank there."""
    groups = sys.modules.get("sglang.srt.distributed.parallel_state")
    if groups is None:
        return 0, 0
    return groups.get_pp_group().rank_in_group, groups.get_tp_group().rank_in_group
