"""The history of a line between two commits of a source."""

from __future__ import annotations

from fixtool.errors import UsageError
from fixtool.git.objects import Oid
from fixtool.history._results import KeptHistory
from fixtool.history.recorded import claims_of
from fixtool.history.result import History
from fixtool.history.run import history
from fixtool.replay.run import Earlier
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base


def trace(
    context: Context,
    source: Source,
    line: Line,
    start: Oid,
    end: Oid,
    earlier: Earlier | None = None,
) -> History:
    """The history of ``line`` from commit ``start`` to commit ``end``, which ``source`` brings.
    ``earlier`` is what replays of the line in its store have found.

    Raises UsageError, which says why there is no history, if the line is for a release or if
    ``end`` does not descend from ``start``; CannotRun if the history cannot be fetched.
    """
    if line.upstream.release:
        raise UsageError(
            f"line {line.name} is for a release, and releases have no commits between them",
            hint=f"fixtool history --line {line.name} --releases {line.upstream.release}..",
        )
    cache = context.settings.cache / "history"
    kept = KeptHistory(cache, source.repo, line, start, end)
    if known := kept.load():
        return known
    source.ensure(start)
    since = source.repo.read_commit(start).committer.day
    source.bring_history(start, end, since.isoformat())
    bring_base(source, line.upstream, context.settings, context.progress)
    commits = source.commits(end) if _names_commits(line) else None
    found = history(
        source.repo, line, start, end, context.progress,
        bring=source.bring_blobs, cache=cache, commits_of=commits, earlier=earlier,
    )  # fmt: skip
    kept.store(found, commits)
    return found


def _names_commits(line: Line) -> bool:
    """Whether a patch of the line names commits of upstream, which are then looked up."""
    return any(claims_of(patch) for patch in line.patches)
