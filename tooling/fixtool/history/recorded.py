"""What the recorded facts of a patch say on an upstream commit.

A fact is a trailer (`series.facts`), or the pull request that the patch was sent as. It names an
upstream change. Whether a commit holds that change is its presence there. The presences of all
facts of a patch give its state, in one function, so that a single commit and a whole history are
judged alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.history.ancestry import Landing, UpstreamLog, first_holder, read_upstream
from fixtool.history.log import UpstreamChange, UpstreamCommit
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.facts import FactKind, RecordedFact, facts_of
from fixtool.series.line import Line, Upstream
from fixtool.series.patch import Patch
from fixtool.series.trailers import forwarded


@dataclass(frozen=True)
class Presence:
    """Whether a commit holds the change that a fact names; ``held`` is None if that is not known.

    ``by`` is the upstream commit that brought the change, None if it is not known, as on a release.
    ``undone_by`` is the later commit that took it back, None if it was not taken back.
    """

    held: bool | None
    by: UpstreamCommit | None = None
    undone_by: UpstreamCommit | None = None


@dataclass(frozen=True)
class RecordedState:
    """What the facts say of a patch. ``state`` is None if they say nothing. ``culprit`` is the
    upstream commit behind it. ``taken_back`` says why upstream no longer has the patch although it
    once had it; None if that is not so. ``needed`` is True if they say that the bug is there."""

    state: PatchState | None = None
    culprit: UpstreamCommit | None = None
    taken_back: str | None = None
    needed: bool = False


def claims_of(patch: Patch) -> tuple[RecordedFact, ...]:
    """The recorded facts of a patch, and as one more the pull request that it was sent as."""
    facts = facts_of(patch)
    ids, numbers = forwarded(patch)
    numbers = [number for number in numbers if number not in {fact.pull for fact in facts}]
    ids = [oid for oid in ids if oid not in {fact.commit for fact in facts}]
    sent = [RecordedFact(FactKind.APPLIED, None, number, None) for number in numbers]
    sent += [RecordedFact(FactKind.APPLIED, oid, None, None) for oid in ids]
    return (*facts, *sent)


def state_of(presences: Iterable[tuple[RecordedFact, Presence]]) -> RecordedState:
    """The state of a patch on a commit, from the presence there of what each of its facts names.

    Upstream has the patch if it holds a commit that took it, and another cure if it holds a commit
    that superseded it. The patch is not needed yet if every commit that is known to have brought
    its bug is absent. If such a commit was taken back, the facts say nothing: it may have come
    again under another name. A fact whose presence is not known says nothing.
    """
    by_kind: dict[FactKind, list[tuple[RecordedFact, Presence]]] = {kind: [] for kind in FactKind}
    for fact, presence in presences:
        by_kind[fact.kind].append((fact, presence))
    for kind, verdict, words in (
        (FactKind.APPLIED, Verdict.ABSORBED, "upstream took {}"),
        (FactKind.SUPERSEDED, Verdict.SUPERSEDED, "upstream cures it in another way, by {}"),
    ):
        for fact, presence in by_kind[kind]:
            if presence.held:
                reason = words.format(_change(fact, presence))
                return RecordedState(PatchState(verdict, (reason,)), presence.by)
    bugs = by_kind[FactKind.FIXES]
    if bugs and all(presence == Presence(False) for _, presence in bugs):
        reason = f"its bug is not there: it came with {_change(*bugs[0])}"
        return RecordedState(PatchState(Verdict.NOT_NEEDED, (reason,)))
    needed = any(presence.held for _, presence in bugs)
    for _, presence in by_kind[FactKind.APPLIED]:
        if presence.undone_by:
            reason = f"{presence.undone_by.sha[:12]} took it back"
            return RecordedState(None, presence.undone_by, reason, needed)
    return RecordedState(needed=needed)


def _change(fact: RecordedFact, presence: Presence) -> str:
    """The change that a fact names, in words: ``#26026 as 89ff2bc1115c``."""
    if by := presence.by:
        number = by.pr or fact.pull
        return f"{f'#{number}' if number else by.subject} as {by.sha[:12]}"
    commit = fact.commit[:12] if fact.commit else None
    pull = f"#{fact.pull}" if fact.pull else None
    release = None
    if fact.release:
        release = f"first in release {fact.release}"
    elif fact.in_no_release:
        release = "which no release holds"
    return ", ".join(filter(None, (" as ".join(filter(None, (pull, commit))), release)))


def void_on_base(fact: RecordedFact, on_base: Presence) -> bool:
    """Whether a fact says nothing, since on the line's own base it would already say that the
    patch is not needed, and the line carries the patch there."""
    return on_base.held is (fact.kind is not FactKind.FIXES)


def valid_facts(
    facts: Sequence[RecordedFact], upstream: Upstream, on_base: UpstreamLog | None
) -> tuple[RecordedFact, ...]:
    """Those of ``facts`` that say something on other commits than the line's base. ``on_base`` is
    upstream's log up to that base, None if it cannot be read; a release tells by its version."""

    def presence(fact: RecordedFact) -> Presence:
        if on_base is not None:
            return presence_in(on_base, fact)
        return Presence(fact.in_release(upstream.release) if upstream.release else None)

    return tuple(fact for fact in facts if not void_on_base(fact, presence(fact)))


@dataclass(frozen=True)
class FactsAlong:
    """The recorded facts of a line's patches along upstream's history: on a start, and after each
    of ``changes``. ``presences`` are those of each fact, in that order."""

    length: int
    facts: Mapping[str, tuple[RecordedFact, ...]]
    presences: Mapping[RecordedFact, Sequence[Presence]]

    @classmethod
    def read(
        cls, commits: Repo, line: Line, start: Oid, changes: Sequence[UpstreamChange]
    ) -> FactsAlong:
        """Read them from ``commits``, a repository in which every ancestor of the start and of the
        line's base can be walked."""
        claims = {patch.slug: claims_of(patch) for patch in line.patches}
        every = [fact for facts in claims.values() for fact in facts]
        if not every:
            return cls(len(changes) + 1, claims, {})
        base, release = line.upstream.base, line.upstream.release
        end = changes[-1].commit.sha if changes else start
        log = read_log(commits, end, every)
        on_base = read_log(commits, base, every) if commits.has(base) and not release else None
        valid = {slug: valid_facts(facts, line.upstream, on_base) for slug, facts in claims.items()}
        presences = {
            fact: _presences(commits, log, fact, start, changes)
            for facts in valid.values()
            for fact in facts
        }
        return cls(len(changes) + 1, valid, presences)

    def states(self, slug: str) -> list[RecordedState]:
        """What the facts of a patch say on the start, and after each change."""
        facts = self.facts[slug]
        states: list[RecordedState] = []
        before: tuple[Presence, ...] | None = None
        for position in range(self.length):
            presences = tuple(self.presences[fact][position] for fact in facts)
            if presences != before:
                state, before = state_of(zip(facts, presences, strict=True)), presences
            states.append(state)
        return states


def read_log(commits: Repo, target: Oid, facts: Sequence[RecordedFact]) -> UpstreamLog:
    """Upstream's history of ``target``, as far as it matters to ``facts``."""
    ids = sorted({fact.commit for fact in facts if fact.commit})
    pulls = sorted({fact.pull for fact in facts if fact.pull})
    return _read_log(commits, target, tuple(ids), tuple(pulls))


@lru_cache(maxsize=16)  # one log tells of many commits, and each line and its history ask for it
def _read_log(
    commits: Repo, target: Oid, ids: tuple[str, ...], pulls: tuple[int, ...]
) -> UpstreamLog:
    return read_upstream(commits, target, ids, pulls)


def presence_in(log: UpstreamLog, fact: RecordedFact) -> Presence:
    """Whether the target of ``log`` holds the change that a fact names."""
    landing = log.landing(fact.commit, fact.pull)
    if landing is None:
        return Presence(False)
    return Presence(landing.holds, landing.taken, landing.reverted)


def _presences(
    commits: Repo,
    log: UpstreamLog,
    fact: RecordedFact,
    start: Oid,
    changes: Sequence[UpstreamChange],
) -> list[Presence]:
    """The presence of a fact's change on ``start``, and after each of ``changes``. ``log`` is
    upstream's history of the last of them."""
    landing = log.landing(fact.commit, fact.pull)
    turns = landing.turns if landing else ()
    places = {change.commit.sha: place for place, change in enumerate(changes, 1)}
    ends = [start, *(change.commit.sha for change in changes)]
    since = [
        places[turn.sha] if turn.sha in places else first_holder(commits, turn.sha, ends)
        for turn in turns
    ]
    presences: list[Presence] = []
    borders = sorted({0, *(place for place in since if place < len(ends))})
    for begin, end in pairwise([*borders, len(ends)]):
        passed = Landing(
            tuple(turn for turn, place in zip(turns, since, strict=True) if place <= begin)
        )
        presence = Presence(False)
        if passed.turns:
            presence = Presence(passed.holds, passed.taken, passed.reverted)
        presences += [presence] * (end - begin)
    return presences
