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
from fixtool.series.patch import Patch


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
        objects.prefetch(objects.tree_of(base), line.paths)
        on_base = PatchesOnBase(objects, line.patches, lambda: base)
        needed = [_smallest_set(on_base, line.patches, position) for position in range(len(order))]
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


def _smallest_set(on_base: PatchesOnBase, patches: Sequence[Patch], position: int) -> list[int]:
    """The positions of earlier patches with which the one at ``position`` applies, and of which
    none can be spared."""
    on_base.first(position + 1)
    needed = _near(patches, position)
    if not needed or on_base.commit([position]) is not None:
        return []
    for spared in reversed(needed):
        fewer = [other for other in needed if other != spared]
        if on_base.commit((*fewer, position)) is not None:
            needed = fewer
    return needed


def _near(patches: Sequence[Patch], position: int) -> list[int]:
    """The positions of the earlier patches that the one at ``position`` can need: those that touch
    a file of it, or of a later one of these. Without any other, these apply to the base as they do
    in the series, and so does it. A file also touches what would stand in a folder of its name."""
    near: list[int] = []
    files, folders = set(patches[position].paths), _folders(patches[position].paths)
    for earlier in reversed(range(position)):
        paths = patches[earlier].paths
        above = _folders(paths)
        if paths & files or paths & folders or files & above:
            near.append(earlier)
            files |= paths
            folders |= above
    return near[::-1]


def _folders(paths: Iterable[str]) -> set[str]:
    """The folders above ``paths``."""
    found = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return found
