"""Chooses the line of patches that fits an upstream commit best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from packaging.version import Version

from fixtool.errors import UsageError
from fixtool.git.repo import Repo
from fixtool.series.line import Line, PatchRepository
from fixtool.sources.resolve import Target
from fixtool.text import count


@dataclass(frozen=True)
class Choice:
    """A line, and the reason why it was chosen, as a person reads it."""

    line: Line
    why: str


def choose_line(
    repository: PatchRepository, target: Target, repo: Repo, wanted: str | None
) -> Choice:
    """The line ``wanted``; without a wish, the line whose base is ``target``, or else the nearest
    by ancestry, by version or by date, in this order. ``repo`` holds the target's commit.

    Raises UsageError if there is no line at all, or none of the name ``wanted``.
    """
    if wanted:
        return Choice(repository.line(wanted), "asked for")
    lines = repository.lines
    if not lines:
        raise UsageError(f"{repository.folder} has no line", hint="fixtool init starts one")
    for line in lines:
        if target.commit == line.upstream.base or target.tree == line.upstream.tree:
            return Choice(line, "its base is this very commit")
    if len(lines) == 1:
        return Choice(lines[0], "the only line")
    return (
        _by_ancestry(lines, target, repo)
        or _by_version(lines, target)
        or _by_date(lines, target, repo)
    )


def _by_ancestry(lines: Sequence[Line], target: Target, repo: Repo) -> Choice | None:
    """The line with the fewest commits from its base to the target; None if the target descends
    from no base."""
    distances = [(repo.ahead_by(line.upstream.base, target.commit), line) for line in lines]
    descending = [(distance, line) for distance, line in distances if distance is not None]
    if not descending:
        return None
    distance, line = min(descending, key=lambda pair: pair[0])
    return Choice(line, f"{target.commit[:12]} is {count(distance, 'commit')} after its base")


def _by_version(lines: Sequence[Line], target: Target) -> Choice | None:
    """The line of the newest release at or below the target's, or else of the oldest above it; None
    if the target is no release."""
    if target.version is None:
        return None
    wanted = Version(target.version)
    ordered = sorted(lines, key=lambda line: (Version(line.upstream.version), line.upstream.date))
    below = [line for line in ordered if Version(line.upstream.version) <= wanted]
    line = below[-1] if below else ordered[0]
    return Choice(line, f"its release {line.upstream.version} is nearest to {target.version}")


def _by_date(lines: Sequence[Line], target: Target, repo: Repo) -> Choice:
    day = repo.read_commit(target.commit).committer.day
    line = min(lines, key=lambda line: abs(date.fromisoformat(line.upstream.date) - day))
    return Choice(line, f"its base of {line.upstream.date} is nearest in time to {day}")
