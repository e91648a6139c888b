"""Puts the changes of commits onto another tree, one after the other, as `git rebase` does it.

Each change is merged three-way, with the parent of its commit as the base: a text alone could fit
at a wrong place. No work tree is touched and no ref moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Merge, Oid
from fixtool.replay._merge import Merges
from fixtool.replay._on_base import on_named_files
from fixtool.series.patch import Patch
from fixtool.series.strict import apply_patch


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
    ``forced`` are the numbers of the changes that conflicted and had a tree to end in."""

    trees: tuple[Oid, ...]
    conflicts: tuple[str, ...]
    forced: tuple[int, ...]


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
    tree = onto
    for number, change in enumerate(changes):
        merge = _merged(objects, merges, change, tree)
        if merge.conflicts and change.ends_in is None:
            return ChangesPut(tuple(trees), merge.conflicts, tuple(forced))
        if merge.conflicts and change.ends_in is not None:
            merge = Merge(change.ends_in, ())
            forced.append(number)
        tree = merge.tree
        trees.append(tree)
    return ChangesPut(tuple(trees), (), tuple(forced))


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
