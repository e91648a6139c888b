"""fixtool history"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.history.releases import ReleaseMatrix
    from fixtool.history.result import History
    from fixtool.series.context import Context
    from fixtool.series.line import Line


def history(
    ctx: typer.Context,
    slugs: Annotated[list[str] | None, typer.Argument(metavar="[SLUG...]")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="REF", help="The first commit (default: the line's base)."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="REF", help="The last commit (default: main).")
    ] = None,
    releases: Annotated[
        str | None,
        typer.Option("--releases", metavar="A..B", help="Releases of the package index as well."),
    ] = None,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Say, for each patch, on which upstream commits it applied, and whose commit ended that.

    Every first-parent commit is judged. With --releases alone, only releases are.

    Example: fixtool history gemma4-fused-routing --to main --source ~/sglang
    """
    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    for slug in slugs or ():
        chosen.find(slug)
    found = None
    if releases is None or from_ or to:
        found = trace_line(context, chosen, source, from_, to)
    matrix = None
    if releases:
        matrix = _matrix(context, chosen, source, releases)
    wanted = {slug.removesuffix(".patch") for slug in slugs or ()}
    if json:
        terminal.print_document("history", ExitCode.OK, body(chosen.name, found, matrix, wanted))
        return
    if found:
        _tell(found, wanted, verbose=verbose)
    if matrix:
        terminal.table(
            ("patch", *matrix.versions),
            [
                (row.slug, *(cell.verdict.value for cell in row.cells))
                for row in matrix.patches
                if not wanted or row.slug in wanted
            ],
        )


def trace_line(
    context: Context, line: Line, source: str | None, start: str | None, end: str | None
) -> History:
    """The history of ``line``, from a source that has upstream's commits."""
    from fixtool.history.trace import trace
    from fixtool.sources.target import TargetRequest, find_target

    if (source or context.settings.source) == "pypi":
        raise UsageError(
            "releases have no commits between them",
            hint="fixtool history --releases 0.5.12..0.5.23",
        )
    place, last = find_target(context, TargetRequest(end or "main", source, line.name))
    first = place.resolve(start).commit if start else line.upstream.base
    return trace(context, place, line, first, last.commit)


def _matrix(context: Context, line: Line, source: str | None, span: str) -> ReleaseMatrix:
    from fixtool.history.releases import matrix
    from fixtool.sources.source import open_source

    settings, progress = context.settings, context.progress
    name = source or settings.source
    return matrix(
        line, span, settings, progress,
        lambda: open_source(
            name if name != "pypi" else "git", settings, settings.url or line.upstream.url, progress
        ),
    )  # fmt: skip


def body(
    line: str, found: History | None, matrix: ReleaseMatrix | None, wanted: set[str]
) -> dict[str, Any]:
    """The JSON document, less its head."""
    return {
        "line": line,
        "start": found and found.start,
        "end": found and found.end,
        "commits": found.commits if found else 0,
        "judged": found.judged if found else 0,
        "reused": found.reused if found else 0,
        "patches": [
            one for one in (found.patches if found else ()) if not wanted or one.slug in wanted
        ],
        "releases": matrix
        and {
            "versions": matrix.versions,
            "patches": [one for one in matrix.patches if not wanted or one.slug in wanted],
        },
    }


def _tell(found: History, wanted: set[str], *, verbose: bool) -> None:
    terminal.say(f"line      {found.line}")
    terminal.say(
        f"commits   {found.commits}, {found.start[:12]} to {found.end[:12]}; "
        f"{count(found.judged, 'state')} judged, {found.reused} known from before"
    )
    rows = []
    for patch in found.patches:
        if wanted and patch.slug not in wanted:
            continue
        for number, run in enumerate(patch.intervals):
            by = run.culprit
            rows.append((
                patch.slug if number == 0 else "", run.verdict.value, str(run.count),
                run.first.sha[:12], run.first.date[:10],
                f"{by.subject} ({by.author})" if by else "",
            ))  # fmt: skip
            if verbose:
                rows += [("", "", "", "", "", f"  {why}") for why in run.evidence]
    terminal.say()
    terminal.table(("patch", "verdict", "commits", "from", "date", "by"), rows)
