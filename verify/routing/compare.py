"""Says whether one answer of a routing kernel is right, and how far its weights are off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from verify.routing.oracle import ATOL, RTOL, route


@dataclass
class Judged:
    """What is wrong (nothing, if right), and the worst errors of the finite weights.

    ``absolute`` counts weights of at most 16, ``relative`` those of at least 1e-6; 0.0 for none.
    ``rows``: how many were compared.
    """

    problems: list[str] = field(default_factory=list)
    absolute: float = 0.0
    relative: float = 0.0
    rows: int = 0


@contextmanager
def unwritten_shows() -> Iterator[None]:
    """Within, torch fills new memory with NaN or the largest integer, so that what a kernel
    leaves unwritten is no lucky left-over of an earlier answer."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def as_bits(values: torch.Tensor) -> torch.Tensor:
    """Floats as integers, so that NaN equals itself."""
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return values.view(sizes[values.element_size()])


def judge(
    weights: torch.Tensor, ids: torch.Tensor, logits: torch.Tensor, scale: torch.Tensor, topk: int
) -> Judged:
    """Compare one answer with the oracle on the very logits and scale it was given.

    Ids are read before the oracle is asked: one out of range, or given twice in a row, corrupts
    memory or the sum of the experts, whatever the logits hold.
    """
    tokens, experts = logits.shape
    said = Judged(rows=tokens)
    for name, one, dtype in (("weights", weights, torch.float32), ("ids", ids, torch.int32)):
        if one.dtype != dtype:
            said.problems.append(f"{name} are {one.dtype}, not {dtype}")
        if tuple(one.shape) != (tokens, topk):
            said.problems.append(f"{name} are {list(one.shape)}, not {[tokens, topk]}")
        if not one.is_contiguous():
            said.problems.append(f"{name} are not contiguous")
        if one.device != logits.device:
            said.problems.append(f"{name} are on {one.device}, the logits on {logits.device}")
    if said.problems or tokens == 0:
        return said

    weights, ids = weights.cpu(), ids.cpu().long()
    stray = ((ids < 0) | (ids >= experts)).any(-1)
    if stray.any():
        row = int(stray.nonzero()[0])
        said.problems.append(
            f"id out of range in {int(stray.sum())} rows; row {row}: {ids[row].tolist()}"
        )
    twice = (ids.sort(-1).values.diff(dim=-1) == 0).any(-1)
    if twice.any():
        row = int(twice.nonzero()[0])
        said.problems.append(
            f"an id twice in {int(twice.sum())} rows; row {row}: {ids[row].tolist()}"
        )

    want_weights, want_ids = route(logits, scale, topk)
    other = (ids != want_ids).any(-1)
    if other.any():
        row = int(other.nonzero()[0])
        said.problems.append(
            f"ids of {int(other.sum())} rows; row {row}: {ids[row].tolist()}, the oracle "
            f"{want_ids[row].tolist()}; its logits begin {logits[row, :16].tolist()}"
        )
    got = weights.double()
    wrong = ~torch.isclose(got, want_weights, rtol=RTOL, atol=ATOL, equal_nan=True)
    if wrong.any():
        row = int(wrong.any(-1).nonzero()[0])
        said.problems.append(
            f"weights of {int(wrong.any(-1).sum())} rows; row {row}: {weights[row].tolist()}, "
            f"the oracle {want_weights[row].tolist()}"
        )
    elif topk == 1 and (weights != want_weights.float())[~weights.isnan()].any():
        said.problems.append("a single winner's weight is not exactly its scale")
    if not said.problems:
        finite = want_weights.isfinite()
        off = (got - want_weights).abs()[finite]
        size = want_weights.abs()[finite]
        said.absolute = max(off[size <= 16].tolist(), default=0.0)
        large = size >= 1e-6
        said.relative = max((off[large] / size[large]).tolist(), default=0.0)
    return said
