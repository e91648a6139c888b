"""fixtool import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from fixtool.edit.importing import Imported
    from fixtool.git.store import Store
    from fixtool.incoming.change import Incoming
    from fixtool.incoming.read import Given


What = Annotated[
    list[str],
    Argument(
        metavar="FILE|DIR|A..B...",
        help="Mails, mboxes, diffs, folders, series files, archives, or a commit range.",
    ),
]
Fork = Annotated[
    Path | None, Option("--from", metavar="REPO", help="The clone that holds the range A..B.")
]
FirstParent = Annotated[
    bool, Option("--first-parent", help="Make each merge of the range one patch.")
]
Replace = Annotated[bool, Option("--replace", help="Replace patches that have the same subject.")]
Subject = Annotated[str | None, Option("--subject", help="The subject of a patch without one.")]
Author = Annotated[
    str | None,
    Option("--author", metavar="'NAME <MAIL>'", help="Who wrote a patch that does not say it."),
]
Date = Annotated[
    str | None,
    Option("--date", help="When a patch without a date was made (default: its file's date)."),
]
Trailers = Annotated[
    bool, Option("--trailers", help="Take the trailers of the answers in a mailbox, as b4 does.")
]
Strip = Annotated[
    int | None,
    Option(
        "-p", "--strip", metavar="N", min=0, max=99,
        help="Take N leading folders off the names (default: find out).",
    ),
]  # fmt: skip
Folder = Annotated[
    str | None,
    Option("--directory", metavar="DIR", help="The folder of the tree that the names are in."),
]
Exclude = Annotated[
    list[str] | None,
    Option("--exclude", metavar="PATH", help="Leave this path, folder or pattern out."),
]
ThreeWay = Annotated[
    bool,
    Option("--3way/--no-3way", help="Merge a patch that was made on older files (the default)."),
]
SkipEmpty = Annotated[
    bool,
    Option("--skip-empty", "--allow-empty", help="Leave out what changes nothing, and go on."),
]


def import_patches(
    ctx: typer.Context,
    what: What,
    fork: Fork = None,
    first_parent: FirstParent = False,
    line: options.LineName = None,
    source: options.Source = None,
    replace: Replace = False,
    subject: Subject = None,
    author: Author = None,
    date: Date = None,
    trailers: Trailers = False,
    strip: Strip = None,
    folder: Folder = None,
    exclude: Exclude = None,
    three_way: ThreeWay = True,
    skip_empty: SkipEmpty = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Bring patches into a line, in normal form.

    From mails, mboxes, plain diffs such as a downstream's sglang.patch, folders of them with or
    without a series, archives, or a range of a fork's commits. All of them go in, or none.

    A quilt series: fixtool import debian/patches/series

    A thread of a mailing list, with its reviews: fixtool import thread.mbox --trailers

    A patch with tests, for a release without: fixtool import a.patch --exclude 'test/*'

    Example: fixtool import v0.5.23..my-branch --from ~/sglang --line v0.5.23
    """
    from fixtool.edit.importing import ImportOptions, import_changes
    from fixtool.incoming.blobs import BlobFinder
    from fixtool.incoming.fit import FitOptions
    from fixtool.incoming.read import Given
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base

    context = options.start(ctx, directory)
    settings, progress = context.settings, context.progress
    chosen = options.pick_line(context, line)
    own = "pypi" if chosen.upstream.release else settings.source
    name = source or (str(fork) if fork else own)
    opened = open_source(name, settings, settings.url or chosen.upstream.url, progress)
    fit = FitOptions(strip, folder.strip("/") if folder else None, tuple(exclude or ()), three_way)
    given = Given(author, date, subject, trailers)
    imported = import_changes(
        context.repository, chosen, opened.repo,
        lambda: bring_base(opened, chosen.upstream, settings, progress),
        _read(opened.repo, what, fork, given, first_parent=first_parent),
        ImportOptions(
            replacing=replace, skip_empty=skip_empty, fit=fit,
            find_blobs=BlobFinder(opened, chosen.upstream.base), dry_run=dry_run,
        ),
    )  # fmt: skip
    if json:
        body = terminal.fields(imported, "line", "folder", "patches", "skipped")
        terminal.print_document("import", ExitCode.OK, body)
    else:
        _show(imported, dry_run=dry_run)


def _show(imported: Imported, *, dry_run: bool) -> None:
    rows = [
        (patch.slug, patch.change.value, patch.subject, "; ".join(patch.notes))
        for patch in imported.patches
    ]
    terminal.table(("patch", "change", "subject", "notes"), rows)
    for skipped in imported.skipped:
        terminal.say(f"left out {skipped.where}: {skipped.subject} ({skipped.reason})")
    terminal.say(f"{'would go' if dry_run else 'went'} into {imported.folder}")


def _read(
    store: Store,
    what: list[str],
    fork: Path | None,
    given: Given,
    *,
    first_parent: bool,
) -> list[Incoming]:
    """The patches in the files, folders, archives and commit ranges ``what``."""
    from fixtool.git.repo import Repo
    from fixtool.incoming.fork import read_range
    from fixtool.incoming.read import read_paths

    if fork is not None:
        clone = Repo.open(fork, bare=True)
        ranges = (read_range(store, clone, name, first_parent=first_parent) for name in what)
        return [change for changes in ranges for change in changes]
    for name in what:
        if ".." in name and not Path(name).exists():
            raise UsageError(
                f"{name!r} looks like a commit range", hint=f"add --from REPO to {name}"
            )
    return read_paths(store, [Path(name) for name in what], given)
