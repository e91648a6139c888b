"""Which patch repository and line a work tree of fixtool's is for, from any folder in it.

``apply`` leaves a record in the git folder of each work tree that it makes, and of a checkout into
which it puts a series. A work tree in which a conflict waits for a person has a note there. A
commit of upstream's cannot bring either, since git tracks nothing in its own folder.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtool.documents import LARGEST_TEXT, Field
from fixtool.errors import Refused
from fixtool.files import read_plain, write_atomically
from fixtool.series.line import is_line_name
from fixtool.settings import state_folder

RECORD = "fixtool.json"
"""The name of the record of ``apply`` in a git folder."""
NOTE = "fixtool.waiting.json"
"""The name of the note in the git folder of a work tree in which a conflict waits."""
_VERB = re.compile("[a-z]{1,20}")
_SHORT = 4096  # bytes of a file that names a folder or a branch


@dataclass(frozen=True)
class Note:
    """What a work tree is for, in which a conflict waits: ``verb`` is the command that waits."""

    patches: str  # the patch repository's root
    line: str
    verb: str


@dataclass(frozen=True)
class Home:
    """A work tree: its topmost folder and git folder, and the patch repository and the line that it
    is for. ``waiting`` is the verb that waits in it for a person, or None. ``away`` says that
    another branch is checked out than the one that ``apply`` made."""

    top: Path
    git_dir: Path
    patches: Path
    line: str
    waiting: str | None
    away: bool = False


def write_note(git_dir: Path, note: Note) -> None:
    """Keep ``note`` with the work tree whose git folder is ``git_dir``."""
    write_atomically(git_dir / NOTE, json.dumps(asdict(note), indent=1))


def home_at(top: Path) -> Home | None:
    """The work tree whose topmost folder is ``top``; None if fixtool did not make it, or if another
    user could have written what says so. No git is started for the answer."""
    try:
        git_dir = git_folder(top)
        if git_dir is None or not all(map(_is_ours, (top, top / ".git", git_dir))):
            return None
        for name in (RECORD, NOTE):
            if os.path.lexists(git_dir / name) and _is_ours(git_dir / name):
                document = Field(json.loads(read_plain(git_dir, name, LARGEST_TEXT)))
                return _home(top, git_dir, document)
    except (OSError, ValueError, RecursionError, Refused):
        pass  # a damaged record: the verbs that need all of it say so
    return None


def _home(top: Path, git_dir: Path, document: Field) -> Home:
    patches, line = Path(document["patches"].text()), document["line"].text()
    if not patches.is_absolute() or "\0" in str(patches):
        raise document["patches"].wrong("the path of a folder")
    if not is_line_name(line):
        raise document["line"].wrong("the name of a line")
    verb, branch = (document[key].optional(Field.text) for key in ("verb", "branch"))
    if verb is not None and not _VERB.fullmatch(verb):
        raise document["verb"].wrong("a command")
    head = read_plain(git_dir, "HEAD", _SHORT).decode("utf-8", "replace").strip()
    away = branch is not None and head != f"ref: refs/heads/{branch}"
    return Home(top, git_dir, patches, line, verb, away)


def is_checkout(git_dir: Path) -> bool:
    """Whether the git folder is that of a checkout of the user's, and not of a work tree of one of
    fixtool's stores."""
    stores = state_folder(os.environ) / "repos"
    return stores.resolve() not in git_dir.resolve().parents


def git_folder(top: Path) -> Path | None:
    """The git folder of the work tree at ``top``; None if there is no work tree."""
    link = top / ".git"
    if link.is_symlink():
        return None
    if link.is_dir():
        return link
    text = read_plain(top, ".git", _SHORT).decode("utf-8", "surrogateescape")
    key, _, path = text.strip().partition(": ")
    folder = top / path
    return folder if key == "gitdir" and folder.is_dir() else None


def _is_ours(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid()
