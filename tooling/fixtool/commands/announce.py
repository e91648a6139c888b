"""fixtool announce"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, FixtoolError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.announce.run import Announcement
    from fixtool.announce.text import NightlyTexts
    from fixtool.github.model import GitHubRepository
    from fixtool.series.line import PatchRepository


def announce(
    ctx: typer.Context,
    document: Annotated[
        Path, typer.Argument(metavar="REBASE.json", help="What fixtool rebase --json printed.")
    ],
    line: options.LineName = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What fixtool history --json printed.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="REMOTE", help="Push the rebase to its branch there, for a PR."),
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="The rolling branch; else fixtool/nightly/LINE.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A git bundle that holds the commit.")
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option(metavar="LOGIN", help="Who is assigned; may be repeated.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated; the first one finds the issue again."),
    ] = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Tell GitHub what became of a rebase: one rolling PR, one rolling issue.

    The token is GITHUB_TOKEN or GH_TOKEN of the environment. Exit 3: told, and a person is needed.

    Example: fixtool announce rebase.json --push origin --owner octocat
    """
    import os

    from fixtool.announce.outcome import load_history, read_outcome
    from fixtool.announce.run import Announcer
    from fixtool.announce.text import NightlyTexts, annotate, notice
    from fixtool.git.repo import Repo
    from fixtool.github.client import GitHub
    from fixtool.github.model import check_login, find_repository
    from fixtool.github.push import PushRemote, remote_url

    repository = options.start(ctx, directory).repository
    outcome = read_outcome(document, line)
    repo = Repo.open(repository.root)
    told_history, notes = None, []
    try:
        told_history = load_history(history) if history else None
    except FixtoolError as error:  # it only adds to what has to be told
        notes.append(f"the history is left out: {error.message}")
    words = NightlyTexts(
        outcome,
        history=told_history,
        owners=tuple(check_login(one) for one in owner or ()),
        upstream=_upstream(repository, outcome.line),
    )
    # What needs no network comes first: a job whose reporter fails has said this much.
    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    if in_actions and not dry_run:
        for one in annotate(outcome):
            typer.echo(one, err=json)
    if (summary := os.environ.get("GITHUB_STEP_SUMMARY")) and not dry_run:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(words.summary())
    where = find_repository(os.environ, remote_url(repo, push) if push else None)
    words = _with_run(words, where)
    rolling = None
    if push:
        rolling = PushRemote(repo, push, branch or f"fixtool/nightly/{outcome.line}", where)
    labels = list(dict.fromkeys(label or ["fixtool-nightly"]))
    announcer = Announcer(GitHub(where), words, labels, dry=dry_run, notes=notes)
    told = announcer.announce(rolling, bundle)
    exit_code = ExitCode.CONFLICT if told.asks else ExitCode.OK
    if in_actions:
        for text in told.notes:
            typer.echo(notice(text), err=json)
    if json:
        terminal.print_document("announce", exit_code, {**vars(told), "dry_run": dry_run})
    else:
        _say(told, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def _upstream(repository: PatchRepository, name: str) -> str:
    return repository.line(name).upstream.url if name in repository.line_names else ""


def _with_run(words: NightlyTexts, where: GitHubRepository) -> NightlyTexts:
    import os
    from dataclasses import replace

    run = os.environ.get("GITHUB_RUN_ID", "")
    link = f"{where.server}/{where.full_name}/actions/runs/{run}" if run.isdigit() else None
    return replace(words, run=link)


def _say(told: Announcement, *, dry_run: bool) -> None:
    would = " (dry run: nothing was sent)" if dry_run else ""
    terminal.say(f"line      {told.line}{would}")
    if told.push:
        terminal.say(f"branch    {told.push.branch} {told.push.action} ({told.push.commit[:12]})")
    for name, thread in (("pull", told.pull), ("issue", told.issue)):
        if thread:
            number = f"#{thread.number} " if thread.number else ""
            terminal.say(f"{name:<9} {number}{thread.action} {thread.url or ''}".rstrip())
    for text in told.notes:
        terminal.say(f"note      {printable(text)}")
    terminal.say(f"needs     {'a person' if told.asks else 'nobody'}")
