"""fixtool deps"""

from __future__ import annotations

from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def deps(
    ctx: typer.Context,
    slugs: Annotated[list[str] | None, typer.Argument(metavar="[SLUG...]")] = None,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Say which earlier patches each one needs, and what breaks if it goes, by applying them.

    Example: fixtool deps --line b0ce16d0c
    """
    from fixtool.replay.dependencies import dependencies

    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    wanted = {chosen.find(slug).slug for slug in slugs or ()}
    place = options.open_base(context, chosen, source)
    found = [
        one
        for one in dependencies(place.repo, chosen, place.base)
        if not wanted or one.slug in wanted
    ]
    if json:
        terminal.print_document("deps", ExitCode.OK, {"line": chosen.name, "patches": found})
        return
    terminal.table(
        ("patch", "needs, by its text", "needs, as it says", "without it, these break"),
        [
            (one.slug, ", ".join(one.derived), ", ".join(one.declared), ", ".join(one.breaks))
            for one in found
        ],
    )
