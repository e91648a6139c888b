"""Starts a server, and sees to it that nothing of it is left: whatever happens to boot.py.

    python -I -S keeper.py LOG COMMAND...

boot.py holds the other end of this process's stdin. When that closes, because boot.py is done or
because it was killed in any way at all, the server and all that it started are ended: SIGTERM, a
few seconds, SIGKILL. This process lives in a session of its own, where a terminal's Ctrl-C and the
killing of boot.py's process group do not reach it.

It is the reaper of orphans below it (Linux), so a process that left its group, its session and its
parent is still its descendant. Looking for a mark in the environment would not do: SGLang's
processes set their titles, which overwrites what /proc shows of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

RUN = "FIXTOOL_RUN"  # marks a run's processes, for its runner
GRACE_SECONDS = 3.0
_KILL_SECONDS = 20.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def processes() -> Iterator[tuple[int, int, int]]:
    """pid, parent and session of every process that is not just a dead one's entry."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, _, session = file.read().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if state not in (b"Z", b"X"):
            yield int(name), int(parent), int(session)


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    found, front = [], [root]
    while front:
        below = children.get(front.pop(), [])
        found += below
        front += below
    return found


def strays(token: str, log: str) -> list[int]:
    """Processes with ``token`` in their environment, or ``log`` open as their output: those of a
    server whose keeper was killed too."""
    found = []
    for pid, _, _ in processes():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if token.encode() in file.read():
                found.append(pid)
                continue
        for number in (1, 2):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") == log:
                    found.append(pid)
                    break
    return found


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class _Keeper:
    def __init__(self, log: str, command: list[str]) -> None:
        self._server: int | None = None
        self._told = True
        env = dict(os.environ)
        if (run := env.pop(f"{RUN}_OF_SERVER", None)) is not None:
            env[RUN] = run
        with open(log, "ab") as file:
            try:
                server = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                    preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
                )
            except OSError as error:
                file.write(f"{error}\n".encode())
                self._say("exited 127")
                return
        server.returncode = 0  # it is reaped below, among the orphans
        self._server = server.pid
        self._say(f"started {server.pid}")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(1, f"{line}\n".encode())

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._server:
                self._server = None
                self._say(f"exited {os.waitstatus_to_exitcode(status)}")

    def watch(self) -> None:
        """Until boot.py lets go."""
        while True:
            readable, _, _ = select.select([0], [], [], 0.05)
            if readable and not os.read(0, 4096):
                return
            self.reap()

    def sweep(self) -> None:
        kill(descendants(os.getpid()), signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while (left := descendants(os.getpid())) and time.monotonic() < end:
            self.reap()
            time.sleep(0.02)
        end = time.monotonic() + _KILL_SECONDS
        while left and time.monotonic() < end:
            kill(left)
            self.reap()
            time.sleep(0.02)
            left = descendants(os.getpid())
        self.reap()
        while not left and self._children() and time.monotonic() < end:
            time.sleep(0.01)  # dead, and not yet handed to this process, which is to bury them
            self.reap()
        self._say(f"left {' '.join(map(str, left))}")

    @staticmethod
    def _children() -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True


def main() -> int:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN, which the server would inherit.
        signal.signal(number, lambda *_: None)
    keeper = _Keeper(sys.argv[1], sys.argv[2:])
    keeper.watch()
    keeper.sweep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
