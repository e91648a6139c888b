"""fixtool lint"""

from __future__ import annotations

from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode
from fixtool.text import count, printable


def lint(
    ctx: typer.Context,
    line: options.LineName = None,
    source: options.Source = None,
    drift: Annotated[
        bool,
        typer.Option("--drift", help="Also apply each line on its base and compare every byte."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A warning fails the check too.")
    ] = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Check that every line is well formed.

    Each finding says where, and how to mend it.

    Example: fixtool lint --drift --source pypi --line v0.5.23
    """
    from fixtool.series.lint import Finding, Level
    from fixtool.series.lint import drift as check_drift
    from fixtool.series.lint import lint as check
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base

    context = options.start(ctx, directory)
    repository, settings, progress = context.repository, context.settings, context.progress
    lines = [repository.line(line)] if line else list(repository.lines)
    findings: list[Finding] = []
    for one in lines:
        found = check(one)
        if drift and not any(each.level is Level.ERROR for each in found):
            name = "pypi" if one.upstream.release else source or settings.source
            opened = open_source(name, settings, settings.url or one.upstream.url, progress)
            base = bring_base(opened, one.upstream, settings, progress)
            found += check_drift(opened.repo, one, base)
        findings += found
    failing = [one for one in findings if strict or one.level is Level.ERROR]
    exit_code = ExitCode.REFUSED if failing else ExitCode.OK
    if json:
        terminal.print_document("lint", exit_code, {"findings": findings, "lines": len(lines)})
    else:
        for finding in findings:
            terminal.say(
                f"{finding.where}: {finding.level.value}: "
                f"{printable(finding.message)} [{finding.rule}]"
            )
            terminal.say(f"    {finding.fix}")
        patches = sum(len(each.entries) for each in lines)
        counts = ((patches, "patch"), (len(lines), "line"), (len(findings), "finding"))
        terminal.say("{} in {}: {}".format(*(count(*one) for one in counts)))
    raise typer.Exit(int(exit_code))
