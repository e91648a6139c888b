"""Trees on disk: a base unpacked, the others as links to it plus files of their own, each compared
with the git tree id that the plan names."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from .git_ids import blob_id, read_files, tree_id


class Stop(Exception):
    """The run cannot go on: a message and an exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def unpack(archive: Path, into: Path) -> None:
    """Unpack an archive of fixtool's own. Even so, a path that leads out of ``into`` is refused."""
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="tar")


def archive_in(folder: Path, name: str) -> Path | None:
    """``name``.tar or ``name``.tar.xz in ``folder``; None if there is neither."""
    both = (folder / f"{name}.tar", folder / f"{name}.tar.xz")
    return next((path for path in both if path.is_file()), None)


def lay_out(folder: Path, work: Path, trees: dict[str, Any]) -> dict[str, str]:
    """Lay out every tree of the plan under ``work``/trees. Returns the git id of the python/ of
    each, computed from the files. Raises Stop if one is not the plan's."""
    base = work / "trees" / trees["base"]["folder"]
    archive = archive_in(folder, "base")
    if archive is None:
        raise Stop(4, f"{folder} holds no base.tar: it is not a whole bundle")
    base.mkdir(parents=True)
    unpack(archive, base)
    files = read_files(base, laid_out=False)
    laid = {}
    for name, tree in trees.items():
        place = work / "trees" / tree["folder"]
        mine = dict(files)
        if name != "base":
            _overlay(base, place, mine, tree["changes"], folder / "blobs")
        sha = tree_id({path.removeprefix("python/"): entry for path, entry in mine.items()})
        if sha != tree["python_tree"]:
            raise Stop(4, f"tree {name} came out as {sha[:12]}, not {tree['python_tree'][:12]}")
        blobs = {path: mine[path][1] for path in tree["touched"] if path in mine}
        (work / "trees" / f"{tree['folder']}.json").write_text(json.dumps(blobs))
        laid[name] = sha
    return laid


def _overlay(
    base: Path,
    place: Path,
    files: dict[str, tuple[str, str]],
    changes: dict[str, list[str] | None],
    blobs: Path,
) -> None:
    """Make ``place`` the base with ``changes``. A folder without a change is a link to the base's,
    with its bytecode: a hundred trees cost a hundred files each, not thousands."""
    opened = {str(parent) for path in changes for parent in PurePosixPath(path).parents}

    def graft(folder: str) -> None:
        (place / folder).mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(base / folder):
            path = entry.name if folder == "." else f"{folder}/{entry.name}"
            if path in opened:
                graft(path)
            elif entry.is_dir(follow_symlinks=False):
                (place / path).symlink_to(entry.path)
            elif path not in changes:
                try:
                    os.link(entry.path, place / path, follow_symlinks=False)
                except OSError:  # a file system without hard links
                    shutil.copy2(entry.path, place / path, follow_symlinks=False)

    graft(".")
    for path, change in changes.items():
        files.pop(path, None)
        if change is None:
            continue
        mode, sha = change
        data, file = (blobs / sha).read_bytes(), place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            file.symlink_to(os.fsdecode(data))
        else:
            file.write_bytes(data)
            file.chmod(0o755 if mode == "100755" else 0o644)
        files[path] = (mode, blob_id(data))
