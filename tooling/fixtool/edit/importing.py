"""Bringing patches in: a mail, an mbox, a plain diff, or a range of a fork's commits, into a line
and into normal form."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from email.utils import parseaddr
from pathlib import Path

from fixtool.edit.export import Change, free_slug
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.objects import Signature
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import merge_three_way
from fixtool.series import patch as patches
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import Patch, read_diff, slugify, unsafe_paths
from fixtool.series.write import rewrite, series_text, writing
from fixtool.sources.resolve import resolve_local

_MBOX = re.compile(rb"^From [0-9a-f]{40} ", re.MULTILINE)
_MAIL = re.compile(rb"\A(From [^\n]*\n)?([A-Za-z-]+:[^\n]*\n([ \t][^\n]*\n)*)+", re.MULTILINE)


@dataclass(frozen=True)
class Incoming:
    """A change on its way in. ``commit`` is set where it is a commit of the fork, which allows a
    three-way merge."""

    subject: str
    body: str
    author: Signature
    diff: bytes
    where: str
    commit: str | None = None


@dataclass(frozen=True)
class Taken:
    """One patch that came in."""

    slug: str
    subject: str
    change: Change
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    line: str
    folder: Path
    patches: tuple[Taken, ...]


def read_file(repo: Repo, path: Path, author: Signature, subject: str | None) -> list[Incoming]:
    """The changes in a file. ``author`` and ``subject`` serve a plain diff, which names neither."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    if b"\0" in raw:
        raise Refused("this is binary data, not a patch", where=str(path))
    headers = _MAIL.match(raw)
    if headers and re.search(rb"^From: ", headers[0], re.MULTILINE):
        return _read_mails(repo, raw, path)
    start = re.search(rb"^(diff --git |--- )", raw, re.MULTILINE)
    if not start:
        raise Refused("no diff in this file", where=str(path))
    diff = raw[start.start() :].replace(b"\r\n", b"\n") if _damaged(raw) else raw[start.start() :]
    return [Incoming(subject or f"import {path.stem}", "", author, diff, str(path))]


def read_range(repo: Store, fork: Repo, text: str) -> list[Incoming]:
    """The commits of ``A..B`` in ``fork``, oldest first, readable from ``repo`` afterwards."""
    first, dots, last = text.partition("..")
    if not dots or not first or not last or last.startswith("."):
        raise UsageError(f"{text!r} is not a commit range A..B")
    repo.borrow(fork)
    where = str(fork.work_tree or fork.git_dir)
    old, new = (_endpoint(fork, name, where) for name in (first, last))
    listed = fork.run("rev-list", "--reverse", "--parents", f"{old}..{new}").text.splitlines()
    if not listed:
        raise UsageError(f"no commits in {text}", where=where)
    found = []
    for commit, *parents in (entry.split() for entry in listed):
        if len(parents) != 1:
            raise Refused(
                f"{commit[:12]} is a merge: a series is one straight line",
                where=where,
                hint=f"rebase the branch first: git -C {where} rebase {old[:12]} {last}",
            )
        info = fork.read_commit(commit)
        one = patches.parse(patches.export(repo, commit), commit[:12])
        found.append(Incoming(one.subject, one.body, info.author, one.diff, commit[:12], commit))
    return found


def _endpoint(fork: Repo, name: str, where: str) -> str:
    """A commit of the fork: a ref, perhaps with ``^`` or ``~2`` behind it."""
    ref, steps = re.split(r"(?=[~^][\d~^]*$)", name + "~0", maxsplit=1)
    commit = fork.commit_id(resolve_local(fork, ref, where) + steps)
    if commit is None:
        raise UsageError(f"{name!r} goes back beyond the history that {where} has", where=where)
    return commit


def take(
    repository: PatchRepository,
    line: Line,
    repo: Repo,
    bring_base: Callable[[], str],
    incoming: Sequence[Incoming],
    *,
    replacing: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Put ``incoming`` on top of the line, or, ``replacing``, in the place of the patches that have
    the same subject. All go in or none does."""
    base = bring_base()
    with nullcontext() if dry_run else writing(repository):
        line = repository.line(line.name)
        return _take(line, repo, base, incoming, replacing=replacing, dry_run=dry_run)


def _take(
    line: Line,
    repo: Repo,
    base: str,
    incoming: Sequence[Incoming],
    *,
    replacing: bool,
    dry_run: bool,
) -> Imported:
    queue: list[tuple[Patch, Incoming | None]] = [(one, None) for one in line.patches]
    taken: list[tuple[str, Change]] = []
    names = {entry.slug for entry in line.entries}
    for one in incoming:
        if bad := unsafe_paths(read_diff(one.diff, where=one.where)):
            raise Refused(f"{bad[0][0]!r}: {bad[0][1]}", where=one.where)
        at = [i for i, (known, _) in enumerate(queue) if known.subject == one.subject]
        if at and not replacing:
            raise Refused(
                f"line {line.name} has a patch with this subject: {queue[at[0]][0].slug}",
                where=one.where,
                hint="take its place with --replace, or give another --subject",
            )
        slug = queue[at[0]][0].slug if at else free_slug(one.subject, names)
        names.add(slug)
        fresh = Patch(slug, b"", one.subject, one.body, one.author, one.diff)
        if at:
            queue[at[0]] = (fresh, one)
        else:
            queue.append((fresh, one))
        taken.append((slug, Change.REWRITTEN if at else Change.ADDED))
    files, notes = _commit_all(repo, base, queue)
    files["series"] = series_text(line, [one.slug for one, _ in queue])
    changed = [] if dry_run else rewrite(line.folder, files)
    made = tuple(
        Taken(
            slug,
            next(one.subject for one, _ in queue if one.slug == slug),
            change if dry_run or f"{slug}.patch" in changed else Change.UNCHANGED,
            tuple(notes.get(slug, ())),
        )
        for slug, change in taken
    )
    return Imported(line.name, line.folder, made)


def author_from(text: str | None, date: str) -> Signature:
    """``Name <mail>`` as a signature; without it, fixtool's own."""
    name, address = parseaddr(text or "fixtool <fixtool@localhost>")
    if not address or "@" not in address:
        raise UsageError(f"--author {text!r} is not of the form 'Name <mail@host>'")
    return Signature(name or address, address, date)


def _commit_all(
    repo: Repo, base: str, queue: Sequence[tuple[Patch, Incoming | None]]
) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    files: dict[str, bytes] = {}
    notes: dict[str, list[str]] = {}
    tip = base
    for one, incoming in queue:
        tree, complaint = patches.apply_on(repo, one, tip)
        if tree is None and incoming is not None and incoming.commit is not None:
            parent = repo.read_commit(incoming.commit).parents[0]
            merge = merge_three_way(repo, parent, tip, incoming.commit)
            if not merge.conflicts:
                tree = merge.tree
                notes.setdefault(one.slug, []).append("merged three-way onto the line's base")
        if tree is None:
            raise Refused(
                f"{one.subject!r} does not apply on line's series: {complaint}",
                where=incoming.where if incoming else str(one.path),
                hint="rebase it onto the line's base first",
            )
        if tree == repo.tree_id(tip):
            raise Refused(
                f"{one.subject!r} changes nothing: the line's base or an earlier patch has it",
                where=incoming.where if incoming else str(one.path),
            )
        tip = repo.write_commit(one.commit(tree, tip))
        if incoming is not None:
            data = patches.export(repo, tip)
            again = patches.parse(data, one.slug)
            if replace(again, raw=b"", path=None, diff=b"") != replace(one, diff=b""):
                notes.setdefault(one.slug, []).append("the message was normalised")
            files[f"{one.slug}.patch"] = data
    return files, notes


def _read_mails(repo: Repo, raw: bytes, path: Path) -> list[Incoming]:
    """Split and decode as `git am` does: its own mailinfo knows every mailer's habits."""
    starts = [match.start() for match in _MBOX.finditer(raw)] or [0]
    mails = [raw[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    found = []
    for number, mail in enumerate(mails, 1):
        line_number = raw[: starts[number - 1]].count(b"\n") + 1
        where = f"{path}:{line_number}"
        with tempfile.TemporaryDirectory(prefix="fixtool-mail-") as folder:
            message, diff = Path(folder) / "message", Path(folder) / "diff"
            text = mail.split(b"\n", 1)[1] if mail.startswith(b"From ") else mail
            text = text.replace(b"\r\n", b"\n") if _damaged(text) else text
            out = repo.run(
                "mailinfo", "-b", "--encoding=UTF-8", str(message), str(diff), stdin=text
            )
            head = dict(
                line.split(": ", 1) for line in out.stdout.decode().splitlines() if ": " in line
            )
            body = message.read_text("utf-8", "surrogateescape").strip("\n")
            change = diff.read_bytes()
        start = re.search(rb"^diff --git ", change, re.MULTILINE)
        if not start or not head.get("Email") or not head.get("Subject"):
            raise Refused("this mail holds no git diff, author or subject", where=where)
        author = patches.parse(
            b"From: %s <%s>\nDate: %s\nSubject: [PATCH] x\n\ndiff --git a/x b/x\n"
            % (head["Author"].encode(), head["Email"].encode(), head.get("Date", "").encode()),
            slugify(head["Subject"]),
        ).author
        found.append(Incoming(head["Subject"], body, author, change[start.start() :], where))
    return found


def _damaged(raw: bytes) -> bool:
    """Whether a mailer or editor has turned every line end into CRLF, the headers' included."""
    marks = [
        line for line in raw.split(b"\n") if line.startswith((b"+++ ", b"--- ", b"diff --git "))
    ]
    return bool(marks) and all(line.endswith(b"\r") for line in marks)
