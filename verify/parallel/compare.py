"""Whether two servers routed alike, and what may differ between them.

Spread over GPUs, a sum is added up in another order, so a logit may differ in its last bits. The
oracle ranks by logit and, of equal ones, by id: two experts whose logits are closer than those bits
are a tie that either server may decide its own way. What a token takes then is another expert's work,
and from the next layer on nothing of this token, or of a later one that attends to it, is comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of the spread of a row's logits. Two real servers in float32 were 2e-6 off at most on a CPU, and 6e-6
# on two H100 (12 layers).
NOISE = 2e-5


@dataclass
class Compared:
    """``rows`` were compared, of ``of``; ``worst`` is by how much of its row's spread a logit was off;
    ``tied`` says of a prefill, by its length, from which row on its tokens may be others."""

    problems: list[str] = field(default_factory=list)
    layers: int = 0
    rows: int = 0
    of: int = 0
    ties: int = 0
    worst: float = 0.0
    tied: dict[int, int] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        return {**vars(self), "problems": self.problems[:8]}


Places = dict[tuple[int, int], list[Any]]
"""Stage and tensor-parallel rank -> what it kept (`live/recorder.py`), in the order of its calls."""


def read(folder: Path) -> Places:
    import torch

    found: Places = {}
    for path in sorted(folder.glob("*.pt")):
        kept = torch.load(path)
        found.setdefault(tuple(kept["place"]), []).append(kept)
    return found


def compare(one: Places, many: Places, lengths: list[int], tp: int, pp: int) -> Compared:
    """What one GPU kept against every rank of ``tp`` times ``pp``; each of ``lengths`` is the rows of
    one prefill, and of no other."""
    said = Compared()
    for rows in lengths:
        wanted = _layers(one, rows, 0, 1)
        for rank in range(tp):
            got = _layers(many, rows, rank, pp)
            where = f"prefill of {rows} tokens, tensor rank {rank}"
            if not wanted or len(got) != len(wanted):
                said.problems.append(f"{where}: {len(got)} layers routed, on one GPU {len(wanted)}")
                continue
            said.layers = len(wanted)
            said.of += rows * len(wanted)
            said.problems += [f"{where}, {problem}" for problem in _prefill(wanted, got, said)]
    return said


def _layers(places: Places, rows: int, rank: int, stages: int) -> list[Any]:
    """What all stages kept of a prefill, in the order of the model's layers."""
    return [
        kept
        for stage in range(stages)
        for kept in places.get((stage, rank), ())
        if len(kept["logits"]) == rows
    ]


def _prefill(wanted: list[Any], got: list[Any], said: Compared) -> Iterator[str]:
    """The first problem, if there is one: what follows from it would be told again in each layer."""
    rows = upto = len(wanted[0]["logits"])
    for layer, (one, many) in enumerate(zip(wanted, got, strict=True)):
        if upto == 0:
            break
        said.rows += upto
        a, b = one["logits"][:upto].double(), many["logits"][:upto].double()
        spread = (a.amax(-1) - a.amin(-1)).clamp_min(1e-30)
        off = (a - b).abs().amax(-1) / spread
        if not float(off.max()) <= NOISE:  # also where it is NaN
            row = int(off.argmax())
            yield f"layer {layer}: logits of row {row} are off by {float(off[row]):.1e} of their spread"
            return
        said.worst = max(said.worst, float(off.max()))
        mine, theirs = one["ids"][:upto].long(), many["ids"][:upto].long()
        other = (mine != theirs).any(-1).nonzero().flatten().tolist()
        for row in other:
            gap = (a[row][mine[row]] - a[row][theirs[row]]).abs().max() / spread[row]
            if float(gap) > 2 * NOISE:
                yield (
                    f"layer {layer}: row {row} goes to {theirs[row].tolist()}, on one GPU to "
                    f"{mine[row].tolist()}, and their logits are no tie"
                )
                return
        said.ties += len(other)
        upto = min([upto, *other])
    if upto < rows:
        said.tied[rows] = min(upto, said.tied.get(rows, upto))
