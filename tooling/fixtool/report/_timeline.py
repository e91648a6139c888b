"""Bands: each patch over upstream's commits, as columns that are the same for all patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fixtool.replay.verdict import Verdict
from fixtool.report.documents import Interval, PatchHistory

WORDS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.CLEAN: ("C", "applies as it lies"),
    Verdict.OFFSET: ("O", "applies, its lines had moved"),
    Verdict.MERGED: ("M", "applies by a three-way merge"),
    Verdict.ABSORBED: ("A", "upstream has it"),
    Verdict.PARTLY_ABSORBED: ("P", "upstream has a part of it"),
    Verdict.CONFLICT: ("X", "does not apply"),
    Verdict.BLOCKED: ("B", "fails only because an earlier patch did"),
    Verdict.REVERTED: ("R", "upstream had it and took it back"),
    Verdict.SUPERSEDED: ("S", "does not apply, and its probe says that the bug is gone"),
    Verdict.NOT_NEEDED: ("N", "applies, and its probe says that the bug is not there"),
}
"""The letter and the meaning of each verdict: colour is never the only sign."""

_DRAWN = 32  # characters of a band in Markdown


@dataclass(frozen=True)
class Segment:
    """One interval as drawn; ``place`` is the class that says where, ``row`` its line in the
    table."""

    interval: Interval
    row: str
    place: str


@dataclass(frozen=True)
class AxisTick:
    """``small``: there is room for it on a phone as well."""

    label: str
    place: str
    small: bool


@dataclass(frozen=True)
class Picture:
    """``css`` are the rules of this picture's places; ``wide``: it needs more room than a screen
    has, and scrolls within itself."""

    bands: tuple[tuple[PatchHistory, tuple[Segment, ...]], ...]
    ticks: tuple[AxisTick, ...]
    css: tuple[str, ...]
    wide: bool


def picture(patches: Sequence[PatchHistory]) -> Picture | None:
    """Bands by commit, each as wide as any other: authors' dates go back and forth, and what a
    maintainer asks is which commit. A short run is widened until it can be seen, for all patches
    alike, so that one commit is one place in every band."""
    borders = [[0, *accumulate(span.count for span in one.intervals)] for one in patches]
    points = sorted({point for one in borders for point in one})
    if len(points) < 2:
        return None
    share = max(points) * min(0.016, 0.5 / len(points))
    widths = [max(after - before, share) for before, after in pairwise(points)]
    at = dict(zip(points, accumulate(widths, initial=0.0), strict=True))
    total = at[points[-1]]
    percent = {point: 100 * x / total for point, x in at.items()}
    column = {point: number for number, point in enumerate(points, 1)}
    wide = len(widths) > 50
    css = [f".band{{grid-template-columns:{' '.join(f'{100 * w / total:.4f}fr' for w in widths)}}}"]
    if wide:
        css.append(f".bands{{min-width:{9 * len(widths)}px}}")
    places: dict[tuple[int, int], str] = {}
    bands = []
    for number, (patch, edges) in enumerate(zip(patches, borders, strict=True)):
        segments = []
        for row, (span, ends) in enumerate(zip(patch.intervals, pairwise(edges), strict=True)):
            place = places.setdefault(ends, f"c{column[ends[0]]}-{column[ends[1]]}")
            segments.append(Segment(span, f"p{number}-{row}", place))
        bands.append((patch, tuple(segments)))
    for (first, last), place in places.items():
        left = percent[first] + percent[last] <= 100
        side = f"left:{percent[first]:.3f}%" if left else f"right:{100 - percent[last]:.3f}%"
        css.append(f".{place}{{grid-column:{place[1:].replace('-', '/')}}}.{place} .tip{{{side}}}")
    dates = {
        edge: span.first.date
        for one, edges in zip(patches, borders, strict=True)
        for edge, span in zip(edges, one.intervals, strict=False)
    }
    end = next(
        one.intervals[-1].last.date
        for one, edges in zip(patches, borders, strict=True)
        if edges[-1] == points[-1]
    )
    ticks = _ticks([(percent[edge], dates[edge]) for edge in sorted(dates)], end)
    css += [f".{one.place}{{left:{one.place[1:].replace('_', '.')}%}}" for one in ticks]
    return Picture(tuple(bands), ticks, tuple(css), wide)


def _ticks(known: Sequence[tuple[float, str]], end: str) -> tuple[AxisTick, ...]:
    """Dates where something began, as many as have room: a date takes a quarter of a phone's width,
    an eighth of a desktop's. The two ends always."""
    small = _spread(known, [], 29)
    large = _spread(known, small, 14.5)
    chosen = [
        (0.0, known[0][1]),
        *(one for one in known if one[0] in {*small, *large}),
        (100.0, end),
    ]
    return tuple(
        AxisTick(date, f"t{x:.3f}".replace(".", "_"), x in {0.0, 100.0, *small})
        for x, date in chosen
    )


def _spread(
    known: Sequence[tuple[float, str]], taken: Sequence[float], apart: float
) -> list[float]:
    """The ends' labels lie inside the band, so they reach half a label further."""
    chosen: list[float] = []
    for x, _ in known:
        others = (*taken, *chosen)
        if min(x, 100 - x) >= 1.45 * apart and all(abs(x - one) >= apart for one in others):
            chosen.append(x)
    return chosen


def letters(patch: PatchHistory) -> str:
    """A band of letters, the last of them the newest commit's; what is too short for one is left to
    the table."""
    total = sum(span.count for span in patch.intervals)
    ends = list(accumulate(span.count for span in patch.intervals))
    return "".join(
        WORDS[next(s for s, end in zip(patch.intervals, ends, strict=True) if end > at).verdict][0]
        for at in (max(0, total * n // _DRAWN - 1) for n in range(1, _DRAWN + 1 if total else 1))
    )
