"""What needs a person now, from what history, rebase and verify said: in words, with the next
command to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from fixtool.replay.verdict import Verdict
from fixtool.report.documents import Commit, Failure, History, Rebase
from fixtool.verify import result as evidence
from fixtool.verify.result import Result

FINE = ("passed", "seen", "skipped")


@dataclass(frozen=True)
class Kept:
    """A result under verify/results/; ``current``: it is of the patches as they stand now."""

    name: str
    result: Result
    current: bool


@dataclass(frozen=True)
class Plot:
    """``link`` leads from the Markdown to the file."""

    name: str
    png: bytes
    link: str

    @property
    def size(self) -> tuple[int, int]:
        """Pixels, from the file's own header."""
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        return width, height


@dataclass(frozen=True)
class Report:
    """All that is known. ``url`` is upstream's, ``made`` when the page was; a part that was not
    there is None, one that failed a Failure."""

    line: str
    url: str | None
    made: str
    version: str
    history: History | Failure | None = None
    rebase: Rebase | Failure | None = None
    results: tuple[Kept, ...] = ()
    plot: Plot | None = None


@dataclass(frozen=True)
class ToDo:
    """What a person has to do (``act``) or should look at, and the next command to type."""

    act: bool
    patch: str | None
    what: str
    why: str
    next: str | None
    culprit: Commit | None = None


def find_todos(report: Report) -> tuple[ToDo, ...]:
    """What cannot go on without a person first, then what should be looked at. A rebase speaks for
    its patches where it went as far as the history; where it did not, both are heard."""
    found = [
        ToDo(True, None, f"fixtool {one.command} could not answer", _because(one), None)
        for one in (report.history, report.rebase)
        if isinstance(one, Failure)
    ]
    told: set[str] = set()
    if isinstance(report.rebase, Rebase):
        mine = list(_of_rebase(report.rebase))
        found += mine
        told = {one.patch for one in mine if one.patch}
        if isinstance(report.history, History) and report.history.end == report.rebase.onto:
            told |= {one.slug for one in report.rebase.patches}
    if isinstance(report.history, History):
        found += [one for one in _of_history(report.history) if one.patch not in told]
    for kept in report.results:
        found += _of_result(kept)
    return tuple(sorted(found, key=lambda one: not one.act))


def _because(failure: Failure) -> str:
    where = f" ({failure.where})" if failure.where and failure.where not in failure.message else ""
    return failure.message + where + (f"; it says: {failure.hint}" if failure.hint else "")


def _command(*words: str) -> str:
    return shlex.join(("fixtool", *words))


def _of_rebase(rebase: Rebase) -> Iterable[ToDo]:
    line = rebase.new_line or rebase.line
    again = _command("rebase", "--line", rebase.line, "--onto", rebase.ref)
    prove = _command("verify", "--prove", "--line", line, "--sglang-ref", rebase.onto)
    waiting = [one.slug for one in rebase.patches if one.verdict is Verdict.BLOCKED]
    behind = f" Waiting behind it: {', '.join(waiting)}." if waiting else ""
    if session := rebase.session:
        yield ToDo(
            True, session.patch,
            f"The rebase stopped at patch {session.position} of {session.of}, {session.patch}",
            f"In {session.worktree}, mend {', '.join(session.conflicts) or 'the conflict'}, "
            f"git add it, and go on.{behind}",
            _command("rebase", "--continue"), session.culprit,
        )  # fmt: skip
    stopped = session.patch if session else None
    for one in rebase.patches:
        if one.slug == stopped:
            continue
        if one.action == "asked":
            yield ToDo(
                True, one.slug, f"{one.slug} does not apply to {rebase.onto[:12]}",
                f"{'; '.join(one.evidence[:3]) or 'The patch has to be mended.'}{behind}",
                again, one.culprit,
            )  # fmt: skip
        elif one.after == 1:
            yield ToDo(
                True, one.slug, f"{one.slug} applies, and no longer mends its bug",
                "Its probe still says that the bug is there.", prove, one.culprit,
            )  # fmt: skip
        elif one.verdict is Verdict.REVERTED:
            yield _taken_back(one.slug, one.culprit, prove)
    for text in rebase.warnings:
        yield ToDo(False, None, "The rebase warns", text, prove)


def _taken_back(slug: str, culprit: Commit | None, prove: str) -> ToDo:
    what = f"{slug} is needed again: upstream took its own fix back"
    return ToDo(False, slug, what, "The patch is kept. See that it still proves itself.", prove,
                culprit)  # fmt: skip


def _of_history(history: History) -> Iterable[ToDo]:
    end = history.end or "main"
    prove = _command("verify", "--prove", "--line", history.line, "--sglang-ref", end)
    again = _command("rebase", "--line", history.line, "--onto", end)
    last = [(one.slug, one.now) for one in history.patches if one.now]
    blocked = [slug for slug, now in last if now.verdict is Verdict.BLOCKED]
    in_conflict = [slug for slug, now in last if now.verdict is Verdict.CONFLICT]
    for slug, now in last:
        if now.verdict is Verdict.CONFLICT:
            since = f"for the last {many(now.count, 'commit')}" if now.culprit else "at any commit"
            waits = blocked and slug == in_conflict[0]
            why = f"It has not applied {since}."
            why += f" Waiting behind it: {', '.join(blocked)}." if waits else ""
            yield ToDo(True, slug, f"{slug} does not apply any more", why, again, now.culprit)
        elif now.verdict is Verdict.BLOCKED and not in_conflict:
            yield ToDo(
                True, slug, f"{slug} is blocked", "; ".join(now.evidence), again, now.culprit
            )
        elif now.verdict is Verdict.REVERTED:
            yield _taken_back(slug, now.culprit, prove)
        elif now.verdict is Verdict.NOT_NEEDED:
            yield ToDo(
                False, slug, f"{slug} applies, and its bug is gone",
                "If the proof agrees, it can leave the series.", prove, now.culprit,
            )  # fmt: skip


def _of_result(kept: Kept) -> Iterable[ToDo]:
    result, matrix = kept.result, evidence.matrix(kept.result)
    about = result.about
    kinds = [f"--{kind}" for kind in result.ran]
    again = _command("verify", *kinds, "--line", about["line"], "--sglang-ref", about["onto"])
    bad = [one for one in matrix.proofs if one.proof in evidence.BAD] if matrix else []
    for proof in bad:
        yield ToDo(True, proof.slug, f"{proof.slug} is {proof.proof.value}", proof.why, again)
    wrong = [one for one in result.steps if one.outcome not in FINE]
    if wrong:
        said = "; ".join(f"{one.name}: {one.said[:120]}" for one in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        what = f"{many(len(wrong), 'step')} of {len(result.steps)} went wrong in {kept.name}"
        yield ToDo(True, None, what, said + more, again)
    elif not result.finished:
        yield ToDo(False, None, f"{kept.name} is of a run that was stopped",
                   f"It has {evidence.tally(result)}.", again)  # fmt: skip


def looked(report: Report) -> str:
    """What the page stands on, so that 'nothing' is worth something."""
    parts = []
    if isinstance(report.history, History) and report.history.commits:
        parts.append(f"{many(report.history.commits, 'upstream commit')}")
    if isinstance(report.rebase, Rebase):
        parts.append(f"a rebase onto {report.rebase.onto[:12]}")
    if report.results:
        parts.append(many(len(report.results), "kept verify result"))
    return ", ".join(parts) or "nothing"


def many(number: int, what: str) -> str:
    """``1 commit``, ``2 commits``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
