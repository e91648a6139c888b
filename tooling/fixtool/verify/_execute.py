"""Runs a plan on this host, in the target's Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.errors import CannotRun, UsageError
from fixtool.files import lock, private_folder, temporary_folder
from fixtool.isolation import hidden, without_credentials
from fixtool.progress import Progress
from fixtool.verify._folder import write_folder
from fixtool.verify._plan import Planned
from fixtool.verify.request import RunOptions
from fixtool.verify.result import Result, read_result

_PATIENCE = 30  # seconds that a runner has to stop its servers


def execute(
    planned: Planned, folder: Path, python: str, options: RunOptions, progress: Progress
) -> Result:
    """Run a plan with ``python``, and leave result.json and logs/ in ``folder``. Raises CannotRun
    if the runner cannot run it, UsageError if ``options`` do not fit the plan."""
    private_folder(folder)
    path = folder / "result.json"
    with lock(folder / "lock", f"the evidence folder {folder}"), _scratch(folder) as scratch:
        write_folder(planned, scratch, progress, xz=False)
        path.unlink(missing_ok=True)
        command = [
            python, "-E", "-s", str(scratch / "run.py"), "--folder", str(scratch),
            "--work", str(folder), "--result", str(path), "--with-parent", *options.arguments,
        ]  # fmt: skip
        steps = sum(not step.parallel or options.spread for step in planned.plan.steps)
        status, complaints = _run(command, folder, f"verifying with {python}", steps, progress)
        if status == 130:
            raise KeyboardInterrupt
        last = complaints.split("\n")[-1] if complaints else f"exit {status}"
        if not path.is_file() or last.startswith("error: "):
            error = UsageError if status == 2 else CannotRun
            why = last.removeprefix("error: ")
            raise error(f"{python} could not run the plan: {why}", where=str(folder))
        return read_result(path)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    for stale in folder.glob("plan-*"):  # of a killed run: whoever holds the lock is the only one
        shutil.rmtree(stale, ignore_errors=True)
    with temporary_folder("plan-", folder) as scratch:
        yield scratch


def _run(
    command: list[str], folder: Path, what: str, steps: int, progress: Progress
) -> tuple[int, str]:
    """Run the runner. Returns its exit status and its stderr.

    The runner has a separate session, so Ctrl-C reaches only fixtool. fixtool passes it on once and
    waits for the runner to end, so that no server outlives it.
    """
    with (
        hidden(),
        progress.task(what, steps) as task,
        tempfile.TemporaryFile("w+", dir=folder) as stderr,
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
            text=True, errors="replace", start_new_session=True,
            env=without_credentials(os.environ),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for _ in process.stdout:
                task.advance(1)
            process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        stderr.seek(0)
        return process.returncode, stderr.read().strip()
