"""fixtool squash"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from fixtool.commands import editing, options


def squash(
    ctx: typer.Context,
    slugs: Annotated[
        list[str] | None, Argument(metavar="[SLUG...]", help="The patches, two or more.")
    ] = None,
    name: Annotated[
        str | None, Option("--name", metavar="NAME", help="The name (default: the first one's).")
    ] = None,
    message: editing.Message = None,
    file: editing.File = None,
    source: options.Source = None,
    line: options.LineName = None,
    go_on: editing.GoOn = False,
    abort: editing.Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Make one patch of several, at the place of the first of them in the series.

    The messages are joined, each trailer stands there once, and other authors are named by
    Co-authored-by. The series makes the same tree as before.

    Example: fixtool squash logging logging-test -m "log: say which expert was chosen"
    """
    from fixtool.edit.plans import squash_subject, squashed

    editing.require_one(bool(slugs), go_on, abort, "SLUG SLUG", "fixtool squash SLUG SLUG")
    edit = editing.Edit(ctx, "squash", directory, line, source, json=json)
    if not slugs:
        edit.go_on(abort=abort)
    text = editing.message_from(message, file)
    wanted = edit.options(squash_subject(slugs), dry_run=dry_run, no_commit=no_commit)
    root = edit.context.repository.root
    edit.run(wanted, lambda objects, own: squashed(objects, own, root, slugs, name, text))
