"""History: for each patch, the runs of upstream commits with one verdict, and who began each.

Every commit is judged, not bisected, since verdicts come and go: upstream absorbs a patch, edits
it, reverts it. What makes that fast is that few commits change a file that matters (`states`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fixtool.git.objects import Oid
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.history._renamed_folders import not_renamed
from fixtool.history._verdicts import Group, judge_groups
from fixtool.history.ancestry import remember
from fixtool.history.log import (
    UpstreamChange,
    UpstreamCommit,
    first_parent_changes,
    upstream_commit,
)
from fixtool.history.recorded import FactsAlong, RecordedState, claims_of
from fixtool.history.result import History, Interval, PatchHistory
from fixtool.history.states import UpstreamFiles
from fixtool.progress import Progress
from fixtool.replay.run import Earlier
from fixtool.replay.verdict import APPLIES_AS_WRITTEN, PatchState, Verdict
from fixtool.series.line import Line


def history(
    repo: Repo,
    line: Line,
    start: Oid,
    end: Oid,
    progress: Progress,
    *,
    bring: Callable[[Sequence[Oid]], None] = lambda _: None,
    cache: Path | None = None,
    commits_of: Repo | None = None,
    earlier: Earlier | None = None,
) -> History:
    """Judge ``line`` on ``start`` and every first-parent commit after it up to ``end``.

    ``repo`` holds the line's base; ``bring`` makes blobs readable, ``cache`` is a folder of
    verdicts. ``commits_of`` is a repository in which every ancestor of ``start`` can be walked, if
    that is not ``repo``; ``earlier`` is what replays in ``repo`` have found. Raises
    UsageError if ``end`` does not descend from ``start``.
    """
    with pool() as threads:  # two logs are read side by side
        if any(claims_of(patch) for patch in line.patches):
            threads.submit(remember, commits_of or repo, end)
        changes = first_parent_changes(repo, start, end)
    facts = FactsAlong.read(commits_of or repo, line, start, changes)
    commits = [upstream_commit(repo, start), *(change.commit for change in changes)]
    texts = judge_texts(
        repo, line, start, changes, progress, bring=bring, cache=cache, earlier=earlier
    )
    patches = []
    for patch in line.patches:
        weighed = weigh(texts.states[patch.slug], facts.states(patch.slug), changes)
        patches.append(PatchHistory(patch.slug, patch.subject, _intervals(commits, weighed)))
    return History(line.name, start, end, len(commits), texts.judged, texts.reused, tuple(patches))


@dataclass(frozen=True)
class Texts:
    """What is true of each patch by its text alone: on the start, and after each change, by slug.
    Of the states of files there, ``judged`` were judged now, and ``reused`` were in the cache."""

    states: Mapping[str, Sequence[PatchState]]
    judged: int
    reused: int


def judge_texts(
    repo: Repo,
    line: Line,
    start: Oid,
    changes: Sequence[UpstreamChange],
    progress: Progress,
    *,
    bring: Callable[[Sequence[Oid]], None] = lambda _: None,
    cache: Path | None = None,
    earlier: Earlier | None = None,
) -> Texts:
    """Judge the patches of ``line`` on ``start`` and after each of ``changes``, by their texts
    alone."""
    files = UpstreamFiles(repo, line.upstream.base, start, changes, bring)
    by_text: dict[str, list[PatchState]] = {}
    judged = reused = 0
    together: list[Group] = []
    kept = not_renamed(repo, line.upstream.base, files.lost_folders(line.patches), progress)
    for slugs in files.groups(line.patches):
        part = replace(line, entries=tuple(e for e in line.entries if e.slug in slugs))
        together.append(Group(part, files.states(part.patches, kept)))
    results = judge_groups(repo, line, together, bring, cache, progress, earlier)
    for group, (verdicts, new) in zip(together, results, strict=True):
        judged, reused = judged + new, reused + len(verdicts) - new
        rows = [verdicts[state] for state in group.states]
        for position, entry in enumerate(group.line.entries):
            by_text[entry.slug] = [row[position] for row in rows]
    return Texts(by_text, judged, reused)


def weigh(
    by_text: Sequence[PatchState],
    recorded: Sequence[RecordedState],
    changes: Sequence[UpstreamChange],
) -> list[PatchState]:
    """What is true of a patch on each commit: first on the start, then after each of ``changes``.
    ``by_text`` is what its text shows there, and ``recorded`` is what its recorded facts say, which
    outweighs the text: upstream may have taken the patch in another form."""
    weighed: list[PatchState] = []
    absorbed_at: int | None = None  # where its text came in; None again after it was taken back
    reverted = False
    lost = _lost(by_text, recorded)
    for position, (state, record) in enumerate(zip(by_text, recorded, strict=True)):
        if record.state is not None and not lost[position]:
            if record.state.verdict is not state.verdict:
                evidence = (*record.state.evidence, f"by its text: {state.verdict}")
                state = PatchState(record.state.verdict, (*evidence, *state.evidence))
        elif state.verdict is Verdict.CONFLICT and absorbed_at is not None:
            if record.taken_back is None:
                since = "from the start"
                if absorbed_at:
                    since = f"since {changes[absorbed_at - 1].commit.sha[:12]}"
                reason = f"upstream had all of it {since}, and edited that later"
                state = PatchState(Verdict.ABSORBED, (reason, *state.evidence))
        elif state.verdict in APPLIES_AS_WRITTEN and (
            lost[position] or record.taken_back or reverted or absorbed_at is not None
        ):
            reason = record.taken_back or "upstream had it, and has it no more"
            state = PatchState(Verdict.REVERTED, (reason, *state.evidence))
        if state.verdict is Verdict.ABSORBED and absorbed_at is None:
            absorbed_at = position
        elif state.verdict is Verdict.REVERTED:
            absorbed_at, reverted = None, True
        weighed.append(state)
    return weighed


def _lost(by_text: Sequence[PatchState], recorded: Sequence[RecordedState]) -> list[bool]:
    """Whether upstream had lost the patch's text, for each commit, although the recorded facts say
    that upstream has the patch: it held the text once since they say so, and the patch fits again.
    A commit took it back whose message does not say so."""
    lost = []
    held = gone = False
    before: RecordedState | None = None
    for state, record in zip(by_text, recorded, strict=True):
        if record != before:
            held, gone, before = False, False, record
        taken = record.state is not None and record.state.verdict is Verdict.ABSORBED
        if state.verdict is Verdict.ABSORBED:
            held, gone = True, False
        elif held and taken and state.verdict in APPLIES_AS_WRITTEN:
            gone = True
        lost.append(gone)
    return lost


def _intervals(
    commits: Sequence[UpstreamCommit], states: Sequence[PatchState]
) -> tuple[Interval, ...]:
    borders = [0, *(at for at, (before, state) in enumerate(pairwise(states), 1)
                    if state.verdict is not before.verdict)]  # fmt: skip
    return tuple(
        Interval(
            states[begin].verdict, commits[begin], commits[end - 1], end - begin,
            commits[begin] if begin else None, states[begin].evidence,
        )
        for begin, end in pairwise([*borders, len(states)])
    )  # fmt: skip
