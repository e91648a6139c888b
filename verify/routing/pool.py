"""Runs cases in several processes, so that a case that kills its process, or hangs, costs only itself.

After a CUDA error such as an illegal address a process cannot use its GPU any more: a new process
replaces it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from verify.routing.cases import Case
from verify.routing.executions import CaseResult

MOST_LOSSES = 25
SAY_SECONDS = 20.0


def _work(pipe: Connection, file: str, device: str, threads: int) -> None:
    """The worker process: run each case that arrives, until None arrives or the GPU is unusable."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes below this one
    import torch

    from verify.routing.executions import run_case
    from verify.routing.load import load_kernel

    torch.set_num_threads(threads)
    if device == "cpu":
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, on inf and NaN
    module = load_kernel(file)
    while (case := pipe.recv()) is not None:
        result = run_case(module, case, device)
        pipe.send(result)
        if result.lost:
            break
    pipe.close()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    case: Case
    since: float

    def give(self, case: Case) -> None:
        self.case, self.since = case, time.monotonic()
        self.pipe.send(case)

    def result(self, *, ready: bool) -> CaseResult:
        """What the worker answers; a lost case if it died, or if it is over its time (not ready)."""
        try:
            if not ready:
                self.process.kill()
                raise EOFError
            return self.pipe.recv()
        except (EOFError, OSError):
            what = "its process died" if ready else "hung, and was killed"
            seconds = time.monotonic() - self.since
            return CaseResult(self.case, "failed", what, seconds=seconds, lost=True)

    def end(self) -> None:
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def run_in_processes(
    cases: Sequence[Case],
    file: str,
    device: str,
    jobs: int,
    limit_s: float = 300.0,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[CaseResult]:
    """Yield the results of all cases, as they come, from ``jobs`` processes; ``limit_s`` seconds a case.
    Every SAY_SECONDS ``say`` gets how many are done, and which case has run for longest.

    After MOST_LOSSES lost processes the rest is skipped. Closing the generator ends the processes.
    """
    pool = _Pool(cases, file, device, jobs)
    say_at = time.monotonic() + SAY_SECONDS
    try:
        pool.start(jobs)
        while pool.workers:
            ready = wait(list(pool.workers), timeout=2)
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + SAY_SECONDS
                done = len(cases) - len(pool.queue) - len(pool.workers)
                say(_progress(done, len(cases), pool.workers.values()))
            for pipe, worker in list(pool.workers.items()):
                if pipe in ready or time.monotonic() - worker.since >= limit_s:
                    yield from pool.next_of(worker, worker.result(ready=pipe in ready))
    finally:
        pool.kill()


class _Pool:
    """The processes that run cases, by their pipes, and the ``queue`` of cases that wait for one, the
    next one last. ``jobs`` processes share the cores."""

    def __init__(self, cases: Sequence[Case], file: str, device: str, jobs: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self._task = (file, device, threads)
        self._losses = 0
        self.queue = list(reversed(cases))
        self.workers: dict[Connection, _Worker] = {}

    def start(self, jobs: int) -> None:
        """Start ``jobs`` processes, or fewer if there are fewer cases."""
        while self.queue and len(self.workers) < jobs:
            self._start(self.queue.pop())

    def _start(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(target=_work, args=(far, *self._task))
        process.start()
        far.close()
        self.workers[near] = _Worker(process, near, case, time.monotonic())
        self.workers[near].give(case)

    def next_of(self, worker: _Worker, result: CaseResult) -> Iterator[CaseResult]:
        """Yield the ``result`` of a worker, and give it the next case; another process takes its place
        if it is lost. After MOST_LOSSES of these, also yield all other cases as skipped."""
        if self.queue and not result.lost:
            worker.give(self.queue.pop())
            yield result
            return
        if not result.lost:
            worker.pipe.send(None)
        del self.workers[worker.pipe]
        worker.end()
        self._losses += result.lost
        if self._losses >= MOST_LOSSES:
            why = f"not run: {self._losses} processes were lost"
            yield from (CaseResult(case, "skipped", why) for case in self.queue)
            self.queue.clear()
        if self.queue:
            self._start(self.queue.pop())
        yield result

    def kill(self) -> None:
        """Kill the processes that are left."""
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.join()


def _progress(done: int, number: int, workers: Iterable[_Worker]) -> str:
    longest = min(workers, key=lambda worker: worker.since)
    seconds = time.monotonic() - longest.since
    return f"{done:,} of {number:,} cases; {longest.case.name} has run for {seconds:.0f} s"
