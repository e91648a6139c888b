"""Output: tables and colours on a terminal, plain text in a pipe, or one JSON document.

Everything that a command prints goes through this module, and each of its functions escapes what a
terminal, or the log of a job on GitHub, would obey, and leaves out the logins in addresses. So a
caller prints texts of files and hosts as they are.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from fixtool.documents import SCHEMA
from fixtool.errors import ExitCode, FixtoolError
from fixtool.progress import Progress, Silence, Task
from fixtool.text import escaped, printable, redact

_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_COLOURS = {
    "clean": "green", "offset": "green", "merged": "cyan", "absorbed": "blue",
    "partly-absorbed": "blue", "superseded": "blue", "not-needed": "blue", "reverted": "yellow",
    "conflict": "bold red", "lacking": "bold red", "blocked": "yellow",
    "unchanged": "dim", "added": "green", "rewritten": "cyan", "removed": "yellow",
    "error": "bold red", "warning": "yellow",
}  # fmt: skip


def document(command: str, exit_code: ExitCode, body: Mapping[str, Any]) -> str:
    """The JSON document of a command, as `schemas/output.json` describes it."""
    head = {"schema": SCHEMA, "command": command, "ok": exit_code == ExitCode.OK}
    text = json.dumps({**head, "exit_code": int(exit_code), **body}, default=_plain, indent=2)
    if command != "show":  # it gives the patch as it is
        text = _JSON_TEXT.sub(_without_logins, text)
    return text.replace("##[", "#\\u0023[")  # the log of a job would take it for a command


def _without_logins(match: re.Match[str]) -> str:
    text = match[0]
    return json.dumps(redact(json.loads(text))) if re.search(r"@|%40|=", text) else text


def print_document(command: str, exit_code: ExitCode, body: Mapping[str, Any]) -> None:
    print(document(command, exit_code, body))


def fields(value: object, *names: str) -> dict[str, Any]:
    """The attributes ``names`` of ``value``, as keys of a JSON document."""
    return {name: getattr(value, name) for name in names}


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line of a command's answer, or a few, on stdout or stderr."""
    print(escaped(text), file=sys.stderr if err else sys.stdout)


def command(text: str, *, err: bool = False) -> None:
    """Print a command for GitHub Actions, which is one line and was escaped when it was made."""
    shown = printable(redact(text)).replace("\n", " ").replace("##[", "## [")
    print(shown, file=sys.stderr if err else sys.stdout)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` under ``columns``: with colours on a terminal, as aligned text in a pipe."""
    columns, *rows = ([escaped(cell) for cell in row] for row in (columns, *rows))
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(header_style="bold", box=None, pad_edge=False)
        for column in columns:
            drawn.add_column(Text(column))  # a plain string would be read as markup
        for row in rows:
            drawn.add_row(*(Text(cell, style=_colour(cell)) for cell in row))
        Console().print(drawn)
        return
    widths = [max(len(row[n]) for row in [columns, *rows]) for n in range(len(columns))]
    for row in [columns, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _colour(cell: str) -> str:
    """The style of a cell that holds one word with a meaning, perhaps with more in parentheses."""
    match = re.fullmatch(r"([a-z-]+)( \([^()]*\))?", cell)
    return _COLOURS.get(match[1], "") if match else ""


def patch_text(text: str) -> None:
    """Print a patch in colours and as it is, but with its control characters made visible."""
    from rich.console import Console
    from rich.syntax import Syntax

    shown = printable(text.replace("\t", "    "))
    Console().print(Syntax(shown, "diff", background_color="default", word_wrap=False))


def failure(error: FixtoolError, command: str, *, as_json: bool) -> None:
    """Print one message that says what is wrong, where, and what to do about it: on stderr, or as
    the JSON document of ``command``."""
    if as_json:
        body = {"error": {"message": error.message, "where": error.where, "hint": error.hint}}
        print_document(command, error.exit_code, body)
        return
    lines = [f"error: {escaped(error.message)}"]
    if error.where:
        lines.append(f"   at: {escaped(error.where)}")
    if error.hint:
        lines.append(f"  try: {escaped(error.hint)}")
    if sys.stderr.isatty():
        lines[0] = lines[0].replace("error:", "\x1b[1;31merror:\x1b[0m", 1)
    print("\n".join(lines), file=sys.stderr)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {escaped(text)}", file=sys.stderr)


def progress(*, quiet: bool) -> Progress:
    """Progress bars if stderr is a terminal and not ``quiet``; else nothing is shown."""
    return Silence() if quiet or not sys.stderr.isatty() else _Bars()


class _Bars:
    def task(
        self, label: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        return _bar(label, total, unit)


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Task]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns: list[rich_progress.ProgressColumn] = [
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
    ]
    if total:
        columns.append(rich_progress.BarColumn())
        columns.append(
            rich_progress.DownloadColumn() if unit == "B" else rich_progress.MofNCompleteColumn()
        )
    columns.append(rich_progress.TimeElapsedColumn())
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        number = bars.add_task(escaped(label), total=total)

        class _Bar:
            def advance(self, amount: int) -> None:
                bars.advance(number, amount)

        yield _Bar()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return fields(value, *(field.name for field in dataclasses.fields(value)))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
