"""Decides what a rebase does with each patch file, from the judgement of its patch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import ZERO, Oid
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.git.trees import raw_changes
from fixtool.judgement.run import JudgedPatch
from fixtool.rebase._facts import Facts, Restored
from fixtool.rebase.result import Action, PatchOutcome
from fixtool.replay.absorption import compare_with_upstream, missing_lines
from fixtool.replay.run import series_on_base
from fixtool.replay.verdict import FAILED, PatchResult, Verdict
from fixtool.series.patch import export_all
from fixtool.text import count

_ALWAYS = 10_000  # percent: git takes two commits for the same patch, however much differs
_INTENT_LINES = 8  # of a commit message
_SHOWN = 3  # lines of a patch that are missing
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
    """What becomes of the judged patches; ``skipped`` are the slugs that a person skipped."""
    compared = [patch for patch in judged
                if patch.result.verdict is not Verdict.CLEAN and patch.slug not in skipped
               ]  # fmt: skip
    pairs = [(facts.patch(patch.slug), patch.culprit.sha if patch.culprit else None)
             for patch in compared]  # fmt: skip
    with facts.judgement.earlier.database(facts.repo) as objects:
        evidence = compare_with_upstream(objects, facts.target.commit, pairs)
    more = {patch.slug: found for patch, found in zip(compared, evidence, strict=True)}
    same = _unchanged(facts, [patch.result for patch in judged])
    outcomes: list[PatchOutcome] = []
    for patch in judged:
        result = patch.result
        result = replace(result, evidence=(*result.evidence, *more.get(patch.slug, ())))
        action = _action(facts, result, outcomes, same)
        outcomes.append(PatchOutcome(result, action, patch.culprit, patch.probe))
    return tuple(outcomes)


def _unchanged(facts: Facts, results: Sequence[PatchResult]) -> set[str]:
    """The slugs of the patches whose files stay as they are, byte for byte. Most change the very
    files that they change on the line's own base. Of the others, most name other blobs than the new
    file would; for the rest, the new file is made and compared."""
    added = {result.slug: result.commit for result in results if result.commit}
    before = {slug: commit for slug, commit in _commits_on_base(facts).items() if slug in added}
    every = raw_changes(facts.repo, [*added.values(), *before.values()])
    now = dict(zip(added, every, strict=False))
    then = dict(zip(before, every[len(added) :], strict=True))
    same = {slug for slug in added if now[slug] == then.get(slug)}
    others = [(slug, commit) for slug, commit in added.items()
              if slug not in same and _names_blobs(facts.patch(slug).raw, now[slug])]  # fmt: skip
    for at in range(0, len(others), _TOGETHER):
        group = others[at : at + _TOGETHER]
        files = export_all(facts.repo, [commit for _, commit in group])
        same |= {slug for (slug, _), file in zip(group, files, strict=True)
                 if file == facts.patch(slug).raw}  # fmt: skip
    return same


def _names_blobs(raw: bytes, changes: Iterable[tuple[str, str]]) -> bool:
    """Whether a patch file names the blob that each of ``changes`` makes, as the file of a commit
    with these changes does in its index lines."""
    for meta, _ in changes:
        _, _, before, after, _ = meta.split(" ")
        if after not in (before, ZERO) and f"..{after}".encode() not in raw:
            return False
    return True


def _commits_on_base(facts: Facts) -> dict[str, Oid]:
    """The commits of the line's patches on its own base, by slug; none if they do not apply."""
    series = series_on_base(facts.repo, facts.line, facts.judgement.earlier)
    slugs = [entry.slug for entry in facts.line.entries]
    return dict(zip(slugs, series.commits, strict=True)) if series else {}


def _action(
    facts: Facts, result: PatchResult, before: Sequence[PatchOutcome], same: Collection[str]
) -> Action:
    """What becomes of a patch, after what becomes of those ``before`` it."""
    if result.commit is None and result.verdict in _GONE:
        return Action.DROPPED
    if result.verdict is Verdict.SKIPPED or _is_shelved_too(facts, result, before):
        return Action.SHELVED
    if result.verdict in FAILED:
        return Action.ASKED
    if result.slug in facts.restored:
        return Action.RESTORED
    assert result.commit is not None
    return Action.KEPT if result.slug in same else Action.REWRITTEN


def _is_shelved_too(facts: Facts, result: PatchResult, before: Sequence[PatchOutcome]) -> bool:
    """Whether a patch is blocked by one that goes to the shelf, and follows it there. As long as
    another patch waits for a person, that one may be what blocks it."""
    if result.verdict is not Verdict.BLOCKED:
        return False
    shelved = {outcome.result.slug for outcome in before if outcome.action is Action.SHELVED}
    if shelved.intersection(facts.patch(result.slug).depends_on):
        return True
    return bool(shelved) and all(outcome.action is not Action.ASKED for outcome in before)


def warnings_of(facts: Facts, outcomes: Sequence[PatchOutcome]) -> Iterable[str]:
    """What a person should read although it stopped nothing."""
    if facts.unread:
        yield f"upstream's history was not read, so text alone decided: {facts.unread}"
    with facts.judgement.earlier.database(facts.repo) as objects:
        for outcome in outcomes:
            result = outcome.result
            if warning := _warning(facts, result, outcome.action):
                yield f"{result.slug}: {warning}"
            if result.commit and result.verdict is not Verdict.CLEAN:
                lines = _missing_lines(objects, facts, result)
                for line in lines[:_SHOWN]:
                    yield f"{result.slug}: line of your patch missing after the rebase: {line}"
                if more := lines[_SHOWN:]:
                    yield f"{result.slug}: {count(len(more), 'more line')} of your patch missing"


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


def range_diff(facts: Facts, outcomes: Sequence[PatchOutcome]) -> str:
    """The series before and after the rebase, in the form of `git range-diff`: a line for each
    patch, and how its diff has changed. Which patches belong together is known and not sought."""
    before = _commits_on_base(facts)
    if not before:
        return ""
    pairs = [(before.get(outcome.result.slug), outcome.result.commit) for outcome in outcomes]
    with pool() as threads:
        changes = threads.map(
            lambda outcome, pair: _change_of(facts.repo, outcome, *pair), outcomes, pairs
        )
        width = len(str(len(outcomes)))
        lines: list[str] = []
        at_old = at_new = 0
        for outcome, (old, new), (sign, change) in zip(outcomes, pairs, changes, strict=True):
            at_old, at_new = at_old + bool(old), at_new + bool(new)
            left, right = _numbered(at_old, old, width), _numbered(at_new, new, width)
            lines += [f"{left} {sign} {right} {outcome.result.subject}", *change]
    return "".join(f"{line}\n" for line in lines)


def _numbered(number: int, commit: Oid | None, width: int) -> str:
    return f"{number:>{width}}:  {commit[:12]}" if commit else f"{'-':>{width}}:  {'-' * 12}"


def _change_of(
    repo: Repo, outcome: PatchOutcome, old: Oid | None, new: Oid | None
) -> tuple[str, list[str]]:
    """How the commit of a patch has changed: the sign of `git range-diff`, and its lines."""
    if old is None or new is None:
        return (">" if new else "<"), []
    if outcome.action is Action.KEPT:
        return "=", []
    words = ("range-diff", "--no-color", f"--creation-factor={_ALWAYS}")
    reply = repo.run(*words, f"{old}^..{old}", f"{new}^..{new}", accept=None)
    heading, *lines = reply.stdout.decode("utf-8", "replace").rstrip("\n").split("\n")
    same = reply.status == 0 and " = " in heading[: heading.find(new[:4])]
    return ("=" if same else "!"), lines
