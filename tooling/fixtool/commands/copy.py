"""fixtool copy"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from fixtool.commands import editing, options
from fixtool.errors import UsageError


def copy(
    ctx: typer.Context,
    slug: editing.Slug = None,
    to: Annotated[
        str | None, Option("--to", metavar="LINE", help="The line that gets the patch.")
    ] = None,
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
    """Copy a patch to another line.

    It is merged three-way onto the base of that line, and comes last there, without --before or
    --after. On a conflict, patches/ stays as it is and a
    work tree waits: --continue or --abort.

    Example: fixtool copy logging --line main --to v0.5.23
    """
    from fixtool.edit.plans import copied

    if slug and not (to or go_on or abort):
        raise UsageError("--to is missing: the line that gets the copy", hint="--to LINE")
    editing.require_one(bool(slug and to), go_on, abort, "SLUG with --to LINE",
                        "fixtool copy SLUG --to LINE")  # fmt: skip
    edit = editing.Edit(ctx, "copy", directory, line, source, json=json)
    if slug is None or to is None:
        edit.go_on(abort=abort)
    other = edit.line
    patch, place = other.find(slug), editing.at(before, after)
    edit.name = to
    wanted = edit.options(f"copy {patch.slug} from {other.name}", dry_run=dry_run,
                          no_commit=no_commit)  # fmt: skip
    edit.run(wanted, lambda objects, own: copied(
        own, edit.series_of(objects, other, patch.slug), patch.slug, place))  # fmt: skip
