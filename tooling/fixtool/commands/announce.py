"""fixtool announce"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, FixtoolError

if TYPE_CHECKING:
    from fixtool.announce.run import Announcement
    from fixtool.announce.text import NightlyTexts
    from fixtool.github.model import GitHubRepository
    from fixtool.history.result import History
    from fixtool.series.line import PatchRepository


Document = Annotated[Path, Argument(metavar="REBASE.json", help="What `rebase --json` printed.")]
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
    Option("--owner", metavar="LOGIN", help="Who is assigned to the issue; may be repeated."),
]
Label = Annotated[
    list[str] | None,
    Option("--label", help="A label of the issue; may be repeated. The first finds it."),
]


def announce(
    ctx: typer.Context,
    document: Document,
    line: options.LineName = None,
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
    """Report a rebase on GitHub, in one rolling pull request and one rolling issue.

    The token is GITHUB_TOKEN or GH_TOKEN. Exit code 3: a person is needed.

    Example: fixtool announce rebase.json --push origin --owner octocat
    """
    from fixtool.announce.outcome import read_outcome
    from fixtool.announce.run import Announcer, announce_outcome
    from fixtool.announce.text import NightlyTexts
    from fixtool.git.repo import Repo
    from fixtool.github.client import GitHub
    from fixtool.github.model import check_login, find_repository
    from fixtool.github.push import PushRemote, remote_url

    repository = options.start(ctx, directory).repository
    outcome = read_outcome(document, line)
    repo = Repo.open(repository.root)
    found, notes = _history(history)
    owners = tuple(check_login(login) for login in owner or ())
    texts = NightlyTexts(outcome, found, owners, _upstream_url(repository, outcome.line))
    if not dry_run:
        _tell_job(texts, err=json)  # before anything that needs the network and may fail
    where = find_repository(os.environ, remote_url(repo, push) if push else None)
    texts = replace(texts, job=_job_url(where))
    branch = branch or f"fixtool/nightly/{outcome.line}"
    remote = PushRemote(repo, push, branch, where) if push else None
    labels = list(dict.fromkeys(label or ["fixtool-nightly"]))
    announcer = Announcer(GitHub(where), texts, labels, dry_run, notes)
    announcement = announce_outcome(announcer, remote, bundle)
    _echo_notes(announcement, err=json)
    exit_code = ExitCode.CONFLICT if announcement.asks else ExitCode.OK
    if json:
        terminal.print_document("announce", exit_code, {**vars(announcement), "dry_run": dry_run})
    else:
        _show(announcement, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def _history(path: Path | None) -> tuple[History | None, list[str]]:
    """The history in the document at ``path``, and a note if it cannot be read: the history only
    adds to the announcement, so it does not stop it."""
    from fixtool.announce.outcome import load_history

    try:
        return (load_history(path) if path else None), []
    except FixtoolError as error:
        return None, [f"the history is left out: {error.message}"]


def _upstream_url(repository: PatchRepository, line: str) -> str:
    return repository.line(line).upstream.url if line in repository.line_names else ""


def _job_url(where: GitHubRepository) -> str | None:
    """The web page of the GitHub Actions job that runs this; None elsewhere."""
    run = os.environ.get("GITHUB_RUN_ID", "")
    return f"{where.server}/{where.full_name}/actions/runs/{run}" if run.isdigit() else None


def _tell_job(texts: NightlyTexts, *, err: bool) -> None:
    """In GitHub Actions, annotate the job and write its summary."""
    from fixtool.announce.text import annotate

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for annotation in annotate(texts.outcome):
            terminal.command(annotation, err=err)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(texts.summary())


def _echo_notes(announcement: Announcement, *, err: bool) -> None:
    from fixtool.announce.text import notice

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for note in announcement.notes:
            terminal.command(notice(note), err=err)


def _show(announcement: Announcement, *, dry_run: bool) -> None:
    suffix = " (dry run: nothing was sent)" if dry_run else ""
    terminal.say(f"line      {announcement.line}{suffix}")
    if push := announcement.push:
        terminal.say(f"branch    {push.branch} {push.action} ({push.commit[:12]})")
    for name, thread in (("pull", announcement.pull), ("issue", announcement.issue)):
        if thread:
            number = f"#{thread.number} " if thread.number else ""
            terminal.say(f"{name:<9} {number}{thread.action} {thread.url or ''}".rstrip())
    for note in announcement.notes:
        terminal.say(f"note      {note}")
    terminal.say(f"needs     {'a person' if announcement.asks else 'nobody'}")
