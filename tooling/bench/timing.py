"""Measures commands: wall time, CPU time and memory. Contestants take turns (A B C … A B C …)."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

Command = Sequence[str | Path]
_POLL = 0.01  # seconds between two looks at the memory of a process
LIMIT = 300.0
"""After how many seconds a command is ended, and has failed."""


class CommandFailed(Exception):
    """A command ended with an exit code that was not expected. The text has its last output."""


@dataclass(frozen=True)
class Sample:
    """One measurement. ``cpu`` is user and system time, child processes included. ``peak`` is the
    memory of the largest process and ``own_peak`` that of the process that was started, in MB.
    ``own_peak`` is None if the process ended before its memory was read."""

    wall: float
    cpu: float
    peak: float
    own_peak: float | None


@dataclass
class Contestant:
    """A way to do some work.

    ``steps`` are measured together; ``before`` and ``after`` are not measured. ``against`` names
    the contestant of the same group that the ratios are relative to. ``result`` returns the id of
    what was made, after the steps; all contestants of a group with the same ``work`` must make the
    same. ``most_runs`` limits the runs. ``scale`` is by how much less work is done than is
    reported. ``absent`` is the reason why it is not run here. ``may_stop`` is set if it is another
    tool, which cannot do all that git can: then its failure stands in its row, and counts as none.
    """

    name: str
    steps: Sequence[Command]
    at: Path
    against: str = ""
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset({0})
    result: Callable[[], str] | None = None
    work: str = ""
    most_runs: int | None = None
    scale: int = 1
    absent: str = ""
    may_stop: bool = False


@dataclass
class Row:
    """What was measured of a contestant. ``problem`` says why nothing was, or what went wrong; with
    ``stopped``, it was not measured again after that, and with ``failed``, that is a fault.
    ``facts`` are further figures, such as the bytes that were transferred."""

    name: str
    against: str = ""
    samples: list[Sample] = field(default_factory=list)
    scale: int = 1
    problem: str = ""
    stopped: bool = False
    failed: bool = False
    work: str = ""
    results: set[str] = field(default_factory=set)
    facts: dict[str, float] = field(default_factory=dict)

    def median(self, quantity: str) -> float | None:
        """The median of ``wall``, ``cpu``, ``peak`` or ``own_peak``, or None if none is known."""
        values = [getattr(sample, quantity) for sample in self.samples]
        known = [value for value in values if value is not None]
        factor = self.scale if quantity in ("wall", "cpu") else 1
        return statistics.median(known) * factor if known else None


@dataclass
class Group:
    """The contestants that took turns. ``key`` names the group in the results."""

    key: str
    title: str
    rows: list[Row]

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)


def measure(
    steps: Sequence[Command],
    at: Path,
    environment: Mapping[str, str],
    accepts: frozenset[int] = frozenset({0}),
    limit: float = LIMIT,
) -> Sample:
    """Run ``steps`` one after the other in the folder ``at``. Raises CommandFailed if one of them
    ends with an exit code that is not in ``accepts``, or takes more than ``limit`` seconds."""
    wall, cpu, peaks, own_peaks = 0.0, 0.0, [0.0], [0.0]
    known = True
    for step in steps:
        with tempfile.TemporaryFile() as output:
            begin = time.perf_counter()
            process = subprocess.Popen(
                step, cwd=at, env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip
            watch = _Watch(process.pid, limit)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:  # Ctrl-C: the command is in a process group of its own
                watch.end_command()
                raise
            wall += time.perf_counter() - begin
            own = watch.stop()
            process.returncode = code = os.waitstatus_to_exitcode(status)
            if watch.ended_command:
                raise CommandFailed(f"it took more than {limit:g} s")
            if code not in accepts:
                output.seek(0)
                text = output.read().decode("utf-8", "replace").strip()
                words = " ".join(map(str, step))
                raise CommandFailed(f"exit code {code} of {words[:300]}\n{text[-600:]}")
        cpu += usage.ru_utime + usage.ru_stime
        peaks.append(usage.ru_maxrss / 1024)
        known = known and own is not None
        own_peaks.append(own or 0.0)
    return Sample(
        round(wall, 4), round(cpu, 4), round(max(peaks), 1),
        round(max(own_peaks), 1) if known else None,
    )  # fmt: skip


class _Watch:
    """Reads the highest memory of a process until it is stopped, and ends the process and its
    children after ``limit`` seconds. (When a process ends, the kernel tells the memory of the
    largest one, the process and its children together.)"""

    def __init__(self, pid: int, limit: float) -> None:
        self._pid = pid
        self._limit = time.monotonic() + limit
        self._peak: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.ended_command = False
        self._thread.start()

    def stop(self) -> float | None:
        """The highest memory in MB that was seen, or None if the process was too short."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def end_command(self) -> None:
        self.ended_command = True
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)

    def _watch(self) -> None:
        pause = _POLL
        while not self._stopped.wait(pause):
            try:
                text = Path(f"/proc/{self._pid}/status").read_text()
            except OSError:  # there is no /proc
                text = ""
            if found := re.search(r"^VmHWM:\s+(\d+) kB", text, re.M):
                self._peak = int(found[1]) / 1024
            if time.monotonic() > self._limit and not self.ended_command:
                self.end_command()
            pause = min(pause * 1.2, 0.1)


def take_turns(
    key: str,
    title: str,
    contestants: Sequence[Contestant],
    environment: Mapping[str, str],
    runs: int,
    warm_up: bool = False,
    limit: float = LIMIT,
) -> Group:
    """Measure each contestant ``runs`` times, in turns. With ``warm_up``, a first round is not
    counted: it fills the page cache and the folders of fixtool. A contestant that fails is left out
    of the further rounds, and its row says why."""
    rows = [Row(each.name, each.against, scale=each.scale, work=each.work) for each in contestants]
    for number in range(1 - warm_up, runs + 1):
        for contestant, row in zip(contestants, rows, strict=True):
            if contestant.absent:
                row.problem = contestant.absent
                continue
            if row.stopped or number > (contestant.most_runs or runs):
                continue
            if number == 0 and contestant.most_runs is not None:
                continue
            try:
                contestant.before()
                sample = measure(
                    contestant.steps, contestant.at, {**environment, **contestant.environment},
                    contestant.accepts, limit,
                )  # fmt: skip
                if contestant.result:
                    row.results.add(contestant.result())
            except CommandFailed as error:
                row.problem, row.stopped = str(error), True
                row.failed = not contestant.may_stop
                print(f"{key}: {contestant.name} stopped: {error}", file=sys.stderr)
            contestant.after()
            if row.stopped:
                continue
            if number:
                row.samples.append(sample)
            print(
                f"{key} {number}/{runs} {contestant.name}: {sample.wall:.2f} s, "
                f"CPU {sample.cpu:.2f} s, {sample.peak:.0f} MB",
                file=sys.stderr,
            )
    _compare_results(contestants, rows)
    return Group(key, title, rows)


def _compare_results(contestants: Sequence[Contestant], rows: Sequence[Row]) -> None:
    """Mark rows that did not make what the first row of the same work made."""
    expected: dict[str, Row] = {}
    for contestant, row in zip(contestants, rows, strict=True):
        if not row.results or row.stopped:
            continue
        first = expected.setdefault(row.work, row)
        if row.results != first.results or len(row.results) != 1:
            row.failed = not contestant.may_stop
            row.problem = (
                f"it made {', '.join(sorted(row.results))}, "
                f"and {first.name} made {', '.join(sorted(first.results))}"
            )
