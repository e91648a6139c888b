"""fixtool diff"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtool.edit.compare import Compared


def diff(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[SLUG]", help="The patch (default: all of the line).")
    ] = None,
    against: Annotated[
        str | None,
        Option(
            "--against", metavar="REF", help="A commit of the patch repository (default: HEAD)."
        ),
    ] = None,
    worktree: Annotated[
        Path | None,
        Option("--worktree", metavar="DIR", help="Show what this work tree's commits change."),
    ] = None,
    line: options.LineName = None,
    no_pager: options.NoPager = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Show what has changed of a patch, as git range-diff does.

    The patch files are compared with the newest commit of the patch repository, or with the one
    that --against names. With --worktree, the commits there are compared with the files.

    Before the last refresh: fixtool diff gemma4-fused-routing --against HEAD~1

    Example: fixtool diff gemma4-fused-routing
    """
    from fixtool.edit.compare import since, with_worktree
    from fixtool.series.commit import open_git

    slug = slug.removesuffix(".patch") if slug else None
    if worktree is not None:
        from fixtool.apply.worktree import open_worktree

        if against is not None:
            raise UsageError("--against and --worktree exclude each other")
        tree, record = open_worktree(worktree)
        context = options.start_of(ctx, directory, record)
        compared = with_worktree(tree, record, context.repository.line(line or record.line), slug)
    else:
        context = options.start(ctx, directory)
        chosen = options.pick_line(context, line)
        compared = since(open_git(context.repository.root), chosen, against, slug)
    if json:
        body = terminal.fields(compared, "line", "old", "new", "patches", "reordered", "last")
        terminal.print_document("diff", ExitCode.OK, body)
    else:
        with options.pager(no_pager):
            _show(compared, slug, context.typed)


def _show(compared: Compared, slug: str | None, typed: Sequence[str]) -> None:
    for patch in compared.patches:
        was = f", which was {patch.was}" if patch.difference.value == "renamed" else ""
        terminal.say(f"{patch.difference.value:9} {patch.slug}{was}: {patch.subject}")
        if patch.text and sys.stdout.isatty():
            terminal.patch_text(patch.text)
        elif patch.text:
            terminal.say(patch.text.rstrip("\n"))
    if compared.reordered:
        terminal.say("moved     the patches stand in another order")
    if compared.patches or compared.reordered:
        terminal.say(f"from      {compared.old} to {compared.new}")
        return
    what = slug or f"line {compared.line}"
    terminal.say(f"no change of {what} from {compared.old} to {compared.new}")
    if compared.last:
        word = f" {argument(slug)}" if slug else ""
        options.say_next(f"fixtool diff{word} --against {compared.last[:12]}~1", typed)
