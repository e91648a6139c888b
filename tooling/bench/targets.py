"""The targets: how fast fixtool must be, and whether it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import suite_four as four
import suite_history as history
import suite_series as series
import suite_start as start
import suite_verbs as verbs
from timing import Group

UNITS = {"wall": "seconds", "cpu": "CPU seconds", "peak": "MB"}


@dataclass(frozen=True)
class Target:
    """In ``group``, the ``quantity`` of ``row`` is at most ``most``: a multiple of that of
    ``against``, or a figure of its own if ``against`` is empty."""

    group: str
    row: str
    quantity: str
    most: float
    against: str = ""

    def __str__(self) -> str:
        if self.quantity == "growth":
            return f"growth: {self.row}: an exponent of at most {self.most:g}"
        unit = UNITS[self.quantity]
        if self.against:
            return (
                f"{self.group}: {self.row}: at most {self.most:g} of the {unit} of {self.against}"
            )
        return f"{self.group}: {self.row}: at most {self.most:g} {unit}"


def _of_series(size: int) -> list[Target]:
    group = f"series-{size}"
    return [
        Target(group, series.IMPORT, "cpu", 3, series.FORMAT_PATCH),
        Target(group, series.COLD, "cpu", 1.0, series.AM),
        Target(group, series.WARM, "cpu", 0.1, series.AM),
        Target(group, series.EDITED, "cpu", 0.1, series.AM),
        Target(group, series.MOVE, "cpu", 1.0, series.REBASE),
        Target(group, series.LINT, "cpu", 0.5, series.AM),
    ]


_OURS = (series.IMPORT, series.COLD, series.WARM, series.EDITED, series.MOVE, series.LINT)

TARGETS = [
    Target("start", "fixtool apply --dry-run, warm", "wall", 0.25),
    Target("start", "fixtool --version", "wall", 1.3, start.TYPER),
    Target("four-tmpfs", four.FIRST, "wall", 0.85, four.AM),
    Target("four-tmpfs", four.COLD, "wall", 0.85, four.AM),
    Target("four-tmpfs", four.WARM, "wall", 0.7, four.AM),
    Target("four-disk", four.FIRST, "wall", 0.65, four.AM),
    Target("four-disk", four.COLD, "wall", 0.65, four.AM),
    Target("four-disk", four.WARM, "wall", 0.6, four.AM),
    *_of_series(200),
    *_of_series(998),
    *(Target("series-998", row, "peak", 120) for row in _OURS),
    *(Target("growth", row, "growth", 1.1) for row in (series.IMPORT, series.COLD, series.MOVE,
                                                       series.LINT)),
    Target("history-four", history.COLD, "wall", 1.5),
    Target("history-four", history.WARM, "wall", 0.3),
    Target("history-torchspec", history.COLD, "cpu", 5),
    Target("history-slime", history.COLD, "wall", 15),
    Target("history-slime", history.WARM, "wall", 1),
    Target("releases", "fixtool coverage --releases, cold", "wall", 3),
    *(Target("verbs", f"fixtool {verb}", "wall", 1) for verb in verbs.VERBS),
]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What was measured for a target: a ratio, or a figure; None if it was not measured."""

    target: Target
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return round(self.measured, 2) <= self.target.most

    def __str__(self) -> str:
        words = {None: "not measured", True: "met", False: "NOT MET"}[self.met]
        figure = "" if self.measured is None else f" ({self.measured:.2f})"
        return f"{words}{figure}"


def answers(groups: Sequence[Group]) -> list[Answer]:
    """The answer to each target, in their order."""
    return [Answer(target, _measured(target, groups)) for target in TARGETS]


def growth(groups: Sequence[Group], name: str) -> float | None:
    """The power of the number of patches with which the CPU time of ``name`` grows, by least
    squares over the logarithms of all sizes. None if there are not two sizes."""
    points = []
    for group in groups:
        row = group.row(name)
        cpu = row.median("cpu") if row and group.key.startswith("series-") else None
        if cpu:
            points.append((math.log(int(group.key.removeprefix("series-"))), math.log(cpu)))
    if len(points) < 2:
        return None
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def _measured(target: Target, groups: Sequence[Group]) -> float | None:
    if target.quantity == "growth":
        return growth(groups, target.row)
    group = next((group for group in groups if group.key == target.group), None)
    row = group.row(target.row) if group else None
    value = row.median(target.quantity) if row else None
    if not target.against or value is None or group is None:
        return value
    other = group.row(target.against)
    reference = other.median(target.quantity) if other else None
    return value / reference if reference else None
