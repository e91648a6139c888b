"""Processes that a run starts, none of which may outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TOKEN = "FIXTOOL_RUN"  # noqa: S105
"""The environment variable that marks every process of a run, wherever it moves."""


def die_with_parent() -> None:
    """On Linux, have this process get SIGTERM when its parent is gone, even if by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


def sweep(token: str) -> int:
    """Kill every process that carries ``token`` in its environment. Returns their number."""
    mark, killed = f"{TOKEN}={token}".encode(), 0
    for _ in range(20):
        pids = [pid for pid, environ in _environments() if mark in environ.split(b"\0")]
        if not pids:
            break
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed = max(killed, len(pids))
        time.sleep(0.05)
    return killed


def _environments() -> Iterator[tuple[int, bytes]]:
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) != os.getpid():
            with suppress(OSError):
                yield int(entry.name), (entry / "environ").read_bytes()
