"""fixtool announce"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, Mistyped, UsageError

if TYPE_CHECKING:
    from fixtool.announce.night import Night, ReadLine
    from fixtool.announce.outcome import NightlyOutcome
    from fixtool.announce.run import Announcement
    from fixtool.announce.tell import Teller, Told
    from fixtool.github.model import GitHubRepository
    from fixtool.github.push import PushRemote
    from fixtool.series.line import PatchRepository

_WAYS = ("github", "webhook", "mail", "print")

Documents = Annotated[
    Path,
    Argument(
        metavar="REBASE.json|NIGHT",
        help="What `rebase --json` printed, or a folder with LINE/rebase.json of each line.",
    ),
]
By = Annotated[
    str,
    Option("--by", metavar="github|webhook|mail|print", help="How to tell it (default: github)."),
]
HistoryFile = Annotated[
    Path | None, Option("--history", metavar="FILE", help="What `history --json` printed.")
]
PushTo = Annotated[
    str | None,
    Option("--push", metavar="REMOTE", help="Push the rebase to its branch there, for a PR."),
]
Branch = Annotated[
    str | None, Option("--branch", help="The branch to push to; default: fixtool/nightly/LINE.")
]
Bundle = Annotated[
    Path | None, Option("--bundle", metavar="FILE", help="A git bundle that holds the commit.")
]
Owner = Annotated[
    list[str] | None,
    Option(
        "--owner",
        metavar="NAME",
        help="Who has to act: a login, or an address for a mail; may be repeated.",
    ),
]
Label = Annotated[
    list[str] | None,
    Option("--label", help="A label of the issue; may be repeated. The first finds it."),
]


@dataclass(frozen=True)
class _Request:
    """The options of one call. ``dry_run`` sends nothing."""

    by: str
    push: str | None
    branch: str | None
    owners: tuple[str, ...]
    labels: tuple[str, ...]
    dry_run: bool


def announce(
    ctx: typer.Context,
    documents: Documents,
    line: options.LineName = None,
    by: By = "github",
    history: HistoryFile = None,
    push: PushTo = None,
    branch: Branch = None,
    bundle: Bundle = None,
    owner: Owner = None,
    label: Label = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Tell people the result of a nightly rebase: of one line, or of all lines of a night.

    GitHub gets one rolling pull request and one rolling issue for each line; the token is
    GITHUB_TOKEN or GH_TOKEN. A webhook gets one POST of JSON; its address is FIXTOOL_WEBHOOK. A
    mail is printed for `sendmail -t`. Exit code 3: a person is needed.

    Example: fixtool announce rebase.json --push origin --owner octocat
    """
    from fixtool.announce.night import LineDocuments, Night, find_documents, read_line, texts_of

    repository = options.start(ctx, directory).repository
    labels = tuple(dict.fromkeys(label or ["fixtool-nightly"]))
    request = _Request(by, push, branch, tuple(owner or ()), labels, dry_run)
    whole = documents.is_dir()
    _check(request, whole=whole, of_one_line=any((line, history, bundle, branch)))
    found = (
        find_documents(documents) if whole else (LineDocuments(line, documents, history, bundle),)
    )
    lines = [read_line(read) for read in found]
    if not whole and (problem := lines[0].problem):
        raise problem
    upstreams = [_upstream_url(repository, read.outcome.line) for read in lines]
    pulls = bool(push) or by == "print"  # which shows what GitHub would be told
    night = Night(texts_of(lines, request.owners, upstreams), request.owners, pulls)
    if not dry_run:  # before anything that needs the network and may fail
        _tell_job(night, whole=whole, err=json or by != "github")
    teller, night = _teller(request, repository.root, lines, night)
    told = _with_notes(teller.tell(night), lines)
    failures = [*told.failures, *(read.problem for read in lines if read.problem)]
    exit_code = ExitCode.CONFLICT if night.needs_person else ExitCode.OK
    _echo_notes(told, err=json or by != "github")
    if not (json and failures):  # then the error is the one document
        _answer(request, night, told, exit_code, whole=whole, json=json)
    if failures:
        raise failures[0]
    raise typer.Exit(int(exit_code))


def _check(request: _Request, *, whole: bool, of_one_line: bool) -> None:
    """Raise UsageError if the options do not fit each other."""
    if request.by not in _WAYS:
        ways = ", ".join(_WAYS[:-1])
        raise UsageError(
            f"--by takes {ways} or {_WAYS[-1]}, and not {request.by!r}",
            hint="see it without sending it: --by print",
            mistyped=Mistyped(request.by, _WAYS),
        )
    if whole and of_one_line:
        raise UsageError(
            "the folder of a night names its lines itself: leave out --line, --history, --bundle "
            "and --branch",
            hint="to announce one line, name its rebase.json",
        )
    if request.by != "github" and request.push:
        raise UsageError(
            f"only GitHub gets a pull request: leave out --push, or --by {request.by}",
            hint="fixtool announce --help",
        )


def _teller(
    request: _Request, root: Path, lines: Sequence[ReadLine], night: Night
) -> tuple[Teller, Night]:
    """The way of telling that is asked for, and the night with what this way adds to its texts."""
    from fixtool.announce.mail import Mail, check_addresses
    from fixtool.announce.tell import AsText
    from fixtool.announce.webhook import find_webhook

    if request.by == "print":
        return AsText(), night
    if request.by == "webhook":
        return find_webhook(os.environ, dry_run=request.dry_run), night
    if request.by == "mail":
        return Mail(check_addresses(request.owners)), night
    return _on_github(request, root, lines, night)


def _on_github(
    request: _Request, root: Path, lines: Sequence[ReadLine], night: Night
) -> tuple[Teller, Night]:
    from fixtool.announce.tell import OnGitHub
    from fixtool.git.repo import Repo
    from fixtool.github.client import GitHub
    from fixtool.github.model import check_login, find_repository
    from fixtool.github.push import PushRemote, remote_url

    for login in request.owners:
        check_login(login)
    repo, push = Repo.open(root), request.push
    where = find_repository(os.environ, remote_url(repo, push) if push else None)
    job = _job_url(where)
    night = replace(night, texts=tuple(replace(texts, job=job) for texts in night.texts), job=job)

    def remote(outcome: NightlyOutcome) -> PushRemote:
        branch = request.branch or f"fixtool/nightly/{outcome.line}"
        return PushRemote(repo, push or "", branch, where)

    bundles = {read.outcome.line: read.documents.bundle for read in lines if read.documents.bundle}
    teller = OnGitHub(
        GitHub(where), request.labels, remote if push else None, bundles, request.dry_run
    )
    return teller, night


def _with_notes(told: Told, lines: Sequence[ReadLine]) -> Told:
    """``told`` with what was noted while the documents were read."""
    noted = tuple(
        replace(announcement, notes=(*read.notes, *announcement.notes))
        for read, announcement in zip(lines, told.lines, strict=True)
    )
    return replace(told, lines=noted)


def _upstream_url(repository: PatchRepository, line: str) -> str:
    return repository.line(line).upstream.url if line in repository.line_names else ""


def _job_url(where: GitHubRepository) -> str | None:
    """The web page of the GitHub Actions job that runs this; None elsewhere."""
    run = os.environ.get("GITHUB_RUN_ID", "")
    return f"{where.server}/{where.full_name}/actions/runs/{run}" if run.isdigit() else None


def _tell_job(night: Night, *, whole: bool, err: bool) -> None:
    """In GitHub Actions, annotate the job and write its summary."""
    from fixtool.announce.text import annotate

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for texts in night.texts:
            for annotation in annotate(texts.outcome):
                terminal.command(annotation, err=err)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(night.summary() if whole else night.texts[0].summary())


def _echo_notes(told: Told, *, err: bool) -> None:
    from fixtool.announce.text import notice

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for announcement in told.lines:
            for note in announcement.notes:
                terminal.command(notice(note), err=err)


def _answer(
    request: _Request, night: Night, told: Told, exit_code: ExitCode, *, whole: bool, json: bool
) -> None:
    if json:
        body = _body(night, told) if whole else vars(told.lines[0])
        more = {"by": request.by, "message": told.message, "dry_run": request.dry_run}
        terminal.print_document("announce", exit_code, {**body, **more})
    elif told.message is not None and (request.by != "webhook" or request.dry_run):
        _say_message(told)
    else:
        _show(night, told, dry_run=request.dry_run)


def _body(night: Night, told: Told) -> dict[str, Any]:
    """The JSON document of a whole night, without its head and what all ways have."""
    names = ("line", "result", "base", "onto", "who", "next")
    lines = [
        {**terminal.fields(row, *names), "base": row.base or None, "onto": row.onto or None,
         "next": row.next or None, **vars(announcement)}
        for row, announcement in zip(night.rows, told.lines, strict=True)
    ]  # fmt: skip
    return {"subject": night.subject, "asks": night.needs_person, "lines": lines}


def _say_message(told: Told) -> None:
    """Print the message alone: it may be piped to the program that sends it."""
    terminal.say((told.message or "").rstrip("\n"))


def _show(night: Night, told: Told, *, dry_run: bool) -> None:
    suffix = " (dry run: nothing was sent)" if dry_run else ""
    if told.to:
        terminal.say(f"sent      to {told.to}")
    for row, announcement in zip(night.rows, told.lines, strict=True):
        terminal.say(f"line      {announcement.line}{suffix}")
        _show_threads(announcement)
        terminal.say(f"needs     {'a person' if announcement.asks else 'nobody'}")
        if len(told.lines) > 1 and row.next:
            terminal.say(f"next      {row.next}")


def _show_threads(announcement: Announcement) -> None:
    if push := announcement.push:
        terminal.say(f"branch    {push.branch} {push.action} ({push.commit[:12]})")
    for name, thread in (("pull", announcement.pull), ("issue", announcement.issue)):
        if thread:
            number = f"#{thread.number} " if thread.number else ""
            terminal.say(f"{name:<9} {number}{thread.action} {thread.url or ''}".rstrip())
    for note in announcement.notes:
        terminal.say(f"note      {note}")
