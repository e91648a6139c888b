"""What the verbs that edit a series share: their options, and how they answer."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.retype import complete
from fixtool.errors import CannotRun, ExitCode, UsageError
from fixtool.text import argument, count

if TYPE_CHECKING:
    from fixtool.edit.below import NeedsPerson
    from fixtool.edit.place import Place
    from fixtool.edit.plans import At
    from fixtool.edit.sequence import OwnSeries, Plan
    from fixtool.edit.waiting import Edited, EditOptions, Waiting
    from fixtool.git.database import ObjectDatabase
    from fixtool.git.repo import Repo
    from fixtool.series.context import Context
    from fixtool.series.line import Line
    from fixtool.series.shelf import Shelved

Slug = Annotated[str | None, Argument(metavar="[SLUG]", help="The patch.")]
Before = Annotated[
    str | None, Option("--before", metavar="SLUG", help="Put it directly before this patch.")
]
After = Annotated[
    str | None, Option("--after", metavar="SLUG", help="Put it directly after this patch.")
]
Message = Annotated[
    list[str] | None,
    Option("-m", "--message", metavar="TEXT", help="The message; each further -m, a paragraph."),
]
File = Annotated[
    Path | None, Option("--file", metavar="FILE", help="Take the message from a file.")
]
GoOn = Annotated[
    bool,
    Option("--continue", help="Go on with the edit that waits in the line, whichever verb it is."),
]
Abort = Annotated[bool, Option("--abort", help="End an edit that waits. The line stays as it was.")]


def at(before: str | None, after: str | None) -> At:
    """The place that `--before` and `--after` name. Raises UsageError if both are given."""
    from fixtool.edit.plans import At

    if before and after:
        raise UsageError(
            "--before and --after exclude each other", hint="the same command without --after"
        )
    slug = before or after
    return At(slug.removesuffix(".patch") if slug else None, before is not None)


def message_from(words: list[str] | None, file: Path | None) -> str | None:
    """The message of -m and --file, in a form that git gives back; None if neither is given."""
    from fixtool.edit.texts import mailable_message

    if words and file:
        raise UsageError("-m and --file exclude each other", hint="the same command without --file")
    if words:
        return mailable_message("\n\n".join(words))
    if file:
        try:
            return mailable_message(file.read_text("utf-8", "surrogateescape"))
        except OSError as error:
            raise UsageError(
                f"cannot read {file}: {error.strerror}", where=str(file), hint="--file FILE"
            ) from error
    return None


def place_of(opened: options.BaseStore) -> Place:
    """Where a line's base is, for the verbs that edit its series."""
    from fixtool.edit.place import Place

    bring = partial(opened.source.bring, opened.base)
    return Place(opened.repo, opened.base, opened.source.name, bring)


class Edit:
    """One run of a verb on a line: it edits the series, or goes on with what waits."""

    def __init__(
        self,
        ctx: typer.Context,
        verb: str,
        directory: Path | None,
        line: str | None,
        source: str | None,
        *,
        json: bool,
    ) -> None:
        self.context: Context = options.start(ctx, directory)
        self.verb, self.name, self.source, self.json = verb, line, source, json
        self.opened: options.BaseStore | None = None

    @property
    def line(self) -> Line:
        return options.pick_line(self.context, self.name)

    def options(self, subject: str, *, dry_run: bool, no_commit: bool) -> EditOptions:
        from fixtool.edit.waiting import EditOptions

        return EditOptions(self.verb, subject, dry_run, not no_commit)

    def place(self, line: Line, source: str | None) -> Place:
        """The line's base in a store."""
        self.opened = options.open_base(self.context, line, source, files=False)
        return place_of(self.opened)

    def series_of(self, objects: ObjectDatabase, other: Line, slug: str) -> OwnSeries:
        """The commits of another line, whose base comes into the same store, as well as what the
        patch ``slug`` changes there."""
        from fixtool.edit.place import Place, series_at
        from fixtool.sources.target import bring_base

        assert self.opened is not None
        source, settings = self.opened.source, self.context.settings
        base = bring_base(source, other.upstream, settings, self.context.progress)
        source.bring(base, sorted(other.find(slug).paths))
        place = Place(source.repo, base, source.name, partial(source.bring, base))
        own = series_at(self.context, objects, other, place)
        objects.flush()
        return own

    def bring_shelved(self, line: Line, shelved: Shelved) -> None:
        """Bring the files that a patch of the shelf was written for, if the source has them."""
        from fixtool.series.shelf import patch

        assert self.opened is not None
        with suppress(CannotRun):
            base = self.opened.source.ensure(shelved.base)
            self.opened.source.bring(base, sorted(patch(line.folder, shelved.slug).paths))

    def run(
        self, options: EditOptions, plan_of: Callable[[ObjectDatabase, OwnSeries], Plan]
    ) -> NoReturn:
        """Edit the line as ``plan_of`` says, and print the answer."""
        from fixtool.edit.waiting import edit

        line = self.line
        place = self.place(line, self.source)
        self.answer(edit(self.context, line, place, options, plan_of))

    def wait_with(
        self, unfit: NeedsPerson, tree: Repo, *, dry_run: bool, no_commit: bool
    ) -> NoReturn:
        """Put the edits of the work tree ``tree`` into a patch in which they conflict: wait for a
        person."""
        from fixtool.edit.below import with_edits

        wanted = self.options(f"refresh {unfit.below.slug}", dry_run=dry_run, no_commit=no_commit)
        wanted = replace(wanted, taken=unfit.below.taken)
        self.run(wanted, lambda objects, own: with_edits(objects, own, unfit, tree))

    def go_on(self, *, abort: bool) -> NoReturn:
        """Go on with the edit that waits, or end it."""
        from fixtool.edit.waiting import end_session, find_session, resume

        session = find_session(self.context, self.name or self.context.settings.line)
        if abort:
            end_session(self.context, session)
            if self.json:
                body = {"line": session.line, "aborted": True}
                terminal.print_document(self.verb, ExitCode.OK, body)
            else:
                terminal.say(f"line {session.line} is as it was; the work tree is gone")
            raise typer.Exit
        place = self.place(self.context.repository.line(session.line), session.source)
        self.answer(resume(self.context, session, place))

    def answer(self, edited: Edited) -> NoReturn:
        conflict = edited.waiting is not None and bool(edited.waiting.conflicts)
        exit_code = ExitCode.CONFLICT if conflict else ExitCode.OK
        if edited.waiting:
            then = complete(edited.waiting.next, self.context.typed)
            edited = replace(edited, waiting=replace(edited.waiting, next=then))
        if self.json:
            terminal.print_document(self.verb, exit_code, {"edited": _body(edited)})
        elif edited.waiting:
            _show_waiting(edited.verb, edited.waiting, self.context.typed)
        else:
            _show(edited)
        raise typer.Exit(int(exit_code))


def _body(edited: Edited) -> dict[str, Any]:
    return terminal.fields(
        edited, "line", "verb", "folder", "patches", "series", "tree", "notes", "changed",
        "committed", "dry_run", "before", "waiting",
    )  # fmt: skip


def require_one(given: bool, go_on: bool, abort: bool, what: str, example: str) -> None:
    """Raise UsageError unless exactly one of ``what``, --continue and --abort is given."""
    if [given, go_on, abort].count(True) != 1:
        raise UsageError(f"give one of {what}, --continue, --abort", hint=example)


def _show(edited: Edited) -> None:
    if edited.before:
        terminal.say("an earlier run had done this already")
    rows = [
        (patch.slug, patch.change.value, f"was {patch.was}" if patch.was else "")
        for patch in edited.patches
    ]
    if rows:
        terminal.table(("patch", "change", ""), rows)
        terminal.say()
    for note in edited.notes:
        terminal.say(f"note      {note}")
    terminal.say(f"series    {count(len(edited.series), 'patch')}: {_few(edited.series)}")
    if edited.tree:
        terminal.say(f"tree      {edited.tree}")
    if edited.dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif edited.committed:
        options.say_committed(edited.committed)
    elif edited.changed:
        options.say_not_committed(edited.folder)
    elif not edited.before:
        terminal.say("the series is so already; nothing was changed")


def _few(slugs: tuple[str, ...]) -> str:
    shown = slugs if len(slugs) <= 6 else (*slugs[:3], "…", *slugs[-2:])
    return ", ".join(shown)


def _show_waiting(verb: str, waiting: Waiting, typed: tuple[str, ...]) -> None:
    number = f"{waiting.slug} (patch {waiting.position} of {waiting.of})"
    if waiting.worktree is None:
        if waiting.conflicts:
            place = f"patch {waiting.position} of {waiting.of}"
            terminal.say(f"{waiting.slug} would conflict as {place}, in")
        else:
            terminal.say(f"{number} would wait in a work tree for your change")
        for file in waiting.conflicts:
            terminal.say(f"  {file.path}")
        what = "to resolve this in" if waiting.conflicts else "for it"
        terminal.say(f"nothing was written (--dry-run); without it, a work tree is made {what}")
        words = [word for word in typed if word != "--dry-run"]
        options.say_next(shlex.join(["fixtool", *words]), ())
        if waiting.conflicts and verb in ("move", "squash"):
            deps = f"fixtool deps {waiting.slug}   (which patches it needs)"
            options.say_next(deps, typed, "or")
        return
    if waiting.conflicts:
        terminal.say(f"{number} conflicts in {count(len(waiting.conflicts), 'file')}")
        for file in waiting.conflicts:
            terminal.say(f"  {file.path}:{file.line}")
    else:
        terminal.say(f"{number} is yours to {'make' if verb == 'new' else 'change'}")
    terminal.say("nothing in patches/ was changed")
    terminal.say(f"worktree  {waiting.worktree}")
    if not waiting.conflicts:
        folder = argument(waiting.worktree)
        amend = f"git -C {folder} commit --amend changes its message"
        what = f"git -C {folder} add new ones" if verb == "new" else amend
        terminal.say(f"edit      its files there; {what}")
    options.say_next(f"{waiting.next}   (or --abort)", typed)
