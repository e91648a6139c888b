"""Makes the report of a line, or of all lines: one HTML page, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fixtool.history.result import History
from fixtool.report import page
from fixtool.report._files import write_together
from fixtool.report._inputs import ReportRequest, gather
from fixtool.report.nights import read_nights
from fixtool.report.todo import ToDo, find_todos
from fixtool.series.context import Context
from fixtool.series.line import Line

__all__ = ["ReportRequest", "WrittenReport", "report", "report_nights"]


@dataclass(frozen=True)
class WrittenReport:
    """The two files of a report, and what it asks of a person. ``line`` is None if the report is
    about all lines."""

    line: str | None
    html: Path
    markdown: Path
    todos: tuple[ToDo, ...]


def report(
    context: Context, request: ReportRequest, trace: Callable[[Line], History]
) -> WrittenReport:
    """Make the report that ``request`` describes. If it names no history, ``trace`` makes one.

    Raises UsageError if an input is missing, and Refused if an input is not what it should be or
    something else than a file is in the way of the output.
    """
    inputs = gather(context, request, trace)
    html, markdown = _write(request.output, page.html(inputs), page.markdown(inputs))
    return WrittenReport(inputs.line, html, markdown, find_todos(inputs))


def report_nights(context: Context, nights: Path, output: Path) -> WrittenReport:
    """Make the report of all lines over the nights in the folder ``nights``.

    Raises UsageError if there is no such folder, and Refused if it is not what it should be or
    something else than a file is in the way of the output.
    """
    inputs = read_nights(context, nights)
    html, markdown = _write(output, page.nights_html(inputs), page.nights_markdown(inputs))
    return WrittenReport(None, html, markdown, tuple(todo for _, todo in inputs.todos))


def _write(output: Path, html: str, markdown: str) -> tuple[Path, Path]:
    """Write both texts into the folder ``output``; return the paths of the two files."""
    paths = output / "report.html", output / "report.md"
    write_together(output, {paths[0].name: html, paths[1].name: markdown})
    return paths
