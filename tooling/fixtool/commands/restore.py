"""fixtool restore"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fixtool.commands import editing, options

if TYPE_CHECKING:
    from fixtool.edit.sequence import OwnSeries, Plan
    from fixtool.git.database import ObjectDatabase


def restore(
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
    """Bring a patch back from the shelf of its line, to where it stood before.

    It is merged three-way if the line has changed since. On a conflict, patches/ stays as it is and
    a work tree waits: --continue or --abort.

    Example: fixtool restore logging
    """
    from fixtool.edit.restoring import find_shelved, old_place, restored
    from fixtool.series.commit import open_git

    editing.require_one(bool(slug), go_on, abort, "SLUG", "fixtool restore SLUG")
    edit = editing.Edit(ctx, "restore", directory, line, source, json=json)
    if slug is None:
        edit.go_on(abort=abort)
    name, place = slug.removesuffix(".patch"), editing.at(before, after)
    root = edit.context.repository.root
    wanted = edit.options(f"restore {name}", dry_run=dry_run, no_commit=no_commit)

    def plan(objects: ObjectDatabase, own: OwnSeries) -> Plan:
        shelved = find_shelved(own.line, name)
        edit.bring_shelved(own.line, shelved)
        where = place if place.slug else old_place(open_git(root), own.line, name)
        return restored(objects, own, name, where)

    edit.run(wanted, plan)
