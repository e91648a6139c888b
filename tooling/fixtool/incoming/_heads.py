"""Reads the text before a diff that is no mail: the fields of DEP-3, the heads that Mercurial,
StGit, dpatch and ``git show`` write, and prose.

DEP-3 (https://dep-team.pages.debian.net/deps/dep3/) is how Debian says why a patch exists. Its
``Description`` becomes the message and its ``Author`` the author; every other field becomes a
trailer of the same name, because fixtool's trailers are DEP-3's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from fixtool.series.mail import split_address
from fixtool.series.message import clean
from fixtool.series.patch import read_trailers

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):(.*)")
_DEP3 = re.compile(
    r"description|subject|author|from|origin|bug|bug-[a-z0-9-]+|forwarded|applied-upstream"
    r"|last-update|reviewed-by|acked-by",
    re.IGNORECASE,
)
# What `git mailinfo` reads, and headers that speak of the mail itself and not of the patch.
_OF_MAIL = re.compile(
    r"from|subject|date|to|cc|bcc|sender|reply-to|message-id|in-reply-to|references|mime-version"
    r"|content-.*|received.*|return-path|delivered-to|envelope-to|list-.*|archived-at|dkim-.*|arc-.*"
    r"|authentication-results|user-agent|precedence|organization|status|lines|importance|priority"
    r"|thread-.*|errors-to|feedback-id|autocrypt|x-(?!debian-).*|mail-.*|resent-.*|xref|path"
    r"|newsgroups|nntp-.*|accept-language|content",
    re.IGNORECASE,
)
_SENT = {"message-id", "received", "to", "mime-version", "newsgroups", "return-path"}
_LONGEST_SUBJECT = 100
_HG_DATE = re.compile(r"(\d{1,12}) (-?\d{1,6})")
_DPATCH = re.compile(r"#+ *\S+ by +(.+)")


@dataclass(frozen=True)
class Head:
    """What the text before a diff says. ``author`` and ``date`` are as written there; they, and the
    subject, are empty if it does not say them."""

    subject: str = ""
    body: str = ""
    author: str = ""
    date: str = ""
    trailers: tuple[tuple[str, str], ...] = ()


def mail_of(text: bytes) -> bytes | None:
    """The mail that ``git am`` makes of a patch by Mercurial or StGit; None if it is neither."""
    lines = text.lstrip(b"\n").split(b"\n")
    if lines[0].rstrip() == b"# HG changeset patch":
        return _mail_of_mercurial(lines[1:])
    if len(lines) < 3 or not lines[0].strip() or lines[1].strip():
        return None
    if lines[2].startswith((b"From:", b"Author:", b"Date:")):
        return _mail_of_stgit(lines)
    return None


def _mail_of_mercurial(lines: Sequence[bytes]) -> bytes:
    mail = []
    for number, line in enumerate(lines):
        if line.startswith(b"# User "):
            mail.append(b"From: " + line[7:])
        elif line.startswith(b"# Date "):
            mail.append(b"Date: " + _date_of_mercurial(line[7:]))
        elif not line.startswith(b"# "):
            return b"\n".join([*mail, b"", *lines[number:]])
    return b"\n".join([*mail, b"", b""])


def _date_of_mercurial(text: bytes) -> bytes:
    """A date, given as seconds since 1970 and seconds west of UTC, as a mail has it. What is none
    is left as it is, and refused as the date of a mail."""
    match = _HG_DATE.match(text.decode("ascii", "replace"))
    try:
        zone = timezone(timedelta(seconds=-int(match[2]))) if match else None
        when = datetime.fromtimestamp(int(match[1]), zone) if match else None
    except (ValueError, OverflowError, OSError):
        when = None
    return f"{when:%a, %d %b %Y %H:%M:%S %z}".encode() if when else text


def _mail_of_stgit(lines: Sequence[bytes]) -> bytes:
    mail = []
    subject = False
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if line.startswith(b"Author:"):
            mail.append(b"From:" + line[7:])
        elif line.startswith((b"From", b"Date")):
            mail.append(line)
        elif not subject:
            mail.append(b"Subject: " + line)
            subject = True
        else:
            return b"\n".join([*mail, b"", *lines[number:]])
    return b"\n".join([*mail, b"", b""])


def has_fields(lines: Sequence[str]) -> bool:
    """Whether a text begins with a block of headers among which are ones that a mail or DEP-3 has.
    (`fix: spell it out` may be the first line of prose.)"""
    names = [name.lower() for name, _ in _fields(lines)]
    return any(_DEP3.fullmatch(name) or name == "date" for name in names)


def read_fields(lines: Sequence[str]) -> Head:
    """What the headers at the beginning of a mail say that ``git mailinfo`` does not read: fields
    of DEP-3, and, unless the mail was sent, others that speak of the patch."""
    fields = _fields(lines)
    sent = not _SENT.isdisjoint(name.lower() for name, _ in fields)
    subject, body, author, date = "", "", "", ""
    trailers: list[tuple[str, str]] = []
    for name, values in fields:
        key, value = name.lower(), " ".join(part for part in values if part != ".").strip()
        if key == "description":
            subject = values[0]
            body = "\n".join("" if part == "." else part for part in values[1:])
        elif key == "author":
            if author:
                trailers.append(("Co-authored-by", value))
            author = author or value
        elif key == "date":
            date = value
        elif value and not _OF_MAIL.fullmatch(key) and (not sent or _DEP3.fullmatch(key)):
            trailers.append((name, value))
            date = value if key == "last-update" and not date else date
    return Head(subject, clean(body).strip("\n"), author, date, tuple(trailers))


def _fields(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The headers that a text begins with: their names, and their lines without the blank in front.
    There are none if another line is among them."""
    fields: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith("---"):
            break
        match = _FIELD.fullmatch(line)
        if match:
            fields.append((match[1], [match[2].strip()]))
        elif line[0] in " \t" and fields:
            fields[-1][1].append(line[1:].rstrip())
        elif not (number == 0 and line.startswith("From ")):
            return []
    return fields


def read_prose(text: str) -> Head:
    """What a text that is no mail says: a head of ``git show`` or dpatch, or prose. Its first
    paragraph is the subject if it is one short line. What follows ``---`` is about the diff."""
    lines = [line.rstrip() for line in text.split("\n")]
    if lines and re.match(r"commit [0-9a-f]{7,40}\b", lines[0]):
        return _read_show(lines)
    dpatch = next(filter(None, map(_DPATCH.fullmatch, lines[:5])), None)
    if any(line.startswith(("# DP:", "## DP:")) for line in lines):
        described = [re.sub(r"#+ DP: ?", "", line) for line in lines if re.match(r"#+ DP:", line)]
        head = _read_message("\n".join(described))
        return Head(head.subject, head.body, dpatch[1] if dpatch else "")
    if any(lines) and all(line.startswith("#") for line in lines if line):
        lines = [re.sub(r"^#+ ?", "", line) for line in lines if not line.startswith("#!")]
        if has_fields(lines):
            return read_commented(lines)
    ends = [number for number, line in enumerate(lines) if line == "---"]
    return _read_message("\n".join(lines[: ends[0]] if ends else lines))


def read_commented(lines: Sequence[str]) -> Head:
    """What fields of DEP-3 say that stood in comments."""
    named = [re.sub("(?i)^from:", "Author:", re.sub("(?i)^subject:", "Description:", line))
             for line in lines]  # fmt: skip
    return read_fields(named)


def _read_message(text: str) -> Head:
    text = clean(text).strip("\n")
    first, _, rest = text.partition("\n\n")
    if "\n" not in first and len(first) <= _LONGEST_SUBJECT:
        return Head(first, rest)
    return Head("", text)


def _read_show(lines: Sequence[str]) -> Head:
    """What ``git show`` and ``git log -p`` print before a diff: headers and an indented message."""
    author, date = "", ""
    message: list[str] = []
    for line in lines:
        if line.startswith("Author:"):
            author = line.partition(":")[2].strip()
        elif line.startswith(("Date:", "AuthorDate:")):
            date = line.partition(":")[2].strip()
        elif line.startswith("    ") or (message and not line):
            message.append(line[4:])
    subject, _, body = clean("\n".join(message)).strip("\n").partition("\n\n")
    return Head(subject.replace("\n", " "), body, author, date)


def with_trailers(body: str, trailers: Sequence[tuple[str, str]]) -> str:
    """``body`` with ``trailers`` at its end, without those that it has already."""
    there = {(key.lower(), value) for key, value in read_trailers(body)}
    added = [f"{key}: {value}" for key, value in trailers if (key.lower(), value) not in there]
    if not added:
        return body
    gap = "\n" if there else "\n\n"
    return f"{body}{gap if body else ''}" + "\n".join(added)


def person(text: str) -> tuple[str, str]:
    """The name and the address in ``Name <mail>``; the address is empty if there is none."""
    name, address = split_address(text)
    return (name or address, address) if address else (text, "")
