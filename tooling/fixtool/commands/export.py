"""fixtool export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import CannotRun, ExitCode, UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtool.apply.worktree import Record
    from fixtool.edit.export import Exported, Output
    from fixtool.edit.merging import BothChanged, SideChange
    from fixtool.edit.outputs import PatchSet


ToFolder = Annotated[
    Path | None, Option("--output", metavar="DIR", help="Write here instead of into the line.")
]
RemoveMissing = Annotated[
    bool, Option("--remove-missing", help="Take patches that have no commit out of the series.")
]
Mbox = Annotated[
    Path | None, Option("--mbox", metavar="FILE", help="Write one mbox instead, for git am.")
]
Combined = Annotated[
    Path | None,
    Option("--combined", metavar="FILE", help="Write one diff of all patches instead."),
]
Series = Annotated[
    Path | None, Option("--series", metavar="DIR", help="Write a folder for quilt instead.")
]
LineName = Annotated[
    str | None,
    Option("--line", metavar="NAME", help="Write this line in such a form, without a work tree."),
]
Check = Annotated[bool, Option("--check", help="Write nothing; exit 1 if anything would change.")]


def export(
    ctx: typer.Context,
    worktree: options.Worktree = None,
    output: ToFolder = None,
    mbox: Mbox = None,
    combined: Combined = None,
    series: Series = None,
    line: LineName = None,
    source: options.Source = None,
    remove_missing: RemoveMissing = False,
    pair: options.Pair = None,
    ours: options.Ours = False,
    theirs: options.Theirs = False,
    no_commit: options.NoCommit = False,
    check: Check = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Turn a work tree's commits back into patch files.

    Only files that changed are written, and all of them or none. What somebody has changed in the
    line meanwhile is merged. Instead, the patches of the work tree, or of a line, can go into one
    mbox, one diff, or a folder for quilt.

    One diff for a Dockerfile: fixtool export --line v0.5.23 --combined all.patch

    Example: fixtool export --worktree ~/patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.export import ExportOptions
    from fixtool.edit.export import export as run
    from fixtool.files import require_folder

    forms = _outputs(mbox, combined, series)
    if forms:
        if output or remove_missing:
            raise UsageError("--output and --remove-missing do not go with another form")
        _export_forms(
            ctx, forms, worktree, line, source, directory, json=json, check=check, dry_run=dry_run
        )
    if line is not None or source is not None:
        raise UsageError(
            "--line and --source are for --mbox, --combined and --series; a work tree has a line",
            hint="to write into that line: the same command without --line"
            if line is not None
            else "to write into that line: the same command without --source",
        )
    tree, record = open_worktree(worktree or options.here(ctx, directory))
    context = options.start_of(ctx, directory, record)
    require_folder(output, "--output")
    exported = run(context, tree, record, ExportOptions(
        output=output, remove_missing=remove_missing, pairs=options.read_pairs(pair),
        favour=options.read_favour(ours=ours, theirs=theirs), commit=not no_commit,
        dry_run=dry_run or check,
    ))  # fmt: skip
    if exported.conflicts and not json:
        verb = "export --remove-missing" if remove_missing else "refresh"
        show_conflicts(exported, tree.work_tree, record, options.typed(ctx), verb)
    _finish(exported, json=json, check=check, dry_run=dry_run, in_line=output is None)


def _outputs(mbox: Path | None, combined: Path | None, series: Path | None) -> list[Output]:
    from fixtool.edit.export import Form, Output

    named = ((Form.MBOX, mbox), (Form.COMBINED, combined), (Form.SERIES, series))
    return [Output(form, path) for form, path in named if path is not None]


def _export_forms(
    ctx: typer.Context,
    outputs: list[Output],
    worktree: Path | None,
    line: str | None,
    source: str | None,
    directory: Path | None,
    *,
    json: bool,
    check: bool,
    dry_run: bool,
) -> NoReturn:
    """Write the patches of a work tree or of a line in other forms."""
    from fixtool.edit.outputs import require_places, write

    if not (dry_run or check):
        require_places(outputs)
    patches = _patches(ctx, worktree, line, source, directory)
    exported = write(patches, outputs, dry_run=dry_run or check)
    _finish(exported, json=json, check=check, dry_run=dry_run, in_line=False)


def _patches(
    ctx: typer.Context,
    worktree: Path | None,
    line: str | None,
    source: str | None,
    directory: Path | None,
) -> PatchSet:
    """The patches of the work tree that is named or in which we are, or else of a line."""
    from fixtool.apply.worktree import open_worktree
    from fixtool.commands.editing import place_of
    from fixtool.edit.outputs import of_line, of_worktree

    named = worktree or (None if line or source or directory or ctx.obj else Path.cwd())
    if named is not None:
        try:
            tree, record = open_worktree(named)
        except CannotRun:
            if worktree is not None:
                raise
        else:
            start = options.start_of(ctx, directory, record)
            return of_worktree(start.repository, tree, record)
    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    opened = options.open_base(context, chosen, source, files=False)
    return of_line(context, chosen, place_of(opened))


def _finish(
    exported: Exported, *, json: bool, check: bool, dry_run: bool, in_line: bool
) -> NoReturn:
    """Show what was written, or would be, and exit."""
    exit_code = ExitCode.REFUSED if check and exported.changed else ExitCode.OK
    if exported.conflicts:
        exit_code = ExitCode.CONFLICT
    if json:
        terminal.print_document("export", exit_code, body(exported))
    elif not exported.conflicts:
        _show(exported, dry_run=dry_run or check, in_line=in_line)
    raise typer.Exit(int(exit_code))


def body(exported: Exported) -> dict[str, Any]:
    """The JSON document without its head; `refresh` has the same."""
    names = ("line", "folder", "patches", "series_changed", "written", "notes", "conflicts",
             "committed", "edits", "changed")  # fmt: skip
    return terminal.fields(exported, *names)


def show_notes(exported: Exported, *, in_line: bool) -> None:
    """Say what is not obvious, and what was committed; if the files were written ``in_line`` and
    were not committed because no git repository tracks them, what to type."""
    listed = any(file.change.value in ("added", "removed") for file in exported.patches)
    if exported.series_changed and not listed:
        terminal.say("moved     the patches have the order of the work tree")
    for note in exported.notes:
        terminal.say(f"note      {note}")
    if exported.committed:
        options.say_committed(exported.committed)
    elif exported.changed and in_line:
        options.say_how_to_track(exported.folder)


def show_conflicts(
    exported: Exported,
    place: Path | None,
    record: Record,
    typed: Sequence[str],
    verb: str = "refresh",
    *,
    alone: bool = False,
) -> None:
    """Show what both sides did to each patch that both have changed, and how to go on: ``verb`` is
    the command, with the patch that it is about. ``record`` is that of the work tree at ``place``,
    and ``alone`` says that only some of its changes were to be written."""
    for note in exported.notes:
        terminal.say(f"note      {note}")
    for both in exported.conflicts:
        messages = both.here.message and both.there.message
        what = ", ".join(both.paths) or ("its message" if messages else "the whole patch")
        terminal.say(f"conflict  {both.slug}: {what}")
        commit = f" in {both.here.commit[:12]}" if both.here.commit else ""
        terminal.say(f"  work tree  {_side(both.here)}{commit}")
        terminal.say(f"  line       {_side(both.there)}")
    terminal.say("nothing was written: both sides have changed these patches")
    first = exported.conflicts[0]
    kept = "".join(f" {word}" for word in ("--no-commit", "--dry-run") if word in typed)
    command = f"fixtool {verb} --worktree {argument(place)}{kept}"
    one_sided = "unchanged" in (first.here.what, first.there.what)
    if one_sided or not {"--ours", "--theirs"}.isdisjoint(typed):
        if alone:
            options.say_next(command, typed)
            terminal.say("          (it needs the other changes of the work tree, or of the line)")
        else:
            options.say_next(f"{record.to_apply()} --no-build --worktree NEW-DIR", typed)
            terminal.say(
                "          (the two sides do not fit each other: make your change again there)"
            )
    else:
        _say_sides(exported, first, command, place, kept, typed)


def _say_sides(
    exported: Exported, first: BothChanged, command: str, place: Path | None, kept: str,
    typed: Sequence[str],
) -> None:  # fmt: skip
    """Say how to choose a side, or to make both changes one. Each command has the options
    ``kept``."""
    if first.take_up:
        label, where = "next", argument(place)
        if exported.edits:
            terminal.say(f"next      git -C {where} add --update")
            label = "then"
        pick = f"git -C {where} cherry-pick --no-commit {first.take_up[:12]}"
        terminal.say(f"{label}      {pick}")
        terminal.say("          and resolve the conflict there; then, with what you made:")
        ours = f"fixtool refresh {first.slug} --worktree {where}{kept} --ours"
        options.say_next(ours, typed, label="")
    else:
        options.say_next(f"{command} --ours   (the work tree's version)", typed)
    options.say_next(f"{command} --theirs   (the line's version)", typed, label="or")


def _side(side: SideChange) -> str:
    parts = [*side.files[:3], *([f"{len(side.files) - 3} more files"] * (len(side.files) > 3)),
             *(["the message"] * side.message)]  # fmt: skip
    return f"{side.what} {', '.join(parts)}" if parts else side.what


def _show(exported: Exported, *, dry_run: bool, in_line: bool) -> None:
    files = exported.patches
    rows = [(file.slug, file.change.value, (file.commit or "")[:12]) for file in files]
    terminal.table(("patch", "change", "commit"), rows)
    if exported.written:
        state = "would write" if dry_run else "wrote"
        for output in exported.written:
            verb = state if exported.written_anew else "up to date:"
            terminal.say(f"{verb} {output.path} ({output.form.value})")
        for note in exported.notes:
            terminal.warn(note)
        return
    changed = sum(file.changed for file in files)
    verb = "would change" if dry_run else "changed"
    terminal.say(f"{changed} of {len(files)} files {verb} in {exported.folder}")
    show_notes(exported, in_line=in_line and not dry_run)
