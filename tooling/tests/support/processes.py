"""Waiting for other processes by their state, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

GENEROUS = 600
"""Seconds that anything may take on a machine that is busy with other things: a bound that ends a
test which hangs, and never a measure."""


def wait_until(true: Callable[[], object], what: object = "") -> None:
    """Return as soon as ``true()`` holds; it may raise. AssertionError after GENEROUS seconds."""
    deadline = time.monotonic() + GENEROUS
    while not true():
        assert time.monotonic() < deadline, f"waited {GENEROUS} seconds in vain: {what}"
        time.sleep(0.01)


def wait_until_blocked(pid: int) -> None:
    """Return once ``pid`` sleeps in a system call and is not only waiting for a processor."""
    before: list[str] | None = None

    def blocked() -> bool:
        nonlocal before
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        about = [line for line in lines if line.startswith(("State:", "voluntary", "nonvoluntary"))]
        settled = about == before and "State:\tS" in about[0]
        before = about
        time.sleep(0.02)
        return settled

    wait_until(blocked, f"process {pid} blocks")


def wait_until_gone(group: int) -> None:
    """Return once no process of the process group ``group`` runs any more."""

    def running() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, IndexError):
                state, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if of == str(group) and state not in "ZX":
                    found.append(entry.name)
        return found

    wait_until(lambda: not running(), f"process group {group} ends")


def with_enough_time(run: Callable[[int], T], reached: Callable[[T], object]) -> tuple[T, int]:
    """Run with a limit of a second or two, or of more and more where that was too short to come as
    far as ``reached(result)``. Return what the run gave, and the limit in seconds."""
    seconds = 2
    while True:
        result = run(seconds)
        if reached(result) or seconds > GENEROUS:
            return result, seconds
        seconds *= 4
