"""Calls the chain through SGLang's own router and MoE block, and compares what they give.

An answer alone proves nothing: the other kernels give the same. So the launches of the chain's kernel
are counted, and the calls of the routing that the chain makes needless.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from verify.routing.chain_oracle import ChainComparison, ChainInputs, compare_chain
from verify.routing.launcher import count_launches


def truncates(device: str) -> bool:
    """Whether Triton rounds fp32 to bf16 towards zero here, as its interpreter does."""
    import torch
    import triton
    import triton.language as tl

    if device != "cpu":
        return False

    @triton.jit
    def cast(source, target):  # type: ignore[no-untyped-def]  # Triton reads annotations
        tl.store(target, tl.load(source).to(tl.bfloat16))

    source = torch.tensor([1.0 + 3 * 2.0**-9])
    target = torch.zeros(1, dtype=torch.bfloat16)
    cast[(1,)](source, target)
    return bool(target.item() == 1.0)


def has_chain(gemma4: Any) -> bool:
    return hasattr(gemma4, "gemma4_router_chain")


def experts_norm(gemma4: Any, router: Any, moe: Any) -> Any:
    """The norm before the experts, as the decoder layer makes and joins it, with random weights."""
    import torch

    like = router.proj.weight
    hidden = like.shape[1]
    norm = gemma4.Gemma4ExpertsNorm(hidden, eps=1e-6)
    draw = torch.Generator().manual_seed(hidden + 1)
    norm.weight.data = (torch.rand(hidden, generator=draw) + 0.5).to(like)
    router.chain_with(moe, norm)
    return norm


@dataclass
class ChainCalls:
    """What became of batches. ``asked``: those that the chain's launcher took or left; ``answers``: those
    that it took; ``launches``: of its kernel."""

    asked: int = 0
    answers: int = 0
    launches: int = 0


@contextmanager
def counted_calls(gemma4: Any) -> Iterator[ChainCalls]:
    """Count the calls of the tree's chain in this context, also if the other kernels raise there."""
    import torch

    launcher, calls = gemma4.gemma4_router_chain, ChainCalls()

    def counted(*arguments: Any) -> Any:
        plain = (plain_tensor(word) if isinstance(word, torch.Tensor) else word for word in arguments)  # fmt: skip
        answer = launcher(*plain)
        calls.asked += 1
        calls.answers += answer is not None
        return answer

    gemma4.gemma4_router_chain = counted
    try:
        with count_launches(launcher) as launches:
            try:
                yield calls
            finally:
                calls.launches = len(launches)
    finally:
        gemma4.gemma4_router_chain = launcher


def plain_tensor(tensor: Any) -> Any:
    """The tensor as torch's own class: one that claims to be on a GPU no longer does."""
    import torch

    return tensor.detach().as_subclass(torch.Tensor)


def as_on_gpu(router: Any, states: Any) -> Any:
    """States for the router. Without a GPU they claim to be on one, and the kernel runs in Triton's
    interpreter."""
    from verify.tiny import claim_cuda

    if states.is_cuda:
        return states
    router._can_chain = True  # without a GPU it would say no
    return claim_cuda(states)


def takes(gemma4: Any, router: Any, states: Any) -> bool:
    """Whether the chain takes the batch. If it leaves it, the other kernels may fail: on a GPU,
    sgl_kernel's norm knows no fp32."""
    with counted_calls(gemma4) as calls:
        try:
            router(as_on_gpu(router, states))
        except Exception:
            if not calls.asked:
                raise
    return bool(calls.answers or calls.launches)


def compare_layer(
    gemma4: Any, router: Any, moe: Any, norm: Any, states: Any, topk: int, cut: bool
) -> ChainComparison:
    """Run the chain, then the routing function, as the decoder layer does, and compare both. The chain
    must take the batch by one launch of its kernel."""
    with counted_calls(gemma4) as calls:
        given_states = as_on_gpu(router, states)
        logits = router(given_states)
        normed = norm(given_states if calls.answers else states)
    if (calls.answers, calls.launches) != (1, 1):
        times = f"{calls.answers} times by {calls.launches} launches of its kernel"
        return ChainComparison([f"the chain took {len(states)} tokens {times}, not once by one"])
    # What the routing function gives for these logits is the chain's own answer.
    weights, ids = moe.topk.topk_config.custom_routing_function(states, logits, topk, True)
    twice = hasattr(router, "_fused_scale")
    channel = router._fused_scale if twice else router.norm.weight
    given = ChainInputs(
        states.detach(),
        channel.to(states.dtype),
        router.proj.weight,
        moe.per_expert_scale,
        norm.weight,
        topk,
        router.norm.eps,
        norm.variance_epsilon,
        twice,
        cut,
    )
    found = compare_chain((logits, weights, ids, normed), given)
    if moe.routed or norm.normed:
        found.problems.append("the layer still holds the answers that it has given")
    again, _ = moe.topk.topk_config.custom_routing_function(states, logits, topk, True)
    if again.is_set_to(weights):
        found.problems.append("the same answer was given twice")
    return found
