"""fixtool import"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from fixtool.git.store import Store
    from fixtool.incoming.change import Incoming


What = Annotated[
    str, Argument(metavar="FILE|A..B", help="A mail, an mbox, a diff, or a commit range.")
]
Fork = Annotated[
    Path | None, Option("--from", metavar="REPO", help="The clone that holds the range A..B.")
]
Replace = Annotated[bool, Option("--replace", help="Replace patches that have the same subject.")]
Subject = Annotated[str | None, Option("--subject", help="The subject of a plain diff.")]
Author = Annotated[
    str | None, Option("--author", metavar="'NAME <MAIL>'", help="Who wrote a plain diff.")
]


def import_patches(
    ctx: typer.Context,
    what: What,
    fork: Fork = None,
    line: options.LineName = None,
    source: options.Source = None,
    replace: Replace = False,
    subject: Subject = None,
    author: Author = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Bring patches into a line, in normal form.

    From a git mail, an mbox, a plain diff such as a downstream's sglang.patch, or a range of a
    fork's commits.

    Example: fixtool import v0.5.23..my-branch --from ~/sglang --line v0.5.23
    """
    from fixtool.edit.importing import import_changes
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base

    context = options.start(ctx, directory)
    settings, progress = context.settings, context.progress
    chosen = options.pick_line(context, line)
    own = "pypi" if chosen.upstream.release else settings.source
    name = source or (str(fork) if fork else own)
    opened = open_source(name, settings, settings.url or chosen.upstream.url, progress)
    imported = import_changes(
        context.repository, chosen, opened.repo,
        lambda: bring_base(opened, chosen.upstream, settings, progress),
        _read(opened.repo, what, fork, subject, author),
        replacing=replace, dry_run=dry_run,
    )  # fmt: skip
    if json:
        body = terminal.fields(imported, "line", "folder", "patches")
        terminal.print_document("import", ExitCode.OK, body)
        return
    rows = [
        (patch.slug, patch.change.value, patch.subject, "; ".join(patch.notes))
        for patch in imported.patches
    ]
    terminal.table(("patch", "change", "subject", "notes"), rows)
    terminal.say(f"{'would go' if dry_run else 'went'} into {imported.folder}")


def _read(
    store: Store, what: str, fork: Path | None, subject: str | None, author: str | None
) -> list[Incoming]:
    """The patches in the file or commit range ``what``."""
    from fixtool.git.repo import Repo
    from fixtool.incoming.change import author_from
    from fixtool.incoming.file import read_file
    from fixtool.incoming.fork import read_range

    if fork is not None:
        return read_range(store, Repo.open(fork, bare=True), what)
    if ".." in what and not Path(what).exists():
        raise UsageError(f"{what!r} looks like a commit range", hint=f"add --from REPO to {what}")
    return read_file(store, Path(what), author_from(author, f"{int(time.time())} +0000"), subject)
