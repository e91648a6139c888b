"""What needs a person, from what history, rebase and verify found: in words, with the next command
to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from fixtool.documents import Failure
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import History, HistoryDocument
from fixtool.judgement.covered import Coverage
from fixtool.rebase.result import Action, Rebased
from fixtool.replay.verdict import Verdict
from fixtool.report._inputs import KeptResult, Report
from fixtool.text import count
from fixtool.verify.proof import BAD, prove

FINE = ("passed", "seen", "skipped")
"""Outcomes of a step at which no person needs to look."""


@dataclass(frozen=True)
class ToDo:
    """What a person has to do (``act``) or should look at, and the next command to type."""

    act: bool
    patch: str | None
    what: str
    why: str
    next: str | None
    culprit: UpstreamCommit | None = None


def find_todos(report: Report) -> tuple[ToDo, ...]:
    """What has to be done first, then what should be looked at.

    If the rebase went as far as the history, only the rebase is heard about its patches.
    """
    history = report.history.history if isinstance(report.history, HistoryDocument) else None
    todos = [*_of_failure(report.history), *(rebase_todos(report.rebase) if report.rebase else ())]
    settled = {todo.patch for todo in todos if todo.patch}
    if isinstance(report.rebase, Rebased) and history and history.end == report.rebase.onto:
        settled |= {outcome.result.slug for outcome in report.rebase.outcomes}
    todos += [todo for todo in _of_history(history) if todo.patch not in settled]
    todos += [*_of_failure(report.coverage), *_of_coverage(report.coverage)]
    for kept in report.results:
        todos += _of_result(kept)
    return _in_order(todos)


def rebase_todos(rebase: Rebased | Failure) -> tuple[ToDo, ...]:
    """What a rebase asks of a person, in the same order."""
    return _in_order(_of_rebase(rebase) if isinstance(rebase, Rebased) else _of_failure(rebase))


def _in_order(todos: Iterable[ToDo]) -> tuple[ToDo, ...]:
    return tuple(sorted(todos, key=lambda todo: not todo.act))


def _of_failure(document: object) -> Iterable[ToDo]:
    if isinstance(document, Failure):
        where = document.where if document.where and document.where not in document.message else ""
        why = document.message + (f" ({where})" if where else "")
        why += f"; try: {_for_reader(document.hint)}" if document.hint else ""
        yield ToDo(True, None, f"fixtool {document.command} failed", why, None)


def _for_reader(hint: str) -> str:
    """A hint as a reader of the report can type it, without the folder of the command, which may be
    gone, and without ``--json``."""
    return re.sub(r" (?:-C (?:'[^']*'|\S+)|--json)(?=\s|$)", "", hint)


def _command(*words: str) -> str:
    return shlex.join(("fixtool", *words))


def _of_rebase(rebased: Rebased) -> Iterable[ToDo]:
    line = rebased.new_line or rebased.line
    again = _command("rebase", "--line", rebased.line, "--onto", rebased.ref)
    prove = _command("verify", "--prove", "--line", line, "--ref", rebased.onto)
    results = [outcome.result for outcome in rebased.outcomes]
    behind = _behind([result.slug for result in results if result.verdict is Verdict.BLOCKED])
    if parked := rebased.parked:
        yield ToDo(
            True, parked.slug,
            f"The rebase stopped at patch {parked.position} of {parked.of}, {parked.slug}",
            f"In {parked.worktree}, mend {', '.join(parked.conflicts) or 'the conflict'}, "
            f"git add it, and go on.{behind}",
            _command("rebase", "--continue"), parked.culprit,
        )  # fmt: skip
    for outcome in rebased.outcomes:
        slug, evidence = outcome.result.slug, "; ".join(outcome.result.evidence[:3])
        if parked and slug == parked.slug:
            continue
        if outcome.action is Action.ASKED:
            yield ToDo(
                True, slug, f"{slug} does not apply to {rebased.onto[:12]}",
                f"{evidence or 'The patch has to be mended.'}{behind}", again, outcome.culprit,
            )  # fmt: skip
        elif outcome.probe_after == 1:
            yield ToDo(
                True, slug, f"{slug} applies, and no longer mends its bug",
                "Its probe still says that the bug is there.", prove, outcome.culprit,
            )  # fmt: skip
        elif outcome.result.verdict is Verdict.REVERTED:
            yield _reverted(slug, outcome.culprit, prove)
    for text in rebased.warnings:
        yield ToDo(False, None, "The rebase warns", text, prove)


def _behind(blocked: list[str]) -> str:
    return f" Waiting behind it: {', '.join(blocked)}." if blocked else ""


def _reverted(slug: str, culprit: UpstreamCommit | None, prove: str) -> ToDo:
    what = f"{slug} is needed again: upstream took its own fix back"
    why = "The patch is kept. See that it still proves itself."
    return ToDo(False, slug, what, why, prove, culprit)


def _of_history(history: History | None) -> Iterable[ToDo]:
    if history is None:
        return
    prove = _command("verify", "--prove", "--line", history.line, "--ref", history.end)
    again = _command("rebase", "--line", history.line, "--onto", history.end)
    states = [(patch.slug, patch.now) for patch in history.patches]
    blocked = [slug for slug, now in states if now.verdict is Verdict.BLOCKED]
    conflicting = [slug for slug, now in states if now.verdict is Verdict.CONFLICT]
    for slug, now in states:
        if now.verdict is Verdict.CONFLICT:
            since = f"for the last {count(now.count, 'commit')}" if now.culprit else "at any commit"
            behind = _behind(blocked) if slug == conflicting[0] else ""
            why = f"It has not applied {since}.{behind}"
            yield ToDo(True, slug, f"{slug} does not apply any more", why, again, now.culprit)
        elif now.verdict is Verdict.BLOCKED and not conflicting:
            why = "; ".join(now.evidence)
            yield ToDo(True, slug, f"{slug} is blocked", why, again, now.culprit)
        elif now.verdict is Verdict.REVERTED:
            yield _reverted(slug, now.culprit, prove)
        elif now.verdict is Verdict.NOT_NEEDED:
            yield ToDo(
                False, slug, f"{slug} is not needed there",
                "If the proof agrees, it can leave the series.", prove, now.culprit,
            )  # fmt: skip


def _of_coverage(coverage: object) -> Iterable[ToDo]:
    if not isinstance(coverage, Coverage):
        return
    if asking := [ref for ref in coverage.refs if ref.needs_person]:
        first = asking[0]
        commits = sum(ref.commits.count for ref in asking if ref.commits)
        number = count(commits, "commit") if commits else count(len(asking), "release")
        why = f"On {first.ref}, line {first.line} was chosen. {'; '.join(first.faults)}."
        ref = first.commit if first.commits else first.ref
        source = () if first.commits else ("--source", "pypi")
        again = _command("apply", "--ref", ref, *source, "--dry-run", "--verbose")
        yield ToDo(True, None, f"No line covers {number} of {coverage.total}", why, again)
    for lost in coverage.missing:
        again = _command("coverage", "--releases", f"{lost.ref}..{lost.ref}")
        yield ToDo(False, None, f"The coverage lacks {lost.ref}", lost.reason, again)


def _of_result(kept: KeptResult) -> Iterable[ToDo]:
    result, matrix = kept.result, prove(kept.result)
    line, onto = result.about["line"], result.about["onto"]
    kinds = [f"--{kind}" for kind in result.ran]
    again = _command("verify", *kinds, "--line", line, "--ref", onto)
    for proof in matrix.proofs if matrix else ():
        if proof.proof in BAD:
            what = f"{proof.slug} is {proof.proof.value}"
            yield ToDo(True, proof.slug, what, proof.why, again)
    wrong = [step for step in result.steps if step.outcome not in FINE]
    if wrong:
        first = "; ".join(f"{step.name}: {step.said[:120]}" for step in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        what = f"{count(len(wrong), 'step')} of {len(result.steps)} went wrong in {kept.name}"
        yield ToDo(True, None, what, first + more, again)
    elif not result.finished:
        why = f"It has {result.tally}."
        yield ToDo(False, None, f"{kept.name} is of a run that was stopped", why, again)


def sources(report: Report) -> str:
    """What the report is made from, so that "nothing needs a person" can be weighed."""
    parts = []
    history = report.history.history if isinstance(report.history, HistoryDocument) else None
    if history and history.commits:
        parts.append(count(history.commits, "upstream commit"))
    if isinstance(report.coverage, Coverage):
        of_commits = any(ref.commits for ref in report.coverage.refs)
        kind = "commit" if of_commits else "release"
        parts.append(f"the coverage of {count(report.coverage.total, kind)}")
    if isinstance(report.rebase, Rebased):
        parts.append(f"a rebase onto {report.rebase.onto[:12]}")
    if report.results:
        parts.append(count(len(report.results), "kept verify result"))
    return ", ".join(parts) or "nothing"
