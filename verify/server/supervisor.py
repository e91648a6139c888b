"""Starts a server, and ends all of its processes, whatever happens to boot.py.

    python -I -S supervisor.py LOG COMMAND...

boot.py holds the other end of this process's stdin. When that closes, because boot.py has finished or
because it was killed, this process ends the server and everything it started: SIGTERM, a few seconds,
SIGKILL. It lives in a session of its own, so that neither a terminal's Ctrl-C nor the killing of
boot.py's process group reaches it.

It is the reaper of orphans below it (Linux), so a process that left its group, its session and its
parent is still its descendant. A mark in the environment would not find them all: SGLang's processes
set their titles, which overwrites the environment that /proc shows.
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

RUN_VARIABLE = "FIXTOOL_RUN"  # marks a run's processes, for fixtool's runner
GRACE_SECONDS = 3.0
_KILL_SECONDS = 20.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def processes() -> Iterator[tuple[int, int, int]]:
    """pid, parent and session of every process that is alive."""
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
    """The pids of all processes below ``root``."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    below: list[int] = []
    queue = [root]
    while queue:
        pids = children.get(queue.pop(), [])
        below += pids
        queue += pids
    return below


def leftover_processes(token: str, log: str) -> list[int]:
    """The pids of processes with ``token`` in their environment, or ``log`` open as their output.
    This finds a server's processes after its supervisor was killed."""
    pids = []
    for pid, _, _ in processes():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if token.encode() in file.read():
                pids.append(pid)
                continue
        for number in (1, 2):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") == log:
                    pids.append(pid)
                    break
    return pids


def send_signal(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes; those that are gone are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class _Supervisor:
    """The server and its descendants, from its start until none of them is left."""

    def __init__(self, log: str, command: list[str]) -> None:
        self._server: int | None = None
        env = dict(os.environ)
        if (run := env.pop(f"{RUN_VARIABLE}_OF_SERVER", None)) is not None:
            env[RUN_VARIABLE] = run
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
                self._report("exited 127")
                return
        server.returncode = 0  # it is reaped below, among the orphans
        self._server = server.pid
        self._report(f"started {server.pid}")

    def _report(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(1, f"{line}\n".encode())

    def reap(self) -> None:
        """Collect the exit codes of processes that have ended, and report the server's."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._server:
                self._server = None
                self._report(f"exited {os.waitstatus_to_exitcode(status)}")

    def watch(self) -> None:
        """Return when boot.py has closed its end of stdin."""
        while True:
            readable, _, _ = select.select([0], [], [], 0.05)
            if readable and not os.read(0, 4096):
                return
            self.reap()

    def end_all(self) -> None:
        """End every descendant, and report the pids of those that would not die."""
        send_signal(descendants(os.getpid()), signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while (alive := descendants(os.getpid())) and time.monotonic() < end:
            self.reap()
            time.sleep(0.02)
        end = time.monotonic() + _KILL_SECONDS
        while alive and time.monotonic() < end:
            send_signal(alive)
            self.reap()
            time.sleep(0.02)
            alive = descendants(os.getpid())
        self.reap()
        while not alive and self._has_children() and time.monotonic() < end:
            time.sleep(0.01)  # dead, but not yet handed to this process to be reaped
            self.reap()
        self._report(f"left {' '.join(map(str, alive))}")

    @staticmethod
    def _has_children() -> bool:
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
    supervisor = _Supervisor(sys.argv[1], sys.argv[2:])
    supervisor.watch()
    supervisor.end_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
