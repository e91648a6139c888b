"""fixtool refresh"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.export import body, show_conflicts, show_notes
from fixtool.errors import ExitCode
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.edit.export import Exported


def refresh(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[SLUG]", help="The patch (default: all that changed).")
    ] = None,
    worktree: options.Worktree = None,
    pair: options.Pair = None,
    ours: options.Ours = False,
    theirs: options.Theirs = False,
    commit: options.Commit = True,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Write one patch file, or all that changed, again from a work tree's commits.

    What somebody has changed in the line since the work tree was made is merged; if it cannot be,
    both sides are shown and nothing is written.

    Example: fixtool refresh gemma4-fused-routing --worktree ~/patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import ExportOptions, export

    tree, record = open_worktree(worktree or Path.cwd())
    repository = options.start(ctx, directory or ctx.obj or Path(record.patches)).repository
    exported = export(repository, tree, record, ExportOptions(
        only=slug, pairs=options.read_pairs(pair),
        favour=options.read_favour(ours=ours, theirs=theirs), commit=commit, dry_run=dry_run,
        command="refresh",
    ))  # fmt: skip
    exit_code = ExitCode.CONFLICT if exported.conflicts else ExitCode.OK
    if json:
        terminal.print_document("refresh", exit_code, body(exported))
    elif exported.conflicts:
        show_conflicts(exported, tree.work_tree, options.typed(ctx))
    else:
        _show(exported, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def _show(exported: Exported, *, dry_run: bool) -> None:
    changed = [file for file in exported.patches if file.change.value not in ("unchanged", "newer")]
    for file in changed:
        terminal.say(f"{file.change.value:9} {file.slug}")
    verb = "would be written" if dry_run else "written"
    terminal.say(f"{count(len(changed), 'file')} {verb} in {exported.folder}")
    show_notes(exported)
