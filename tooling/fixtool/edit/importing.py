"""Brings patches into a line, in normal form: a mail, an mbox, a plain diff, or a range of a fork's
commits."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.edit.export import Change, free_slug
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import read_at_most
from fixtool.git.objects import Oid, Signature
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import merge_three_way
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.line import Line, PatchRepository
from fixtool.series.mail import fits_commit, read_date, split_address
from fixtool.series.patch import LARGEST, Patch, apply_diff, export, parse
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.write import rewrite, series_text, writing
from fixtool.sources.resolve import resolve_local
from fixtool.text import split_lines

_LARGEST_FILE = 64 << 20  # bytes; an mbox holds many patches
_MBOX = re.compile(rb"^From [0-9a-f]{40} ", re.MULTILINE)
_MAIL = re.compile(rb"\A(From [^\n]*\n)?([A-Za-z-]+:[^\n]*\n([ \t][^\n]*\n)*)+", re.MULTILINE)


@dataclass(frozen=True)
class Incoming:
    """A change that is to become a patch. ``where`` names its origin in messages. ``commit`` is set
    if it is a commit of a fork, which allows a three-way merge."""

    subject: str
    body: str
    author: Signature
    diff: bytes
    where: str
    commit: Oid | None = None


@dataclass(frozen=True)
class ImportedPatch:
    """One patch that was imported. ``notes`` say how it differs from what came in, and what to look
    at in it."""

    slug: str
    subject: str
    change: Change
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    line: str
    folder: Path
    patches: tuple[ImportedPatch, ...]


def read_file(repo: Repo, path: Path, author: Signature, subject: str | None) -> list[Incoming]:
    """The changes in a file. ``author`` and ``subject`` are for a plain diff, which names neither.

    Raises CannotRun if the file cannot be read, Refused if it holds no git diff or is too large.
    """
    try:
        raw = read_at_most(path, _LARGEST_FILE)
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
    """The commits of ``A..B`` in ``fork``, oldest first, whose objects ``repo`` then borrows.

    Raises UsageError if ``text`` is no range of commits, Refused if a commit is a merge.
    """
    first, dots, last = text.partition("..")
    if not dots or not first or not last or last.startswith("."):
        raise UsageError(f"{text!r} is not a commit range A..B")
    repo.borrow(fork)
    where = str(fork.work_tree or fork.git_dir)
    old, new = (_endpoint(fork, name, where) for name in (first, last))
    listed = split_lines(fork.run("rev-list", "--reverse", "--parents", f"{old}..{new}").text)
    if not listed:
        raise UsageError(f"no commits in {text}", where=where)
    changes = []
    for commit, *parents in (map(Oid, entry.split()) for entry in listed):
        if len(parents) != 1:
            raise Refused(
                f"{commit[:12]} is a merge: a series is one straight line",
                where=where,
                hint=f"rebase the branch first: git -C {where} rebase {old[:12]} {last}",
            )
        author = fork.read_commit(commit).author
        patch = parse(export(repo, commit), commit[:12])
        changes.append(Incoming(patch.subject, patch.body, author, patch.diff, commit[:12], commit))
    return changes


def _endpoint(fork: Repo, name: str, where: str) -> Oid:
    """The commit that a ref of the fork means, which may end in ``^`` or ``~2``."""
    ref, steps = re.split(r"(?=[~^][\d~^]*$)", name + "~0", maxsplit=1)
    commit = fork.commit_id(resolve_local(fork, ref, where) + steps)
    if commit is None:
        raise UsageError(f"{name!r} goes back beyond the history that {where} has", where=where)
    return commit


def import_changes(
    repository: PatchRepository,
    line: Line,
    repo: Repo,
    bring_base: Callable[[], Oid],
    changes: Sequence[Incoming],
    *,
    replacing: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Put ``changes`` at the end of the line or, if ``replacing``, in the place of the patches that
    have the same subject. All are imported or none is. ``bring_base`` makes the base of the line
    readable in ``repo`` and returns it.

    Raises Refused if a change writes outside the tree, does not apply, changes nothing, or has the
    subject of a patch of the line while not ``replacing``.
    """
    base = bring_base()
    with nullcontext() if dry_run else writing(repository):
        line = repository.line(line.name)
        queue, changed = _queue(line, changes, replacing=replacing)
        files, notes = _commit_all(repo, base, queue)
        files["series"] = series_text(line, [patch.slug for patch, _ in queue])
        rewritten = [] if dry_run else rewrite(line.folder, files)
    subjects = {patch.slug: patch.subject for patch, _ in queue}
    imported = tuple(
        ImportedPatch(
            slug,
            subjects[slug],
            change if dry_run or f"{slug}.patch" in rewritten else Change.UNCHANGED,
            tuple(notes.get(slug, ())),
        )
        for slug, change in changed
    )
    return Imported(line.name, line.folder, imported)


_Queue = list[tuple[Patch, Incoming | None]]
"""The new series in order; a patch that comes in has its change beside it."""


def _queue(
    line: Line, changes: Sequence[Incoming], *, replacing: bool
) -> tuple[_Queue, list[tuple[str, Change]]]:
    """The new series of the line, and what happens to each patch that comes in, by slug."""
    queue: _Queue = [(patch, None) for patch in line.patches]
    changed: list[tuple[str, Change]] = []
    names = {entry.slug for entry in line.entries}
    at_subject = {patch.subject: at for at, (patch, _) in reversed(list(enumerate(queue)))}
    for incoming in changes:
        if len(incoming.diff) > LARGEST:
            raise Refused(
                f"a patch has at most {LARGEST} bytes, and this one has {len(incoming.diff)}",
                where=incoming.where,
                hint="split it; large data does not belong in a series",
            )
        if incoming.diff.startswith(b"diff --git "):  # the other forms are judged by what they do
            _require_safe(read_diff(incoming.diff, where=incoming.where), incoming.where)
        at = at_subject.setdefault(incoming.subject, len(queue))
        same = [patch.slug for patch, _ in queue[at : at + 1]]
        if same and not replacing:
            raise Refused(
                f"line {line.name} has a patch with this subject: {same[0]}",
                where=incoming.where,
                hint="take its place with --replace, or give another --subject",
            )
        slug = same[0] if same else free_slug(incoming.subject, names)
        names.add(slug)
        patch = Patch(slug, b"", incoming.subject, incoming.body, incoming.author, incoming.diff)
        queue[at : at + 1] = [(patch, incoming)]
        changed.append((slug, Change.REWRITTEN if same else Change.ADDED))
    return queue, changed


def _require_safe(files: Sequence[FilePatch], where: str) -> None:
    for _, path, why in unsafe_paths(files):
        raise Refused(f"{path!r}: {why}", where=where)


def author_from(text: str | None, date: str) -> Signature:
    """``Name <mail>`` as a signature of ``date``; fixtool's own if ``text`` is None. Raises
    UsageError if it is not of that form."""
    name, address = split_address(text or "fixtool <fixtool@localhost>")
    if "@" not in address or not fits_commit(name):
        raise UsageError(f"--author {text!r} is not of the form 'Name <mail@host>'")
    return Signature(name or address, address, date)


def _commit_all(
    repo: Repo, base: Oid, queue: _Queue
) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    """Commit the series on ``base``. Returns the files of the patches that come in, by name, and
    notes on them, by slug."""
    files: dict[str, bytes] = {}
    notes: dict[str, list[str]] = {}
    tip = base
    for patch, incoming in queue:
        where = incoming.where if incoming else str(patch.path)
        # What git did is exported, and then read and judged: an incoming diff may have any form.
        tree, complaint = apply_diff(repo, patch.diff, tip)
        if tree is None and incoming is not None and incoming.commit is not None:
            parent = repo.read_commit(incoming.commit).parents[0]
            merge = merge_three_way(repo, parent, tip, incoming.commit)
            if not merge.conflicts:
                tree = merge.tree
                notes.setdefault(patch.slug, []).append("merged three-way onto the line's base")
        if tree is None:
            raise Refused(
                f"{patch.subject!r} does not apply on line's series: {complaint}",
                where=where,
                hint="rebase it onto the line's base first",
            )
        if tree == repo.tree_id(tip):
            raise Refused(
                f"{patch.subject!r} changes nothing: the line's base or an earlier patch has it",
                where=where,
            )
        tip = repo.write_commit(patch.commit(tree, tip))
        if incoming is not None:
            files[f"{patch.slug}.patch"] = data = export(repo, tip)
            exported = parse(data, patch.slug)
            _require_safe(exported.files, where)
            touched = filter(None, map(rules_touched, exported.files))
            notes.setdefault(patch.slug, []).extend(touched)
            if replace(exported, raw=b"", path=None, diff=b"") != replace(patch, diff=b""):
                notes.setdefault(patch.slug, []).append("the message was normalised")
    return files, notes


def _read_mails(repo: Repo, raw: bytes, path: Path) -> list[Incoming]:
    """The changes of a mail or mbox, decoded as ``git am`` does it: ``git mailinfo`` knows every
    mailer's habits."""
    starts = [match.start() for match in _MBOX.finditer(raw)] or [0]
    changes = []
    line_number = 1
    for begin, end in zip(starts, [*starts[1:], len(raw)], strict=True):
        changes.append(_read_mail(repo, raw[begin:end], f"{path}:{line_number}"))
        line_number += raw.count(b"\n", begin, end)
    return changes


def _read_mail(repo: Repo, mail: bytes, where: str) -> Incoming:
    with tempfile.TemporaryDirectory(prefix="fixtool-mail-") as folder:
        message, diff = Path(folder) / "message", Path(folder) / "diff"
        text = mail.split(b"\n", 1)[1] if mail.startswith(b"From ") else mail
        text = text.replace(b"\r\n", b"\n") if _damaged(text) else text
        out = repo.run("mailinfo", "-b", "--encoding=UTF-8", str(message), str(diff), stdin=text)
        headers = out.stdout.decode("utf-8", "surrogateescape")
        body = message.read_bytes().decode("utf-8", "surrogateescape").strip("\n")
        change = diff.read_bytes()
    head = dict(line.split(": ", 1) for line in split_lines(headers) if ": " in line)
    start = re.search(rb"^diff --git ", change, re.MULTILINE)
    if not start or not head.get("Email") or not head.get("Subject"):
        raise Refused("this mail holds no git diff, author or subject", where=where)
    name, date = head.get("Author", head["Email"]), read_date(head.get("Date", ""))
    if date is None:
        raise Refused(f"the Date: header is not a date: {head.get('Date')!r:.60}", where=where)
    if not fits_commit(name) or not fits_commit(head["Email"]):
        raise Refused("the author's name is none that a commit can hold", where=where)
    author = Signature(name, head["Email"], date)
    return Incoming(head["Subject"], body, author, change[start.start() :], where)


def _damaged(raw: bytes) -> bool:
    """Whether a mailer or editor has turned every line end into CRLF, those of the diff's headers
    too."""
    marks = [
        line for line in raw.split(b"\n") if line.startswith((b"+++ ", b"--- ", b"diff --git "))
    ]
    return bool(marks) and all(line.endswith(b"\r") for line in marks)
