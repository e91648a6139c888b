"""The main job: a line of patches, on a ref, in a work tree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.worktree import Placed, Record, place, place_into, read_record
from fixtool.errors import UsageError
from fixtool.judgement.line import Choice, choose_line
from fixtool.replay.run import Replay, replay
from fixtool.series.context import Context
from fixtool.series.lint import require_well_formed
from fixtool.sources.resolve import Target
from fixtool.sources.source import Local, Source
from fixtool.sources.target import TargetRequest, bring_base, find_target


@dataclass(frozen=True)
class Applied:
    """The result of ``apply``. ``placed`` is None if a patch did not apply, or on a dry run."""

    target: Target
    choice: Choice
    replay: Replay
    placed: Placed | None


@dataclass(frozen=True)
class ApplyRequest(TargetRequest):
    """What the user asked for. ``worktree`` is the folder of the new work tree (None: one of
    fixtool's own); ``into`` is the user's own checkout, whose HEAD is then the default ref."""

    worktree: Path | None = None
    into: Path | None = None
    dry_run: bool = False


def apply(context: Context, request: ApplyRequest) -> Applied:
    """Replay the line that fits the wanted ref onto it, and put the result into a work tree.

    Nothing is written outside fixtool's own folders unless every patch applies. Raises UsageError
    if the options contradict each other, Refused if the line is not well formed or the place is not
    clean, and CannotRun if the ref or its files cannot be had.
    """
    settings, progress = context.settings, context.progress
    source, target = _find_target(context, request)
    wanted = request.line or settings.line
    choice = choose_line(context.repository, target, source.repo, wanted)
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
        placed = _place(context, request, source, target, choice, result)
    return Applied(target, choice, result, placed)


def _find_target(context: Context, request: ApplyRequest) -> tuple[Source, Target]:
    if request.into is None:
        return find_target(context, request)
    if request.source or request.worktree:
        raise UsageError("--into is its own source and place: leave out --source and --worktree")
    source = Local(request.into.resolve(), context.settings)
    record = read_record(source.clone)
    ref = request.ref or "HEAD"
    if request.ref is None and record and source.clone.head() == record.commit:
        ref = record.onto  # the series is in already: apply its newest state to the same base
    return source, source.resolve(ref)


def _place(
    context: Context,
    request: ApplyRequest,
    source: Source,
    target: Target,
    choice: Choice,
    result: Replay,
) -> Placed:
    repository, settings = context.repository, context.settings
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
        commits={patch.slug: patch.commit for patch in result.patches if patch.commit},
    )
    if request.into is not None:
        assert isinstance(source, Local)
        return place_into(source.repo, source.clone, record)
    if folder is None:
        home = repository.digest[:6]
        folder = settings.worktrees / f"{repository.root.name}-{home}" / name
        record = replace(record, branch=f"fixtool/{home}/{name}")
    return place(source.repo, folder, record, context.progress)
