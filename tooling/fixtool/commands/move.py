"""fixtool move"""

from __future__ import annotations

import typer

from fixtool.commands import editing, options
from fixtool.errors import UsageError


def move(
    ctx: typer.Context,
    slug: editing.Slug = None,
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
    """Move a patch to another place in the series, which makes the same tree as before.

    On a conflict, patches/ stays as it is and a work tree waits: --continue or --abort.

    Example: fixtool move logging --before server-args
    """
    from fixtool.edit.plans import moved

    if slug and not (before or after or go_on or abort):
        raise UsageError(
            "--before or --after is missing: where the patch goes",
            hint="before another patch: --before SLUG; or after it: --after SLUG",
        )
    editing.require_one(bool(slug and (before or after)), go_on, abort,
                        "SLUG with --before or --after",
                        "fixtool move SLUG --before SLUG")  # fmt: skip
    edit = editing.Edit(ctx, "move", directory, line, source, json=json)
    if slug is None:
        edit.go_on(abort=abort)
    slug, place = slug.removesuffix(".patch"), editing.at(before, after)
    wanted = edit.options(f"move {slug} {place.words}", dry_run=dry_run, no_commit=no_commit)
    edit.run(wanted, lambda objects, own: moved(objects, own, slug, place))
