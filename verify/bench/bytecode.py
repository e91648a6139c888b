"""Compiles bytecode in the background of a benchmark, and leaves no process of that behind.

compileall's workers wait for work on a pipe that each of them also holds open for writing. If only their
parent is killed they wait for ever, so a compilation is a session of its own and is ended as one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from verify.server.supervisor import processes


def compile_in_background(folders: Iterable[Path], env: Mapping[str, str], jobs: int) -> None:
    """Start to compile all modules below ``folders``, in ``jobs`` processes (0: one for each core)."""
    subprocess.Popen(
        [sys.executable, "-m", "compileall", "-q", "-j", str(jobs), *map(str, folders)],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_compiling() -> None:
    """End every session that is a child of this process, so also one that was started before an exec.
    A module that is half compiled leaves no file: compileall renames a file when it is complete."""
    for pid, parent, session in processes():
        if parent == os.getpid() and session == pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
