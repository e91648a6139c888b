"""fixtool init"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.recording import record
from fixtool.errors import ExitCode, UsageError
from fixtool.text import argument, count

if TYPE_CHECKING:
    from fixtool.edit.init import NewLine


def init(
    ctx: typer.Context,
    directory: Annotated[Path, Argument(metavar="DIR", help="The folder of the repository.")],
    upstream: Annotated[
        str | None,
        Option("--upstream", metavar="URL|PATH|pypi", help="Where the base comes from."),
    ] = None,
    base: Annotated[
        str | None, Option("--base", metavar="REF", help="What the series is written for.")
    ] = None,
    line: options.LineName = None,
    url: Annotated[
        str | None,
        Option("--url", metavar="URL", help="Upstream's address, if --upstream does not give it."),
    ] = None,
    project: Annotated[
        str | None,
        Option("--project", metavar="NAME", help="Upstream's name on the package index."),
    ] = None,
    wheel_version: Annotated[
        str | None,
        Option(
            "--wheel-version",
            metavar="RELEASE",
            help="The newest release at or before the base; wheels are named after it.",
        ),
    ] = None,
    why: Annotated[str, Option("--why", help="Why this line exists.")] = "",
    example: Annotated[
        bool, Option("--example", help="Lay out fixtool's own lines for SGLang, to try it with.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Start a patch repository, or a line in one.

    Example: fixtool init my-patches --upstream https://github.com/nodejs/nan --base v2.22.0
    """
    from fixtool.edit.init import InitRequest
    from fixtool.edit.init import init as run
    from fixtool.files import require_folder
    from fixtool.series.line import PatchRepository
    from fixtool.settings import load

    if example:
        if given := [
            name for name in (upstream, base, line, url, project, wheel_version, why) if name
        ]:
            raise UsageError(f"--example makes its own lines: leave {given[0]!r} out")
        _lay_example(directory, json=json)
        return
    if upstream is None:
        raise UsageError(
            "--upstream is missing: the repository of upstream, or pypi", hint="--upstream URL"
        )
    if base is None:
        raise UsageError(
            "--base is missing: the commit, tag or release that the patches are for",
            hint="--base REF",
        )
    require_folder(directory)
    repository = PatchRepository(directory)
    record(ctx, repository, load(directory))
    request = InitRequest(directory, upstream, base, line, why, url, project, wheel_version)
    made = run(request, terminal.progress(quiet=json), options.typed(ctx))
    if json:
        new = made.line
        body = {"line": new.name, "folder": new.folder, "upstream": new.upstream}
        body |= {"profile": made.profile.name, "notes": made.notes}
        terminal.print_document("init", ExitCode.OK, body)
    else:
        _show(made, directory, upstream)


def _show(made: NewLine, directory: Path, upstream: str) -> None:
    new = made.line
    terminal.say(f"line      {new.name} in {new.folder}")
    terminal.say(f"base      {new.upstream.base}")
    terminal.say(f"upstream  {new.upstream.url}")
    terminal.say(f"profile   {made.profile.name}: {made.recognised}")
    for note in made.notes:
        terminal.say(f"note      {note}")
    # Where there is more than one line, the commands have to name it.
    single = len(list(new.folder.parent.glob("[!.]*/series"))) == 1
    words = ["-C", str(directory), *([] if single else ["--line", new.name])]
    if upstream != "pypi" and "://" not in upstream and Path(upstream).expanduser().exists():
        words += ["--source", upstream]
    where = shlex.join(words)
    terminal.say(f"next      fixtool import FILE {where}, then fixtool apply {where}")


def _lay_example(directory: Path, *, json: bool) -> None:
    from fixtool.edit.example import lay_example

    repository = lay_example(directory)
    if json:
        body = {"lines": repository.line_names, "folder": repository.root}
        terminal.print_document("init", ExitCode.OK, body)
        return
    names = repository.line_names
    terminal.say(f"example   {count(len(names), 'line')} in {directory}: {', '.join(names)}")
    ref = max(
        (line for line in repository.lines if line.upstream.release),
        key=lambda line: line.upstream.date,
    ).name
    terminal.say(f"next      cd {argument(directory)} && fixtool apply --ref {ref} --source pypi")
