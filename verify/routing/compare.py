"""Compares one answer of a routing kernel with the oracle's, and measures how far its weights are off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from verify.routing.oracle import ATOL, RTOL, route


@dataclass
class OracleComparison:
    """The problems found (none, if the answer is right), and the worst errors of the finite weights.

    ``absolute`` is the worst error of weights of at most 16, ``relative`` the worst of those of at
    least 1e-6; 0.0 if there is none. ``rows`` is the number of rows compared.
    """

    problems: list[str] = field(default_factory=list)
    absolute: float = 0.0
    relative: float = 0.0
    rows: int = 0


@contextmanager
def fill_new_memory() -> Iterator[None]:
    """Have torch fill new memory with NaN or the largest integer. So what a kernel leaves unwritten
    cannot be right by luck, left over from an earlier answer."""
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


def compare_with_oracle(
    weights: torch.Tensor, ids: torch.Tensor, logits: torch.Tensor, scale: torch.Tensor, topk: int
) -> OracleComparison:
    """Compare one answer with the oracle's on the very logits and scale that the kernel was given.

    Ids are checked before the oracle is asked: one out of range, or twice in a row, corrupts memory
    or the sum of the experts, whatever the logits hold.
    """
    tokens, experts = logits.shape
    problems = _wrong_form(weights, ids, logits, topk)
    if problems or tokens == 0:
        return OracleComparison(problems, rows=tokens)

    weights, ids = weights.cpu(), ids.cpu().long()
    outside = ((ids < 0) | (ids >= experts)).any(-1)
    if outside.any():
        problems.append(f"id out of range in {_rows(outside, ids)}")
    twice = (ids.sort(-1).values.diff(dim=-1) == 0).any(-1)
    if twice.any():
        problems.append(f"an id twice in {_rows(twice, ids)}")

    want_weights, want_ids = route(logits, scale, topk)
    differing = (ids != want_ids).any(-1)
    if differing.any():
        row = int(differing.nonzero()[0])
        problems.append(
            f"ids of {_rows(differing, ids)}, the oracle "
            f"{want_ids[row].tolist()}; its logits begin {logits[row, :16].tolist()}"
        )
    actual = weights.double()
    wrong = ~torch.isclose(actual, want_weights, rtol=RTOL, atol=ATOL, equal_nan=True)
    if wrong.any():
        row = int(wrong.any(-1).nonzero()[0])
        problems.append(
            f"weights of {_rows(wrong.any(-1), weights)}, the oracle {want_weights[row].tolist()}"
        )
    elif topk == 1 and (weights != want_weights.float())[~weights.isnan()].any():
        problems.append("a single winner's weight is not exactly its scale")
    if problems:
        return OracleComparison(problems, rows=tokens)
    finite = want_weights.isfinite()
    error = (actual - want_weights).abs()[finite]
    size = want_weights.abs()[finite]
    large = size >= 1e-6
    return OracleComparison(
        absolute=max(error[size <= 16].tolist(), default=0.0),
        relative=max((error[large] / size[large]).tolist(), default=0.0),
        rows=tokens,
    )


def _wrong_form(
    weights: torch.Tensor, ids: torch.Tensor, logits: torch.Tensor, topk: int
) -> list[str]:
    """What is wrong with the dtypes, shapes, memory and device of an answer."""
    shape = (len(logits), topk)
    problems = []
    for name, values, dtype in (("weights", weights, torch.float32), ("ids", ids, torch.int32)):
        if values.dtype != dtype:
            problems.append(f"{name} are {values.dtype}, not {dtype}")
        if tuple(values.shape) != shape:
            problems.append(f"{name} are {list(values.shape)}, not {list(shape)}")
        if not values.is_contiguous():
            problems.append(f"{name} are not contiguous")
        if values.device != logits.device:
            problems.append(f"{name} are on {values.device}, the logits on {logits.device}")
    return problems


def _rows(wrong: torch.Tensor, values: torch.Tensor) -> str:
    """How many rows are wrong, and what the first of them holds."""
    row = int(wrong.nonzero()[0])
    return f"{int(wrong.sum())} rows; row {row}: {values[row].tolist()}"
