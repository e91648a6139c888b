"""The cache of the patches whose diffs were checked before and found to be in order.

To read the diffs of a thousand patches takes longer than all else that an apply does which finds
its result in the cache. The cache has one file for each line, which holds the digests of its
patches, and the paths of each: to open a file for each patch would take as long as to read it. It
is safe to delete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtool.documents import Field, keep_own, read_own
from fixtool.files import require_private
from fixtool.series.patch import Patch

_FORMAT = 2  # raised whenever a rule about diffs changes: what was in order may no longer be


@dataclass
class CheckedPatches:
    """The patches of the line in the folder ``line`` whose diffs are in order, as the folder
    ``cache`` says. Without that folder nothing is known and nothing is kept. Raises CannotRun if
    others may have written to it."""

    cache: Path | None
    line: Path
    _before: dict[str, Any] = field(default_factory=dict)
    _now: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache:
            require_private(self.cache)
            self._before = read_own(self.cache / self._file, Field.table) or {}

    @property
    def _file(self) -> str:
        name = hashlib.sha256(str(self.line.absolute()).encode("utf-8", "surrogateescape"))
        return f"{name.hexdigest()}.json"

    def holds(self, patch: Patch) -> bool:
        """Whether the diff of ``patch`` is in order. If it is, the patch knows its paths, and its
        diff need not be read for them."""
        known = Field(self._before.get(patch.digest))
        paths = known.optional(lambda entry: _paths(entry, patch))
        if paths is None:
            return False
        patch.know_paths(frozenset(paths))
        self._now[patch.digest] = known.value
        return True

    def add(self, patch: Patch) -> None:
        """Note that the diff of ``patch`` is in order."""
        paths = sorted(patch.paths)
        self._now[patch.digest] = {"paths": paths, "sum": _sum(patch, paths)}

    def keep(self) -> None:
        """Write down what is known now, if it was not all there before."""
        if self.cache and not self._now.items() <= self._before.items():
            keep_own(self.cache, {self._file: self._now})


def _paths(entry: Field, patch: Patch) -> tuple[str, ...] | None:
    """The paths in an entry; None if it is damaged."""
    try:
        paths = entry["paths"].texts()
        return paths if entry["sum"].value == _sum(patch, paths) else None
    except ValueError:
        return None


def _sum(patch: Patch, paths: Sequence[str]) -> str:
    text = "\0".join([str(_FORMAT), patch.digest, *paths])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
