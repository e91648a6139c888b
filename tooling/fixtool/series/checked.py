"""The cache of the patches that were checked before and found to be in order.

To read the diffs of a thousand patches takes longer than all else that an apply does which finds
its result in the cache. The cache has one file for each line, which holds the digests of its
patches, and what was read of each: to open a file for each patch would take as long as to read it.
If `series.digests` knows the digest of a file too, it is not even read. It is safe to delete.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtool.documents import Field, keep_own, read_own
from fixtool.files import require_private
from fixtool.git.objects import Signature
from fixtool.series.digests import FileDigests, name_of
from fixtool.series.line import Line
from fixtool.series.patch import LARGEST, Patch

_FORMAT = 3  # raised whenever a rule about patches changes: what was in order may no longer be


@dataclass
class CheckedPatches:
    """The patches of the line in the folder ``line`` that are in order by themselves, whatever the
    others are, as the folder ``cache`` says. Without that folder nothing is known and nothing is
    kept. Raises CannotRun if others may have written to it."""

    cache: Path | None
    line: Path
    _before: Mapping[str, Any] = field(default_factory=dict)
    _now: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._files = FileDigests(self.cache, self.line)
        self._status: dict[str, os.stat_result] = {}
        if self.cache:
            require_private(self.cache)
            self._before = read_own(self.cache / self._file, _patches, checksummed=True) or {}

    @property
    def _file(self) -> str:
        return f"{name_of(self.line)}.json"

    def prepare(self, line: Line) -> None:
        """Give ``line`` those of its patches that are known and whose files have not changed, so
        that these are not read."""
        if not self.cache:
            return
        known: dict[str, Patch] = {}
        self._status = dict(self._statuses(line.unread))
        for name, about in self._status.items():
            digest = self._files.find(name, about)
            if digest is not None and (entry := self._before.get(digest)):
                known[name] = Patch.unread(
                    self.line / name, digest, entry["subject"], entry["body"],
                    Signature(*entry["author"]), entry["head"],
                )  # fmt: skip
        line.know(known)

    def _statuses(self, names: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
        """The status of each regular file of these names. The folder may not be a link."""
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            folder = os.open(self.line, flags)
            try:
                for name in names:
                    with suppress(OSError):
                        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST:
                            yield name, about
            finally:
                os.close(folder)

    def holds(self, patch: Patch) -> bool:
        """Whether ``patch`` is in order. If it is, it knows its paths, and its diff need not be
        read for them."""
        known = self._before.get(patch.digest)
        if known is None:
            return False
        patch.know_paths(frozenset(known["paths"]))
        self._now[patch.digest] = known
        return True

    def note_file(self, name: str, patch: Patch) -> None:
        """Note the digest of the file ``name`` if ``patch`` was read from it since ``prepare``."""
        if about := self._status.get(name):
            self._files.note(name, about, patch.digest)

    def add(self, patch: Patch) -> None:
        """Note that ``patch`` is in order."""
        author = patch.author
        self._now[patch.digest] = {
            "paths": sorted(patch.paths), "subject": patch.subject, "body": patch.body,
            "author": (author.name, author.email, author.date), "head": len(patch.head),
        }  # fmt: skip

    def keep(self) -> None:
        """Write down what is known now, if it was not all there before."""
        if self.cache and not self._now.keys() <= self._before.keys():
            keep_own(self.cache, {self._file: [_FORMAT, self._now]}, checksummed=True)
        self._files.keep()


def _patches(root: Field) -> Mapping[str, Any]:
    """What a file of the cache holds; nothing if another version of the rules wrote it."""
    version, patches = root.value
    return patches if version == _FORMAT else {}
