"""The cache of the patches whose diffs were checked before and found to be in order.

To read the diffs of a thousand patches takes longer than all else that an apply does which finds
its result in the cache. A file of the cache has the digest of a patch as its name, and holds the
paths of that patch. It is safe to delete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from fixtool.documents import Field, read_own
from fixtool.errors import CannotRun
from fixtool.files import private_folder, remove_old, require_private, write_atomically
from fixtool.series.patch import Patch

_FORMAT = 1  # raised whenever a rule about diffs changes: what was in order may no longer be
_DAYS = 90


class CheckedPatches:
    """The patches of which ``folder`` says that their diffs are in order. Without a folder nothing
    is known and nothing is kept. Raises CannotRun if others may have written to the folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._added = False
        if folder:
            require_private(folder)

    def holds(self, patch: Patch) -> bool:
        """Whether the diff of ``patch`` is in order. If it is, the patch knows its paths, and its
        diff need not be read for them."""
        if self._folder is None:
            return False
        paths = read_own(self._folder / f"{patch.digest}.json", lambda root: _paths(root, patch))
        if paths is None:
            return False
        patch.know_paths(paths)
        return True

    def add(self, patch: Patch) -> None:
        """Keep that the diff of ``patch`` is in order. If that cannot be written (a disk that is
        full or read-only), the next run takes longer; its result is the same."""
        if self._folder is None:
            return
        paths = sorted(patch.paths)
        try:
            if not self._added:
                private_folder(self._folder)
                remove_old(self._folder, _DAYS)
                self._added = True
            text = json.dumps({"paths": paths, "sum": _sum(patch, paths)})
            write_atomically(self._folder / f"{patch.digest}.json", text)
        except (OSError, CannotRun):
            self._folder = None


def _paths(root: Field, patch: Patch) -> frozenset[str]:
    paths = root["paths"].texts()
    if root["sum"].text() != _sum(patch, paths):
        raise root["sum"].wrong("the sum of the paths")
    return frozenset(paths)


def _sum(patch: Patch, paths: Sequence[str]) -> str:
    text = "\0".join([str(_FORMAT), patch.digest, *paths])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
