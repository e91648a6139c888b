"""A change that is to become a patch, as it came in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime

from fixtool.errors import UsageError
from fixtool.git.objects import MACHINE, Oid, Signature
from fixtool.series.mail import fits_commit, read_date, split_address
from fixtool.series.message import mailable


@dataclass(frozen=True)
class Incoming:
    """A change that is to become a patch. ``where`` names its origin in messages. ``commit`` is set
    if it is a commit of a fork, which allows a three-way merge. ``notes`` tell the user what was
    changed or made up while it was read. ``strip`` is how many leading folders the names in the
    diff lose, as `patch -p` says; None if nobody has said so. ``reverse`` means that the diff is
    undone. ``first_line`` is the line of its file at which the diff begins; 0 if that is not
    known, as in an encoded mail. ``trees`` are those before and after a commit of a fork, between
    which git made the diff as it is in a patch file; else there are none."""

    subject: str
    body: str
    author: Signature
    diff: bytes
    where: str
    commit: Oid | None = None
    notes: tuple[str, ...] = ()
    strip: int | None = None
    reverse: bool = False
    first_line: int = 0
    trees: tuple[Oid, ...] = ()

    def line(self, number: int) -> str:
        """The file and line of the line ``number`` (from 0) of the diff; ``where`` if the lines of
        the file do not tell."""
        if not self.first_line:
            return self.where
        return f"{self.file}:{self.first_line + number}"

    @property
    def file(self) -> str:
        """The file that it came in; for a commit of a fork, what names that."""
        return re.sub(r":\d+$", "", self.where)


def make_change(
    subject: str,
    body: str,
    author: Signature,
    diff: bytes,
    where: str,
    *,
    commit: Oid | None = None,
    notes: tuple[str, ...] = (),
    trees: tuple[Oid, ...] = (),
) -> Incoming:
    """A change whose message is in a form that lint takes and git gives back unchanged."""
    title, text, changed = mailable(subject, body)
    return Incoming(title, text, author, diff, where, commit, (*notes, *changed), trees=trees)


def date_from(text: str) -> str:
    """A date in git's raw form, of a text as a mail has it or of ISO 8601. A time without a zone is
    in UTC. Raises UsageError if ``text`` is neither."""
    raw = read_date(text)
    if raw is None:
        try:
            day = datetime.fromisoformat(text)
        except ValueError:
            day = None
        if day is None or day.year < 1970:
            raise UsageError(
                f"--date {text!r} is no date", hint="for example --date 2026-11-26T12:00:00+01:00"
            )
        raw = read_date(format_datetime(day if day.tzinfo else day.replace(tzinfo=UTC)))
    assert raw is not None
    return raw


def author_from(text: str | None, date: str) -> Signature:
    """``Name <mail>`` as a signature of ``date``; fixtool's own if ``text`` is None. Raises
    UsageError if it is not of that form."""
    if text is None:
        return replace(MACHINE, date=date)
    name, address = split_address(text)
    if "@" not in address or not fits_commit(name):
        raise UsageError(f"--author {text!r} is not of the form 'Name <mail@host>'")
    return Signature(name or address, address, date)
