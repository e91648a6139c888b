"""Tells between which patches one side, the work tree or the line, has moved changes.

A squash moves the whole change of a patch into another one, and a split moves a part of it into a
new one. A person may also move single hunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fixtool.apply.identity import holders_of, sides_of
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid

_MOST = 0.5  # of the lines that one patch lost, or that the other gained, and more are the same


@dataclass(frozen=True)
class Moves:
    """``pairs`` are two slugs each: a change of the first patch is in the second one now."""

    pairs: frozenset[tuple[str, str]] = frozenset()

    def holder(self, slug: str) -> str | None:
        """A patch that now holds the change of ``slug``; None if there is none."""
        return min((holder for source, holder in self.pairs if source == slug), default=None)

    def has(self, slug: str) -> bool:
        return any(slug in pair for pair in self.pairs)

    def joined(self, slugs: Collection[str]) -> set[str]:
        """``slugs``, and all that have exchanged changes with them, also through other patches."""
        found: set[str] = set()
        new = set(slugs)
        while new:
            found |= new
            near = [pair for pair in self.pairs if not found.isdisjoint(pair)]
            new = {slug for pair in near for slug in pair} - found
        return found


def moves_of(objects: ObjectDatabase, before: Mapping[str, Oid], after: Mapping[str, Oid]) -> Moves:
    """The moves of one side. ``before`` and ``after`` are the commits of the patches that it has
    changed, added or removed, by slug. The commits are in the repository of ``objects``."""
    found = sides_of(objects.repo, [*before.values(), *after.values()])
    then, now = ({slug: found[oid] for slug, oid in side.items() if oid in found}
                 for side in (before, after))  # fmt: skip
    removed = {slug: oid for slug, oid in before.items() if slug not in after}
    holders = {slug: after[slug] for slug, change in now.items()
               if slug not in then or then[slug].diff != change.diff}  # fmt: skip
    pairs = {*holders_of(objects, removed, holders).items()}
    nothing: Counter[bytes] = Counter()
    old, new = ({slug: change.lines for slug, change in side.items()} for side in (then, now))
    lost = {slug: lines - new.get(slug, nothing) for slug, lines in old.items()}
    gained = {slug: new[slug] - old.get(slug, nothing) for slug in holders}
    pairs |= {
        (source, holder)
        for source, some in lost.items()
        for holder, others in gained.items()
        if source != holder and _is_moved(some, others)
    }
    return Moves(frozenset(pairs))


def _is_moved(lost: Counter[bytes], gained: Counter[bytes]) -> bool:
    """Whether the lines that one patch lost are those that another one gained. That both only take
    away the same line tells nothing: it may be the next patch that had changed this line."""
    shared = lost & gained
    adds, adds_shared = (any(line.startswith(b"+") for line in lines) for lines in (lost, shared))
    return adds == adds_shared and shared.total() > _MOST * min(lost.total(), gained.total())
