"""What git stores and compares, as values."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import NamedTuple, NewType

from fixtool.documents import Field
from fixtool.errors import CannotRun

Oid = NewType("Oid", str)
"""The id of a git object: 40 hexadecimal digits, lower case. ``parse_oid`` checks a text."""

ZERO = Oid("0" * 40)
"""The id that stands for "no object"."""


@dataclass(frozen=True)
class Signature:
    """Who and when. ``date`` is git's raw form, ``<unix seconds> <+hhmm>``."""

    name: str
    email: str
    date: str

    @property
    def day(self) -> datetime.date:
        """In UTC."""
        seconds = int(self.date.split()[0])
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()

    def __str__(self) -> str:
        return f"{self.name} <{self.email}> {self.date}"


@dataclass(frozen=True)
class Commit:
    """A commit's content; ``message`` ends with a newline."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str

    @property
    def subject(self) -> str:
        return self.message.split("\n", 1)[0]


class TreeEntry(NamedTuple):
    """One file of a tree: its mode, such as 100644 or 120000 (a symlink), and its blob."""

    mode: str
    blob: Oid


@dataclass(frozen=True)
class FileChange:
    """One path that differs between two trees. Blob ids are zero where the file is absent."""

    status: str  # A, D, M, T
    path: str
    old_blob: Oid
    new_blob: Oid


@dataclass(frozen=True)
class Merge:
    """A three-way merge in the object database. ``conflicts`` are paths, in git's order."""

    tree: Oid
    conflicts: tuple[str, ...]


MACHINE = Signature("fixtool", "fixtool@localhost", "946684800 +0000")
"""Who commits what no person wrote. The date is fixed, so that ids depend on content alone."""


def parse_signature(text: str) -> Signature:
    """``Name <mail> <seconds> <zone>``, as a commit holds it."""
    match = re.fullmatch(r"(.*?) ?<(.*)> (\d+ [+-]\d{4})", text)
    if not match:
        raise CannotRun(f"a commit has an unreadable signature: {text!r}")
    return Signature(*match.groups())


def parse_oid(text: str, what: str) -> Oid:
    """``text`` as an object id. Raises CannotRun, naming ``what`` gave it, where it is none."""
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise CannotRun(f"{what} gives {text!r}, which is not an object id of 40 digits")
    return Oid(text)


def read_oid(field: Field) -> Oid:
    """The object id at a key of a JSON document. Raises FieldError if it is none."""
    if not re.fullmatch(r"[0-9a-f]{40}", field.text()):
        raise field.wrong("an object id of 40 digits")
    return Oid(field.text())
