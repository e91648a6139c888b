"""Trees on disk: one base unpacked, the others as links to its files plus their own, each compared
with the git tree id that the plan names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any


class Stop(Exception):
    """The run cannot go on: a message and an exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def blob_id(data: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def tree_id(files: dict[str, tuple[str, str]]) -> str:
    """The id that git gives a tree of these files: path -> (mode, blob id)."""
    here: dict[str, tuple[str, str]] = {}
    below: dict[str, dict[str, tuple[str, str]]] = {}
    for path, entry in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = entry
        else:
            here[name] = entry
    here.update((name, ("40000", tree_id(inner))) for name, inner in below.items())
    data = b"".join(
        f"{mode} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes.fromhex(sha)
        for name, (mode, sha) in sorted(
            here.items(),
            key=lambda one: (
                one[0].encode("utf-8", "surrogateescape") + (b"/" if one[1][0] == "40000" else b"")
            ),
        )
    )
    return hashlib.sha1(b"tree %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def unpack(archive: Path, into: Path) -> None:
    """An archive that fixtool made; a path that leads out of ``into`` is refused all the same."""
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="tar")


def archive_in(folder: Path, name: str) -> Path | None:
    """``name``.tar or ``name``.tar.xz in ``folder``, None where neither is there."""
    both = (folder / f"{name}.tar", folder / f"{name}.tar.xz")
    return next((one for one in both if one.is_file()), None)


def lay_out(folder: Path, work: Path, trees: dict[str, Any]) -> dict[str, str]:
    """Every tree of the plan under ``work``/trees, the first from the archive, the others as links
    to its files plus their own; each is then compared with the git tree id that the plan names."""
    base = work / "trees" / trees["base"]["folder"]
    archive = archive_in(folder, "base")
    if archive is None:
        raise Stop(4, f"{folder} holds no base.tar: it is not a whole bundle")
    base.mkdir(parents=True)
    unpack(archive, base)
    files: dict[str, tuple[str, str]] = {}
    for path in sorted(base.rglob("*")):
        if path.is_symlink():
            mode, data = "120000", os.fsencode(path.readlink())
        elif path.is_file():
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            data = path.read_bytes()
        else:
            continue
        files[path.relative_to(base).as_posix()] = (mode, blob_id(data))
    laid = {}
    for name, tree in trees.items():
        place = work / "trees" / tree["folder"]
        mine = dict(files)
        if name != "base":
            _overlay(base, place, mine, tree["changes"], folder / "blobs")
        found = tree_id({path.removeprefix("python/"): one for path, one in mine.items()})
        if found != tree["python_tree"]:
            raise Stop(4, f"tree {name} came out as {found[:12]}, not {tree['python_tree'][:12]}")
        blobs = {path: mine[path][1] for path in tree["touched"] if path in mine}
        (work / "trees" / f"{tree['folder']}.json").write_text(json.dumps(blobs))
        laid[name] = found
    return laid


def _overlay(
    base: Path,
    place: Path,
    files: dict[str, tuple[str, str]],
    changes: dict[str, list[str] | None],
    blobs: Path,
) -> None:
    for path in files:
        if path in changes:
            continue
        there = place / path
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(base / path, there, follow_symlinks=False)
        except OSError:  # a file system without links
            shutil.copy2(base / path, there, follow_symlinks=False)
    for path, change in changes.items():
        files.pop(path, None)
        if change is None:
            continue
        mode, sha = change
        data, there = (blobs / sha).read_bytes(), place / path
        there.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            there.symlink_to(os.fsdecode(data))
        else:
            there.write_bytes(data)
            there.chmod(0o755 if mode == "100755" else 0o644)
        files[path] = (mode, blob_id(data))
