"""fixtool export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode

if TYPE_CHECKING:
    from fixtool.edit.export import Exported


Output = Annotated[
    Path | None, Option("--output", metavar="DIR", help="Write here instead of into the line.")
]
RemoveMissing = Annotated[
    bool, Option("--remove-missing", help="Take patches that have no commit out of the series.")
]
Check = Annotated[bool, Option("--check", help="Write nothing; exit 1 if anything would change.")]


def export(
    ctx: typer.Context,
    worktree: options.Worktree = None,
    output: Output = None,
    remove_missing: RemoveMissing = False,
    check: Check = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Turn a work tree's commits back into patch files.

    Only files that changed are written, and all of them or none.

    Example: fixtool export --worktree ~/sglang-patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import export as run

    tree, record = open_worktree(worktree or Path.cwd())
    repository = options.start(ctx, directory or ctx.obj or Path(record.patches)).repository
    exported = run(
        repository, tree, record,
        output=output, remove_missing=remove_missing, dry_run=dry_run or check,
    )  # fmt: skip
    exit_code = ExitCode.REFUSED if check and exported.changed else ExitCode.OK
    if json:
        terminal.print_document("export", exit_code, body(exported))
    else:
        _show(exported, dry_run=dry_run or check)
    raise typer.Exit(int(exit_code))


def body(exported: Exported) -> dict[str, Any]:
    """The JSON document without its head; `refresh` has the same."""
    names = ("line", "folder", "patches", "series_changed", "changed")
    return terminal.fields(exported, *names)


def _show(exported: Exported, *, dry_run: bool) -> None:
    files = exported.patches
    rows = [(file.slug, file.change.value, (file.commit or "")[:12]) for file in files]
    terminal.table(("patch", "change", "commit"), rows)
    changed = sum(file.change.value != "unchanged" for file in files)
    verb = "would change" if dry_run else "changed"
    terminal.say(f"{changed} of {len(files)} files {verb} in {exported.folder}")
