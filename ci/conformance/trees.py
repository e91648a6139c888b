"""Trees that fit a patch: made from the patch's own lines."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

HUNK = re.compile(rb"@@ -(\d{1,6})(?:,(\d{1,6}))? \+(\d{1,6})(?:,(\d{1,6}))? @@")


def fitting_tree(patch: bytes, paths: Sequence[str], folder: Path) -> None:
    """Write files that ``patch`` fits into ``folder``: its old lines, with others between them."""
    lines = patch.split(b"\n")
    starts = [at for at, line in enumerate(lines[:-1])
              if line.startswith(b"--- ") and lines[at + 1].startswith(b"+++ ")]  # fmt: skip
    for path, at, end in zip(paths, starts, [*starts[1:], len(lines)], strict=False):
        old: dict[int, bytes] = {}
        number = 0
        for line in lines[at + 2 : end]:
            if match := HUNK.match(line):
                number = int(match[1])
                wanted = number + (1 if match[2] is None else int(match[2]))
            elif number and line[:1] in (b" ", b"-", b"") and number < wanted:
                old[number] = line[1:]
                number += 1
        if old and b"/dev/null" not in lines[at]:
            content = [old.get(each, b"line %d" % each) for each in range(1, max(old) + 1)]
            target = folder / path
            if ".." not in path and not path.startswith("/"):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"\n".join(content) + b"\n")


def store_tree(objects: Path, folder: Path) -> str:
    """The files of ``folder`` as a tree."""
    index = objects / "index.new"
    index.unlink(missing_ok=True)
    command = ["git", f"--git-dir={objects}", f"--work-tree={folder}", "-c", "core.autocrlf=false"]
    environment = {"GIT_INDEX_FILE": str(index), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    subprocess.run([*command, "add", "-A", "-f", "."], env=environment, cwd=folder, check=True)
    done = subprocess.run(
        [*command, "write-tree"], env=environment, capture_output=True, check=True
    )
    return done.stdout.decode().strip()
