"""Calls the chain through SGLang's own router and MoE block, and compares what they give.

An answer alone proves nothing: the other kernels give the same. So the launches of the chain's kernel
are counted, and the calls of the routing that the chain makes needless.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class ChainRun:
    """What router and norm gave. ``answers`` counts the batches that the chain's launcher took, and
    ``launches`` the launches of its kernel."""

    logits: Any
    normed: Any
    answers: int
    launches: int


def run_chain(gemma4: Any, router: Any, norm: Any, states: Any) -> ChainRun:
    """Call the router and then the norm, as the decoder layer does.

    Without a GPU the states claim to be on one, and the kernel runs in Triton's interpreter.
    """
    import torch

    from verify.tiny import claim_cuda

    launcher, answers = gemma4.gemma4_router_chain, 0

    def plain(argument: Any) -> Any:
        if not isinstance(argument, torch.Tensor):
            return argument
        return argument.detach().as_subclass(torch.Tensor)

    def counted(*arguments: Any) -> Any:
        nonlocal answers
        answer = launcher(*map(plain, arguments))
        answers += answer is not None
        return answer

    gemma4.gemma4_router_chain = counted
    try:
        with count_launches(launcher) as launches:
            if not states.is_cuda:
                router._can_chain = True  # without a GPU it would say no
                states = claim_cuda(states)
            logits = router(states)
            if not answers:
                states = plain(states)
            return ChainRun(logits, norm(states), answers, len(launches))
    finally:
        gemma4.gemma4_router_chain = launcher


def compare_layer(
    gemma4: Any, router: Any, moe: Any, norm: Any, states: Any, topk: int, cut: bool
) -> ChainComparison:
    """Run the chain, then the routing function, as the decoder layer does, and compare both. The chain
    must take the batch by one launch of its kernel."""
    ran = run_chain(gemma4, router, norm, states)
    if (ran.answers, ran.launches) != (1, 1):
        times = f"{ran.answers} times by {ran.launches} launches of its kernel"
        return ChainComparison([f"the chain took {len(states)} tokens {times}, not once by one"])
    logits, normed = ran.logits, ran.normed
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
