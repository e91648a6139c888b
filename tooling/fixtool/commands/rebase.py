"""fixtool rebase"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.build import Python
from fixtool.errors import ExitCode, UsageError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.rebase.result import AskProbes, ParkedPatch, PatchOutcome, Rebased
    from fixtool.series.context import Context


def rebase(
    ctx: typer.Context,
    onto: Annotated[
        str | None,
        typer.Option("--onto", metavar="REF", help="A commit id, tag, branch or release."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on: the conflict is resolved.")
    ] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Go on without the patch: it stays, on the shelf.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="End a rebase that waits; nothing has changed.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, with --skip.")
    ] = "skipped by hand",
    new_line: Annotated[
        str | None,
        typer.Option("--new-line", metavar="NAME", help="Start another line; leave this as it is."),
    ] = None,
    accept_resolutions: Annotated[
        bool,
        typer.Option("--accept-resolutions", help="Take remembered resolutions without a look."),
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask each patch's own probe whether its bug is there.")
    ] = False,
    python: Python = None,
    source: options.Source = None,
    line: options.LineName = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Move a line onto another commit: what upstream has is dropped, what moved is rewritten.

    A conflict leaves patches/ as it is and a work tree to resolve it in; then --continue, --skip or
    --abort.

    Example: fixtool rebase --onto main
    """
    from fixtool.rebase import run
    from fixtool.rebase.session import find_session

    chosen = [name for name, on in (("--onto", onto), ("--continue", go_on), ("--skip", skip),
                                    ("--abort", abort)) if on]  # fmt: skip
    if len(chosen) != 1:
        raise UsageError(
            "give one of --onto REF, --continue, --skip, --abort",
            hint="fixtool rebase --onto main",
        )
    context = options.start(ctx, directory)
    if onto:
        request = run.RebaseRequest(
            onto, source, line, new_line, dry_run, probe,
            str(python) if python else None, accept_resolutions,
        )  # fmt: skip
        ask = _ask_probes(context, source, request.python, quiet=json) if probe else None
        rebased = run.rebase(context, request, ask)
    else:
        session = find_session(context, line or context.settings.line)
        if abort:
            run.abort(context, session)
            if json:
                aborted = {"line": session.line, "aborted": True}
                terminal.print_document("rebase", ExitCode.OK, aborted)
            else:
                terminal.say(f"line {session.line} is as it was; the work tree is gone")
            return
        ask = None
        if session.probe:
            ask = _ask_probes(context, session.source, session.python, quiet=json)
        rebased = run.resume(
            context, session, ask, skip=reason if skip else None, accept=accept_resolutions
        )
    exit_code = ExitCode.CONFLICT if rebased.stopped_at else ExitCode.OK
    if json:
        terminal.print_document("rebase", exit_code, _body(rebased))
    else:
        _tell(rebased, verbose=verbose)
    raise typer.Exit(int(exit_code))


def _ask_probes(
    context: Context, source: str | None, python: str | None, *, quiet: bool
) -> AskProbes:
    """Runs the probes of a line on a commit, in the target's Python."""
    from fixtool.series.line import Line
    from fixtool.sources.resolve import Target
    from fixtool.verify.request import RunKind, RunOptions, VerifyRequest
    from fixtool.verify.run import verify
    from fixtool.verify.suite import BASE

    def ask(line: Line, target: Target) -> dict[str, int | None]:
        ref = target.version if target.release and target.version else target.commit
        request = VerifyRequest(ref, source, line.name, (RunKind.ASK,))
        quietly = replace(context, progress=terminal.progress(quiet=quiet))
        result = verify(quietly, request, RunOptions(python=python)).result
        return {entry.slug: result.answer(entry.slug, BASE) for entry in line.entries}

    return ask


def _body(rebased: Rebased) -> dict[str, Any]:
    """The JSON document without its head; `rebase.result.read_rebased` reads it back."""
    parked = rebased.parked
    return {
        "line": rebased.line,
        "new_line": rebased.new_line,
        "base": rebased.base,
        "onto": rebased.onto,
        "ref": rebased.ref,
        "source": rebased.source,
        "dry_run": rebased.dry_run,
        "moved": rebased.moved,
        "patches": [_patch_body(outcome) for outcome in rebased.outcomes],
        "tree": rebased.tree,
        "commit": rebased.commit,
        "committed": rebased.committed,
        "warnings": rebased.warnings,
        "range_diff": rebased.range_diff,
        "session": parked
        and {
            "worktree": parked.worktree,
            "patch": parked.slug,
            "position": parked.position,
            "of": parked.of,
            "conflicts": parked.conflicts,
            "remembered": parked.remembered,
            "culprit": parked.culprit,
            "intent": parked.intent,
            "next": "fixtool rebase --continue",
        },
    }


def _patch_body(outcome: PatchOutcome) -> dict[str, Any]:
    before, after = outcome.probe_before, outcome.probe_after
    result = outcome.result
    return {
        "slug": result.slug,
        "subject": result.subject,
        "verdict": result.verdict,
        "commit": result.commit,
        "files": result.files,
        "evidence": result.evidence,
        "culprit": outcome.culprit,
        "action": outcome.action,
        "probe": None if before is None and after is None else {"before": before, "after": after},
    }


def _tell(rebased: Rebased, *, verbose: bool) -> None:
    name = f" -> {rebased.new_line}" if rebased.new_line else ""
    terminal.say(f"line      {rebased.line}{name}")
    terminal.say(f"onto      {rebased.onto[:12]} ({printable(rebased.ref)} from {rebased.source})")
    if not rebased.outcomes:
        terminal.say("it is there already; nothing to do")
        return
    terminal.say()
    rows = []
    for outcome in rebased.outcomes:
        result, culprit = outcome.result, outcome.culprit
        by = f"{culprit.sha[:12]} {culprit.subject}" if culprit else ""
        rows.append((result.slug, result.verdict.value, outcome.action.value, by))
        if verbose:
            rows += [("", "", "", f"  {reason}") for reason in result.evidence]
    terminal.table(("patch", "verdict", "now", "by upstream's"), rows)
    terminal.say()
    for warning in rebased.warnings:
        terminal.say(f"look      {printable(warning)}")
    if rebased.parked:
        _tell_parked(rebased, rebased.parked)
    elif rebased.stopped_at:
        terminal.say("a person is needed; nothing was changed")
        terminal.say(f"next      fixtool rebase --onto {printable(rebased.ref)}")
    else:
        _tell_moved(rebased, verbose=verbose)


def _tell_moved(rebased: Rebased, *, verbose: bool) -> None:
    terminal.say(f"tree      {rebased.tree}")
    if rebased.dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif rebased.committed:
        terminal.say(f"committed {rebased.committed[:12]} in the patch repository")
    else:
        terminal.say("written; the patch repository is not in git, so nothing was committed")
    if verbose and rebased.range_diff:
        terminal.say()
        terminal.say(printable(rebased.range_diff.rstrip()))
    if not rebased.dry_run:
        name = rebased.new_line or rebased.line
        terminal.say(f"next      fixtool apply --line {name}; fixtool verify --prove --line {name}")


def _tell_parked(rebased: Rebased, parked: ParkedPatch) -> None:
    terminal.say(f"{parked.slug} (patch {parked.position} of {parked.of}) needs a person")
    outcome = next(item for item in rebased.outcomes if item.result.slug == parked.slug)
    for file in outcome.result.files:
        for hunk in file.hunks:
            if hunk.verdict.value == "conflict":
                terminal.say(f"  {printable(file.path)}: hunk {hunk.number}, "
                           f"written for line {hunk.written_for}")  # fmt: skip
    if culprit := parked.culprit:
        author = printable(culprit.author)
        terminal.say(f"  since {culprit.sha[:12]} of {culprit.date[:10]} by {author}:")
        terminal.say(f"    {printable(culprit.subject)}")
        for text in parked.intent.split("\n") if parked.intent else ():
            terminal.say(f"    {printable(text)}")
    terminal.say(f"worktree  {parked.worktree}")
    if parked.remembered:
        terminal.say("resolved  as it was resolved before: look at it, then go on")
    else:
        for path in parked.conflicts:
            terminal.say(f"edit      {printable(path)}")
    terminal.say("next      fixtool rebase --continue   (or --skip, or --abort)")
