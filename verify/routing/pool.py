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
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    queue = list(reversed(cases))
    workers: dict[Connection, _Worker] = {}
    losses, say_at = 0, time.monotonic() + SAY_SECONDS

    def start(case: Case) -> None:
        near, far = context.Pipe()
        process = context.Process(target=_work, args=(far, file, device, threads))
        process.start()
        far.close()
        workers[near] = _Worker(process, near, case, time.monotonic())
        workers[near].give(case)

    try:
        while queue and len(workers) < jobs:
            start(queue.pop())
        while workers:
            ready = wait(list(workers), timeout=2)
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + SAY_SECONDS
                say(_progress(len(cases) - len(queue) - len(workers), len(cases), workers.values()))
            for pipe, worker in list(workers.items()):
                if pipe not in ready and time.monotonic() - worker.since < limit_s:
                    continue
                result = worker.result(ready=pipe in ready)
                if not result.lost and queue:
                    worker.give(queue.pop())
                    yield result
                    continue
                if not result.lost:
                    pipe.send(None)
                del workers[pipe]
                worker.end()
                losses += result.lost
                if losses >= MOST_LOSSES:
                    why = f"not run: {losses} processes were lost"
                    yield from (CaseResult(case, "skipped", why) for case in queue)
                    queue.clear()
                if queue:
                    start(queue.pop())
                yield result
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.join()


def _progress(done: int, number: int, workers: Iterable[_Worker]) -> str:
    longest = min(workers, key=lambda worker: worker.since)
    seconds = time.monotonic() - longest.since
    return f"{done:,} of {number:,} cases; {longest.case.name} has run for {seconds:.0f} s"
