"""fixtool list"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode

if TYPE_CHECKING:
    from fixtool.series.patch import Patch


def list_lines(
    ctx: typer.Context,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """List the lines and their patches, in order.

    Example: fixtool list --line v0.5.23
    """
    repository = options.start(ctx, directory).repository
    lines = [repository.line(line)] if line else list(repository.lines)
    if json:
        body = [
            {
                "line": one.name,
                "upstream": one.upstream,
                "patches": [
                    {
                        "slug": patch.slug,
                        "subject": patch.subject,
                        "author": f"{patch.author.name} <{patch.author.email}>",
                        "path": patch.path,
                        "trailers": [{"key": k, "value": v} for k, v in patch.trailers],
                    }
                    for patch in one.patches
                ],
            }
            for one in lines
        ]
        terminal.print_document("list", ExitCode.OK, {"lines": body})
        return
    rows = [
        (
            one.name,
            one.upstream.release or one.upstream.base[:12],
            patch.slug,
            patch.subject,
            _forwarded(patch),
        )
        for one in lines
        for patch in one.patches
    ]
    terminal.table(("line", "base", "patch", "subject", "forwarded"), rows)


def _forwarded(patch: Patch) -> str:
    """In a word: upstream has it, or what became of sending it."""
    if patch.trailer("Applied-Upstream"):
        return "upstream"
    return (patch.trailer("Forwarded") or "").split(" ")[0]
