"""What other commands said, read back from their JSON: every field is looked at, for a document may
be somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fixtool.errors import Refused, UsageError
from fixtool.git.names import is_full_sha
from fixtool.replay.verdict import Verdict

SCHEMA = 1
LARGEST = 64 << 20  # bytes; the history of 20 patches over 10,000 commits is under one MiB
MOST = 20_000  # intervals or cells that a page can still show
ACTIONS = ("kept", "rewritten", "dropped", "shelved", "asked", "restored")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Commit:
    """One of upstream's. ``date`` is a day in UTC, as it is shown."""

    sha: str
    author: str
    date: str
    subject: str
    pr: int | None


@dataclass(frozen=True)
class Interval:
    """A run of ``count`` commits with one verdict; ``culprit`` began it, None for the first run."""

    verdict: Verdict
    first: Commit
    last: Commit
    count: int
    culprit: Commit | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class PatchHistory:
    slug: str
    subject: str
    intervals: tuple[Interval, ...]

    @property
    def now(self) -> Interval | None:
        return self.intervals[-1] if self.intervals else None


@dataclass(frozen=True)
class Cell:
    version: str
    verdict: Verdict
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseRow:
    slug: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class History:
    """``versions`` and ``releases``: the same patches on upstream's releases, where asked for. With
    those alone, there is no ``start``, no ``end`` and no commit."""

    line: str
    start: str | None
    end: str | None
    commits: int
    judged: int
    reused: int
    patches: tuple[PatchHistory, ...]
    versions: tuple[str, ...] = ()
    releases: tuple[ReleaseRow, ...] = ()


@dataclass(frozen=True)
class Rebased:
    """One patch of a rebase. ``before`` and ``after``: what its probe said, without and with it."""

    slug: str
    subject: str
    verdict: Verdict
    action: str
    evidence: tuple[str, ...]
    culprit: Commit | None
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Session:
    """A rebase that waits for a person in ``worktree``."""

    worktree: str
    patch: str
    position: int
    of: int
    conflicts: tuple[str, ...]
    culprit: Commit | None


@dataclass(frozen=True)
class Rebase:
    line: str
    new_line: str | None
    base: str
    onto: str
    ref: str
    dry_run: bool
    moved: bool
    patches: tuple[Rebased, ...]
    warnings: tuple[str, ...]
    range_diff: str
    session: Session | None


@dataclass(frozen=True)
class Failure:
    """A command that could not answer, in its own words."""

    command: str
    message: str
    where: str | None
    hint: str | None


def read(path: Path) -> Any:
    """The JSON in ``path``. Raises UsageError where there is no such file, Refused where it is not
    JSON."""
    try:
        if not path.is_file():
            raise UsageError(f"no such file: {path}", where=str(path))
        if path.stat().st_size > LARGEST:
            raise Refused(f"{path.name} is over {LARGEST >> 20} MiB", where=str(path))
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path.name} is not JSON", where=str(path)) from error


def read_history(path: Path) -> History | Failure:
    """What ``fixtool history --json`` printed."""
    return history_of(read(path), str(path))


def history_of(raw: Any, where: str) -> History | Failure:
    return _document(raw, where, "history", _history)


def read_rebase(path: Path) -> Rebase | Failure:
    """What ``fixtool rebase --json`` printed."""
    return _document(read(path), str(path), "rebase", _rebase)


def _document(raw: Any, where: str, command: str, make: Callable[[Any], _T]) -> _T | Failure:
    what = f"not what `fixtool {command} --json` prints"
    hint = f"fixtool {command} --json >FILE"
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA or raw.get("command") != command:
        raise Refused(f"this is {what}", where=where, hint=hint)
    try:
        if "error" in raw:
            said = raw["error"]
            return Failure(
                command, _text(said["message"]), _maybe(_text, said.get("where")),
                _maybe(_text, said.get("hint")),
            )  # fmt: skip
        return make(raw)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        raise Refused(f"this is {what}: {why}", where=where, hint=hint) from error


# Each of these raises one of the errors of a look at what is not there, or not what it should be.


def _history(raw: Mapping[str, Any]) -> History:
    releases = raw.get("releases") or {"versions": [], "patches": []}
    versions = tuple(_text(one) for one in _list(releases["versions"]))
    rows = tuple(_release_row(one, versions) for one in _list(releases["patches"]))
    found = History(
        _text(raw["line"]), _maybe(_sha, raw["start"]), _maybe(_sha, raw["end"]),
        _number(raw["commits"]), _number(raw["judged"]), _number(raw["reused"]),
        tuple(_patch_history(one) for one in _list(raw["patches"])), versions, rows,
    )  # fmt: skip
    size = sum(len(one.intervals) for one in found.patches) + sum(len(one.cells) for one in rows)
    if size > MOST or len(found.patches) > MOST:
        raise ValueError(f"{size} intervals are more than a page can show ({MOST})")
    return found


def _patch_history(raw: Mapping[str, Any]) -> PatchHistory:
    intervals = tuple(_interval(one) for one in _list(raw["intervals"]))
    return PatchHistory(_text(raw["slug"]), _text(raw["subject"]), intervals)


def _interval(raw: Mapping[str, Any]) -> Interval:
    count = _number(raw["count"])
    if count < 1:
        raise ValueError("an interval without a commit")
    return Interval(
        Verdict(raw["verdict"]), _commit(raw["first"]), _commit(raw["last"]), count,
        _maybe(_commit, raw["culprit"]), _texts(raw["evidence"]),
    )  # fmt: skip


def _release_row(raw: Mapping[str, Any], versions: Sequence[str]) -> ReleaseRow:
    cells = tuple(
        Cell(_text(one["version"]), Verdict(one["verdict"]), _texts(one["evidence"]))
        for one in _list(raw["cells"])
    )
    if {one.version for one in cells} - set(versions):
        raise ValueError("a cell of a release that is not named")
    return ReleaseRow(_text(raw["slug"]), cells)


def _rebase(raw: Mapping[str, Any]) -> Rebase:
    return Rebase(
        _text(raw["line"]), _maybe(_text, raw["new_line"]), _sha(raw["base"]), _sha(raw["onto"]),
        _text(raw["ref"]), raw["dry_run"] is True, raw["moved"] is True,
        tuple(_rebased(one) for one in _list(raw["patches"])), _texts(raw["warnings"]),
        _text(raw["range_diff"]), _maybe(_session, raw["session"]),
    )  # fmt: skip


def _rebased(raw: Mapping[str, Any]) -> Rebased:
    if raw["action"] not in ACTIONS:
        raise ValueError(f"action {raw['action']!r}")
    probe = raw["probe"] or {"before": None, "after": None}
    return Rebased(
        _text(raw["slug"]), _text(raw["subject"]), Verdict(raw["verdict"]), raw["action"],
        _texts(raw["evidence"]), _maybe(_commit, raw["culprit"]),
        _maybe(_number, probe["before"]), _maybe(_number, probe["after"]),
    )  # fmt: skip


def _session(raw: Mapping[str, Any]) -> Session:
    return Session(
        _text(raw["worktree"]), _text(raw["patch"]), _number(raw["position"]), _number(raw["of"]),
        _texts(raw["conflicts"]), _maybe(_commit, raw["culprit"]),
    )  # fmt: skip


def _commit(raw: Mapping[str, Any]) -> Commit:
    when = datetime.fromisoformat(_text(raw["date"]))
    if when.tzinfo is not None:
        when = when.astimezone(UTC)
    return Commit(
        _sha(raw["sha"]), _text(raw["author"]), when.date().isoformat(), _text(raw["subject"]),
        _maybe(_number, raw["pr"]),
    )  # fmt: skip


def _maybe(read_one: Callable[[Any], _T], value: Any) -> _T | None:
    return None if value is None else read_one(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _sha(value: Any) -> str:
    if not is_full_sha(_text(value)):
        raise ValueError(f"{value!r:.60} is not a commit id")
    return str(value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise TypeError(f"{value!r:.40} is not a count")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} is not a list")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in _list(value))
