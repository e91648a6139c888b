"""fixtool rename"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument

from fixtool.commands import editing, options


def rename(
    ctx: typer.Context,
    slug: Annotated[str, Argument(metavar="SLUG", help="The patch.")],
    new: Annotated[str, Argument(metavar="NAME", help="Its new name.")],
    source: options.Source = None,
    line: options.LineName = None,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Give a patch of the series or the shelf another name, also where others depend on it.

    What names it outside of the line, such as a mutant, is listed for you to mend.

    Example: fixtool rename server-args server-arguments
    """
    from fixtool.edit.plans import renamed

    edit = editing.Edit(ctx, "rename", directory, line, source, json=json)
    old, name = slug.removesuffix(".patch"), new.removesuffix(".patch")
    wanted = edit.options(f"rename {old} to {name}", dry_run=dry_run, no_commit=no_commit)
    root = edit.context.repository.root
    edit.run(wanted, lambda _, own: renamed(own, root, old, name))
