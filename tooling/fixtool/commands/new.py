"""fixtool new"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer import Argument, Option

from fixtool.commands import editing, options
from fixtool.commands.refresh import Hunks, Take, finish, read_selection
from fixtool.errors import UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from fixtool.apply.worktree import Record
    from fixtool.git.repo import Repo

FromWorktree = Annotated[
    Path | None,
    Option("--worktree", metavar="DIR", help="Make it of what was edited in this work tree."),
]


def new(
    ctx: typer.Context,
    slug: Annotated[
        str | None, Argument(metavar="[NAME]", help="The name of the new patch.")
    ] = None,
    message: editing.Message = None,
    file: editing.File = None,
    before: editing.Before = None,
    after: editing.After = None,
    worktree: FromWorktree = None,
    hunks: Hunks = False,
    take: Take = None,
    source: options.Source = None,
    line: options.LineName = None,
    go_on: editing.GoOn = False,
    abort: editing.Abort = False,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Make a patch of what you have edited, or open a work tree in which you make it.

    In a work tree that apply made, what is not committed becomes the last patch, and so do the
    commits on top that are in no patch. Elsewhere, a work tree opens at the place of the patch in
    the series: change the files there, git add new ones, and type --continue. The message is that
    of -m, or that of a commit which you made.

    In a work tree with edits: fixtool new log-level -m "server: log the level"

    Example: fixtool new log-level -m "server: log the level" --after logging
    """
    from fixtool.edit.plans import with_new
    from fixtool.edit.waiting import stop_at
    from fixtool.series.commit import author_of

    editing.require_one(bool(slug), go_on, abort, "NAME", "fixtool new NAME -m MESSAGE")
    if slug and (found := _work_at(ctx, worktree, directory, asked=bool(hunks or take))):
        if before or after:
            name = argument(slug)
            hint = f"leave it out, then: fixtool move {name} --before SLUG"
            raise UsageError("a patch of a work tree's edits comes last", hint=hint)
        if line not in (None, found[1].line):
            raise UsageError(f"the work tree is of line {found[1].line}", hint="leave --line out")
        text = editing.message_from(message, file)
        _make(ctx, *found, slug, text, directory, hunks=hunks, take=take, no_commit=no_commit,
              dry_run=dry_run, json=json)  # fmt: skip
    run = editing.Edit(ctx, "new", directory, line, source, json=json)
    if slug is None:
        run.go_on(abort=abort)
    text = editing.message_from(message, file)
    chosen, where = run.line, editing.at(before, after)
    author = author_of(run.context.repository.root)
    name = slug.removesuffix(".patch")
    wanted = run.options(f"new patch {name}", dry_run=dry_run, no_commit=no_commit)
    place = run.place(chosen, source)
    run.answer(stop_at(run.context, chosen, place, wanted,
                       lambda own: with_new(own, name, where, text, author)))  # fmt: skip


def _work_at(
    ctx: typer.Context, worktree: Path | None, directory: Path | None, *, asked: bool
) -> tuple[Repo, Record] | None:
    """The work tree that the patch is made of: the one that is named, or the one in which the
    command was typed, if something was edited there. None if there is none."""
    from fixtool.apply.worktree import open_worktree
    from fixtool.edit.new import has_work

    place = worktree or options.worktree_here(ctx, directory)
    if place is None:
        if asked:
            raise UsageError("--hunks and --take choose of what was edited in a work tree",
                             hint="name it: --worktree DIR")  # fmt: skip
        return None
    tree, record = open_worktree(place)
    return (tree, record) if worktree or asked or has_work(tree, record) else None


def _make(
    ctx: typer.Context,
    tree: Repo,
    record: Record,
    slug: str,
    text: str | None,
    directory: Path | None,
    *,
    hunks: bool,
    take: list[str] | None,
    no_commit: bool,
    dry_run: bool,
    json: bool,
) -> NoReturn:
    """Make the patch of what was edited in a work tree, and print the answer."""
    from fixtool.edit.export import ExportOptions
    from fixtool.edit.new import NewPatch, new_patch
    from fixtool.series.commit import author_of

    selection = read_selection("new", slug, hunks=hunks, take=take, json=json)
    context = options.start_of(ctx, directory, record)
    author = author_of(context.repository.root)
    new = NewPatch(slug.removesuffix(".patch"), text, author, selection)
    wanted = ExportOptions(commit=not no_commit, dry_run=dry_run)
    exported = new_patch(context, tree, record, new, wanted)
    finish(ctx, "new", exported, tree.work_tree, record, json=json, dry_run=dry_run)
