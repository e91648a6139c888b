"""Atomic writes, locks, and private folders: what a killed run leaves is whole."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.errors import CannotRun

_LOOK_AGAIN = 0.05  # seconds between two tries to take a lock


def private_folder(path: Path) -> Path:
    """Make the folder ``path``, which only this user may read, and return it. Raises CannotRun if
    the operating system refuses."""
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
    """Write ``data``, a text as UTF-8, to ``path``: a killed run leaves the old file or the new
    one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
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
    """Exchange the folders ``new`` and ``old``. If the kernel can (Linux: renameat2 with
    RENAME_EXCHANGE), that is one step. Otherwise a killed run may leave the old folder under a
    hidden name that ends in ``.old``, which ``series.write.repair`` puts back."""
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
def lock(path: Path, what: str, patience: float = 0) -> Iterator[None]:
    """Hold the lock file ``path`` during the block. Raises CannotRun, which says that ``what`` is
    in use and by which process, if another run still holds it after ``patience`` seconds.

    The kernel releases the lock when a run dies, so nobody has to clean up after a killed run. The
    text of the file is only for the message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
                raise CannotRun(
                    f"{what} is in use by {holder or 'another run'}",
                    where=str(path),
                    hint="wait for it to end, then run the same command again",
                )
            time.sleep(_LOOK_AGAIN)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Lock an open file, and return whether that was possible at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
