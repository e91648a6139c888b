"""Makes the report of a line: one HTML page, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fixtool.history.result import History
from fixtool.report import page
from fixtool.report._files import write_together
from fixtool.report._inputs import ReportRequest, gather
from fixtool.report.todo import ToDo, find_todos
from fixtool.series.context import Context
from fixtool.series.line import Line

__all__ = ["ReportRequest", "WrittenReport", "report"]


@dataclass(frozen=True)
class WrittenReport:
    """The two files of the report of ``line``, and what it asks of a person."""

    line: str
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
    html, markdown = request.output / "report.html", request.output / "report.md"
    texts = {html.name: page.html(inputs), markdown.name: page.markdown(inputs)}
    write_together(request.output, texts)
    return WrittenReport(inputs.line, html, markdown, find_todos(inputs))
