"""What became of a nightly rebase, and whether it wants a person.

The document may come from a job that ran upstream's code, so nothing of it is taken on trust:
``documents`` looks at each field, and what becomes a path or a ref has its form checked here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fixtool import __version__
from fixtool.errors import Refused
from fixtool.git.names import is_full_sha
from fixtool.report import documents
from fixtool.report.documents import Failure, Rebase, Rebased
from fixtool.report.todo import Report, ToDo, find_todos
from fixtool.series.patch import is_slug

_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class NightlyOutcome:
    """``rebase`` is None where there is a ``failure``; ``committed`` is the commit in the patch
    repository; ``todos`` is what a person has to do or to look at."""

    line: str
    exit_code: int
    rebase: Rebase | None = None
    failure: Failure | None = None
    committed: str | None = None
    todos: tuple[ToDo, ...] = field(default=(), repr=False)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the patch repository that this rebase may change."""
        new = self.rebase.new_line if self.rebase else None
        return tuple(f"patches/{name}" for name in dict.fromkeys((self.line, new or self.line)))

    @property
    def patches(self) -> tuple[Rebased, ...]:
        return self.rebase.patches if self.rebase else ()

    @property
    def moved(self) -> bool:
        """Whether ``patches/`` changed; a dry run only says that it would."""
        return self.rebase is not None and self.rebase.moved and not self.rebase.dry_run

    @property
    def asks(self) -> bool:
        """Whether a person is needed."""
        return bool(self.exit_code or self.todos)

    @property
    def state(self) -> str:
        """What is needed, as a hash: the same for as long as it is the same, on whatever commit."""
        if not self.asks:
            return "green"
        said = [
            (one.act, one.patch, _still(one.what), _still(one.why), one.culprit and one.culprit.sha)
            for one in self.todos
        ]
        return hashlib.sha256(repr((self.exit_code, said)).encode()).hexdigest()[:16]


def _still(text: str) -> str:
    """``text`` without what changes every night: ids of the tip, seconds, ports, line numbers."""
    return re.sub(r"\b[0-9a-f]{7,40}\b|\d+", "#", text)


def check_line(name: str) -> str:
    """Return ``name`` if it can be a line's folder and part of a ref; else raise Refused."""
    if not _LINE.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
        raise Refused(f"{name[:100]!r} is not the name of a line")
    return name


def read_outcome(path: Path, line: str | None = None) -> NightlyOutcome:
    """The outcome in the document at ``path``; ``line`` is whose it must be, and is needed where
    the rebase failed before it knew. Raises Refused where the document is not as it should be."""
    raw: dict[str, Any]
    found, raw = documents.read_rebase(path), documents.read(path)
    code = raw.get("exit_code")
    good = isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 130
    failed = isinstance(found, Failure)
    if not good or raw.get("ok") is not (code == 0) or (failed and code == 0):
        raise Refused("the document contradicts itself about its success", where=str(path))
    if isinstance(found, Failure):
        if line is None:
            raise Refused(
                "the document tells of a failure, and not of which line",
                where=str(path),
                hint="name the line with --line",
            )
        todos = find_todos(_report(line, found))
        return NightlyOutcome(check_line(line), int(code or 0), failure=found, todos=todos)
    if line not in (None, found.line):
        raise Refused(f"the document is of line {found.line[:100]!r}, not {line}", where=str(path))
    for name in filter(None, (found.line, found.new_line)):
        check_line(name)
    for one in found.patches:
        if not is_slug(one.slug) or len(one.slug) > 200:
            raise Refused(f"{one.slug[:200]!r} is not a patch's name", where=str(path))
    commit = raw.get("committed")
    if commit is not None and not (isinstance(commit, str) and is_full_sha(commit)):
        raise Refused("'committed' is not a commit id", where=str(path))
    # A parked session stays on the machine that ran the rebase: whoever is told starts anew.
    here = replace(found, session=None)
    todos = find_todos(_report(found.line, here))
    return NightlyOutcome(found.line, int(code or 0), here, committed=commit, todos=todos)


def read_history(path: Path) -> documents.History | None:
    found = documents.read_history(path)
    return None if isinstance(found, Failure) else found


def _report(line: str, rebase: Rebase | Failure) -> Report:
    return Report(line, None, "", __version__, rebase=rebase)
