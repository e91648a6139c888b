"""fixtool list"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode

if TYPE_CHECKING:
    from fixtool.series.line import Line
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
        terminal.print_document("list", ExitCode.OK, {"lines": [_body(line) for line in lines]})
        return
    rows = [
        (line.name, line.upstream.release or line.upstream.base[:12], patch.slug, patch.subject,
         _forwarded(patch))
        for line in lines
        for patch in line.patches
    ]  # fmt: skip
    terminal.table(("line", "base", "patch", "subject", "forwarded"), rows)


def _body(line: Line) -> dict[str, Any]:
    return {
        "line": line.name,
        "upstream": line.upstream,
        "patches": [
            {
                **terminal.fields(patch, "slug", "subject"),
                "author": f"{patch.author.name} <{patch.author.email}>",
                "path": patch.path,
                "trailers": [{"key": key, "value": value} for key, value in patch.trailers],
            }
            for patch in line.patches
        ],
    }


def _forwarded(patch: Patch) -> str:
    """Whether it was sent upstream, in a word: `upstream` if it is there."""
    if patch.trailer("Applied-Upstream"):
        return "upstream"
    return (patch.trailer("Forwarded") or "").split(" ")[0]
