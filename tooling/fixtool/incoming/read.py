"""Reads all changes in what a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.errors import UsageError
from fixtool.git.repo import Repo
from fixtool.incoming._mailbox import is_maildir, maildir_as_mbox
from fixtool.incoming.change import Incoming, author_from, date_from
from fixtool.incoming.file import Named, read_together
from fixtool.incoming.inputs import Input, read_inputs


@dataclass(frozen=True)
class Given:
    """What the user says of patches that do not say it themselves. A patch without a date has that
    of its file if there is no ``date``. ``trailers`` takes those of the answers in a mailbox."""

    author: str | None = None
    date: str | None = None
    subject: str | None = None
    trailers: bool = False


def read_paths(repo: Repo, paths: Sequence[Path], given: Given) -> list[Incoming]:
    """The changes in files, folders, Maildirs, `series` files and archives, in order. ``-`` is the
    standard input.

    Raises UsageError if there are several files and one subject, or what is given is not well
    formed.
    """
    subject, date = given.subject, given.date
    if date is not None:
        date = date_from(date)
    inputs: list[Input] = []
    for path in (Path("/dev/stdin") if str(path) == "-" else path for path in paths):
        inputs += _maildir(repo, path) if is_maildir(path) else read_inputs([path])
    if subject is not None and len(inputs) > 1:
        raise UsageError(
            f"--subject is for one patch, and these are {len(inputs)} files",
            hint="import the patch that needs it alone",
        )
    named = [
        Named(item.name, item.raw, author_from(given.author, date or item.changed_at))
        for item in inputs
    ]
    ordered = any(item.listed for item in inputs)
    found = read_together(repo, named, subject, trailers=given.trailers, ordered=ordered)
    return [
        replace(change, strip=inputs[index].strip, reverse=inputs[index].reverse)
        for index, change in found
    ]


def _maildir(repo: Repo, path: Path) -> list[Input]:
    changed_at = f"{int(path.stat().st_mtime)} +0000"
    return [Input(str(path), maildir_as_mbox(repo, path), changed_at)]
