"""Decides what becomes of each patch, from its replay, upstream's history and its probe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from fixtool.git.objects import Oid
from fixtool.git.trees import list_tree
from fixtool.rebase._facts import Facts
from fixtool.rebase.result import Action, PatchOutcome
from fixtool.rebase.session import HandDecisions
from fixtool.replay.absorption import compare_with_upstream, missing_lines
from fixtool.replay.moved_hunks import MovedHunks, apply_to_moved_lines
from fixtool.replay.run import Decisions, Replay, replay
from fixtool.replay.verdict import FAILED, PatchResult, PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.patch import export

_INTENT_LINES = 8  # of a commit message
_BY_PROBE = {
    0: "its probe says that the bug is not there",
    77: "its probe says that it does not apply to this tree",
}


def decide(context: Context, facts: Facts, decided: HandDecisions) -> Replay:
    """Replay the line on the target until no more can be learned from the result: each conflict may
    turn out to be superseded, or its lines may have moved to another file."""
    left_out = {
        slug: PatchState(Verdict.BLOCKED, (reason,)) for slug, reason in decided.skipped.items()
    }
    for entry in facts.line.entries:
        now = facts.now(entry.slug)
        bug_present = facts.probes.get(entry.slug) == 1  # outweighs what upstream's history says
        open_question = entry.slug not in decided.resolved and not bug_present
        if now and now.verdict is Verdict.ABSORBED and open_question:
            left_out.setdefault(entry.slug, PatchState(Verdict.ABSORBED, now.evidence))
    moved: dict[str, MovedHunks] = {}
    while True:
        trees = decided.resolved | {slug: hunks.tree for slug, hunks in moved.items()}
        result = replay(
            facts.repo, facts.extended, facts.target.commit,
            cache=context.settings.cache / "replay", decisions=Decisions(left_out, trees),
        )  # fmt: skip
        failed = (patch for patch in result.patches if patch.verdict is Verdict.CONFLICT)
        conflict = next(failed, None)
        if conflict is None:
            break
        if facts.probes.get(conflict.slug) == 0:
            why = "its probe says that the bug is gone"
            left_out[conflict.slug] = PatchState(Verdict.SUPERSEDED, (why, *conflict.evidence))
            continue
        parent = commit_before(result, conflict.slug)
        hunks = apply_to_moved_lines(facts.repo, facts.patch(conflict.slug), parent)
        if hunks is None:
            break
        moved[conflict.slug] = hunks
    patches = tuple(
        replace(patch, evidence=moved[patch.slug].moves) if patch.slug in moved else patch
        for patch in result.patches
    )
    return replace(result, patches=patches)


def commit_before(result: Replay, slug: str) -> Oid:
    """The last commit that the replay made before a patch."""
    position = [patch.slug for patch in result.patches].index(slug)
    commits = [patch.commit for patch in result.patches[:position] if patch.commit]
    return commits[-1] if commits else result.onto


def outcome_of(facts: Facts, result: PatchResult, skipped: Collection[str]) -> PatchOutcome:
    """What becomes of a patch that was replayed with ``result``; ``skipped`` are the slugs that a
    person set aside."""
    now = facts.now(result.slug)
    culprit = now.culprit if now else None
    reverted = now is not None and now.verdict is Verdict.REVERTED
    if result.verdict is Verdict.CLEAN and not reverted:
        culprit = None
    elif result.slug not in skipped:
        sha = culprit.sha if culprit else None
        patch = facts.patch(result.slug)
        more = compare_with_upstream(facts.repo, patch, facts.target.commit, sha)
        result = replace(result, evidence=(*result.evidence, *more))
    probe = facts.probes.get(result.slug)
    if result.commit and now and reverted:
        evidence = (*now.evidence, *result.evidence)
        result = replace(result, verdict=Verdict.REVERTED, evidence=evidence)
    elif result.commit and probe in _BY_PROBE:
        evidence = (_BY_PROBE[probe], *result.evidence)
        result = replace(result, verdict=Verdict.NOT_NEEDED, evidence=evidence)
    return PatchOutcome(result, _action(facts, result, skipped), culprit, probe)


def _action(facts: Facts, result: PatchResult, skipped: Collection[str]) -> Action:
    if result.verdict in (Verdict.ABSORBED, Verdict.SUPERSEDED):
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
        if warning := _warning(result, outcome.action):
            yield f"{result.slug}: {warning}"
        if result.commit and result.verdict is not Verdict.CLEAN:
            for line in _missing_lines(facts, result)[:3]:
                yield f"{result.slug}: line of your patch missing after the rebase: {line}"


def _warning(result: PatchResult, action: Action) -> str | None:
    if result.verdict is Verdict.REVERTED:
        return f"{result.evidence[0]}; it is kept"
    if action is Action.RESTORED:
        return "upstream had it and took it back; it is in the series again"
    if result.verdict is Verdict.NOT_NEEDED:
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
