"""Where every patch stands upstream: what it was sent as, what became of that, and whether
upstream's tip has it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, FixtoolError
from fixtool.github.model import PullRequestStatus
from fixtool.history.log import UpstreamCommit
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from fixtool.series import trailers
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import Patch
from fixtool.sources.source import open_source
from fixtool.sources.target import bring_base
from fixtool.upstream._commits import runs_of

ReadPullRequest = Callable[[Line, str, int], PullRequestStatus]
"""Reads a pull request (repository, number), which has to be of the line's upstream."""


@dataclass(frozen=True)
class PatchStatus:
    """One patch. ``forwarded`` is its trailer; ``review`` the pull request that this or another
    trailer names; ``days`` how old that is, ``waiting`` the days since a reviewer last said
    something (since it was opened, where none did); ``tip`` what the patch is on upstream's tip,
    and ``since`` the commit that made it so; ``unknown`` what could not be found out; ``written``
    the trailer that a merge put into the patch."""

    line: str
    slug: str
    forwarded: str | None
    review: PullRequestStatus | None
    days: int | None
    waiting: int | None
    tip: Verdict | None
    since: UpstreamCommit | None
    unknown: tuple[str, ...]
    written: str | None = None


def read_statuses(
    context: Context,
    lines: Sequence[Line],
    source: str | None,
    onto: str,
    ask: ReadPullRequest,
    now: datetime.datetime,
) -> tuple[PatchStatus, ...]:
    """Every patch of ``lines``. What the network does not tell is left open, and said."""
    found: list[PatchStatus] = []
    for line in lines:
        tips, why = _tips(context, line, source, onto)
        for patch in line.patches:
            unknown = [why] if why else []
            review = None
            sent = trailers.pull_request(patch)
            if sent is not None:
                try:
                    review = ask(line, *sent)
                except FixtoolError as error:
                    unknown.append(error.message)
            verdict, since = tips.get(patch.slug, (None, None))
            found.append(
                PatchStatus(
                    line.name, patch.slug, patch.trailer("Forwarded"), review,
                    _days(review.opened, now) if review else None,
                    _days(review.reviewed or review.opened, now) if review else None,
                    verdict, since, tuple(unknown),
                )
            )  # fmt: skip
    return tuple(found)


def record_merges(
    repository: PatchRepository, lines: Sequence[Line], found: Sequence[PatchStatus]
) -> tuple[PatchStatus, ...]:
    """Write ``Applied-Upstream:`` into the patches whose pull request was merged; where that may
    not be, it is said, and the others are written."""
    by_name = {line.name: line for line in lines}
    told = []
    for one in found:
        patch = by_name[one.line].find(one.slug)
        if value := _applied(one.review, patch):
            try:
                trailers.record(
                    repository, by_name[one.line], one.slug, {"Applied-Upstream": value},
                    f"Merged as {value}.",
                )  # fmt: skip
            except FixtoolError as error:
                why = f"Applied-Upstream: {value} is not in {one.slug} yet: {error.message}"
                told.append(replace(one, unknown=(*one.unknown, why)))
                continue
        told.append(replace(one, written=value))
    return tuple(told)


def _applied(review: PullRequestStatus | None, patch: Patch) -> str | None:
    """What a merge has the patch say; None where there was none, or it says so already."""
    if review is None or review.state != "merged" or review.commit is None:
        return None
    shas, _ = trailers.forwarded(patch)
    known = any(review.commit.startswith(one) for one in shas)
    return None if known else f"{review.commit}, #{review.number}"


def _tips(
    context: Context, line: Line, source: str | None, onto: str
) -> tuple[dict[str, tuple[Verdict, UpstreamCommit | None]], str | None]:
    """slug -> verdict on upstream's tip, and whose commit made it so; else why not."""
    try:
        settings, progress = context.settings, context.progress
        name = source or ("git" if settings.source == "pypi" else settings.source)
        url = settings.url or line.upstream.url
        known = [] if line.upstream.release else [line.upstream.base]
        place = open_source(name, settings, url, progress, known)
        target = place.resolve(onto)
        base = bring_base(place, line.upstream, settings, progress)
        if not line.upstream.release:
            place.bring(base, line.paths)
        place.bring(target.commit, line.paths)
        runs, _ = runs_of(context, place, line, base, target.commit)
        if runs:
            return {slug: (run.verdict, run.culprit) for slug, run in runs.items()}, None
        done = replay(place.repo, line, target.commit, base=lambda: base)
        return {one.slug: (one.verdict, None) for one in done.patches}, None
    except CannotRun as error:
        return {}, f"upstream's tip could not be read: {error.message}"


def _days(since: str, now: datetime.datetime) -> int:
    return max(0, (now - datetime.datetime.fromisoformat(since)).days)
