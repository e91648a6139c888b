"""The cache of replays: the results of a series' first patches, by content.

A key stands for the target, the base, the bytes of every patch up to one, and why some of them are
left out. Only a run of successes is kept: one file holds all results that one replay has added, and
has the key of the first of them as its name. To open a file for each patch took a fifth of the time
of a replay of a thousand patches that are all known. The files are JSON below a checksum, safe
to delete, and dropped when long unused. A result is believed only if its file is as it was written,
and if its commit is the one that its patch makes there. What that commit changes was compared with
the diff before the result was kept, so it is not compared again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fixtool.documents import Field, keep_own, read_own
from fixtool.files import require_private
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.replay.verdict import FAILED, PatchResult, PatchState, Verdict, kept_form, read_kept
from fixtool.series.patch import Patch

_FORMAT = 8
_MAKES_NO_COMMIT = {
    Verdict.ABSORBED, Verdict.SUPERSEDED, Verdict.NOT_NEEDED, Verdict.LEFT_OUT, Verdict.SKIPPED,
}  # fmt: skip
_TOGETHER = 1000  # results in one file, which must not be too large to be read


@dataclass(frozen=True)
class PrefixCache:
    """The files in ``folder`` that hold the results of a series, one of ``keys`` for each patch.
    Without a folder nothing is known and nothing is kept."""

    folder: Path | None
    keys: tuple[str, ...]
    onto: Oid
    patches: Sequence[Patch]

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
        return cls(folder, tuple(keys), onto, patches)

    def load(self, objects: ObjectDatabase) -> list[PatchResult]:
        """The longest known run of first patches whose commits are all in the repository. Raises
        CannotRun if others may have written to the cache."""
        results: list[PatchResult] = []
        if self.folder is None:
            return results
        require_private(self.folder)
        while len(results) < len(self.keys):
            path = self.folder / f"{self.keys[len(results)]}.json"
            more = read_own(path, partial(self._fitting, len(results)), checksummed=True)
            if not more:
                break
            results += more
        return results[: self._right(objects, results)]

    def _fitting(self, start: int, root: Field) -> list[PatchResult]:
        """The results in a file that are those of the patches from ``start`` on."""
        results: list[PatchResult] = []
        patches = zip(self.keys[start:], self.patches[start:], strict=True)
        for entry, (key, patch) in zip(root["results"].value, patches, strict=False):
            if entry["key"] != key:
                break
            result = read_kept(entry["result"])
            if (result.slug, result.subject) != (patch.slug, patch.subject):
                break
            results.append(result)
        return results

    def _right(self, objects: ObjectDatabase, results: Sequence[PatchResult]) -> int:
        """How many of the first ``results`` have the commit that their patch makes on the one
        before it: by parent, author, committer and message. A result without a commit must be one
        that makes none."""
        stored = objects.repo.commits_here([result.commit for result in results if result.commit])
        objects.remember(stored)
        parent = self.onto
        for number, (result, patch) in enumerate(zip(results, self.patches, strict=False)):
            if (result.commit is None) is not (result.verdict in _MAKES_NO_COMMIT):
                return number
            if result.commit is None:
                continue
            if not patch.makes(stored.get(result.commit, b""), parent):
                return number
            parent = result.commit
        return len(results)

    def store(self, results: Sequence[PatchResult], reused: int) -> None:
        """Keep the results before the first failure. The first ``reused`` of them were loaded."""
        if self.folder is None:
            return
        failed = (n for n, result in enumerate(results) if result.verdict in FAILED)
        end = next(failed, len(results))
        added = [
            {"key": key, "result": kept_form(result)}
            for key, result in zip(self.keys[reused:end], results[reused:end], strict=True)
        ]
        parts = (added[at : at + _TOGETHER] for at in range(0, len(added), _TOGETHER))
        files = {f"{part[0]['key']}.json": {"results": part} for part in parts}
        keep_own(self.folder, files, checksummed=True)
