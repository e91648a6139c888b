"""Compares how two servers routed the same prompts, and says which differences are allowed.

On several GPUs a sum is added up in another order, so a logit may differ in its last bits. The oracle
ranks by logit and, of equal ones, by id: two experts whose logits are closer than those bits are a
tie, which either server may decide its own way. The token then gets another expert's output, and from
the next layer on neither it nor any later token, which attends to it, can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A fraction of the spread of a row's logits. Two real servers in float32 differed by 2e-6 at most on a
# CPU, and by 6e-6 on two H100 (12 layers).
NOISE = 2e-5


@dataclass
class RoutingComparison:
    """The problems, and how much was compared: ``rows`` of ``of``.

    ``worst`` is the largest difference of a logit, as a fraction of its row's spread. ``tied`` maps
    the length of a prefill to the first row whose token may differ because of a tie.
    """

    problems: list[str] = field(default_factory=list)
    layers: int = 0
    rows: int = 0
    of: int = 0
    ties: int = 0
    worst: float = 0.0
    tied: dict[int, int] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        return {**vars(self), "problems": self.problems[:8]}


SavedCalls = dict[tuple[int, int], list[Any]]
"""Pipeline stage and tensor-parallel rank -> the calls that it saved (`server/recorder/recorder.py`)."""


def read_saved_calls(folder: Path) -> SavedCalls:
    """Read the calls that the recorders of a server saved, in the order in which they ran."""
    import torch

    calls: SavedCalls = {}
    for path in sorted(folder.glob("*.pt")):
        saved = torch.load(path)
        calls.setdefault(tuple(saved["place"]), []).append(saved)
    return calls


def compare_routing(
    reference: SavedCalls, parallel: SavedCalls, lengths: list[int], tp: int, pp: int
) -> RoutingComparison:
    """Compare the calls of a server on one GPU with those of every rank of ``tp`` times ``pp``.
    Each of ``lengths`` is the number of rows of exactly one prefill."""
    comparison = RoutingComparison()
    for rows in lengths:
        wanted = _layers(reference, rows, 0, 1)
        for rank in range(tp):
            actual = _layers(parallel, rows, rank, pp)
            where = f"prefill of {rows} tokens, tensor rank {rank}"
            if not wanted or len(actual) != len(wanted):
                comparison.problems.append(
                    f"{where}: {len(actual)} layers routed, on one GPU {len(wanted)}"
                )
                continue
            comparison.layers = len(wanted)
            comparison.of += rows * len(wanted)
            comparison.problems += [
                f"{where}, {problem}" for problem in _compare_prefill(wanted, actual, comparison)
            ]
    return comparison


def _layers(calls: SavedCalls, rows: int, rank: int, stages: int) -> list[Any]:
    """The calls of all stages for one prefill, in the order of the model's layers."""
    return [
        call
        for stage in range(stages)
        for call in calls.get((stage, rank), ())
        if len(call["logits"]) == rows
    ]


def _compare_prefill(
    wanted: list[Any], actual: list[Any], comparison: RoutingComparison
) -> Iterator[str]:
    """Yield the first problem, if there is one; every later layer would only repeat it."""
    rows = comparable = len(wanted[0]["logits"])
    for layer, (one_gpu, ranks) in enumerate(zip(wanted, actual, strict=True)):
        if comparable == 0:
            break
        comparison.rows += comparable
        a, b = one_gpu["logits"][:comparable].double(), ranks["logits"][:comparable].double()
        spread = (a.amax(-1) - a.amin(-1)).clamp_min(1e-30)
        error = (a - b).abs().amax(-1) / spread
        if not float(error.max()) <= NOISE:  # also if it is NaN
            row = int(error.argmax())
            yield f"layer {layer}: logits of row {row} are off by {float(error[row]):.1e} of their spread"
            return
        comparison.worst = max(comparison.worst, float(error.max()))
        mine, theirs = one_gpu["ids"][:comparable].long(), ranks["ids"][:comparable].long()
        differing = (mine != theirs).any(-1).nonzero().flatten().tolist()
        for row in differing:
            gap = (a[row][mine[row]] - a[row][theirs[row]]).abs().max() / spread[row]
            if float(gap) > 2 * NOISE:
                yield (
                    f"layer {layer}: row {row} goes to {theirs[row].tolist()}, on one GPU to "
                    f"{mine[row].tolist()}, and their logits are no tie"
                )
                return
        comparison.ties += len(differing)
        comparable = min([comparable, *differing])
    if comparable < rows:
        comparison.tied[rows] = min(comparable, comparison.tied.get(rows, comparable))
