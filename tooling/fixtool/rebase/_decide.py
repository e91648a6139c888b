"""Decides what a rebase does with each patch file, from the judgement of its patch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from fixtool.git.database import ObjectDatabase
from fixtool.judgement.run import JudgedPatch
from fixtool.rebase._facts import Facts, Restored
from fixtool.rebase.result import Action, PatchOutcome
from fixtool.replay.absorption import compare_with_upstream, missing_lines
from fixtool.replay.run import Replay, replay
from fixtool.replay.verdict import FAILED, PatchResult, Verdict
from fixtool.series.patch import export_all

_INTENT_LINES = 8  # of a commit message
_TOGETHER = 100  # patch files that are compared at a time
_WHY_RESTORED = {
    Restored.BUG_IS_THERE: "its bug is there again",
    Restored.TAKEN_BACK: "upstream had it, or another cure, and took it back",
    Restored.BEFORE: "upstream has neither it nor another cure yet on this commit",
}
_GONE = frozenset({Verdict.ABSORBED, Verdict.SUPERSEDED, Verdict.NOT_NEEDED})


def outcomes_of(
    facts: Facts, judged: Sequence[JudgedPatch], skipped: Collection[str]
) -> tuple[PatchOutcome, ...]:
    """What becomes of the judged patches; ``skipped`` are the slugs that a person set aside."""
    compared = [patch for patch in judged
                if patch.result.verdict is not Verdict.CLEAN and patch.slug not in skipped
               ]  # fmt: skip
    pairs = [(facts.patch(patch.slug), patch.culprit.sha if patch.culprit else None)
             for patch in compared]  # fmt: skip
    with ObjectDatabase(facts.repo) as objects:
        evidence = compare_with_upstream(objects, facts.target.commit, pairs)
    more = {patch.slug: found for patch, found in zip(compared, evidence, strict=True)}
    same = _unchanged(facts, [patch.result for patch in judged])
    outcomes = []
    for patch in judged:
        result = patch.result
        result = replace(result, evidence=(*result.evidence, *more.get(patch.slug, ())))
        action = _action(facts, result, skipped, same)
        outcomes.append(PatchOutcome(result, action, patch.culprit, patch.probe))
    return tuple(outcomes)


def _unchanged(facts: Facts, results: Sequence[PatchResult]) -> set[str]:
    """The slugs of the patches whose files stay as they are, byte for byte."""
    added = [(result.slug, result.commit) for result in results if result.commit]
    same = set()
    for at in range(0, len(added), _TOGETHER):
        group = added[at : at + _TOGETHER]
        files = export_all(facts.repo, [commit for _, commit in group])
        same |= {slug for (slug, _), file in zip(group, files, strict=True)
                 if file == facts.patch(slug).raw}  # fmt: skip
    return same


def _action(
    facts: Facts, result: PatchResult, skipped: Collection[str], same: Collection[str]
) -> Action:
    if result.commit is None and result.verdict in _GONE:
        return Action.DROPPED
    if result.verdict is Verdict.BLOCKED and skipped:
        return Action.SHELVED
    if result.verdict in FAILED:
        return Action.ASKED
    if result.slug in facts.restored:
        return Action.RESTORED
    assert result.commit is not None
    return Action.KEPT if result.slug in same else Action.REWRITTEN


def warnings_of(facts: Facts, outcomes: Sequence[PatchOutcome]) -> Iterable[str]:
    """What a person should read although it stopped nothing."""
    if facts.unread:
        yield f"upstream's history was not read, so text alone decided: {facts.unread}"
    with ObjectDatabase(facts.repo) as objects:
        for outcome in outcomes:
            result = outcome.result
            if warning := _warning(facts, result, outcome.action):
                yield f"{result.slug}: {warning}"
            if result.commit and result.verdict is not Verdict.CLEAN:
                for line in _missing_lines(objects, facts, result)[:3]:
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


def _missing_lines(objects: ObjectDatabase, facts: Facts, result: PatchResult) -> list[str]:
    """The lines that a patch adds and that none of its files holds after the rebase."""
    assert result.commit is not None
    files = objects.files(objects.tree_of(result.commit), (file.path for file in result.files))
    texts = (objects.blob(entry.blob) for entry in files.values())
    decoded = (text.decode("utf-8", "surrogateescape") for text in texts)
    return missing_lines(facts.patch(result.slug), decoded)


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
