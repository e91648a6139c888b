"""fixtool drop"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import editing, options
from fixtool.errors import ExitCode


def drop(
    ctx: typer.Context,
    slug: options.Slug,
    reason: Annotated[
        str, Option("--reason", metavar="TEXT", help="Why the line no longer needs it.")
    ],
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Take a patch out of a line. Its file stays on the line's shelf, with the reason.

    Example: fixtool drop gemma4-mtp-pp-group --reason "upstream sets it since #26026"
    """
    from fixtool.edit.drop import drop as run

    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    place = editing.place_of(options.open_base(context, chosen, source, files=False))
    dropped = run(context, chosen, place, slug, reason, dry_run=dry_run, commit=not no_commit)
    if json:
        terminal.print_document("drop", ExitCode.OK, {"dropped": dropped})
        return
    would = "would lie" if dry_run else "lies"
    terminal.say(f"dropped   {dropped.slug} from {dropped.line}; it {would} in {dropped.file}")
    for rewritten in dropped.rewritten:
        terminal.say(f"rewritten {rewritten}")
    if dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif dropped.committed:
        options.say_committed(dropped.committed)
    else:
        options.say_not_committed(dropped.file.parent.parent)
