"""Reads the changes in a file: a mail, a mailbox, or a diff with or without a text before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from fixtool.errors import Refused
from fixtool.git.objects import Signature
from fixtool.git.repo import Repo
from fixtool.incoming._heads import (
    Head,
    has_fields,
    mail_of,
    person,
    read_fields,
    read_prose,
    with_trailers,
)
from fixtool.incoming._mail import Mail, guess, read_mail, sign
from fixtool.incoming._mailbox import split_mbox
from fixtool.incoming._thread import Chosen, Letter, find_series, read_letter
from fixtool.incoming.change import Incoming, make_change
from fixtool.series.message import split_message
from fixtool.text import printable

_LARGEST_FILE = 64 << 20  # bytes; an mbox holds many patches
_DIFF = re.compile(
    rb"^(?:diff --git |diff -|diff [^ \n]+ [^ \n]+$|Index: |--- [^\n]*\n\+\+\+ )", re.MULTILINE
)
_CONTEXT_DIFF = re.compile(rb"^\*\*\* [^\n]*\n--- [^\n]*\n\*{15}", re.MULTILINE)
_BINARY = re.compile(rb"^Binary files (.*) differ\r?$", re.MULTILINE)
_CHANGESET = re.compile(rb"^# HG changeset patch\r?$", re.MULTILINE)
_COMMIT = re.compile(rb"^commit [0-9a-f]{40}\r?\n(?:Merge: .*\n)?Author: ", re.MULTILINE)
_ENVELOPE = re.compile(rb"\s*From [^\n]*[0-9]:[0-9]{2}[^\n]*\n")
_BLANK = re.compile(rb"(?:[ \t\r]*\n)+")
_BOM = b"\xef\xbb\xbf"
_NEWLINE = 10
_COMPARED = 400  # bytes of a diff, by which it is found in its file


@dataclass(frozen=True)
class Named:
    """The bytes of one file or of one member of an archive, which messages call ``name``.
    ``author`` and its date are for a patch that does not say them."""

    name: str
    raw: bytes
    author: Signature


def read_input(
    repo: Repo,
    name: str,
    raw: bytes,
    author: Signature,
    subject: str | None,
    *,
    trailers: bool = False,
) -> list[Incoming]:
    """The changes in one input, as ``read_together`` reads several."""
    found = read_together(repo, [Named(name, raw, author)], subject, trailers=trailers)
    return [change for _, change in found]


def read_together(
    repo: Repo,
    inputs: Sequence[Named],
    subject: str | None,
    *,
    trailers: bool = False,
    ordered: bool = False,
) -> list[tuple[int, Incoming]]:
    """The changes in ``inputs``, each with the index of its input. ``subject`` is for a patch that
    does not say it, and ``trailers`` takes those that answers give. If all inputs are mails, they
    are one mailbox, so that a series is put into the order of its numbers; unless the inputs are
    ``ordered`` already.

    Raises Refused if one holds no diff, and is no cover letter or answer.
    """
    readers = [_Reader(repo, item, subject, trailers=trailers) for item in inputs]
    letters = [reader.letters() for reader in readers]
    if len(inputs) > 1 and not ordered and all(letters):
        together = _changes(readers, letters, whole=True)
        if together:
            return together
    found: list[tuple[int, Incoming]] = []
    for index, (reader, mails) in enumerate(zip(readers, letters, strict=True)):
        if mails:
            changes = _changes([reader], [mails], whole=len(inputs) == 1)
            found += [(index, change) for _, change in changes]
        else:
            found.append((index, reader.plain()))
    return found


def _changes(
    readers: Sequence[_Reader], letters: Sequence[Sequence[Letter]], *, whole: bool
) -> list[tuple[int, Incoming]]:
    """The changes in the mails of ``readers``, in the order of a series, each with the index of its
    reader. If these mails should be a ``whole`` series, notes tell which of its numbers are
    missing."""
    origin = {id(letter): index for index, found in enumerate(letters) for letter in found}
    for reader, found in zip(readers, letters, strict=True):
        reader.require_diff(found, alone=len(readers) == 1)
    changes = []
    for chosen in find_series([letter for found in letters for letter in found], whole=whole):
        index = origin[id(chosen.letter)]
        changes.append((index, readers[index].change(chosen)))
    return changes


def _mails_in(repo: Repo, raw: bytes, name: str) -> list[tuple[bytes, int]]:
    """The mails of a file, and the line at which each begins; none if the file is no mail. As for
    ``git am``, patches by Mercurial and StGit are mails once their heads are rewritten."""
    starts = [match.start() for match in _CHANGESET.finditer(raw)]
    if starts and not raw[: starts[0]].strip():
        ends = [*starts[1:], len(raw)]
        parts = [(raw[a:b], raw.count(b"\n", 0, a) + 1) for a, b in zip(starts, ends, strict=True)]
        return [(mail_of(part) or part, number) for part, number in parts]
    if _is_mailbox(raw):
        return split_mbox(repo, raw, name)
    mail = mail_of(raw)
    return [] if mail is None else [(mail, 1)]


def _is_mailbox(raw: bytes) -> bool:
    """Whether a file begins as a mail or an mbox does: with its ``From `` line, or with headers."""
    if _ENVELOPE.match(raw):
        return True
    return has_fields(_head_lines(raw))


def _head_lines(text: bytes) -> list[str]:
    """The lines of a text up to the first blank one."""
    text = text[match.end() :] if (match := _BLANK.match(text)) else text
    head = re.split(rb"\r?\n[ \t]*\r?\n", text, maxsplit=1)[0]
    return [
        line.removesuffix("\r") for line in (head.decode("utf-8", "surrogateescape")).split("\n")
    ]


def _decode(text: bytes, where: str) -> tuple[str, tuple[str, ...]]:
    """``text``, which is in UTF-8, and a note if it is in ISO 8859-1. Raises Refused if it is in
    neither."""
    try:
        return text.decode("utf-8"), ()
    except UnicodeDecodeError:
        guessed = guess(text)
    if guessed is None:
        raise Refused(
            "the text before the diff is not in UTF-8",
            where=where,
            hint="convert the file: iconv -f CHARSET -t UTF-8",
        )
    return guessed, ("its text is not UTF-8 and was read as ISO 8859-1",)


class _Reader:
    """Reads one input. ``subject`` is for what does not say it itself."""

    def __init__(self, repo: Repo, item: Named, subject: str | None, *, trailers: bool) -> None:
        if item.raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Refused(
                "this file is UTF-16, as PowerShell writes it",
                where=item.name,
                hint=f"write it as UTF-8: iconv -f UTF-16 -t UTF-8 {item.name} > utf-8.patch",
            )
        if b"\0" in item.raw:
            raise Refused(
                "this is binary data, not a patch",
                where=item.name,
                hint="name a file that holds a diff or a mail with one: fixtool import FILE",
            )
        self.repo, self.name, self.author, self.subject = repo, item.name, item.author, subject
        self.raw = item.raw.removeprefix(_BOM)
        self.trailers = trailers
        self._texts: dict[str, bytes] = {}

    def letters(self) -> list[Letter]:
        """The mails of the input; none if it is a diff."""
        letters = []
        for text, line in _mails_in(self.repo, self.raw, self.name):
            mail = read_mail(self.repo, text, self.name, line)
            letters.append(read_letter(mail, bool(_DIFF.search(mail.patch))))
            self._texts[mail.where] = text
        return letters

    def require_diff(self, letters: Sequence[Letter], *, alone: bool) -> None:
        """Raise Refused if no mail has a diff. Among others, the input may be a cover letter or an
        answer, of which notes tell."""
        if any(letter.has_diff for letter in letters):
            return
        if alone or not all(letter.number == 0 or letter.reply for letter in letters):
            raise self._no_diff(self.raw)

    def change(self, chosen: Chosen) -> Incoming:
        """The change of a patch of a series, with what is known of it."""
        mail = chosen.letter.mail
        change = self._mail(self._texts[mail.where], mail)
        return _with_answers(change, chosen, take=self.trailers)

    def plain(self) -> Incoming:
        """The change of a diff with or without a text before it, or of an empty file."""
        raw = self.raw
        if not raw.strip():  # so `git format-patch` writes a commit that changes nothing
            return make_change(_subject_from(self.name), "", self.author, b"", self.name)
        start = _DIFF.search(raw)
        if not start:
            raise self._no_diff(raw)
        text, notes = _decode(raw[: start.start()].replace(b"\r\n", b"\n"), self.name)
        if len(_COMMIT.findall(raw)) > 1:
            raise Refused(
                "this is a log of several commits, the newest first",
                where=self.name,
                hint="write the commits as mails: git format-patch --stdout A..B > FILE",
            )
        head = read_prose(text)
        name, address = person(head.author) if head.author else ("", "")
        mail = Mail(name, address, "", head.date, "", b"", self.name, {}, "", notes=notes)
        return self._change(head, mail, raw)

    def _mail(self, text: bytes, mail: Mail) -> Incoming:
        """The change in a mail: what ``git am`` reads, and the fields of DEP-3 in its headers."""
        fields = read_fields(_head_lines(text))
        if not mail.author and not mail.address and fields.author:
            name, address = person(fields.author)
            mail = replace(mail, author=name, address=address)
        mail = replace(mail, date=mail.date or fields.date)
        parts = (mail.subject or fields.subject, fields.body, mail.body)
        subject, body = split_message("\n\n".join(filter(None, parts)))
        head = replace(fields, subject=subject, body=body)
        return self._change(head, mail, mail.patch)

    def _change(self, head: Head, mail: Mail, text: bytes) -> Incoming:
        """The change with the message of ``head``, the author of ``mail`` and the diff in
        ``text``."""
        diff, notes = _diff_in(text, mail.where)
        author, made_up = sign(self.repo, mail, self.author)
        subject = head.subject or self.subject
        if not subject:
            subject = _subject_from(self.name)
            made_up = (f"it has no subject: {subject!r} is from the file's name", *made_up)
        body = with_trailers(head.body, head.trailers)
        if re.search("[\udc80-\udcff]", subject + body):
            raise Refused(
                "the text before the diff is not in UTF-8",
                where=mail.where,
                hint="convert the file: iconv -f CHARSET -t UTF-8",
            )
        all_notes = (*mail.notes, *made_up, *notes)
        change = make_change(subject, body, author, diff, mail.where, notes=all_notes)
        return replace(change, first_line=self._line_of(change))

    def _line_of(self, change: Incoming) -> int:
        """The line of the input at which the diff of ``change`` begins; 0 if it is not in it as it
        is."""
        begin, start = 0, change.diff[:_COMPARED]
        if number := re.search(r":(\d+)$", change.where.removeprefix(self.name)):
            for _ in range(int(number[1]) - 1):
                begin = self.raw.find(b"\n", begin) + 1
        at = self.raw.find(start, begin) if start else -1
        while at > 0 and self.raw[at - 1] != _NEWLINE:
            at = self.raw.find(start, at + 1)
        return 0 if at < 0 else self.raw.count(b"\n", 0, at) + 1

    def _no_diff(self, raw: bytes) -> Refused:
        if _CONTEXT_DIFF.search(raw):
            return Refused(
                "this is a context diff, which git does not read",
                where=self.name,
                hint="make it again as a unified diff: diff -u, svn diff or cvs diff -u",
            )
        hint = "name a file that holds a diff or a mail with one: fixtool import FILE"
        return Refused("no diff in this file", where=self.name, hint=hint)


def _with_answers(change: Incoming, chosen: Chosen, *, take: bool) -> Incoming:
    """``change`` with the trailers that answers give it, or a note that they could be taken."""
    body = with_trailers(change.body, chosen.trailers) if chosen.trailers else change.body
    notes = [*change.notes, *chosen.notes]
    if body != change.body:
        given = ", ".join(f"{key}: {value}" for key, value in chosen.trailers)
        notes.append(
            f"answers gave it {given}" if take else f"answers give it {given}: take --trailers"
        )
    return replace(change, body=body if take else change.body, notes=tuple(notes))


def _diff_in(text: bytes, where: str) -> tuple[bytes, tuple[str, ...]]:
    """All from the first line of a diff on, and notes. Raises Refused if a part of it has no
    content that could be applied."""
    start = _DIFF.search(text)
    diff = text[start.start() :] if start else b""
    if (binary := _BINARY.search(diff)) and not re.search(
        rb"^index [0-9a-f]{40}\.\.[0-9a-f]{40}", diff, re.MULTILINE
    ):
        named = printable(binary[0].decode("utf-8", "replace"))
        raise Refused(
            f"the content of a binary file is not in this diff: {named}",
            where=where,
            hint="make the diff again with: git diff --binary",
        )
    if _damaged(diff):
        return diff.replace(b"\r\n", b"\n"), ("its line ends were CRLF and are LF now",)
    return diff, ()


def _damaged(diff: bytes) -> bool:
    """Whether a mailer or editor has turned every line end into CRLF, those of the diff's headers
    too."""
    marks = [
        line for line in diff.split(b"\n") if line.startswith((b"+++ ", b"--- ", b"diff --git "))
    ]
    return bool(marks) and all(line.endswith(b"\r") for line in marks)


def _subject_from(file_name: str) -> str:
    """A subject from the name of a file, without its number and ending."""
    name = re.sub(r"\.(patch|diff|dpatch|eml|mbox|mbx|txt)$", "", PurePath(file_name).name)
    return name.lstrip("0123456789-") or name
