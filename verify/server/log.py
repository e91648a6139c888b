"""Reads a server's log while it grows: the wanted message, crashes, and the last line.

Only the log tells the cause of a crash: SGLang kills itself with SIGKILL whatever the cause, so its
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
# What processes log when another one has died. It is the cause only if nothing else is.
_CONSEQUENCE = re.compile(
    r"scheduler died|[Ii]nitialization failed|child process|"
    r"^(?:\w+\.)*(?:EOFError|BrokenPipeError|ConnectionResetError|CancelledError|KeyboardInterrupt"
    r"|SystemExit)\b"
)
_FATAL = re.compile(r"Scheduler hit an exception|Received sigquit from a child process")


class ServerLog:
    """A server's log. ``matched`` is the first line that matches ``wanted``.

    ``fatal_at`` is when a process of the server logged that it gives up; the main process may follow
    much later. Times are of time.monotonic(), infinite until it happens.
    """

    def __init__(self, path: Path, wanted: re.Pattern[str] | None = None) -> None:
        self.path = path
        self.matched: str | None = None
        self.matched_at = self.fatal_at = float("inf")
        self.tail: deque[str] = deque(maxlen=40)
        self._wanted = wanted
        self._crashes: deque[tuple[str, list[str]]] = deque(maxlen=20)
        self._block: list[str] | None = None
        self._partial = b""
        self._offset = 0

    def read(self, *, final: bool = False) -> None:
        """Read what was written since the last call; ``final``: also a last line without an end."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                while chunk := file.read(_CHUNK):
                    self._offset += len(chunk)
                    *lines, self._partial = (self._partial + chunk).split(b"\n")
                    for line in lines:
                        self._read_line(line)
                    if len(self._partial) > _LONGEST_LINE:
                        self._read_line(self._partial)
                        self._partial = b""
        except FileNotFoundError:
            return
        if final and self._partial:
            self._read_line(self._partial)
            self._partial = b""

    def _read_line(self, raw: bytes) -> None:
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
        """The line and the traceback of the last exception that is a cause, else of the last one."""
        causes = [crash for crash in self._crashes if not _CONSEQUENCE.search(crash[0])]
        crashes = causes or list(self._crashes)
        return crashes[-1] if crashes else None

    def cause_of_death(self) -> str:
        """What a server that has ended died of, in a line."""
        if (crash := self.crash()) is not None:
            return crash[0][:300]
        return f"no exception, after the line: {self.last}"
