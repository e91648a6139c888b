"""fixtool upstream"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import report
from fixtool.commands import options
from fixtool.errors import CannotRun, ExitCode, FixtoolError, Refused, UsageError

if TYPE_CHECKING:
    from fixtool.description import Description
    from fixtool.need import Need
    from fixtool.objects import Signature
    from fixtool.preflight import Preflight
    from fixtool.progress import Progress
    from fixtool.proposal import Proposal
    from fixtool.series import PatchRepository
    from fixtool.settings import Settings
    from fixtool.submission import Sent


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
    repository, settings = options.start(ctx, directory)
    progress = report.progress(quiet=json)
    if status:
        from fixtool.commands.standing import standing

        if slug or send or worktree or mail or body:
            raise UsageError("--status is of every patch, and sends nothing")
        standing(repository, settings, line, source, onto, progress, json=json, dry_run=dry_run)
        return
    if slug is None:
        raise UsageError("which patch?", hint="fixtool upstream SLUG, or fixtool upstream --status")
    if send and dry_run:
        raise UsageError("--send and --dry-run are opposites")
    from fixtool.apply import Request
    from fixtool.proposal import Unplaceable, propose

    sender = _sender(repository)
    wanted = Request(onto, source, line)
    interpreter, no_python = _interpreter(repository, settings, python)
    try:
        proposal = propose(repository, settings, wanted, slug, sender, progress, title)
    except Unplaceable as error:
        _superseded(repository, settings, wanted, slug, interpreter, progress)
        raise error
    found = _look(repository, settings, proposal, interpreter, progress, fresh=fresh)
    need, preflight, description = found
    refusal = _refusal(proposal, need, preflight, no_python)
    forms = _write(repository, proposal, description, worktree, mail, body, progress)
    sent: Sent | None = None
    if not json:
        _tell(proposal, need, preflight, description, forms)
    if send:
        if refusal:
            raise refusal
        if not json:
            report.say()
        sent = _send(
            repository, settings, proposal, description, fork, branch, progress, yes=yes, json=json
        )
    code = ExitCode.OK if refusal is None else refusal.exit_code
    if json:
        document = _document(proposal, need, preflight, description, forms, sent)
        document["refused"] = refusal and {"message": refusal.message, "hint": refusal.hint}
        report.print_document("upstream", code, document)
    elif refusal:
        raise refusal
    elif not send:
        report.say(f"next      fixtool upstream {proposal.slug} --onto {onto} --send")
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


def _sender(repository: PatchRepository) -> Signature | None:
    """Who signs off: the user of the patch repository's git; None where git does not know."""
    from fixtool import journal

    try:
        own = journal.open_journal(repository.root)
        return journal.identity(own) if own else None
    except CannotRun:
        return None


def _interpreter(
    repository: PatchRepository, settings: Settings, python: str | None
) -> tuple[str | None, CannotRun | None]:
    from fixtool.verify import target_python

    try:
        return target_python(python or settings.python, repository), None
    except CannotRun as error:
        return None, error


def _look(
    repository: PatchRepository,
    settings: Settings,
    proposal: Proposal,
    python: str | None,
    progress: Progress,
    *,
    fresh: bool,
) -> tuple[Need | None, Preflight, Description]:
    from fixtool.description import describe
    from fixtool.need import ask
    from fixtool.preflight import look

    need = None
    if python:
        need = ask(
            repository, settings, proposal.line, proposal.slug, proposal.source, proposal.target,
            python, progress,
        )  # fmt: skip
    preflight = look(repository, settings, proposal, python, progress, fresh=fresh)
    return need, preflight, describe(repository, proposal, preflight, need)


def _superseded(
    repository: PatchRepository,
    settings: Settings,
    wanted: Any,
    slug: str,
    python: str | None,
    progress: Progress,
) -> None:
    """Raise Refused where a patch that does not apply mends what is mended: its probe says so."""
    if python is None:
        return
    from dataclasses import replace

    from fixtool.apply import find_target
    from fixtool.need import ask

    line = repository.pick(wanted.line or settings.line)
    source, target = find_target(repository, settings, replace(wanted, line=line.name), progress)
    need = ask(repository, settings, line, slug, source, target, python, progress)
    if need.without == 0:
        raise Refused(
            f"{slug} is superseded: it does not apply to {target.commit[:12]}, and its probe says "
            "that the bug is not there",
            where=target.commit,
            hint=f"let it go: fixtool rebase --line {line.name} --onto {target.commit[:12]}",
        )


def _refusal(
    proposal: Proposal, need: Need | None, preflight: Preflight, no_python: CannotRun | None
) -> FixtoolError | None:
    """Why it may not be sent; None where it may."""
    where = proposal.target.commit
    if need is None:
        assert no_python is not None
        why = "nobody asked the probe, and no test was run: " + no_python.message
        return CannotRun(why, where=where, hint=no_python.hint)
    if need.script and not need.shown:
        return Refused(
            f"the probe of {proposal.slug} does not flip on {where[:12]}: {need.said}",
            where=need.script,
            hint=f"fixtool verify --prove --line {proposal.line.name} --sglang-ref {where[:12]}",
        )
    if not preflight.ok:
        failed = [one.id for one in preflight.hooks if one.outcome == "failed"]
        failed += [one.path for one in preflight.tests if one.outcome == "failed"]
        failed += [f"{one.rule} at {one.where}" for one in preflight.findings
                   if one.level.value == "error"]  # fmt: skip
        return Refused(
            f"the preflight says no: {'; '.join(failed[:4])}",
            where=proposal.slug,
            hint="mend the patch, then fixtool export, and the same command again",
        )
    if preflight.not_run:
        return CannotRun(
            f"not all of the preflight could run: {'; '.join(preflight.not_run[:3])}",
            where=proposal.slug,
            hint="pip install 'fixtool[upstream]', and a network for the package index",
        )
    return None


def _write(
    repository: PatchRepository,
    proposal: Proposal,
    description: Description,
    worktree: Path | None,
    mail: Path | None,
    body: Path | None,
    progress: Progress,
) -> dict[str, str]:
    """The forms that were asked for: kind -> where it lies."""
    from fixtool import forms

    found = {}
    if worktree:
        found["worktree"] = str(forms.branch(repository, proposal, worktree, progress))
    if mail:
        found["mail"] = str(forms.mail(proposal, description, mail))
    if body:
        found["body"] = str(forms.body(description, body))
    return found


def _send(
    repository: PatchRepository,
    settings: Settings,
    proposal: Proposal,
    description: Description,
    fork: str | None,
    branch: str | None,
    progress: Progress,
    *,
    yes: bool,
    json: bool,
) -> Sent:
    from fixtool.submission import Submission

    submission = Submission.prepare(
        repository, settings, proposal, description, os.environ, fork, branch
    )
    if not yes:
        if json or not typer.get_text_stream("stdin").isatty():
            raise UsageError(
                f"nothing was sent: {submission.plan()}", hint="the same command with --yes"
            )
        if not typer.confirm(f"{submission.plan()}. Send it?"):
            raise Refused("nothing was sent")
    sent = submission.send(progress)
    if not json:
        report.say(f"{sent.action:9} {sent.url}")
        if sent.commented:
            report.say("comment   what changed since then, as a range-diff")
        if sent.recorded:
            report.say(f"recorded  Forwarded: {sent.url} in {sent.recorded}")
    return sent


# -- telling ---------------------------------------------------------------------------------


def _tell(
    proposal: Proposal,
    need: Need | None,
    preflight: Preflight,
    description: Description,
    forms: dict[str, str],
) -> None:
    target = proposal.target
    report.say(f"line      {proposal.line.name}")
    report.say(f"onto      {target.commit[:12]} ({target.ref} from {target.source})")
    report.say(f"title     {description.title}")
    for one in proposal.absorbed:
        report.say(f"left out  {one}: upstream has it")
    if proposal.unsure:
        report.say(f"note      {proposal.unsure}")
    report.say()
    rows: list[Sequence[str]] = []
    for part in proposal.parts:
        for number, file in enumerate(part.files):
            size = "binary" if file.added is None else f"+{file.added} -{file.removed}"
            head = (part.commit[:12], part.title) if number == 0 else ("", "")
            rows.append((*head, file.path, size))
    report.table(("commit", "title", "file", "lines"), rows)
    report.say()
    if need:
        report.say(f"probe     {need.said}" + (f" ({need.device})" if need.device else ""))
    known = ", known from before" if preflight.reused else ""
    ran = [one for one in preflight.hooks if one.outcome in ("passed", "failed")]
    passed = sum(one.outcome == "passed" for one in ran)
    skipped = sum(one.outcome == "skipped" for one in preflight.hooks)
    report.say(f"hooks     {passed} of {len(ran)} passed, {skipped} had no file to look at{known}")
    for hook in preflight.hooks:
        if hook.outcome in ("failed", "not-run"):
            report.say(f"          {hook.id}: {hook.outcome}: {hook.said}")
    for test in preflight.tests:
        report.say(f"test      {test.path}: {test.outcome}, {test.said}")
    for finding in preflight.findings:
        report.say(f"{finding.level.value:9} {finding.where}: {finding.message} ({finding.fix})")
    for tick in description.ticks:
        report.say(f"{'[x]' if tick.ticked else '[ ]':9} {tick.item}: {tick.why}")
    for kind, where in forms.items():
        report.say(f"{kind:9} {where}")
    if not forms:
        report.say()
        report.say(description.body.rstrip())


def _document(
    proposal: Proposal,
    need: Need | None,
    preflight: Preflight,
    description: Description,
    forms: dict[str, str],
    sent: Sent | None,
) -> dict[str, Any]:
    return {
        "slug": proposal.slug,
        "line": proposal.line.name,
        "onto": proposal.target.commit,
        "ref": proposal.target.ref,
        "source": proposal.target.source,
        "title": description.title,
        "commits": proposal.parts,
        "absorbed": proposal.absorbed,
        "unsure": proposal.unsure,
        "need": need,
        "findings": preflight.findings,
        "hooks": preflight.hooks,
        "tests": preflight.tests,
        "reused": preflight.reused,
        "checklist": description.ticks,
        "template": description.template,
        "figures": [{"kind": one.kind, "source": one.source} for one in description.figures.tables],
        "stale": description.figures.stale,
        "body": description.body,
        "forms": forms,
        "sent": sent,
    }
