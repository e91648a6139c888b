"""fixtool rebase"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.retype import complete
from fixtool.errors import ExitCode, UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from pathlib import Path

    from fixtool.rebase.result import AskProbes, ParkedPatch, PatchOutcome, Place, Rebased
    from fixtool.series.context import Context


Onto = Annotated[
    str | None, Option("--onto", metavar="REF", help="A commit id, tag, branch or release.")
]
GoOn = Annotated[bool, Option("--continue", help="Go on after you have resolved the conflict.")]
Skip = Annotated[bool, Option("--skip", help="Go on without the patch, which is put on the shelf.")]
Abort = Annotated[
    bool, Option("--abort", help="End a rebase that waits. The line stays as it was.")
]
SkipReason = Annotated[str, Option("--reason", metavar="TEXT", help="Why the patch is skipped.")]
NewLine = Annotated[
    str | None,
    Option("--new-line", metavar="NAME", help="Write a new line; leave this one as it is."),
]
AcceptResolutions = Annotated[
    bool,
    Option("--accept-resolutions", help="Use remembered resolutions without waiting for a person."),
]
Probe = Annotated[
    bool, Option("--probe", help="Run each patch's probe, to see if its bug is still there.")
]


def rebase(
    ctx: typer.Context,
    onto: Onto = None,
    go_on: GoOn = False,
    skip: Skip = False,
    abort: Abort = False,
    reason: SkipReason = "skipped by hand",
    new_line: NewLine = None,
    accept_resolutions: AcceptResolutions = False,
    probe: Probe = False,
    python: options.Python = None,
    source: options.Source = None,
    line: options.LineName = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Move a line onto another commit. What upstream has is dropped, what moved is rewritten.

    On a conflict, patches/ stays as it is and a work tree waits: --continue, --skip or --abort.

    Example: fixtool rebase --onto main
    """
    from fixtool.rebase import run
    from fixtool.rebase.session import find_session, give_up

    ways = {"--continue": go_on, "--skip": skip, "--abort": abort}
    given = [name for name, wanted in ways.items() if wanted]
    if len(given) + bool(onto) != 1:
        if onto:
            raise UsageError(
                "--onto begins a rebase, and --continue, --skip and --abort are for one that waits",
                hint=f"begin one: the same command without {given[0]}; or go on: the same command "
                "without --onto",
            )
        hint = f"the same command without {given[-1]}" if given else "--onto main"
        raise UsageError("give one of --onto REF, --continue, --skip, --abort", hint=hint)
    context = options.start(ctx, directory)
    if onto:
        ask = _ask_probes(context, source, python) if probe else None
        rebased = run.rebase(context, run.RebaseRequest(
            onto, source, line, new_line, dry_run, probe, python, accept_resolutions,
            range_diff=json or verbose,
        ), ask)  # fmt: skip
    else:
        session = find_session(context, line or context.settings.line)
        if abort:
            give_up(context, session)
            _answer_aborted(session.line, json=json)
        ask = _ask_probes(context, session.source, session.python) if session.probe else None
        why = reason if skip else None
        rebased = run.resume(
            context, session, ask, skip=why, accept=accept_resolutions, range_diff=json or verbose
        )
    exit_code = ExitCode.CONFLICT if rebased.stopped_at else ExitCode.OK
    if json:
        terminal.print_document("rebase", exit_code, _body(rebased, context.typed))
    else:
        _show(rebased, context.repository.folder, context.typed, verbose=verbose)
    raise typer.Exit(int(exit_code))


def _answer_aborted(line: str, *, json: bool) -> NoReturn:
    if json:
        terminal.print_document("rebase", ExitCode.OK, {"line": line, "aborted": True})
    else:
        terminal.say(f"line {line} is as it was; the work tree is gone")
    raise typer.Exit


def _ask_probes(context: Context, source: str | None, python: str | None) -> AskProbes:
    """A function that runs the probes of a line on a commit, in the target's Python."""
    from fixtool.series.line import Line
    from fixtool.sources.resolve import Target
    from fixtool.verify.request import RunKind, RunOptions, VerifyRequest
    from fixtool.verify.run import verify
    from fixtool.verify.suite import BASE

    options.warn_of_credentials()

    def ask(line: Line, target: Target) -> dict[str, int | None]:
        ref = target.version if target.release and target.version else target.commit
        request = VerifyRequest(ref, source, line.name, (RunKind.ASK,))
        result = verify(context, request, RunOptions(python=python)).result
        return {entry.slug: result.answer(entry.slug, BASE) for entry in line.entries}

    return ask


def _body(rebased: Rebased, typed: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON document without its head; `rebase.result.read_rebased` reads it back."""
    parked = rebased.parked
    session = parked and {
        "worktree": parked.worktree,
        "patch": parked.slug,
        **terminal.fields(parked, "position", "of", "conflicts", "remembered", "culprit", "intent"),
        **terminal.fields(parked, "places", "hunks", "skipped_before"),
        "next": complete(_go_on(rebased.line, parked), typed),
    }
    return {
        **terminal.fields(
            rebased, "line", "new_line", "base", "onto", "ref", "source", "dry_run", "moved"
        ),
        "patches": [_patch_body(outcome) for outcome in rebased.outcomes],
        **terminal.fields(rebased, "tree", "commit", "committed", "warnings", "range_diff"),
        "session": session,
    }


def _patch_body(outcome: PatchOutcome) -> dict[str, Any]:
    before, after = outcome.probe_before, outcome.probe_after
    asked = before is not None or after is not None
    return {
        **terminal.fields(
            outcome.result, "slug", "subject", "verdict", "commit", "files", "evidence"
        ),
        **terminal.fields(outcome, "culprit", "action"),
        "probe": {"before": before, "after": after} if asked else None,
    }


def _show(rebased: Rebased, folder: Path, typed: Sequence[str], *, verbose: bool) -> None:
    name = f" -> {rebased.new_line}" if rebased.new_line else ""
    terminal.say(f"line      {rebased.line}{name}")
    terminal.say(f"onto      {rebased.onto[:12]} ({rebased.ref} from {rebased.source})")
    if not rebased.outcomes:
        terminal.say("the line is on that commit already; nothing to do")
        return
    terminal.say()
    rows = []
    for outcome in rebased.outcomes:
        result, culprit = outcome.result, outcome.culprit
        by = f"{culprit.sha[:12]} {culprit.subject}" if culprit else ""
        action = "needs you" if outcome.action.value == "asked" else outcome.action.value
        if result.verdict == "skipped":
            by = f"since: {result.evidence[0]}"
        rows.append((result.slug, result.verdict.value, action, by))
        if verbose:
            rows += [("", "", "", f"  {reason}") for reason in result.evidence]
    terminal.table(("patch", "verdict", "action", "upstream commit"), rows)
    terminal.say()
    for warning in rebased.warnings:
        terminal.say(f"look      {warning}")
    if rebased.parked:
        _show_parked(rebased, rebased.parked, typed)
    elif rebased.stopped_at:
        terminal.say("a person is needed; nothing was changed")
        words = [word for word in typed if word != "--dry-run"]
        options.say_next(shlex.join(["fixtool", *words]), words)
    else:
        _show_moved(rebased, folder, typed, verbose=verbose)


def _show_moved(rebased: Rebased, folder: Path, typed: Sequence[str], *, verbose: bool) -> None:
    terminal.say(f"tree      {rebased.tree}")
    if rebased.dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif rebased.committed:
        options.say_committed(rebased.committed)
    else:
        options.say_not_committed(folder / (rebased.new_line or rebased.line))
    if verbose and rebased.range_diff:
        terminal.say()
        terminal.say(rebased.range_diff.rstrip())
    if not rebased.dry_run:
        name = rebased.new_line or rebased.line
        source = (
            "" if rebased.source in ("git", "pypi") else f" --source {shlex.quote(rebased.source)}"
        )
        commands = f"fixtool apply --line {name}{source}"
        if rebased.provable:
            commands += f"; fixtool verify --prove --line {name}{source}"
        options.say_next(commands, typed)


def _show_parked(rebased: Rebased, parked: ParkedPatch, typed: Sequence[str]) -> None:
    terminal.say(f"{parked.slug} (patch {parked.position} of {parked.of}) needs a person")
    for hunk in parked.hunks:
        now = f"; upstream has its lines now in {hunk.now_in}:{hunk.now_at}" if hunk.now_in else ""
        terminal.say(f"  {hunk.path}: hunk {hunk.number}, written for line "
                     f"{hunk.written_for}{now}")  # fmt: skip
    if culprit := parked.culprit:
        terminal.say(f"  since {culprit.sha[:12]} of {culprit.date[:10]} by {culprit.author}:")
        terminal.say(f"    {culprit.subject}")
        for text in parked.intent.split("\n") if parked.intent else ():
            terminal.say(f"    {text}")
    terminal.say(f"worktree  {parked.worktree}")
    if parked.remembered:
        terminal.say("resolved  as it was resolved before: look at it, then go on")
    else:
        if parked.skipped_before:
            terminal.say(f"skipped   before, at the same conflict, since: {parked.skipped_before}")
        for place in parked.places:
            _show_place(place, parked.worktree)
    others = "--continue" if parked.skipped_before else "--skip"
    options.say_next(f"{_go_on(rebased.line, parked)}   (or {others}, or --abort)", typed)


def _go_on(line: str, parked: ParkedPatch) -> str:
    """The command that goes on: as it was decided at the same conflict before, if it was."""
    if reason := parked.skipped_before:
        return f"fixtool rebase --line {line} --skip --reason {argument(reason)}"
    return f"fixtool rebase --line {line} --continue"


def _show_place(place: Place, worktree: str) -> None:
    """Say where to edit a file in conflict: the lines at which its conflict markers begin."""
    if place.why:
        at, file = f"git -C {argument(worktree)}", argument(place.path)
        terminal.say(f"decide    {place.path}: {place.why}")
        terminal.say(f"          {at} add {file} or {at} rm {file}")
        return
    more = f" (and at {', '.join(map(str, place.lines[1:]))})" if place.lines[1:] else ""
    line = f":{place.lines[0]}" if place.lines else ""
    terminal.say(f"edit      {place.path}{line}{more}")
