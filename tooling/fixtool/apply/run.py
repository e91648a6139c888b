"""The main job: a line of patches, on a ref, in a work tree, built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from packaging.version import Version

from fixtool.apply.worktree import Placed, Record, place, place_into, read_record
from fixtool.errors import UsageError
from fixtool.git.repo import Repo
from fixtool.progress import Progress
from fixtool.replay.run import Replay, replay
from fixtool.series.line import Line, PatchRepository, Upstream
from fixtool.series.lint import require_well_formed
from fixtool.settings import Settings
from fixtool.sources.source import Local, Source, Target, bring_base, open_source


@dataclass(frozen=True)
class Choice:
    """The line that fits a target, and why it was chosen, in words for a person."""

    line: Line
    why: str


@dataclass(frozen=True)
class Applied:
    """What `apply` did. ``placed`` is None where the replay failed or no place was wanted."""

    target: Target
    choice: Choice
    replay: Replay
    placed: Placed | None


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``ref`` None means the HEAD of ``into``, else the line's base."""

    ref: str | None = None
    source: str | None = None
    line: str | None = None
    worktree: Path | None = None
    into: Path | None = None
    dry_run: bool = False


def apply(
    repository: PatchRepository, settings: Settings, request: Request, progress: Progress
) -> Applied:
    """Replay the fitting line onto the wanted ref and put the result where it was asked for.

    Nothing is written outside fixtool's own folders unless every patch went in.
    """
    source, target = find_target(repository, settings, request, progress)
    choice = choose_line(repository, target, source.repo, request.line or settings.line)
    require_well_formed(choice.line)
    source.bring(target.commit, choice.line.paths)
    result = replay(
        source.repo,
        choice.line,
        target.commit,
        base=lambda: bring_base(source, choice.line.upstream, settings, progress),
        cache=settings.cache / "replay",
    )
    placed = None
    if result.ok and not request.dry_run:
        source.bring(target.commit, ())
        placed = _place(repository, settings, request, source, target, choice, result, progress)
    return Applied(target, choice, result, placed)


def choose_line(
    repository: PatchRepository, target: Target, repo: Repo, wanted: str | None
) -> Choice:
    """The line for ``target``: the one asked for; the one whose base it is; else the nearest by
    ancestry, by version, by date, in this order."""
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
    ahead = {line.name: repo.ahead_by(line.upstream.base, target.commit) for line in lines}
    near = [(count, line) for line in lines if (count := ahead[line.name]) is not None]
    if not near:
        return None
    count, line = min(near, key=lambda pair: pair[0])
    commits = "1 commit" if count == 1 else f"{count} commits"
    return Choice(line, f"{target.commit[:12]} is {commits} after its base")


def _by_version(lines: Sequence[Line], target: Target) -> Choice | None:
    """The newest line at or below the release; else the oldest above it."""
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


def find_target(
    repository: PatchRepository, settings: Settings, request: Request, progress: Progress
) -> tuple[Source, Target]:
    """The source that ``request`` names and the commit that its ref means there."""
    if request.into is not None:
        if request.source or request.worktree:
            raise UsageError(
                "--into is its own source and place: leave out --source and --worktree"
            )
        checkout = Local(request.into.resolve(), settings)
        record = read_record(checkout.theirs)
        ref = request.ref or "HEAD"
        if request.ref is None and record and checkout.theirs.head() == record.commit:
            ref = record.onto  # the series is in already: apply its newest state to the same base
        return checkout, checkout.resolve(ref)
    name = request.source or settings.source
    upstreams = {line.name: line.upstream for line in repository.lines}
    wanted = request.line or settings.line
    if wanted:
        upstreams = {wanted: repository.line(wanted).upstream}
    url = settings.url or next((one.url for one in upstreams.values()), "")
    source = open_source(
        name, settings, url, progress, [one.base for one in upstreams.values() if not one.release]
    )
    return source, source.resolve(request.ref or _own_base(upstreams, name))


def _own_base(upstreams: Mapping[str, Upstream], source: str) -> str:
    """The base of the only line: what `apply` without a ref means."""
    if len(upstreams) != 1:
        raise UsageError(
            "which commit? there is more than one line",
            hint=f"--sglang-ref SHA|TAG|RELEASE, or --line with one of: {', '.join(upstreams)}",
        )
    only = next(iter(upstreams.values()))
    return only.release if only.release and source == "pypi" else only.base


def _place(
    repository: PatchRepository,
    settings: Settings,
    request: Request,
    source: Source,
    target: Target,
    choice: Choice,
    result: Replay,
    progress: Progress,
) -> Placed:
    name = f"{result.line}-{target.commit[:12]}"
    folder = request.worktree
    branch = f"fixtool/{name}"
    if folder is not None:  # a branch can be checked out in one work tree only
        branch += f"-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]}"
    record = Record(
        line=result.line,
        patches=str(repository.root.resolve()),
        base=result.base,
        onto=target.commit,
        commit=result.commit,
        branch=branch,
        version=target.version or choice.line.upstream.version,
        release=target.version if target.release else None,
        commits={one.slug: one.commit for one in result.patches if one.commit},
    )
    if request.into is not None:
        assert isinstance(source, Local)
        return place_into(source.repo, source.theirs, record)
    if folder is None:
        home = repository.digest[:6]
        folder = settings.worktrees / f"{repository.root.name}-{home}" / name
        record = replace(record, branch=f"fixtool/{home}/{name}")
    return place(source.repo, folder, record, progress)
