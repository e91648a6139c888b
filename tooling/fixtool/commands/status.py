"""fixtool upstream --status"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from fixtool import terminal
from fixtool.errors import ExitCode, FixtoolError, UsageError
from fixtool.replay.verdict import Verdict
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.github.client import GitHub
    from fixtool.github.model import PullRequestStatus
    from fixtool.progress import Progress
    from fixtool.series.line import Line, PatchRepository
    from fixtool.settings import Settings
    from fixtool.upstream.status import PatchStatus, ReadPullRequest


def status(
    repository: PatchRepository,
    settings: Settings,
    line: str | None,
    source: str | None,
    onto: str,
    progress: Progress,
    *,
    json: bool,
    dry_run: bool,
) -> None:
    """Say where every patch stands; exit 4 where something could not be found out."""
    from fixtool.series.context import Context
    from fixtool.upstream.status import read_statuses, record_merges

    lines: Sequence[Line] = [repository.line(line)] if line else repository.lines
    now = datetime.datetime.now(datetime.UTC)
    context = Context(repository, settings, progress)
    found = read_statuses(context, lines, source, onto, _asker(settings), now)
    if not dry_run:
        found = record_merges(context, lines, found)
    unknown = [why for one in found for why in one.unknown]
    code = ExitCode.CANNOT_RUN if unknown else ExitCode.OK
    if json:
        terminal.print_document("upstream", code, {"onto": onto, "standings": found})
    else:
        _tell(found, onto)
        for why in dict.fromkeys(unknown):
            terminal.say(f"unknown   {why}")
    if unknown:
        raise typer.Exit(int(code))


def _asker(settings: Settings) -> ReadPullRequest:
    """Reads pull requests, one client for each upstream; an upstream that is not on GitHub says so
    for each."""
    clients: dict[str, GitHub] = {}
    silent: dict[str, FixtoolError] = {}

    def ask(line: Line, repository: str, number: int) -> PullRequestStatus:
        # Here, since a series without a pull request is told of without PyGithub as well.
        from fixtool.github.client import GitHub, NotFound
        from fixtool.upstream.send import find_upstream

        url = settings.url or line.upstream.url
        if url not in clients:
            clients[url] = GitHub(find_upstream(url, os.environ))
        if (ours := clients[url].repository.full_name).lower() != repository.lower():
            raise UsageError(f"{repository}#{number} is no pull request of {ours}")
        if url in silent:  # each question would wait as long as the first
            raise silent[url]
        try:
            return clients[url].pull_request_status(number)
        except NotFound:
            raise
        except FixtoolError as error:
            silent[url] = error
            raise

    return ask


def _tell(found: Sequence[PatchStatus], onto: str) -> None:
    rows = []
    before = ""
    for one in found:
        review = one.review
        pull = f"#{review.number} {review.state}" if review else "-"
        if review and review.state == "open":
            said = review.said.replace("_", " ") if review.said else "no review"
            pull += f", {count(one.days or 0, 'day')}, {said}"
            pull += f" {count(one.waiting or 0, 'day')} ago" if review.said else ""
        tip = one.tip.value if one.tip else "unknown"
        if one.tip is Verdict.ABSORBED and one.since:
            tip += f" {one.since.sha[:12]}" + (f" #{one.since.pr}" if one.since.pr else "")
        rows.append((one.line if one.line != before else "", one.slug, one.forwarded or "no", pull,
                     tip))  # fmt: skip
        before = one.line
    terminal.table(("line", "patch", "forwarded", "pull request", f"on {onto}"), rows)
    for one in found:
        if one.written:
            terminal.say(f"recorded  Applied-Upstream: {one.written} in {one.slug}")
