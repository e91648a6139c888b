"""fixtool lint"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.retype import complete
from fixtool.errors import ExitCode, Mistyped, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.series.context import Context
    from fixtool.series.line import Line
    from fixtool.series.lint import Finding, Trailers


Drift = Annotated[
    bool,
    Option("--drift", help="Also apply each line on its base, and check the recorded facts."),
]
Strict = Annotated[bool, Option("--strict", help="A warning fails the check too.")]
AboutTrailers = Annotated[
    str,
    Option(
        "--trailers",
        metavar="once|each|never",
        help="Tell of missing trailers once a line, for each patch, or never.",
    ),
]


def lint(
    ctx: typer.Context,
    line: options.LineName = None,
    source: options.Source = None,
    drift: Drift = False,
    strict: Strict = False,
    trailers: AboutTrailers = "once",
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Check that every line is well formed.

    Each finding says where it is and how to mend it.

    Example: fixtool lint --drift --source pypi --line v0.5.23
    """
    from fixtool.series.lint import Trailers

    if trailers not in list(Trailers):
        raise UsageError(
            f"--trailers {trailers!r} is none of {', '.join(Trailers)}",
            hint="--trailers once",
            mistyped=Mistyped(trailers, tuple(Trailers)),
        )
    context = options.start(ctx, directory)
    repository = context.repository
    lines = [repository.line(line)] if line else list(repository.lines)
    about = Trailers(trailers)
    findings = [
        replace(finding, fix=complete(finding.fix, context.typed))
        for line in lines for finding in _check(context, line, source, about, drift=drift)
    ]  # fmt: skip
    levels = {finding.level.value for finding in findings}
    failing = "error" in levels or (strict and "warning" in levels)
    exit_code = ExitCode.REFUSED if failing else ExitCode.OK
    if json:
        terminal.print_document("lint", exit_code, {"findings": findings, "lines": len(lines)})
    else:
        _show(lines, findings)
    raise typer.Exit(int(exit_code))


def _check(
    context: Context, line: Line, source: str | None, trailers: Trailers, *, drift: bool
) -> tuple[Finding, ...]:
    from fixtool.series.lint import Level, lint

    findings = lint(line, trailers)
    if drift and not any(finding.level is Level.ERROR for finding in findings):
        from fixtool.series.facts import fact_trailers
        from fixtool.series.lint import drift as find_drift

        name = "pypi" if line.upstream.release else source
        base = options.open_base(context, line, name)
        findings += find_drift(base.repo, line, base.base)
        if any(fact_trailers(patch) for patch in line.patches):
            from fixtool.history.fact_check import check_facts  # a series without facts needs none

            findings += check_facts(context, line, source)
    return findings


def _show(lines: Sequence[Line], findings: Sequence[Finding]) -> None:
    for finding in findings:
        what = f"{finding.level.value}: {finding.message} [{finding.rule}]"
        terminal.say(f"{finding.where}: {what}")
        terminal.say(f"    {finding.fix}")
    patches = count(sum(len(line.entries) for line in lines), "patch")
    notes = sum(finding.level.value == "note" for finding in findings)
    total = count(len(findings) - notes, "finding") + (f", {count(notes, 'note')}" if notes else "")
    terminal.say(f"{patches} in {count(len(lines), 'line')}: {total}")
