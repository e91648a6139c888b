"""The cache of whole histories: that of a line between two commits never changes, so the next time
one small file tells it.

A file is believed only if it holds the digest of what is in it: then it is what fixtool wrote.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fixtool.documents import Field, read_own
from fixtool.errors import CannotRun
from fixtool.files import private_folder, require_private, write_atomically
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.history.recorded import claims_of
from fixtool.history.result import History, read_patch_history
from fixtool.series.line import Line

_FORMAT = 1
_DAYS = 90


@dataclass(frozen=True)
class KeptHistory:
    """The file in ``folder`` that holds the history of ``line`` from ``start`` to ``end``, as
    ``repo`` shows it."""

    folder: Path
    repo: Repo
    line: Line
    start: Oid
    end: Oid

    @property
    def _file(self) -> Path:
        upstream = self.line.upstream
        parts = [f"{_FORMAT} {upstream.base} {upstream.release} {self.start} {self.end}"]
        parts += [f"{patch.slug} {patch.digest}" for patch in self.line.patches]
        parts += sorted(self.repo.shallow)  # where this repository cuts the history off
        name = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / f"whole-{name}.json"

    def load(self) -> History | None:
        """The history; None if it is not known. Raises CannotRun if others may have written to the
        cache."""
        require_private(self.folder)
        known = read_own(self._file, _read)
        if known is None or known.start != self.start or known.end != self.end:
            return None
        slugs = [(patch.slug, patch.subject) for patch in known.patches]
        if slugs != [(patch.slug, patch.subject) for patch in self.line.patches]:
            return None
        return replace(known, line=self.line.name, judged=0, reused=known.judged + known.reused)

    def store(self, history: History, commits: Repo | None) -> None:
        """Keep ``history``, if nothing that may still change has a part in it. ``commits`` is the
        repository that was asked about the commits that patches name. If the cache cannot be
        written, the next history takes longer; its result is the same."""
        if not self._is_settled(commits or self.repo):
            return
        body = asdict(history)
        try:
            private_folder(self.folder)
            write_atomically(self._file, json.dumps({"digest": _digest(body), "history": body}))
            oldest = time.time() - _DAYS * 86400
            for path in self.folder.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
        except (OSError, CannotRun):
            return

    def _is_settled(self, commits: Repo) -> bool:
        facts = [fact for patch in self.line.patches for fact in claims_of(patch)]
        if not facts:
            return True
        upstream = self.line.upstream
        if any(fact.commit and not is_full_sha(fact.commit) for fact in facts):
            return False  # a commit that comes later may begin with the same digits
        on_base = upstream.release is not None or commits.has(upstream.base)
        return on_base and not commits.shallow


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read(root: Field) -> History:
    history = root["history"]
    if root["digest"].text() != _digest(history.table()):
        raise root["digest"].wrong("the digest of the history")
    return History(
        history["line"].text(), Oid(history["start"].text()), Oid(history["end"].text()),
        history["commits"].count(), history["judged"].count(), history["reused"].count(),
        history["patches"].each(read_patch_history),
    )  # fmt: skip
