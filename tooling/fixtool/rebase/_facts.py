"""What a rebase knows before it decides: the judgement of its line, and the patches to restore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, UsageError
from fixtool.git.store import Store
from fixtool.history.trace import trace
from fixtool.judgement.run import Judgement, JudgeRequest, is_needed, judge
from fixtool.rebase.result import AskProbes
from fixtool.rebase.session import HandDecisions
from fixtool.replay.run import Decisions
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.line import Entry, Line
from fixtool.series.patch import Patch
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base


@dataclass(frozen=True)
class Facts:
    """``line`` on the target of a rebase. ``judgement`` is of the line and of the patches that come
    back from the shelf, ``restored``. ``unread`` says why upstream's history could not be read."""

    line: Line
    source: Source
    judgement: Judgement
    unread: str | None
    restored: frozenset[str]

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
        return next(patch for patch in self.extended.patches if patch.slug == slug)


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
    entries, unread = _to_restore(context, source, line, target)
    skipped = {
        slug: PatchState(Verdict.BLOCKED, (reason,)) for slug, reason in decided.skipped.items()
    }
    request = JudgeRequest(
        Decisions(skipped, decided.resolved), entries, probes, bring_history=True
    )
    judgement = judge(context, source, target, line, request)
    restored = frozenset(entry.slug for entry in entries)
    return Facts(line, source, judgement, unread or judgement.unread, restored)


def _to_restore(
    context: Context, source: Source, line: Line, target: Target
) -> tuple[list[Entry], str | None]:
    """The patches of the shelf that come back, and why upstream's history could not be read."""
    entries, unread = [], None
    for shelved in shelf.read(line.folder):
        entry = Entry(shelved.slug, 0, f"{shelf.FOLDER}/")
        upstream = replace(line.upstream, base=shelved.base, release=None)
        alone = replace(line, upstream=upstream, entries=(entry,))
        if shelved.verdict is shelf.Reason.NOT_NEEDED:
            if is_needed(source, target, alone):  # its bug was not there, and now it is
                entries.append(entry)
            continue
        # That the text of a shelved patch fits again is not enough to restore it: upstream may
        # have fixed the bug in another form. Upstream must have taken its own fix back.
        if shelved.verdict is not shelf.Reason.ABSORBED:
            continue
        try:
            past = trace(context, source, alone, shelved.base, target.commit)
        except UsageError:
            continue
        except CannotRun as error:
            unread = error.message
            continue
        if past.patches[0].now.verdict is Verdict.REVERTED:
            entries.append(entry)
    return entries, unread
