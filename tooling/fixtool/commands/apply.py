"""fixtool apply"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.build import Editable, Native, build_worktree, require_python, show_built
from fixtool.errors import ExitCode, UsageError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.apply.run import Applied
    from fixtool.replay.verdict import PatchResult
    from fixtool.wheel.build import BuiltWheel


Into = Annotated[
    Path | None,
    Option("--into", metavar="DIR", help="Use this clean SGLang checkout, on a new branch."),
]
NewWorktree = Annotated[
    Path | None, Option("--worktree", metavar="DIR", help="Put the work tree here.")
]
Build = Annotated[bool, Option("--build/--no-build", help="Make a wheel of the patched tree.")]


def apply(
    ctx: typer.Context,
    sglang_ref: options.SglangRef = None,
    source: options.Source = None,
    line: options.LineName = None,
    worktree: NewWorktree = None,
    into: Into = None,
    build: Build = True,
    python: options.Python = None,
    editable: Editable = False,
    native: Native = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Apply the series to a ref, in a work tree, and build it.

    The line that fits the ref is chosen and named. Nothing changes unless every patch applies.

    Example: fixtool apply --sglang-ref v0.5.23 --source pypi
    """
    from fixtool.apply.run import ApplyRequest
    from fixtool.apply.run import apply as run

    _check_build_options(source, python if build else None, editable=editable, native=native)
    context = options.start(ctx, directory)
    applied = run(context, ApplyRequest(sglang_ref, source, line, worktree, into, dry_run))
    built = None
    if build and applied.placed is not None:
        built = build_worktree(
            applied.placed.path, context.settings, context.progress,
            python=python, editable=editable, native=native,
        )  # fmt: skip
    exit_code = ExitCode.OK if applied.replay.ok else ExitCode.CONFLICT
    if json:
        terminal.print_document("apply", exit_code, _body(applied, built))
    else:
        _show(applied, built, verbose=verbose, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def _check_build_options(
    source: str | None, python: str | None, *, editable: bool, native: bool
) -> None:
    """Refuse what could not be built, before anything is written."""
    from fixtool.interpreter import interpreter_tags

    require_python(python, editable=editable)
    if native and source == "pypi":
        raise UsageError(
            "--native compiles a git commit; a release brings its native code",
            hint="leave --native out, or use --source git",
        )
    if python is not None:
        interpreter_tags(python)


def _body(applied: Applied, built: BuiltWheel | None) -> dict[str, Any]:
    replay, placed = applied.replay, applied.placed
    return {
        "ref": applied.target.ref,
        "source": applied.target.source,
        "line": replay.line,
        "line_reason": applied.choice.why,
        **terminal.fields(replay, "base", "onto"),
        "commit": replay.commit if replay.ok else None,
        "tree": replay.tree if replay.ok else None,
        "patches": [
            {
                **terminal.fields(patch, "slug", "subject", "verdict", "commit", "files"),
                "culprit": None,
                "evidence": patch.evidence,
            }
            for patch in replay.patches
        ],
        "reused": replay.reused,
        "worktree": placed and placed.path,
        "branch": placed and placed.branch,
        "changed": placed is not None and placed.changed,
        "build": built,
    }


def _show(applied: Applied, built: BuiltWheel | None, *, verbose: bool, dry_run: bool) -> None:
    replay, target = applied.replay, applied.target
    terminal.say(f"line      {replay.line} ({applied.choice.why})")
    terminal.say(f"onto      {target.commit[:12]} ({printable(target.ref)} from {target.source})")
    terminal.say()
    rows = [
        (patch.slug, patch.verdict.value, (patch.commit or "")[:12], patch.subject)
        for patch in replay.patches
    ]
    terminal.table(("patch", "verdict", "commit", "subject"), rows)
    failed = [
        patch for patch in replay.patches if not patch.commit and patch.verdict.value != "absorbed"
    ]
    for patch in replay.patches if verbose else failed:
        _show_patch(patch)
    terminal.say()
    if not replay.ok:
        total = len(replay.patches)
        terminal.say(f"{len(failed)} of {total} patches do not apply; nothing was changed")
        terminal.say("next      fixtool apply --line NAME for another line, or mend the patch")
        return
    terminal.say(f"commit    {replay.commit}")
    terminal.say(f"tree      {replay.tree}")
    if applied.placed is None:
        terminal.say("dry run   nothing was written" if dry_run else "")
        return
    unchanged = "" if applied.placed.changed else " (as it was)"
    terminal.say(f"worktree  {applied.placed.path}{unchanged}")
    terminal.say(f"branch    {applied.placed.branch}")
    if built is not None:
        show_built(built)


def _show_patch(patch: PatchResult) -> None:
    terminal.say()
    terminal.say(f"{patch.slug}: {'; '.join(patch.evidence) or patch.verdict.value}")
    for file in patch.files:
        terminal.say(f"  {printable(file.path)}: {file.verdict.value}")
        for hunk in file.hunks:
            place = f"stands at {hunk.line}" if hunk.line else "no place found here"
            moved = f" ({hunk.offset:+d})" if hunk.offset else ""
            terminal.say(
                f"    hunk {hunk.number}: {hunk.verdict.value}, written for line "
                f"{hunk.written_for}, {place}{moved}"
            )
