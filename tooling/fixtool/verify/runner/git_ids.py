"""The ids that git gives to contents, computed without git."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def blob_id(data: bytes) -> str:
    """The id of a file with this content."""
    return _id("blob", data)


def tree_id(files: Mapping[str, tuple[str, str]]) -> str:
    """The id of a folder with these files: path -> (mode, blob id), the mode as git writes it."""
    entries: dict[str, tuple[str, str]] = {}
    below: dict[str, dict[str, tuple[str, str]]] = {}
    for path, entry in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = entry
        else:
            entries[name] = entry
    entries.update((name, ("40000", tree_id(inner))) for name, inner in below.items())

    def order(name: str) -> bytes:  # git sorts a folder as if its name ended in a slash
        return _bytes(name) + b"/" * (entries[name][0] == "40000")

    return _id(
        "tree",
        b"".join(
            f"{entries[name][0]} ".encode() + _bytes(name) + b"\0" + bytes.fromhex(entries[name][1])
            for name in sorted(entries, key=order)
        ),
    )


def folder_id(folder: Path) -> str:
    """The id of a folder that `layout` made: an absolute link is the layout's, and what it leads to
    counts; bytecode does not."""
    return tree_id(read_files(folder, laid_out=True))


def read_files(folder: Path, *, laid_out: bool) -> dict[str, tuple[str, str]]:
    """path -> (mode, blob id) of every file below ``folder``. ``laid_out`` as in `folder_id`; else
    every link and every file is upstream's own."""
    return dict(_scan(os.fspath(folder), "", laid_out))


def _scan(folder: str, prefix: str, laid_out: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    for entry in os.scandir(folder):
        path = prefix + entry.name
        link = os.readlink(entry.path) if entry.is_symlink() else None
        if link is not None and not (laid_out and os.path.isabs(link)):
            yield path, ("120000", blob_id(os.fsencode(link)))
        elif entry.is_dir():
            if not (laid_out and entry.name == "__pycache__"):
                yield from _scan(entry.path, f"{path}/", laid_out)
        elif entry.is_file():
            mode = "100755" if entry.stat().st_mode & 0o100 else "100644"
            with open(entry.path, "rb") as file:
                yield path, (mode, blob_id(file.read()))


def _id(kind: str, data: bytes) -> str:
    header = f"{kind} {len(data)}\0".encode()
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
