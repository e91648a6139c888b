"""Upstream's history: the first-parent commits, and which files each of them changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fixtool.documents import Field
from fixtool.errors import CannotRun, UsageError
from fixtool.git.objects import Oid, TreeEntry, read_oid
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files, list_tree
from fixtool.text import late_pattern

_FORMAT = "%x01%H%x00%P%x00%an%x00%aI%x00%s%x00%b%x00"
_LONGEST = 1_000  # characters of a subject that are searched, some of them from each start
_RAW = late_pattern(r":\d{6} (\d{6}) [0-9a-f]{40} ([0-9a-f]{40}) ([A-Z])\d*")
_DISTANT_PAST = "1970-01-01T00:00:00+00:00"  # for a date that git printed and nobody can read
_PULL_REQUEST = late_pattern(r"\(#(\d{1,9})\)\s*$")

# How a message says that the commit takes another one back, or puts it in again. git's own words
# are `Revert "<subject>"`, `Reapply "<subject>"` and `This reverts commit <id>`. GitHub adds the
# pull request to each subject, drops git's sentence when it squashes, and cuts long subjects off
# with an ellipsis. People write `[Fix] revert #12` and `Re-land #12: <subject>`.
_REVERTED_IDS = late_pattern(r"^This reverts commit ([0-9a-f]{7,40})", re.MULTILINE)
_REVERTED_PULLS = late_pattern(r"^Reverts (?:[\w.-]+/[\w.-]+)?#(\d{1,9})\b", re.MULTILINE)
_TAGS = r"(?:\[[^\]]*\]\s*|\w+(?:\([^)]*\))?:\s*)*?"
_REVERT = late_pattern(_TAGS + r"\[?revert\b[\]:\s-]*(.*)", re.IGNORECASE)
_RESTORE = late_pattern(_TAGS + r"\[?re-?(?:land|apply)\b[\]:\s-]*(.*)", re.IGNORECASE)
_CUT_OFF = late_pattern(r'"(.*?)\s*(?:…|\.\.\.)\s*(?:\(#\d+\))?\s*$')
_QUOTED = late_pattern(r'"(.*)"(?:\s*\(#\d+\))*\s*$|"([^"]*)"')
_MENTION = late_pattern(r"#(\d{1,9})\b|\bPR (\d{1,9})\b")
_NUMBERS_AT_END = late_pattern(r"(?:\s*\(?#\d+\)?)+\s*$")


@dataclass(frozen=True)
class UpstreamCommit:
    """Who did what upstream. ``date`` is the author's, ISO 8601; ``pr`` is the pull request that
    the subject names at its end, as GitHub's squash merge does."""

    sha: Oid
    author: str
    date: str
    subject: str
    pr: int | None

    @property
    def day(self) -> str:
        """The author's date in UTC, as ``YYYY-MM-DD``."""
        return _utc_day(_date(self.date))


@dataclass(frozen=True)
class Reference:
    """The earlier commits that a message names: by ids (perhaps short), by pull requests, or by a
    subject without its pull request. If ``cut_off``, only the beginning of the subject is known."""

    ids: tuple[str, ...] = ()
    pulls: tuple[int, ...] = ()
    subject: str | None = None
    cut_off: bool = False

    def names(self, commit: UpstreamCommit) -> bool:
        """Whether ``commit`` is one of these."""
        subject = _plain(commit.subject)
        by_subject = bool(self.subject) and (
            subject.startswith(self.subject or "") if self.cut_off else subject == self.subject
        )
        return (
            by_subject
            or commit.pr in self.pulls
            or any(commit.sha.startswith(oid) for oid in self.ids)
        )


@dataclass(frozen=True)
class LogEntry:
    """A commit of upstream, and what its message says about earlier ones: ``reverts`` are those
    that it takes back, ``restores`` those that it puts in again. ``first_parent`` is False for a
    commit of a side branch, whose subject may name a pull request of another repository."""

    commit: UpstreamCommit
    reverts: Reference | None
    restores: Reference | None
    first_parent: bool


@dataclass(frozen=True)
class UpstreamChange(LogEntry):
    """A commit on upstream's first-parent line, and what it did. ``files`` is path -> the new
    entry, None for a file that it removed."""

    files: Mapping[str, TreeEntry | None]


def first_parent_changes(repo: Repo, start: Oid, end: Oid) -> tuple[UpstreamChange, ...]:
    """The first-parent commits after ``start`` up to ``end``, oldest first, from one git process
    and without reading a blob.

    Raises UsageError if ``end`` does not descend from ``start``.
    """
    ancestry = ("merge-base", "--is-ancestor", start, end)
    if start != end and repo.run(*ancestry, accept=(0, 1, 128)).status != 0:
        turned = repo.run("merge-base", "--is-ancestor", end, start, accept=None).status == 0
        raise UsageError(
            f"{end[:12]} comes before {start[:12]}: the span is the wrong way round"
            if turned
            else f"{end[:12]} does not descend from {start[:12]}, as far as the history here tells",
            hint=f"turn it round: --from {end[:12]} --to {start[:12]}"
            if turned
            else "name a clone with the full history: --source CLONE",
        )
    out = repo.run(
        "log", "--first-parent", "--diff-merges=first-parent", "--reverse", "--raw", "--no-renames",
        "--no-abbrev", "-z", f"--format={_FORMAT}", f"{start}..{end}",
    ).stdout  # fmt: skip
    changes = []
    for number, fields in enumerate(_records(out)):
        sha, parents, author, date, subject, body, *raw = fields
        files = _changed_files(raw)
        if number == 0 and (parent := parents.split(" ")[0]) != start:
            files = _changed_between(repo, start, parent) | files  # start is on a side branch
        commit = UpstreamCommit(Oid(sha), author, _date(date), subject, upstream_pull(subject))
        changes.append(
            UpstreamChange(commit, reverted(subject, body), restored(subject), True, files)
        )
    return tuple(changes)


def _records(out: bytes) -> list[list[str]]:
    """The fields of each commit in a log of ``_FORMAT``. Only a NUL ends a field, since a message
    may hold any other character. Raises CannotRun if the log is not of this form."""
    records: list[list[str]] = []
    fields = iter(out.decode("utf-8", "surrogateescape").split("\0"))
    for field in fields:
        first = field.lstrip("\n")
        if first.startswith("\x01"):
            records.append([first[1:], *(next(fields, "") for _ in range(5))])
        elif first.startswith(":") and records:
            records[-1] += [first, next(fields, "")]
        elif first:
            raise CannotRun(f"upstream's log cannot be read at {first[:60]!r}")
    return records


def upstream_commit(repo: Repo, name: str) -> UpstreamCommit:
    """Who did what in the commit ``name``, an id of 7 to 40 digits. Raises CannotRun if ``repo``
    has no such commit."""
    # `git show` reads the commit's tree, even if it shows nothing of it.
    out = repo.run("log", "-1", f"--format={_FORMAT}", "--end-of-options", name).stdout
    sha, _, author, date, subject, *_ = _records(out)[0]
    return UpstreamCommit(Oid(sha), author, _date(date), subject, upstream_pull(subject))


def read_upstream_commit(field: Field) -> UpstreamCommit:
    """The commit at a key of a JSON document. Raises FieldError if it is malformed."""
    date = field["date"]
    try:
        _utc_day(date.text())
    except (ValueError, OverflowError) as error:
        raise date.wrong("a date") from error
    return UpstreamCommit(
        read_oid(field["sha"]), field["author"].text(), date.text(), field["subject"].text(),
        field["pr"].optional(Field.count),
    )  # fmt: skip


def _utc_day(date: str) -> str:
    when = datetime.fromisoformat(date)
    return (when.astimezone(UTC) if when.tzinfo else when).date().isoformat()


def _date(text: str) -> str:
    """The date of a commit as git prints it; a date long ago if it is none, since git stores what
    it is given."""
    try:
        _utc_day(text)
    except (ValueError, OverflowError):
        return _DISTANT_PAST
    return text


def upstream_pull(subject: str) -> int | None:
    """The pull request that the subject of a squash merge names at its end."""
    match = _PULL_REQUEST.search(subject[-_LONGEST:])
    return int(match[1]) if match else None


def takes_and_reverts(
    entries: Sequence[LogEntry],
    ids: Sequence[str],
    numbers: Sequence[int],
    merges: Mapping[Oid, Sequence[UpstreamCommit]] | None = None,
) -> list[int]:
    """The positions in ``entries``, which are in the order of the history, at which upstream took
    one of these commits or pull requests, then took it back, then took it again, and so on.

    ``merges`` gives, for a commit of a side branch, the merges that brought it: who takes a merge
    back, takes back what it brought.
    """
    turns: list[int] = []
    takes: list[UpstreamCommit] = []
    reverts: list[UpstreamCommit] = []
    for position, entry in enumerate(entries):
        if len(turns) % 2 == 0:
            if _takes(entry, ids, numbers, bool(turns)) or _restores(entry, takes, reverts):
                turns.append(position)
                takes += [entry.commit, *(merges or {}).get(entry.commit.sha, ())]
        elif _takes_back(entry, takes, numbers):
            turns.append(position)
            reverts.append(entry.commit)
    return turns


def _takes(entry: LogEntry, ids: Sequence[str], numbers: Sequence[int], again: bool) -> bool:
    """Whether the entry is one of these commits, or the first one of these pull requests. A fix
    may itself be a revert; but one that comes later is not taken for the fix a second time."""
    if any(entry.commit.sha.startswith(oid) for oid in ids):
        return True
    by_number = entry.first_parent and entry.commit.pr in numbers
    return by_number and not (again and entry.reverts)


def _restores(
    entry: LogEntry, takes: Sequence[UpstreamCommit], reverts: Sequence[UpstreamCommit]
) -> bool:
    """Whether the entry takes a revert back, or puts in again what was taken."""
    undone = entry.reverts is not None and any(map(entry.reverts.names, reverts))
    return undone or (entry.restores is not None and any(map(entry.restores.names, takes)))


def _takes_back(entry: LogEntry, takes: Sequence[UpstreamCommit], numbers: Sequence[int]) -> bool:
    if entry.reverts is None:
        return False
    # `Revert X (#12)`, pushed by hand, ends in the number of what it takes back.
    by_number = entry.first_parent and entry.commit.pr in numbers
    return by_number or any(map(entry.reverts.names, takes))


def reverted(subject: str, body: str) -> Reference | None:
    """What a commit with this message takes back; None if it takes nothing back."""
    if "revert" not in f"{subject}\n{body}".lower():  # as in nearly all of 14,000 messages
        return None
    ids = tuple(_REVERTED_IDS.findall(body))
    pulls = tuple(map(int, _REVERTED_PULLS.findall(body)))
    match = _REVERT.match(subject[:_LONGEST])
    named = _reference(match[1]) if match else Reference()
    if not (match or ids or pulls):
        return None
    return Reference(ids, pulls + named.pulls, named.subject, named.cut_off)


def restored(subject: str) -> Reference | None:
    """What a commit with this subject puts in again; None if it puts nothing in again."""
    lowered = subject.lower()
    wanted = "land" in lowered or "apply" in lowered
    match = _RESTORE.match(subject[:_LONGEST]) if wanted else None
    return _reference(match[1]) if match else None


def _reference(text: str) -> Reference:
    """The commits that a subject names after a word such as "Revert". In `Revert "X (#12)" (#34)`
    and in `Revert X (#12) (#34)`, the last number is that of the revert itself."""
    if cut_off := _CUT_OFF.match(text):
        return Reference(subject=cut_off[1], cut_off=True)
    if quoted := _QUOTED.match(text):
        inner = quoted[1] or quoted[2] or ""
        number = _NUMBERS_AT_END.search(inner)
        return Reference((), _mentions(number[0])[-1:] if number else (), _plain(inner))
    rest = _PULL_REQUEST.sub("", text)
    return Reference((), _mentions(rest), _plain(rest))


def _mentions(text: str) -> tuple[int, ...]:
    return tuple(int(match[1] or match[2]) for match in _MENTION.finditer(text))


def _plain(subject: str) -> str:
    """A subject without the pull requests at its end, as it stands in the subject of a revert."""
    start, end = subject[:-_LONGEST], subject[-_LONGEST:]
    return (start + _NUMBERS_AT_END.sub("", end)).strip(" .")


def _changed_files(raw: Sequence[str]) -> dict[str, TreeEntry | None]:
    """What `git log --raw -z` says of the files of a commit, in pairs of fields. Raises CannotRun
    if a field is not of this form."""
    files: dict[str, TreeEntry | None] = {}
    for meta, path in zip(raw[::2], raw[1::2], strict=True):
        match = _RAW.fullmatch(meta)
        if not match:
            raise CannotRun(f"upstream's log cannot be read at {meta[:60]!r}")
        mode, blob, status = match.groups()
        files[path] = None if status == "D" else TreeEntry(mode, Oid(blob))
    return files


def _changed_between(repo: Repo, old: str, new: str) -> dict[str, TreeEntry | None]:
    entries = list_tree(repo, new)
    return {change.path: entries.get(change.path) for change in changed_files(repo, old, new)}
