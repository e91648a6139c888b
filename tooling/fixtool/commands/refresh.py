"""fixtool refresh"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import editing, options
from fixtool.commands.export import body, show_conflicts, show_notes
from fixtool.errors import ExitCode, UsageError
from fixtool.text import argument, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtool.apply.worktree import Record
    from fixtool.edit.export import Exported
    from fixtool.edit.refresh import Selection
    from fixtool.edit.split import HunkText

WaitingLine = Annotated[
    str | None,
    Option("--line", metavar="NAME", help="The line in which a refresh waits, for --continue."),
]
Hunks = Annotated[bool, Option("--hunks", help="Ask for each uncommitted hunk.")]
Take = Annotated[
    list[str] | None,
    Option("--take", metavar="PATH[:N]", help="Only this file, folder, or hunk N of a file."),
]


def refresh(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[SLUG]", help="The patch (default: all that changed).")
    ] = None,
    worktree: options.Worktree = None,
    hunks: Hunks = False,
    take: Take = None,
    pair: options.Pair = None,
    ours: options.Ours = False,
    theirs: options.Theirs = False,
    line: WaitingLine = None,
    go_on: editing.GoOn = False,
    abort: editing.Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Write one patch file, or all that changed, again from a work tree's commits.

    What is not committed in the work tree goes into the patch first; --hunks asks what of it. What
    somebody has changed in the line since the work tree was made is merged; if it cannot be, both
    sides are shown and nothing is written. Edits that conflict below later patches wait in a work
    tree of their own: --continue or --abort.

    One hunk of a file: fixtool refresh gemma4-fused-routing --take python/sglang/srt/server.py:2

    Example: fixtool refresh gemma4-fused-routing --worktree ~/patched
    """
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.below import NeedsPerson
    from fixtool.edit.export import ExportOptions, export
    from fixtool.edit.refresh import has_edits, refresh_edits, was_killed

    if go_on or abort:
        if slug or worktree or hunks or take or go_on == abort:
            raise UsageError("--continue and --abort are for what waits, and stand alone",
                             hint="fixtool refresh --continue")  # fmt: skip
        editing.Edit(ctx, "refresh", directory, line, None, json=json).go_on(abort=abort)
    if line:
        raise UsageError(
            "--line is for --continue and --abort: a work tree has its line",
            hint="the same command without --line",
        )
    selection = read_selection("refresh", slug, hunks=hunks, take=take, json=json)
    tree, record = open_worktree(worktree or options.here(ctx, directory))
    context = options.start_of(ctx, directory, record)
    export_options = ExportOptions(
        only=(slug,) if slug else (), pairs=options.read_pairs(pair),
        favour=options.read_favour(ours=ours, theirs=theirs), commit=not no_commit, dry_run=dry_run,
        command="refresh",
    )  # fmt: skip
    if has_edits(tree) or ((hunks or take) and was_killed(tree, record)):
        try:
            exported = refresh_edits(context, tree, record, selection, export_options)
        except NeedsPerson as unfit:
            if export_options.favour:
                raise
            root = context.repository.root
            edit = editing.Edit(ctx, "refresh", root, record.line, None, json=json)
            edit.wait_with(unfit, tree, dry_run=dry_run, no_commit=no_commit)
    elif hunks or take:
        raise UsageError("there is nothing uncommitted to choose from", where=str(tree.work_tree))
    else:
        exported = export(context, tree, record, export_options)
    finish(ctx, "refresh", exported, tree.work_tree, record, json=json, dry_run=dry_run)


def finish(
    ctx: typer.Context,
    command: str,
    exported: Exported,
    place: Path | None,
    record: Record,
    *,
    json: bool,
    dry_run: bool,
) -> NoReturn:
    """Show what was written, and what became of each edit, and exit."""
    exit_code = ExitCode.CONFLICT if exported.conflicts else ExitCode.OK
    if json:
        terminal.print_document(command, exit_code, body(exported))
    else:
        _show_edits(exported, dry_run=dry_run)
        if exported.conflicts:
            into = next((edit.slug for edit in exported.edits if edit.slug), None)
            verb = f"refresh {into}" if into and command == "refresh" else command
            alone = bool(exported.edits or ctx.params.get("slug"))
            show_conflicts(exported, place, record, options.typed(ctx), verb, alone=alone)
        else:
            _show(exported, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def _show_edits(exported: Exported, *, dry_run: bool) -> None:
    verb = "would go into" if dry_run or exported.conflicts else "is in"
    rows = [(edit.place, f"{verb} {edit.slug}" if edit.slug else f"stays: {edit.why}")
            for edit in exported.edits]  # fmt: skip
    if rows:
        terminal.table(("edit", "patch"), rows)


def read_selection(
    verb: str, slug: str | None, *, hunks: bool, take: list[str] | None, json: bool
) -> Selection:
    """Which edits go into the patch ``slug``, as --hunks and --take of ``verb`` say. Raises
    UsageError if both are given, or if nobody is there to be asked."""
    from fixtool.edit.refresh import Selection

    if hunks and take:
        raise UsageError("--hunks and --take exclude each other: --take names the hunks")
    if hunks:
        other = f"fixtool {verb} {argument(slug or 'SLUG')} --take PATH:N"
        options.require_terminal(json=json, hint=other)
    return Selection(slug, tuple(take or ()), _ask_for_hunks if hunks else None)


def _ask_for_hunks(hunks: Sequence[HunkText]) -> list[str]:
    """Ask for each hunk whether it goes into the patch."""
    places = []
    for number, hunk in enumerate(hunks, 1):
        terminal.say(hunk.text.rstrip("\n"))
        if typer.confirm(f"{number} of {len(hunks)}: into the patch", default=True):
            places.append(hunk.place)
        terminal.say()
    return places


def _show(exported: Exported, *, dry_run: bool) -> None:
    changed = [file for file in exported.patches if file.changed]
    for file in changed:
        terminal.say(f"{file.change.value:9} {file.slug}")
    verb = "would be written" if dry_run else "written"
    what = count(len(changed), "file")
    if dry_run and not exported.patches:  # a dry run does not export what the edits go into
        slugs = dict.fromkeys(edit.slug for edit in exported.edits if edit.slug)
        what = ", ".join(slugs) or what
    terminal.say(f"{what} {verb} in {exported.folder}")
    show_notes(exported, in_line=not dry_run)
