"""fixtool upstream --status"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import typer

from fixtool import terminal
from fixtool.errors import ExitCode, FixtoolError, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.github.client import GitHub
    from fixtool.github.model import PullRequestStatus
    from fixtool.series.context import Context
    from fixtool.series.line import Line
    from fixtool.settings import Settings
    from fixtool.upstream.status import PatchStatus, ReadPullRequest


def show_status(
    context: Context,
    line: str | None,
    source: str | None,
    onto: str | None,
    *,
    json: bool,
    dry_run: bool,
) -> NoReturn:
    """Say where every patch stands upstream. Exit 4 if something could not be found out."""
    from fixtool.upstream.status import read_statuses, record_merges

    repository = context.repository
    lines: Sequence[Line] = [repository.line(line)] if line else repository.lines
    now = datetime.datetime.now(datetime.UTC)
    statuses = read_statuses(context, lines, source, onto, _reader(context.settings), now)
    if not dry_run:
        statuses = record_merges(context, lines, statuses, source)
    unknown = [reason for status in statuses for reason in status.unknown]
    exit_code = ExitCode.CANNOT_RUN if unknown else ExitCode.OK
    if json:
        seen = next((status.ref for status in statuses if status.ref), None)
        terminal.print_document(
            "upstream", exit_code, {"onto": onto or seen, "standings": statuses}
        )
    else:
        _show(statuses, onto or "upstream now")
        for reason in dict.fromkeys(unknown):
            terminal.say(f"unknown   {reason}")
    raise typer.Exit(int(exit_code))


def _reader(settings: Settings) -> ReadPullRequest:
    """A function that reads pull requests, with one client for each upstream. An upstream that does
    not answer is asked once, and its error is raised again for each further pull request."""
    clients: dict[str, GitHub] = {}
    errors: dict[str, FixtoolError] = {}

    def read(line: Line, repository: str, number: int) -> PullRequestStatus:
        # Imported here, so that a series without pull requests needs no PyGithub.
        from fixtool.github.client import GitHub, NotFound
        from fixtool.upstream.send import find_upstream

        url = settings.url or line.upstream.url
        if url not in clients:
            clients[url] = GitHub(find_upstream(url, os.environ))
        if (ours := clients[url].repository.full_name).lower() != repository.lower():
            raise UsageError(f"{repository}#{number} is no pull request of {ours}")
        if url in errors:
            raise errors[url]
        try:
            return clients[url].pull_request_status(number)
        except NotFound:
            raise
        except FixtoolError as error:
            errors[url] = error
            raise

    return read


def _show(statuses: Sequence[PatchStatus], onto: str) -> None:
    rows = []
    previous = ""
    for status in statuses:
        name = status.line if status.line != previous else ""
        rows.append(
            (name, status.slug, status.forwarded or "no", _pull_request(status), _tip(status))
        )
        previous = status.line
    terminal.table(("line", "patch", "forwarded", "pull request", f"on {onto}"), rows)
    for status in statuses:
        if status.written:
            terminal.say(f"recorded  Applied-Upstream: {status.written} in {status.slug}")


def _pull_request(status: PatchStatus) -> str:
    review = status.review
    if review is None:
        return "-"
    text = f"#{review.number} {review.state}"
    if review.state != "open":
        return text
    text += f", {count(status.days or 0, 'day')}, "
    if not review.said:
        return f"{text}no review"
    return f"{text}{review.said.replace('_', ' ')} {count(status.waiting or 0, 'day')} ago"


def _tip(status: PatchStatus) -> str:
    """The verdict on the newest upstream commit, and which commit took the patch."""
    text = status.tip.value if status.tip else "unknown"
    if text == "absorbed" and (commit := status.since):
        text += f" {commit.sha[:12]}" + (f" #{commit.pr}" if commit.pr else "")
    return text
