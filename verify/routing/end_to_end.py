"""Checks that SGLang's own Gemma 4 routes as the oracle says, from hidden states to weights and ids.

Builds the tree's `Gemma4Router` and `Gemma4MoE`, draws their parameters, and checks two things on
each batch. The router's logits must be those of its definition in float64: RMS norm, times
1/sqrt(hidden), times the channels' scale, projected. And `Gemma4MoE`'s routing function must give the
oracle's answer on those very logits, by calling the fused kernel.

If the tree has the router's chain, `Gemma4DecoderLayer`'s router, MoE block and experts' norm are then
called as the layer calls them. Every batch that is small enough must be taken by one launch of the chain's
kernel, and be right; larger ones must be left to the other kernels.

On a CUDA GPU everything is as in a server. Without one the kernel runs in Triton's interpreter, and
its logits claim to be on a GPU, since that is what the routing function asks; logits that do not
claim it must go to the torch ops.

0   right    1   wrong, or the fused kernel or the chain is not called    77  the tree has no fused routing
2   the check broke, for example because a package is missing
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtool.verify.answer import DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

SHAPES = {  # name -> hidden, experts, winners
    "tiny": (32, 16, 4),
    "26B-A4B": (2816, 128, 8),
}
TOKENS_ON_CPU, TOKENS_ON_GPU = (0, 1, 7, 64), (0, 1, 7, 64, 1024, 1025, 8192)
# Batches for the chain. In Triton's interpreter a token of 26B-A4B's shape takes seconds.
CHAINED_ON_CPU = {"tiny": (1, 7, 32), "26B-A4B": (1,)}
CHAINED_ON_GPU = dict.fromkeys(SHAPES, (1, 2, 4, 8, 16, 32))
# How far a logit may be off, in epsilons of its dtype, as a root mean square over the batch: bf16 is
# rounded four times on the way, fp32 is summed over 2,816 products.
EPSILONS = {"bf16": 1.0, "fp32": 64.0}


def build_layers(
    gemma4: Any, shape: tuple[int, int, int], dtype: Any, device: str
) -> tuple[Any, Any]:
    """The tree's router and MoE block of that shape, with random parameters."""
    hidden = shape[0]
    config = shape_config(shape)
    with building(dtype, device):
        router, moe = gemma4.Gemma4Router(config), gemma4.Gemma4MoE(hidden, 0, config)
    draw_parameters(router, moe)
    return router, moe


def shape_config(shape: tuple[int, int, int]) -> Any:
    from verify.tiny import moe_text_config

    hidden, experts, winners = shape
    return moe_text_config(hidden_size=hidden, num_experts=experts, top_k_experts=winners)


@contextmanager
def building(dtype: Any, device: str) -> Iterator[None]:
    """Modules that are built in this context have that dtype, on that device."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def draw_parameters(router: Any, moe: Any) -> None:
    """Fill their parameters with random numbers, the same for each call."""
    import torch

    experts, hidden = router.proj.weight.shape
    draw = torch.Generator().manual_seed(hidden)
    with torch.no_grad():
        router.scale.copy_(torch.rand(hidden, generator=draw) + 0.5)
        router.proj.weight.copy_(2 * torch.randn(experts, hidden, generator=draw))
        moe.per_expert_scale.copy_(torch.rand(experts, generator=draw) + 0.5)


def hidden_states(tokens: int, hidden: int, dtype: Any, device: str) -> Any:
    """States of unequal channels; among them a row of zeros, one with a NaN and one with an infinity."""
    import torch

    draw = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, hidden, generator=draw) * torch.randn(hidden, generator=draw).exp()
    states[3:4] = 0.0
    states[5:6, 1] = float("nan")
    states[6:7, 2] = float("inf")
    return states.to(dtype).to(device)


def expected_logits(states: Any, router: Any, eps: float) -> Any:
    """The router's logits in float64, on the CPU."""
    x, scale, matrix = (
        tensor.detach().cpu().double() for tensor in (states, router.scale, router.proj.weight)
    )
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return (x * scale * x.shape[1] ** -0.5) @ matrix.T


def wrong_logits(logits: Any, want: Any, dtype_name: str) -> str:
    """What is wrong with the router's logits; "" if nothing is."""
    import torch

    actual = logits.detach().cpu().double()
    if not torch.equal(actual.isfinite(), want.isfinite()):
        return "logits are finite where their definition is not, or the other way round"
    finite = want.isfinite()
    if not finite.any():
        return ""
    error, size = (actual - want)[finite], want[finite].square().mean().sqrt()
    if not size:
        return "" if not error.any() else "logits of zeros are not zero"
    epsilon = EPSILONS[dtype_name] * torch.finfo(logits.dtype).eps
    mean, most = float(error.square().mean().sqrt() / size), float(error.abs().max() / size)
    if mean > epsilon or most > 16 * epsilon:
        return f"logits are off by {mean:.1e} (rms), {most:.1e} (most); allowed {epsilon:.1e}"
    return ""


def main() -> Answer:
    start = time.perf_counter()
    from fixtool.verify.runner.git_ids import blob_id
    from verify.routing.load import find_kernel

    file = find_kernel(tree())
    if file is None:
        return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
    stand_ins = install()
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
        if "triton" in sys.modules:
            raise RuntimeError("triton was imported before TRITON_INTERPRET could be set")
    gemma4 = from_tree("sglang.srt.models.gemma4_causal")
    from verify.tiny import one_rank

    stand_ins += one_rank()
    notes: list[str] = []
    device = "cuda" if on_gpu else "cpu"
    results = list(check_batches(gemma4, device, notes))
    worst = max(batch.relative for _, batch in results)
    chains = list(check_chains(gemma4, device))
    results += chains
    problems = [f"{name}: {problem}" for name, batch in results for problem in batch.problems]
    rows = sum(batch.rows for _, batch in results)
    details = {
        "batches": len(results),
        "rows": rows,
        "chained_batches": len(chains),
        "worst_relative_weight_error": worst,
        "problems": problems[:20],
        "notes": notes,
        "kernel": {"file": in_tree(str(file)), "blob": blob_id(Path(file).read_bytes())},
        "versions": versions(),
        "device": torch.cuda.get_device_name() if on_gpu else "interpreter",
        "stand_ins": stand_ins,
        "seconds": round(time.perf_counter() - start, 1),
    }
    if problems:
        wrong = sum(bool(batch.problems) for _, batch in results)
        summary = f"{wrong} of {len(results)} batches wrong; first: {problems[0][:400]}"
        return Answer(FAILED, summary, details)
    chained = f", {len(chains)} of them for the chain," if chains else ","
    summary = f"{len(results)} batches{chained} {rows:,} rows as the oracle says, through {in_tree(gemma4.__file__)}"
    noted = f"; noted: {notes[0]}" if notes else ""
    noted += f" and {len(notes) - 1} more" if len(notes) > 1 else ""
    return Answer(PASSED, f"{summary}; worst relative weight error {worst:.1e}{noted}", details)


@dataclass
class LayerUnderTest:
    """A router and a MoE block of one shape and dtype. ``kernel_calls``: the shapes of the logits
    that went to the fused kernel."""

    shape_name: str
    dtype_name: str
    dtype: Any
    device: str
    router: Any
    moe: Any
    kernel_calls: list[tuple[int, ...]]
    notes: list[str] = field(repr=False)

    @property
    def route(self) -> Callable[..., Any]:
        return self.moe.topk.topk_config.custom_routing_function

    def logits(self, states: Any, want: Any, where: str) -> Any:
        """The router's logits; if it does not run on this host, those of its definition."""
        try:
            return self.router(states)
        except Exception as error:
            if (self.shape_name, self.dtype_name) == ("26B-A4B", "bf16"):  # what a server runs
                raise
            self.notes.append(f"{where}: the router does not run: {error}"[:300])
            return want.to(self.dtype).to(self.device)

    def check(self, tokens: int, where: str) -> Any:
        """The comparison of one batch with the oracle (an `OracleComparison`)."""
        from verify.routing.compare import compare_with_oracle
        from verify.tiny import claim_cuda

        hidden, _, topk = SHAPES[self.shape_name]
        states = hidden_states(tokens, hidden, self.dtype, self.device)
        want = expected_logits(states, self.router, self.router.norm.eps)
        logits = self.logits(states, want, where)
        self.kernel_calls.clear()
        on_gpu = self.device == "cuda"
        weights, ids = self.route(states, logits if on_gpu else claim_cuda(logits), topk, True)
        comparison = compare_with_oracle(weights, ids, logits, self.moe.per_expert_scale, topk)
        if wrong := wrong_logits(logits, want, self.dtype_name):
            comparison.problems.insert(0, wrong)
        if self.kernel_calls != [tuple(logits.shape)]:
            comparison.problems.append(
                f"the fused kernel was called {len(self.kernel_calls)} times"
            )
        if on_gpu:
            comparison.problems += self.check_topk_layer(states, logits, ids, where)
        else:
            comparison.problems += self.check_unfused(states, logits, topk)
        return comparison

    def check_unfused(self, states: Any, logits: Any, topk: int) -> list[str]:
        """Logits that are not on a GPU must go to the torch ops, which must choose the same winners."""
        import torch

        self.kernel_calls.clear()
        _, ids = self.route(states, logits, topk, True)
        if self.kernel_calls:
            return ["logits on the CPU went to the fused kernel"]
        top = torch.topk(logits.double(), topk, dim=-1).values
        same = torch.equal(logits.double().gather(1, ids.long()).nan_to_num(), top.nan_to_num())
        return [] if same else ["the torch ops chose other logits"]

    def check_topk_layer(self, states: Any, logits: Any, ids: Any, where: str) -> list[str]:
        """SGLang's TopK layer, which calls the routing function, must give the same ids."""
        import torch

        try:
            layer_ids = self.moe.topk(states, logits).topk_ids
        except Exception as error:
            self.notes.append(f"{where}: TopK not asked: {type(error).__name__}: {error}"[:300])
            return []
        same = torch.equal(layer_ids.int(), ids)
        return [] if same else ["TopK gives other ids than the routing function"]


def check_batches(gemma4: Any, device: str, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the name of every batch and its comparison with the oracle (an `OracleComparison`)."""
    import torch

    from verify.routing.compare import OracleComparison

    calls: list[tuple[int, ...]] = []
    fused = gemma4.gemma4_fused_routing

    def record_call(logits: Any, scale: Any, topk: int) -> Any:
        calls.append(tuple(logits.shape))
        return fused(logits.as_subclass(torch.Tensor), scale.detach(), topk)

    gemma4.gemma4_fused_routing = record_call
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    for shape_name, dtype_name in itertools.product(SHAPES, dtypes):
        dtype = dtypes[dtype_name]
        router, moe = build_layers(gemma4, SHAPES[shape_name], dtype, device)
        if device == "cpu" and apply_folded_scale(router):
            note = "this tree's norm drops the router's folded scale where there is no GPU: applied here"
            notes += [note] * (note not in notes)
        layer = LayerUnderTest(shape_name, dtype_name, dtype, device, router, moe, calls, notes)
        for tokens in TOKENS_ON_GPU if device == "cuda" else TOKENS_ON_CPU:
            where = f"{shape_name} {dtype_name} T{tokens}"
            try:
                with torch.no_grad():
                    comparison = layer.check(tokens, where)
            except Exception as error:
                comparison = OracleComparison([f"raised {type(error).__name__}: {error}"[:600]])
            yield where, comparison


def check_chains(gemma4: Any, device: str) -> Iterator[tuple[str, Any]]:
    """Yield the name of every batch for the chain, and its comparison with the chain's definition (a
    `ChainComparison`); none, if the tree has no chain."""
    import torch

    from verify.routing.chain_layer import compare_layer, has_chain, truncates
    from verify.routing.chain_oracle import ChainComparison

    if not has_chain(gemma4):
        return
    cut = truncates(device)
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    chained = CHAINED_ON_GPU if device == "cuda" else CHAINED_ON_CPU
    for shape_name, dtype_name in itertools.product(SHAPES, dtypes):
        if device == "cpu" and (shape_name, dtype_name) == ("26B-A4B", "fp32"):
            continue  # slow there, and no server runs it
        shape, dtype = SHAPES[shape_name], dtypes[dtype_name]
        router, moe, norm = decoder_parts(gemma4, shape, dtype, device)
        for tokens in chained[shape_name]:
            where = f"chain {shape_name} {dtype_name} T{tokens}"
            states = hidden_states(tokens, shape[0], dtype, device)
            try:
                with torch.no_grad():
                    found = compare_layer(gemma4, router, moe, norm, states, shape[2], cut)
            except Exception as error:
                found = ChainComparison([f"raised {type(error).__name__}: {error}"[:600]])
            yield where, found
        yield (
            f"chain {shape_name} {dtype_name}, too many",
            check_left(gemma4, router, dtype, device),
        )


def decoder_parts(
    gemma4: Any, shape: tuple[int, int, int], dtype: Any, device: str
) -> tuple[Any, Any, Any]:
    """Router, MoE block and experts' norm of a decoder layer of the tree, joined as the layer joins
    them, with random parameters."""
    import torch

    with building(dtype, device), layer_stack():
        layer = gemma4.Gemma4DecoderLayer(0, shape_config(shape))
    draw_parameters(layer.router, layer.moe)
    norm = layer.pre_feedforward_layernorm_2
    draw = torch.Generator().manual_seed(shape[0] + 1)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(shape[0], generator=draw) + 0.5)
    return layer.router, layer.moe, norm


def layer_stack() -> AbstractContextManager[Any]:
    """What a decoder layer is built in: newer releases join the layers of a stack where they meet."""
    name = "sglang.srt.layers.layer_boundary"
    try:
        stack: AbstractContextManager[Any] = importlib.import_module(name).layer_stack()
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return nullcontext()
    return stack


def check_left(gemma4: Any, router: Any, dtype: Any, device: str) -> Any:
    """One token more than the chain takes must be left to the other kernels."""
    import torch

    from verify.routing.chain_layer import takes
    from verify.routing.chain_oracle import ChainComparison
    from verify.routing.launcher import most_tokens

    tokens = most_tokens(gemma4.gemma4_router_chain) + 1
    states = hidden_states(tokens, router.proj.weight.shape[1], dtype, device)
    with torch.no_grad():
        taken = takes(gemma4, router, states)
    return ChainComparison([f"{tokens} tokens were not left to other kernels"] if taken else [])


def apply_folded_scale(router: Any) -> bool:
    """Have the norm apply the weight into which newer trees fold the router's scale, if it does not.

    Returns whether that was needed. Their norm applies it on a GPU; their native norm does not, for
    want of a flag. That is a bug of theirs which no server on a GPU meets and no patch of ours fixes.
    """
    if not hasattr(router, "fuse_scale"):
        return False
    router.fuse_scale()
    if router.norm.with_scale or bool((router.norm.weight == 1).all()):
        return False
    router.norm.with_scale = True
    return True


if __name__ == "__main__":
    answer(main)
