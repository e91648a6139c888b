"""Records in the patches what upstream's history tells about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fixtool.history.log import UpstreamCommit
from fixtool.history.result import History
from fixtool.history.tags import ReleaseTags
from fixtool.replay.verdict import Verdict
from fixtool.series.context import Context
from fixtool.series.facts import FactKind, RecordedFact
from fixtool.series.line import Line
from fixtool.series.trailers import names_another, record_facts, with_fact


@dataclass(frozen=True)
class FoundFact:
    """A trailer that upstream's history tells of a patch and that the patch did not have.
    ``recorded`` is the path of the patch file that it was written into, None if it was not."""

    slug: str
    trailer: str
    recorded: str | None


def fact_about(kind: FactKind, commit: UpstreamCommit, tags: ReleaseTags | None) -> RecordedFact:
    """The fact that an upstream commit is for a patch, with its first release if ``tags`` tell."""
    release = tags.first(commit.sha) if tags else None
    return RecordedFact(kind, commit.sha, commit.pr, release)


def unrecorded(line: Line, history: History, tags: ReleaseTags | None) -> dict[str, RecordedFact]:
    """What ``history`` tells about patches of ``line`` that they do not record yet, by slug: the
    commit with which upstream took the patch, if it still has it at the history's end.

    Nothing is told about a patch that names another commit itself.
    """
    facts = {}
    for found in history.patches:
        culprit = found.now.culprit
        if found.now.verdict is not Verdict.ABSORBED or culprit is None:
            continue
        patch, fact = line.find(found.slug), fact_about(FactKind.APPLIED, culprit, tags)
        if not names_another(patch, fact) and with_fact(patch, fact) != patch.raw:
            facts[found.slug] = fact
    return facts


def record_history(
    context: Context, line: Line, facts: Mapping[str, RecordedFact]
) -> dict[str, str]:
    """Write ``facts``, by slug, into the patches of ``line``, and commit that. Returns the path of
    each patch file that changed, by slug. Raises Refused if the line has uncommitted changes, or a
    message cannot take a trailer."""
    # No `#12`: in the patch repository, that number means another pull request.
    reasons = [
        f"{slug}: {fact.commit}" + (f" (pull request {fact.pull})" if fact.pull else "")
        for slug, fact in facts.items()
    ]
    why = "\n".join(["Upstream's history tells which commits took them:", "", *reasons])
    return record_facts(context.repository, line, facts, why)
