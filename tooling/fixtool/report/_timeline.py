"""The timeline: the history of each patch as a band over upstream's commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fixtool.history.result import Interval, PatchHistory
from fixtool.replay.verdict import Verdict

VERDICTS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.CLEAN: ("C", "applies as it lies"),
    Verdict.OFFSET: ("O", "applies, its lines had moved"),
    Verdict.MERGED: ("M", "applies by a three-way merge"),
    Verdict.ABSORBED: ("A", "upstream has it"),
    Verdict.PARTLY_ABSORBED: ("P", "upstream has a part of it"),
    Verdict.CONFLICT: ("X", "does not apply"),
    Verdict.BLOCKED: ("B", "fails only because an earlier patch did"),
    Verdict.REVERTED: ("R", "upstream had it and took it back"),
    Verdict.SUPERSEDED: ("S", "upstream cures its bug in another way"),
    Verdict.NOT_NEEDED: ("N", "its bug is not there"),
    Verdict.LEFT_OUT: ("L", "left out by hand"),
    Verdict.SKIPPED: ("K", "skipped by hand in a rebase"),
}
"""The letter and the meaning of each verdict: colour is never the only sign of it."""

_LETTERS = 32  # characters of a band in Markdown


@dataclass(frozen=True)
class Segment:
    """An interval as it is drawn. ``place`` is the CSS class of its columns, ``row`` the id of its
    row in the table."""

    interval: Interval
    row: str
    place: str


@dataclass(frozen=True)
class AxisTick:
    """A label below the bands, such as a date. ``small`` ticks are shown on a phone as well."""

    label: str
    place: str
    small: bool


@dataclass(frozen=True)
class Timeline:
    """``css`` has the rules for the places. A ``wide`` timeline needs more room than a screen has:
    it scrolls inside the page."""

    bands: tuple[tuple[PatchHistory, tuple[Segment, ...]], ...]
    ticks: tuple[AxisTick, ...]
    css: tuple[str, ...]
    wide: bool


@dataclass(frozen=True)
class Columns:
    """The columns of a band, of which some are widened so that they can be seen. ``percent`` is
    where each point between two columns lies, ``number`` the number of the column that begins
    there, from 1."""

    widths: tuple[float, ...]
    percent: Mapping[int, float]
    number: Mapping[int, int]

    @classmethod
    def between(cls, points: Sequence[int]) -> Columns:
        """Columns between ``points``, which are sorted, begin with 0 and are at least two."""
        least = points[-1] * min(0.016, 0.5 / len(points))
        widths = [max(after - before, least) for before, after in pairwise(points)]
        total = sum(widths)
        lefts = [100 * left / total for left in accumulate(widths, initial=0.0)]
        numbers = {point: number for number, point in enumerate(points, 1)}
        percents = tuple(100 * width / total for width in widths)
        return cls(percents, dict(zip(points, lefts, strict=True)), numbers)

    @property
    def wide(self) -> bool:
        """Whether there are more columns than a screen has room for."""
        return len(self.widths) > 50

    @property
    def least_width(self) -> str:
        """The CSS width that a band needs."""
        return f"{9 * len(self.widths)}px" if self.wide else "0"

    @property
    def template(self) -> str:
        """The CSS property that makes the columns."""
        return f"grid-template-columns:{' '.join(f'{width:.4f}fr' for width in self.widths)}"

    def span(self, first: int, last: int) -> str:
        """The columns from the point ``first`` to ``last``, as the end of a CSS class."""
        return f"{self.number[first]}-{self.number[last]}"

    def rule(self, place: str, first: int, last: int) -> str:
        """The CSS rules of the class ``place``, from the point ``first`` to ``last``."""
        start, end = self.percent[first], self.percent[last]
        side = f"left:{start:.3f}%" if start + end <= 100 else f"right:{100 - end:.3f}%"
        columns = f"{self.number[first]}/{self.number[last]}"
        return f".{place}{{grid-column:{columns}}}.{place} .tip{{{side}}}"


def timeline(patches: Sequence[PatchHistory]) -> Timeline | None:
    """The bands of ``patches``; None if there is nothing to draw.

    Each commit has the same width, since dates of authors are not in order and a maintainer asks
    which commit it was. A short interval is widened, for all patches alike, until it can be seen,
    so that one commit is at one place in every band.
    """
    borders = [[0, *accumulate(run.count for run in patch.intervals)] for patch in patches]
    points = sorted({point for edges in borders for point in edges})
    if len(points) < 2:
        return None
    columns = Columns.between(points)
    css = [f".band{{{columns.template}}}"]
    if columns.wide:
        css.append(f".bands{{min-width:{columns.least_width}}}")
    places: dict[tuple[int, int], str] = {}
    bands = []
    dates: dict[int, str] = {}
    for number, (patch, edges) in enumerate(zip(patches, borders, strict=True)):
        segments = []
        for row, (run, ends) in enumerate(zip(patch.intervals, pairwise(edges), strict=True)):
            place = places.setdefault(ends, f"c{columns.span(*ends)}")
            segments.append(Segment(run, f"p{number}-{row}", place))
            dates[ends[0]] = run.first.day
        bands.append((patch, tuple(segments)))
    css += [columns.rule(place, *ends) for ends, place in places.items()]
    longest = next(patch for patch, edges in zip(patches, borders, strict=True)
                   if edges[-1] == points[-1])  # fmt: skip
    starts = [(columns.percent[edge], dates[edge]) for edge in sorted(dates)]
    axis = ticks(starts, longest.now.last.day)
    css += tick_rules(axis)
    return Timeline(tuple(bands), axis, tuple(css), columns.wide)


def tick_rules(axis: Sequence[AxisTick]) -> list[str]:
    """The CSS rules that put each tick at its place."""
    return [f".{tick.place}{{left:{tick.place[1:].replace('_', '.')}%}}" for tick in axis]


def ticks(starts: Sequence[tuple[float, str]], end: str) -> tuple[AxisTick, ...]:
    """The labels of both ends, and of as many starts (percent, label) as have room: a date takes a
    quarter of a phone's width and an eighth of a desktop's."""
    small = _spread(starts, [], 29)
    large = _spread(starts, small, 14.5)
    chosen = [
        (0.0, starts[0][1]),
        *(start for start in starts if start[0] in {*small, *large}),
        (100.0, end),
    ]
    return tuple(
        AxisTick(date, f"t{x:.3f}".replace(".", "_"), x in {0.0, 100.0, *small})
        for x, date in chosen
    )


def _spread(
    starts: Sequence[tuple[float, str]], taken: Sequence[float], apart: float
) -> list[float]:
    """Places for labels at least ``apart`` from each other and from those ``taken``. The labels at
    the ends lie inside the band, so they reach half a label further."""
    chosen: list[float] = []
    for x, _ in starts:
        others = (*taken, *chosen)
        if min(x, 100 - x) >= 1.45 * apart and all(abs(x - other) >= apart for other in others):
            chosen.append(x)
    return chosen


def letters(patch: PatchHistory) -> str:
    """A band of letters, the last one for the newest commit. An interval that is too short for a
    letter is left to the table."""
    ends = list(accumulate(run.count for run in patch.intervals))
    samples = (max(0, ends[-1] * n // _LETTERS - 1) for n in range(1, _LETTERS + 1))
    runs = [
        next(run for run, end in zip(patch.intervals, ends, strict=True) if end > at)
        for at in samples
    ]
    return "".join(VERDICTS[run.verdict][0] for run in runs)
