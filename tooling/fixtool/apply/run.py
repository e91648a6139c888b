"""The main job: a line of patches, on a ref, in a work tree.

What only a work tree needs is imported inside functions: a dry run makes none, and mostly finds no
older one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fixtool.errors import FixtoolError, UsageError
from fixtool.judgement.line import Choice, choose_line
from fixtool.judgement.run import Judgement, JudgeRequest
from fixtool.profile import PLAIN, Profile
from fixtool.replay.run import Decisions, Replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.patch import is_slug
from fixtool.sources.resolve import Target
from fixtool.sources.source import Local, Source
from fixtool.sources.target import (
    TargetRequest,
    find_target,
    lines_of_clone,
    profile_of,
    upstream_url,
)

if TYPE_CHECKING:
    from fixtool.apply.worktree import Placed


@dataclass(frozen=True)
class Applied:
    """The result of ``apply``. ``placed`` is None if a patch needs a person, or on a dry run.
    ``newer`` says what has changed in the line since an older work tree there was made."""

    target: Target
    choice: Choice
    placed: Placed | None
    profile: Profile = PLAIN
    newer: str = ""

    @property
    def new_line(self) -> str:
        """A name for a line of its own for this target, which no line has."""
        ref, commit = self.target.ref, self.target.commit
        taken = (self.choice.line.folder.parent / ref).exists()
        return ref if is_slug(ref) and ref != commit and not taken else commit[:9]

    @property
    def ok(self) -> bool:
        """Whether nobody is needed."""
        return self.choice.ok

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the lines and of the place, one sentence each."""
        notes = list(self.choice.notes)
        if unread := self.judgement.unread:
            notes.append(f"upstream's history was not read: {unread}")
        if kept := self.placed and self.placed.kept:
            notes.append(f"commits of yours that were on this branch are in the branch {kept} now")
        return (*notes, *([self.newer] if self.newer else []))

    @property
    def judgement(self) -> Judgement:
        return self.choice.judgement

    @property
    def replay(self) -> Replay:
        return self.judgement.replay


@dataclass(frozen=True)
class ApplyRequest(TargetRequest):
    """What the user asked for. ``worktree`` is the folder of the new work tree (None: one of
    fixtool's own); ``into`` is the user's own checkout, whose HEAD is then the default ref;
    ``without`` are the slugs of patches that the user leaves out."""

    worktree: Path | None = None
    into: Path | None = None
    dry_run: bool = False
    without: Sequence[str] = ()


def apply(context: Context, request: ApplyRequest) -> Applied:
    """Apply the line that fits the wanted ref best to it, and put the result into a work tree.

    A patch that upstream has, or that is not needed there, is left out, and said to be. Nothing is
    written outside fixtool's own folders if a patch needs a person. Raises UsageError
    if the options contradict each other, Refused if the line is not well formed or the place is not
    clean, and CannotRun if the ref or its files cannot be had.
    """
    source, target = _find_target(context, request)
    decisions = left_out_by_hand(request.without)
    wanted = request.line or context.settings.line
    choice = choose_line(context, source, target, wanted, JudgeRequest(decisions))
    require_without(choice.line, decisions)
    placed, newer = None, ""
    if choice.ok and not request.dry_run:
        source.bring(target.commit, ())
        newer = _since(context, request.worktree) if request.worktree else ""
        placed = _place(context, request, source, target, choice)
    profile = profile_of(context.settings, choice.line.upstream, source.repo, target.commit)
    return Applied(target, choice, placed, profile, newer)


def left_out_by_hand(without: Sequence[str]) -> Decisions:
    """The decisions that leave out the patches ``without``, which the user named."""
    by_hand = PatchState(Verdict.LEFT_OUT, ("left out by hand",))
    return Decisions(dict.fromkeys((slug.removesuffix(".patch") for slug in without), by_hand))


def require_without(line: Line, decisions: Decisions) -> None:
    """Raise UsageError if ``line`` lacks a patch that ``decisions`` leave out, or has another that
    depends on it: that one would be put in broken."""
    without = decisions.left_out
    for slug in without:
        line.find(slug)
    for patch in line.patches:
        for slug in patch.depends_on:
            if slug in without and patch.slug not in without:
                raise UsageError(
                    f"{patch.slug} depends on {slug}, which is to be left out",
                    where=str(patch.path),
                    hint=f"leave both out: --without {slug} --without {patch.slug}",
                )


def _find_target(context: Context, request: ApplyRequest) -> tuple[Source, Target]:
    if request.into is None:
        return find_target(context, request)
    if request.source or request.worktree:
        raise UsageError("--into is its own source and place: leave out --source and --worktree")
    url = upstream_url(context, request.line)
    from fixtool.apply.worktree import read_record

    source = Local(request.into.resolve(), context.settings, url, context.progress)
    record = read_record(source.clone)
    ref = request.ref or "HEAD"
    if request.ref is None and record and source.clone.head() == record.commit:
        ref = record.onto  # the series is in already: apply its newest state to the same base
    lines = () if request.line else lines_of_clone(context, source)
    return source, replace(source.resolve(ref), lines=lines)


def _place(
    context: Context,
    request: ApplyRequest,
    source: Source,
    target: Target,
    choice: Choice,
) -> Placed:
    from fixtool.apply.worktree import OwnCommits, Record, place, place_into
    from fixtool.judgement.manifest import manifest_of

    repository, settings = context.repository, context.settings
    judgement = choice.judgement
    result = judgement.replay
    name = f"{result.line}-{target.commit[:12]}"
    folder = request.worktree
    branch = f"fixtool/{name}"
    if folder is not None:  # a branch can be checked out in one work tree only
        folder = folder.resolve()
        branch += f"-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
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
        source=target.source if request.source or request.into else None,
        manifest=manifest_of(
            choice.line,
            target.commit,
            (patch.result for patch in judgement.patches),
            {patch.slug: patch.culprit for patch in judgement.patches if patch.culprit},
        ),
    )
    if request.into is not None:
        assert isinstance(source, Local)
        return place_into(source.repo, source.clone, record, settings.timeout)
    if folder is None:
        home = repository.digest[:6]
        folder = settings.worktrees / f"{repository.root.name}-{home}" / name
        record = replace(record, branch=f"fixtool/{home}/{name}")
    try:
        return place(source.repo, folder, record, context.progress, settings.timeout)
    except OwnCommits as error:
        error.message += _whose(context, folder)
        error.args = (error.message,)
        raise


def _whose(context: Context, folder: Path) -> str:
    """What is newer in the work tree at ``folder``, and what in its line."""
    from fixtool.apply.sides import Side, state_of
    from fixtool.apply.worktree import open_worktree

    tree, record = open_worktree(folder)
    if record.line not in context.repository.line_names:
        return ""
    state = state_of(tree, record, context.repository.line(record.line))
    here = [patch.slug for patch in state.patches if patch.here is not Side.UNCHANGED]
    there = [patch.slug for patch in state.patches if patch.there is not Side.UNCHANGED]
    sides = ((here, "the work tree"), (there, "the line"))
    parts = [f"{', '.join(slugs)} {'is' if len(slugs) == 1 else 'are'} newer in {where}"
             for slugs, where in sides if slugs]  # fmt: skip
    return f": {', and '.join(parts)}" if parts else ""


def _since(context: Context, folder: Path) -> str:
    """What has changed in the line since the work tree at ``folder`` was made from it; empty if
    nothing has, or if there is no such work tree."""
    if not folder.is_dir():
        return ""
    from fixtool.apply.newer import newer_in
    from fixtool.apply.worktree import open_worktree

    with suppress(FixtoolError):
        tree, record = open_worktree(folder)
        if tree.work_tree == folder.resolve() and record.manifest:
            newer = newer_in(context.repository.line(record.line), tree, record)
            return f"since this work tree was made, {newer}" if newer else ""
    return ""
