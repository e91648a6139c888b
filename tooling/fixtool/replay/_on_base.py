"""Applies patches of a series to the series' own base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid, TreeEntry
from fixtool.series.patch import Patch
from fixtool.series.strict import apply_patch

Files = Mapping[str, TreeEntry]


@dataclass(frozen=True, slots=True)
class Addition:
    """What a patch does to a commit: the commit that it makes, and the files at its paths before
    and after it."""

    commit: Oid
    before: Files
    after: Files


Additions = dict[tuple[Oid, int], Addition | None]
"""What patches do, by the commit to which one is added, and by its position in its series; None if
it does not apply there."""


@dataclass(frozen=True)
class SeriesOnBase:
    """A whole series, and what its patches do on its own base. ``commits`` are those of the patches
    in order."""

    commits: Sequence[Oid]
    patches: Sequence[Patch]
    after: Additions


class PatchesOnBase:
    """The commits that some of ``patches`` make on their base. The base is brought when it is first
    needed, and each patch is applied to each commit once. ``known`` is what was found before, and
    ``after`` what is found now, whose commits are in the repository after a flush of ``objects``.
    """

    def __init__(
        self,
        objects: ObjectDatabase,
        patches: Sequence[Patch],
        bring_base: Callable[[], Oid],
        known: Mapping[tuple[Oid, int], Addition | None] | None = None,
    ) -> None:
        self._objects, self._patches, self._bring_base = objects, patches, bring_base
        self._base: Oid | None = None
        self._known = known or {}  # it is not copied: that of a long series is large
        self.after: Additions = {}
        self._first: list[Oid] = []  # the base, then the commits of the first patches

    def commit(self, positions: Iterable[int]) -> Oid | None:
        """The commit of the patches at ``positions``, in that order, on the base; None if one of
        them does not apply there."""
        commit = self._begin()
        for position in positions:
            after = self._after(commit, position)
            if after is None:
                return None
            commit = after.commit
        return commit

    def applies(self, number: int) -> bool:
        """Whether the first ``number`` patches apply to the base."""
        return self._made(number) is not None

    def known(self, position: int) -> Addition | None:
        """What the patch at ``position`` does after those before it, if all of them have been added
        already."""
        if not (self.after or self._known) or self._made(position, new=False) is None:
            return None
        return self._find((self._first[position], position))

    def addition(self, position: int) -> Addition:
        """What the patch at ``position`` does after those before it, all of which apply."""
        addition = self._after(self.first(position), position)
        assert addition is not None
        return addition

    def first(self, number: int) -> Oid:
        """The commit of the first ``number`` patches. Raises Refused if one does not apply."""
        commit = self._made(number)
        if commit is not None:
            return commit
        patch = self._patches[len(self._first) - 1]
        raise Refused(
            f"{patch.slug} does not apply to the base of its own line",
            where=str(patch.path or patch.slug),
            hint="fixtool lint --drift",
        )

    def _made(self, number: int, *, new: bool = True) -> Oid | None:
        """The commit of the first ``number`` patches; None if one does not apply, or, unless it may
        be made ``new``, if it has not been made."""
        if not self._first:
            self._first.append(self._begin())
        while len(self._first) <= number:
            position, parent = len(self._first) - 1, self._first[-1]
            after = self._after(parent, position) if new else self._find((parent, position))
            if after is None:
                return None
            self._first.append(after.commit)
        return self._first[number]

    def _begin(self) -> Oid:
        self._base = self._base or self._bring_base()
        return self._base

    def _after(self, parent: Oid, position: int) -> Addition | None:
        key = (parent, position)
        if key not in self._known and key not in self.after:
            self.after[key] = self._add(self._patches[position], parent)
        return self._find(key)

    def _find(self, key: tuple[Oid, int]) -> Addition | None:
        """What was found already; None also if that is nothing."""
        return self.after[key] if key in self.after else self._known.get(key)

    def _add(self, patch: Patch, parent: Oid) -> Addition | None:
        before = self._objects.tree_of(parent)
        after = apply_patch(self._objects, patch, before)
        if after is None:
            return None
        commit = self._objects.add_commit(patch.commit(after, parent))
        files = (self._objects.files(tree, patch.paths) for tree in (before, after))
        return Addition(commit, *files)


def on_named_files(objects: ObjectDatabase, patch: Patch, commit: Oid) -> tuple[Oid, Oid] | None:
    """A patch as a commit on the very files that its index lines name, as `git am --3way` does it;
    first that commit's parent. All other files are those of ``commit``. None if the repository does
    not have the files, or if the patch does not apply to them."""
    tree = objects.tree_of(commit)
    entries = objects.files(tree, patch.paths)
    named: dict[str, TreeEntry | None] = dict.fromkeys(patch.paths)
    for file in patch.files:
        if file.old_path is None:
            continue
        if not is_full_sha(file.old_blob or "") or not objects.repo.has(Oid(file.old_blob or "")):
            return None
        mode = entries[file.old_path].mode if file.old_path in entries else "100644"
        named[file.old_path] = TreeEntry(mode, Oid(file.old_blob or ""))
    parent = objects.add_commit(patch.commit(objects.with_files(tree, named), commit))
    after = apply_patch(objects, patch, objects.tree_of(parent))
    return (parent, objects.add_commit(patch.commit(after, parent))) if after else None
