"""The object database of a repository: objects are read through one process, and new ones are kept
in memory until they are written together.

A series of a thousand patches makes some six thousand objects. To start git for each of them takes
longer than all the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import subprocess
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.files import temporary_folder
from fixtool.git.objects import MACHINE, Commit, Merge, Oid, TreeEntry, parse_commit, parse_oid
from fixtool.git.pack import FEW, PackedObject, packed, unpacked, write_loose, write_pack
from fixtool.git.process import end, known_to_its_pool
from fixtool.git.repo import Repo, reading_answer

Tree = Mapping[str, TreeEntry]
"""What one folder holds, by name. Subfolders have the mode of ``FOLDER``."""

FOLDER = "040000"

_FAREWELL = 1.0  # seconds
_MOST_NEW = 8 << 20  # bytes of new objects, compressed, that are kept in memory
_MOST_PASSING = 4 << 20  # of those that are not compressed when they are written
_MOST_CONTENTS = 8 << 20  # bytes of blobs that were read, and of new objects, that are kept
_DELTA_BASES = 16 << 20
"""Bytes of contents that the git which answers may keep, to make others of them. It would keep six
times as many, and then be the largest process of a long series, without being faster."""
_TOGETHER = 500  # questions that git is asked at once: they fit into a pipe
_MOST_ENTRIES = 60_000  # of trees that are kept after reading, some 15 MB


class ReadObjects:
    """Trees, and contents of objects, that were read or made: those that were used last, as many as
    there is room for. Databases of one repository that follow each other may share them."""

    def __init__(self) -> None:
        self._trees: OrderedDict[Oid, Tree] = OrderedDict()
        self._entries = 0
        self._bytes: dict[Oid, bytes] = {}  # of the trees that were made here
        self._contents: OrderedDict[Oid, bytes] = OrderedDict()
        self._size = 0

    def tree(self, oid: Oid) -> Tree | None:
        tree = self._trees.get(oid)
        if tree is not None:
            self._trees.move_to_end(oid)
        return tree

    def bytes_of(self, tree: Oid) -> bytes:
        """The bytes of a tree; empty unless it was made here."""
        return self._bytes.get(tree, b"")

    def content(self, oid: Oid) -> bytes | None:
        data = self._contents.get(oid)
        if data is not None:
            self._contents.move_to_end(oid)
        return data

    def keep_tree(self, oid: Oid, tree: Tree, data: bytes = b"") -> Tree:
        if data:
            self._bytes.setdefault(oid, data)
        if oid not in self._trees:
            self._trees[oid] = tree
            self._entries += len(tree)
        while self._entries > _MOST_ENTRIES and len(self._trees) > 1:
            gone, oldest = self._trees.popitem(last=False)
            self._bytes.pop(gone, None)
            self._entries -= len(oldest)
        return tree

    def keep_content(self, oid: Oid, data: bytes) -> bytes:
        if oid not in self._contents:
            self._contents[oid] = data
            self._size += len(data)
        while self._size > _MOST_CONTENTS and len(self._contents) > 1:
            _, oldest = self._contents.popitem(last=False)
            self._size -= len(oldest)
        return data


class ObjectDatabase:
    """Reads and writes the objects of ``repo``. New objects are in the repository after ``flush``:
    those that nobody needs later are never written. It is used in a ``with`` statement.

    Few objects become files of their own, more become a pack. With a folder ``scratch``, they are
    written there, and ``repo`` reads that too: see ``passing_objects``. ``known`` are objects that
    were read by another database of the repository, which is in use no more."""

    def __init__(
        self, repo: Repo, *, scratch: Path | None = None, known: ReadObjects | None = None
    ) -> None:
        self.repo = repo
        self.scratch = scratch
        self._new: dict[Oid, PackedObject] = {}
        self._new_size = 0
        self._written: set[Oid] = set()
        self._commits: dict[Oid, bytes] = {}  # that are in the repository
        self._known = known or ReadObjects()
        self._reader: _Reader | None = None

    def __enter__(self) -> ObjectDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # -- reading ---------------------------------------------------------------------------

    def read(self, oid: Oid) -> tuple[str, bytes]:
        """The kind and the content of an object. Raises CannotRun if it is not there."""
        if oid in self._new:
            return self._new[oid].kind, self._content(oid)
        found = self._reader.read(oid) if self._reader else None
        if found is None:
            # A git that is running does not see the repositories from which this one has borrowed
            # since, such as the one that brought the base of a line. One that is started now does.
            if self._reader is not None:
                self._reader.close()
            self._reader = _Reader(self.repo)
            found = self._reader.read(oid)
        if found is None:
            raise CannotRun(f"object {oid} is missing", where=str(self.repo.git_dir))
        return found

    def blob(self, oid: Oid) -> bytes:
        data = self._known.content(oid)
        return self._known.keep_content(oid, self._expect(oid, "blob")) if data is None else data

    def tree(self, oid: Oid) -> Tree:
        tree = self._known.tree(oid)
        if tree is None:
            tree = self._known.keep_tree(oid, _parse_tree(self._expect(oid, "tree")))
        return tree

    def prefetch(self, tree: Oid, paths: Iterable[str], without: Collection[str] = ()) -> None:
        """Read what stands at ``paths`` in a tree, and the folders above, with few questions to
        git: to wait for each answer takes longer than the rest. Nothing happens if one is missing.
        Of the paths ``without``, the folders alone are read.
        """
        waiting = [(tree, path, path) for path in paths]
        while waiting:
            self._read_many([oid for oid, _, _ in waiting if self._known.tree(oid) is None])
            below: list[tuple[Oid, str, str]] = []
            blobs: list[Oid] = []
            for oid, below_it, path in waiting:
                name, slash, rest = below_it.partition("/")
                entry = (self._known.tree(oid) or {}).get(name)
                if entry is not None and entry.mode == FOLDER and slash:
                    below.append((entry.blob, rest, path))
                elif entry and entry.mode != FOLDER and not slash and path not in without:
                    blobs.append(entry.blob)
            self._read_many([oid for oid in blobs if self._known.content(oid) is None])
            waiting = below

    def _read_many(self, oids: Iterable[Oid]) -> None:
        """Keep the trees and the blobs ``oids``, as many as there are, that are not new."""
        asked = [oid for oid in dict.fromkeys(oids) if oid not in self._new]
        if len(asked) < 2:  # nothing to be saved
            return
        self._reader = self._reader or _Reader(self.repo)
        for start in range(0, len(asked), _TOGETHER):
            batch = asked[start : start + _TOGETHER]
            for oid, found in zip(batch, self._reader.read_many(batch), strict=True):
                if found is not None and found[0] == "tree":
                    self._known.keep_tree(oid, _parse_tree(found[1]))
                elif found is not None and found[0] == "blob":
                    self._known.keep_content(oid, found[1])

    def remember(self, commits: Mapping[Oid, bytes]) -> None:
        """Keep the contents of commits that were read elsewhere, by their ids."""
        self._commits.update(commits)

    def tree_of(self, commit: Oid) -> Oid:
        """The tree of a commit."""
        return Oid(self._commit(commit)[5:45].decode())

    def commit(self, oid: Oid) -> Commit:
        with reading_answer("cat-file"):
            return parse_commit(self._commit(oid))

    def _commit(self, oid: Oid) -> bytes:
        return self._commits.get(oid) or self._expect(oid, "commit")

    def entry(self, tree: Oid, path: str) -> TreeEntry | None:
        """What stands at ``path`` in a tree, a folder too; None if nothing does."""
        *folders, name = path.split("/")
        for folder in folders:
            entry = self.tree(tree).get(folder)
            if entry is None or entry.mode != FOLDER:
                return None
            tree = entry.blob
        return self.tree(tree).get(name)

    def files(self, tree: Oid, paths: Iterable[str]) -> dict[str, TreeEntry]:
        """Those of ``paths`` that are files of a tree."""
        found = {}
        inner = {"": self.tree(tree)}  # the folders that were looked into
        for path in paths:
            above, _, name = path.rpartition("/")
            folder = inner.get(above)
            if folder is None:
                entry = self.entry(tree, above)
                is_folder = entry is not None and entry.mode == FOLDER
                folder = inner[above] = self.tree(entry.blob) if entry and is_folder else {}
            entry = folder.get(name)
            if entry is not None and entry.mode != FOLDER:
                found[path] = entry
        return found

    def folders(self, tree: Oid, paths: Iterable[str]) -> set[str]:
        """Those of ``paths`` that are folders of a tree."""
        found = ((path, self.entry(tree, path)) for path in paths)
        return {path for path, entry in found if entry and entry.mode == FOLDER}

    def changed_paths(self, old: Oid, new: Oid) -> set[str]:
        """The paths of the files that differ between two trees. Renames are not followed."""
        paths: set[str] = set()
        waiting = [("", old, new)]
        while waiting:
            folder, before, after = waiting.pop()
            sides = tuple(self.tree(oid) if oid else {} for oid in (before, after))
            for name in sides[0].keys() | sides[1].keys():
                entries = [side.get(name) for side in sides]
                if entries[0] == entries[1]:
                    continue
                inner = [entry.blob if entry and entry.mode == FOLDER else Oid("")
                         for entry in entries]  # fmt: skip
                if any(inner):
                    waiting.append((f"{folder}{name}/", inner[0], inner[1]))
                if any(entry and entry.mode != FOLDER for entry in entries):
                    paths.add(folder + name)
        return paths

    def _expect(self, oid: Oid, kind: str) -> bytes:
        found, data = self.read(oid)
        if found != kind:
            raise CannotRun(
                f"object {oid} is a {found}, not a {kind}", where=str(self.repo.git_dir)
            )
        return data

    def _content(self, oid: Oid) -> bytes:
        """The content of a new object."""
        data = self._known.content(oid)
        if data is not None:
            return data
        new = self._new[oid]
        data = unpacked(new, self._content(new.base) if new.base else b"")
        return self._known.keep_content(oid, data)

    # -- writing ---------------------------------------------------------------------------

    def add(self, kind: str, data: bytes, like: Oid | None = None) -> Oid:
        """Keep a new object, which may be ``like`` another one. Returns its id."""
        head = f"{kind} {len(data)}\0".encode()
        oid = Oid(hashlib.sha1(head + data, usedforsecurity=False).hexdigest())
        if oid not in self._new and oid not in self._written and oid not in self._commits:
            if self.scratch:
                new = packed(kind, data, level=0)
            elif like in self._new and (before := self._known.content(like)) is not None:
                depth = self._new[like].depth
                new = packed(kind, data, like, before, depth)
            else:
                new = packed(kind, data)
            self._new[oid] = new
            self._known.keep_content(oid, data)
            self._new_size += len(new.data)
            if self._new_size > (_MOST_PASSING if self.scratch else _MOST_NEW):
                self.flush()
        return oid

    def add_commit(self, commit: Commit) -> Oid:
        return self.add("commit", commit.raw)

    def with_files(self, tree: Oid, changes: Mapping[str, TreeEntry | None]) -> Oid:
        """The tree with other files at the paths of ``changes``; None takes a file away. A folder
        that is empty then goes too."""
        inner: dict[str, dict[str, TreeEntry | None]] = {}
        entries = dict(self.tree(tree)) if tree else {}
        changed: dict[str, TreeEntry | None] = {}
        for path, change in changes.items():
            name, slash, rest = path.partition("/")
            if slash:
                inner.setdefault(name, {})[rest] = change
            else:
                changed[name] = change
        for name, below in inner.items():
            before = changed[name] if name in changed else entries.get(name)
            subtree = before.blob if before and before.mode == FOLDER else Oid("")
            after = self.with_files(subtree, below)
            changed[name] = TreeEntry(FOLDER, after) if self.tree(after) else None
        data = self._with_contents(tree, entries, changed)
        for name, change in changed.items():
            if change is None:
                entries.pop(name, None)
            else:
                entries[name] = change
        data = data or _tree_bytes(entries)
        oid = self.add("tree", data, tree)
        self._known.keep_tree(oid, entries, data)
        return oid

    def _with_contents(
        self, tree: Oid, entries: Tree, changed: Mapping[str, TreeEntry | None]
    ) -> bytes:
        """The bytes of a tree with these ``entries`` if those that are ``changed`` get another
        content; empty if they get more, or if the tree was not made here. Patches change few of
        many entries, and to make the bytes of all takes longer."""
        data = self._known.bytes_of(tree)
        for name, entry in changed.items():
            before = entries.get(name) if data else None
            if before is None or entry is None or before.mode != entry.mode:
                return b""
            row = _tree_bytes({name: before})
            at = data.find(row)
            if at < 0 or data.find(row, at + 1) >= 0:  # the bytes of an id may look like a row
                return b""
            end = at + len(row)
            data = data[: end - 20] + bytes.fromhex(entry.blob) + data[end:]
        return data

    def flush(self) -> None:
        """Write the new objects. An object that is there already is not written again."""
        if not self._new:
            return
        folder = self.repo.objects_folder
        if self.scratch is not None:
            write_pack(self.scratch, self._new, durable=False)
        elif len(self._new) < FEW:
            write_loose(folder, [(new.kind, self._content(oid)) for oid, new in self._new.items()])
        else:
            write_pack(folder, self._new)
        self._written.update(self._new)
        self._new.clear()
        self._new_size = 0

    # -- merging ---------------------------------------------------------------------------

    def merge_three_way(self, base: Oid, ours: Oid, theirs: Oid) -> Merge:
        """Merge commit ``theirs`` (a child of ``base``) into the tree ``ours``.

        git 2.39 has no ``merge-tree --merge-base``, so the merge is given a stand-in: the tree
        ``ours``, as a child of ``base``, which makes ``base`` the only merge base.
        """
        message = "stand-in for a three-way merge\n"
        stand_in = self.add_commit(Commit(ours, (base,), MACHINE, MACHINE, message))
        self.flush()
        out = self.repo.run(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", stand_in, theirs,
            accept=(0, 1),
        )  # fmt: skip
        tree, *conflicts = out.stdout.decode("utf-8", "surrogateescape").split("\0")
        return Merge(parse_oid(tree, "git merge-tree"), tuple(path for path in conflicts if path))


class _Reader:
    """One ``git cat-file --batch`` that answers all questions."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        setting = f"core.deltaBaseCacheLimit={_DELTA_BASES}"
        self._process = repo.start("-c", setting, "cat-file", "--batch")
        self._rest = bytearray()
        self._known = ExitStack()
        self._known.enter_context(known_to_its_pool(self._process))

    def read(self, oid: Oid) -> tuple[str, bytes] | None:
        """The kind and the content of an object; None if it is not there."""
        return self.read_many([oid])[0]

    def read_many(self, oids: Sequence[Oid]) -> list[tuple[str, bytes] | None]:
        """The same of several objects, whose ids fit into a pipe together."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write("".join(f"{oid}\n" for oid in oids).encode())
            stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        return [self._answer() for _ in oids]

    def _answer(self) -> tuple[str, bytes] | None:
        header = self._line().split(b" ")
        if len(header) != 3:
            return None
        with reading_answer("cat-file"):
            size = int(header[2])
        self._fill(size + 1)
        data = bytes(self._rest[:size])
        del self._rest[: size + 1]
        return header[1].decode(), data

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            self._fill(len(self._rest) + 1)
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _fill(self, size: int) -> None:
        """Read until ``size`` bytes wait."""
        stdout = self._process.stdout
        assert stdout is not None
        while len(self._rest) < size:
            if not select.select([stdout], [], [], self._repo.time_limit)[0]:
                raise self._ended("did not answer in time")
            data = os.read(stdout.fileno(), 1 << 20)
            if not data:
                raise self._ended()
            self._rest += data

    def _ended(self, what: str = "ended before its answer") -> CannotRun:
        return CannotRun(f"git cat-file {what}", where=str(self._repo.git_dir),
                         hint="run the same command again")  # fmt: skip

    def close(self) -> None:
        self._known.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):  # git has ended, and a question is left unwritten
                    pipe.close()
        try:
            self._process.wait(_FAREWELL)  # without questions, git ends by itself
        except subprocess.TimeoutExpired:
            end(self._process)


def _parse_tree(data: bytes) -> dict[str, TreeEntry]:
    rows = _ENTRY.findall(data)
    if sum(len(mode) + len(name) for mode, name, _ in rows) + 22 * len(rows) != len(data):
        raise ValueError(data[:100])
    return {
        name.decode("utf-8", "surrogateescape"):
            TreeEntry(_MODES.get(mode) or mode.decode(), Oid(blob.hex()))
        for mode, name, blob in rows
    }  # fmt: skip


_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_MODES = {b"40000": FOLDER, b"100644": "100644", b"100755": "100755", b"120000": "120000"}


def _tree_bytes(entries: Tree) -> bytes:
    """The bytes that git stores: sorted by name, where a folder's name counts as if it ended with
    a slash."""
    rows = []
    for text, (mode, blob) in entries.items():
        name = text.encode("utf-8", "surrogateescape")
        row = b"%b %b\0%b" % (mode.removeprefix("0").encode(), name, bytes.fromhex(blob))
        rows.append((name + b"/" if mode == FOLDER else name, row))
    rows.sort()
    return b"".join([row for _, row in rows])


@contextmanager
def passing_objects(repo: Repo) -> Iterator[ObjectDatabase]:
    """An object database whose new objects are removed at the end of the block. Until then, git
    sees those that were flushed if it is started by the repository that the database holds."""
    with temporary_folder("fixtool-scratch-") as folder:
        (folder / "pack").mkdir()
        with ObjectDatabase(repo.also_reading(folder), scratch=folder) as objects:
            yield objects
