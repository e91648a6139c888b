"""Upstream's history: the first-parent commits, and which files each of them changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fixtool.documents import Field
from fixtool.errors import UsageError
from fixtool.git.objects import Oid, TreeEntry, read_oid
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files, list_tree

_FORMAT = "%x01%H%x00%P%x00%an%x00%aI%x00%s%x00%b%x00"
_PULL_REQUEST = re.compile(r"\(#(\d+)\)\s*$")
_REVERTS = re.compile(r"^This reverts commit ([0-9a-f]{7,40})", re.MULTILINE)
_REVERT_OF = re.compile(r'^Revert "(.*)"')


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
        return _utc_day(self.date)


@dataclass(frozen=True)
class UpstreamChange:
    """A commit on upstream's first-parent line, and what it did. ``files`` is path -> the new
    entry, None for a file that it removed. ``reverts`` is what its message says it takes back: a
    commit id (perhaps short), or else a subject."""

    commit: UpstreamCommit
    files: Mapping[str, TreeEntry | None]
    reverts: str | None


def first_parent_changes(repo: Repo, start: Oid, end: Oid) -> tuple[UpstreamChange, ...]:
    """The first-parent commits after ``start`` up to ``end``, oldest first, from one git process
    and without reading a blob.

    Raises UsageError if ``end`` does not descend from ``start``.
    """
    if start != end and repo.ahead_by(start, end) is None:
        raise UsageError(
            f"{end[:12]} does not descend from {start[:12]}, as far as the history here tells",
            where=str(repo.git_dir),
            hint="name a source with the full history: --source PATH of a clone",
        )
    out = repo.run(
        "log", "--first-parent", "--diff-merges=first-parent", "--reverse", "--raw", "--no-renames",
        "--no-abbrev", "-z", f"--format={_FORMAT}", f"{start}..{end}",
    ).stdout  # fmt: skip
    changes = []
    for number, record in enumerate(out.decode("utf-8", "surrogateescape").split("\x01")[1:]):
        sha, parents, author, date, subject, body, raw = record.split("\0", 6)
        files = _changed_files(raw)
        if number == 0 and (parent := parents.split(" ")[0]) != start:
            files = _changed_between(repo, start, parent) | files  # start is on a side branch
        commit = UpstreamCommit(Oid(sha), author, date, subject, _pull_request(subject))
        changes.append(UpstreamChange(commit, files, _reverts(subject, body)))
    return tuple(changes)


def upstream_commit(repo: Repo, oid: Oid) -> UpstreamCommit:
    """Who did what in the commit ``oid`` of ``repo``."""
    out = repo.run("show", "-s", f"--format={_FORMAT}", oid).stdout
    fields = out.decode("utf-8", "surrogateescape").split("\x01")[1].split("\0")
    sha, _, author, date, subject, *_ = fields
    return UpstreamCommit(Oid(sha), author, date, subject, _pull_request(subject))


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


def _pull_request(subject: str) -> int | None:
    match = _PULL_REQUEST.search(subject)
    return int(match[1]) if match else None


def takes_and_reverts(
    changes: Sequence[UpstreamChange], ids: Sequence[str], numbers: Sequence[int]
) -> list[int]:
    """The positions in ``changes`` at which upstream took one of these commits or pull requests,
    then took it back, then took it again, and so on."""
    turns: list[int] = []
    names: list[str] = []  # the ids and subjects of the commits that brought it
    for position, change in enumerate(changes):
        commit = change.commit
        if len(turns) % 2 == 0:
            ours = commit.pr in numbers or any(commit.sha.startswith(oid) for oid in ids)
            if ours and change.reverts is None:
                turns.append(position)
                names += [commit.sha, commit.subject]
        elif change.reverts and any(name.startswith(change.reverts) for name in names):
            turns.append(position)
    return turns


def _reverts(subject: str, body: str) -> str | None:
    match = _REVERTS.search(body) or _REVERT_OF.match(subject)
    return match[1] if match else None


def _changed_files(raw: str) -> dict[str, TreeEntry | None]:
    """What `git log --raw -z` says of the files of a commit."""
    fields = raw.lstrip("\0\n").split("\0")
    files: dict[str, TreeEntry | None] = {}
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, blob, status = meta.split(" ")
        files[path] = None if status == "D" else TreeEntry(mode, Oid(blob))
    return files


def _changed_between(repo: Repo, old: str, new: str) -> dict[str, TreeEntry | None]:
    entries = list_tree(repo, new)
    return {change.path: entries.get(change.path) for change in changed_files(repo, old, new)}
