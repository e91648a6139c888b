"""Options that mean the same in every verb, and what every verb starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fixtool import terminal
from fixtool.errors import UsageError

if TYPE_CHECKING:
    from fixtool.git.objects import Oid
    from fixtool.git.store import Store
    from fixtool.series.context import Context
    from fixtool.series.line import Line

Directory = Annotated[
    Path | None,
    typer.Option("-C", "--repository", metavar="DIR", help="The patch repository, or below it."),
]


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta["json"] = wanted  # a failure has to be told as JSON too, wherever it is caught
    return wanted


Json = Annotated[
    bool, typer.Option("--json", callback=_remember, help="One JSON document on stdout.")
]
SglangRef = Annotated[
    str | None,
    typer.Option("--sglang-ref", metavar="REF", help="A commit id, tag, branch or release."),
]
LineName = Annotated[
    str | None, typer.Option("--line", metavar="NAME", help="The line, by its folder's name.")
]
Source = Annotated[
    str | None,
    typer.Option("--source", metavar="git|pypi|URL|PATH", help="Where SGLang comes from."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more: files, hunks, reasons.")]


def start(ctx: typer.Context, directory: Path | None) -> Context:
    """The patch repository of ``directory`` or of where the user stands, its settings, and
    progress bars, but none under --json."""
    from fixtool.series.context import Context
    from fixtool.series.line import PatchRepository
    from fixtool.settings import load

    here = directory or ctx.obj or Path.cwd()
    if not here.is_dir():
        raise UsageError(f"-C {here}: no such directory")
    repository = PatchRepository.find(here.resolve())
    progress = terminal.progress(quiet=ctx.meta.get("json", False))
    return Context(repository, load(repository.root), progress)


@dataclass(frozen=True)
class BaseStore:
    """A store that holds a line's own base."""

    repo: Store
    base: Oid


def open_base(context: Context, line: Line, source: str | None) -> BaseStore:
    """Where the base of ``line`` and the files that its series touches can be read."""
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base

    settings, progress, upstream = context.settings, context.progress, line.upstream
    name = source or ("pypi" if upstream.release else settings.source)
    place = open_source(name, settings, settings.url or upstream.url, progress, [upstream.base])
    base = bring_base(place, upstream, settings, progress)
    place.bring(base, line.paths)
    return BaseStore(place.repo, base)


def pick_line(context: Context, name: str | None) -> Line:
    """The line of this ``name``, else the one of the settings, else the only one."""
    return context.repository.pick(name or context.settings.line)
