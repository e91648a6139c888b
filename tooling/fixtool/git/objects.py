"""The objects that git stores, as values."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import NamedTuple, NewType

from fixtool.documents import Field
from fixtool.errors import CannotRun
from fixtool.git.names import is_full_sha

Oid = NewType("Oid", str)
"""The id of a git object: 40 hexadecimal digits, lower case. ``parse_oid`` checks a text."""

ZERO = Oid("0" * 40)
"""The id that stands for "no object"."""


_DATE = re.compile(r"\d{1,19} [+-]\d{4}")
_LAST_SECOND = 253402300799  # of the year 9999


@dataclass(frozen=True)
class Signature:
    """A person and a time. ``date`` has git's raw form, ``<unix seconds> <+hhmm>``."""

    name: str
    email: str
    date: str

    @property
    def day(self) -> datetime.date:
        """The day in UTC."""
        seconds = min(int(self.date.split()[0]), _LAST_SECOND)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()

    def __str__(self) -> str:
        return f"{self.name} <{self.email}> {self.date}"


@dataclass(frozen=True)
class Commit:
    """The content of a commit. ``message`` ends with a newline."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str

    @property
    def subject(self) -> str:
        return self.message.split("\n", 1)[0]

    @property
    def raw(self) -> bytes:
        """The bytes that git stores."""
        lines = [f"tree {self.tree}"]
        lines += [f"parent {parent}" for parent in self.parents]
        lines += [f"author {self.author}", f"committer {self.committer}", "", self.message]
        return "\n".join(lines).encode("utf-8", "surrogateescape")


FILE_MODES = ("100644", "100755")
"""The modes of a file and of an executable file. A symlink and a submodule have others."""


class TreeEntry(NamedTuple):
    """One file of a tree: its mode, such as 100644 or 120000 (a symlink), and its blob."""

    mode: str
    blob: Oid


@dataclass(frozen=True)
class FileChange:
    """A path that differs between two trees. The blob is ZERO on a side that lacks the file."""

    status: str  # A, D, M, T
    path: str
    old_blob: Oid
    new_blob: Oid


@dataclass(frozen=True)
class Merge:
    """The result of a three-way merge. ``conflicts`` are paths, in git's order."""

    tree: Oid
    conflicts: tuple[str, ...]


MACHINE = Signature("fixtool", "fixtool@localhost", "946684800 +0000")
"""The author of what no person wrote. The date is fixed, so that ids depend on content alone."""


def parse_signature(text: str) -> Signature:
    """The signature ``Name <mail> <seconds> <zone>`` of a commit. Raises CannotRun if it is not of
    that form."""
    person, bracket, date = text.rpartition("> ")
    name, other, email = person.partition("<")
    if not (bracket and other and _DATE.fullmatch(date)):
        raise CannotRun(f"a commit has an unreadable signature: {text[:200]!r}")
    return Signature(name.removesuffix(" "), email, date)


def parse_commit(raw: bytes) -> Commit:
    """The commit in the bytes that git stores. Raises KeyError if it has no tree or no people."""
    head, _, message = raw.decode("utf-8", "surrogateescape").partition("\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.split("\n"):
        key, _, value = line.partition(" ")
        fields.setdefault(key, []).append(value)
    return Commit(
        tree=Oid(fields["tree"][0]),
        parents=tuple(map(Oid, fields.get("parent", ()))),
        author=parse_signature(fields["author"][0]),
        committer=parse_signature(fields["committer"][0]),
        message=message,
    )


def parse_oid(text: str, what: str) -> Oid:
    """``text`` as an object id. Raises CannotRun, which names ``what`` gave it, if it is none."""
    if not is_full_sha(text):
        raise CannotRun(f"{what} gives {text!r}, which is not an object id of 40 digits")
    return Oid(text)


def read_oid(field: Field) -> Oid:
    """The object id at a key of a JSON document. Raises FieldError if it is none."""
    if not is_full_sha(field.text()):
        raise field.wrong("an object id of 40 digits")
    return Oid(field.text())


def read_signature(field: Field) -> Signature:
    """The person and the time at a key of a JSON document. Raises FieldError if it is none."""
    field.only(Signature)
    return Signature(*(field[key].text() for key in ("name", "email", "date")))
