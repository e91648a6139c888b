"""A change that is to become a patch, as it came in."""

from __future__ import annotations

from dataclasses import dataclass

from fixtool.errors import UsageError
from fixtool.git.objects import Oid, Signature
from fixtool.series.mail import fits_commit, split_address


@dataclass(frozen=True)
class Incoming:
    """A change that is to become a patch. ``where`` names its origin in messages. ``commit`` is set
    if it is a commit of a fork, which allows a three-way merge. ``notes`` tell the user what was
    changed or made up while it was read. ``strip`` is how many leading folders the names in the
    diff lose, as `patch -p` says; None if nobody has said so. ``reverse`` means that the diff is
    undone."""

    subject: str
    body: str
    author: Signature
    diff: bytes
    where: str
    commit: Oid | None = None
    notes: tuple[str, ...] = ()
    strip: int | None = None
    reverse: bool = False


def author_from(text: str | None, date: str) -> Signature:
    """``Name <mail>`` as a signature of ``date``; fixtool's own if ``text`` is None. Raises
    UsageError if it is not of that form."""
    name, address = split_address(text or "fixtool <fixtool@localhost>")
    if "@" not in address or not fits_commit(name):
        raise UsageError(f"--author {text!r} is not of the form 'Name <mail@host>'")
    return Signature(name or address, address, date)
