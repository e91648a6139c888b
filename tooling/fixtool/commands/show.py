"""fixtool show"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, Mistyped, UsageError

if TYPE_CHECKING:
    from fixtool.series.context import Context
    from fixtool.series.line import Line
    from fixtool.series.patch import Patch


def show(
    ctx: typer.Context,
    slug: Annotated[str, Argument(metavar="SLUG", help="The patch, by its file's name.")],
    line: options.LineName = None,
    no_pager: options.NoPager = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Show one patch: its message and its diff.

    Without --line, the patch is looked for in every line.

    Example: fixtool show gemma4-fused-routing --line v0.5.23
    """
    context = options.start(ctx, directory)
    slug = slug.removesuffix(".patch")
    chosen = _find_line(context, line, slug)
    patch = chosen.find(slug)
    if json:
        terminal.print_document("show", ExitCode.OK, _body(chosen, patch))
    elif sys.stdout.isatty():
        with options.pager(no_pager):
            terminal.patch_text(patch.raw.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(patch.raw)


def _find_line(context: Context, name: str | None, slug: str) -> Line:
    """The line that holds the patch ``slug``; UsageError if several hold different ones."""
    from fixtool.series.shelf import refuse_shelved

    repository, name = context.repository, name or context.settings.line
    lines = [repository.line(name)] if name else list(repository.lines)
    slugs = {line.name: {entry.slug for entry in line.entries} for line in lines}
    holders = [line for line in lines if slug in slugs[line.name]]
    if not holders:
        known = tuple(sorted(set().union(*slugs.values())))
        others = [
            line for line in repository.lines if slug in {entry.slug for entry in line.entries}
        ]
        if name and others:
            raise UsageError(
                f"line {name} has no patch {slug!r}; it is in line {others[0].name}",
                where=str(repository.folder / name / "series"),
                hint=", or ".join(f"--line {line.name}" for line in others),
            )
        for line in lines:
            refuse_shelved(line, slug)
        raise UsageError(
            f"no patch {slug!r}; there are: {', '.join(known) or 'none'}",
            where=str(repository.folder),
            hint="fixtool list",
            mistyped=Mistyped(slug, known),
        )
    if len({line.find(slug).raw for line in holders}) > 1:
        raise UsageError(
            f"{slug} is in {len(holders)} lines, with different content",
            hint=", or ".join(f"--line {line.name}" for line in holders),
        )
    return holders[0]


def _body(line: Line, patch: Patch) -> dict[str, Any]:
    return {
        "line": line.name,
        **terminal.fields(patch, "slug", "subject", "body"),
        "author": f"{patch.author.name} <{patch.author.email}>",
        "date": patch.author.date,
        "trailers": [{"key": key, "value": value} for key, value in patch.trailers],
        "files": [
            {"path": file.path, "hunks": len(file.hunks), "binary": file.binary}
            for file in patch.files
        ],
        "path": patch.path,
        "diff": patch.diff.decode("utf-8", "replace"),
    }
