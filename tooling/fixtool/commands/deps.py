"""fixtool deps"""

from __future__ import annotations

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def deps(
    ctx: typer.Context,
    slugs: options.Slugs = None,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Find out, by applying them, which patches each patch needs and what breaks without it.

    Example: fixtool deps --line b0ce16d0c
    """
    from fixtool.replay.dependencies import dependencies

    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    wanted = {chosen.find(slug).slug for slug in slugs or ()}
    base = options.open_base(context, chosen, source)
    patches = [
        needs
        for needs in dependencies(base.repo, chosen, base.base)
        if not wanted or needs.slug in wanted
    ]
    if json:
        terminal.print_document("deps", ExitCode.OK, {"line": chosen.name, "patches": patches})
        return
    rows = [
        (needs.slug, *(", ".join(slugs) for slugs in (needs.derived, needs.declared, needs.breaks)))
        for needs in patches
    ]
    terminal.table(("patch", "needs (found)", "needs (declared)", "breaks without it"), rows)
