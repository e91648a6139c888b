"""The operation log of a patch repository: one file for each command that changed something.

Before a command changes anything, a note says how everything was. After it, the note becomes an
entry. The lock on the note ends with the run: what a killed run has left is made an entry by the
next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from fixtool.documents import Field, written
from fixtool.errors import CannotRun, FixtoolError
from fixtool.files import lock, private_folder, read_plain, write_atomically
from fixtool.operations.contents import Contents
from fixtool.operations.state import State, check_state
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings
from fixtool.text import argument, redact

_LARGEST = 64 << 20  # bytes of an entry
_ENTRY = re.compile(r"(\d{6,9})\.json")
_NOTE = re.compile(r"\.note-\d+-[0-9a-f]{8}\.json")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_MOST = 100  # entries
_OLDEST = timedelta(days=30)
_MOST_BYTES = 256 << 20
_EVERY = 10  # entries between two looks at the size
_PATIENCE = 10  # seconds


class Standing(StrEnum):
    """What became of an operation."""

    DONE = "done"
    UNDONE = "undone"
    REPLACED = "replaced"  # undone, and then something else was done: it cannot be done again


@dataclass(frozen=True)
class Operation:
    """One command that changed something. ``before`` and ``after`` hold what differs. ``exit_code``
    is None if the command was killed. ``beyond`` names what it also changed, and ``undo`` cannot
    take back. A note of ``undo`` or ``redo`` has the numbers of the ``steps`` that it takes, and
    what becomes of them. The ``number`` of a note is that of the newest entry when its command
    began."""

    number: int
    time: str
    words: tuple[str, ...]
    patches: str  # the patch repository's root
    before: State = field(default_factory=State)
    after: State = field(default_factory=State)
    exit_code: int | None = None
    beyond: str | None = None
    standing: Standing = Standing.DONE
    steps: tuple[int, ...] = ()

    @property
    def command(self) -> str:
        """The command as it was typed, without logins."""
        return " ".join(["fixtool", *map(argument, self.words)])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Log:
    """The operations of one patch repository."""

    def __init__(self, repository: PatchRepository, settings: Settings) -> None:
        self.repository = repository
        self.settings = settings
        self.folder = settings.state / "operations" / repository.digest[:10]
        self.contents = Contents(self.folder / "contents")

    def numbers(self) -> list[int]:
        """The numbers of all operations, the oldest first."""
        with suppress(FileNotFoundError):
            names = (_ENTRY.fullmatch(name) for name in os.listdir(self.folder))  # noqa: PTH208
            return sorted(int(match[1]) for match in names if match)
        return []

    def read(self, number: int) -> Operation:
        """The operation of this number. Raises CannotRun if its file is damaged."""
        return self._read(self._path(number))

    def _read(self, path: Path) -> Operation:
        try:
            document = Field(json.loads(read_plain(path.parent, path.name, _LARGEST)))
            operation = written(Operation)(document)
            check_state(document["before"])
            check_state(document["after"])
            return operation
        except (OSError, ValueError, KeyError, TypeError, RecursionError, FixtoolError) as error:
            raise CannotRun(
                f"an entry of the operation log is not readable: {error}",
                where=str(path),
                hint=f"rm {argument(path)}: that change cannot be taken back then, others can",
            ) from error

    def write(self, operation: Operation) -> None:
        """Keep an operation at its number."""
        private_folder(self.folder)
        text = json.dumps(asdict(operation), separators=(",", ":"))
        write_atomically(self._path(operation.number), text, durable=True)

    def remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who writes the log."""
        private_folder(self.folder)
        with lock(self.folder / ".lock", "the operation log", _PATIENCE):
            yield

    # -- notes -------------------------------------------------------------------------------

    @contextmanager
    def noting(self, operation: Operation) -> Iterator[Path]:
        """Keep ``operation`` as a note during the block, which removes it when the log tells the
        same. It stays if this run is killed."""
        private_folder(self.folder)
        path = self.folder / f".note-{os.getpid()}-{os.urandom(4).hex()}.json"
        text = json.dumps(asdict(operation), separators=(",", ":"))
        partial = path.with_suffix(".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
                file.write(text)
            partial.rename(path)
            yield path
        finally:
            partial.unlink(missing_ok=True)
            os.close(descriptor)

    def left_notes(self) -> list[Path]:
        """The notes of runs that are over and have not made an entry."""
        with suppress(FileNotFoundError):
            names = sorted(name for name in os.listdir(self.folder) if _NOTE.fullmatch(name))  # noqa: PTH208
            return [self.folder / name for name in names if _is_left(self.folder / name)]
        return []

    def read_note(self, path: Path) -> Operation:
        """What a note says. Raises CannotRun if it is damaged."""
        return self._read(path)

    # -- room --------------------------------------------------------------------------------

    def prune(self) -> None:
        """Forget the operations that are too old or too many, and the bytes that no other needs.
        The caller is alone. What cannot be read is left alone."""
        numbers = self.numbers()
        if not numbers or numbers[-1] % _EVERY:
            return
        oldest = datetime.now(UTC) - _OLDEST
        kept = []
        for number in numbers[-_MOST:]:
            written_at = datetime.fromtimestamp(self._path(number).lstat().st_mtime, UTC)
            if written_at >= oldest or number == numbers[-1]:
                kept.append(number)
        while len(kept) > 1 and self.contents.size(self._needed(kept)) > _MOST_BYTES:
            kept = kept[(len(kept) + 1) // 2 :]
        for number in set(numbers) - set(kept):
            self.remove(number)
        self.contents.sweep(self._needed(kept))

    def _needed(self, numbers: Sequence[int]) -> set[str]:
        """The hashes that the entries of these numbers name, and all notes."""
        paths = [*map(self._path, numbers), *self.folder.glob(".note-*")]
        return {name.decode() for path in paths for name in _DIGEST.findall(path.read_bytes())}


def _is_left(note: Path) -> bool:
    """Whether no run holds the note any more."""
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def public_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without the logins in addresses, and without the option that names the
    patch repository, of which the log is."""
    kept, left = [], iter(words)
    for word in left:
        if word in ("-C", "--repository"):
            next(left, None)
        else:
            kept.append(redact(word))
    return tuple(kept)
