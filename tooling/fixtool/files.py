"""Files that a killed run leaves whole: atomic writes, locks, and folders that change places."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.errors import CannotRun


def private_folder(path: Path) -> Path:
    """Make ``path`` for this user only; CannotRun says what stands in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotRun(
            f"cannot make the folder {path}: {error.strerror}",
            where=str(path),
            hint="choose another place with FIXTOOL_STATE_DIR and FIXTOOL_CACHE_DIR",
        ) from error
    return path


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all: a killed run leaves the old file or the new
    one. A text is written as UTF-8."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write ``data`` to a new file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def swap(new: Path, old: Path) -> None:
    """Put ``new`` where ``old`` is, and ``old`` where ``new`` was, in one step where the kernel can
    (Linux: renameat2 with RENAME_EXCHANGE); else in two, which ``repair`` finishes if killed.
    """
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, exchange_flag = -100, 2
    if (
        exchange
        and exchange(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange_flag) == 0
    ):
        return
    retired = old.with_name(f".{old.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    old.rename(retired)
    try:
        new.rename(old)
    except OSError:
        retired.rename(old)
        raise
    retired.rename(new)


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold ``path`` against every other run; CannotRun names who holds it.

    flock is let go by the kernel when a run dies, so a killed fixtool never has to be cleaned up
    after; the file's text is only for the message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "another run"
            raise CannotRun(
                f"{what} is in use by {holder}",
                where=str(path),
                hint="wait for it to end, then run the same command again",
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)
