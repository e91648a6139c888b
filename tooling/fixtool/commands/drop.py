"""fixtool drop"""

from __future__ import annotations

from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def drop(
    ctx: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it can go.")],
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Take a patch out of a line; its file stays on the line's shelf, with the reason.

    Example: fixtool drop gemma4-mtp-pp-group --reason "upstream sets it since #26026"
    """
    from fixtool.edit.drop import drop as run

    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    place = options.open_base(context, chosen, source)
    done = run(context.repository, chosen, place.repo, place.base, slug, reason)
    if json:
        terminal.print_document("drop", ExitCode.OK, {"dropped": done})
        return
    terminal.say(f"dropped   {done.slug} from {done.line}; it lies in {done.file}")
    for one in done.rewritten:
        terminal.say(f"rewritten {one}")
    if done.committed:
        terminal.say(f"committed {done.committed[:12]} in the patch repository")
