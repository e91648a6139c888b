"""What is known about the patches of a line on a target before they are replayed there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fixtool.errors import CannotRun, UsageError
from fixtool.history.ancestry import UpstreamLog
from fixtool.history.recorded import (
    Presence,
    RecordedState,
    claims_of,
    presence_in,
    read_log,
    state_of,
    valid_facts,
)
from fixtool.replay.verdict import APPLIES_AS_WRITTEN, PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.facts import RecordedFact
from fixtool.series.line import Line
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source

if TYPE_CHECKING:
    from fixtool.history.log import UpstreamCommit
    from fixtool.history.result import History, Interval
    from fixtool.replay.run import Earlier

_EXPLAINED = frozenset({Verdict.ABSORBED, Verdict.SUPERSEDED, Verdict.NOT_NEEDED})
"""The verdicts because of which a patch is left out."""


@dataclass(frozen=True)
class Known:
    """A line and its target, with what the recorded facts say of each patch, by slug.

    ``history`` leads from the line's base to the target. It is None if there is no such way, or if
    it is not at hand. ``unread`` says why it could not be read.
    """

    line: Line
    target: Target
    recorded: Mapping[str, RecordedState] = field(default_factory=dict)
    history: History | None = None
    unread: str | None = None

    def left_out(self, slug: str) -> PatchState | None:
        """Why a patch is not to be applied; None if nothing says that."""
        now = self._now(slug)
        if now is None:
            return self._recorded(slug).state
        return PatchState(now.verdict, now.evidence) if now.verdict in _EXPLAINED else None

    def taken_back(self, slug: str, verdict: Verdict) -> tuple[str, ...]:
        """Why upstream no longer has a patch that it once had, where the patch applies with
        ``verdict``; empty if nothing says that."""
        now = self._now(slug)
        if now is not None:
            return now.evidence if now.verdict is Verdict.REVERTED else ()
        reason = self._recorded(slug).taken_back
        return (reason,) if reason and verdict in APPLIES_AS_WRITTEN else ()

    def culprit(self, slug: str, verdict: Verdict) -> UpstreamCommit | None:
        """The upstream commit behind the ``verdict`` on a patch. If the recorded facts say the
        same, it is theirs; else it is the one that began the verdict in upstream's history. A
        commit that took the patch back is not behind any other verdict."""
        recorded, now = self._recorded(slug), self._now(slug)
        if recorded.state and recorded.state.verdict is verdict and recorded.culprit:
            return recorded.culprit
        if now and now.culprit:
            return now.culprit
        return recorded.culprit if recorded.state or verdict is Verdict.REVERTED else None

    def _now(self, slug: str) -> Interval | None:
        patches = self.history.patches if self.history else ()
        return next((patch.now for patch in patches if patch.slug == slug), None)

    def _recorded(self, slug: str) -> RecordedState:
        return self.recorded.get(slug, RecordedState())


def read_known(
    context: Context,
    source: Source,
    target: Target,
    line: Line,
    recorded: Mapping[str, RecordedState] | None = None,
    earlier: Earlier | None = None,
    *,
    bring_history: bool,
) -> Known:
    """Read the recorded facts, unless ``recorded`` gives what they say, and upstream's history if
    it is at hand or ``bring_history`` says that it may be fetched. ``earlier`` is what replays of
    the line have found.

    Raises CannotRun if a recorded fact names a commit, and the source cannot tell whether the
    target holds it.
    """
    if is_base(line, target):
        return Known(line, target)  # the line carries its patches here, whatever upstream does
    if recorded is None:
        recorded = read_recorded(source, target, line)
    history, unread = None, None
    on_commits = line.upstream.release is None and not target.release
    if on_commits and (bring_history or source.has_history(line.upstream.base, target.commit)):
        history, unread = _try_trace(context, source, line, target, earlier)
    return Known(line, target, recorded, history, unread)


def is_base(line: Line, target: Target) -> bool:
    """Whether the target is the line's own base: the very commit, or the same release."""
    upstream = line.upstream
    same_files = bool(target.release or upstream.release) and target.tree == upstream.tree
    return target.commit == upstream.base or same_files


def read_recorded(source: Source, target: Target, line: Line) -> dict[str, RecordedState]:
    """What the recorded facts of each patch of ``line`` say on ``target``, by slug. Raises
    CannotRun if the source cannot tell whether the target holds the commits that they name."""
    claims = {patch.slug: claims_of(patch) for patch in line.patches}
    every = [fact for facts in claims.values() for fact in facts]
    if not every:
        return {slug: RecordedState() for slug in claims}
    commits = source.commits(target.commit)
    on_target = read_log(commits, target.commit, every) if commits else None
    base, on_base = line.upstream.base, None
    if commits and line.upstream.release is None and commits.has(base):
        on_base = read_log(commits, base, every)
    return {
        patch.slug: state_of(
            (fact, _presence(target, fact, on_target))
            for fact in valid_facts(claims[patch.slug], line.upstream, on_base)
        )
        for patch in line.patches
    }


def _presence(target: Target, fact: RecordedFact, log: UpstreamLog | None) -> Presence:
    """Whether the target holds what a fact names. Upstream's log is the truth. A release may hold a
    commit under another id, from its own branch, so its version may say what the log does not."""
    presence = presence_in(log, fact) if log else Presence(None)
    if presence.held or presence.undone_by or target.version is None:
        return presence
    in_release = fact.in_release(target.version)
    return presence if in_release is None else Presence(in_release)


def _try_trace(
    context: Context, source: Source, line: Line, target: Target, earlier: Earlier | None
) -> tuple[History | None, str | None]:
    """The history from the line's base to the target, or the reason why it could not be read. Both
    are None if the target does not descend from the base."""
    from fixtool.history.trace import trace  # a target that is the line's base needs no history

    try:
        return trace(context, source, line, line.upstream.base, target.commit, earlier), None
    except UsageError:
        return None, None
    except CannotRun as error:
        return None, error.message
