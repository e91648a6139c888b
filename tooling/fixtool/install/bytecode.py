"""The bytecode that Python keeps beside a source file, in ``__pycache__``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fixtool.errors import CannotRun
from fixtool.files import read_at_most

_LARGEST = 256 << 20  # bytes
_NAME = re.compile(r"[^.]+\.([A-Za-z]\w*-\w+)(?:\.opt-(\w+))?\.pyc")
_MODES = {0: "TIMESTAMP", 1: "UNCHECKED_HASH", 3: "CHECKED_HASH"}


@dataclass(frozen=True)
class Cached:
    """A file of bytecode. ``tag`` names the interpreter, such as cpython-311; ``level`` is that of
    the optimization; ``mode`` is how Python finds out whether it is still right."""

    path: Path
    tag: str
    level: int
    mode: str
    stamp: tuple[int, int]  # of a TIMESTAMP: the time and size of the source

    def believed(self, source: Path) -> bool:
        """Whether Python takes it for that of ``source`` without a look into either."""
        if self.mode != "TIMESTAMP":
            return self.mode == "UNCHECKED_HASH"
        status = source.stat()
        return self.stamp == (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def cached(source: Path) -> Iterator[Cached]:
    """The bytecode of ``source``, of all interpreters."""
    if source.suffix != ".py":
        return
    folder = source.parent / "__pycache__"
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - strings are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(f"{source.stem}.") and (found := read_as(folder / name, name)):
            yield found


def read_as(path: Path, name: str) -> Cached | None:
    """The bytecode in the file ``path``, which Python looks for under ``name``; None if that is no
    name of bytecode."""
    match = _NAME.fullmatch(PurePosixPath(name).name)
    if match is None:
        return None
    try:
        head = read_at_most(path, _LARGEST)[:16].ljust(16, b"\0")
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    flags, first, second = (
        int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12)
    )  # fmt: skip
    number = int(match[2]) if match[2] and match[2].isdigit() else 0
    return Cached(path, match[1], number, _MODES.get(flags, "TIMESTAMP"), (first, second))
