"""What the verdict of a patch on a commit depends on: a few files of the commit and of the base.

Commits that leave these files alone need no replay of their own. Other files matter only if one of
these files is gone, since a three-way merge looks for its new place. Then the files that it could
have become are part of the state too.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, similar_blobs
from fixtool.history.log import UpstreamChange
from fixtool.series.patch import Patch

_SUBMODULE = "160000"  # the mode of what is no file of this repository

Files = tuple[tuple[str, TreeEntry], ...]
"""Paths and their entries, sorted by path."""


@dataclass(frozen=True)
class FileState:
    """The files of one commit that can matter to some patches, and those of their base. If every
    file can matter, both are empty, and ``commit`` is the commit itself. ``lost`` is the commit if
    ``lost_folders``, which get a new file, are gone, and git is known not to take them for renamed.
    """

    files: Files = ()
    base_files: Files = ()
    commit: Oid | None = None
    lost: Oid | None = None
    lost_folders: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """What tells this state from others in the cache."""
        separator = ("\0", TreeEntry("", Oid("")))
        return self.commit or self.lost or digest((*self.files, separator, *self.base_files))


def digest(files: Sequence[tuple[str, TreeEntry]]) -> str:
    """A hash of the paths and the entries of ``files``."""
    plain = tuple((path, tuple(entry)) for path, entry in files)
    return hashlib.sha256(repr(plain).encode("utf-8", "surrogateescape")).hexdigest()


def groups(patches: Sequence[Patch]) -> list[frozenset[str]]:
    """The slugs that must be judged together: of patches that change the same file, or depend on
    each other by their trailers. See `UpstreamFiles.groups`."""
    groups: list[tuple[set[str], set[str]]] = []  # the names that connect (paths, slugs); the slugs
    for patch in patches:
        names = set(patch.paths) | {f"\0{slug}" for slug in (patch.slug, *patch.depends_on)}
        slugs = {patch.slug}
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names |= group[0]
            slugs |= group[1]
        groups.append((names, slugs))
    return [frozenset(slugs) for _, slugs in groups]


class UpstreamFiles:
    """The files of the ``base`` and of upstream's commits from ``start`` on. The base is None if it
    cannot be had. Then no three-way merge is possible, and renames do not matter."""

    def __init__(
        self,
        repo: Repo,
        base: Oid | None,
        start: Oid,
        changes: Sequence[UpstreamChange],
        bring: Callable[[Sequence[Oid]], None] = lambda _: None,
    ) -> None:
        self._repo, self._start, self._changes, self._bring = repo, start, changes, bring
        self._has_base = base is not None
        self._base_files = list_tree(repo, base) if base else {}
        self._start_files = self._base_files if base == start else list_tree(repo, start)
        self._base_folders = Counter(folder for path in self._base_files
                                     for folder in _folders(path))  # fmt: skip
        self._similar: dict[Oid, set[Oid]] = {}  # a blob of the base -> new blobs

    def groups(self, patches: Sequence[Patch]) -> list[frozenset[str]]:
        """The slugs that must be judged together (``groups``): all of them if upstream writes a
        file that a patch removes, and takes a file away that a patch changes. git may then find
        that the one has moved to the place of the other, for which no patch names both."""
        paths = {path for patch in patches for path in patch.paths}
        removed = _removed_by(patches)
        base, trees = self._base_files, [self._start_files, *(c.files for c in self._changes)]
        written = any(tree[path] not in (None, base.get(path))
                      for tree in trees for path in removed & tree.keys())  # fmt: skip
        gone = (paths & base.keys()) - self._start_files.keys() or any(
            tree[path] is None for tree in trees[1:] for path in paths & tree.keys()
        )
        if written and gone:
            return [frozenset(patch.slug for patch in patches)]
        return groups(patches)

    def _tree(self, patches: Collection[Patch]) -> _Tree:
        """The files of the start, as they matter to ``patches``."""
        paths = frozenset(path for patch in patches for path in patch.paths)
        removed = Counter(folder for path in _removed_by(patches) for folder in _folders(path))
        emptied = [folder for folder, files in removed.items()
                   if self._base_folders[folder] <= files]  # fmt: skip
        return _Tree(
            self._base_files, self._base_folders, self._start_files, paths, emptied,
            has_base=self._has_base,
        )  # fmt: skip

    def lost_folders(self, patches: Iterable[Patch]) -> dict[Oid, frozenset[str]]:
        """For each commit on which a folder is gone that gets a new file of ``patches``: these
        folders. Commits are left out that move no file: what git makes of the folders is then what
        it made of them on the commit before."""
        tree = self._tree(tuple(patches))
        lost = {self._start: tree.lost_folders}
        for change in self._changes:
            if tree.put_all(change.files):
                lost[change.commit.sha] = tree.lost_folders
        return {commit: folders for commit, folders in lost.items() if folders}

    def states(self, patches: Iterable[Patch], kept: Collection[Oid] = ()) -> list[FileState]:
        """The state of each commit for ``patches``, the first for the start. Two states are equal
        if no file that matters differs. ``kept`` are those of ``lost_folders`` on which git is
        known not to take these folders for renamed."""
        patches = tuple(patches)
        tree = self._tree(patches)
        paths = tree.paths
        gone = {path for change in self._changes for path in paths & change.files.keys()
                if change.files[path] is None}  # fmt: skip
        in_base = tree.in_base
        self._similar_to(  # all at once: git then compares side by side
            {in_base[path] for path in {*gone, *tree.missing} if path in in_base}
        )
        states = [self._state(self._start, tree, renamed=self._start not in kept)]
        renamed = self._start not in kept
        for change in self._changes:
            moves = tree.put_all(change.files)
            if moves:
                renamed = change.commit.sha not in kept
            before = states[-1]
            if (
                None in change.files.values()
                or not paths.isdisjoint(change.files)
                # git may take a file that the base lacks as the new place of one that is gone.
                or (moves and (before.commit or before.lost or tree.searched))
            ):
                state = self._state(change.commit.sha, tree, renamed=renamed)
                states.append(states[-1] if state == states[-1] else state)
            else:
                states.append(states[-1])
        return states

    def _state(self, commit: Oid, tree: _Tree, *, renamed: bool) -> FileState:
        """The state of a commit with the files of ``tree``. ``renamed`` says that git may take a
        folder that is gone for renamed."""
        lost = tree.lost_folders
        if tree.has_a_clash or tree.grew_where_emptied or (lost and renamed):
            return FileState(commit=commit)
        base_files = dict(tree.in_base)
        matter = {path: tree.files[path] for path in tree.paths if path in tree.files}
        if tree.missing:
            alike = self._similar_to(tree.missing.values())
            similar = tree.new_files_like({other for group in alike.values() for other in group})
            if lost and similar and not tree.keeps_folders_of(tree.missing):
                return FileState(commit=commit)  # a file that moves may take its folder along
            for path, entry in tree.missing.items():
                places = sum(other.blob in alike[entry.blob] for other in similar.values())
                if places > 1 and tree.new_names[posixpath.basename(path)] > 1:
                    return FileState(commit=commit)  # git may decide by what else has moved there
            matter |= similar
            # If another file of the base went too, and a new file is exactly that one, then git
            # takes it as that file's new place.
            base_files |= tree.gone_with({entry.blob for entry in similar.values()})
        files = _in_order(matter, tree.pairs)
        base = _in_order(base_files, tree.base_pairs)
        base = tree.last_base = tree.last_base if base == tree.last_base else base
        return FileState(files, base, None, commit if lost else None, lost)

    def _similar_to(self, entries: Iterable[TreeEntry]) -> dict[Oid, set[Oid]]:
        """For the blob of each of ``entries``, the blobs of new files that git's rename detection
        may take as that one: it takes none that is less than half as large, or more than twice, or
        less than 50% similar."""
        blobs = {entry.blob for entry in entries}
        if unknown := blobs - self._similar.keys():
            trees = [self._start_files, *(change.files for change in self._changes)]
            new = {
                entry.blob
                for files in trees
                for path, entry in files.items()
                if path not in self._base_files and entry and entry.mode != _SUBMODULE
            }
            self._bring(sorted(new | unknown))
            sizes = self._repo.sizes(sorted(new | unknown))
            pairs = [
                (blob, other)
                for blob in sorted(unknown)
                for other in sorted(new)
                if sizes[blob] <= 2 * sizes[other] and sizes[other] <= 2 * sizes[blob]
            ]
            for blob in unknown:
                self._similar[blob] = set()
            for blob, other in similar_blobs(self._repo, pairs):
                self._similar[blob].add(other)
        return {blob: self._similar[blob] for blob in blobs}


def _in_order(
    files: Mapping[str, TreeEntry], pairs: dict[str, tuple[str, TreeEntry]]
) -> tuple[tuple[str, TreeEntry], ...]:
    """``files`` by path. The states of a long series have thousands of files each, and nearly all
    are as in the state before, so the ``pairs`` that were made for that one are used again."""
    for path, entry in files.items():
        if (pair := pairs.get(path)) is None or pair[1] is not entry:
            pairs[path] = (path, entry)
    return tuple([pairs[path] for path in sorted(files)])


class _Tree:
    """The files of a commit of upstream, which ``put`` moves on to the next one, and what of them
    matters to patches that change ``paths``.

    ``folders`` are those of the base, with the number of files in and below each. ``in_base`` are
    the files of the base at these paths, ``emptied`` the folders of which patches remove all files,
    and ``missing`` those of them that are
    gone. ``new_names`` counts the names of the files that the base lacks.
    """

    def __init__(
        self,
        base: Mapping[str, TreeEntry],
        folders: Mapping[str, int],
        start: Mapping[str, TreeEntry],
        paths: frozenset[str],
        emptied: Iterable[str],
        *,
        has_base: bool,
    ) -> None:
        self.paths, self._base = paths, base
        self.pairs: dict[str, tuple[str, TreeEntry]] = {}  # of the states, which share most
        self.base_pairs: dict[str, tuple[str, TreeEntry]] = {}
        self.last_base: Files = ()  # of the state before, which most have in common
        self.in_base = {path: base[path] for path in paths if path in base}
        self.files: dict[str, TreeEntry] = {}
        self.missing = dict(self.in_base)
        self.new_names: Counter[str] = Counter()
        self._new: dict[str, TreeEntry] = {}
        self._gone = dict(base)
        self._above = {folder for path in paths for folder in _folders(path)}
        self._below = tuple(f"{path}/" for path in paths)
        self._clashes: set[str] = set()
        self._emptied = tuple(f"{folder}/" for folder in emptied)
        self._grown: set[str] = set()
        self._by_blob: dict[Oid, list[str]] = {}
        # How many files each folder holds to which the patches add files.
        self._held = {
            folder: 0 for path in paths - base.keys()
            if (folder := _nearest(path, folders) if has_base else posixpath.dirname(path))
        }  # fmt: skip
        self._like: tuple[set[Oid], dict[str, TreeEntry]] = (set(), {})
        if start is base:
            self._begin_at_base(folders)
        else:
            for path, entry in start.items():
                self.put(path, entry)

    def _begin_at_base(self, folders: Mapping[str, int]) -> None:
        """Put all files of the base at once: a series has many groups, and a tree many files."""
        self.files, self.missing, self._gone = dict(self._base), {}, {}
        for folder in self._held:
            self._held[folder] = folders.get(folder, 0)
        self._clashes = self._above & self._base.keys()
        if not self.paths.isdisjoint(folders):
            self._clashes.update(path for path in self._base if path.startswith(self._below))

    def put_all(self, files: Mapping[str, TreeEntry | None]) -> bool:
        """Set the entries at all these paths. Returns whether that may change where git finds that
        a file has moved: it only edits files that the base has too, otherwise."""
        moves = any(path not in self.files or path not in self._base or entry is None
                    for path, entry in files.items())  # fmt: skip
        for path, entry in files.items():
            self.put(path, entry)
        return moves

    def put(self, path: str, entry: TreeEntry | None) -> None:
        """Set the entry at ``path``; None takes the file away."""
        before = self.files.pop(path, None)
        if entry is not None:
            self.files[path] = entry
        if (before is None) is not (entry is None):
            self._come_or_go(path, came=entry is not None)
        if path in self._base:
            return
        blobs, like = self._like
        for kept, wanted in ((self._new, entry), (like, entry if entry and entry.blob in blobs
                                                  else None)):  # fmt: skip
            if wanted is None:
                kept.pop(path, None)
            else:
                kept[path] = wanted

    def _come_or_go(self, path: str, *, came: bool) -> None:
        step = 1 if came else -1
        for folder in self._held:
            if path.startswith(f"{folder}/"):
                self._held[folder] += step
        if path in self._above or path.startswith(self._below):
            (self._clashes.add if came else self._clashes.discard)(path)
        if path not in self._base:
            self.new_names[posixpath.basename(path)] += step
            if path.startswith(self._emptied):
                (self._grown.add if came else self._grown.discard)(path)
            return
        for kept, entries in ((self._gone, self._base), (self.missing, self.in_base)):
            if came:
                kept.pop(path, None)
            elif path in entries:
                kept[path] = entries[path]

    @property
    def has_a_clash(self) -> bool:
        """Whether a file stands where a patch has a folder, or the other way round."""
        return bool(self._clashes)

    @property
    def searched(self) -> bool:
        """Whether it matters what git takes for moved, besides folders that are gone."""
        return bool(self.missing) or self.grew_where_emptied

    @property
    def grew_where_emptied(self) -> bool:
        """Whether a new file is in a folder of which patches remove all files: git may see that
        they rename the folder, and carry the file along."""
        return bool(self._grown)

    @property
    def lost_folders(self) -> frozenset[str]:
        """The folders that get a new file and are gone: git may see that they were renamed."""
        return frozenset(folder for folder, files in self._held.items() if not files and folder)

    def keeps_folders_of(self, paths: Iterable[str]) -> bool:
        """Whether the folders of all these files still hold something."""
        return all(_holds(self.files, posixpath.dirname(path)) for path in paths)

    def new_files_like(self, blobs: set[Oid]) -> Mapping[str, TreeEntry]:
        """The files that the base lacks and whose content is one of ``blobs``."""
        if blobs != self._like[0]:
            like = {path: entry for path, entry in self._new.items() if entry.blob in blobs}
            self._like = (blobs, like)
        return self._like[1]

    def gone_with(self, blobs: Collection[Oid]) -> dict[str, TreeEntry]:
        """The files of the base that are gone and whose content is one of ``blobs``."""
        if not blobs:
            return {}
        if not self._by_blob:
            for path, entry in self._base.items():
                self._by_blob.setdefault(entry.blob, []).append(path)
        return {path: self._gone[path] for blob in blobs for path in self._by_blob.get(blob, ())
                if path in self._gone}  # fmt: skip


def _removed_by(patches: Iterable[Patch]) -> set[str]:
    """The files that ``patches`` remove, or put at another place."""
    return {file.left_path for patch in patches for file in patch.files if file.left_path}


def _folders(path: str) -> Iterator[str]:
    """The folders that ``path`` lies in, the innermost first."""
    while path := path.rpartition("/")[0]:
        yield path


def _nearest(path: str, folders: Container[str]) -> str:
    """The innermost one of ``folders`` around ``path``; empty for the root."""
    return next((folder for folder in _folders(path) if folder in folders), "")


def _holds(files: Iterable[str], folder: str) -> bool:
    return any(path.startswith(f"{folder}/") for path in files)
