"""The cache of series on their own base: the commits of all patches, by content.

To read and apply the patches of a long series takes longer than all else that a verb does which
edits it. The commits stay in the store, and a file of the cache lists them. One more file lists
those of the newest series of each line: if somebody has changed a patch since, the commits before
it are still right. It is safe to delete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fixtool.documents import Field, keep_own, read_own
from fixtool.files import require_private
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid, read_oid
from fixtool.series.patch import Patch

_FORMAT = 1


class SeriesCache:
    """The files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(
        self, objects: ObjectDatabase, name: str, base: Oid, patches: Sequence[Patch]
    ) -> list[Oid]:
        """The commits of ``patches``, those of the line ``name``, on ``base``: of all, or of as
        many of the first ones as are known and in the store. A commit is believed only if its
        parent, author, committer and message are those that its patch makes there. Raises CannotRun
        if others may have written to the cache."""
        require_private(self._folder)
        file = self._folder / self._file(base, patches)
        commits = read_own(file, lambda root: _commits(root, len(patches)))
        if commits is None:
            newest = read_own(self._folder / self._newest(name, base), _newest) or []
            same = 0
            while same < min(len(newest), len(patches)):
                if newest[same][0] != patches[same].digest:
                    break
                same += 1
            commits = tuple(commit for _, commit in newest[:same])
        stored = objects.repo.commits_here(commits)
        believed: list[Oid] = []
        for commit, patch in zip(commits, patches, strict=False):
            parent = believed[-1] if believed else base
            if not patch.makes(stored.get(commit, b""), parent):
                break
            believed.append(commit)
        objects.remember({commit: stored[commit] for commit in believed})
        return believed

    def store(self, name: str, base: Oid, patches: Sequence[Patch], commits: Sequence[Oid]) -> None:
        """Keep the commits, which are in the store."""
        digests = [patch.digest for patch in patches]
        keep_own(self._folder, {
            self._file(base, patches): {"commits": list(commits)},
            self._newest(name, base): {"digests": digests, "commits": list(commits)},
        })  # fmt: skip

    def _file(self, base: Oid, patches: Sequence[Patch]) -> str:
        return self._of(str(base), *(patch.digest for patch in patches))

    def _newest(self, name: str, base: Oid) -> str:
        return self._of("newest", name, base)

    def _of(self, *parts: str) -> str:
        text = " ".join([str(_FORMAT), *parts])
        return f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _commits(root: Field, number: int) -> tuple[Oid, ...]:
    commits = root["commits"].each(read_oid)
    if len(commits) != number:
        raise root["commits"].wrong(f"{number} commits")
    return commits


def _newest(root: Field) -> list[tuple[str, Oid]]:
    digests, commits = root["digests"].texts(), root["commits"].each(read_oid)
    return list(zip(digests, commits, strict=True))
