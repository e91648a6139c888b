"""What a rebase knows before it decides: the judgement of its line, and the patches to restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property

from fixtool.errors import CannotRun, UsageError
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.history.trace import trace
from fixtool.judgement.run import Judgement, JudgeRequest, is_explained, is_needed, judge
from fixtool.rebase.result import AskProbes
from fixtool.rebase.session import HandDecisions
from fixtool.replay.run import Decisions
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.facts import FactKind, RecordedFact, facts_of
from fixtool.series.line import Entry, Line
from fixtool.series.patch import Patch
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base

_CURES = {
    shelf.Reason.ABSORBED: FactKind.APPLIED,
    shelf.Reason.SUPERSEDED: FactKind.SUPERSEDED,
}


class Restored(Enum):
    """Why a patch comes back from the shelf."""

    BUG_IS_THERE = auto()  # it was not, where the patch was put on the shelf
    TAKEN_BACK = auto()  # upstream had the patch or another cure, and has it no more
    BEFORE = auto()  # the target is from before that


@dataclass(frozen=True)
class Facts:
    """``line`` on the target of a rebase. ``judgement`` is of the line and of the patches that come
    back from the shelf, ``restored`` by slug. ``unread`` says why upstream's history could not be
    read."""

    line: Line
    source: Source
    judgement: Judgement
    unread: str | None
    restored: Mapping[str, Restored]

    @property
    def repo(self) -> Store:
        return self.source.repo

    @property
    def target(self) -> Target:
        return self.judgement.target

    @property
    def extended(self) -> Line:
        """The line followed by the patches that come back from the shelf."""
        return self.judgement.line

    def patch(self, slug: str) -> Patch:
        return self._patches[slug]

    @cached_property
    def _patches(self) -> dict[str, Patch]:
        return {patch.slug: patch for patch in self.extended.patches}


def gather(
    context: Context,
    line: Line,
    source: Source,
    target: Target,
    decided: HandDecisions,
    ask: AskProbes | None,
) -> Facts:
    """Bring the base and the target, ask the probes, and judge the line."""
    bring_base(source, line.upstream, context.settings, context.progress)
    source.bring(target.commit, ())
    probes: Mapping[str, int | None] = ask(line, target) if ask else {}
    restored, unread = _to_restore(context, source, line, target)
    skipped = {
        slug: PatchState(Verdict.SKIPPED, (reason,)) for slug, reason in decided.skipped.items()
    }
    entries = [_shelf_entry(slug) for slug in restored]
    request = JudgeRequest(
        Decisions(skipped, decided.resolved), entries, probes, bring_history=True
    )
    judgement = judge(context, source, target, line, request)
    return Facts(line, source, judgement, unread or judgement.unread, restored)


def _shelf_entry(slug: str) -> Entry:
    return Entry(slug, 0, f"{shelf.FOLDER}/")


def _to_restore(
    context: Context, source: Source, line: Line, target: Target
) -> tuple[dict[str, Restored], str | None]:
    """The patches of the shelf that come back, by slug, and why upstream's history could not be
    read."""
    restored: dict[str, Restored] = {}
    unread = None
    for shelved in shelf.read(line.folder):
        try:
            why = _why_restored(context, source, line, target, shelved)
        except CannotRun as error:
            unread = error.message
            continue
        if why:
            restored[shelved.slug] = why
    return restored, unread


def _why_restored(
    context: Context, source: Source, line: Line, target: Target, shelved: shelf.Shelved
) -> Restored | None:
    """Why a patch of the shelf comes back; None if it stays there. Raises CannotRun if upstream's
    history cannot be read."""
    upstream = replace(line.upstream, base=shelved.base, release=None)
    alone = replace(line, upstream=upstream, entries=(_shelf_entry(shelved.slug),))
    if shelved.verdict is shelf.Reason.NOT_NEEDED:
        return Restored.BUG_IS_THERE if is_needed(source, target, alone) else None
    kind = _CURES.get(shelved.verdict) if shelved.verdict else None
    if kind is None:
        return None  # a person put it there
    commits = source.commits(target.commit)
    explained = is_explained(source, target, alone)
    facts = [fact for fact in facts_of(alone.patches[0]) if fact.kind is kind]
    if not explained and _is_before(commits, target, facts, shelved.upstream):
        return Restored.BEFORE
    # That the text of a shelved patch fits again is not enough to restore it: upstream may have
    # fixed the bug in another form. Upstream must have taken its own fix back.
    if kind is FactKind.SUPERSEDED:
        undone = commits is not None and any(fact.commit for fact in facts) and not explained
    else:
        try:
            past = trace(context, source, alone, shelved.base, target.commit)
        except UsageError:
            return None
        undone = past.patches[0].now.verdict is Verdict.REVERTED
    return Restored.TAKEN_BACK if undone else None


def _is_before(
    commits: Repo | None, target: Target, facts: Sequence[RecordedFact], culprit: str | None
) -> bool:
    """Whether the target is from before what put a patch on the shelf: upstream's commit
    ``culprit``, or on a release, which has no ``commits``, what ``facts`` record."""
    if commits is not None:
        return culprit is not None and not commits.is_ancestor(Oid(culprit), target.commit)
    version = target.version
    return version is not None and any(fact.in_release(version) is False for fact in facts)
