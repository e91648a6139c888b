"""fixtool refresh"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode
from fixtool.text import count


def refresh(
    ctx: typer.Context,
    slug: Annotated[str | None, typer.Argument(metavar="[SLUG]")] = None,
    worktree: Annotated[
        Path | None,
        typer.Option("--worktree", metavar="DIR", help="The work tree (default: where you are)."),
    ] = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Write patch files anew from a work tree's commits: of one patch, or of all that changed.

    Example: fixtool refresh gemma4-fused-routing --worktree ~/sglang-patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import Change, export

    tree, record = open_worktree(worktree or Path.cwd())
    repository = options.start(ctx, directory or ctx.obj or Path(record.patches)).repository
    done = export(repository, tree, record, only=slug, dry_run=dry_run)
    if json:
        body = {"line": done.line, "folder": done.folder, "patches": done.patches,
                "series_changed": done.series_changed, "changed": done.changed}  # fmt: skip
        terminal.print_document("refresh", ExitCode.OK, body)
        return
    changed = [one for one in done.patches if one.change is not Change.UNCHANGED]
    for one in changed:
        terminal.say(f"{one.change.value:9} {one.slug}")
    verb = "would be written" if dry_run else "written"
    terminal.say(f"{count(len(changed), 'file')} {verb} in {done.folder}")
