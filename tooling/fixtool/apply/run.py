"""The main job: a line of patches, on a ref, in a work tree, built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.worktree import Placed, Record, place, place_into, read_record
from fixtool.errors import UsageError
from fixtool.judgement.line import Choice, choose_line
from fixtool.progress import Progress
from fixtool.replay.run import Replay, replay
from fixtool.series.line import PatchRepository, Upstream
from fixtool.series.lint import require_well_formed
from fixtool.settings import Settings
from fixtool.sources.source import Local, Source, Target, bring_base, open_source


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
