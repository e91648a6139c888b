"""Puts the changes of commits onto another tree, one after the other, as `git rebase` does it.

Each change is merged three-way, with the parent of its commit as the base: a text alone could fit
at a wrong place. No work tree is touched and no ref moves.

If one patch of a long series was changed, most of the later ones touch no file in which the old
tree and the new one differ. Then the result is the tree that the change made, with these few files
as they are in the new tree: that is what a three-way merge gives, as long as git has no reason to
look for renamed files. It costs as much as those few files, and not as much as the patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fixtool.git.database import FOLDER, ObjectDatabase
from fixtool.git.objects import FILE_MODES, Merge, Oid, TreeEntry
from fixtool.replay._merge import Merges
from fixtool.replay._on_base import on_named_files
from fixtool.series.patch import Patch
from fixtool.series.strict import apply_patch

_MOST_FILES = 100  # in a difference: with more of them, a merge is as quick
_ADDS = (b"\nnew file mode ", b"\nrename to ", b"\ncopy to ")
_REMOVES = (b"\ndeleted file mode ", b"\nrename from ")


@dataclass(frozen=True)
class CommitChange:
    """What a commit changes against its one parent; with a ``tree``, whatever leads to that tree.
    ``patch`` is the change as a text, if it is at hand: it spares git a process for each file that
    has to be merged. A change that must end in the tree ``ends_in`` is what leads there, if it
    conflicts."""

    commit: Oid | None
    tree: Oid | None = None
    patch: Patch | None = None
    ends_in: Oid | None = None


@dataclass(frozen=True)
class ChangesPut:
    """The tree after each change, up to the first one that conflicts, in the paths ``conflicts``.
    ``forced`` are the numbers of the changes that conflicted and had a tree to end in. ``aside``
    are the numbers of those that touch no file in which the trees differ: each does to every file
    what its commit did."""

    trees: tuple[Oid, ...]
    conflicts: tuple[str, ...]
    forced: tuple[int, ...]
    aside: frozenset[int] = frozenset()


def put_changes(objects: ObjectDatabase, changes: Sequence[CommitChange], onto: Oid) -> ChangesPut:
    """Put ``changes`` onto the tree ``onto``, up to the first one that conflicts."""
    merges = Merges(objects, {})
    while True:
        put = _put(objects, merges, changes, onto)
        if merges.check():
            return put


def _put(
    objects: ObjectDatabase, merges: Merges, changes: Sequence[CommitChange], onto: Oid
) -> ChangesPut:
    trees: list[Oid] = []
    forced: list[int] = []
    aside: set[int] = set()
    conflicts: tuple[str, ...] = ()
    tree, differences = onto, _Differences(objects)
    for number, change in enumerate(changes):
        around = differences.merged(change, tree)
        if around is not None:
            aside.add(number)
            merge = Merge(around, ())
        else:
            merge = _merged(objects, merges, change, tree)
        tree = merge.tree
        if merge.conflicts:
            if change.ends_in is None:
                conflicts = merge.conflicts
                break
            tree = change.ends_in
            forced.append(number)
        trees.append(tree)
    return ChangesPut(tuple(trees), conflicts, tuple(forced), frozenset(aside))


class _Side(NamedTuple):
    """What stands at a path in the tree that a change was made on, and in the one it is put onto;
    None if nothing does."""

    before: TreeEntry | None
    onto: TreeEntry | None


@dataclass(frozen=True)
class _Difference:
    """The files in which two trees differ, by path."""

    files: Mapping[str, _Side]

    @cached_property
    def is_plain(self) -> bool:
        """Whether there are few, and none stands where the other tree has a folder."""
        modes = {entry.mode for side in self.files.values() for entry in side if entry}
        return len(self.files) <= _MOST_FILES and modes <= {*FILE_MODES, "120000"}

    @cached_property
    def added(self) -> frozenset[str]:
        return frozenset(path for path, side in self.files.items() if side.before is None)

    @cached_property
    def removes(self) -> bool:
        return any(side.onto is None for side in self.files.values())

    @cached_property
    def new(self) -> dict[str, TreeEntry | None]:
        return {path: side.onto for path, side in self.files.items()}


class _Differences:
    """Puts changes past the difference between the tree that each was made on and the one it is put
    onto. The difference is read once: it is the same before and after such a change."""

    def __init__(self, objects: ObjectDatabase) -> None:
        self._objects = objects
        self._trees = (Oid(""), Oid(""))
        self._between = _Difference({})

    def merged(self, change: CommitChange, onto: Oid) -> Oid | None:
        """The tree ``onto`` with ``change``, if that touches no file of the difference and git
        would look for no renamed file; else None."""
        if change.tree is not None or change.commit is None or change.patch is None:
            return None
        objects = self._objects
        (parent,) = objects.commit(change.commit).parents
        before, after = objects.tree_of(parent), objects.tree_of(change.commit)
        if before == onto:
            return after
        between = self._read(before, onto)
        if not between.is_plain or not self._passes(change.patch, after, between):
            return None
        tree = objects.with_files(after, between.new)
        self._trees = (after, tree)
        return tree

    def _read(self, before: Oid, onto: Oid) -> _Difference:
        if self._trees != (before, onto):
            entry = self._objects.entry
            paths = self._objects.changed_paths(before, onto)
            files = {path: _Side(entry(before, path), entry(onto, path)) for path in paths}
            self._trees, self._between = (before, onto), _Difference(files)
        return self._between

    def _passes(self, patch: Patch, after: Oid, between: _Difference) -> bool:
        if between.added and any(sign in patch.diff for sign in _REMOVES):
            return False  # a folder may have been renamed, to which the other side adds a file
        if between.removes and any(sign in patch.diff for sign in _ADDS):
            return False
        entry = self._objects.entry
        if any(entry(after, path) != side.before for path, side in between.files.items()):
            return False
        return not any(self._is_blocked(after, path) for path in between.added)

    def _is_blocked(self, tree: Oid, path: str) -> bool:
        """Whether a file stands where a folder above ``path`` should be."""
        folder = path
        while folder := folder.rpartition("/")[0]:
            entry = self._objects.entry(tree, folder)
            if entry is not None:
                return entry.mode != FOLDER
        return False


def _merged(objects: ObjectDatabase, merges: Merges, change: CommitChange, onto: Oid) -> Merge:
    """The merge of one change into the tree ``onto``."""
    if change.tree is not None:
        return Merge(change.tree, ())
    assert change.commit is not None
    (parent,) = objects.commit(change.commit).parents
    before, after = objects.tree_of(parent), objects.tree_of(change.commit)
    if before == onto:
        return Merge(after, ())
    paths = objects.changed_paths(before, after)
    both = any(
        objects.entry(onto, path) not in (objects.entry(before, path), objects.entry(after, path))
        for path in paths
    )
    strict = apply_patch(objects, change.patch, onto) if both and change.patch else None
    return merges.merge(parent, onto, change.commit, paths, strict)[0]


def commit_of(objects: ObjectDatabase, patch: Patch, tip: Oid) -> Oid | None:
    """A patch as a commit on the very files that its index lines name, among those of the commit
    ``tip``; None if the repository does not have the files."""
    sides = on_named_files(objects, patch, tip)
    return sides[1] if sides else None
