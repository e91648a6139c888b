"""Records in the patches that upstream has which of its commits took or superseded them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fixtool.errors import FixtoolError
from fixtool.history.record import fact_about
from fixtool.history.tags import release_tags
from fixtool.rebase._facts import Facts
from fixtool.rebase.result import AskProbes, PatchOutcome
from fixtool.replay.verdict import Verdict
from fixtool.series.facts import FactKind, facts_of
from fixtool.series.trailers import names_another, with_fact

_GONE = 0  # what a probe answers where the bug is gone
_FACTS = {
    Verdict.ABSORBED: FactKind.APPLIED,
    Verdict.SUPERSEDED: FactKind.SUPERSEDED,
}


def recorded_files(
    facts: Facts, outcomes: Sequence[PatchOutcome], ask: AskProbes | None
) -> dict[str, bytes]:
    """The files, by slug, of the patches that upstream has, with the commit that took or superseded
    each of them in its trailers. ``ask`` runs probes.

    A patch that names another commit keeps that. A patch stays as it is if its message cannot take
    a trailer, or if it is not certain that the commit cures its bug.
    """
    files = {}
    tags = release_tags(facts.source)
    answers: dict[str, Mapping[str, int | None]] = {}
    for outcome in outcomes:
        kind, culprit = _FACTS.get(outcome.result.verdict), outcome.culprit
        if kind is None or culprit is None:
            continue
        patch = facts.patch(outcome.result.slug)
        fact = fact_about(kind, culprit, tags)
        named = any(other.kind is kind and other.names(culprit.sha) for other in facts_of(patch))
        if kind is FactKind.SUPERSEDED and not named:
            # Since that commit the patch conflicts; its bug may have been cured later.
            if culprit.sha not in answers:
                answers[culprit.sha] = _ask_at(facts, culprit.sha, ask)
            if answers[culprit.sha].get(patch.slug) != _GONE:
                continue
        file = None if names_another(patch, fact) else with_fact(patch, fact)
        if file is not None:
            files[patch.slug] = file
    return files


def _ask_at(facts: Facts, commit: str, ask: AskProbes | None) -> Mapping[str, int | None]:
    """What the probes of the line answer on an upstream commit; nothing if they cannot be run."""
    if ask is None:
        return {}
    try:
        target = replace(facts.source.resolve(commit), source=facts.target.source)
        return ask(facts.line, target)
    except FixtoolError:
        return {}
