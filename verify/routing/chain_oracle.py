"""The definition of ``gemma4_router_chain`` in float64, and how far an answer may be from it.

The chain's logits are those of the tree's own router: RMS norm of the residual, rounded to its dtype;
times the router's scale per channel, rounded again (``twice``) or both rounded once; projected, summed
in fp32, and rounded to the dtype. From the float64 values of each step follows an error bound for
each logit:

    a channel whose value lies so near to the middle of two neighbours that fp32 may round it to either:
        the distance of these two, times its weight
    the sum in fp32:                                       SUM_EPS times the sum of |channel * weight|
    the logit's own rounding:                              half a unit in the last place

If two experts at the border of what is chosen, or next to each other in it, are closer than their
bounds, they are a near-tie: either order is right. Such rows are counted. Whatever the logits came out
as, weights and ids must be those of the routing oracle for these very logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from verify.routing.compare import compare_with_oracle

# Relative errors in fp32: of a normalised channel (its square sum, rsqrt to 2 ulp, two products), and
# of a sum over programs of 4 warps (at most 64 values a thread, then 7 rounds of pairs).
CHANNEL_EPS, SUM_EPS = 16 * 2.0**-24, 80 * 2.0**-24


@dataclass(frozen=True)
class ChainInputs:
    """What one call is given. ``truncates``: this device rounds bf16 towards zero, as Triton's
    interpreter does."""

    x: torch.Tensor
    channel: torch.Tensor
    matrix: torch.Tensor
    scale: torch.Tensor
    norm: torch.Tensor
    topk: int
    eps: float = 1e-6
    norm_eps: float = 1e-6
    twice: bool = False
    truncates: bool = False


@dataclass
class ChainComparison:
    """Problems of an answer; how many rows were compared, had a near-tie, and fell the other way."""

    problems: list[str] = field(default_factory=list)
    rows: int = 0
    near_ties: int = 0
    fell_otherwise: int = 0
    worst: float = 0.0  # the largest error of a logit, as a share of its bound


def rounded(value: torch.Tensor, dtype: torch.dtype, truncates: bool) -> torch.Tensor:
    """Float64 values as ``dtype`` holds them, in float64."""
    if truncates and dtype == torch.bfloat16:
        bits = value.to(torch.float32).view(torch.int32) & -(1 << 16)
        return bits.view(torch.float32).double()
    return value.to(dtype).double()


def either_way(
    low: torch.Tensor, high: torch.Tensor, dtype: torch.dtype, truncates: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the least and the greatest value become when they are computed in fp32 and rounded."""
    margin = CHANNEL_EPS * torch.maximum(low.abs(), high.abs())
    return (
        rounded(low - margin, dtype, truncates),
        rounded(high + margin, dtype, truncates),
    )


def _normed(
    x: torch.Tensor, eps: float, weight: torch.Tensor, dtype: torch.dtype, twice: bool, cut: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the greatest that each normalised and scaled channel may be."""
    low = high = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    if twice:
        low, high = either_way(low, high, dtype, cut)
    ends = torch.stack([low * weight, high * weight])
    return either_way(ends.amin(0), ends.amax(0), dtype, cut)


def logits_and_bounds(given: ChainInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits in float64 before their own rounding, and how far each may be off, on the CPU."""
    dtype = given.x.dtype
    x, channel, matrix = (t.detach().cpu().double() for t in (given.x, given.channel, given.matrix))
    low, high = _normed(x, given.eps, channel, dtype, given.twice, given.truncates)
    middle = (low + high) / 2
    want = middle @ matrix.T
    bound = (high - low) / 2 @ matrix.abs().T + SUM_EPS * (middle.abs() @ matrix.abs().T)
    unit = torch.finfo(dtype).eps * (1.0 if given.truncates else 0.5)
    return want, bound + unit * (want.abs() + bound) + torch.finfo(dtype).tiny


def near_ties(want: torch.Tensor, bound: torch.Tensor, topk: int) -> torch.Tensor:
    """For each row: are two of the first K + 1 logits closer than their bounds?"""
    order = want.argsort(dim=-1, descending=True)[:, : topk + 1]
    value, off = want.gather(1, order), bound.gather(1, order)
    gap = value[:, :-1] - value[:, 1:]
    return (gap <= off[:, :-1] + off[:, 1:]).any(-1)


def compare_chain(answer: tuple[torch.Tensor, ...] | None, given: ChainInputs) -> ChainComparison:
    """Compare logits, weights, ids and the experts' input with the definition."""
    if answer is None:
        return ChainComparison(["the chain left the batch to others"])
    logits, weights, ids, normed = answer
    found = ChainComparison(rows=len(given.x))
    shapes = {
        "logits": (logits, (len(given.x), len(given.matrix))),
        "normed": (normed, given.x.shape),
    }
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != tuple(shape) or tensor.dtype != given.x.dtype:
            found.problems.append(f"{name} are {list(tensor.shape)} of {tensor.dtype}")
    if found.problems:
        return found
    routed = compare_with_oracle(weights, ids, logits, given.scale, given.topk)
    found.problems += routed.problems

    want, bound = logits_and_bounds(given)
    error = (logits.detach().cpu().double() - want).abs()
    wrong = ~(error <= bound)
    finite = want.isfinite().all(-1)
    if (wrong.any(-1) & finite).any():
        row, expert = (wrong & finite[:, None]).nonzero()[0].tolist()
        found.problems.append(
            f"{int((wrong & finite[:, None]).sum())} logits are off; row {row}, expert {expert}: "
            f"{float(logits[row, expert]):.6g}, not {float(want[row, expert]):.6g} within {float(bound[row, expert]):.2g}"
        )
    if (logits.detach().cpu().isfinite().all(-1) & ~finite).any():
        found.problems.append("logits are finite where their definition is not")
    found.worst = max((error / bound)[finite].flatten().tolist(), default=0.0)
    tied = near_ties(want, bound, given.topk) & finite
    first = want.argsort(dim=-1, descending=True, stable=True)[:, : given.topk]
    other = (ids.detach().cpu().long() != first).any(-1) & finite
    found.near_ties, found.fell_otherwise = int(tied.sum()), int((other & tied).sum())
    if (other & ~tied).any():
        found.problems.append(f"row {int((other & ~tied).nonzero()[0])} chose other experts")

    x, norm = given.x.detach().cpu().double(), given.norm.detach().cpu().double()
    low, high = _normed(x, given.norm_eps, norm, given.x.dtype, False, given.truncates)
    value = normed.detach().cpu().double()
    off = ~((torch.minimum(low, high) <= value) & (value <= torch.maximum(low, high)))
    if (off.any(-1) & finite).any():
        row = int((off.any(-1) & finite).nonzero()[0])
        found.problems.append(
            f"{int(off[finite].sum())} inputs of experts are off, first in row {row}"
        )
    return found
