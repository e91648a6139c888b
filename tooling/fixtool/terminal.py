"""Output: tables and colours on a terminal, plain text in a pipe, or one JSON document.

Everything that a command prints goes through this module, and each of its functions escapes what a
terminal, or the log of a job on GitHub, would obey, and leaves out the logins in addresses. So a
caller prints texts of files and hosts as they are.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from fixtool.errors import ExitCode, FixtoolError
from fixtool.progress import Progress, Silence, Task
from fixtool.text import escaped, printable, redact, split_lines

_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_COLOURS = {
    "clean": "green", "offset": "green", "merged": "cyan", "absorbed": "blue",
    "partly-absorbed": "blue", "superseded": "blue", "not-needed": "blue", "reverted": "yellow",
    "conflict": "bold red", "lacking": "bold red", "blocked": "yellow",
    "unchanged": "dim", "added": "green", "rewritten": "cyan", "removed": "yellow",
    "error": "bold red", "warning": "yellow",
}  # fmt: skip
_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
_DIFF = (
    ("diff --git ", "bold"), ("--- ", "bold"), ("+++ ", "bold"), ("index ", "bold"),
    ("@@ ", "cyan"), ("## ", "bold"), ("+", "green"), ("-", "red"),
)  # fmt: skip
"""The styles of the lines of a diff, by how they begin."""
_GAP = "  "  # between two columns


def document(command: str, exit_code: ExitCode, body: Mapping[str, Any]) -> str:
    """The JSON document of a command, as `schemas/output.json` describes it."""
    from fixtool.documents import SCHEMA  # few runs need it

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
    """Print ``rows`` under ``columns``. On a terminal the table is as wide as that: sentences are
    wrapped, and if even then a row does not fit, its cells stand below each other. A word, such as
    a path or a commit id, is never cut. In a pipe each row is one line."""
    columns, *rows = ([escaped(cell) for cell in row] for row in (columns, *rows))
    natural = [max(_width(row[n]) for row in [columns, *rows]) for n in range(len(columns))]
    if not sys.stdout.isatty():
        _draw(columns, rows, natural)
        return
    space = shutil.get_terminal_size().columns - len(_GAP) * (len(columns) - 1)
    least = [_longest_word([columns[n], *(row[n] for row in rows)]) for n in range(len(columns))]
    if sum(least) > space:
        _draw_below(columns, rows)
        return
    widths = list(natural)
    while sum(widths) > space:
        spare = max(range(len(widths)), key=lambda n: (widths[n] > least[n], widths[n]))
        widths[spare] -= 1
    _draw(columns, rows, widths)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    """Print a table whose columns are ``widths`` wide."""
    for row in [columns, *rows]:
        styles = ["bold"] * len(row) if row is columns else [_style(cell) for cell in row]
        wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            cells = [
                _coloured(part, style) + " " * (width - _width(part))
                for part, style, width in zip(parts, styles, widths, strict=True)
            ]
            print(_GAP.join(cells).rstrip())


def _draw_below(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the cells of each row below each other, each after the name of its column."""
    margin = max(map(_width, columns)) + len(_GAP)
    space = max(shutil.get_terminal_size().columns - margin, 1)
    for number, row in enumerate(rows):
        if number:
            print()
        for column, cell in zip(columns, row, strict=True):
            for at, part in enumerate(_wrapped(cell, space) if cell else ()):
                head = _coloured(column, "bold") + " " * (margin - _width(column))
                print((" " * margin if at else head) + _coloured(part, _style(cell)))


def _wrapped(cell: str, width: int) -> list[str]:
    """The lines of a cell, which are ``width`` wide where its words are not wider."""
    if _width(cell) <= width:
        return [cell]
    lines: list[str] = []
    for word in cell.split():
        if lines and _width(lines[-1]) + 1 + _width(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _longest_word(cells: Iterable[str]) -> int:
    return max((_width(word) for cell in cells for word in cell.split()), default=0)


def _width(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def _style(cell: str) -> str:
    """The style of a cell that holds one word with a meaning, perhaps with more in parentheses."""
    match = re.fullmatch(r"([a-z-]+)( \([^()]*\))?", cell)
    return _COLOURS.get(match[1], "") if match else ""


def _coloured(text: str, style: str, stream: TextIO | None = None) -> str:
    """``text`` in a ``style``, where ``stream``, or else stdout, shows colours."""
    codes = [str(_CODES[word]) for word in style.split()]
    shown = codes and text and _shows_colours(stream or sys.stdout)
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if shown else text


def _shows_colours(stream: TextIO) -> bool:
    """Whether colours go to ``stream``: https://no-color.org and https://force-color.org say which
    variables decide, and else a terminal shows them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def patch_text(text: str) -> None:
    """Print a patch, or a comparison of two, in colours and as it is, but with its control
    characters made visible."""
    in_diff = False
    for line in split_lines(printable(text.replace("\t", "    "))):
        changed = line.removeprefix("    ")  # `git range-diff` indents
        in_diff = in_diff or line.startswith("diff --git ") or changed.startswith(("@@ ", "## "))
        style = next((style for start, style in _DIFF if changed.startswith(start)), "")
        print(_coloured(line, style if in_diff else ""))


@contextmanager
def paged(page: Callable[[str], bool]) -> Iterator[None]:
    """What is printed in the block goes to ``page`` if stdout is a terminal. If that says that
    there is no pager, it is printed."""
    stdout = sys.stdout
    if not stdout.isatty():
        yield
        return
    held = _Held()
    try:
        with redirect_stdout(held):
            yield
    finally:
        if held.getvalue() and not page(held.getvalue()):
            stdout.write(held.getvalue())


class _Held(io.StringIO):
    """Text that is meant for a terminal."""

    def isatty(self) -> bool:
        return True


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
    lines[0] = lines[0].replace("error:", _coloured("error:", "bold red", sys.stderr), 1)
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
