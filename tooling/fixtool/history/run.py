"""History: for each patch, the runs of upstream commits with one verdict, and who began each.

Every commit is judged, not bisected, since verdicts come and go: upstream absorbs a patch, edits
it, reverts it. What makes that fast is that few commits change a file that matters (`_states`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.history._states import UpstreamFiles, groups
from fixtool.history._verdicts import judge_states
from fixtool.history.log import (
    UpstreamChange,
    UpstreamCommit,
    first_parent_changes,
    takes_and_reverts,
    upstream_commit,
)
from fixtool.history.result import History, Interval, PatchHistory
from fixtool.progress import Progress
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.line import Line
from fixtool.series.patch import Patch
from fixtool.series.trailers import forwarded

_FITS = (Verdict.CLEAN, Verdict.OFFSET)


def history(
    repo: Repo,
    line: Line,
    start: Oid,
    end: Oid,
    progress: Progress,
    *,
    bring: Callable[[Sequence[Oid]], None] = lambda _: None,
    cache: Path | None = None,
) -> History:
    """Judge ``line`` on ``start`` and every first-parent commit after it up to ``end``.

    ``repo`` holds the line's base; ``bring`` makes blobs readable, ``cache`` is a folder of
    verdicts. Raises UsageError if ``end`` does not descend from ``start``.
    """
    changes = first_parent_changes(repo, start, end)
    commits = [upstream_commit(repo, start), *(change.commit for change in changes)]
    files = UpstreamFiles(repo, line.upstream.base, start, changes)
    by_text: dict[str, list[PatchState]] = {}
    judged = reused = 0
    for slugs in groups(line.patches):
        group = replace(line, entries=tuple(e for e in line.entries if e.slug in slugs))
        states = files.states(group.patches)
        verdicts, new = judge_states(repo, group, states, bring, cache, progress)
        judged, reused = judged + new, reused + len(verdicts) - new
        for position, entry in enumerate(group.entries):
            by_text[entry.slug] = [verdicts[state][position] for state in states]
    patches = []
    for patch in line.patches:
        weighed = weigh_upstream_log(patch, by_text[patch.slug], changes)
        patches.append(PatchHistory(patch.slug, patch.subject, _intervals(commits, weighed)))
    return History(line.name, start, end, len(commits), judged, reused, tuple(patches))


def weigh_upstream_log(
    patch: Patch, by_text: Sequence[PatchState], changes: Sequence[UpstreamChange]
) -> list[PatchState]:
    """What is true of a patch on each commit. ``by_text`` is what its text shows, first for the
    start, then after each of ``changes``. Upstream's log may say more: that it took the patch's
    pull request, perhaps in another form, or that it took a change back."""
    ids, numbers = forwarded(patch)
    turns = takes_and_reverts(changes, ids, numbers) if ids or numbers else []
    weighed: list[PatchState] = []
    absorbed_at: int | None = None  # where its text came in; None again after it was taken back
    reverted = False
    lost = _lost(by_text, turns)
    for position, state in enumerate(by_text):
        passed = [changes[turn].commit for turn in turns if turn < position]
        taken = len(passed) % 2 == 1 and not lost[position]
        if taken and state.verdict is not Verdict.ABSORBED:
            name = f"#{passed[-1].pr}" if passed[-1].pr else passed[-1].subject
            reason = f"upstream took {name} as {passed[-1].sha[:12]}"
            evidence = (reason, f"by its text: {state.verdict}", *state.evidence)
            state = PatchState(Verdict.ABSORBED, evidence)
        elif taken:
            pass
        elif state.verdict is Verdict.CONFLICT and absorbed_at is not None and not passed:
            since = "from the start"
            if absorbed_at:
                since = f"since {changes[absorbed_at - 1].commit.sha[:12]}"
            reason = f"upstream had all of it {since}, and edited that later"
            state = PatchState(Verdict.ABSORBED, (reason, *state.evidence))
        elif state.verdict in _FITS and (passed or reverted or absorbed_at is not None):
            reason = "upstream had it, and has it no more"
            if passed and not lost[position]:
                reason = f"{passed[-1].sha[:12]} took it back"
            state = PatchState(Verdict.REVERTED, (reason, *state.evidence))
        if state.verdict is Verdict.ABSORBED and absorbed_at is None:
            absorbed_at = position
        elif state.verdict is Verdict.REVERTED:
            absorbed_at, reverted = None, True
        weighed.append(state)
    return weighed


def _lost(by_text: Sequence[PatchState], turns: Sequence[int]) -> list[bool]:
    """Whether upstream had lost the patch's text, for each commit: it held the text once since the
    last of ``turns``, and the patch fits again. A commit took it back whose message does not say
    so."""
    lost = []
    held = gone = False
    for position, state in enumerate(by_text):
        if position - 1 in turns:
            held = gone = False
        if state.verdict is Verdict.ABSORBED:
            held, gone = True, False
        elif held and state.verdict in _FITS:
            gone = True
        lost.append(gone)
    return lost


def _intervals(
    commits: Sequence[UpstreamCommit], states: Sequence[PatchState]
) -> tuple[Interval, ...]:
    intervals: list[Interval] = []
    for commit, state in zip(commits, states, strict=True):
        if intervals and intervals[-1].verdict is state.verdict:
            count = intervals[-1].count + 1
            intervals[-1] = replace(intervals[-1], last=commit, count=count)
        else:
            culprit = commit if intervals else None
            intervals.append(Interval(state.verdict, commit, commit, 1, culprit, state.evidence))
    return tuple(intervals)
