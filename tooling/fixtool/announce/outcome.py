"""The outcome of a nightly rebase, read from its JSON document.

The document may come from a job that ran upstream's code, so it is not trusted: its reader checks
the type of each field, and names that become paths or refs are checked here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from fixtool import documents
from fixtool.documents import Failure
from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.history.result import History, HistoryDocument, read_history
from fixtool.rebase.result import PatchOutcome, Rebased, read_rebased
from fixtool.report.nights import NightState
from fixtool.report.todo import ToDo, rebase_todos
from fixtool.series.patch import is_slug

_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class NightlyOutcome:
    """``rebase`` is None if there is a ``failure``. ``todos`` is what a person has to do or to look
    at."""

    line: str
    exit_code: int
    rebase: Rebased | None = None
    failure: Failure | None = None
    todos: tuple[ToDo, ...] = field(default=(), repr=False)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the patch repository that this rebase may change."""
        new = self.rebase.new_line if self.rebase else None
        return tuple(f"patches/{name}" for name in dict.fromkeys((self.line, new or self.line)))

    @property
    def patches(self) -> tuple[PatchOutcome, ...]:
        return self.rebase.outcomes if self.rebase else ()

    @property
    def committed(self) -> Oid | None:
        """The commit in the patch repository that records the rebase."""
        return self.rebase.committed if self.rebase else None

    @property
    def moved(self) -> bool:
        """Whether ``patches/`` changed; a dry run only says that it would."""
        return self.rebase is not None and self.rebase.moved and not self.rebase.dry_run

    @property
    def needs_person(self) -> bool:
        return bool(self.exit_code or self.todos)

    @property
    def result(self) -> NightState:
        """What the night means for the line, in one word."""
        if self.rebase is None:
            return NightState.FAILED
        return NightState.ASKED if self.needs_person else NightState.GREEN

    @property
    def state(self) -> str:
        """A hash of what a person has to do, which stays the same from night to night."""
        if not self.needs_person:
            return "green"
        todos = [
            (todo.act, todo.patch, _without_numbers(todo.what), _without_numbers(todo.why),
             todo.culprit and todo.culprit.sha)
            for todo in self.todos
        ]  # fmt: skip
        return hashlib.sha256(repr((self.exit_code, todos)).encode()).hexdigest()[:16]


def _without_numbers(text: str) -> str:
    """``text`` without commit ids, seconds, ports and line numbers, which change every night."""
    return re.sub(r"\b[0-9a-f]{7,40}\b|\d+", "#", text)


def check_line(name: str) -> str:
    """Return ``name`` if it can be a line's folder and part of a ref; else raise Refused."""
    if not _LINE.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
        raise Refused(f"{name[:100]!r} is not the name of a line")
    return name


def read_outcome(path: Path, line: str | None = None) -> NightlyOutcome:
    """The outcome in the document at ``path``, which must be about ``line`` if that is given. A
    document about a failure does not name its line, so ``line`` is needed then. Raises Refused if
    the document is malformed."""
    raw = documents.load(path, "fixtool rebase --line LINE --onto REF --json")
    rebased = read_rebased(raw, str(path))
    code = raw.get("exit_code")
    valid = isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 130
    failed = isinstance(rebased, Failure)
    if not valid or raw.get("ok") is not (code == 0) or (failed and code == 0):
        raise Refused("the document contradicts itself about its success", where=str(path))
    if isinstance(rebased, Failure):
        if line is None:
            raise Refused(
                "the document tells of a failure, and not of which line",
                where=str(path),
                hint="name the line with --line",
            )
        todos = rebase_todos(rebased)
        return NightlyOutcome(check_line(line), int(code or 0), failure=rebased, todos=todos)
    if line not in (None, rebased.line):
        name = rebased.line[:100]
        raise Refused(f"the document is of line {name!r}, not {line}", where=str(path))
    for name in filter(None, (rebased.line, rebased.new_line)):
        check_line(name)
    for slug in (outcome.result.slug for outcome in rebased.outcomes):
        if not is_slug(slug) or len(slug) > 200:
            raise Refused(f"{slug[:200]!r} is not a patch's name", where=str(path))
    # A conflict waits on the machine that ran the rebase: whoever reads this starts it anew.
    rebased = replace(rebased, parked=None)
    return NightlyOutcome(rebased.line, int(code or 0), rebased, todos=rebase_todos(rebased))


def load_history(path: Path) -> History | None:
    """The history in the document at ``path``; None if it holds a failure or only releases."""
    document = read_history(documents.load(path, "fixtool history --json"), str(path))
    return document.history if isinstance(document, HistoryDocument) else None
