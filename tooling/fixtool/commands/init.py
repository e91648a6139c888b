"""fixtool init"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode


def init(
    directory: Annotated[Path, Argument(metavar="DIR", help="The folder of the repository.")],
    upstream: Annotated[
        str,
        Option("--upstream", metavar="URL|PATH|pypi", help="Where the base comes from."),
    ],
    base: Annotated[
        str, Option("--base", metavar="SHA|RELEASE", help="What the series is written for.")
    ],
    line: options.LineName = None,
    wheel_version: Annotated[
        str | None,
        Option(
            "--wheel-version",
            metavar="RELEASE",
            help="The newest release at or before the base; wheels are named after it.",
        ),
    ] = None,
    why: Annotated[str, Option("--why", help="Why this line exists.")] = "",
    json: options.Json = False,
) -> None:
    """Start a patch repository, or a line in one.

    Example: fixtool init my-patches --upstream https://github.com/sgl-project/sglang.git --base SHA
    """
    from fixtool.edit.init import init as run

    progress = terminal.progress(quiet=json)
    new = run(directory, upstream, base, line, why, progress, wheel_version=wheel_version)
    if json:
        body = {"line": new.name, "folder": new.folder, "upstream": new.upstream}
        terminal.print_document("init", ExitCode.OK, body)
        return
    terminal.say(f"line      {new.name} in {new.folder}")
    terminal.say(f"base      {new.upstream.base}")
    terminal.say(f"next      fixtool import FILE -C {directory}, then fixtool apply -C {directory}")
