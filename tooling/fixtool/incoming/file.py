"""Reads the changes in a file: a mail, an mbox or a plain diff."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from fixtool.errors import CannotRun, Refused
from fixtool.files import read_at_most
from fixtool.git.objects import Signature
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming
from fixtool.series.mail import fits_commit, read_date
from fixtool.text import split_lines

_LARGEST_FILE = 64 << 20  # bytes; an mbox holds many patches
_MBOX = re.compile(rb"^From [0-9a-f]{40} ", re.MULTILINE)
_MAIL = re.compile(rb"\A(From [^\n]*\n)?([A-Za-z-]+:[^\n]*\n([ \t][^\n]*\n)*)+", re.MULTILINE)


def read_file(repo: Repo, path: Path, author: Signature, subject: str | None) -> list[Incoming]:
    """The changes in a file, as ``read_input`` reads them. Raises CannotRun if the file cannot be
    read, Refused if it is too large."""
    try:
        raw = read_at_most(path, _LARGEST_FILE)
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    return read_input(repo, str(path), raw, author, subject)


def read_input(
    repo: Repo, name: str, raw: bytes, author: Signature, subject: str | None
) -> list[Incoming]:
    """The changes in ``raw``, the bytes of one file or of one member of an archive, which messages
    call ``name``. ``author`` and ``subject`` are for a plain diff, which names neither.

    Raises Refused if it holds no git diff.
    """
    path = Path(name)
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
