"""What a command does to the files of a line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fixtool.git.objects import Oid


class FileAction(StrEnum):
    """What happens to a patch file. ``MERGED`` has the changes of the work tree and of the line,
    and ``NEWER`` is kept: only the line has changed it since the work tree was made."""

    UNCHANGED = "unchanged"
    REWRITTEN = "rewritten"
    ADDED = "added"
    REMOVED = "removed"
    MERGED = "merged"
    NEWER = "newer"


@dataclass(frozen=True)
class WrittenFile:
    """What an export does to one patch file. ``commit`` is None if the work tree has no commit of
    it."""

    slug: str
    change: FileAction
    commit: Oid | None

    @property
    def changed(self) -> bool:
        """Whether the file is written or removed."""
        return self.change not in (FileAction.UNCHANGED, FileAction.NEWER)


@dataclass(frozen=True)
class Edit:
    """An edit that was not committed in a work tree: a hunk, or a whole file, at ``place``.
    ``slug`` is the patch that it went into; None if it stays, and ``why`` says why."""

    place: str
    slug: str | None
    why: str = ""
