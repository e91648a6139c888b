"""fixtool import"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError


def import_patches(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|A..B", help="A mail, an mbox, a diff, or a commit range."),
    ],
    fork: Annotated[
        Path | None,
        typer.Option("--from", metavar="REPO", help="The clone that holds the range A..B."),
    ] = None,
    line: options.LineName = None,
    source: options.Source = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of patches with the same subject.")
    ] = False,
    subject: Annotated[
        str | None, typer.Option("--subject", help="The subject of a plain diff.")
    ] = None,
    author: Annotated[
        str | None,
        typer.Option("--author", metavar="'NAME <MAIL>'", help="Who wrote a plain diff."),
    ] = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Bring patches into a line, in normal form.

    From a git mail, an mbox, a plain diff such as a downstream's sglang.patch, or a range of a
    fork's commits.

    Example: fixtool import v0.5.23..my-branch --from ~/sglang --line v0.5.23
    """
    from fixtool.edit.importing import author_from, import_changes, read_file, read_range
    from fixtool.git.repo import Repo
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base

    context = options.start(ctx, directory)
    repository, settings, progress = context.repository, context.settings, context.progress
    chosen = options.pick_line(context, line)
    name = source or (str(fork) if fork else None)
    if name is None:
        name = "pypi" if chosen.upstream.release else settings.source
    opened = open_source(name, settings, settings.url or chosen.upstream.url, progress)
    if fork is not None:
        incoming = read_range(opened.repo, Repo.open(fork), what)
    elif ".." in what and not Path(what).exists():
        raise UsageError(f"{what!r} looks like a commit range", hint=f"add --from REPO to {what}")
    else:
        now = author_from(author, f"{int(time.time())} +0000")
        incoming = read_file(opened.repo, Path(what), now, subject)
    done = import_changes(
        repository,
        chosen,
        opened.repo,
        lambda: bring_base(opened, chosen.upstream, settings, progress),
        incoming,
        replacing=replace,
        dry_run=dry_run,
    )
    if json:
        terminal.print_document("import", ExitCode.OK, {"line": done.line, "folder": done.folder,
                                                      "patches": done.patches})  # fmt: skip
        return
    rows = [(p.slug, p.change.value, p.subject, "; ".join(p.notes)) for p in done.patches]
    terminal.table(("patch", "change", "subject", "notes"), rows)
    terminal.say(f"{'would go' if dry_run else 'went'} into {done.folder}")
