"""The cache of series on their own base: the commits of all patches, by content.

To read and apply the patches of a long series takes longer than all else that a verb does which
edits it. The commits stay in the store, and a file of the cache lists them. It is safe to delete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fixtool.documents import Field, read_own
from fixtool.edit.sequence import Made, OwnSeries, own_series, series_of
from fixtool.errors import CannotRun
from fixtool.files import private_folder, remove_old, require_private, write_atomically
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid, read_oid
from fixtool.series.line import Line
from fixtool.series.patch import Patch

_FORMAT = 1
_DAYS = 90


class SeriesCache:
    """The files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(
        self, objects: ObjectDatabase, base: Oid, patches: Sequence[Patch]
    ) -> list[Oid] | None:
        """The commits of ``patches`` on ``base``; None if they are not known, or not in the store.
        A commit is believed only if its parent, author, committer and message are those that its
        patch makes there. Raises CannotRun if others may have written to the cache."""
        require_private(self._folder)
        commits = read_own(self._file(base, patches), _commits)
        if commits is None or len(commits) != len(patches):
            return None
        stored = objects.repo.commits_here(commits)
        parent = base
        for commit, patch in zip(commits, patches, strict=True):
            if not patch.makes(stored.get(commit, b""), parent):
                return None
            parent = commit
        objects.remember(stored)
        return list(commits)

    def store(self, base: Oid, patches: Sequence[Patch], commits: Sequence[Oid]) -> None:
        """Keep the commits, which are in the store. If that cannot be written (a disk that is full
        or read-only), the next run takes longer; its result is the same."""
        try:
            private_folder(self._folder)
            text = json.dumps({"commits": list(commits)})
            write_atomically(self._file(base, patches), text)
            remove_old(self._folder, _DAYS)
        except (OSError, CannotRun):
            return

    def _file(self, base: Oid, patches: Sequence[Patch]) -> Path:
        parts = [f"{_FORMAT} {base}", *(patch.digest for patch in patches)]
        return self._folder / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()}.json"


def series_from(
    cache: Path | None, objects: ObjectDatabase, line: Line, base: Oid, bring: Callable[[], object]
) -> OwnSeries:
    """The commits of the patches of ``line`` on its ``base``: from the folder ``cache``, or made.
    ``bring`` brings the files that the patches change, if they are needed."""
    commits = SeriesCache(cache).load(objects, base, line.patches) if cache else None
    if commits is not None:
        return series_of(objects, line, base, commits)
    bring()
    return own_series(objects, line, base)


def keep_series(cache: Path | None, made: Made) -> None:
    """Keep the commits of the series of ``made``, which are in the store, in the folder
    ``cache``."""
    if cache:
        base = made.line.upstream.base
        SeriesCache(cache).store(base, made.series, list(made.commits.values()))


def _commits(root: Field) -> tuple[Oid, ...]:
    return root["commits"].each(read_oid)
