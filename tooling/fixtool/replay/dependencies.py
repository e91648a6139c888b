"""Which earlier patches does each patch need? Found out by applying, not by asking.

Text can tell only what must be there for a patch to apply; what it must find to work, its
``Depends-On:`` trailer says. Both are given, apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.series.line import Line
from fixtool.series.patch import Patch, apply_on


@dataclass(frozen=True)
class Needs:
    """``derived`` is a least set of earlier patches with which it applies to the base, ``declared``
    what its trailers name, ``closure`` both with all that they need in turn, in series order;
    ``breaks`` are the later patches that would no longer apply without it."""

    slug: str
    derived: tuple[str, ...]
    declared: tuple[str, ...]
    closure: tuple[str, ...]
    breaks: tuple[str, ...]


def dependencies(repo: Repo, line: Line, base: str) -> tuple[Needs, ...]:
    """The needs of every patch of ``line`` on its own ``base``. Raises Refused where the series
    does not apply there."""
    work = _Work(repo, line.patches, base)
    order = [patch.slug for patch in line.patches]
    direct: dict[str, tuple[set[str], set[str]]] = {}
    for position, patch in enumerate(line.patches):
        declared = {one for one in patch.depends_on if one in order[:position]}
        direct[patch.slug] = (work.least(position), declared)
    closures: dict[str, set[str]] = {}
    for slug in order:
        near = direct[slug][0] | direct[slug][1]
        closures[slug] = near.union(*(closures[one] for one in near))
    return tuple(
        Needs(
            slug,
            _ordered(direct[slug][0], order),
            _ordered(direct[slug][1], order),
            _ordered(closures[slug], order),
            tuple(one for one in order if slug in closures[one]),
        )
        for slug in order
    )


def _ordered(slugs: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    wanted = set(slugs)
    return tuple(slug for slug in order if slug in wanted)


class _Work:
    """Applies sets of patches to the base, each set once."""

    def __init__(self, repo: Repo, patches: Sequence[Patch], base: str) -> None:
        self.repo, self.patches, self.base = repo, patches, base
        self._tips: dict[tuple[int, ...], str | None] = {(): base}

    def least(self, position: int) -> set[str]:
        """A set of earlier patches with which this one applies, and of which none can be spared."""
        needed = list(range(position))
        if self._tip((*needed, position)) is None:
            slug = self.patches[position].slug
            raise Refused(
                f"{slug} does not apply to the base of its own line",
                where=str(self.patches[position].path or slug),
                hint="fixtool lint --drift",
            )
        if self._tip((position,)) is not None:
            return set()
        for one in range(position - 1, -1, -1):
            fewer = [other for other in needed if other != one]
            if self._tip((*fewer, position)) is not None:
                needed = fewer
        return {self.patches[one].slug for one in needed}

    def _tip(self, positions: tuple[int, ...]) -> str | None:
        """The commit of these patches on the base; None where one does not apply."""
        if positions not in self._tips:
            parent = self._tip(positions[:-1])
            self._tips[positions] = parent and self._commit(parent, self.patches[positions[-1]])
        return self._tips[positions]

    def _commit(self, parent: str, patch: Patch) -> str | None:
        tree, _ = apply_on(self.repo, patch, parent)
        return tree and self.repo.write_commit(patch.commit(tree, parent))
