"""Bounded reads, atomic writes, locks, and private folders: what is read fits into memory, and what
a killed run leaves is whole."""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fixtool.errors import CannotRun, Refused
from fixtool.text import argument

_LINK_OR_DEVICE = {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}
_NOT_FOLLOWED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


_PIECE = 1 << 20  # bytes that are read at once


class TooLarge(Refused):
    """A file is larger than its reader takes."""


def read_at_most(path: Path, limit: int) -> bytes:
    """The content of a file that the user named, which may also be a pipe. No more than ``limit``
    bytes are kept in memory. Raises TooLarge if there are more, OSError if it cannot be read."""
    with path.open("rb") as file:
        return _read(file.fileno(), path, limit)


def beside(path: Path) -> tuple[str, ...]:
    """The paths of what lies in the folder of ``path``: one of them may be meant. None if that
    cannot be read."""
    with suppress(OSError):
        return tuple(sorted(map(str, path.parent.iterdir())))
    return ()


def read_plain(folder: Path, name: str, limit: int) -> bytes:
    """The content of the file ``name`` in ``folder``, which may lie in a folder of it (``a/b``).

    Only a regular file is read: a link could lead to any file of the user, and a device has no end.
    Neither ``folder`` nor a folder in ``name`` may be a link. Raises Refused for all of these,
    TooLarge if the file has more than ``limit`` bytes, FileNotFoundError if there is none.
    """
    at = None
    try:
        at = os.open(folder, _NOT_FOLLOWED | os.O_DIRECTORY)
        *parents, last = name.split("/")
        for parent in parents:
            inner = os.open(parent, _NOT_FOLLOWED | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        descriptor = os.open(last, _NOT_FOLLOWED, dir_fd=at)
    except OSError as error:
        if error.errno == errno.ENOTDIR or error.errno in _LINK_OR_DEVICE:
            raise _not_plain(folder / name) from error
        raise
    finally:
        if at is not None:
            os.close(at)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_plain(folder / name)
        return _read(descriptor, folder, limit, name)
    finally:
        os.close(descriptor)


def require_plain(folder: Path) -> None:
    """Raise Refused if ``folder`` is a link, or holds anything but folders and regular files."""
    regular_files(folder)


def regular_files(folder: Path) -> dict[str, str]:
    """The paths of all files in ``folder``, also in its folders, by their names from there; none if
    there is no such folder. Raises Refused if it is a link, or holds anything but folders and
    regular files."""
    if not os.path.lexists(folder):
        return {}
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise _not_plain(folder)
    files: dict[str, str] = {}
    waiting = [("", str(folder))]
    while waiting:
        prefix, path = waiting.pop()
        with os.scandir(path) as entries:  # pathlib takes four times as long
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.is_file(follow_symlinks=False):
                    files[prefix + entry.name] = entry.path
                else:
                    raise _not_plain(Path(entry.path))
    return files


def _not_plain(path: Path) -> Refused:
    return Refused(
        f"{path.name} is a link, or no regular file: fixtool reads and writes only those here",
        where=str(path),
        hint=f"put the file itself in its place: cp --remove-destination FILE {argument(path)}",
    )


def _read(descriptor: int, path: Path, limit: int, name: str = "") -> bytes:
    """What can be read from a file: ``path``, or ``name`` in the folder ``path``. Their path is put
    together only for an error, since that takes as long as to read a small file."""
    status = os.fstat(descriptor)
    regular = stat.S_ISREG(status.st_mode)
    if regular and status.st_size > limit:
        raise _too_large(path / name, status.st_size, limit)
    chunks = []
    left = limit + 1
    # Python makes room for as much as is asked for. Of a small file a MiB would be the most work.
    piece = min(status.st_size + 1, _PIECE) if regular else _PIECE
    while left and (chunk := os.read(descriptor, min(left, piece))):
        chunks.append(chunk)
        left -= len(chunk)
    if not left:
        raise _too_large(path / name, None, limit)
    return b"".join(chunks)


def _too_large(path: Path, size: int | None, limit: int) -> TooLarge:
    has = f"{size} bytes" if size is not None else "more"
    return TooLarge(
        f"{path.name} has {has}, and fixtool reads at most {limit} bytes of such a file",
        where=str(path),
    )


_LOOK_AGAIN = 0.05  # seconds between two tries to take a lock


def private_folder(path: Path) -> Path:
    """Make the folder ``path``, which only this user may read, and return it. Raises CannotRun if
    the operating system refuses, or if others may have put something into it."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotRun(
            f"cannot make the folder {path}: {error.strerror}",
            where=str(path),
            hint="choose another place with FIXTOOL_STATE_DIR and FIXTOOL_CACHE_DIR",
        ) from error
    require_private(path)
    return path


def remove_old(folder: Path, days: int) -> None:
    """Remove the files of ``folder`` that were written more than ``days`` days ago."""
    oldest = time.time() - days * 86400
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime < oldest:
                Path(entry).unlink(missing_ok=True)


def require_private(folder: Path) -> None:
    """Raise CannotRun if others may have put something into ``folder``, which would be believed or
    run: if it belongs to another user, or if every user may write to it or to the folder around it.
    """
    for path in (folder, folder.parent):
        try:
            status = path.stat()
        except OSError:
            continue
        around = path != folder
        foreign = status.st_uid != os.geteuid() and not (around and status.st_uid == 0)
        open_to_all = status.st_mode & stat.S_IWOTH and not (
            around and status.st_mode & stat.S_ISVTX
        )
        if foreign or open_to_all:
            why = "belongs to another user" if foreign else "can be written to by every user"
            raise CannotRun(
                f"the folder {path} {why}, so what is in it cannot be trusted",
                where=str(path),
                hint="choose other places with FIXTOOL_STATE_DIR and FIXTOOL_CACHE_DIR"
                if foreign
                else f"delete what others may have put there, then: chmod o-w {argument(path)}",
            )


_STALE = 24 * 3600  # seconds after which the temporary folder of another run is one of a killed run
_temporary: set[Path] = set()  # the temporary folders that may be on the disk now


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, which only this user may read, in ``parent`` or in the system's folder for
    temporary files. It is removed at the end of the block, unless the block has renamed it.

    An interrupt may come at any moment: also before the block has begun, and while the folder is
    removed. The name is noted before the folder is made, and what then is left is removed when
    Python ends. ``tempfile`` tells nobody the name of a folder that it has just made. What a killed
    run has left in ``parent`` is removed by the next one that makes such a folder a day later.
    """
    if parent:
        _remove_stale(parent, prefix)
    import tempfile  # few runs need it

    path = Path(parent or tempfile.gettempdir()).absolute() / f"{prefix}{os.urandom(8).hex()}"
    _temporary.add(path)
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        _remove_temporary(path)


def _remove_stale(parent: Path, prefix: str) -> None:
    own = re.compile(rf"{re.escape(prefix)}[0-9a-f]{{16}}")
    with suppress(OSError):
        for path in [path for path in parent.iterdir() if own.fullmatch(path.name)]:
            if path.lstat().st_mtime < time.time() - _STALE:
                _remove_temporary(path)


def _remove_temporary(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):  # code of others may have made folders that cannot be written to
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                os.chmod(folder, 0o700)  # noqa: PTH101 - os.walk gives strings
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        _temporary.discard(path)


@atexit.register
def remove_temporary_folders() -> None:
    """Remove what interrupted blocks have left. Python calls this when it ends."""
    for path in list(_temporary):
        _remove_temporary(path)


def require_file(path: Path | None, option: str) -> None:
    """Raise CannotRun if the file that ``option`` names could not be written: a command looks
    before its work, not after it. Its folder must be there. What is neither a file nor a folder,
    such as a pipe, is passed over."""
    if path and path.is_dir():
        raise _not_writable(path, errno.EISDIR, f"name a file: {option} {argument(path / 'FILE')}")
    if path and (not path.exists() or path.is_file()):
        _require_room(path, path.parent, f"name another place: {option} FILE")


def require_folder(path: Path | None, option: str | None = None) -> None:
    """Like ``require_file``, for a folder: those above it are made. Without ``option``, the
    command's argument names it."""
    if path:
        above = path.absolute()
        while not above.exists() and not above.is_symlink():
            above = above.parent
        other = f"{option} DIR" if option else f"the same command with DIR instead of {path}"
        _require_room(path, above, f"name another place: {other}")


def _require_room(path: Path, folder: Path, other: str) -> None:
    """Raise CannotRun, with the ``other`` way as its hint, if ``path`` cannot be made in
    ``folder``."""
    if not folder.exists():
        make = f"make the folder first: mkdir -p {argument(path.parent)}; or {other}"
        raise _not_writable(path, errno.ENOENT, make)
    if not folder.is_dir():
        raise _not_writable(path, errno.ENOTDIR, other)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(path, errno.EACCES, f"make {folder} writable; or {other}")


def _not_writable(path: Path, code: int, hint: str) -> CannotRun:
    return CannotRun(f"cannot write {path}: {os.strerror(code)}", where=str(path), hint=hint)


def holds(path: Path, data: bytes) -> bool:
    """Whether ``path`` is a file with the content ``data``."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def write_atomically(
    path: Path,
    data: str | bytes | Iterable[bytes],
    *,
    durable: bool = False,
    partial: Path | None = None,
    mode: int | None = None,
) -> None:
    """Write ``data``, a text as UTF-8 or the pieces of a large file, to ``path``: a killed run
    leaves the old file or the new one, never a part. ``durable`` waits until the new one is on the
    disk, for what must outlive a loss of power. ``partial`` is where the file grows, beside
    ``path``, and ``mode`` its mode."""
    partial = partial or path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    content = data.encode() if isinstance(data, str) else data
    pieces = [content] if isinstance(content, bytes) else content
    try:
        with partial.open("wb") as file:
            file.writelines(pieces)
            if durable:
                sync_file(file)
        if mode is not None:
            partial.chmod(mode)
        partial.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write ``data`` to a new file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        sync_file(file)


def sync_file(file: IO[bytes]) -> None:
    """Wait until what was written to ``file`` is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise  # some file systems cannot do this for a folder
    finally:
        os.close(descriptor)


def link_or_copy(old: str | Path, new: str | Path) -> None:
    """Make ``new`` the file ``old`` under another name, or, where a file system or a rule of the
    system does not allow that, a copy of it."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EROFS, errno.EEXIST):
            raise
        shutil.copy2(old, new)


def swap(new: Path, old: Path) -> None:
    """Exchange the folders ``new`` and ``old``. If the kernel can (Linux: renameat2 with
    RENAME_EXCHANGE), that is one step. Otherwise a killed run may leave the old folder under a
    hidden name that ends in ``.old``, which ``series.write.repair`` puts back."""
    import ctypes  # few runs need it

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
    text of the file is only for the message. Raises Refused if ``path`` is a link: the text would
    take the place of any file of the user's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in _LINK_OR_DEVICE:
            raise _not_plain(path) from error
        raise
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
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_folder(folder: Path, what: str, patience: float = 0) -> Iterator[None]:
    """Like ``lock``, without a file of its own: the folder itself is locked during the block, so
    nothing is left in a folder that belongs to others. Raises CannotRun if another run still holds
    it after ``patience`` seconds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                raise CannotRun(
                    f"{what} is in use by another run",
                    where=str(folder),
                    hint="wait for it to end, then run the same command again",
                )
            time.sleep(_LOOK_AGAIN)
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
