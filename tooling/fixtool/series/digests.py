"""The digests of files that have not changed since they were read, as git's index keeps them.

To read the patches of a long series takes longer than to ask when each was changed. A digest is
believed only if nothing about its file has changed: device, inode, size, and the times of the last
change of its content (mtime) and of anything about it (ctime), which no program can set. As in
git, what a program writes through a memory map that it holds for seconds is not seen. A file that
changed a moment before it was read may have changed again at what counts as the same time, so
its digest is not kept. Nor is the digest of a file whose times lie in the future, or of one on a
file system whose times are whole seconds. Whatever is in doubt is read again. The cache has one
file for each line, and is safe to delete.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from fixtool.documents import Field, keep_own, read_own
from fixtool.files import require_private

_MOMENT = 2 * 10**9  # nanoseconds; the coarsest file systems round times to two seconds
_SECOND = 10**9
_SPARE = 100  # names that may be left of files that are gone


class FileDigests:
    """What the folder ``cache`` knows of the files below ``folder``, those of a line. Without a
    cache nothing is known and nothing is kept. Raises CannotRun if others may have written to it.
    """

    def __init__(self, cache: Path | None, folder: Path) -> None:
        self._cache = cache
        self._file = f"{name_of(folder)}-files.json"
        self._before: dict[str, list[object]] = {}
        self._now: dict[str, list[object]] = {}
        self._opened = time.time_ns()
        if cache:
            require_private(cache)
            self._before = read_own(cache / self._file, _table, checksummed=True) or {}

    def find(self, name: str, about: os.stat_result) -> str | None:
        """The digest of the file ``name``, whose status is ``about``; None if it has to be read."""
        kept = self._before.get(name)
        if kept is None or kept[:-1] != _identity(about):
            return None
        self._now[name] = kept
        return str(kept[-1])

    def note(self, name: str, about: os.stat_result, digest: str) -> None:
        """Note the digest of a file, which was read after it had the status ``about``."""
        last = max(about.st_mtime_ns, about.st_ctime_ns)
        if last < self._opened - _MOMENT and about.st_ctime_ns % _SECOND:
            self._now[name] = [*_identity(about), digest]

    def keep(self) -> None:
        """Write down what is known now, if it was not all there before."""
        if self._cache and any(
            self._before.get(name) is not known for name, known in self._now.items()
        ):
            files = {**self._before, **self._now}
            if len(files) > len(self._now) * 2 + _SPARE:
                files = self._now
            keep_own(self._cache, {self._file: files}, checksummed=True)


def name_of(folder: Path) -> str:
    """The name under which a cache keeps what it knows of the line in ``folder``."""
    path = str(folder.absolute()).encode("utf-8", "surrogateescape")
    return hashlib.sha256(path).hexdigest()


def _identity(about: os.stat_result) -> list[object]:
    """The parts of a file's status of which one changes whenever the file does."""
    return [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _table(root: Field) -> dict[str, list[object]]:
    return root.table()
