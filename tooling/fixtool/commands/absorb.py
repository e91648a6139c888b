"""fixtool absorb"""

from __future__ import annotations

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.refresh import finish
from fixtool.errors import ExitCode
from fixtool.text import argument


def absorb(
    ctx: typer.Context,
    worktree: options.Worktree = None,
    ours: options.Ours = False,
    theirs: options.Theirs = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Put each uncommitted edit of a work tree into the patch that last changed its lines.

    What belongs to no patch, or to several, stays uncommitted and is told. So does what conflicts
    with a later patch.

    Example: fixtool absorb --worktree ~/patched --dry-run
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import ExportOptions
    from fixtool.edit.refresh import absorb as run

    tree, record = open_worktree(worktree or options.here(ctx, directory))
    context = options.start_of(ctx, directory, record)
    exported = run(context, tree, record, ExportOptions(
        favour=options.read_favour(ours=ours, theirs=theirs), commit=not no_commit, dry_run=dry_run,
        command="absorb",
    ))  # fmt: skip
    if not exported.edits and not exported.patches and not json:
        terminal.say(f"there is nothing to absorb: no edit is uncommitted in {tree.work_tree}")
        if tree.head() != record.commit:
            terminal.say("its commits are not in the patches yet")
            where = argument(tree.work_tree)
            options.say_next(f"fixtool export --worktree {where}", options.typed(ctx))
        raise typer.Exit(int(ExitCode.OK))
    finish(ctx, "absorb", exported, tree.work_tree, record, json=json, dry_run=dry_run)
