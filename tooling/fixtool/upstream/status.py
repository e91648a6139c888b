"""Where every patch stands upstream: the pull request that it was sent as, what became of that, and
whether the tip of upstream has it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fixtool.apply.waiting import require_nothing_waits
from fixtool.errors import CannotRun, FixtoolError
from fixtool.git.objects import Oid
from fixtool.github.model import PullRequestStatus
from fixtool.history.log import UpstreamCommit
from fixtool.history.tags import tags_at
from fixtool.judgement.run import JudgeRequest, judge
from fixtool.replay.verdict import Verdict
from fixtool.series import trailers
from fixtool.series.context import Context
from fixtool.series.facts import FactKind, RecordedFact
from fixtool.series.line import Line
from fixtool.sources.source import open_source
from fixtool.sources.target import commit_source, newest_commit

ReadPullRequest = Callable[[Line, str, int], PullRequestStatus]
"""Reads a pull request by repository and number. It has to be one of the line's upstream."""


@dataclass(frozen=True)
class PatchStatus:
    """One patch. ``forwarded`` is its trailer, and ``review`` the pull request that it names.

    ``days`` is the age of the pull request, ``waiting`` the days since the last review, or since it
    was opened if there is none. ``tip`` is the verdict on upstream's tip and ``since`` the commit
    that began it. ``unknown`` lists what could not be found out. ``written`` is the trailer that
    was added to the patch because the pull request was merged. ``ref`` is the upstream ref that was
    looked at, None if it could not be read.
    """

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
    ref: str | None = None


def read_statuses(
    context: Context,
    lines: Sequence[Line],
    source: str | None,
    onto: str | None,
    read_pull_request: ReadPullRequest,
    now: datetime.datetime,
) -> tuple[PatchStatus, ...]:
    """The status of every patch of ``lines``. What the network does not tell is ``unknown``."""
    statuses: list[PatchStatus] = []
    for line in lines:
        try:
            ref, tips = _verdicts_on_tip(context, line, source, onto)
            failure = []
        except CannotRun as error:
            ref, tips = None, {}
            failure = [f"upstream's tip could not be read: {error.message}"]
        for patch in line.patches:
            unknown = list(failure)
            pull = None
            if (sent := trailers.pull_request(patch)) is not None:
                try:
                    pull = read_pull_request(line, *sent)
                except FixtoolError as error:
                    unknown.append(error.message)
            verdict, since = tips.get(patch.slug, (None, None))
            statuses.append(
                PatchStatus(
                    line.name, patch.slug, patch.trailer("Forwarded"), pull,
                    _days(pull.opened, now) if pull else None,
                    _days(pull.reviewed or pull.opened, now) if pull else None,
                    verdict, since, tuple(unknown), ref=ref,
                )
            )  # fmt: skip
    return tuple(statuses)


def record_merges(
    context: Context, lines: Sequence[Line], statuses: Sequence[PatchStatus], source: str | None
) -> tuple[PatchStatus, ...]:
    """Write ``Applied-Upstream:`` into the patches whose pull request was merged: the commit, the
    pull request, and the first release with it if the tags of ``source`` tell. A patch that cannot
    be written gets the reason as ``unknown``."""
    by_name = {line.name: line for line in lines}
    updated = []
    for status in statuses:
        line = by_name[status.line]
        if fact := _merge(context, line, status, source):
            try:
                merged = f"Merged as {fact.value}."
                require_nothing_waits(context, line.name)
                if trailers.record_facts(context.repository, line, {status.slug: fact}, merged):
                    status = replace(status, written=fact.value)
            except FixtoolError as error:
                why = f"{fact.kind}: {fact.value} is not in {status.slug} yet: {error.message}"
                status = replace(status, unknown=(*status.unknown, why))
        updated.append(status)
    return tuple(updated)


def _merge(
    context: Context, line: Line, status: PatchStatus, source: str | None
) -> RecordedFact | None:
    """What the merge of its pull request tells about a patch. None if there was no merge."""
    pull = status.review
    if pull is None or pull.state != "merged" or pull.commit is None:
        return None
    tags = tags_at(context, line, source)
    release = tags.first(Oid(pull.commit)) if tags else None
    return RecordedFact(FactKind.APPLIED, pull.commit, pull.number, release)


def _verdicts_on_tip(
    context: Context, line: Line, source: str | None, onto: str | None
) -> tuple[str, Mapping[str, tuple[Verdict, UpstreamCommit | None]]]:
    """The ref of upstream's tip; and slug -> the verdict there and the commit that began it, which
    is None if upstream's history could not be read."""
    settings, progress = context.settings, context.progress
    name = source or commit_source(settings)
    known = [] if line.upstream.release else [line.upstream.base]
    upstream = open_source(name, settings, settings.url or line.upstream.url, progress, known)
    target = upstream.resolve(onto) if onto else newest_commit(upstream)
    judgement = judge(context, upstream, target, line, JudgeRequest(bring_history=True))
    verdicts = {patch.slug: (patch.result.verdict, patch.culprit) for patch in judgement.patches}
    return target.ref, verdicts


def _days(since: str, now: datetime.datetime) -> int:
    return max(0, (now - datetime.datetime.fromisoformat(since)).days)
