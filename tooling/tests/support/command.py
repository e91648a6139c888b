"""Runs the command line: inside this process, which is quick, or as a process of its own."""

from __future__ import annotations

import functools
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO
from unittest import mock

import typer.main

from fixtool.__main__ import main
from fixtool.git.repo import Repo
from support.hints import check_hints
from support.processes import GENEROUS
from support.repositories import Ran

AFTER: list[Callable[[Sequence[str], Path, Mapping[str, str], Ran], None]] = []
"""What is called after each run, with the words after ``fixtool``, the folder and the variables."""
_command_tree = functools.cache(typer.main.get_command)
"""Building the tree of commands takes typer half the time of a short command."""


def command_line(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "fixtool", *map(str, args)]


def clean_environment() -> None:
    """For a script: nothing of the caller's settings shines through in this process."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "FIXTOOL_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull)


def run_process(*args: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    """Run fixtool as a process of its own: for signals, pipes, imports, and limits of a process."""
    result = subprocess.run(
        command_line(*args), cwd=cwd, env={**os.environ, **(env or {})}, check=False,
        capture_output=True, text=True, timeout=GENEROUS,
    )  # fmt: skip
    ran = _checked(result.returncode, result.stdout, result.stderr)
    return _report(args, cwd, env, ran)


def run_here(
    *args: str | Path, cwd: Path, env: Mapping[str, str] | None = None, typed: str = ""
) -> Ran:
    """Run fixtool inside this process: a start of Python and of the command tree saved.

    The working directory, the environment, the signal handlers and the standard streams are put
    back afterwards. Whatever writes to file descriptors 1 and 2, child processes included, is
    captured. An exception that the command line does not handle reaches the test.
    """
    status = 0
    with (
        _directory(cwd),
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(sys, "argv", ["fixtool", *map(str, args)]),
        mock.patch.object(typer.main, "get_command", _command_tree),
        mock.patch.object(Repo, "_version_checked", Repo._version_checked),
        _signal_handlers(),
        _collection_threshold(),
        _captured(1, "stdout") as out,
        _captured(2, "stderr") as err,
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
    ):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)  # (a text would end a process with 1)
    return _report(args, cwd, env, _checked(status, _text(out), _text(err)))


def _report(args: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None, ran: Ran) -> Ran:
    for look in AFTER:
        look([str(word) for word in args], cwd, env or {}, ran)
    return ran


def _checked(status: int, out: str, err: str) -> Ran:
    assert "Traceback" not in err, err
    check_hints(out, err)
    return Ran(status, out, err)


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _signal_handlers() -> Iterator[None]:
    hook = sys.unraisablehook
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _collection_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _captured(descriptor: int, name: str) -> Iterator[IO[bytes]]:
    """``sys.<name>`` and its file descriptor lead into the file that is yielded."""
    with ExitStack() as stack:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller reads it after the block
        getattr(sys, name).flush()
        saved = os.dup(descriptor)
        stack.callback(os.close, saved)
        os.dup2(file.fileno(), descriptor)
        stack.callback(os.dup2, saved, descriptor)
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = open(descriptor, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        stack.callback(stream.close)
        stack.enter_context(mock.patch.object(sys, name, stream))
        yield file


def _text(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return io.TextIOWrapper(file, "utf-8").read()
