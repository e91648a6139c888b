"""The coverage: upstream's commits or releases from left to right, and each patch as a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from fixtool.judgement.covered import Coverage, CoveredPatch, CoveredRef
from fixtool.report._timeline import AxisTick, Columns, tick_rules, ticks

_LONGEST_LABEL = 14  # characters of a release below the bands


@dataclass(frozen=True)
class CoverageSegment:
    """Refs in a row with the same ``line`` and the same of one ``patch``, which is None if the line
    does not have it; it is ``lacking`` if it is needed there. ``first`` and ``last`` are the outer
    refs; ``points`` are where the segment begins and ends, counted in commits or releases. ``row``
    is the id of the first ref's row in the table, ``place`` the CSS class of the columns."""

    line: str
    patch: CoveredPatch | None
    lacking: bool
    first: CoveredRef
    last: CoveredRef
    points: tuple[int, int]
    row: str
    place: str

    @property
    def count(self) -> int:
        """The number of commits or releases."""
        return self.points[1] - self.points[0]


@dataclass(frozen=True)
class CoverageBands:
    """``lines`` is the band of the chosen lines, ``bands`` has one for each patch by its slug.
    ``css`` has the rules for the places. ``wide`` bands scroll inside the page."""

    lines: tuple[CoverageSegment, ...]
    bands: tuple[tuple[str, tuple[CoverageSegment, ...]], ...]
    ticks: tuple[AxisTick, ...]
    css: tuple[str, ...]
    wide: bool
    of_commits: bool


def coverage_bands(coverage: Coverage) -> CoverageBands | None:
    """The bands of ``coverage``; None if there is nothing to draw. Each commit or release has the
    same width, save that short runs are widened until they can be seen."""
    refs = coverage.refs
    if not refs:
        return None
    points = [0, *accumulate(ref.commits.count if ref.commits else 1 for ref in refs)]
    columns = Columns.between(points)
    lines = _segments(refs, points, columns, None)
    bands = tuple((slug, _segments(refs, points, columns, slug)) for slug in coverage.slugs)
    segments = [*lines, *(segment for _, band in bands for segment in band)]
    rules = {segment.place: columns.rule(segment.place, *segment.points) for segment in segments}
    starts = [
        (columns.percent[point], _label(ref, last=False))
        for point, ref in zip(points, refs, strict=False)
    ]
    axis = ticks(starts, _label(refs[-1], last=True))
    css = [
        f".cover .band{{{columns.template}}}.cover{{min-width:{columns.least_width}}}",
        *rules.values(), *tick_rules(axis),
    ]  # fmt: skip
    return CoverageBands(lines, bands, axis, tuple(css), columns.wide, refs[0].commits is not None)


def _segments(
    refs: Sequence[CoveredRef], points: Sequence[int], columns: Columns, slug: str | None
) -> tuple[CoverageSegment, ...]:
    """The band of the patch ``slug``; that of the lines alone if it is None."""
    patches = [
        next((patch for patch in ref.patches if patch.slug == slug), None) for ref in refs
    ]  # fmt: skip
    answers = [
        (ref.line, patch and (patch.verdict, patch.by), slug in ref.lacks)
        for ref, patch in zip(refs, patches, strict=True)
    ]
    segments = []
    for _, group in groupby(range(len(refs)), answers.__getitem__):
        begin, *rest = group
        first, last = refs[begin], refs[rest[-1] if rest else begin]
        ends = (points[begin], points[begin + 1 + len(rest)])
        place = f"k{columns.span(*ends)}"
        lacking = slug in first.lacks
        segments.append(
            CoverageSegment(
                first.line, patches[begin], lacking, first, last, ends, f"cover-{begin}", place
            )
        )
    return tuple(segments)


def _label(ref: CoveredRef, *, last: bool) -> str:
    """A release, or the day of the last commit of a run, or of its first."""
    if ref.commits:
        return (ref.commits.last if last else ref.commits.first).day
    return ref.ref[:_LONGEST_LABEL]
