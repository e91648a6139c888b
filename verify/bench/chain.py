"""Times the router's chain on a CUDA GPU beside what it replaces. verify/bench/NOTES.md says what was learned.

    chain.py [--kernel FILE] [--peer FILE] [--matvec FILE] [--small-align FILE] [--vllm FILE]
             [--sglang FOLDER] [--tokens 1,4,16] [--out JSON] [--seconds N]

--kernel holds ``gemma4_router_chain`` (default: FIXTOOL_TREE's); --peer another fused routing (of an
SGLang wheel); --matvec SGLang's ``router_gate_matvec.py``; --small-align its ``moe_align_small_numel.py``.
flashinfer and sgl_kernel are used if they can be imported; what is missing is named in the result.

128 experts, 2,816 channels, top-8, bf16. A time is the median of REPLAYS replays of a CUDA graph of
two calls for each of WEIGHTS sets of weights, which take turns: 86 MB, more than the L2, so each call
finds its weights cold. `warm` uses one set. Rows take turns, so that a drifting clock affects all
alike. Before a row is timed its answer is compared with float64. Rows:

    chain              norm, projection, routing and the experts' norm: the patch's first launch
    chain+align        the same, then the patch's align of the pairs
    ours apart         flashinfer's norm, cuBLAS, our fused routing, flashinfer's norm for the experts
    peer apart         the same with the peer's fused routing: what SGLang 0.5.23 does
    matvec             norm, SGLang's matvec with fp32 logits, our routing, the experts' norm
    vllm, quack, muse_spark, topk_softmax apart - norm
                       norm, cuBLAS, another project's routing (others.py says which, and what it lacks)
    vllm, quack, muse_spark, topk_softmax routing
                       that routing alone, on logits that are there; `ours routing`, `heads routing`: ours
    … - norm           without the experts' norm: the columns of older tables
    … +align           then sgl_kernel's moe_align_block_size

--out is written after each T, so that a run that is cut off keeps what it had. Exit 4 without a GPU; 1 if
the chain is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from fixtool.verify.answer import CANNOT_RUN, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from fixtool.verify.runner.git_ids import blob_id
from verify.bench.others import OtherRouting, add_arguments, fp32_product, load_others
from verify.bench.peer import load_peer
from verify.bench.timing import capture, empty_kernel, in_turns, microseconds
from verify.routing import variants
from verify.routing.chain import call, inputs
from verify.routing.chain_oracle import ChainInputs, compare_chain
from verify.routing.load import find_kernel, load_file, load_kernel

TOKENS = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 8192, 65536)
SHAPE, WEIGHTS, REPLAYS, BLOCK = (2816, 128, 8), 120, 9, 16
WARM = 60  # calls of a graph with one set of weights
DEVICE = "cuda"
Run = Callable[[ChainInputs], Any]


def load_sglang_file(file: str, name: str) -> ModuleType:
    """A kernel file of SGLang alone: what it asks SGLang is whether the GPU can launch early."""
    stub: Any = ModuleType("sglang.kernels.jit.utils")
    stub.is_arch_support_pdl = lambda: torch.cuda.get_device_capability() >= (9, 0)
    before = set(sys.modules)
    for parent in ("sglang", "sglang.kernels", "sglang.kernels.jit"):
        sys.modules.setdefault(parent, ModuleType(parent))
    sys.modules[stub.__name__] = stub
    try:
        return load_file(file, name)
    finally:
        for added in set(sys.modules) - before - {name}:
            if added.startswith("sglang"):
                del sys.modules[added]


def align_buffers(pairs: int, experts: int) -> list[torch.Tensor]:
    most = pairs * BLOCK if pairs < experts + 1 else pairs + (experts + 1) * (BLOCK - 1)
    sizes = ((most + 3) // 4 * 4, (most + BLOCK - 1) // BLOCK, 1)
    return [torch.empty(size, dtype=torch.int32, device=DEVICE) for size in sizes]


class Parts:
    """The kernels that rows are made of. ``missing`` names those that this host lacks."""

    def __init__(self, options: argparse.Namespace, ours: ModuleType) -> None:
        self.ours, self.empty = ours, empty_kernel()
        self.others, self.missing = load_others(options)
        self.notes: dict[str, str] = {}  # what others do otherwise
        self.norm: Callable[..., torch.Tensor] | None = None
        self.align: Callable[..., Any] | None = None
        self.peer = load_peer(options.peer, "peer_routing") if options.peer else None
        self.matvec = load_sglang_file(options.matvec, "matvec") if options.matvec else None
        small = options.small_align
        self.small = load_sglang_file(small, "small_align") if small else None
        try:
            self.norm = importlib.import_module("flashinfer.norm").rmsnorm
        except Exception as error:
            self.missing["flashinfer"] = repr(error)[:200]
        try:
            self.align = importlib.import_module("sgl_kernel").moe_align_block_size
        except Exception as error:
            self.missing["sgl_kernel"] = repr(error)[:200]

    def apart(self, routing: Callable[..., Any], given: ChainInputs, experts_norm: bool) -> Any:
        """One kernel after the other, as in SGLang 0.5.23."""
        assert self.norm is not None
        logits = self.norm(given.x, given.channel, given.eps) @ given.matrix.T
        normed = self.norm(given.x, given.norm, given.norm_eps) if experts_norm else None
        return logits, *routing(logits, given.scale, given.topk), normed

    def by_other(self, other: OtherRouting, given: ChainInputs) -> Any:
        """Norm, cuBLAS with logits of the dtype that it takes, and another project's routing."""
        assert self.norm is not None
        x = self.norm(given.x, given.channel, given.eps)
        logits = x @ given.matrix.T if other.dtype is None else fp32_product(x, given.matrix)
        return logits, *other.route(logits, given.scale, given.topk)

    def by_matvec(self, given: ChainInputs, experts_norm: bool) -> Any:
        assert self.norm is not None
        assert self.matvec is not None
        x = self.norm(given.x, given.channel, given.eps)
        logits = self.matvec.router_gate_matvec(x, given.matrix)
        normed = self.norm(given.x, given.norm, given.norm_eps) if experts_norm else None
        return logits, *self.ours.gemma4_fused_routing(logits, given.scale, given.topk), normed

    def aligned(self, answer: Any, given: ChainInputs) -> Any:
        """sgl_kernel's align (two kernels) of an answer's ids."""
        assert self.align is not None
        ids, experts = answer[2], len(given.matrix)
        buffers = align_buffers(ids.numel(), experts)
        sums = torch.empty(experts + 2, dtype=torch.int32, device=DEVICE)
        self.align(ids, experts + 1, BLOCK, *buffers, sums, True)
        return buffers

    def aligned_small(self, answer: Any, given: ChainInputs) -> Any:
        assert self.small is not None
        buffers = align_buffers(answer[2].numel(), len(given.matrix))
        self.small.moe_align_small_numel(answer[2], len(given.matrix) + 1, BLOCK, *buffers)
        return buffers

    def aligned_by_us(self, answer: Any, given: ChainInputs) -> Any:
        buffers = align_buffers(answer[2].numel(), len(given.matrix))
        if not self.ours.moe_align_few(answer[2], BLOCK, *buffers):
            raise ValueError("more pairs than our align takes")
        return buffers


def rows_apart(parts: Parts, name: str, routing: Callable[..., Any], tokens: int) -> dict[str, Run]:
    """The rows of one routing, kernel by kernel, with and without what comes beside it."""
    whole: Run = lambda given: parts.apart(routing, given, True)
    less: Run = lambda given: parts.apart(routing, given, False)
    rows = {f"{name} apart": whole, f"{name} apart - norm": less}
    if parts.align:
        rows[f"{name} apart+align"] = lambda given: parts.aligned(whole(given), given)
        rows[f"{name} apart+align - norm"] = lambda given: parts.aligned(less(given), given)
    if parts.small and tokens * SHAPE[2] <= 64:
        small: Run = lambda given: parts.aligned_small(less(given), given)
        rows[f"{name} apart+small align - norm"] = small
    return rows


def rows_for(parts: Parts, tokens: int) -> dict[str, Run]:
    """What can be timed for so many tokens, by name."""
    ours = parts.ours.gemma4_fused_routing
    chain: Run = lambda given: call(parts.ours, given)
    rows: dict[str, Run] = {}
    if tokens <= parts.ours._CHAIN_TILES[-1][0]:
        rows["chain"] = chain
        if tokens * SHAPE[2] <= 256:
            rows["chain+align"] = lambda given: parts.aligned_by_us(chain(given), given)
        if parts.align:
            rows["chain, sgl_kernel's align"] = lambda given: parts.aligned(chain(given), given)
    if parts.norm:
        named: list[tuple[str, Callable[..., Any]]] = [("ours", ours)]
        if parts.peer:
            named.append(("peer", parts.peer.gemma4_fused_routing))
        for name, routing in named:
            rows |= rows_apart(parts, name, routing, tokens)
        if parts.matvec and tokens <= 64:
            rows["matvec - norm"] = lambda given: parts.by_matvec(given, False)
            rows["matvec"] = lambda given: parts.by_matvec(given, True)
        for other in parts.others:
            rows[f"{other.name} apart - norm"] = partial(parts.by_other, other)
    rows |= routings(parts, tokens)
    rows["empty"] = lambda given: parts.empty(given.scale)
    return rows


def routings(parts: Parts, tokens: int) -> dict[str, Run]:
    """The routings alone, each on logits of the dtype that it takes, which are drawn once."""
    logits = torch.randn(tokens, SHAPE[1], generator=torch.Generator().manual_seed(tokens))
    given_to = {None: logits.to(DEVICE, torch.bfloat16), torch.float32: logits.to(DEVICE)}
    alone = [OtherRouting("ours", parts.ours.gemma4_fused_routing, scales=True)]
    if "heads" in variants.variants_of(parts.ours):
        table = variants.forced_table(parts.ours, "heads")

        def by_heads(*arguments: Any) -> Any:
            with mock.patch.object(parts.ours, variants.TABLE, table):
                return parts.ours.gemma4_fused_routing(*arguments)

        alone.append(OtherRouting("heads", by_heads, scales=True))

    def run(other: OtherRouting, given: ChainInputs) -> Any:
        own = given_to[other.dtype]
        return own, *other.route(own, given.scale, given.topk)

    return {f"{other.name} routing": partial(run, other) for other in (*alone, *parts.others)}


def graph_of(run: Run, sets: list[ChainInputs]) -> Callable[[], float]:
    """A function that times a call: a graph of two calls with each set of weights."""
    run(sets[0])
    torch.cuda.synchronize()
    graph = capture(partial(run, given) for given in sets * 2)
    return lambda: microseconds(graph.replay) / (2 * len(sets))


def other_in(parts: Parts, name: str) -> OtherRouting | None:
    """The other project's routing that a row times; None if it times none."""
    names = lambda other: (f"{other.name} apart - norm", f"{other.name} routing")
    return next((other for other in parts.others if name in names(other)), None)


def problem(parts: Parts, name: str, run: Run, given: ChainInputs) -> str:
    """What is wrong with a row's answer; "" if nothing is, or if it is no whole answer."""
    answer = run(given)
    torch.cuda.synchronize()
    if (other := other_in(parts, name)) is not None:
        return other.problem(answer[0], given.scale, given.topk, answer[1:])
    if name == "chain" or name in ("ours apart", "peer apart"):
        return "; ".join(compare_chain(answer, given).problems)[:400]
    if "align" in name:
        total = int(answer[2])
        pairs = given.topk * len(given.x)
        placed = sorted(place for place in answer[0][:total].tolist() if place < pairs)
        return "" if placed == list(range(pairs)) else "the places hold other pairs"
    return ""


def measure(parts: Parts, tokens: int, weights: list[ChainInputs], wrong: dict[str, str]) -> Any:
    draw = inputs(tokens, SHAPE, torch.bfloat16, DEVICE, False)
    sets = [dataclasses.replace(given, x=draw.x) for given in weights]
    # Long batches need no more than a few calls, and would not fit in memory.
    sets = sets if tokens <= 1024 else sets[:4]
    timed: dict[tuple[str, str], Callable[[], float]] = {}
    for name, run in rows_for(parts, tokens).items():
        try:
            why = problem(parts, name, run, sets[0])
            if why and other_in(parts, name) is not None:
                # It may order ties and zeros as it likes: told, and timed nevertheless.
                parts.notes[f"{name} T={tokens}"] = why
            elif why:
                wrong[f"{name} T={tokens}"] = why
                print(f"WRONG {name} T={tokens}: {why}", flush=True)
                continue
            timed[name, "cold"] = graph_of(run, sets)
            if tokens <= 64:
                timed[name, "warm"] = graph_of(run, sets[:1] * WARM)
        except Exception as error:
            wrong[f"{name} T={tokens}"] = repr(error)[:300]
            print(f"FAILED {name} T={tokens}: {error!r}"[:400], flush=True)
    point: dict[str, Any] = {"T": tokens, "cold": {}, "warm": {}}
    for (name, how), us in in_turns(timed, REPLAYS).items():
        point[how][name] = us
    return point


def show(point: dict[str, Any]) -> None:
    print(f"\nT={point['T']}: us a call, cold (warm)")
    for name, us in point["cold"].items():
        warm = point["warm"].get(name)
        print(f"{name:>32} {us[0]:8.2f}" + (f" ({warm[0]:.2f})" if warm else ""), flush=True)


def save(details: dict[str, Any], out: str | None) -> None:
    """Write what there is so far; whoever reads meanwhile finds the old or the new."""
    if out:
        staged = Path(f"{out}.part")
        staged.write_text(json.dumps(details, indent=1), encoding="utf-8")
        staged.replace(out)


def main(options: argparse.Namespace) -> Answer:
    if not torch.cuda.is_available():
        return Answer(CANNOT_RUN, "no CUDA GPU to time anything on")
    start = time.perf_counter()
    file = options.kernel or find_kernel(tree())
    ours = load_kernel(file, "chain_under_test") if file else None
    if ours is None or not hasattr(ours, "gemma4_router_chain"):
        return Answer(DOES_NOT_APPLY, "Gemma 4 has no chain in this tree")
    parts = Parts(options, ours)
    weights = [inputs(1, SHAPE, torch.bfloat16, DEVICE, False, seed=n) for n in range(WEIGHTS)]
    wrong: dict[str, str] = {}
    points: list[dict[str, Any]] = []
    paths = (str(file), options.peer, options.matvec, options.small_align, options.vllm)
    details = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "files": {Path(path).name: blob_id(Path(path).read_bytes()) for path in paths if path},
        "patch": "gemma4-router-chain", "missing": parts.missing, "points": points,
        "wrong": wrong, "notes": parts.notes,
    }  # fmt: skip
    for tokens in options.tokens:
        if time.perf_counter() - start > options.seconds:
            break
        points.append(measure(parts, tokens, weights, wrong))
        show(points[-1])
        details["points_skipped"] = len(options.tokens) - len(points)
        details["seconds"] = round(time.perf_counter() - start, 1)
        save(details, options.out)
    took = round(time.perf_counter() - start, 1)
    saw = f"{len(points)} points, {len(wrong)} wrong; {details['device']}, {took} s"
    if any(name.startswith("chain") for name in wrong):
        return Answer(FAILED, f"{saw}: {next(iter(wrong.items()))}", details)
    return Answer(PASSED, saw, details)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", metavar="FILE")
    parser.add_argument("--peer", metavar="FILE")
    parser.add_argument("--matvec", metavar="FILE")
    parser.add_argument("--small-align", metavar="FILE")
    parser.add_argument("--out", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=300.0, help="start no point after these")
    numbers = lambda word: tuple(int(number) for number in word.split(","))
    parser.add_argument("--tokens", type=numbers, default=TOKENS, metavar="1,4,16")
    add_arguments(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    options = parse_arguments()
    answer(lambda: main(options))
