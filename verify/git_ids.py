"""The ids that git gives to files and folders, computed without git. Standard library only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def blob_id(content: bytes) -> str:
    """The git blob id of a file with this content."""
    return _object_id("blob", content)


def tree_id(folder: Path) -> str:
    """The git tree id of a folder with this content.

    A relative symbolic link is stored by git as a link. An absolute one was made by fixtool's layout,
    so what it points to counts.
    """
    entries = []
    for entry in os.scandir(folder):
        link = os.readlink(entry.path) if entry.is_symlink() else None
        if link is not None and not os.path.isabs(link):
            mode, sha = "120000", _object_id("blob", os.fsencode(link))
        elif entry.is_dir():
            if entry.name == "__pycache__":
                continue
            mode, sha = "40000", tree_id(Path(entry.path))
        else:
            mode = "100755" if entry.stat().st_mode & 0o100 else "100644"
            sha = blob_id(Path(entry.path).read_bytes())
        name = os.fsencode(entry.name)
        # git sorts a folder as though its name ended in a slash.
        sort_key = name + b"/" * (mode == "40000")
        entries.append((sort_key, mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha)))
    return _object_id("tree", b"".join(line for _, line in sorted(entries)))


def _object_id(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
