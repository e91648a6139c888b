"""Writes the files of a report, both or neither."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fixtool.errors import Refused
from fixtool.files import sync_file


def write_together(folder: Path, files: Mapping[str, str]) -> None:
    """Write ``files`` (name -> text) into ``folder``: all of them, or none.

    Each is written whole under another name first, then all are renamed; if a rename fails, the old
    files come back. The folder is held open and no link in it is followed, so that a link cannot
    lead a page elsewhere. Raises Refused if the folder is a link, or a name is taken by something
    else than a file.
    """
    if folder.is_symlink():
        raise Refused(f"{folder} is a link; name a folder", where=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    new, old = (".{}.new".format, ".{}.old".format)
    moved: list[str] = []
    try:
        for name in files:
            _require_plain(at, name, folder)
        try:
            for name, text in files.items():
                _write(at, new(name), text.encode())
            for name in files:
                with suppress(FileNotFoundError):
                    _remove(at, old(name))
                    _keep(at, name, old(name))
            for name in files:
                moved.append(name)
                os.replace(new(name), name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            for name in moved:
                try:
                    os.replace(old(name), name, src_dir_fd=at, dst_dir_fd=at)
                except FileNotFoundError:  # there was no old file
                    _remove(at, name)
            raise
        finally:
            for name in files:
                _remove(at, new(name))
                _remove(at, old(name))
    finally:
        os.close(at)


def _keep(at: int, name: str, kept: str) -> None:
    """Keep a file under another name too, or a copy of it where links are not possible. Raises
    FileNotFoundError if there is none."""
    try:
        os.link(name, kept, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=at), "rb") as file:
            _write(at, kept, file.read())


def _require_plain(at: int, name: str, folder: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            path = folder / name
            raise Refused(f"{name} is there already, and is no plain file", where=str(path))


def _write(at: int, name: str, data: bytes) -> None:
    _remove(at, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=at), "wb") as file:
        file.write(data)
        sync_file(file)


def _remove(at: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=at)
