"""fixtool split"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError
from fixtool.text import argument, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtool.edit.split import HunkText, PartFile, Split


By = Annotated[
    str | None,
    Option("--by", metavar="file|folder", help="Make each file, or each folder, one patch."),
]
Depth = Annotated[
    int | None,
    Option("--depth", metavar="N", min=1, max=99, help="How many folders tell parts apart."),
]
Into = Annotated[
    list[str] | None,
    Option("--into", metavar="NAME=PATH[,PATH]", help="A part. PATH:N is hunk N of a file."),
]
Hunks = Annotated[bool, Option("--hunks", help="Ask for each hunk which part it belongs to.")]


def split(
    ctx: typer.Context,
    slug: options.Slug,
    by: By = None,
    depth: Depth = None,
    into: Into = None,
    hunks: Hunks = False,
    source: options.Source = None,
    line: options.LineName = None,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Split a patch into several, which stand at its place and together do the same.

    By file or folder, or into parts that you name. What you do not name keeps the patch's name.
    Author, date, message and trailers are those of the patch.

    Hunks too: fixtool split sglang --into logs=python/sglang/srt/server.py:1-2,docs

    Example: fixtool split sglang --by folder
    """
    from fixtool.commands.editing import place_of
    from fixtool.edit.split import SplitRequest
    from fixtool.edit.split import split as run

    _require_one_way(by, depth, into, hunks=hunks)
    if hunks:
        other = f"fixtool split {argument(slug)} --into NAME=PATH:N[,PATH:N-M]"
        options.require_terminal(json=json, hint=other)
    kind, parts = options.read_by(by, "--by"), tuple(into or ())
    request = SplitRequest(kind, depth, parts, dry_run, commit=not no_commit)
    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    place = place_of(options.open_base(context, chosen, source, files=False))
    if hunks:
        from dataclasses import replace

        from fixtool.apply.waiting import require_nothing_waits
        from fixtool.edit.split import hunks_of

        if not dry_run:
            require_nothing_waits(context, chosen.name)  # before a person is asked for nothing
        asked = _ask(hunks_of(context, chosen, place, slug))
        request = replace(request, into=tuple(asked))
    done = run(context, chosen, place, slug, request)
    if json:
        body = terminal.fields(
            done, "line", "slug", "parts", "rewritten", "tree", "notes", "committed"
        )
        terminal.print_document("split", ExitCode.OK, {"split": {**body, "dry_run": dry_run}})
    else:
        _show(done, dry_run=dry_run)


def _require_one_way(
    by: str | None, depth: int | None, into: list[str] | None, *, hunks: bool
) -> None:
    """Raise UsageError unless exactly one option says how to split."""
    options_given = {"--by": by is not None, "--into": bool(into), "--hunks": hunks}
    given = [name for name, wanted in options_given.items() if wanted]
    if not given:
        raise UsageError(
            "say how to split: --by makes a part of each file or folder, --into names the parts, "
            "and --hunks asks about each hunk",
            hint="by file: --by file; or by hunk: --hunks",
        )
    if len(given) > 1:
        raise UsageError(
            "--by, --into and --hunks exclude each other",
            hint=f"leave one out: the same command without {given[-1]}",
        )
    if by in ("hunk", "hunks"):
        raise UsageError(
            "--by takes file or folder; --hunks asks about each hunk",
            hint="the same command with --hunks instead of --by",
        )
    if depth is not None and by != "folder":
        raise UsageError("--depth is for --by folder", hint="--by folder")


def _ask(hunks: Sequence[HunkText]) -> list[str]:
    """Ask for each hunk which part it belongs to. An empty answer is the one before."""
    last = ""
    names: list[str] = []
    for number, hunk in enumerate(hunks, 1):
        terminal.say(hunk.text.rstrip("\n"))
        label = f"{number} of {len(hunks)}: into which part ('-': none, it stays)"
        last = str(typer.prompt(label, default=last or "-"))
        if last != "-":
            names.append(f"{last}={hunk.place}")
        terminal.say()
    return names


def _show(done: Split, *, dry_run: bool) -> None:
    rows = [
        (
            part.slug,
            ", ".join(map(_file, part.files[:3])) + _more(len(part.files) - 3),
            f"needs {', '.join(part.depends_on)}" if part.depends_on else "",
        )
        for part in done.parts
    ]
    terminal.table(("patch", "files", ""), rows)
    for slug in done.rewritten:
        terminal.say(f"rewritten {slug}, which depends on the parts now")
    for note in done.notes:
        terminal.say(f"note      {note}")
    verb = "would become" if dry_run else "is"
    terminal.say(f"split     {done.slug} {verb} {count(len(done.parts), 'patch')}")
    terminal.say(f"tree      {done.tree}, as before")
    if dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif done.committed:
        options.say_committed(done.committed)
        root = argument(done.folder.parent.parent)
        terminal.say(f"undo      git -C {root} revert --no-edit {done.committed[:12]}")
    else:
        options.say_not_committed(done.folder)


def _file(file: PartFile) -> str:
    return f"{file.path}:{','.join(map(str, file.hunks))}" if file.hunks else file.path


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""
