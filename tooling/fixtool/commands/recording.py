"""The one door to the operation log: what a command changes is recorded here, whichever it is.

A new verb is recorded without doing anything for it. Only those that change nothing which ``undo``
can take back are named here, so that they stay quick.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fixtool import terminal
from fixtool.errors import SYSTEM_HINTS, ExitCode, FixtoolError

if TYPE_CHECKING:
    from fixtool.apply.home import Home
    from fixtool.series.line import PatchRepository
    from fixtool.settings import Settings

_CHANGES_NOTHING = {
    "announce", "build", "clean", "coverage", "deps", "diff", "lint", "list", "log",
    "redo", "report", "show", "status", "undo", "verify",
}  # fmt: skip
_OF_CLEAN_TREES = {
    "apply", "copy", "drop", "edit", "export", "import", "init", "install", "move", "rebase",
    "rename", "restore", "reword", "split", "squash",
}  # fmt: skip
"""The verbs that leave uncommitted edits in a work tree alone, or refuse a work tree with any."""
_BEYOND = {
    "install": "an installed package: fixtool uninstall gives it back as it was",
    "upstream": "what was pushed, and the pull request: close it where it is",
}
"""What a verb changes that the log cannot take back."""


def record(
    ctx: typer.Context,
    repository: PatchRepository,
    settings: Settings,
    find_home: Callable[[], Home | None] = lambda: None,
) -> None:
    """Record what the command of ``ctx`` changes from now on; ``find_home`` finds the work tree of
    fixtool's in which it was typed. Whether that is possible never decides whether it runs."""
    verb, given = str(ctx.info_name), ctx.params
    if (
        verb in _CHANGES_NOTHING
        or (verb == "history" and not given.get("record"))
        or given.get("dry_run")
        or given.get("check")
        or _FINISH in ctx.meta
    ):
        return
    from fixtool.operations.capture import Scope
    from fixtool.operations.record import begin

    home = find_home()
    # The `--into` of `split` is a list of names.
    places = (given.get("into"), given.get("worktree"), home and home.top)
    folders = tuple(Path(place) for place in places if isinstance(place, str | Path))
    edited = _with_edits(repository, settings) if given.get("go_on") else ()
    whole = verb not in _OF_CLEAN_TREES or bool(edited)
    scope = Scope((*folders, *edited), whole, verb == "init")
    beyond = _BEYOND.get(verb) if verb != "upstream" or given.get("send") else None
    try:
        recording = begin(repository, settings, ctx.meta.get("typed", ()), scope, beyond)
    except (FixtoolError, OSError) as error:
        ctx.meta[_FINISH] = partial(_warn_unless_failed, error)
        return

    def finish(exit_code: int) -> bool:
        try:
            return recording.finish(exit_code)
        except (FixtoolError, OSError) as error:
            _warn(error)
            return False

    ctx.meta[_FINISH] = finish


def _with_edits(repository: PatchRepository, settings: Settings) -> tuple[Path, ...]:
    """The work trees with edits that wait for a person before they go into a patch."""
    from fixtool.edit.waiting import load_session
    from fixtool.series.context import Context

    found = []
    for line in repository.line_names:
        with suppress(FixtoolError):  # a damaged session: the command itself says so
            session = load_session(Context(repository, settings), line)
            if session and session.taken:
                found.append(Path(session.taken.worktree))
    return tuple(found)


def finish(ctx: typer.Context, exit_code: int) -> bool:
    """Note what the command has changed, if it was recorded. Return whether that was anything."""
    recorded = ctx.meta.pop(_FINISH, None)
    return bool(recorded and recorded(exit_code))


_FINISH = "fixtool.finish"


def _warn_unless_failed(error: FixtoolError | OSError, exit_code: int) -> None:
    """A command that could not run says why by itself, and has nothing to be taken back."""
    if exit_code in (ExitCode.OK, ExitCode.REFUSED, ExitCode.CONFLICT):
        _warn(error)


def _warn(error: FixtoolError | OSError) -> None:
    """Say that the command cannot be taken back, and what to do about it."""
    if isinstance(error, FixtoolError):
        message, place, advice = error.message, error.where, error.hint
    else:
        message, place = error.strerror or str(error), error.filename
        advice = SYSTEM_HINTS.get(error.errno or 0)
    where = f" ({place})" if place else ""
    hint = f"; try: {advice}" if advice else ""
    terminal.warn(f"undo cannot take this command back: {message}{where}{hint}")
