"""fixtool show"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError


def show(
    ctx: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The patch, by its file's name.")],
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Show one patch: who, why, when it can go, the diff.

    Without --line, it is looked for in every line; if they hold different ones, say which.

    Example: fixtool show gemma4-fused-routing --line v0.5.23
    """
    context = options.start(ctx, directory)
    repository, settings = context.repository, context.settings
    slug = slug.removesuffix(".patch")
    wanted = line or settings.line
    lines = [repository.line(wanted)] if wanted else list(repository.lines)
    having = [one for one in lines if slug in {entry.slug for entry in one.entries}]
    if not having:
        known = sorted({entry.slug for one in lines for entry in one.entries})
        raise UsageError(f"no patch {slug!r}; there are: {', '.join(known)}")
    if len({one.find(slug).raw for one in having}) > 1:
        raise UsageError(
            f"{slug} is in {len(having)} lines, with different content",
            hint=f"--line with one of: {', '.join(one.name for one in having)}",
        )
    patch = having[0].find(slug)
    if json:
        body = {
            "line": having[0].name,
            "slug": patch.slug,
            "subject": patch.subject,
            "body": patch.body,
            "author": f"{patch.author.name} <{patch.author.email}>",
            "date": patch.author.date,
            "trailers": [{"key": key, "value": value} for key, value in patch.trailers],
            "files": [
                {"path": one.path, "hunks": len(one.hunks), "binary": one.binary}
                for one in patch.files
            ],
            "path": patch.path,
            "diff": patch.diff.decode("utf-8", "replace"),
        }
        terminal.print_document("show", ExitCode.OK, body)
    elif sys.stdout.isatty():
        terminal.patch_text(patch.raw.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(patch.raw)
