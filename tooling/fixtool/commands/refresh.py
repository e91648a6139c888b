"""fixtool refresh"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.export import body
from fixtool.errors import ExitCode
from fixtool.text import count


def refresh(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[SLUG]", help="The patch (default: all that changed).")
    ] = None,
    worktree: options.Worktree = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Write one patch file, or all that changed, again from a work tree's commits.

    Example: fixtool refresh gemma4-fused-routing --worktree ~/patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import Change, export

    tree, record = open_worktree(worktree or Path.cwd())
    repository = options.start(ctx, directory or ctx.obj or Path(record.patches)).repository
    exported = export(repository, tree, record, only=slug, dry_run=dry_run)
    if json:
        terminal.print_document("refresh", ExitCode.OK, body(exported))
        return
    changed = [file for file in exported.patches if file.change is not Change.UNCHANGED]
    for file in changed:
        terminal.say(f"{file.change.value:9} {file.slug}")
    verb = "would be written" if dry_run else "written"
    terminal.say(f"{count(len(changed), 'file')} {verb} in {exported.folder}")
