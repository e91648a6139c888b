"""fixtool new"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument

from fixtool.commands import editing, options


def new(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[NAME]", help="The name of the new patch.")
    ] = None,
    message: editing.Message = None,
    file: editing.File = None,
    before: editing.Before = None,
    after: editing.After = None,
    source: options.Source = None,
    line: options.LineName = None,
    go_on: editing.GoOn = False,
    abort: editing.Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Begin a patch: open a work tree at its place in the series, for you to make the change.

    Change the files there and git add new ones. Then --continue writes the patch, with the message
    of -m, or that of a commit which you made there. Without --before or --after, it comes last.

    Example: fixtool new log-level -m "server: log the level" --after logging
    """
    from fixtool.edit.plans import with_new
    from fixtool.edit.waiting import stop_at
    from fixtool.series.commit import author_of

    editing.require_one(bool(slug), go_on, abort, "NAME", "fixtool new NAME -m MESSAGE")
    run = editing.Edit(ctx, "new", directory, line, source, json=json)
    if slug is None:
        run.go_on(abort=abort)
    text = editing.message_from(message, file)
    chosen, where = run.line, editing.at(before, after)
    author = author_of(run.context.repository.root)
    name = slug.removesuffix(".patch")
    wanted = run.options(f"new patch {name}", dry_run=dry_run, no_commit=no_commit)
    place = run.place(chosen, source)
    run.answer(stop_at(run.context, chosen, place, wanted,
                       lambda own: with_new(own, name, where, text, author)))  # fmt: skip
