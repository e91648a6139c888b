"""fixtool export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def export(
    ctx: typer.Context,
    worktree: Annotated[
        Path | None,
        typer.Option("--worktree", metavar="DIR", help="The work tree (default: where you are)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write here instead of into the line."),
    ] = None,
    remove_missing: Annotated[
        bool,
        typer.Option("--remove-missing", help="Patches without a commit leave the series."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if anything would change.")
    ] = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Turn a work tree's commits back into patch files.

    Only files that changed are written, and all of them or none.

    Example: fixtool export --worktree ~/sglang-patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import Change
    from fixtool.edit.export import export as run

    tree, record = open_worktree(worktree or Path.cwd())
    repository = options.start(ctx, directory or ctx.obj or Path(record.patches)).repository
    done = run(
        repository,
        tree,
        record,
        output=output,
        remove_missing=remove_missing,
        dry_run=dry_run or check,
    )
    exit_code = ExitCode.REFUSED if check and done.changed else ExitCode.OK
    if json:
        body = {"line": done.line, "folder": done.folder, "patches": done.patches,
                "series_changed": done.series_changed, "changed": done.changed}  # fmt: skip
        terminal.print_document("export", exit_code, body)
    else:
        rows = [(one.slug, one.change.value, (one.commit or "")[:12]) for one in done.patches]
        terminal.table(("patch", "change", "commit"), rows)
        changed = sum(one.change is not Change.UNCHANGED for one in done.patches)
        verb = "would change" if dry_run or check else "changed"
        terminal.say(f"{changed} of {len(done.patches)} files {verb} in {done.folder}")
    raise typer.Exit(int(exit_code))
