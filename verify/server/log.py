"""Reads a server's log while it grows: the message looked for, crashes, and the last line.

A crash's cause is what the log says. SGLang kills itself with SIGKILL whatever it died of, so its
exit code says nothing.
"""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16
_STAMP = re.compile(r"^(?:\[[^\]]*\]\s*)+")
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure|Group)(?::\s.*)?$"
)
# What processes say whose peer has died: never the cause while there is another.
_CONSEQUENCE = re.compile(
    r"scheduler died|[Ii]nitialization failed|child process|"
    r"^(?:\w+\.)*(?:EOFError|BrokenPipeError|ConnectionResetError|CancelledError|KeyboardInterrupt"
    r"|SystemExit)\b"
)
_FATAL = re.compile(r"Scheduler hit an exception|Received sigquit from a child process")


class ServerLog:
    """``matched`` is the first line that holds ``wanted``; ``fatal`` says that a process of the
    server has given up, which its main process may take its time to follow."""

    def __init__(self, path: Path, wanted: re.Pattern[str] | None = None) -> None:
        self.path = path
        self.matched: str | None = None
        self.matched_at = self.fatal_at = float("inf")
        self.tail: deque[str] = deque(maxlen=40)
        self._wanted = wanted
        self._crashes: deque[tuple[str, list[str]]] = deque(maxlen=20)
        self._block: list[str] | None = None
        self._rest = b""
        self._at = 0

    def read(self, *, final: bool = False) -> None:
        """What has been written since; ``final`` takes a last line without an end too."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                while chunk := file.read(_CHUNK):
                    self._at += len(chunk)
                    *lines, self._rest = (self._rest + chunk).split(b"\n")
                    for line in lines:
                        self._hear(line)
                    if len(self._rest) > _LONGEST_LINE:
                        self._hear(self._rest)
                        self._rest = b""
        except FileNotFoundError:
            return
        if final and self._rest:
            self._hear(self._rest)
            self._rest = b""

    def _hear(self, raw: bytes) -> None:
        # A carriage return is how progress bars write over themselves.
        line = raw[:_LONGEST_LINE].decode("utf-8", "replace").rstrip().rpartition("\r")[2]
        if not line.strip():
            return
        self.tail.append(line)
        if self.matched is None and self._wanted is not None and self._wanted.search(line):
            self.matched, self.matched_at = line.strip(), time.monotonic()
        if _FATAL.search(line):
            self.fatal_at = min(self.fatal_at, time.monotonic())
        if "Traceback (most recent call last)" in line:
            self._block = [line]
            return
        if self._block is not None and len(self._block) < 80:
            self._block.append(line)
        if _EXCEPTION.match(plain := _STAMP.sub("", line)):
            self._crashes.append((plain, self._block or [line]))
            self._block = None

    @property
    def last(self) -> str:
        return self.tail[-1].strip()[:300] if self.tail else "nothing at all"

    def crash(self) -> tuple[str, list[str]] | None:
        """The last exception's line and its traceback; one that is the cause, if there is one."""
        causes = [crash for crash in self._crashes if not _CONSEQUENCE.search(crash[0])]
        crashes = causes or list(self._crashes)
        return crashes[-1] if crashes else None

    def died_of(self) -> str:
        """What a server that is gone died of, in a line."""
        if (crash := self.crash()) is not None:
            return crash[0][:300]
        return f"no exception, after the line: {self.last}"
