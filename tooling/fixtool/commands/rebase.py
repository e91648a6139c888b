"""fixtool rebase"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.build import Python
from fixtool.errors import ExitCode, UsageError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.rebase.result import Outcome, Rebased
    from fixtool.rebase.run import Ask
    from fixtool.series.line import PatchRepository
    from fixtool.settings import Settings


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
    from fixtool.rebase import run as core
    from fixtool.rebase import session as parked

    chosen = [name for name, on in (("--onto", onto), ("--continue", go_on), ("--skip", skip),
                                    ("--abort", abort)) if on]  # fmt: skip
    if len(chosen) != 1:
        raise UsageError(
            "give one of --onto REF, --continue, --skip, --abort",
            hint="fixtool rebase --onto main",
        )
    context = options.start(ctx, directory)
    repository, settings, progress = context.repository, context.settings, context.progress
    if onto:
        request = core.Request(
            onto, source, line, new_line, dry_run, probe,
            str(python) if python else None, accept_resolutions,
        )  # fmt: skip
        ask = _ask(repository, settings, source, request.python, json) if probe else None
        done = core.rebase(repository, settings, request, progress, ask)
    else:
        session = parked.the_session(repository, settings, line or settings.line)
        if abort:
            core.abort(repository, settings, session)
            if json:
                gone = {"line": session.line, "aborted": True}
                terminal.print_document("rebase", ExitCode.OK, gone)
            else:
                terminal.say(f"line {session.line} is as it was; the work tree is gone")
            return
        ask = None
        if session.probe:
            ask = _ask(repository, settings, session.source, session.python, json)
        done = core.go_on(
            repository, settings, session, progress, ask,
            skip=reason if skip else None, accept=accept_resolutions,
        )  # fmt: skip
    exit_code = ExitCode.OK if done.ok else ExitCode.CONFLICT
    if json:
        terminal.print_document("rebase", exit_code, _body(done, dry_run=dry_run))
    else:
        _tell(done, dry_run=dry_run, verbose=verbose)
    raise typer.Exit(int(exit_code))


def _ask(
    repository: PatchRepository, settings: Settings, source: str | None, python: str | None,
    quiet: bool,
) -> Ask:  # fmt: skip
    """Asks a line's probes on a commit, in the target's Python."""
    from fixtool.series.line import Line
    from fixtool.sources.resolve import Target
    from fixtool.verify.run import ASK, Request, Where, verify
    from fixtool.verify.suite import BASE

    def ask(line: Line, target: Target) -> dict[str, int | None]:
        ref = target.version if target.release and target.version else target.commit
        request = Request(ref, source, line.name, (ASK,))
        where = Where(python=python)
        result = verify(repository, settings, request, where, terminal.progress(quiet=quiet)).result
        return {one.slug: result.answer(one.slug, BASE) for one in line.entries}

    return ask


def _body(done: Rebased, *, dry_run: bool) -> dict[str, Any]:
    replay, session = done.replay, done.session
    asked = next((one for one in done.outcomes if one.action.value == "asked"), None)
    return {
        "line": done.line,
        "new_line": done.new_line,
        "base": done.base,
        "onto": done.target.commit,
        "ref": done.target.ref,
        "source": done.target.source,
        "dry_run": dry_run,
        "moved": done.moved,
        "patches": [_patch_body(one) for one in done.outcomes],
        "tree": replay.tree if replay and done.ok else None,
        "commit": replay.commit if replay and done.ok else None,
        "committed": done.committed,
        "warnings": done.warnings,
        "range_diff": done.range_diff,
        "session": session
        and {
            "worktree": session.worktree,
            "patch": session.slug,
            "position": session.position,
            "of": session.of,
            "conflicts": session.conflicts,
            "remembered": session.remembered,
            "culprit": asked and asked.culprit,
            "intent": done.intent,
            "next": "fixtool rebase --continue",
        },
    }


def _patch_body(one: Outcome) -> dict[str, Any]:
    result = one.result
    return {
        "slug": result.slug,
        "subject": result.subject,
        "verdict": result.verdict,
        "commit": result.commit,
        "files": result.files,
        "evidence": result.evidence,
        "culprit": one.culprit,
        "action": one.action,
        "probe": None if one.probe is None else {"before": one.probe, "after": None},
    }


def _tell(done: Rebased, *, dry_run: bool, verbose: bool) -> None:
    target = done.target
    terminal.say(f"line      {done.line}" + (f" -> {done.new_line}" if done.new_line else ""))
    terminal.say(f"onto      {target.commit[:12]} ({printable(target.ref)} from {target.source})")
    if not done.outcomes:
        terminal.say("it is there already; nothing to do")
        return
    terminal.say()
    rows = []
    for one in done.outcomes:
        by = f"{one.culprit.sha[:12]} {one.culprit.subject}" if one.culprit else ""
        rows.append((one.result.slug, one.result.verdict.value, one.action.value, by))
        if verbose:
            rows += [("", "", "", f"  {why}") for why in one.result.evidence]
    terminal.table(("patch", "verdict", "now", "by upstream's"), rows)
    terminal.say()
    for warning in done.warnings:
        terminal.say(f"look      {printable(warning)}")
    if done.ok:
        _tell_moved(done, dry_run=dry_run, verbose=verbose)
    elif done.session is None:
        terminal.say("a person is needed; nothing was changed")
        terminal.say(f"next      fixtool rebase --onto {printable(target.ref)}")
    else:
        _tell_waiting(done)


def _tell_moved(done: Rebased, *, dry_run: bool, verbose: bool) -> None:
    assert done.replay is not None
    terminal.say(f"tree      {done.replay.tree}")
    if dry_run:
        terminal.say("nothing was written (--dry-run)")
    elif done.committed:
        terminal.say(f"committed {done.committed[:12]} in the patch repository")
    else:
        terminal.say("written; the patch repository is not in git, so nothing was committed")
    if verbose and done.range_diff:
        terminal.say()
        terminal.say(printable(done.range_diff.rstrip()))
    if not dry_run:
        name = done.new_line or done.line
        terminal.say(f"next      fixtool apply --line {name}; fixtool verify --prove --line {name}")


def _tell_waiting(done: Rebased) -> None:
    session = done.session
    assert session is not None
    asked = next(one for one in done.outcomes if one.result.slug == session.slug)
    terminal.say(f"{session.slug} (patch {session.position} of {session.of}) needs a person")
    for file in asked.result.files:
        for hunk in file.hunks:
            if hunk.verdict.value == "conflict":
                terminal.say(f"  {printable(file.path)}: hunk {hunk.number}, "
                           f"written for line {hunk.written_for}")  # fmt: skip
    if by := asked.culprit:
        terminal.say(f"  since {by.sha[:12]} of {by.date[:10]} by {printable(by.author)}:")
        terminal.say(f"    {printable(by.subject)}")
        for text in done.intent.split("\n") if done.intent else ():
            terminal.say(f"    {printable(text)}")
    terminal.say(f"worktree  {session.worktree}")
    if session.remembered:
        terminal.say("resolved  as it was resolved before: look at it, then go on")
    else:
        for path in session.conflicts:
            terminal.say(f"edit      {printable(path)}")
    terminal.say("next      fixtool rebase --continue   (or --skip, or --abort)")
