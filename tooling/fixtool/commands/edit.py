"""fixtool edit"""

from __future__ import annotations

import typer

from fixtool.commands import editing, options


def edit(
    ctx: typer.Context,
    slug: editing.Slug = None,
    source: options.Source = None,
    line: options.LineName = None,
    go_on: editing.GoOn = False,
    abort: editing.Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Open a patch in a work tree, for you to change its files or its message.

    Change the files there; git commit --amend changes the message. Then --continue writes the
    patch, and the later ones follow by a three-way merge. --continue and --abort are also for an
    edit that another verb left waiting: new, move, squash, copy or restore.

    Example: fixtool edit logging
    """
    from fixtool.edit.plans import amended
    from fixtool.edit.waiting import stop_at

    editing.require_one(bool(slug), go_on, abort, "SLUG", "fixtool edit SLUG")
    run = editing.Edit(ctx, "edit", directory, line, source, json=json)
    if slug is None:
        run.go_on(abort=abort)
    chosen = run.line
    patch = chosen.find(slug)
    wanted = run.options(f"edit {patch.slug}", dry_run=dry_run, no_commit=no_commit)
    place = run.place(chosen, source)
    run.answer(stop_at(run.context, chosen, place, wanted, lambda own: amended(own, patch.slug)))
