"""Upstream's history: its first-parent commits, oldest first, and what each did to which file."""

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
    """Who did what upstream. ``date`` is the author's, ISO 8601; ``pr`` the pull request that a
    squash merge names at the end of its subject."""

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
class Step:
    """One first-parent commit. ``changes`` is path -> (mode, blob id), None for a file that went;
    ``reverts`` what its message says it takes back: a commit id (perhaps short), else a subject."""

    commit: UpstreamCommit
    changes: Mapping[str, TreeEntry | None]
    reverts: str | None


def first_parent(repo: Repo, start: str, end: str) -> tuple[Step, ...]:
    """The commits after ``start`` up to ``end``, oldest first, from one git process and no blob.

    Raises UsageError where ``end`` does not descend from ``start``.
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
    steps = []
    for number, record in enumerate(out.decode("utf-8", "surrogateescape").split("\x01")[1:]):
        sha, parents, author, date, subject, body, raw = record.split("\0", 6)
        changes = _changes(raw)
        if number == 0 and (parent := parents.split(" ")[0]) != start:
            changes = _between(repo, start, parent) | changes  # start lies on a side branch
        commit = UpstreamCommit(Oid(sha), author, date, subject, pull_request(subject))
        steps.append(Step(commit, changes, _reverts(subject, body)))
    return tuple(steps)


def read_one(repo: Repo, sha: str) -> UpstreamCommit:
    """One commit, by its id."""
    out = repo.run("show", "-s", f"--format={_FORMAT}", sha).stdout
    fields = out.decode("utf-8", "surrogateescape").split("\x01")[1].split("\0")
    return UpstreamCommit(Oid(fields[0]), fields[2], fields[3], fields[4], pull_request(fields[4]))


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


def pull_request(subject: str) -> int | None:
    match = _PULL_REQUEST.search(subject)
    return int(match[1]) if match else None


def landed(steps: Sequence[Step], shas: Sequence[str], numbers: Sequence[int]) -> list[int]:
    """Where in ``steps`` one of these commits, or of these pull requests, came in or went out
    again, in order: in, out, in …"""
    found: list[int] = []
    names: list[str] = []  # the commits that brought it
    for position, step in enumerate(steps):
        commit = step.commit
        if len(found) % 2 == 0:
            ours = commit.pr in numbers or any(commit.sha.startswith(one) for one in shas)
            if ours and step.reverts is None:
                found.append(position)
                names += [commit.sha, commit.subject]
        elif step.reverts and any(one.startswith(step.reverts) for one in names):
            found.append(position)
    return found


def _reverts(subject: str, body: str) -> str | None:
    if match := _REVERTS.search(body):
        return match[1]
    match = _REVERT_OF.match(subject)
    return match[1] if match else None


def _changes(raw: str) -> dict[str, TreeEntry | None]:
    fields = raw.lstrip("\0\n").split("\0")
    found: dict[str, TreeEntry | None] = {}
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, blob, status = meta.split(" ")
        found[path] = None if status == "D" else TreeEntry(mode, Oid(blob))
    return found


def _between(repo: Repo, old: str, new: str) -> dict[str, TreeEntry | None]:
    changed = changed_files(repo, old, new)
    there = list_tree(repo, new)
    return {one.path: there.get(one.path) for one in changed}
