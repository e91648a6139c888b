"""Reads one mail as ``git am`` does: ``git mailinfo`` decodes it, and git makes its author."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fixtool.errors import Refused
from fixtool.files import temporary_folder
from fixtool.git.objects import Signature, parse_signature
from fixtool.git.repo import Repo, reading_answer
from fixtool.series.mail import known_charset

_GIT = ("-c", "i18n.commitEncoding=UTF-8", "-c", "mailinfo.scissors=false",
        "-c", "mailinfo.quotedCr=nowarn")  # fmt: skip
_CHARSET = re.compile(
    rb'^Content-Type:[^\n]*(?:\n[ \t][^\n]*)*?charset\s*=\s*"?([^\s";]+)',
    re.IGNORECASE | re.MULTILINE,
)
_BLANKS = re.compile(r"[ \t\n\r]+")
_PREFIX = re.compile(r"[Rr][Ee]: ?|(\[[^\]]*\]):? ?")
_BASE64 = re.compile(rb"^Content-Transfer-Encoding:\s*base64", re.IGNORECASE | re.MULTILINE)
_PLAIN = re.compile(rb"^(---\r?$|diff --git |--- )", re.MULTILINE)
# git makes one blank of several in a subject. Where a header is folded, they say nothing.
_SEVERAL_BLANKS = re.compile(
    rb"^Subject:(?:[^\n]*\n[ \t])*?[^\n]*(?:\S[ \t]{2,}\S|=\?[^?\n]+\?q\?[^?\n]*(?:_|=20){2})",
    re.IGNORECASE | re.MULTILINE,
)
_DAY = re.compile(r"(?:[A-Za-z]{3},? )?(\d{1,2} [A-Za-z]{3,9} \d{4}|\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Mail:
    """What ``git mailinfo`` reads in a mail. ``author``, ``address``, ``subject`` and ``date`` are
    empty where the mail does not say them. ``patch`` is all from the first line of a diff or of a
    diffstat on. ``where`` is its file and first line, and ``lines`` are the lines of its headers by
    their names in lower case. ``charset`` is what its Content-Type names, ``title`` the subject
    with all that is before it, and ``head`` are the bytes of the headers."""

    author: str
    address: str
    subject: str
    date: str
    body: str
    patch: bytes
    where: str
    lines: dict[str, str]
    charset: str
    title: str = ""
    head: bytes = b""
    notes: tuple[str, ...] = ()

    def header(self, name: str) -> str:
        """The value of the first header of this name, its lines joined; empty if there is none."""
        pattern = rb"^%s:([^\n]*(?:\n[ \t][^\n]*)*)" % name.encode("ascii")
        match = re.search(pattern, self.head, re.IGNORECASE | re.MULTILINE)
        return " ".join(match[1].decode("ascii", "replace").split()) if match else ""

    def place(self, *headers: str) -> str:
        """The file and line of the first of ``headers`` that the mail has; else of the mail."""
        return next((self.lines[name] for name in headers if name in self.lines), self.where)


def read_mail(repo: Repo, mail: bytes, path: str, first_line: int) -> Mail:
    """Read a mail that begins at ``first_line`` of the file ``path``. Raises Refused, naming the
    line of the header, if git cannot decode it or what it says is not text in UTF-8."""
    where = f"{path}:{first_line}"
    lines = _header_lines(mail, path, first_line)
    coded, plain = _split_coded(mail)
    with temporary_folder("fixtool-mail-") as folder:
        message, patch = folder / "message", folder / "patch"
        command = (*_GIT, "mailinfo", "-k", "-u", str(message), str(patch))
        out = repo.run(*command, stdin=coded, accept=None)
        if out.status != 0:
            raise Refused(
                f"git cannot decode this mail: {out.complaint}",
                where=lines.get("content-type", where),
                hint="save the mail again as plain text in UTF-8",
            )
        with reading_answer("mailinfo"):
            if not (b"\n" + out.stdout).endswith(b"\n\n"):  # an empty line ends what it writes
                raise ValueError(out.stdout)
        fields = _fields(out.stdout)
        read = Mail("", "", "", "", "", patch.read_bytes() + plain, where, lines, _charset(mail))
        body = message.read_bytes()
    notes: list[str] = []
    read = replace(
        read,
        author=_text(fields["Author"], read, "from", notes),
        address=_text(fields["Email"], read, "from", notes),
        title=_text(fields["Subject"], read, "subject", notes),
        date=_text(fields["Date"], read, "date", notes),
        body=_text(body, read, "content-type", notes),
    )
    head = re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0]
    if _SEVERAL_BLANKS.search(head):
        notes.append("blanks were taken out of the subject, as git am does it")
    return replace(read, subject=_bare(read.title), head=head, notes=tuple(notes))


def sign(repo: Repo, mail: Mail, author: Signature) -> tuple[Signature, tuple[str, ...]]:
    """The author whom ``git am`` would write, and notes on what the mail does not say, which is
    then taken from ``author``."""
    notes = []
    name, address = mail.author, mail.address
    if not name and not address:
        name, address = author.name, author.email
        notes.append(f"it names no author: {name} <{address}> was written")
    elif not address:
        notes.append(f"its author {name} has no mail address")
    if not mail.date:
        notes.append(f"it has no date: {author.day} was written")
    signed, complaint = _ask_git(repo, name, address, mail.date or author.date)
    if signed is None and (day := _DAY.fullmatch(mail.date.strip())):
        signed, complaint = _ask_git(repo, name, address, f"{day[1]} 00:00:00 +0000")
        notes.append("its date has no time of day: midnight in UTC was written")
    if signed is not None:
        # git takes a dot off the end of a name, also off one that a commit has: `Zoe F.`
        kept = replace(signed, name=name) if name == f"{signed.name}." else signed
        return kept, tuple(notes)
    header = "date" if "date" in complaint else "from"
    example = "Date: Wed, 11 Feb 2026 12:00:00 +0000" if header == "date" else "From: A <a@b.c>"
    raise Refused(
        f"the {header.capitalize()}: of this patch is not usable: {complaint}",
        where=mail.place(header),
        hint=f"correct it in the file, for example: {example}",
    )


def _ask_git(repo: Repo, name: str, address: str, date: str) -> tuple[Signature | None, str]:
    """The author as git writes it into a commit, without what no commit can hold; else None and
    git's reason."""
    identity = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address, "GIT_AUTHOR_DATE": date}
    out = repo.run("var", "GIT_AUTHOR_IDENT", env=identity, accept=None)
    return (parse_signature(out.text), "") if out.status == 0 else (None, out.complaint)


def _fields(out: bytes) -> dict[str, bytes]:
    """What ``git mailinfo`` printed, as ``git am`` reads it: a subject may have several lines."""
    fields: dict[str, list[bytes]] = {"Author": [], "Email": [], "Subject": [], "Date": []}
    for line in out.split(b"\n"):
        name, colon, value = line.partition(b": ")
        if colon and (values := fields.get(name.decode("ascii", "replace"))) is not None:
            values.append(value)
    return {name: b"\n".join(values) for name, values in fields.items()}


def _text(raw: bytes, mail: Mail, header: str, notes: list[str]) -> str:
    """``raw``, which git has decoded. git leaves what no header explains; it is read here if it can
    hardly be anything else than text in the charset of the mail, or in ISO 8859-1.

    Raises Refused, with the line of the header, if it cannot be read, or holds a NUL.
    """
    where = mail.place(header, "content-type")
    what = "message" if header == "content-type" else f"{header.capitalize()}: header"
    if b"\0" in raw:
        raise Refused(f"the {what} holds a NUL, which no commit can", where=where)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    charset = mail.charset if header != "content-type" else ""
    text = _decoded(raw, charset) if charset else guess(raw) if not mail.charset else None
    if text is None:
        raise Refused(
            f"the {what} is not in the charset that the mail names"
            if mail.charset
            else f"the {what} is not in UTF-8, and the mail names no charset",
            where=where,
            hint="name it in a header, for example: Content-Type: text/plain; charset=gb18030",
        )
    notes.append(f"the {what} is not UTF-8 and was read as {charset or 'ISO 8859-1'}")
    return text


def guess(raw: bytes) -> str | None:
    """``raw`` read as ISO 8859-1 if it can hardly be another charset: its letters with accents
    stand alone. None if they do not."""
    strange = re.search(rb"[\x80-\x9f]|[\x80-\xff]{2}", raw)
    return None if strange else raw.decode("iso8859-1")


def _decoded(raw: bytes, charset: str) -> str | None:
    try:
        return raw.decode(known_charset(charset) or "ascii")
    except ValueError:
        return None


def _bare(subject: str) -> str:
    """A subject without what mailers put in front of it. As for ``git am --keep-non-patch``, other
    brackets stay; unlike there, so does a colon that follows them."""
    rest, kept = _BLANKS.sub(" ", subject).strip(" "), ""
    while match := _PREFIX.match(rest):
        if match[1] is not None and "PATCH" not in match[1]:
            kept += match[0]
        elif match[1] is None and kept:
            break  # `[area] Re: ...` is the subject
        rest = rest[match.end() :]
    return kept + rest


def _split_coded(mail: bytes) -> tuple[bytes, bytes]:
    """A mail, and the plain text after it: Debian has patches whose message alone is in base64,
    which no line with a blank or ``-`` can be."""
    head = re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0]
    if not _BASE64.search(head):
        return mail, b""
    match = _PLAIN.search(mail, len(head))
    return (mail[: match.start()], mail[match.start() :]) if match else (mail, b"")


def _charset(mail: bytes) -> str:
    head = re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0]
    match = _CHARSET.search(head)
    return match[1].decode("ascii", "replace") if match else ""


def _header_lines(mail: bytes, path: str, first_line: int) -> dict[str, str]:
    """The file and line of each header, by its name in lower case."""
    lines: dict[str, str] = {}
    for number, line in enumerate(mail.split(b"\n"), first_line):
        if not line.rstrip(b"\r"):
            break
        if match := re.match(rb"([!-9;-~]+):", line):
            lines.setdefault(match[1].decode("ascii").lower(), f"{path}:{number}")
    return lines
