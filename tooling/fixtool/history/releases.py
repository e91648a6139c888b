"""The patches of a line on releases of the package index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from fixtool.documents import Field
from fixtool.errors import UsageError
from fixtool.git.objects import Oid
from fixtool.replay.verdict import Verdict
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.source import Releases, open_source
from fixtool.sources.target import bring_base, commit_source
from fixtool.text import argument


@dataclass(frozen=True)
class Cell:
    """One patch on one release."""

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
    """The patches of a line on releases, whose ``versions`` are in order, oldest first."""

    versions: tuple[str, ...]
    patches: tuple[ReleaseRow, ...]


def judge_releases(context: Context, line: Line, span: str, source: str | None) -> ReleaseMatrix:
    """Replay ``line`` onto every release in ``span``, ``OLDEST..NEWEST``. ``source`` names where
    the line's base comes from if that is no release.

    Raises UsageError if no release lies in ``span``.
    """
    # Imported here because who only reads a matrix needs none of it.
    from fixtool.history._on_releases import judge_on
    from fixtool.sources import index

    progress, upstream = context.progress, line.upstream
    settings = upstream.settings(context.settings)
    versions = releases_within(span, index.versions(settings.indexed))
    releases = Releases(settings, progress)

    def bring() -> Oid:
        if upstream.release or releases.repo.has(upstream.base):
            return bring_base(releases, upstream, settings, progress)
        name = commit_source(settings) if source in (None, "pypi") else source
        opened = open_source(name, settings, settings.url or upstream.url, progress)
        opened.ensure(upstream.base)
        opened.bring(upstream.base, ())
        releases.repo.borrow(opened.repo)
        return upstream.base

    commits = []
    with progress.task(f"reading {len(versions)} releases", len(versions)) as task:
        for version in versions:
            commits.append(releases.release(version).commit)
            task.advance(1)
    verdicts = judge_on(releases.repo, line, commits, bring, settings.cache / "history", progress)
    rows = []
    for position, patch in enumerate(line.patches):
        cells = (
            Cell(version, state.verdict, state.evidence)
            for version, commit in zip(versions, commits, strict=True)
            for state in (verdicts[commit][position],)
        )
        rows.append(ReleaseRow(patch.slug, patch.subject, tuple(cells)))
    return ReleaseMatrix(versions, tuple(rows))


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


def _end(text: str, better: str) -> Version:
    """The release ``text`` at an end of a span. Raises UsageError if it is none, and names a
    ``better`` span."""
    from fixtool.sources import index

    try:
        return index.parse_version(text)
    except UsageError as error:
        error.message = f"{error.message}, and --releases takes a span such as {better}"
        error.hint = f"--releases {better}"
        raise


def releases_within(span: str, known: Sequence[str]) -> tuple[str, ...]:
    """The ``known`` versions in ``span``, ``OLDEST..NEWEST``; no pre-release is among them. Raises
    UsageError if ``span`` is no span, or no version lies in it."""
    oldest, dots, newest = span.partition("..")
    if not dots:
        raise UsageError(
            f"{span!r} is no span of releases", hint=f"--releases OLDEST..{argument(span)}"
        )
    low = _end(oldest, f"{known[0]}..{newest}") if oldest else Version("0")
    high = _end(newest, f"{oldest}..{known[-1]}") if newest else None
    if high is not None and high < low:
        raise UsageError(
            f"{newest} comes before {oldest}: the span is the wrong way round",
            hint=f"turn it round: --releases {newest}..{oldest}",
        )
    versions = tuple(
        version
        for version in known
        if low <= Version(version)
        and (high is None or Version(version) <= high)
        and not Version(version).is_prerelease
    )
    if not versions:
        raise UsageError(
            f"no release with a wheel lies in {span}; there are {known[0]}..{known[-1]}",
            hint=f"--releases {known[0]}..{known[-1]}",
        )
    return versions
