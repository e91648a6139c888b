"""fixtool upstream"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.retype import complete
from fixtool.commands.status import show_status
from fixtool.errors import ExitCode, Refused, UsageError
from fixtool.text import escaped

if TYPE_CHECKING:
    from fixtool.series.context import Context
    from fixtool.upstream.prepare import PreparedPullRequest
    from fixtool.upstream.send import Destination, SendResult


Slug = Annotated[str | None, Argument(metavar="[SLUG]", help="The patch.")]
Onto = Annotated[
    str | None,
    Option("--onto", metavar="REF", help="The commit to build on (default: main, or else master)."),
]
BranchFolder = Annotated[
    Path | None, Option("--worktree", metavar="DIR", help="Put the branch there.")
]
MailFolder = Annotated[
    Path | None, Option("--mail", metavar="DIR", help="Write a mail series with a cover letter.")
]
BodyFile = Annotated[
    Path | None, Option("--body", metavar="FILE", help="Write the pull request's body.")
]
Title = Annotated[str | None, Option("--title", metavar="TEXT", help="Use this title.")]
Send = Annotated[bool, Option("--send", help="Push to the fork and open the pull request.")]
Fork = Annotated[
    str | None,
    Option("--fork", metavar="OWNER[/NAME]", help="The fork (default: of the token's owner)."),
]
Branch = Annotated[
    str | None, Option("--branch", metavar="NAME", help="The branch on the fork (default: SLUG).")
]
Yes = Annotated[bool, Option("--yes", help="Send without asking.")]
Status = Annotated[bool, Option("--status", help="Say where each patch stands upstream.")]
DryRun = Annotated[
    bool, Option("--dry-run", help="Send and write nothing; the default without --send.")
]
Fresh = Annotated[
    bool, Option("--fresh", help="Run hooks and tests again, even if they ran before.")
]


def upstream(
    ctx: typer.Context,
    slug: Slug = None,
    onto: Onto = None,
    worktree: BranchFolder = None,
    mail: MailFolder = None,
    body: BodyFile = None,
    title: Title = None,
    send: Send = False,
    fork: Fork = None,
    branch: Branch = None,
    yes: Yes = False,
    status: Status = False,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    python: options.Python = None,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Make a branch and a pull request of one patch and what it needs. Only --send sends anything.

    Example: fixtool upstream gemma4-fused-routing --onto main
    """
    context = options.start(ctx, directory)
    acting = bool(send or worktree or mail or body)
    if status:
        if slug or acting:
            raise UsageError("--status is of every patch, and sends nothing")
        show_status(context, line, source, onto, json=json, dry_run=dry_run)
    if slug is None:
        raise UsageError(
            "SLUG is missing: the patch to propose",
            hint=f"name it: {shlex.join(['fixtool', *context.typed, 'SLUG'])}; or see where all "
            "stand: fixtool upstream --status",
        )
    if dry_run and acting:
        raise UsageError("--dry-run sends and writes nothing: leave it out, or the others")
    from fixtool.files import require_file, require_folder
    from fixtool.sources.target import TargetRequest
    from fixtool.upstream.outputs import require_new
    from fixtool.upstream.prepare import prepare

    require_file(body, "--body")
    require_folder(worktree, "--worktree")
    require_folder(mail, "--mail")
    if mail:
        require_new(mail)

    options.warn_of_credentials()
    to = _destination(context, line, slug, fork) if send else None
    prepared = prepare(
        context, TargetRequest(onto, source, line, newest=True), slug, python, title, fresh=fresh
    )
    outputs = _write(context, prepared, worktree, mail, body)
    if not json:
        _show(prepared, outputs, context.typed)
    if prepared.refusal and (to or not json):
        raise prepared.refusal
    sent = _send(context, prepared, to, branch, yes=yes, json=json) if to else None
    if json:
        _print_document(prepared, outputs, sent)
    elif not to:
        _say_next(slug, ctx.params)


def _say_next(slug: str, given: Mapping[str, object]) -> None:
    """Say the same command with --send; ``given`` are the values of its options."""
    names = ("onto", "line", "source", "directory", "python", "title", "fork", "branch")
    options = {"-C" if name == "directory" else f"--{name}": given[name] for name in names}
    words = [str(word) for name, value in options.items() if value for word in (name, value)]
    _say(f"next      {shlex.join(['fixtool', 'upstream', slug, *words, '--send'])}")


def _write(
    context: Context,
    prepared: PreparedPullRequest,
    worktree: Path | None,
    mail: Path | None,
    body: Path | None,
) -> dict[str, str]:
    """Write the requested outputs. Returns the kind of each and its path."""
    from fixtool.upstream.outputs import write_body, write_mail, write_worktree

    branch, text = prepared.branch, prepared.text
    paths = {}
    if worktree:
        paths["worktree"] = str(write_worktree(context, branch, worktree))
    if mail:
        paths["mail"] = str(write_mail(branch, text, mail))
    if body:
        paths["body"] = str(write_body(text, body))
    return paths


def _destination(context: Context, line: str | None, slug: str, fork: str | None) -> Destination:
    from fixtool.upstream.send import find_destination

    chosen = options.pick_line(context, line)
    chosen.find(slug)  # raises before anything is asked over the network
    return find_destination(context, chosen, os.environ, fork)


def _send(
    context: Context,
    prepared: PreparedPullRequest,
    to: Destination,
    branch: str | None,
    *,
    yes: bool,
    json: bool,
) -> SendResult:
    from fixtool.upstream.send import plan_send, send

    if not json:
        terminal.say()
    plan = plan_send(context, prepared.branch, prepared.text, to, branch)
    if not yes:
        if json or not typer.get_text_stream("stdin").isatty():
            raise UsageError(
                f"nothing was sent: {plan.describe()}", hint="the same command with --yes"
            )
        if not typer.confirm(escaped(f"{plan.describe()}. Send it?")):
            raise Refused("nothing was sent")
    sent = send(plan)
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


def _say(text: str) -> None:
    """Print lines that may hold words of upstream's or of a hook."""
    terminal.say(text.expandtabs(4))


def _show(prepared: PreparedPullRequest, outputs: dict[str, str], typed: Sequence[str]) -> None:
    branch, flip, checks, text = prepared.branch, prepared.flip, prepared.checks, prepared.text
    target = branch.target
    _say(f"line      {branch.line.name}")
    _say(f"onto      {target.commit[:12]} ({target.ref} from {target.source})")
    _say(f"title     {text.title}")
    for name in branch.absorbed:
        _say(f"left out  {name}: upstream has it")
    for note in branch.notes:
        _say(f"note      {note}")
    terminal.say()
    rows: list[Sequence[str]] = []
    for commit in branch.commits:
        for number, file in enumerate(commit.files):
            size = "binary" if file.added is None else f"+{file.added} -{file.removed}"
            head = (commit.commit[:12], commit.title) if number == 0 else ("", "")
            rows.append((*head, file.path, size))
    terminal.table(("commit", "title", "file", "lines"), rows)
    terminal.say()
    if flip:
        _say(f"probe     {flip.said}" + (f" ({flip.device})" if flip.device else ""))
    known = ", known from before" if checks.reused else ""
    outcomes = [hook.outcome.value for hook in checks.hooks]
    passed, skipped = outcomes.count("passed"), outcomes.count("skipped")
    ran = passed + outcomes.count("failed")
    _say(f"hooks     {passed} of {ran} passed, {skipped} had no file to look at{known}")
    for hook in checks.hooks:
        if hook.outcome not in ("passed", "skipped"):
            _say(f"          {hook.id}: {hook.outcome}: {hook.said}")
    for test in checks.tests:
        _say(f"test      {test.path}: {test.outcome}, {test.said}")
    for finding in prepared.findings:
        fix = complete(finding.fix, typed)
        _say(f"{finding.level.value:9} {finding.where}: {finding.message} ({fix})")
    for box in text.checklist:
        _say(f"{'[x]' if box.ticked else '[ ]':9} {box.item}: {box.why}")
    for kind, path in outputs.items():
        _say(f"{kind:9} {_from_here(path)}")
    if not outputs:
        terminal.say()
        _say(text.body.rstrip())


def _from_here(path: str) -> str:
    """``path``, in short if it is below the current directory."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _print_document(
    prepared: PreparedPullRequest, outputs: Mapping[str, str], sent: SendResult | None
) -> NoReturn:
    branch, checks, text = prepared.branch, prepared.checks, prepared.text
    refusal = prepared.refusal
    body = {
        "slug": branch.slug,
        "line": branch.line.name,
        "onto": branch.target.commit,
        **terminal.fields(branch.target, "ref", "source"),
        "title": text.title,
        **terminal.fields(branch, "commits", "absorbed", "notes"),
        "need": prepared.flip,
        "findings": prepared.findings,
        **terminal.fields(checks, "hooks", "tests", "reused"),
        **terminal.fields(text, "checklist", "template"),
        "figures": [terminal.fields(figure, "kind", "sources") for figure in text.figures.tables],
        "stale": text.figures.stale,
        "body": text.body,
        "forms": outputs,
        "sent": sent,
        "refused": refusal and terminal.fields(refusal, "message", "hint"),
    }
    exit_code = refusal.exit_code if refusal else ExitCode.OK
    terminal.print_document("upstream", exit_code, body)
    raise typer.Exit(int(exit_code))
