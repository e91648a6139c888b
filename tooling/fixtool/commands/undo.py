"""fixtool undo, redo and log"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from fixtool.operations.log import Log, Operation
    from fixtool.operations.undo import TakenBack

Steps = Annotated[
    int, Argument(metavar="[N]", show_default=False, help="How many commands (default: 1).")
]


def undo(
    ctx: typer.Context,
    steps: Steps = 1,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Take back what the last commands changed. Nothing changes if something newer would be lost.

    Patches, commits, work trees and what waits for a person are put back, byte for byte. What was
    pushed or installed stays.

    Example: fixtool undo 2
    """
    from fixtool.operations.undo import undo as run

    _take(ctx, run, steps, directory, dry_run=dry_run, json=json)


def redo(
    ctx: typer.Context,
    steps: Steps = 1,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Do again what `fixtool undo` took back.

    Example: fixtool redo 2
    """
    from fixtool.operations.undo import redo as run

    _take(ctx, run, steps, directory, dry_run=dry_run, json=json)


def log(
    ctx: typer.Context,
    no_pager: options.NoPager = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """List what commands changed, the newest first: what `fixtool undo` can take back.

    Example: fixtool log --json
    """
    from fixtool.errors import CannotRun
    from fixtool.operations.record import settle

    found = _log(ctx, directory)
    settle(found)
    operations, damaged = [], []
    for number in reversed(found.numbers()):
        try:
            operations.append(found.read(number))
        except CannotRun as error:
            damaged.append(error)
    if json:
        body: dict[str, Any] = {"operations": [_body(operation) for operation in operations]}
        body["damaged"] = [{"where": entry.where, "hint": entry.hint} for entry in damaged]
        terminal.print_document("log", ExitCode.OK, body)
        return
    for entry in damaged:
        terminal.warn(f"{entry.message} ({entry.where}); try: {entry.hint}")
    if not operations:
        terminal.say("no command has changed anything here yet")
        return
    rows = [
        (str(operation.number), operation.time[:16].replace("T", " "), operation.standing.value,
         operation.command, "; ".join(_changes(operation)))
        for operation in operations
    ]  # fmt: skip
    with options.pager(no_pager):
        terminal.table(("", "when (UTC)", "state", "command", "what changed"), rows)


def _log(ctx: typer.Context, directory: Path | None) -> Log:
    from fixtool.operations.log import Log

    context = options.start_logged(ctx, directory)
    return Log(context.repository, context.settings)


def _take(
    ctx: typer.Context,
    run: Callable[..., TakenBack],
    steps: int,
    directory: Path | None,
    *,
    dry_run: bool,
    json: bool,
) -> None:
    verb = str(ctx.info_name)
    if steps < 1:
        raise UsageError(f"{steps} is no number of commands", hint=f"fixtool {verb} 1")
    taken = run(_log(ctx, directory), steps, dry_run=dry_run)
    if json:
        body: dict[str, Any] = {"operations": list(map(_body, taken.operations))}
        body |= {"dry_run": dry_run, **terminal.fields(taken, "changed", "notes")}
        terminal.print_document(verb, ExitCode.OK, body)
        return
    state = "undone" if verb == "undo" else "redone"
    for operation in taken.operations:
        label = f"would be {state}" if dry_run else state
        terminal.say(f"{label:9} {operation.number}: {operation.command}")
    for change in taken.changed:
        terminal.say(f"changed   {change}")
    for note in taken.notes:
        terminal.say(f"note      {note}")
    if not dry_run:
        options.say_next("fixtool redo" if verb == "undo" else "fixtool log", options.typed(ctx))


def _changes(operation: Operation) -> tuple[str, ...]:
    from fixtool.operations.state import describe

    beyond = (f"not undone: {operation.beyond}",) if operation.beyond else ()
    return (*describe(operation.before, operation.after), *beyond)


def _body(operation: Operation) -> dict[str, Any]:
    return {
        **terminal.fields(operation, "number", "time", "command", "exit_code", "standing"),
        "changes": _changes(operation),
        "beyond": operation.beyond,
    }
