"""Reads the head of a patch file: the mail headers and the message.

It takes what ``git format-patch`` writes, and the headers of other mailers that mean the same. What
it would have to guess at is refused, with the file and the line: ``fixtool import`` brings any mail
into this form. It takes one pass, in time that grows with the size of the mail.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from fixtool.errors import Refused
from fixtool.git.objects import Signature
from fixtool.text import late_pattern

_HINT = "bring the mail into fixtool's form: fixtool import FILE"
_HEADER = late_pattern(rb"([!-9;-~]+):(.*)", re.DOTALL)
_ONCE = ("from", "date", "subject", "content-type", "content-transfer-encoding")
_LONGEST = 10_000  # bytes of a header that is read
_WORD = late_pattern(r"=\?([!->@-~]{1,60})\?([QqBb])\?([!->@-~]*)\?=")
_IN_BRACKETS = late_pattern(r"([^<>]*)<([^<>\x00-\x1f\x7f]*)>")
_ADDRESS = late_pattern(r"[^\s<>()\x00-\x1f\x7f]+")
_HEX = late_pattern(rb"=([0-9A-Fa-f]{2})?")
_CHARSET = late_pattern(r';\s*charset\s*=\s*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
# Python knows codecs that are no charsets of mails, and some take quadratic time.
_CHARSETS = late_pattern(
    r"utf-8|ascii|iso8859-\d+|cp(125\d|437|8\d\d|9\d\d|1006)|koi8-[rtu]|mac-.+|tis-620"
    r"|gb2312|gbk|gb18030|hz|big5(hkscs)?|shift_jis(_2004|x0213)?|euc_(jp|kr|jis_2004|jisx0213)"
    r"|iso2022_(jp|kr)(_\w+)?|johab"
)


@dataclass(frozen=True)
class Mail:
    """The headers that count, decoded, and the message without blank lines around it."""

    author: Signature
    subject: str
    body: str


def read_mail(head: bytes, where: str) -> Mail:
    """Read the mail before a diff; ``where`` is its file. Raises Refused, naming the line, if a
    header is missing or cannot be read."""
    lines = head.split(b"\n")
    if lines[0].startswith(b"From "):  # the line that separates the mails of an mbox
        lines[0] = b""
    headers, body_at = _headers(lines, where)
    missing = [name for name in ("From", "Date", "Subject") if name.lower() not in headers]
    if missing:
        raise Refused(
            f"no {missing[0]}: header before the diff",
            where=f"{where}:1",
            hint="bring a plain diff in with: fixtool import FILE",
        )
    charset = _charset(headers)
    sender, day, title = headers["from"], headers["date"], headers["subject"]
    name, address = _author(sender, charset)
    date = _date(day)
    subject = _decoded(title, charset)
    if re.search(r"[\n\0]", subject):
        raise title.refuse("the subject holds a line break or a NUL")
    body = _decode(b"\n".join(lines[body_at:]), charset, "the message", f"{where}:{body_at + 1}")
    if "\0" in body:
        raise Refused("the message holds a NUL", where=f"{where}:{body_at + 1}")
    return Mail(Signature(name, address, date), subject, body.strip("\n"))


@dataclass(frozen=True)
class _Header:
    """The value of a header, its lines joined, and the place of its first line."""

    name: str
    value: bytes
    where: str

    def refuse(self, what: str) -> Refused:
        return Refused(what, where=self.where, hint=_HINT)

    def text(self, charset: str) -> str:
        return _decode(self.value, charset, f"the {self.name}: header", self.where)


def _headers(lines: list[bytes], where: str) -> tuple[dict[str, _Header], int]:
    """The headers that count by their names, and the index of the first line of the message."""
    headers: dict[str, _Header] = {}
    at = 0 if lines[0] else 1
    while at < len(lines) and (line := lines[at].removesuffix(b"\r")):
        first, parts = at, [line]
        at += 1
        while at < len(lines) and lines[at][:1] in (b" ", b"\t") and lines[at].strip():
            parts.append(lines[at].removesuffix(b"\r")[1:])
            at += 1
        match = _HEADER.match(b" ".join(parts))
        place = f"{where}:{first + 1}"
        if not match:
            shown = parts[0][:60].decode("utf-8", "replace")
            raise Refused(f"{shown!r} is no mail header", where=place, hint=_HINT)
        name = match[1].decode("ascii")
        header = _Header(name, match[2].strip(b" \t"), place)
        if name.lower() not in _ONCE:
            continue
        if name.lower() in headers:
            raise header.refuse(f"there are two {name}: headers")
        if len(header.value) > _LONGEST:
            raise header.refuse(f"the {name}: header has {len(header.value)} bytes")
        headers[name.lower()] = header
    return headers, at + 1


def _charset(headers: dict[str, _Header]) -> str:
    """The charset of the message.

    Raises Refused if the diff would have to be decoded too: git would do that, and then apply
    another diff than the one in the file.
    """
    encoding = headers.get("content-transfer-encoding")
    if encoding and encoding.text("ascii").lower() not in ("7bit", "8bit", "binary"):
        raise encoding.refuse(f"the mail is encoded as {encoding.text('ascii')[:40]}")
    kind = headers.get("content-type")
    if kind is None:
        return "utf-8"
    text = kind.text("ascii")
    if not text.lower().startswith("text/plain"):
        raise kind.refuse(f"the mail is no plain text: {text[:60]!r}")
    match = _CHARSET.search(text)
    return _known_charset(match[1] or match[2] or "" if match else "utf-8", kind.where)


def known_charset(name: str) -> str | None:
    """Python's name for a charset of mails; None if it knows none of this name."""
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return known if _CHARSETS.fullmatch(known) else None


def _known_charset(name: str, where: str) -> str:
    known = known_charset(name)
    if known is None:
        raise Refused(f"the charset {name[:40]!r} is not known", where=where, hint=_HINT)
    return known


def _decode(raw: bytes, charset: str, what: str, where: str) -> str:
    try:
        # The bytes of a message in UTF-8 are kept whatever they are, as git keeps them.
        return raw.decode(charset, "surrogateescape" if charset in ("utf-8", "ascii") else "strict")
    except (UnicodeDecodeError, ValueError) as error:
        raise Refused(f"{what} is not in {charset}", where=where, hint=_HINT) from error


def _decoded(header: _Header, charset: str) -> str:
    """The text of a header with its encoded words decoded (RFC 2047: ``=?utf-8?q?=C3=A4?=``)."""
    text = header.text(charset)
    if "=?" not in text:
        return text
    pieces: list[str] = []
    waiting: tuple[str, bytes] = ("", b"")  # words next to each other may share a character
    at = 0
    for word in _WORD.finditer(text):
        between = text[at : word.start()]
        at = word.end()
        name = _known_charset(word[1].partition("*")[0], header.where)
        raw = _word_bytes(word[2], word[3], header)
        if waiting[0] and between.strip(" \t"):
            pieces += [_word_text(waiting, header), between]
            waiting = (name, raw)
        elif waiting[0] == name:
            waiting = (name, waiting[1] + raw)
        else:
            pieces.append(_word_text(waiting, header) if waiting[0] else between)
            waiting = (name, raw)
    pieces += [_word_text(waiting, header) if waiting[0] else "", text[at:]]
    return "".join(pieces)


def _word_bytes(encoding: str, text: str, header: _Header) -> bytes:
    raw = text.encode("ascii")
    if encoding in "Bb":
        try:
            return base64.b64decode(raw, validate=True)
        except binascii.Error as error:
            raise header.refuse(f"the {header.name}: header has damaged base64") from error

    def plain(match: re.Match[bytes]) -> bytes:
        if not match[1]:
            raise header.refuse(f"the {header.name}: header has a damaged encoded word")
        return bytes([int(match[1], 16)])

    return _HEX.sub(plain, raw.replace(b"_", b" "))


def _word_text(word: tuple[str, bytes], header: _Header) -> str:
    charset, raw = word
    return _decode(raw, charset, f"an encoded word of the {header.name}: header", header.where)


def split_address(text: str) -> tuple[str, str]:
    """The name and the address in ``Name <mail>``, ``mail (Name)`` or ``mail``. The address is
    empty if it cannot be one."""
    text = text.strip()
    if text.endswith(">"):
        name, _, address = text[:-1].rpartition("<")
    elif text.endswith(")"):
        address, _, name = text[:-1].partition("(")
    else:
        name, address = "", text
    name, address = name.strip(), address.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name, address if _ADDRESS.fullmatch(address) else ""


def fits_commit(name: str) -> bool:
    """Whether a commit can hold the ``name`` of its author, and gives it back as it is."""
    return not re.search(r"[<>\n\0]", name)


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_GIT_DATE = late_pattern(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{{1,2}}) ({'|'.join(_MONTHS)}) ([1-9]\d{{3}})"
    r" (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)",
    re.ASCII,
)


def _parts_of_date(text: str) -> tuple[int, int, int, int, int, int, int] | None:
    """Year, month, day, hour, minute, second, and the seconds that the zone is before UTC; None if
    ``text`` is no date. A date as git writes it needs no import."""
    if match := _GIT_DATE.fullmatch(text):
        day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
        offset = int(hours) * 3600 + int(minutes) * 60
        return (
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second),
            -offset if sign == "-" else offset,
        )  # fmt: skip
    import email.utils

    parsed = email.utils.parsedate_tz(text) if len(text) <= 100 else None
    return (*parsed[:6], parsed[9] or 0) if parsed else None


def read_date(text: str) -> str | None:
    """A date of a mail in git's raw form, ``<unix seconds> <+hhmm>``; None if it is none that git
    can store."""
    parts = _parts_of_date(text)
    try:
        if parts is None:
            return None
        offset = parts[6]
        seconds = int(datetime(*parts[:6], tzinfo=UTC).timestamp()) - offset
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    if seconds < 0 or abs(offset) >= 100 * 3600:
        return None
    sign = "-" if offset < 0 else "+"
    return f"{seconds} {sign}{abs(offset) // 3600:02d}{abs(offset) // 60 % 60:02d}"


def _author(header: _Header, charset: str) -> tuple[str, str]:
    """The name and the address. They are told apart before the name is decoded, since it may decode
    to characters with a meaning in mail."""
    text = header.text(charset)
    name, address = split_address(text)
    # What git has written may hold anything between the brackets, and nothing: bots have no mail.
    bare = None if address else _IN_BRACKETS.fullmatch(text.strip())
    encoded = name.encode("utf-8", "surrogateescape")
    name = _decoded(_Header(header.name, encoded, header.where), "utf-8")
    if bare and name:
        address = bare[2].strip()
    elif not address:
        raise header.refuse("the From: header names no mail address")
    if not fits_commit(name):
        raise header.refuse("the author's name holds <, > or a line break, which no commit can")
    return name, address


def _date(header: _Header) -> str:
    text = header.value.decode("ascii", "replace")
    date = read_date(text)
    if date is None:
        raise header.refuse(f"the Date: header is not a date: {text[:60]!r}")
    return date
