"""fixtool apply"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.build import Editable, Native, build_worktree, require_python, show_built
from fixtool.errors import (
    CannotRun,
    ExitCode,
    FixtoolError,
    NothingToBuild,
    Refused,
    UsageError,
)

if TYPE_CHECKING:
    from fixtool.apply.run import Applied
    from fixtool.judgement.run import JudgedPatch
    from fixtool.profile import Profile
    from fixtool.replay.verdict import PatchResult
    from fixtool.wheel.build import BuiltWheel


Into = Annotated[
    Path | None,
    Option("--into", metavar="DIR", help="Use this clean checkout of upstream, on a new branch."),
]
NewWorktree = Annotated[
    Path | None, Option("--worktree", metavar="DIR", help="Put the work tree here.")
]
Without = Annotated[
    list[str] | None,
    Option("--without", metavar="SLUG", help="Leave this patch out (more than once for several)."),
]
Build = Annotated[
    bool | None,
    Option("--build/--no-build", help="Make a wheel of the patched tree (default: if it can be)."),
]


def apply(
    ctx: typer.Context,
    ref: options.Ref = None,
    source: options.Source = None,
    line: options.LineName = None,
    worktree: NewWorktree = None,
    into: Into = None,
    without: Without = None,
    build: Build = None,
    python: options.Python = None,
    editable: Editable = False,
    native: Native = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Apply the series to a ref, in a work tree, and build it.

    The line that fits the ref best is chosen and named. A patch that upstream has, or that is not
    needed there, is left out and named too. Nothing changes if a patch needs a person.

    Example: fixtool apply --ref v0.5.23 --source pypi
    """
    from fixtool.apply.run import ApplyRequest
    from fixtool.apply.run import apply as run
    from fixtool.files import require_folder

    wanted = None if build is False else python
    _check_build_options(source, wanted, editable=editable, native=native)
    context = options.start(ctx, directory)
    if worktree and not dry_run and not worktree.exists():  # else it has to be a work tree
        require_folder(worktree, "--worktree")
    applied = run(context, ApplyRequest(
        ref, source, line, worktree, into, dry_run, tuple(without or ())
    ))  # fmt: skip
    built, not_built = None, ""
    if build is not False and applied.placed is not None:
        try:
            built = build_worktree(
                applied.placed.path, context.settings, context.progress,
                python=python, editable=editable, native=native,
            )  # fmt: skip
        except (CannotRun, Refused) as error:
            if build or editable or native or not _may_lack_wheel(error, applied.profile):
                raise
            what = "nothing to build here" if isinstance(error, NothingToBuild) else "no wheel"
            not_built = f"{what}: {error.message}"
    exit_code = ExitCode.OK if applied.ok else ExitCode.CONFLICT
    if json:
        terminal.print_document("apply", exit_code, _body(applied, built, not_built))
    else:
        _show(applied, built, context.typed, verbose=verbose, dry_run=dry_run)
        if not_built:
            terminal.say(f"build     {not_built}")
    raise typer.Exit(int(exit_code))


def _may_lack_wheel(error: FixtoolError, profile: Profile) -> bool:
    """Whether the work tree alone is a good answer: the tree holds no Python project, or is of a
    project of which fixtool does not know how it is built."""
    return isinstance(error, NothingToBuild) or not profile.package


def _check_build_options(
    source: str | None, python: str | None, *, editable: bool, native: bool
) -> None:
    """Refuse what could not be built, before anything is written."""
    require_python(python, editable=editable)
    if native and source == "pypi":
        raise UsageError(
            "--native compiles a git commit; a release brings its native code",
            hint="leave --native out, or use --source git",
        )
    if python is not None:
        from fixtool.interpreter import interpreter_tags

        interpreter_tags(python)


def _body(applied: Applied, built: BuiltWheel | None, not_built: str) -> dict[str, Any]:
    judgement, replay, placed = applied.judgement, applied.replay, applied.placed
    return {
        "ref": applied.target.ref,
        "source": applied.target.source,
        "line": replay.line,
        "line_reason": applied.choice.why,
        "runner_up": applied.choice.runner_up,
        "notes": [*applied.notes, *([not_built] if not_built else [])],
        **terminal.fields(replay, "base", "onto"),
        "commit": replay.commit if applied.ok else None,
        "tree": replay.tree if applied.ok else None,
        "patches": [
            {
                **terminal.fields(
                    patch.result, "slug", "subject", "verdict", "commit", "files", "evidence"
                ),
                "culprit": patch.culprit,
            }
            for patch in judgement.patches
        ],
        "left_out": [patch.slug for patch in judgement.left_out],
        "reused": replay.reused,
        "worktree": placed and placed.path,
        "branch": placed and placed.branch,
        "changed": placed is not None and placed.changed,
        "build": built,
    }


def _show(
    applied: Applied,
    built: BuiltWheel | None,
    typed: Sequence[str],
    *,
    verbose: bool,
    dry_run: bool,
) -> None:
    judgement, replay, target = applied.judgement, applied.replay, applied.target
    terminal.say(f"line      {replay.line} ({applied.choice.why})")
    if applied.choice.runner_up:
        terminal.say(f"or        {applied.choice.runner_up}, which would do as well")
    terminal.say(f"onto      {target.commit[:12]} ({target.ref} from {target.source})")
    for note in applied.notes:
        terminal.say(f"note      {note}")
    terminal.say()
    rows = [
        (patch.slug, patch.result.verdict.value,
         "left out" if patch.left_out else (patch.result.commit or "")[:12], patch.result.subject)
        for patch in judgement.patches
    ]  # fmt: skip
    terminal.table(("patch", "verdict", "commit", "subject"), rows)
    asking = [patch for patch in judgement.patches if patch.needs_person]
    for patch in judgement.patches if verbose else asking:
        _show_patch(patch.result, everything=verbose)
    terminal.say()
    for patch in judgement.left_out:
        reason = "; ".join(patch.result.evidence[:1])
        verdict = patch.result.verdict.value
        words = "by hand" if verdict == "left-out" else f"{verdict}, {reason}"
        terminal.say(f"left out  {patch.slug}: {words}")
    if not applied.ok:
        _show_asking(applied, asking, typed)
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


def _show_asking(applied: Applied, asking: Sequence[JudgedPatch], typed: Sequence[str]) -> None:
    """Say that a person is needed, and the command with which to go on."""
    line, target, lacks = applied.replay.line, applied.target, applied.choice.lacks
    if asking:
        total = len(applied.judgement.patches)
        terminal.say(f"{len(asking)} of {total} patches do not apply; nothing was changed")
    if lacks:
        terminal.say(
            f"no line has all that is needed here ({', '.join(lacks)}); nothing was changed"
        )
    source = "" if target.source == "git" else f" --source {shlex.quote(target.source)}"
    onto, name = shlex.quote(target.ref), applied.new_line
    if any("does not apply to its own base" in patch.result.evidence for patch in asking):
        terminal.say(
            "a patch does not fit its own base: its file was changed by hand, or is damaged"
        )
        options.say_next(f"fixtool lint --line {line} --drift", typed)
        return
    some = 0 < len(asking) < len(applied.judgement.patches)
    if asking:
        other = "; the second leaves those patches out" if some else ""
        which = "the first command" if some else "this command"
        terminal.say(f"{which} has you resolve the conflicts, in a new line {name}{other}")
    options.say_next(f"fixtool rebase --line {line} --onto {onto}{source} --new-line {name}", typed)
    if len(asking) == len(applied.judgement.patches):
        return  # without them all there is nothing to apply
    options.say_without([patch.slug for patch in asking], line, typed)


def _show_patch(patch: PatchResult, *, everything: bool) -> None:
    """Show the files and hunks of a patch: all of them, or those in conflict. A patch for eighty
    files would hide a conflict among hundreds of lines that say that all is well."""
    terminal.say()
    terminal.say(f"{patch.slug}: {'; '.join(patch.evidence) or patch.verdict.value}")
    for file in patch.files:
        if not everything and file.verdict.value != "conflict":
            continue
        terminal.say(f"  {file.path}: {file.verdict.value}")
        for hunk in file.hunks:
            if not everything and hunk.verdict.value != "conflict":
                continue
            place = f"stands at {hunk.line}" if hunk.line else "no place found here"
            moved = f" ({hunk.offset:+d})" if hunk.offset else ""
            terminal.say(
                f"    hunk {hunk.number}: {hunk.verdict.value}, written for line "
                f"{hunk.written_for}, {place}{moved}"
            )
