"""Runs cases in several processes, so that one which kills its process, or hangs, costs only itself.

A CUDA error such as an illegal address is final for a process: it is replaced by a fresh one.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from verify.routing.cases import Case
from verify.routing.executions import Outcome

MOST_LOSSES = 25


def _work(pipe: Connection, file: str, device: str, threads: int) -> None:
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes below this one
    import torch

    from verify.routing import executions as ways
    from verify.routing import load as kernel

    torch.set_num_threads(threads)
    if device == "cpu":
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, on inf and NaN
    module = kernel.load(file)
    while (case := pipe.recv()) is not None:
        outcome = ways.run(module, case, device)
        pipe.send(outcome)
        if outcome.lost:
            break
    pipe.close()


def crew(
    cases: Sequence[Case], file: str, device: str, jobs: int, limit_s: float = 300.0
) -> Iterator[Outcome]:
    """Outcomes of all cases, as they come, from ``jobs`` processes; ``limit_s`` seconds a case.

    After MOST_LOSSES lost processes the rest is skipped. Closing the generator ends the processes.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    queue = list(reversed(cases))
    busy: dict[Connection, tuple[BaseProcess, Case, float]] = {}
    losses = 0

    def start(case: Case) -> None:
        near, far = context.Pipe()
        process = context.Process(target=_work, args=(far, file, device, threads))
        process.start()
        far.close()
        near.send(case)
        busy[near] = process, case, time.monotonic()

    def end(pipe: Connection) -> None:
        process = busy.pop(pipe)[0]
        pipe.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()

    try:
        while queue and len(busy) < jobs:
            start(queue.pop())
        while busy:
            ready = {one for one in wait(list(busy), timeout=2) if isinstance(one, Connection)}
            for pipe, (process, case, since) in list(busy.items()):
                took = time.monotonic() - since
                if pipe not in ready and took < limit_s:
                    continue
                try:
                    if pipe not in ready:
                        process.kill()
                        raise EOFError
                    outcome = pipe.recv()
                except (EOFError, OSError):
                    what = "hung, and was killed" if pipe not in ready else "its process died"
                    outcome = Outcome(case, "failed", what, seconds=took, lost=True)
                if not outcome.lost and queue:
                    following = queue.pop()
                    busy[pipe] = process, following, time.monotonic()
                    pipe.send(following)
                else:
                    if not outcome.lost:
                        pipe.send(None)
                    end(pipe)
                    losses += outcome.lost
                    if losses >= MOST_LOSSES:
                        why = f"not run: {losses} processes were lost"
                        yield from (Outcome(one, "skipped", why) for one in queue)
                        queue.clear()
                    if queue:
                        start(queue.pop())
                yield outcome
    finally:
        for process, _, _ in busy.values():
            process.kill()
            process.join()
