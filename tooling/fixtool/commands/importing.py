"""fixtool import"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.retype import complete
from fixtool.errors import ExitCode, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtool.edit.importing import Imported, ImportOptions
    from fixtool.edit.parked import Parked
    from fixtool.git.repo import Repo
    from fixtool.git.store import Store
    from fixtool.incoming.advice import Advice
    from fixtool.incoming.change import Incoming
    from fixtool.incoming.read import Given
    from fixtool.series.context import Context
    from fixtool.series.line import Line
    from fixtool.sources.source import Source


What = Annotated[
    list[str] | None,
    Argument(
        metavar="[FILE|DIR|A..B...]",
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
LeaveOutMissing = Annotated[
    bool,
    Option(
        "--leave-out-missing", help="Leave out what the tree lacks, such as tests in a release."
    ),
]
SplitBy = Annotated[
    str | None,
    Option("--split", metavar="file|folder", help="Make each file, or each folder, one patch."),
]
FindBase = Annotated[
    bool, Option("--find-base", help="Only say which release the patches fit best.")
]
GoOn = Annotated[bool, Option("--continue", help="Go on after you have resolved the conflict.")]
Abort = Annotated[
    bool, Option("--abort", help="End an import that waits. The line stays as it was.")
]


def import_patches(
    ctx: typer.Context,
    what: What = None,
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
    leave_out_missing: LeaveOutMissing = False,
    split: SplitBy = None,
    find_base: FindBase = False,
    go_on: GoOn = False,
    abort: Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Bring patches into a line, in normal form.

    From mails, mboxes, plain diffs such as a downstream project ships, folders of them with or
    without a series, archives, or a range of a fork's commits. All of them go in, or none.

    A quilt series: fixtool import debian/patches/series

    A thread of a mailing list, with its reviews: fixtool import thread.mbox --trailers

    A patch with tests, for a release without: fixtool import a.patch --exclude 'test/*'

    The release that a patch was made for: fixtool import --find-base all.patch --source pypi

    On a conflict, patches/ stays as it is and a work tree waits: --continue or --abort.

    Example: fixtool import v0.5.23..my-branch --from ~/upstream --line v0.5.23
    """
    from fixtool.edit.importing import ImportOptions
    from fixtool.incoming.fit import FitOptions
    from fixtool.incoming.read import Given
    from fixtool.sources.target import line_source

    if [bool(what), go_on, abort].count(True) != 1:
        hint = (
            "the same command without --abort" if abort else "the same command without --continue"
        )
        if not (what or go_on or abort):
            hint = shlex.join(["fixtool", *options.typed(ctx), "FILE"])
        raise UsageError("give one of FILE, --continue, --abort", hint=hint)
    fit = FitOptions(strip, folder.strip("/") if folder else None, tuple(exclude or ()), three_way,
                     leave_out_missing)  # fmt: skip
    if replace and split:
        raise UsageError("--replace and --split exclude each other: one patch becomes several")
    import_options = ImportOptions(
        replacing=replace, skip_empty=skip_empty, fit=fit,
        split=options.read_by(split, "--split"), commit=not no_commit, dry_run=dry_run,
    )  # fmt: skip
    if find_base:
        context = options.start_anywhere(ctx, directory)
        given = Given(author, date, subject, trailers)
        _find_base(context, what or [], given, line, source, json=json)
    context = options.start(ctx, directory)
    if not what:
        _go_on(context, line, import_options, abort=abort, json=json)
    chosen = options.pick_line(context, line)
    if fork is not None:
        _clone_at(fork)
    name = source or (str(fork) if fork else line_source(context.settings, chosen.upstream))
    place = _open(context, chosen, name)
    given = Given(author, date, subject, trailers)
    changes = _read(place.source.repo, what or [], fork, given, first_parent=first_parent)
    place.run(changes, import_options, json=json)


@dataclass(frozen=True)
class _Place:
    """The line that patches go into, and the source of its base."""

    context: Context
    line: Line
    source: Source

    def run(self, changes: Sequence[Incoming], options: ImportOptions, *, json: bool) -> NoReturn:
        """Import, or park what conflicts, and print the answer."""
        from fixtool.edit.importing import import_changes
        from fixtool.edit.parked import import_or_park
        from fixtool.sources.target import bring_base

        context, line, source = self.context, self.line, self.source
        bring = partial(bring_base, source, line.upstream, context.settings, context.progress)
        options = self.with_finders(options)
        imported: Imported | None
        if options.dry_run:
            repository = context.repository
            imported = import_changes(repository, line, source.repo, bring, changes, options)
            _answer(context, line, imported, None, dry_run=True, json=json)
        imported, parked = import_or_park(
            context, line, source.repo, source.name, bring, changes, options
        )
        _answer(context, line, imported, parked, dry_run=False, json=json)

    def with_finders(self, options: ImportOptions) -> ImportOptions:
        """``options`` with what finds older files, and releases, in the source."""
        from fixtool.edit.place import known_commits
        from fixtool.incoming.blobs import BlobFinder

        finder = BlobFinder(self.source, self.line.upstream.base)
        advice = _advice(self.context, self.source, self.line)
        return replace_fields(
            options, find_blobs=finder, find_commits=partial(known_commits, self.context),
            advice=advice,
        )  # fmt: skip


def _open(context: Context, line: Line, name: str) -> _Place:
    from fixtool.sources.source import open_source

    settings = line.upstream.settings(context.settings)
    url = settings.url or line.upstream.url
    return _Place(context, line, open_source(name, settings, url, context.progress))


def _advice(context: Context, source: Source, line: Line | None) -> Advice:
    from fixtool.incoming.advice import Advice
    from fixtool.sources.source import Releases

    url = "pypi" if isinstance(source, Releases) else source.name
    if source.name == "git" and line:
        url = line.upstream.url
    return Advice(source, context.settings, context.progress, context.typed,
                  context.repository, url)  # fmt: skip


def _go_on(
    context: Context, line: str | None, given: ImportOptions, *, abort: bool, json: bool
) -> NoReturn:
    """Go on with an import that waits, or end it."""
    from fixtool.edit.parked import end_session, find_session, resume

    session = find_session(context, line or context.settings.line)
    place = _open(context, context.repository.line(session.line), session.source)
    if abort:
        end_session(context, session, place.source.repo)
        if json:
            body = {"line": session.line, "aborted": True}
            terminal.print_document("import", ExitCode.OK, body)
        else:
            terminal.say(f"line {session.line} is as it was; the work tree is gone")
        raise typer.Exit
    # Whoever goes on stays on this line: no command is offered that imports it elsewhere.
    finders = replace_fields(place.with_finders(given), advice=None)
    imported, parked = resume(context, session, place.source.repo, finders)
    _answer(context, place.line, imported, parked, dry_run=False, json=json)


def _answer(
    context: Context,
    line: Line,
    imported: Imported | None,
    parked: Parked | None,
    *,
    dry_run: bool,
    json: bool,
) -> NoReturn:
    exit_code = ExitCode.CONFLICT if parked else ExitCode.OK
    if parked:
        parked = replace_fields(parked, next=complete(parked.next, context.typed))
    if json:
        patches, skipped = (imported.patches, imported.skipped) if imported else ((), ())
        body = {"line": line.name, "folder": line.folder, "patches": patches, "skipped": skipped,
                "session": parked, "committed": imported and imported.committed}  # fmt: skip
        terminal.print_document("import", exit_code, body)
    elif parked:
        _show_parked(parked)
    elif imported:
        _show(imported, dry_run=dry_run)
    else:
        terminal.say("the import was finished before; its work tree is gone now")
    raise typer.Exit(int(exit_code))


def _show(imported: Imported, *, dry_run: bool) -> None:
    rows = [
        (patch.slug, patch.change.value, patch.subject, "; ".join(patch.notes))
        for patch in imported.patches
    ]
    terminal.table(("patch", "change", "subject", "notes"), rows)
    for skipped in imported.skipped:
        terminal.say(f"left out {skipped.where}: {skipped.subject} ({skipped.reason})")
    terminal.say(f"{'would go' if dry_run else 'went'} into {imported.folder}")
    if imported.committed:
        options.say_committed(imported.committed)
    elif imported.patches and not dry_run:
        options.say_not_committed(imported.folder)


def _show_parked(parked: Parked) -> None:
    stops = len(parked.conflicts)
    terminal.say(
        f"{parked.subject} (change {parked.position} of {parked.of}): {stops} of "
        f"{count(parked.files, 'file')} {'conflicts' if stops == 1 else 'conflict'}"
    )
    for file in parked.conflicts:
        terminal.say(f"  {file.path}:{file.line}   ({file.where})")
    terminal.say("nothing in patches/ was changed")
    if parked.better:
        terminal.say(f"look      {parked.better}")
        terminal.say(f"          {parked.instead}")
    terminal.say(f"worktree  {parked.worktree}")
    terminal.say(f"next      {parked.next}   (or --abort)")


def _find_base(
    context: Context,
    what: list[str],
    given: Given,
    line: str | None,
    source: str | None,
    *,
    json: bool,
) -> NoReturn:
    """Say which release the patches fit best."""
    from fixtool.incoming.advice import as_sentence
    from fixtool.incoming.bases import find_best, known_releases
    from fixtool.incoming.files import Fit
    from fixtool.sources.source import open_source
    from fixtool.sources.target import source_name, upstream_url

    repository = context.repository
    lines = [repository.line(line)] if line else repository.lines
    name = source or source_name(context.settings, [line.upstream for line in lines], None)
    settings = context.settings
    if lines:  # it tells the project's name on the package index
        settings = lines[0].upstream.settings(settings)
    url = upstream_url(context, line)
    opened = open_source(name, settings, url, context.progress)
    changes = _read(opened.repo, what, None, given, first_parent=False)
    found = find_best(opened, known_releases(opened, settings), changes, context.progress)
    advice = _advice(context, opened, lines[0] if lines else None)
    lacking = [file.path for file in found.best.files if file.fit is Fit.MISSING]
    then = advice.on(found)
    if json:
        body = {
            "best": {
                **terminal.fields(found.best, "release", "commit", "fits", "of", "files"),
                "next": then,
            },
            "tried": [terminal.fields(fit, "release", "fits", "of") for fit in found.tried],
            "known": found.known,
            "lacking": lacking,
        }
        terminal.print_document("import", ExitCode.OK, body)
        raise typer.Exit
    rows = [(fit.release, f"{fit.fits} of {fit.of}") for fit in found.tried]
    terminal.table(("release", "files that fit"), rows)
    terminal.say()
    terminal.say(as_sentence(found))
    for file in found.best.files:
        if file.fit is Fit.FAILS:
            terminal.say(f"  {file.path}:{file.line} is not as expected ({file.where})")
    if lacking:
        terminal.say(f"it lacks  {', '.join(lacking)}")
    terminal.say(f"next      {then}")
    raise typer.Exit


def _clone_at(fork: Path) -> Repo:
    """The clone that `--from` names. Raises CannotRun if there is none."""
    from fixtool.errors import CannotRun
    from fixtool.git.repo import Repo

    try:
        return Repo.open(fork, bare=True)
    except CannotRun as error:
        error.hint = "name the clone that holds the commits: --from CLONE"
        raise


def _read(
    store: Store,
    what: list[str],
    fork: Path | None,
    given: Given,
    *,
    first_parent: bool,
) -> list[Incoming]:
    """The patches in the files, folders, archives and commit ranges ``what``."""
    from fixtool.incoming.fork import read_range
    from fixtool.incoming.read import read_paths

    if fork is not None:
        clone = _clone_at(fork)
        ranges = (read_range(store, clone, name, first_parent=first_parent) for name in what)
        return [change for changes in ranges for change in changes]
    for name in what:
        if ".." in name and not Path(name).exists():
            raise UsageError(
                f"{name!r} is no file; for a commit range, it is not said which clone holds it",
                hint="add --from CLONE",
            )
    return read_paths(store, [Path(name) for name in what], given)
