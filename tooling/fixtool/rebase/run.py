"""Rebase: moves a line to another upstream commit without losing a patch.

First everything is found out and decided, and only then is anything written: the new line is built
whole in the object database, put beside the old one, swapped in, and committed alone. A conflict
stops the rebase with ``patches/`` untouched. A person resolves it in a work tree, and the rebase
goes on by replaying the series with that resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.waiting import require_nothing_waits
from fixtool.errors import Refused, UsageError
from fixtool.git.repo import Repo
from fixtool.judgement.run import commit_before
from fixtool.rebase._decide import intent_of, outcomes_of, range_diff, warnings_of
from fixtool.rebase._facts import Facts, gather
from fixtool.rebase._record import recorded_files
from fixtool.rebase._write import write_line
from fixtool.rebase.places import open_hunks, places_of
from fixtool.rebase.result import AskProbes, ParkedPatch, PatchOutcome, Rebased
from fixtool.rebase.session import (
    HandDecisions,
    Session,
    decisions_so_far,
    end_session,
    forget_given_up,
    packed,
    park,
    parked_worktree,
    read_resolution,
    remembered_skip,
    save_session,
    skip_of,
    waiting_session,
)
from fixtool.replay.run import Replay, on_own_base
from fixtool.series.commit import (
    committer,
    digest_of_folder,
    open_git,
    require_committed,
)
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.lint import require_well_formed
from fixtool.series.patch import is_slug, slugify
from fixtool.sources.resolve import Target, version_of
from fixtool.sources.source import Local, Source
from fixtool.sources.target import TargetRequest, find_target
from fixtool.text import argument


@dataclass(frozen=True)
class RebaseRequest:
    """What the user asked for. ``probe`` runs each patch's own probe too, in ``python``; ``accept``
    goes on with a remembered resolution instead of waiting until a person has looked at it;
    ``range_diff`` also tells how each patch has changed, which takes a while."""

    onto: str
    source: str | None = None
    line: str | None = None
    new_line: str | None = None
    dry_run: bool = False
    probe: bool = False
    python: str | None = None
    accept: bool = False
    range_diff: bool = True


def rebase(context: Context, request: RebaseRequest, ask: AskProbes | None = None) -> Rebased:
    """Move a line onto ``request.onto``. ``ask`` runs its probes.

    Raises Refused if the folder of the line holds changes that are not committed, or if an earlier
    rebase of the line waits for a person; UsageError for a line that does not exist, or a new one
    that does.
    """
    repository = context.repository
    line = repository.pick(request.line or context.settings.line)
    waiting = None if request.dry_run else waiting_session(context, line.name)
    if waiting:
        raise Refused(
            f"a rebase of line {line.name} waits at {waiting.slug}",
            where=waiting.worktree,
            hint="go on: fixtool rebase --continue; or leave the patch out: fixtool rebase --skip; "
            "or give it up: fixtool rebase --abort",
        )
    if not request.dry_run:
        require_nothing_waits(context, line.name)
    if request.new_line and request.new_line in repository.line_names:
        raise UsageError(
            f"there is a line {request.new_line!r} already",
            where=str(repository.line(request.new_line).folder),
            hint="--new-line OTHER-NAME",
        )
    if request.new_line and not is_slug(request.new_line):
        raise UsageError(
            f"{request.new_line!r} cannot be the name of a line, which is a folder of patches/",
            hint=f"--new-line {slugify(request.new_line)}",
        )
    require_well_formed(line, context.settings.cache / "patches")
    wanted = TargetRequest(request.onto, request.source, line.name)
    source, target = find_target(context, wanted)
    return _move(context, request, line, source, target, HandDecisions(), ask)


def resume(
    context: Context,
    session: Session,
    ask: AskProbes | None = None,
    *,
    skip: str | None = None,
    accept: bool = False,
    range_diff: bool = True,
) -> Rebased:
    """Go on with a rebase that waits: with the resolution that its work tree holds, or, given a
    reason to ``skip``, without the patch, which is kept on the shelf.

    Raises Refused if the work tree holds no resolution yet, or if the line has changed meanwhile: a
    resolution is a whole tree, and would take back what an earlier patch has gained since.
    """
    source, target = _target_of(context, session)
    open_git(context.repository.root)
    if _is_written(context, session):
        # A run was killed after it had written the line, perhaps while it removed the work tree.
        end_session(context, session)
        return Rebased(
            session.line, session.new_line, session.onto, target.commit, target.ref, target.source
        )
    line = context.repository.line(session.line)
    _require_unchanged(line, session)
    decided = _decided(session, skip)
    request = RebaseRequest(
        session.onto, session.source, session.line, session.new_line,
        probe=session.probe, python=session.python, accept=accept, range_diff=range_diff,
    )  # fmt: skip
    rebased = _move(context, request, line, source, target, decided, ask)
    if skip is not None and skip == session.skipped_before:
        again = f"{session.slug}: skipped, as it was skipped before: {skip}"
        rebased = replace(rebased, warnings=(again, *rebased.warnings))
    if rebased.parked is None:
        end_session(context, session)
        forget_given_up(context, decided.resolutions)
    return rebased


def _target_of(context: Context, session: Session) -> tuple[Source, Target]:
    """The source of a rebase that waits, and the commit that it moves to, as it was named."""
    # The package index knows a release by its version, not by the commit that it became.
    ref = session.ref if session.source == "pypi" else session.onto
    source, target = find_target(context, TargetRequest(ref, session.source, session.line))
    version = target.version or version_of(session.ref)  # the commit alone does not tell it
    return source, replace(target, ref=session.ref, version=version)


def _is_written(context: Context, session: Session) -> bool:
    """Whether the line that a rebase writes is on its new base already."""
    repository, name = context.repository, session.new_line or session.line
    return name in repository.line_names and repository.line(name).upstream.base == session.onto


def _require_unchanged(line: Line, session: Session) -> None:
    """Raise Refused if somebody has changed the line since the rebase began."""
    at = f"git -C {argument(session.worktree)}"
    if session.before not in (None, digest_of_folder(line.folder)):
        raise Refused(
            f"line {line.name} has changed since the rebase began",
            where=str(line.folder),
            hint=f"keep the edits: {at} diff HEAD > FILE; then end it: fixtool rebase --abort "
            f"--line {line.name}; then begin again, where what you resolved is offered: "
            f"fixtool rebase --line {line.name} --onto {session.onto}",
        )


def _decided(session: Session, skip: str | None) -> HandDecisions:
    """What was decided by hand so far: with the resolution that the work tree holds, or, given a
    reason to ``skip``, without the patch. Raises Refused if the work tree holds none yet."""
    decided = decisions_so_far(session)
    if skip is None:
        decided.resolved[session.slug], learned = read_resolution(session)
        decided.resolutions.update(learned)
    else:
        decided.skipped[session.slug] = skip
        name, text = skip_of(session, skip)
        decided.resolutions[name] = text
    return decided


def _move(
    context: Context,
    request: RebaseRequest,
    line: Line,
    source: Source,
    target: Target,
    decided: HandDecisions,
    ask: AskProbes | None,
) -> Rebased:
    into = None if request.dry_run else open_git(context.repository.root)
    rebased = Rebased(
        line.name, request.new_line, line.upstream.base, target.commit, target.ref, target.source,
        request.dry_run,
    )  # fmt: skip
    if line.upstream.base == target.commit and not request.new_line:
        return rebased
    if into:
        require_committed(into, line.folder)
        committer(into)  # raises before the work if git does not know who commits
    facts = gather(context, line, source, target, decided, ask)
    judgement = facts.judgement
    result = judgement.replay
    outcomes = outcomes_of(facts, judgement.patches, decided.skipped)
    warnings = tuple(warnings_of(facts, outcomes))
    rebased = replace(rebased, outcomes=outcomes, warnings=warnings)
    if stopped := rebased.stopped_at:
        if request.dry_run:
            return rebased
        session = _park(context, request, facts, result, stopped, decided)
        if request.accept and (session.remembered or session.skipped_before):
            skip = None if session.remembered else session.skipped_before
            return resume(
                context, session, ask, skip=skip, accept=True, range_diff=request.range_diff
            )
        return replace(rebased, parked=_parked(facts, session, stopped))
    rebased = replace(
        rebased, moved=True, tree=result.tree, commit=result.commit,
        range_diff=range_diff(facts, outcomes) if request.range_diff else "",
    )  # fmt: skip
    if request.dry_run:
        return rebased
    learned = recorded_files(facts, outcomes, ask)
    committed = write_line(context.repository, facts, rebased, learned, decided.resolutions, into)
    kept = (facts.patch(outcome.result.slug) for outcome in outcomes if outcome.result.commit)
    provable = any(patch.trailer("Probe") for patch in kept)
    return replace(rebased, committed=committed, provable=provable)


def _parked(facts: Facts, session: Session, stopped: PatchOutcome) -> ParkedPatch:
    """What a person is told of the patch that waits, and where to look."""
    tree, folder, conflicts = (
        Repo.open(Path(session.worktree)), Path(session.worktree), session.conflicts
    )  # fmt: skip
    return ParkedPatch(
        session.worktree, session.slug, session.position, session.of, conflicts,
        session.remembered, stopped.culprit, intent_of(facts, stopped),
        places_of(tree, folder, conflicts),
        open_hunks(tree, folder, session.parent, facts.patch(session.slug), stopped.result,
                   conflicts),
        session.skipped_before,
    )  # fmt: skip


def _park(
    context: Context,
    request: RebaseRequest,
    facts: Facts,
    result: Replay,
    stopped: PatchOutcome,
    decided: HandDecisions,
) -> Session:
    """Make the work tree in which the patch that stopped the rebase is resolved."""
    slug = stopped.result.slug
    source, target = facts.source, facts.target
    # A path is named as it is from any folder.
    given = request.source or context.settings.source
    again = source.name if isinstance(source, Local) else given or source.name
    base = facts.line.upstream.base
    commit, _ = on_own_base(source.repo, facts.extended, slug, base, facts.judgement.earlier)
    parent, folder = commit_before(result, slug), parked_worktree(context, facts.line.name)
    parked = park(context, source.repo, facts.line, parent, commit)
    before = remembered_skip(context, facts.line, slug, target.commit, parked.memory)
    session = Session(
        line=facts.line.name,
        patches=str(context.repository.root.resolve()),
        ref=target.ref,
        onto=target.commit,
        source=again,
        store=str(source.repo.git_dir),
        worktree=str(folder),
        parent=parent,
        slug=slug,
        position=1 + [patch.slug for patch in result.patches].index(slug),
        of=len(result.patches),
        conflicts=parked.conflicts,
        memory=parked.memory,
        merged=parked.merged,
        unmerged=parked.unmerged,
        new_line=request.new_line,
        probe=request.probe,
        python=request.python,
        remembered=not parked.conflicts,
        resolved=decided.resolved,
        skipped=decided.skipped,
        learned=packed(decided.resolutions),
        before=digest_of_folder(facts.line.folder),
        skipped_before=before if parked.conflicts else None,
    )
    save_session(context, session)
    return session
