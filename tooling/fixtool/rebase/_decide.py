"""Decides what a rebase does with each patch file, from the judgement of its patch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from fixtool.git.trees import list_tree
from fixtool.judgement.run import JudgedPatch
from fixtool.rebase._facts import Facts, Restored
from fixtool.rebase.result import Action, PatchOutcome
from fixtool.replay.absorption import compare_with_upstream, missing_lines
from fixtool.replay.run import Replay, replay
from fixtool.replay.verdict import FAILED, PatchResult, Verdict
from fixtool.series.patch import export

_INTENT_LINES = 8  # of a commit message
_WHY_RESTORED = {
    Restored.BUG_IS_THERE: "its bug is there again",
    Restored.TAKEN_BACK: "upstream had it, or another cure, and took it back",
    Restored.BEFORE: "upstream has neither it nor another cure yet on this commit",
}
_GONE = frozenset({Verdict.ABSORBED, Verdict.SUPERSEDED, Verdict.NOT_NEEDED})


def outcome_of(facts: Facts, judged: JudgedPatch, skipped: Collection[str]) -> PatchOutcome:
    """What becomes of a judged patch; ``skipped`` are the slugs that a person set aside."""
    result, culprit = judged.result, judged.culprit
    if result.verdict is not Verdict.CLEAN and result.slug not in skipped:
        patch = facts.patch(result.slug)
        sha = culprit.sha if culprit else None
        more = compare_with_upstream(facts.repo, patch, facts.target.commit, sha)
        result = replace(result, evidence=(*result.evidence, *more))
    return PatchOutcome(result, _action(facts, result, skipped), culprit, judged.probe)


def _action(facts: Facts, result: PatchResult, skipped: Collection[str]) -> Action:
    if result.commit is None and result.verdict in _GONE:
        return Action.DROPPED
    if result.verdict is Verdict.BLOCKED and skipped:
        return Action.SHELVED
    if result.verdict in FAILED:
        return Action.ASKED
    if result.slug in facts.restored:
        return Action.RESTORED
    assert result.commit is not None
    same = export(facts.repo, result.commit) == facts.patch(result.slug).raw
    return Action.KEPT if same else Action.REWRITTEN


def warnings_of(facts: Facts, outcomes: Sequence[PatchOutcome]) -> Iterable[str]:
    """What a person should read although it stopped nothing."""
    if facts.unread:
        yield f"upstream's history was not read, so text alone decided: {facts.unread}"
    for outcome in outcomes:
        result = outcome.result
        if warning := _warning(facts, result, outcome.action):
            yield f"{result.slug}: {warning}"
        if result.commit and result.verdict is not Verdict.CLEAN:
            for line in _missing_lines(facts, result)[:3]:
                yield f"{result.slug}: line of your patch missing after the rebase: {line}"


def _warning(facts: Facts, result: PatchResult, action: Action) -> str | None:
    if result.verdict is Verdict.REVERTED:
        return f"{result.evidence[0]}; it is kept"
    if action is Action.RESTORED:
        return f"{_WHY_RESTORED[facts.restored[result.slug]]}; it is in the series again"
    if result.verdict is Verdict.NOT_NEEDED and result.commit:
        return f"{result.evidence[0]}; drop it: fixtool drop {result.slug}"
    if result.verdict is Verdict.ABSORBED and f"by its text: {Verdict.CLEAN}" in result.evidence:
        return "upstream took it in another form, and its text still fits"
    return None


def _missing_lines(facts: Facts, result: PatchResult) -> list[str]:
    """The lines that a patch adds and that none of its files holds after the rebase."""
    assert result.commit is not None
    files = list_tree(facts.repo, result.commit, *(file.path for file in result.files))
    blobs = [blob for _, blob in files.values()]
    texts = [text.decode("utf-8", "surrogateescape") for text in facts.repo.read_blobs(blobs)]
    return missing_lines(facts.patch(result.slug), texts)


def intent_of(facts: Facts, outcome: PatchOutcome) -> str:
    """How the message of the culprit begins, below its subject; empty without a culprit."""
    if outcome.culprit is None:
        return ""
    message = facts.repo.read_commit(outcome.culprit.sha).message
    lines = [line.strip() for line in message.split("\n")[1:] if line.strip()]
    return "\n".join(lines[:_INTENT_LINES])


def range_diff(facts: Facts, result: Replay) -> str:
    """The series before and after the rebase, as `git range-diff` shows it."""
    base, onto = facts.line.upstream.base, facts.target.commit
    before = replay(facts.repo, facts.line, base)
    reply = facts.repo.run(
        "range-diff", "--no-color", f"{base}..{before.commit}", f"{onto}..{result.commit}",
        accept=None,
    )  # fmt: skip
    return reply.stdout.decode("utf-8", "replace") if reply.status == 0 else ""
