"""fixtool init"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the repository goes.")],
    upstream: Annotated[
        str,
        typer.Option("--upstream", metavar="URL|PATH|pypi", help="Where the base comes from."),
    ],
    base: Annotated[
        str, typer.Option("--base", metavar="SHA|RELEASE", help="What the series is written on.")
    ],
    line: options.LineName = None,
    wheel_version: Annotated[
        str | None,
        typer.Option(
            "--wheel-version",
            metavar="RELEASE",
            help="The newest release at or before a commit: wheels are named after it.",
        ),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="Why this line exists.")] = "",
    json: options.Json = False,
) -> None:
    """Start a patch repository, or a line in one.

    Example: fixtool init my-patches --upstream https://github.com/sgl-project/sglang.git --base SHA
    """
    from fixtool.edit.init import init as run

    progress = terminal.progress(quiet=json)
    made = run(directory, upstream, base, line, why, progress, wheel_version=wheel_version)
    if json:
        terminal.print_document("init", ExitCode.OK, {"line": made.name, "folder": made.folder,
                                                    "upstream": made.upstream})  # fmt: skip
        return
    terminal.say(f"line      {made.name} in {made.folder}")
    terminal.say(f"base      {made.upstream.base}")
    terminal.say(f"next      fixtool import FILE -C {directory}, then fixtool apply -C {directory}")
