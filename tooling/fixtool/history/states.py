"""What the verdict of a patch on a commit depends on: a few files of the commit and of the base.

Commits that leave these files alone need no replay of their own. Other files matter only if one of
these files is gone, since a three-way merge looks for its new place. Then the files that it could
have become are part of the state too.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    file can matter, both are empty, and ``commit`` is the commit itself."""

    files: Files = ()
    base_files: Files = ()
    commit: Oid | None = None

    @property
    def key(self) -> str:
        """What tells this state from others in the cache."""
        separator = ("\0", TreeEntry("", Oid("")))
        return self.commit or digest((*self.files, separator, *self.base_files))


def digest(files: Sequence[tuple[str, TreeEntry]]) -> str:
    """A hash of the paths and the entries of ``files``."""
    plain = tuple((path, tuple(entry)) for path, entry in files)
    return hashlib.sha256(repr(plain).encode("utf-8", "surrogateescape")).hexdigest()


def groups(patches: Sequence[Patch]) -> list[frozenset[str]]:
    """The slugs that must be judged together: of patches that change the same file, or depend on
    each other by their trailers."""
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
        self._similar: dict[Oid, set[Oid]] = {}  # a blob of the base -> new blobs

    def states(self, patches: Iterable[Patch]) -> list[FileState]:
        """The state of each commit for ``patches``, the first for the start. Two states are equal
        if no file that matters differs."""
        paths = {path for patch in patches for path in patch.paths}
        in_base = {path for path in paths if path in self._base_files}
        known = self._base_files.keys()
        folders = {posixpath.dirname(path) for path in paths - in_base} - {""}
        if self._has_base:
            folders = {folder for folder in folders if _holds(self._base_files, folder)}
        files = dict(self._start_files)
        states = [self._state(self._start, files, paths, folders)]
        for change in self._changes:
            unusual = any(path not in files or path not in known for path in change.files)
            for path, entry in change.files.items():
                if entry is None:
                    files.pop(path, None)
                else:
                    files[path] = entry
            gone = states[-1].commit or any(path not in files for path in in_base)
            if (
                None in change.files.values()
                or not paths.isdisjoint(change.files)
                # git may take a file that the base lacks as the new place of one that is gone.
                or (gone and unusual)
            ):
                states.append(self._state(change.commit.sha, files, paths, folders))
            else:
                states.append(states[-1])
        return states

    def _state(
        self, commit: Oid, files: Mapping[str, TreeEntry], paths: set[str], folders: set[str]
    ) -> FileState:
        """The state of a commit with ``files``. ``folders`` are those of the base that the patches
        add files to."""
        if not all(_holds(files, folder) for folder in folders):
            return FileState(commit=commit)  # git may see that the folder was renamed
        base_files = {path: self._base_files[path] for path in paths if path in self._base_files}
        matter = {path: files[path] for path in paths if path in files}
        if missing := {entry.blob for path, entry in base_files.items() if path not in files}:
            new = {path: entry for path, entry in files.items() if path not in self._base_files}
            alike = self._similar_to(missing)
            similar = {path: entry for path, entry in new.items() if entry.blob in alike}
            matter |= similar
            # If another file of the base went too, and a new file is exactly that one, then git
            # takes it as that file's new place.
            blobs = {entry.blob for entry in similar.values()}
            base_files |= {
                path: entry
                for path, entry in self._base_files.items()
                if path not in files and entry.blob in blobs
            }
        return FileState(tuple(sorted(matter.items())), tuple(sorted(base_files.items())))

    def _similar_to(self, blobs: set[Oid]) -> set[Oid]:
        """The blobs of new files that git's rename detection may take as one of ``blobs``: it takes
        none that is less than half as large, or more than twice, or less than 50% similar."""
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
            similar = similar_blobs(self._repo, pairs)
            for blob in unknown:
                self._similar[blob] = {other for before, other in similar if before == blob}
        return {other for blob in blobs for other in self._similar[blob]}


def _holds(files: Iterable[str], folder: str) -> bool:
    return any(path.startswith(f"{folder}/") for path in files)
