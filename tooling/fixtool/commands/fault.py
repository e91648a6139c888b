"""Faults of fixtool's own: exceptions that nobody expected. The user sees one message, and the
traceback is kept in a file for the person who mends the fault."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from fixtool import __version__, terminal
from fixtool.errors import ExitCode, FixtoolError
from fixtool.files import private_folder
from fixtool.text import redact, shortened


class Fault(FixtoolError):
    exit_code = ExitCode.INTERNAL


def report_fault(error: Exception, command: str, *, as_json: bool) -> ExitCode:
    """Say that ``error`` ended the verb ``command``, and keep its traceback in the state folder; if
    that is impossible, print it on stderr after the message. Return the exit code."""
    message = shortened(f"fixtool has a fault of its own: {_summary(error)}", 540)
    text = _traceback(error)
    try:
        path = _keep(text, command)
    except Exception as trouble:  # a second fault must not hide the first
        hint = f"send the traceback on stderr with a report (it could not be kept: {trouble})"
        terminal.failure(Fault(message, hint=hint), command, as_json=as_json)
        terminal.say(text.rstrip("\n"), err=True)
    else:
        hint = "send this file with a report: it holds the command line and the traceback"
        terminal.failure(Fault(message, where=str(path), hint=hint), command, as_json=as_json)
    return ExitCode.INTERNAL


def _summary(error: Exception) -> str:
    """The exception's name and message, in one line."""
    lines = traceback.format_exception_only(error)  # a SyntaxError begins with indented lines
    return " ".join(next(line for line in lines if not line.startswith(" ")).split())


def _traceback(error: Exception) -> str:
    """The versions, the command line and the traceback, without logins in addresses."""
    lines = [
        f"fixtool {__version__}",
        f"Python {platform.python_version()}, {platform.platform()}",
        f"$ {shlex.join(['fixtool', *sys.argv[1:]])}",
        "",
        *traceback.format_exception(error),
    ]
    return redact("\n".join(map(str.rstrip, lines)) + "\n")


def _keep(text: str, command: str) -> Path:
    from fixtool.settings import state_folder

    folder = private_folder(state_folder(os.environ) / "faults")
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{command}-{os.getpid()}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return path
