"""A line on releases of the package index: the matrix of patch and release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.version import Version

from fixtool.documents import Field
from fixtool.errors import UsageError
from fixtool.git.objects import Oid
from fixtool.progress import Progress
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from fixtool.series.line import Line
from fixtool.settings import Settings
from fixtool.sources import index
from fixtool.sources.source import Releases, Source
from fixtool.sources.target import bring_base


@dataclass(frozen=True)
class Cell:
    version: str
    verdict: Verdict
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseRow:
    """One patch on every release, oldest first."""

    slug: str
    subject: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ReleaseMatrix:
    versions: tuple[str, ...]
    patches: tuple[ReleaseRow, ...]


def matrix(
    line: Line,
    span: str,
    settings: Settings,
    progress: Progress,
    git: Callable[[], Source],
) -> ReleaseMatrix:
    """Replay ``line`` onto every release in ``span``, ``OLDEST..NEWEST``. ``git`` opens a source
    that has the line's base, where that is no release itself."""
    versions = _within(span, index.versions(settings.project))
    releases = Releases(settings, progress)

    def base() -> Oid:
        if line.upstream.release or releases.repo.has(line.upstream.base):
            return bring_base(releases, line.upstream, settings, progress)
        source = git()
        source.ensure(line.upstream.base)
        source.bring(line.upstream.base, ())
        releases.repo.borrow(source.repo)
        return line.upstream.base

    columns = []
    with progress.task(f"judging {len(versions)} releases", len(versions)) as task:
        for version in versions:
            onto = releases.release(version).commit
            done = replay(releases.repo, line, onto, base=base, cache=settings.cache / "replay")
            columns.append(done.patches)
            task.advance(1)
    rows = tuple(
        ReleaseRow(
            patch.slug,
            patch.subject,
            tuple(
                Cell(version, column[number].verdict, column[number].evidence)
                for version, column in zip(versions, columns, strict=True)
            ),
        )
        for number, patch in enumerate(line.patches)
    )
    return ReleaseMatrix(versions, rows)


def read_matrix(matrix: Field) -> ReleaseMatrix:
    """The matrix at a key of a JSON document. Raises FieldError if it is malformed."""
    versions = matrix["versions"].texts()

    def read_cell(cell: Field) -> Cell:
        version = cell["version"].text()
        if version not in versions:
            raise cell["version"].wrong("one of the versions")
        return Cell(version, cell["verdict"].member(Verdict), cell["evidence"].texts())

    def read_row(row: Field) -> ReleaseRow:
        return ReleaseRow(row["slug"].text(), row["subject"].text(), row["cells"].each(read_cell))

    return ReleaseMatrix(versions, matrix["patches"].each(read_row))


def _within(span: str, known: Sequence[str]) -> tuple[str, ...]:
    oldest, dots, newest = span.partition("..")
    if not dots:
        raise UsageError(f"{span!r} is no span of releases", hint="--releases 0.5.12..0.5.23")
    low = index.parse_version(oldest) if oldest else Version("0")
    high = index.parse_version(newest) if newest else None
    found = tuple(
        one
        for one in known
        if low <= Version(one)
        and (high is None or Version(one) <= high)
        and not Version(one).is_prerelease
    )
    if not found:
        raise UsageError(
            f"no release with a wheel lies in {span}", hint=f"there are {known[0]}..{known[-1]}"
        )
    return found
