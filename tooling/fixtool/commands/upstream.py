"""fixtool upstream"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, Refused, UsageError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.progress import Progress
    from fixtool.series.line import PatchRepository
    from fixtool.settings import Settings
    from fixtool.upstream.prepare import PreparedPullRequest
    from fixtool.upstream.send import Destination, SendResult


def upstream(
    ctx: typer.Context,
    slug: Annotated[str | None, typer.Argument(metavar="[SLUG]")] = None,
    onto: Annotated[
        str, typer.Option("--onto", metavar="REF", help="Upstream's commit to build on.")
    ] = "main",
    worktree: Annotated[
        Path | None, typer.Option("--worktree", metavar="DIR", help="Put the branch there.")
    ] = None,
    mail: Annotated[
        Path | None,
        typer.Option("--mail", metavar="DIR", help="Write a mail series with a cover letter."),
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="Write the pull request's body.")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Another title.")
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Push to the fork and open the pull request.")
    ] = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="OWNER[/NAME]", help="Whose fork (default: the token's)."),
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="On the fork (default: SLUG).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Say where each patch stands upstream.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send and write nothing; the default without --send.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run hooks and tests again, whatever is known.")
    ] = False,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PY", help="The target's Python, with SGLang's packages."),
    ] = None,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Make a branch and a pull request of one patch and what it needs. Nothing is sent before you
    say so.

    Example: fixtool upstream gemma4-fused-routing --onto main
    """
    context = options.start(ctx, directory)
    repository, settings, progress = context.repository, context.settings, context.progress
    if status:
        from fixtool.commands.status import status as show_status

        if slug or send or worktree or mail or body:
            raise UsageError("--status is of every patch, and sends nothing")
        show_status(repository, settings, line, source, onto, progress, json=json, dry_run=dry_run)
        return
    if slug is None:
        raise UsageError("which patch?", hint="fixtool upstream SLUG, or fixtool upstream --status")
    if dry_run and (send or worktree or mail or body):
        raise UsageError("--dry-run sends and writes nothing: leave it out, or the others")
    from fixtool.sources.target import TargetRequest
    from fixtool.upstream.prepare import draft

    to = _destination(repository, settings, line, slug, fork) if send else None
    made = draft(
        repository, settings, TargetRequest(onto, source, line), slug, python, title, progress,
        fresh=fresh,
    )  # fmt: skip
    forms = _write(repository, made, worktree, mail, body, progress)
    if not json:
        _tell(made, forms)
    refusal, sent = made.refusal, None
    if to:
        if refusal:
            raise refusal
        if not json:
            terminal.say()
        sent = _send(repository, settings, made, to, branch, progress, yes=yes, json=json)
    if json:
        code = ExitCode.OK if refusal is None else refusal.exit_code
        terminal.print_document("upstream", code, _document(made, forms, sent))
        if refusal:
            raise typer.Exit(int(code))
    elif refusal:
        raise refusal
    elif not to:
        typed = {"--onto": onto, "--line": line, "--source": source, "-C": directory,
                 "--python": python, "--title": title, "--fork": fork,
                 "--branch": branch}  # fmt: skip
        words = [str(word) for one in typed.items() if one[1] for word in one]
        _say(f"next      {shlex.join(['fixtool', 'upstream', slug, *words, '--send'])}")


def _write(
    repository: PatchRepository,
    made: PreparedPullRequest,
    worktree: Path | None,
    mail: Path | None,
    body: Path | None,
    progress: Progress,
) -> dict[str, str]:
    """The forms that were asked for: kind -> where it lies."""
    from fixtool.upstream import outputs as forms

    found = {}
    if worktree:
        found["worktree"] = str(forms.branch(repository, made.proposal, worktree, progress))
    if mail:
        found["mail"] = str(forms.mail(made.proposal, made.description, mail))
    if body:
        found["body"] = str(forms.body(made.description, body))
    return found


def _destination(
    repository: PatchRepository, settings: Settings, line: str | None, slug: str, fork: str | None
) -> Destination:
    from fixtool.upstream.send import Destination

    chosen = repository.pick(line or settings.line)
    chosen.find(slug)  # before anybody is asked over the network
    return Destination.find(repository, settings, chosen, os.environ, fork)


def _send(
    repository: PatchRepository,
    settings: Settings,
    made: PreparedPullRequest,
    to: Destination,
    branch: str | None,
    progress: Progress,
    *,
    yes: bool,
    json: bool,
) -> SendResult:
    from fixtool.upstream.send import Submission

    submission = Submission(repository, settings, made.proposal, made.description, to, branch)
    if not yes:
        if json or not typer.get_text_stream("stdin").isatty():
            raise UsageError(
                f"nothing was sent: {submission.plan()}", hint="the same command with --yes"
            )
        if not typer.confirm(f"{printable(submission.plan())}. Send it?"):
            raise Refused("nothing was sent")
    sent = submission.send(progress)
    if not json:
        _say(f"{sent.action:9} {sent.url}")
        if sent.commented:
            _say("comment   what changed since then, as a range-diff")
        for kept, what in ((sent.kept_title, "title"), (sent.kept_body, "text")):
            if kept:
                _say(f"kept      the {what} that somebody wrote on GitHub")
        if sent.recorded:
            _say(f"recorded  Forwarded: {sent.url} in {sent.recorded}")
    return sent


# -- telling ---------------------------------------------------------------------------------


def _say(text: str) -> None:
    """A line, or lines, in which upstream's words and a hook's may stand."""
    terminal.say(printable(text.expandtabs(4)))


def _tell(made: PreparedPullRequest, forms: dict[str, str]) -> None:
    proposal, need, preflight, description = (
        made.proposal, made.need, made.preflight, made.description,
    )  # fmt: skip
    target = proposal.target
    _say(f"line      {proposal.line.name}")
    _say(f"onto      {target.commit[:12]} ({target.ref} from {target.source})")
    _say(f"title     {description.title}")
    for one in proposal.absorbed:
        _say(f"left out  {one}: upstream has it")
    for note in proposal.notes:
        _say(f"note      {note}")
    terminal.say()
    rows: list[Sequence[str]] = []
    for part in proposal.parts:
        for number, file in enumerate(part.files):
            size = "binary" if file.added is None else f"+{file.added} -{file.removed}"
            head = (part.commit[:12], part.title) if number == 0 else ("", "")
            rows.append((*head, file.path, size))
    terminal.table(("commit", "title", "file", "lines"), rows)
    terminal.say()
    if need:
        _say(f"probe     {need.said}" + (f" ({need.device})" if need.device else ""))
    known = ", known from before" if preflight.reused else ""
    ran = [one for one in preflight.hooks if one.outcome in ("passed", "failed")]
    passed = sum(one.outcome == "passed" for one in ran)
    skipped = sum(one.outcome == "skipped" for one in preflight.hooks)
    _say(f"hooks     {passed} of {len(ran)} passed, {skipped} had no file to look at{known}")
    for hook in preflight.hooks:
        if hook.outcome not in ("passed", "skipped"):
            _say(f"          {hook.id}: {hook.outcome}: {hook.said}")
    for test in preflight.tests:
        _say(f"test      {test.path}: {test.outcome}, {test.said}")
    for finding in made.findings:
        _say(f"{finding.level.value:9} {finding.where}: {finding.message} ({finding.fix})")
    for tick in description.ticks:
        _say(f"{'[x]' if tick.ticked else '[ ]':9} {tick.item}: {tick.why}")
    for kind, where in forms.items():
        _say(f"{kind:9} {where}")
    if not forms:
        terminal.say()
        _say(description.body.rstrip())


def _document(
    made: PreparedPullRequest, forms: dict[str, str], sent: SendResult | None
) -> dict[str, Any]:
    proposal, preflight, description = made.proposal, made.preflight, made.description
    refusal = made.refusal
    return {
        "slug": proposal.slug,
        "line": proposal.line.name,
        "onto": proposal.target.commit,
        "ref": proposal.target.ref,
        "source": proposal.target.source,
        "title": description.title,
        "commits": proposal.parts,
        "absorbed": proposal.absorbed,
        "notes": proposal.notes,
        "need": made.need,
        "findings": made.findings,
        "hooks": preflight.hooks,
        "tests": preflight.tests,
        "reused": preflight.reused,
        "checklist": description.ticks,
        "template": description.template,
        "figures": [
            {"kind": one.kind, "sources": one.sources} for one in description.figures.tables
        ],
        "stale": description.figures.stale,
        "body": description.body,
        "forms": forms,
        "sent": sent,
        "refused": refusal and {"message": refusal.message, "hint": refusal.hint},
    }
