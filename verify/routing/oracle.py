"""The definition of ``gemma4_fused_routing(logits, scale, topk)``, independent of any kernel.

    logits  [T, E] fp16, bf16 or fp32, T >= 0, 1 <= E <= 1024, any strides
    scale   [E] fp16, bf16, fp32 or fp64, any stride
    topk    K, 1 <= K <= min(E, 32)
    gives   weights [T, K] fp32, ids [T, K] int32: both contiguous, on the logits' device

Of each row the K highest logits win, in the order *logit descending, then expert id ascending*. The
weights are the softmax of the K winning logits, each times the scale of its expert.

| of a row | order | weights |
|---|---|---|
| any values | K different ids, each in 0 … E-1 | |
| equal logits | the lower id first; an all-equal row gives 0, 1, … K-1 | equal before the scale |
| -0.0 and +0.0 | equal to each other | |
| subnormal logits | by their value, not as zeros | |
| +inf | above every finite logit | one among the winners: the whole row NaN |
| NaN, of either sign and any payload | above +inf, equal to every other NaN | one among the winners: the whole row NaN |
| -inf | below every finite logit, yet a valid winner where fewer than K are left above | 0 beside a finite winner; all winners -inf: the whole row NaN |
| K = E | every expert once | softmax of the whole row |
| K = 1 | | exactly the scale, where the logit is finite |
| E not a power of two | as any other: what pads a tile never wins | |
| T = 0 | two empty results [0, K] | |

NaN rows are those that ``torch.softmax`` of the winners gives. Logits with gaps, transposed,
expanded, overlapping or far apart (over 2**31 elements) mean what their elements say; no input is
written to.

A scale of any dtype counts as its value in fp32 (an fp64 beyond fp32's range is an infinity), and the
product is IEEE's: a scale of 0 gives 0 (NaN in a NaN row), an infinite one an infinity, a NaN one
NaN. Softmax and product are meant in exact arithmetic; fp32 is held to RTOL and ATOL. A winner so far
below the first that its weight leaves fp32 (about 87) may give 0: beside a finite scale that is
within ATOL, and times an infinite one it is not defined.

Nothing is defined for other dtypes, more experts or more winners: those raise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

RTOL, ATOL = 2e-5, 1e-7


def route(
    logits: torch.Tensor, scale: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition on tensors: weights [T, K] in float64 and ids [T, K] in int64, on the CPU."""
    value = logits.detach().to("cpu", torch.float64)
    value = torch.where(value.isnan(), math.nan, value + 0.0)  # one NaN, one zero
    value, ids = torch.sort(value, dim=-1, descending=True, stable=True)  # NaN sorts first
    value, ids = value[:, :topk], ids[:, :topk]
    factor = scale.detach().to("cpu").to(torch.float32).to(torch.float64)
    return torch.softmax(value, dim=-1) * factor[ids], ids


def route_plainly(
    row: Sequence[float], scale: Sequence[float], topk: int
) -> tuple[list[float], list[int]]:
    """The same for one row, without torch; `route` itself is tested against it. ``scale`` holds
    numbers that fp32 holds. Gives K weights and K ids."""

    def rank(expert: int) -> tuple[int, float, int]:
        value = row[expert]
        return (0, 0.0, expert) if math.isnan(value) else (1, -value, expert)

    ids = sorted(range(len(row)), key=rank)[:topk]
    first = row[ids[0]]
    if not math.isfinite(first):  # NaN or +inf among the winners, or nothing but -inf
        return [math.nan] * topk, ids
    exps = [math.exp(row[expert] - first) for expert in ids]
    weights = [e / sum(exps) * scale[expert] for e, expert in zip(exps, ids, strict=True)]
    return weights, ids
