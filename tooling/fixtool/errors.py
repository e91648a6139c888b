"""The errors that users see: what went wrong, where, and the next command to type."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command, which shells and CI jobs rely on."""

    OK = 0
    REFUSED = 1  # a check failed
    USAGE = 2
    CONFLICT = 3
    CANNOT_RUN = 4  # network, ref, disk, git
    INTERNAL = 70  # a fault of fixtool's own
    INTERRUPTED = 130


@dataclass(frozen=True)
class Mistyped:
    """A ``word`` that somebody wrote and that is the name of nothing, and the ``names`` that there
    are. The command line looks for the one that was probably meant."""

    word: str
    names: tuple[str, ...]


class FixtoolError(Exception):
    """Any error that a user can cause or meet.

    ``where`` is a path, ``file:line`` or ref; ``hint`` is the next command to type; ``mistyped`` is
    set if a name is wrong.
    """

    exit_code = ExitCode.CANNOT_RUN

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        mistyped: Mistyped | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.mistyped = mistyped


class Refused(FixtoolError):
    """A check failed: a work tree is not clean, a patch is not well formed."""

    exit_code = ExitCode.REFUSED


class UsageError(FixtoolError):
    """The command line is not valid."""

    exit_code = ExitCode.USAGE


class CannotRun(FixtoolError):
    """Something that the command needs is missing: the network, a ref, space on the disk."""

    exit_code = ExitCode.CANNOT_RUN


class NothingToBuild(CannotRun):
    """The tree holds no project that says how to build it."""


_PLACES = (
    "make it writable; or if it is fixtool's own, choose another place with FIXTOOL_STATE_DIR and "
    "FIXTOOL_CACHE_DIR"
)

SYSTEM_HINTS = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EROFS: _PLACES,
    errno.EACCES: _PLACES,
    errno.ENOTDIR: _PLACES,
}
"""What to do about errors of the operating system, by errno."""
NAMED_HINTS = {
    **SYSTEM_HINTS,
    errno.EEXIST: "name another place, or move away what is there",
    errno.EISDIR: "name a file: this is a folder",
    errno.ENOENT: "make the folder first, or name one that is there",
}
"""The same for a file or folder that a person has named."""
