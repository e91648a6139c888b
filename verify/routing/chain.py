"""Checks the router's chain of a tree, and its align, on a CUDA GPU or in Triton's interpreter.

    chain.py [--kernel FILE] [--fail-fast] [--part I/N]

Every case is compared with `chain_oracle`: shapes of several models, every tile, dtypes, rows apart,
rows of zeros, NaN and infinities, rounded once and twice. Then: a batch has one answer (1,000 calls on
a GPU), also among other tokens; counters are zero after it; with few experts, with 1,024, and with
hidden sizes that are no power of two. On a GPU also: graphs of several sizes replayed beside each
other on four streams, eager calls on four streams, and no more captures than there are counters.
Align is compared with a few lines of Python. Without a GPU the kernels are compiled for one, too.

0   right    1   wrong    77  the tree has no chain    2   the check broke
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fixtool.verify.answer import DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree

TOKENS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32)
SHAPES = (  # hidden, experts, winners
    (2816, 128, 8), (96, 16, 4), (33, 2, 1), (130, 127, 8), (100, 5, 5), (200, 129, 6), (2, 64, 8),
    (64, 1024, 32),
)  # fmt: skip
ALIGNS = ((1, 8, 128, 16), (4, 8, 128, 16), (32, 8, 128, 32), (7, 3, 4, 1), (31, 1, 600, 64), (5, 6, 64, 128))  # fmt: skip


class Enough(Exception):
    """A problem was found, and nobody asks for more."""


@dataclass
class Tally:
    """What was compared so far. ``fail_fast``: the first problem ends it, by raising `Enough`."""

    fail_fast: bool = False
    cases: int = 0
    rows: int = 0
    near_ties: int = 0
    fell_otherwise: int = 0
    worst: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, problems: list[str], rows: int = 0) -> None:
        self.cases += 1
        self.rows += rows
        self.problems += [f"{name}: {problem}" for problem in problems]
        if self.fail_fast and problems:
            raise Enough


def inputs(
    tokens: int, shape: tuple[int, int, int], dtype: Any, device: str, cut: bool,
    twice: bool = False, special: bool = False, apart: bool = False, seed: int = 0,
) -> Any:  # fmt: skip
    """A call's `ChainInputs`. ``special``: among the rows zeros, a NaN and an infinity; ``apart``:
    rows of a wider tensor."""
    import torch

    from verify.routing.chain_oracle import ChainInputs

    hidden, experts, topk = shape
    draw = torch.Generator().manual_seed(seed * 7919 + tokens * 31 + hidden)
    random = lambda *size: torch.randn(*size, generator=draw)
    x = random(tokens, hidden) * random(hidden).exp()
    if special:
        x[1:2] = 0.0
        x[2:3, hidden // 2] = float("nan")
        x[3:4, hidden - 1] = float("inf")
    x = x.to(dtype).to(device)
    if apart:
        wide = torch.full((tokens, hidden + 8), 7.0, dtype=dtype, device=device)
        wide[:, 3 : hidden + 3] = x
        x = wide[:, 3 : hidden + 3]
    weights = ((random(hidden) / 4 + 1) * hidden**-0.5, 2 * random(experts, hidden), random(hidden) / 4 + 1)  # fmt: skip
    channel, matrix, norm = (weight.to(dtype).to(device) for weight in weights)
    scale = random(experts).exp().to(device)
    return ChainInputs(x, channel, matrix, scale, norm, topk, 1e-6, 1e-5, twice, cut)


def call(module: ModuleType, given: Any) -> Any:
    return module.gemma4_router_chain(
        given.x, given.channel, given.matrix, given.eps, given.scale, given.topk, given.norm,
        given.norm_eps, given.twice,
    )  # fmt: skip


def check_values(
    module: ModuleType, device: str, cut: bool, tally: Tally, part: int = 0, parts: int = 1
) -> None:
    """Every shape and dtype; of several parts, each process takes its own."""
    import torch

    from verify.routing.chain_oracle import compare_chain
    from verify.routing.compare import fill_new_memory

    def compare(name: str, given: Any) -> None:
        before = [
            t.clone() for t in (given.x, given.channel, given.matrix, given.scale, given.norm)
        ]
        with fill_new_memory():
            found = compare_chain(call(module, given), given)
        after = (given.x, given.channel, given.matrix, given.scale, given.norm)
        if not all(torch.equal(b.nan_to_num(), a.nan_to_num()) for b, a in zip(before, after, strict=True)):  # fmt: skip
            found.problems.append("an input was written to")
        tally.add(name, found.problems, found.rows)
        tally.near_ties += found.near_ties
        tally.fell_otherwise += found.fell_otherwise
        tally.worst = max(tally.worst, found.worst)

    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    slow = device == "cpu"
    listed = []
    for shape, (name, dtype) in itertools.product(SHAPES, dtypes.items()):
        large = shape[0] * shape[1] > 20_000
        if slow and large and name != "bf16":
            continue
        every = TOKENS if not slow and large else (1, 3) if large or shape[1] > 128 else (3, 17)
        rounds = (False, True) if name == "bf16" else (False,)
        listed += [(shape, name, dtype, tokens, twice) for tokens in every for twice in rounds]
    if slow:  # small ones first, which find most mistakes
        listed.sort(key=lambda case: case[0][0] * case[0][1] * case[3])
    # The few of rows apart and of values that are not finite come first: they are small as well.
    for name, dtype in dtypes.items() if part == 0 else ():
        for tokens in (5,) if slow else (5, 16, 32):
            shape = SHAPES[1] if slow else SHAPES[0]
            compare(f"special {name} T{tokens}", inputs(tokens, shape, dtype, device, cut, special=True))  # fmt: skip
            compare(f"apart {name} T{tokens}", inputs(tokens, shape, dtype, device, cut, apart=True))  # fmt: skip
    for shape, name, dtype, tokens, twice in listed[part::parts]:
        given = inputs(tokens, shape, dtype, device, cut, twice)
        compare(f"{name} H{shape[0]} E{shape[1]} T{tokens} twice={twice}", given)


def check_one_answer(module: ModuleType, device: str, cut: bool, tally: Tally) -> None:
    """The same bits each time, whatever tokens come with a token, and counters left at zero."""
    import torch

    shape = SHAPES[1] if device == "cpu" else SHAPES[0]
    for tokens in (2, 9) if device == "cpu" else (1, 4, 16, 32):
        given = inputs(tokens, shape, torch.bfloat16, device, cut)
        want = call(module, given)
        differing = 0
        for _ in range(3 if device == "cpu" else 1000):
            differing += not all(map(torch.equal, want, call(module, given)))
        problems = [f"{differing} calls gave other bits"] if differing else []
        alone = dataclasses.replace(given, x=given.x[-1:])
        if not torch.equal(call(module, alone)[0], want[0][-1:]):
            problems.append("a token's logits depend on those that come with it")
        if any(bool(pool[0].any()) for pool in module._chain_counters.values()):
            problems.append("counters are not zero after it")
        tally.add(f"one answer T{tokens}", problems)


def check_left_alone(module: ModuleType, device: str, cut: bool, tally: Tally) -> None:
    import torch

    given = inputs(33, SHAPES[1], torch.bfloat16, device, cut)
    few = dataclasses.replace(given, x=given.x[:4])
    names = ("x", "channel", "matrix", "norm")
    batches = {
        "33 tokens": given,
        "no tokens": dataclasses.replace(given, x=given.x[:0]),
        "a scale of another dtype": dataclasses.replace(few, channel=given.channel.float()),
        "float64": dataclasses.replace(few, **{k: getattr(few, k).double() for k in names}),
        "columns": dataclasses.replace(few, x=given.x[:4].T.contiguous().T),
        "more winners than experts": dataclasses.replace(few, topk=17),
    }
    for name, batch in batches.items():
        taken = call(module, batch) is not None
        tally.add(name, ["was not left to other kernels"] if taken else [])


def check_streams(module: ModuleType, cut: bool, tally: Tally) -> None:
    """Graphs and eager calls of several sizes on four streams at once."""
    import torch

    given = [inputs(t, SHAPES[0], torch.bfloat16, "cuda", cut, seed=t) for t in (1, 4, 16, 32)]
    want = [call(module, each) for each in given]
    streams = [torch.cuda.Stream() for _ in given]
    graphs, outputs = [], []
    for each in given:
        graphs.append(torch.cuda.CUDAGraph())
        with torch.cuda.graph(graphs[-1]):
            outputs.append([call(module, each) for _ in range(20)])
    torch.cuda.synchronize()
    for _ in range(50):
        for stream, graph in zip(streams, graphs, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    wrong = sum(
        not all(map(torch.equal, wanted, found))
        for wanted, answers in zip(want, outputs, strict=True)
        for found in answers
    )
    tally.add("graphs beside each other", [f"{wrong} answers differ"] if wrong else [], 53 * 20)
    wrong = 0
    for _ in range(100):
        answers = []
        for stream, each in zip(streams, given, strict=True):
            with torch.cuda.stream(stream):
                answers.append(call(module, each))
        torch.cuda.synchronize()
        wrong += not all(all(map(torch.equal, a, b)) for a, b in zip(want, answers, strict=True))
    tally.add("eager on four streams", [f"{wrong} rounds differ"] if wrong else [], 53 * 100)


def plain_align(ids: list[int], block: int, experts: int) -> tuple[list[int], list[int]]:
    places: list[int] = []
    owners: list[int] = []
    for expert in range(-1, experts):
        pairs = [pair for pair, chosen in enumerate(ids) if chosen == expert]
        pairs += [len(ids)] * (-len(pairs) % block)
        places += pairs
        owners += [expert] * (len(pairs) // block)
    return places, owners


def check_align(module: ModuleType, device: str, tally: Tally) -> None:
    import torch

    for (tokens, topk, experts, block), filtered in itertools.product(ALIGNS, (0.0, 0.3, 1.0)):
        draw = torch.Generator().manual_seed(tokens)
        ids = torch.rand(tokens, experts, generator=draw).argsort(-1)[:, :topk].int()
        ids[torch.rand(tokens, topk, generator=draw) < filtered] = -1
        pairs = ids.numel()
        chosen = torch.full((pairs * block,), -9, dtype=torch.int32, device=device)
        owners, total = chosen[:pairs].clone(), chosen[:1].clone()
        problems = []
        if not module.moe_align_few(ids.to(device), block, chosen, owners, total):
            problems.append("was not taken")
        want, of = plain_align(ids.flatten().tolist(), block, experts)
        if total.item() != len(want) or chosen.tolist() != want + [pairs] * (len(chosen) - len(want)):  # fmt: skip
            problems.append("pairs are not where they belong")
        if owners[: len(of)].tolist() != of:
            problems.append("blocks have other experts")
        tally.add(f"align T{tokens} K{topk} E{experts} of {block} filtered {filtered}", problems)
    many = torch.zeros(33, 8, dtype=torch.int32, device=device)
    taken = module.moe_align_few(many, 16, many, many, many)
    tally.add("align 264 pairs", ["was not left to other kernels"] if taken else [])


def check_compiles(module: ModuleType, tally: Tally) -> None:
    """The compiler takes the kernels too, for an H100, which needs no GPU.

    Triton's interpreter takes more: a name that has one type in one branch and another type in the
    other passed every case there, and no GPU could compile it.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernels = {}
    for experts, (_, rows, cols, _) in itertools.product((128, 129), module._CHAIN_TILES):
        sizes = {"H": 2816, "E": experts, "K": 8, "LOW": 2048, "HIGH": 1024}
        sizes |= {"ROWS": rows, "COLS": cols, "TWICE": experts > 128, "PDL": experts == 128}
        kernels[f"E{experts} {rows}x{cols}"] = (module._router_chain_kernel, sizes)
    kernels["align"] = (module._align_few_kernel, {"BLOCK": 16, "PAIRS": 64, "PDL": True})
    types = {"weights_ptr": "*fp32", "scale_ptr": "*fp32", "stride_x": "i32", "eps": "fp32", "norm_eps": "fp32"}  # fmt: skip
    types |= dict.fromkeys(("num_tokens", "pairs", "places"), "i32")
    types |= dict.fromkeys(("ids_ptr", "arrived_ptr", "sorted_ptr", "experts_ptr", "total_ptr"), "*i32")  # fmt: skip
    for name, (kernel, sizes) in kernels.items():
        signature = {
            each: "constexpr" if each in sizes else types.get(each, "*bf16")
            for each in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
        problems = []
        try:
            triton.compile(source, target=GPUTarget("cuda", 90, 32))
        except Exception as error:
            problems.append(f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}")
        tally.add(f"compiles {name}", problems)


def check_apart(module: ModuleType, tally: Tally) -> None:
    """`check_compiles` in a process of its own: Triton, once it interprets, no longer compiles."""
    env = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "FIXTOOL_DETAILS")}
    command = [sys.executable, __file__, "--kernel", str(module.__file__), "--compile"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    last = (ran.stdout.strip() or ran.stderr.strip()).rpartition("\n")[2]
    tally.add("compiles", [last[:600]] if ran.returncode else [])


def check_all(
    module: ModuleType, device: str, fail_fast: bool = False, part: int = 0, parts: int = 1
) -> Tally:
    """Every part in turn; ``fail_fast``: nothing after the first problem."""
    from verify.routing.chain_layer import truncates

    cut, tally = truncates(device), Tally(fail_fast)

    steps: list[Callable[[], None]] = [
        lambda: check_values(module, device, cut, tally, part, parts)
    ]
    if part == 0:
        steps[:0] = [
            lambda: check_align(module, device, tally),
            lambda: check_left_alone(module, device, cut, tally),
            lambda: check_one_answer(module, device, cut, tally),
        ]
        if device == "cpu":
            steps.append(lambda: check_apart(module, tally))
        else:
            steps.append(lambda: check_streams(module, cut, tally))
    with contextlib.suppress(Enough):
        for step in steps:
            step()
    return tally


def main(options: argparse.Namespace) -> Answer:
    start = time.perf_counter()
    from fixtool.verify.runner.git_ids import blob_id
    from verify.routing.check import choose_device
    from verify.routing.load import find_kernel, load_kernel

    if options.compile:
        tally = Tally()
        check_compiles(load_kernel(options.kernel), tally)
        summary = f"{tally.cases} kernels compiled"
        return Answer(FAILED, tally.problems[0]) if tally.problems else Answer(PASSED, summary)
    file = options.kernel or find_kernel(tree())
    device = choose_device()
    if device == "cpu":
        warnings.filterwarnings("ignore")
    module = load_kernel(file) if file else None
    if file is None or module is None or not hasattr(module, "gemma4_router_chain"):
        return Answer(DOES_NOT_APPLY, "Gemma 4 has no chain in this tree")
    import torch
    import triton

    part, parts = map(int, options.part.split("/"))
    tally = check_all(module, device, options.fail_fast, part, parts)
    details: dict[str, Any] = {
        **vars(tally),
        "problems": tally.problems[:20],
        "failed": len(tally.problems),
        "kernel": {"file": str(file), "blob": blob_id(Path(file).read_bytes())},
        "versions": {"torch": torch.__version__, "triton": triton.__version__},
        "device": torch.cuda.get_device_name() if device == "cuda" else "interpreter",
        "programmatic": device == "cuda" and module._launches_early(torch.device("cuda:0")),
        "seconds": round(time.perf_counter() - start, 1),
    }
    summary = f"{tally.cases} cases, {tally.rows:,} rows, {len(tally.problems)} problems"
    if tally.problems:
        return Answer(FAILED, f"{summary}; first: {tally.problems[0][:400]}", details)
    summary += f"; {tally.near_ties} rows with a near-tie, {tally.fell_otherwise} of them fell the other way"
    summary += f"; the worst logit is off by {tally.worst:.2f} of its bound; {details['device']}, {details['seconds']} s"
    return Answer(PASSED, summary, details)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", metavar="FILE", help="check this file, not the tree's")
    parser.add_argument("--fail-fast", action="store_true")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="of N processes, this is I")
    parser.add_argument("--compile", action="store_true", help="compile --kernel; run nothing")
    options = parser.parse_args()
    answer(lambda: main(options))
