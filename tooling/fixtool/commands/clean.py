"""fixtool clean"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, Mistyped, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.apply.worktree import Record
    from fixtool.git.repo import Repo
    from fixtool.operations.clean import CleanRequest, Item
    from fixtool.settings import Settings

Remove = Annotated[bool, Option("--remove", help="Remove what may go. (Default: show it.)")]
Age = Annotated[
    str | None,
    Option("--older-than", metavar="AGE", help="Only what is unchanged for so long, such as 30d."),
]
Only = Annotated[
    list[str] | None,
    Option("--only", metavar="worktree|store|cache|log", help="Only these (more than once)."),
]
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(
    ctx: typer.Context,
    remove: Remove = False,
    older_than: Age = None,
    only: Only = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Show what fixtool keeps on this disk, or remove it. What holds unsaved work stays.

    Work trees, stores of upstream's objects, caches, and the logs of `fixtool undo`.

    Example: fixtool clean --remove --older-than 30d
    """
    from fixtool.operations.clean import clean as run
    from fixtool.settings import load

    request = _request(older_than, only, remove=remove and not dry_run)
    settings = load(None, os.environ)
    exported = partial(_exported, settings)
    items = run(settings, request, exported, terminal.progress(quiet=json))
    if json:
        body = {"items": [_body(item) for item in items], "removed": request.remove}
        terminal.print_document("clean", ExitCode.OK, body)
        return
    _show(items, options.typed(ctx), removing=request.remove)


def _days(age: str | None) -> str:
    """The number in what a person wrote for an age."""
    digits = re.search(r"\d{1,5}", age or "")
    return digits[0] if digits else "30"


def _request(older_than: str | None, only: list[str] | None, *, remove: bool) -> CleanRequest:
    from fixtool.operations.clean import CleanRequest, Kind

    match = re.fullmatch(r"(\d{1,5})([hdw])", older_than or "0d")
    if match is None:
        raise UsageError(
            f"{older_than!r} is no age such as 30d, 12h or 2w",
            hint=f"--older-than {_days(older_than)}d",
        )
    if wrong := [kind for kind in only or () if kind not in list(Kind)]:
        raise UsageError(
            f"{wrong[0]!r} is none of {', '.join(Kind)}",
            hint=f"--only {Kind.WORKTREE}",
            mistyped=Mistyped(wrong[0], tuple(Kind)),
        )
    kinds = tuple(Kind(kind) for kind in only or Kind)
    return CleanRequest(kinds, int(match[1]) * _SECONDS[match[2]], remove)


def _exported(settings: Settings, tree: Repo, record: Record) -> bool:
    """Whether `export` would write nothing: each commit of the work tree is in a patch file."""
    from pathlib import Path

    from fixtool.edit.export import ExportOptions, export
    from fixtool.errors import FixtoolError
    from fixtool.series.context import Context
    from fixtool.series.line import PatchRepository

    try:
        context = Context(PatchRepository(Path(record.patches)), settings)
        return not export(context, tree, record, ExportOptions(dry_run=True)).changed
    except FixtoolError:
        return False


def _body(item: Item) -> dict[str, Any]:
    return {
        **terminal.fields(item, "kind", "path", "size", "repository", "line", "kept", "hint"),
        "changed": _time(item).isoformat(timespec="seconds"),
        "removed": item.removed,
    }


def _time(item: Item) -> datetime:
    return datetime.fromtimestamp(item.changed, UTC)


def _show(items: tuple[Item, ...], typed: Sequence[str], *, removing: bool) -> None:
    if not items:
        terminal.say("fixtool keeps nothing on this disk")
        return
    rows = []
    for item in items:
        of = " ".join(part for part in (item.line, "of" if item.line else "",
                                        item.repository) if part)  # fmt: skip
        state = "removed" if item.removed else "kept" if item.kept else "may go"
        days = max(0, (datetime.now(UTC) - _time(item)).days)
        rows.append((item.kind.value, size_in_words(item.size), count(days, "day"),
                     str(item.path), of, state))  # fmt: skip
    terminal.table(("kind", "size", "age", "path", "for", "state"), rows)
    for item in items:
        if item.kept:
            hint = f"; {item.hint}" if item.hint else ""
            terminal.say(f"kept      {item.path}: {item.kept}{hint}")
    chosen = [item for item in items if (item.removed if removing else item.kept is None)]
    size = size_in_words(sum(item.size for item in chosen))
    if removing:
        terminal.say(f"removed   {count(len(chosen), 'thing')}, {size}")
    else:
        terminal.say(f"may go    {count(len(chosen), 'thing')}, {size}")
        if chosen:
            # The same choice again: without its --older-than or --only, more would go.
            words = [word for word in typed if word not in ("--dry-run", "--remove")]
            terminal.say(f"next      {shlex.join(['fixtool', *words, '--remove'])}")


def size_in_words(size: float) -> str:
    """``1.4 GiB``."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
