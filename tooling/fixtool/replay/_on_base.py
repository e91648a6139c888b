"""Applies patches of a series to the series' own base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.patch import Patch, apply_on


class PatchesOnBase:
    """The commits that some of ``patches`` make on their base, each set of patches made once. The
    base is brought when it is first needed."""

    def __init__(self, repo: Repo, patches: Sequence[Patch], bring_base: Callable[[], Oid]) -> None:
        self._repo, self._patches, self._bring_base = repo, patches, bring_base
        self._commits: dict[tuple[int, ...], Oid | None] = {}

    def commit(self, positions: Iterable[int]) -> Oid | None:
        """The commit of the patches at ``positions``, in that order, on the base; None if one of
        them does not apply there."""
        positions = tuple(positions)
        if positions not in self._commits:
            self._commits[positions] = self._make(positions) if positions else self._bring_base()
        return self._commits[positions]

    def first(self, number: int) -> Oid:
        """The commit of the first ``number`` patches. Raises Refused if one does not apply."""
        commit = self.commit(())
        for position, patch in enumerate(self._patches[:number]):
            commit = self.commit(range(position + 1))
            if commit is None:
                raise Refused(
                    f"{patch.slug} does not apply to the base of its own line",
                    where=str(patch.path or patch.slug),
                    hint="fixtool lint --drift",
                )
        assert commit is not None
        return commit

    def _make(self, positions: tuple[int, ...]) -> Oid | None:
        parent = self.commit(positions[:-1])
        if parent is None:
            return None
        patch = self._patches[positions[-1]]
        tree, _ = apply_on(self._repo, patch, parent)
        return self._repo.write_commit(patch.commit(tree, parent)) if tree else None
