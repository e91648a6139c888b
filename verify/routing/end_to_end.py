"""Does SGLang's own Gemma 4 route as the oracle says, from hidden states to weights and ids?

    e2e.py

Builds the tree's `Gemma4Router` and `Gemma4MoE`, draws their parameters, and asks two things of each
batch. The router's logits must be those of its definition in float64: RMS norm, times 1/sqrt(hidden),
times the channels' scale, projected. And what `Gemma4MoE`'s routing function makes of those very
logits must be the oracle's answer, given by the fused kernel: that it was called is part of it.

On a CUDA GPU all of it is as in a server. Without one the kernel runs in Triton's interpreter, and its
logits answer that they are on a GPU, since that is what the routing function looks at; logits that
do not must go to the torch ops.

0   right    1   wrong, or the fused kernel is not called    77  the tree has no fused routing
2   the check broke, for want of a package, say
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from verify.answer import DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from verify.standins import from_tree, in_tree, install, versions

SHAPES = {  # name -> hidden, experts, winners
    "tiny": (32, 16, 4),
    "26B-A4B": (2816, 128, 8),
}
TOKENS_ON_CPU, TOKENS_ON_GPU = (0, 1, 7, 64), (0, 1, 7, 64, 1024, 1025, 8192)
# How far a logit may be off, in epsilons of its dtype, as a root mean square over the batch: bf16 is
# rounded four times on the way, fp32 is summed over 2,816 products.
EPSILONS = {"bf16": 1.0, "fp32": 64.0}


def models(gemma4: Any, shape: tuple[int, int, int], dtype: Any, device: str) -> tuple[Any, Any]:
    """The tree's router and MoE block of that shape, their parameters drawn."""
    import torch

    from verify.tiny import moe_text_config

    hidden, experts, winners = shape
    config = moe_text_config(hidden_size=hidden, num_experts=experts, top_k_experts=winners)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            router, moe = gemma4.Gemma4Router(config), gemma4.Gemma4MoE(hidden, 0, config)
    finally:
        torch.set_default_dtype(before)
    draw = torch.Generator().manual_seed(hidden)
    with torch.no_grad():
        router.scale.copy_(torch.rand(hidden, generator=draw) + 0.5)
        router.proj.weight.copy_(2 * torch.randn(experts, hidden, generator=draw))
        moe.per_expert_scale.copy_(torch.rand(experts, generator=draw) + 0.5)
    return router, moe


def hidden_states(tokens: int, hidden: int, dtype: Any, device: str) -> Any:
    """States of unequal channels; among them rows of zeros, of one NaN and of one infinity."""
    import torch

    draw = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, hidden, generator=draw) * torch.randn(hidden, generator=draw).exp()
    states[3:4] = 0.0
    states[5:6, 1] = float("nan")
    states[6:7, 2] = float("inf")
    return states.to(dtype).to(device)


def definition(states: Any, router: Any, eps: float) -> Any:
    """The router's logits in float64, on the CPU."""
    x, scale, matrix = (one.detach().cpu().double() for one in (states, router.scale, router.proj.weight))  # fmt: skip
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return (x * scale * x.shape[1] ** -0.5) @ matrix.T


def far_off(logits: Any, want: Any, dtype_name: str) -> str:
    """What is wrong with the router's logits; "" if nothing is."""
    import torch

    got = logits.detach().cpu().double()
    if not torch.equal(got.isfinite(), want.isfinite()):
        return "logits are finite where their definition is not, or the other way round"
    finite = want.isfinite()
    if not finite.any():
        return ""
    off, size = (got - want)[finite], want[finite].square().mean().sqrt()
    if not size:
        return "" if not off.any() else "logits of zeros are not zero"
    epsilon = EPSILONS[dtype_name] * torch.finfo(logits.dtype).eps
    mean, most = float(off.square().mean().sqrt() / size), float(off.abs().max() / size)
    if mean > epsilon or most > 16 * epsilon:
        return f"logits are off by {mean:.1e} (rms), {most:.1e} (most); allowed {epsilon:.1e}"
    return ""


def main() -> Answer:
    begun = time.perf_counter()
    from verify.routing import load as kernel

    file = kernel.find(tree())
    if file is None:
        return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
    standing_in = install()
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
        if "triton" in sys.modules:
            raise RuntimeError("triton was imported before TRITON_INTERPRET could be set")
    gemma4 = from_tree("sglang.srt.models.gemma4_causal")
    from verify.tiny import one_rank

    standing_in += one_rank()
    device = "cuda" if on_gpu else "cpu"

    problems: list[str] = []
    notes: list[str] = []
    rows, worst, batches, wrong = 0, 0.0, 0, 0
    for where, said in seen(gemma4, device, notes):
        batches += 1
        rows += said.rows
        worst = max(worst, said.relative)
        wrong += bool(said.problems)
        problems += [f"{where}: {one}" for one in said.problems]
    details = {
        "batches": batches,
        "rows": rows,
        "worst_relative_weight_error": worst,
        "problems": problems[:20],
        "notes": notes,
        "kernel": {"file": in_tree(str(file)), "blob": kernel.blob(file)},
        "versions": versions(),
        "device": torch.cuda.get_device_name() if on_gpu else "interpreter",
        "stand_ins": standing_in,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    if problems:
        saw = f"{wrong} of {batches} batches wrong; first: {problems[0][:400]}"
        return Answer(FAILED, saw, details)
    saw = f"{batches} batches, {rows:,} rows as the oracle says, through {in_tree(gemma4.__file__)}"
    noted = f"; noted: {notes[0]}" if notes else ""
    noted += f" and {len(notes) - 1} more" if len(notes) > 1 else ""
    return Answer(PASSED, f"{saw}; worst relative weight error {worst:.1e}{noted}", details)


def seen(gemma4: Any, device: str, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """A batch's name and what was wrong with it (`judge.Judged`), for every batch."""
    import torch

    from verify.routing.compare import Judged, judge

    class SaysCuda(torch.Tensor):
        """A CPU tensor that says it is on a GPU."""

        is_cuda = property(lambda self: True)

    calls = []
    fused = gemma4.gemma4_fused_routing

    def spy(logits: Any, scale: Any, topk: int) -> Any:
        calls.append(tuple(logits.shape))
        return fused(logits.as_subclass(torch.Tensor), scale.detach(), topk)

    gemma4.gemma4_fused_routing = spy
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    for (shape_name, shape), (dtype_name, dtype) in itertools.product(
        SHAPES.items(), dtypes.items()
    ):
        router, moe = models(gemma4, shape, dtype, device)
        if device == "cpu" and applies_folded_scale(router):
            note = "this tree's norm drops the router's folded scale where there is no GPU: applied here"
            notes += [note] * (note not in notes)
        route = moe.topk.topk_config.custom_routing_function
        for tokens in TOKENS_ON_GPU if device == "cuda" else TOKENS_ON_CPU:
            where = f"{shape_name} {dtype_name} T{tokens}"
            said = Judged()
            try:
                with torch.no_grad():
                    states = hidden_states(tokens, shape[0], dtype, device)
                    want = definition(states, router, router.norm.eps)
                    try:
                        logits = router(states)
                    except Exception as error:
                        if (shape_name, dtype_name) == ("26B-A4B", "bf16"):  # what a server runs
                            raise
                        notes.append(f"{where}: the router does not run: {error}"[:300])
                        logits = want.to(dtype).to(device)
                    wrong = far_off(logits, want, dtype_name)
                    calls.clear()
                    given = logits if device == "cuda" else logits.as_subclass(SaysCuda)
                    weights, ids = route(states, given, shape[2], True)
                    said = judge(weights, ids, logits, moe.per_expert_scale, shape[2])
                    if wrong:
                        said.problems.insert(0, wrong)
                    if calls != [tuple(logits.shape)]:
                        said.problems.append(f"the fused kernel was called {len(calls)} times")
                    if device == "cpu":
                        said.problems += unfused(route, states, logits, shape[2], calls)
                    else:
                        said.problems += through_topk(moe, states, logits, ids, where, notes)
            except Exception as error:
                said.problems.append(f"raised {type(error).__name__}: {error}"[:600])
            yield where, said


def applies_folded_scale(router: Any) -> bool:
    """Have the norm apply the weight that newer trees fold the router's scale into; whether it had to
    be told to. Theirs does on a GPU, and their native norm, for want of a flag, does not: a fault of
    theirs that no server on a GPU meets and no patch of ours is about."""
    if not hasattr(router, "fuse_scale"):
        return False
    router.fuse_scale()
    if router.norm.with_scale or bool((router.norm.weight == 1).all()):
        return False
    router.norm.with_scale = True
    return True


def unfused(route: Any, states: Any, logits: Any, topk: int, calls: list[Any]) -> list[str]:
    """What is wrong with logits that are not on a GPU: they are for the torch ops, and win alike."""
    import torch

    calls.clear()
    _, ids = route(states, logits, topk, True)
    if calls:
        return ["logits on the CPU went to the fused kernel"]
    top = torch.topk(logits.double(), topk, dim=-1).values
    same = torch.equal(logits.double().gather(1, ids.long()).nan_to_num(), top.nan_to_num())
    return [] if same else ["the torch ops chose other logits"]


def through_topk(
    moe: Any, states: Any, logits: Any, ids: Any, where: str, notes: list[str]
) -> list[str]:
    """What is wrong with the ids that SGLang's TopK layer gives, which calls the routing function."""
    import torch

    try:
        given = moe.topk(states, logits).topk_ids
    except Exception as error:
        notes.append(f"{where}: TopK not asked: {type(error).__name__}: {error}"[:300])
        return []
    return (
        [] if torch.equal(given.int(), ids) else ["TopK gives other ids than the routing function"]
    )


if __name__ == "__main__":
    answer(main)
