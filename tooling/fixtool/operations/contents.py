"""The bytes of files as they were, kept by their hash."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.files import private_folder, read_plain, write_atomically
from fixtool.series.digests import FileDigests

LARGEST = 64 << 20  # bytes of one file
_DIGEST = re.compile("[0-9a-f]{64}")
_YOUNG = 3600  # seconds in which another run may be about to name a file


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


class Contents:
    """A folder of files that are named by the hash of their bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._start = f"{folder}/"
        self._known: dict[tuple[int, ...], str] = {}

    def keep_file(
        self, folder: Path, name: str, about: os.stat_result, digests: FileDigests
    ) -> str:
        """Keep the bytes of a file with the status ``about``. A command looks at the patches twice,
        and reads those once that it did not touch; and those not at all whose ``digests`` are known
        and whose bytes are kept."""
        key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if key not in self._known:
            digest = digests.find(name, about)
            if digest is None or not self._holds(digest):
                digest = self.keep(read_plain(folder, name, LARGEST))
                digests.note(name, about, digest)
            self._known[key] = digest
        return self._known[key]

    def keep(self, data: bytes) -> str:
        """Keep ``data``, and return the name by which ``read`` finds it."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._holds(digest):
            path = self.folder / digest[:2] / digest
            private_folder(self.folder)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, data)
        return digest

    def _holds(self, digest: str) -> bool:
        """Whether bytes are kept by this name. If so, they count as kept now: another run, which
        removes what is old, then sees that they are needed."""
        try:
            os.utime(f"{self._start}{digest[:2]}/{digest}")
        except FileNotFoundError:
            return False
        return True

    def read(self, digest: str) -> bytes:
        """The bytes that were kept by this name. Raises CannotRun if they are gone or damaged."""
        folder = self.folder / digest[:2]
        with suppress(OSError):
            data = read_plain(folder, digest, LARGEST)
            if hashlib.sha256(data).hexdigest() == digest:
                return data
        raise CannotRun(
            "a file that the operation log has kept is gone or damaged",
            where=str(folder / digest),
            hint="take it back by hand, for example: git revert COMMIT",
        )

    def size(self, names: Collection[str]) -> int:
        """How many bytes are kept by these names."""
        return sum(path.lstat().st_size for path in self._files() if path.name in names)

    def sweep(self, needed: Collection[str]) -> None:
        """Remove what is not ``needed`` and was not kept a moment ago."""
        oldest = time.time() - _YOUNG
        for path in self._files():
            if path.name not in needed and path.lstat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("??/*"))
