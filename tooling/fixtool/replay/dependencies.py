"""Finds out which earlier patches each patch of a series needs, by applying them.

Applying shows only what must be there for a patch to apply. What it needs in order to work, its
``Depends-On:`` trailer says. The two are given apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.replay._on_base import PatchesOnBase
from fixtool.series.line import Line


@dataclass(frozen=True)
class Needs:
    """What patch ``slug`` needs, as slugs in series order.

    ``derived`` is a smallest set of earlier patches with which it applies to the base, ``declared``
    is what its trailers name, and ``closure`` is both with all that they need in turn. ``breaks``
    are the later patches that would not apply without it.
    """

    slug: str
    derived: tuple[str, ...]
    declared: tuple[str, ...]
    closure: tuple[str, ...]
    breaks: tuple[str, ...]


def dependencies(repo: Repo, line: Line, base: Oid) -> tuple[Needs, ...]:
    """The needs of every patch of ``line`` on its own ``base``. Raises Refused if the series does
    not apply there."""
    order = [patch.slug for patch in line.patches]
    derived: dict[str, set[str]] = {}
    declared: dict[str, set[str]] = {}
    closures: dict[str, set[str]] = {}
    with ObjectDatabase(repo) as objects:
        on_base = PatchesOnBase(objects, line.patches, lambda: base)
        needed = [_smallest_set(on_base, position) for position in range(len(order))]
    for position, patch in enumerate(line.patches):
        slug = patch.slug
        derived[slug] = {order[earlier] for earlier in needed[position]}
        declared[slug] = set(patch.depends_on).intersection(order[:position])
        near = derived[slug] | declared[slug]
        closures[slug] = near.union(*(closures[needed] for needed in near))
    return tuple(
        Needs(
            slug,
            _ordered(derived[slug], order),
            _ordered(declared[slug], order),
            _ordered(closures[slug], order),
            tuple(later for later in order if slug in closures[later]),
        )
        for slug in order
    )


def _ordered(slugs: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    wanted = set(slugs)
    return tuple(slug for slug in order if slug in wanted)


def _smallest_set(on_base: PatchesOnBase, position: int) -> list[int]:
    """The positions of earlier patches with which the one at ``position`` applies, and of which
    none can be spared."""
    on_base.first(position + 1)
    if on_base.commit([position]) is not None:
        return []
    needed = list(range(position))
    for spared in reversed(range(position)):
        fewer = [other for other in needed if other != spared]
        if on_base.commit((*fewer, position)) is not None:
            needed = fewer
    return needed
