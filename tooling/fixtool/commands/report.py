"""fixtool report"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from fixtool.report.run import WrittenReport


def report(
    ctx: typer.Context,
    line: options.LineName = None,
    history: Annotated[
        Path | None,
        Option(
            "--history", metavar="FILE", help="What `history --json` printed (default: made now)."
        ),
    ] = None,
    rebase: Annotated[
        Path | None,
        Option("--rebase", metavar="FILE", help="What `rebase --json` printed."),
    ] = None,
    coverage: Annotated[
        Path | None,
        Option("--coverage", metavar="FILE", help="What `coverage --json` printed."),
    ] = None,
    results: Annotated[
        Path | None,
        Option("--results", metavar="DIR", help="Kept results (default: verify/results)."),
    ] = None,
    plot: Annotated[
        Path | None,
        Option("--plot", metavar="PNG", help="A plot of the kernel (default: the newest)."),
    ] = None,
    nights: Annotated[
        Path | None,
        Option("--nights", metavar="DIR", help="All lines over the nights that lie there."),
    ] = None,
    output: Annotated[
        Path, Option("--output", metavar="DIR", help="The folder for the two files.")
    ] = Path("fixtool-report"),
    source: options.Source = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Make a report of a line, as an HTML page and in Markdown, that begins with what a person has
    to do. With --nights, it is about all lines and the nights that `ci/nightly` kept.

    Example: fixtool report --history history.json --rebase rebase.json --output public
    """
    from fixtool.commands.history import trace_line
    from fixtool.files import require_folder
    from fixtool.report.run import ReportRequest, report_nights
    from fixtool.report.run import report as make_report

    context = options.start(ctx, directory)
    require_folder(output, "--output")
    of_one_line = {
        "--line": line, "--history": history, "--rebase": rebase, "--coverage": coverage,
        "--results": results, "--plot": plot, "--source": source,
    }  # fmt: skip
    if nights is None:
        request = ReportRequest(output, line, history, rebase, results, plot, coverage)
        written = make_report(
            context, request, lambda line: trace_line(context, line, source, None, None)
        )
    elif given := [option for option, value in of_one_line.items() if value]:
        raise UsageError(
            "--nights makes a report of all lines: leave out what is about one line",
            hint=f"the same command without {given[0]}",
        )
    else:
        written = report_nights(context, nights, output)
    if json:
        terminal.print_document("report", ExitCode.OK, _body(written))
    else:
        _show(written, context.typed)


def _body(written: WrittenReport) -> dict[str, Any]:
    todos = [terminal.fields(todo, "act", "patch", "what", "why", "next") for todo in written.todos]
    paths = {"html": written.html.resolve(), "markdown": written.markdown.resolve()}
    return {"line": written.line, "report": {**paths, "needs_person": todos}}


def _show(written: WrittenReport, typed: Sequence[str]) -> None:
    terminal.say(f"html      {written.html}")
    terminal.say(f"markdown  {written.markdown}")
    for todo in written.todos:
        terminal.say(f"{'to do' if todo.act else 'look':<9} {todo.what}")
        if todo.next:
            options.say_next(todo.next, typed)
    if not written.todos:
        terminal.say("nothing needs a person")
