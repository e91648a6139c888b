"""Merges patches three-way into trees, without a git process for each patch.

A three-way merge takes a file from the side that alone has changed it. Only a file that both sides
have changed is merged by its content, which is left to git. While a series is replayed, such a
content is predicted: it is what `git apply` makes. At the end, one process merges all these files,
and if anything was predicted wrongly, the series is replayed again with the true contents.

Where git would look for the new place of a file or a folder, it merges the whole trees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from fixtool.git.database import FOLDER, ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import FILE_MODES, Merge, Oid, TreeEntry

_NAME = "file"
_NOWHERE = Oid("")


class _LeftToGit(Exception):
    """The merge is not one that is made here."""


class Contents(NamedTuple):
    """The blobs of one file that both sides have changed."""

    base: Oid
    ours: Oid
    theirs: Oid


class Merges:
    """The three-way merges of a replay. ``check`` has to be called before their results count.
    ``known`` are contents that git has merged, None for a conflict. ``as_applied`` are those of
    which git has made the blob given there, which `git apply` makes too: it may not be in this
    repository."""

    def __init__(
        self,
        objects: ObjectDatabase,
        known: dict[Contents, Oid | None],
        as_applied: Mapping[Contents, Oid] | None = None,
    ) -> None:
        self._objects = objects
        self._known = known
        self._as_applied = as_applied or {}
        self._predicted: dict[Contents, Oid] = {}
        self._wrong: set[Contents] = set()
        repo = objects.repo
        attributes = repo.objects_folder.with_name("info") / "attributes"
        # An attribute may name another way to merge a file.
        self._by_content = repo.work_tree is None and not attributes.exists()

    def merge(
        self, base: Oid, ours: Oid, theirs: Oid, paths: Collection[str], strict: Oid | None
    ) -> tuple[Merge, bool]:
        """Merge commit ``theirs``, whose one parent is ``base`` and which changes no other files
        than ``paths``, into the tree ``ours``. ``strict`` is that tree with the patch as `git
        apply` puts it in, None if it does not fit. Also tells whether no other file of ``ours``
        matters to the merge."""
        before, after = self._objects.tree_of(base), self._objects.tree_of(theirs)
        try:
            self._require_no_search(before, ours, after, paths)
            changes = dict(self._changes(before, ours, after, paths, strict))
        except _LeftToGit:
            return self._objects.merge_three_way(base, ours, theirs), False
        return Merge(self._objects.with_files(ours, changes) if changes else ours, ()), True

    def check(self) -> bool:
        """Let git merge what was predicted. Returns whether it was all right; if not, the replay
        has to be made again."""
        asked, self._predicted = self._predicted, {}
        if not asked:
            return True
        pairs = [self._pair(contents) for contents in asked]
        self._objects.flush()
        merges = merge_many(self._objects.repo, pairs, keep=False)
        for (contents, predicted), merge in zip(asked.items(), merges, strict=True):
            if merge == Merge(self._tree(predicted), ()):
                self._known[contents] = predicted
            else:
                self._wrong.add(contents)
        return self._wrong.isdisjoint(asked)

    def _ask(self, contents: Contents) -> Oid | None:
        """The merge of one file's contents by git; None if they conflict."""
        pair = self._pair(contents)
        self._objects.flush()
        (merge,) = merge_many(self._objects.repo, [pair], keep=True)
        return None if merge.conflicts else self._objects.tree(merge.tree)[_NAME].blob

    def _pair(self, contents: Contents) -> tuple[Oid, Oid]:
        return Question(*map(self._tree, contents)).commits(self._objects)

    def _tree(self, blob: Oid) -> Oid:
        return self._objects.with_files(_NOWHERE, {_NAME: TreeEntry(FILE_MODES[0], blob)})

    def _require_no_search(self, base: Oid, ours: Oid, theirs: Oid, paths: Collection[str]) -> None:
        """Raise _LeftToGit if git may look for the new place of a file that is gone, or of a file
        that is added to a folder that is gone: upstream or the patch may have moved it."""
        added = False
        removed: dict[str, TreeEntry] = {}
        for path in paths:
            before, after = (self._objects.entry(tree, path) for tree in (base, theirs))
            if before is None and after is not None:
                added = True
                self._require_folders(base, ours, path)
            if before is not None and after is None:
                removed[path] = before
        if added and not self._goes_as_it_is(removed, ours, theirs):
            raise _LeftToGit

    def _goes_as_it_is(self, removed: Mapping[str, TreeEntry], ours: Oid, theirs: Oid) -> bool:
        """Whether upstream has left alone all files that a patch removes, and no folder goes with
        them. Then it does not matter whether git takes an added file for one that was moved."""
        folders = {path.rpartition("/")[0] for path in removed} - {""}
        return self._objects.folders(theirs, folders) == folders and all(
            self._objects.entry(ours, path) == entry for path, entry in removed.items()
        )

    def _require_folders(self, base: Oid, ours: Oid, path: str) -> None:
        """Raise _LeftToGit unless each folder above a new ``path`` that the base has is one of
        ``ours`` too, and no file of ours stands where a folder should be."""
        folder = path
        while (folder := folder.rpartition("/")[0]) != "":
            before, now = (self._objects.entry(tree, folder) for tree in (base, ours))
            if now is None and before is not None:
                raise _LeftToGit
            if now is not None and now.mode != FOLDER:
                raise _LeftToGit

    def _changes(
        self, base: Oid, ours: Oid, theirs: Oid, paths: Collection[str], strict: Oid | None
    ) -> Iterator[tuple[str, TreeEntry | None]]:
        """What the merge makes of those of ``paths`` that ``theirs`` changes."""
        for path in paths:
            sides = [self._objects.entry(tree, path) for tree in (base, ours, theirs)]
            if any(entry is not None and entry.mode not in FILE_MODES for entry in sides):
                raise _LeftToGit
            before, own, other = sides
            if before == other:
                continue
            if before is not None and own is None:
                raise _LeftToGit  # git looks for its new place
            if own == other:
                continue
            if own == before:
                yield path, other
            elif before is None or own is None or other is None:
                raise _LeftToGit
            else:
                mode = _one_side(before.mode, own.mode, other.mode)
                expected = self._objects.entry(strict, path) if strict else None
                contents = Contents(before.blob, own.blob, other.blob)
                yield path, TreeEntry(mode, self._content(contents, expected))

    def _content(self, contents: Contents, expected: TreeEntry | None) -> Oid:
        """The merge of one file's contents. ``expected`` is the file as `git apply` makes it."""
        base, ours, theirs = contents
        if ours in (base, theirs):
            return theirs
        if theirs == base:
            return ours
        if not self._by_content:
            raise _LeftToGit
        if contents not in self._known:
            if expected is not None and self._as_applied.get(contents) == expected.blob:
                return expected.blob
            if expected is not None and contents not in self._wrong:
                return self._predicted.setdefault(contents, expected.blob)
            self._known[contents] = self._ask(contents)
        merged = self._known[contents]
        if merged is None:
            raise _LeftToGit
        return merged


def _one_side(base: str, ours: str, theirs: str) -> str:
    """The mode of a file: the one of the side that alone has changed it."""
    return theirs if ours == base else ours
