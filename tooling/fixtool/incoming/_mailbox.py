"""Splits a mailbox into its mails, as ``git am`` does it: with ``git mailsplit``."""

from __future__ import annotations

import re
from pathlib import Path

from fixtool.errors import Refused
from fixtool.files import temporary_folder
from fixtool.git.repo import Repo

_SEPARATOR = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
_ARCHIVE = b"From mboxrd@"  # public-inbox and b4 write it: `>From` stands for `From`


def is_maildir(path: Path) -> bool:
    return (path / "cur").is_dir() and (path / "new").is_dir()


def split_mbox(repo: Repo, raw: bytes, where: str) -> list[tuple[bytes, int]]:
    """The mails of an mbox, and the line of the file at which each begins. What begins with no
    ``From `` line is one mail. Raises Refused if git cannot split it."""
    mails = _split(repo, ["--mboxrd"] if raw.startswith(_ARCHIVE) else [], raw, where)
    number = 1 + raw[: len(raw) - len(raw.lstrip())].count(b"\n")
    numbered = []
    for mail in mails:
        numbered.append((mail, number))
        number += mail.count(b"\n")
    return numbered


def maildir_as_mbox(repo: Repo, folder: Path) -> bytes:
    """The mails of a Maildir, in the order of their files' names, as an mbox. Raises Refused if git
    cannot read it."""
    mails = _split(repo, ["--", str(folder)], None, str(folder))
    quoted = (re.sub(rb"(?m)^(>*From )", rb">\1", mail) for mail in mails)
    return b"".join(_SEPARATOR + mail + b"\n" for mail in quoted)


def _split(repo: Repo, words: list[str], raw: bytes | None, where: str) -> list[bytes]:
    with temporary_folder("fixtool-mails-") as folder:
        out = repo.run(
            "mailsplit", "--keep-cr", "-b", "-d8", f"-o{folder}", *words, stdin=raw, accept=None
        )
        if out.status != 0:
            raise Refused(f"git cannot split this mailbox: {out.complaint}", where=where)
        return [file.read_bytes() for file in sorted(folder.iterdir())]
