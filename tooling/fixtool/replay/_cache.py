"""The cache of replays: the results of a series' first patches, by content.

A key stands for the target, the base, the bytes of every patch up to one, and why some of them are
left out. Only a run of
successes is kept. The files are plain JSON, safe to delete, and dropped when long unused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtool.documents import Field
from fixtool.files import write_atomically
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.replay.verdict import FAILED, PatchResult, PatchState, read_patch_result
from fixtool.series.patch import Patch

_FORMAT = 6
_DAYS = 90


@dataclass(frozen=True)
class PrefixCache:
    """The files in ``folder`` that hold the results of a series, one of ``keys`` for each patch.
    Without a folder nothing is known and nothing is kept."""

    folder: Path | None
    keys: tuple[str, ...]

    @classmethod
    def of(
        cls,
        folder: Path | None,
        onto: Oid,
        base: Oid,
        patches: Sequence[Patch],
        left_out: Mapping[str, PatchState],
    ) -> PrefixCache:
        keys = []
        key = f"{_FORMAT} {onto} {base}"
        for patch in patches:
            part = [key, patch.slug, patch.digest]
            if state := left_out.get(patch.slug):
                part += [state.verdict, *state.evidence]
            key = hashlib.sha256("\0".join(part).encode("utf-8", "surrogateescape")).hexdigest()
            keys.append(key)
        return cls(folder, tuple(keys))

    def load(self, repo: Repo) -> list[PatchResult]:
        """The longest known run of first patches whose commits are all in ``repo``."""
        results: list[PatchResult] = []
        if self.folder is None:
            return results
        for key in self.keys:
            try:
                text = (self.folder / f"{key}.json").read_text("utf-8")
                results.append(read_patch_result(Field(json.loads(text))))
            except (OSError, ValueError):
                break
        while results and not repo.has(*(result.commit for result in results if result.commit)):
            results.pop()
        return results

    def store(self, results: Sequence[PatchResult]) -> None:
        """Keep the results before the first failure. If the cache cannot be written (a disk that is
        full or read-only), the next replay takes longer; its result is the same."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for key, result in zip(self.keys, results, strict=True):
                if result.verdict in FAILED:
                    break
                write_atomically(self.folder / f"{key}.json", json.dumps(asdict(result)))
            oldest = time.time() - _DAYS * 86400
            for path in self.folder.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
        except OSError:
            return
