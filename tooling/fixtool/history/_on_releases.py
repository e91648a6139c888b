"""Judges a line on releases: like the commits of a history, each file of a patch by itself.

A release on the package index lacks whole folders of the repository, such as upstream's tests. A
patch that adds a file to one could be carried elsewhere by git, if it takes the folder for renamed:
that is asked once a release (`_renamed_folders`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.history._renamed_folders import not_renamed
from fixtool.history._verdicts import Group, judge_groups, keep_on, known_on
from fixtool.history.log import UpstreamChange, UpstreamCommit
from fixtool.history.states import UpstreamFiles
from fixtool.progress import Progress
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState
from fixtool.series.line import Line


def judge_on(
    repo: Repo,
    line: Line,
    commits: Sequence[Oid],
    bring_base: Callable[[], Oid],
    cache: Path,
    progress: Progress,
) -> dict[Oid, list[PatchState]]:
    """What is true of each patch of ``line`` on each of ``commits``, by its text alone: from the
    folder ``cache``, or judged now."""
    verdicts = known_on(cache, line, commits)
    if left := [commit for commit in dict.fromkeys(commits) if commit not in verdicts]:
        new = _judge(repo, line, left, bring_base, cache, progress)
        keep_on(cache, line, new)
        verdicts |= new
    return verdicts


def _judge(
    repo: Repo,
    line: Line,
    commits: Sequence[Oid],
    bring_base: Callable[[], Oid],
    cache: Path,
    progress: Progress,
) -> dict[Oid, list[PatchState]]:
    """What is true of each patch of ``line`` on each of ``commits``, by its text alone."""
    try:
        base = bring_base()
    except CannotRun:  # only a patch that has to be merged three-way needs it
        replays = [replay(repo, line, commit, base=bring_base) for commit in commits]
        return {
            result.onto: [PatchState(patch.verdict, patch.evidence) for patch in result.patches]
            for result in replays
        }
    trees = [list_tree(repo, commit) for commit in commits]
    pairs = zip(commits[1:], pairwise(trees), strict=True)
    changes = [_change(commit, before, after) for commit, (before, after) in pairs]
    files = UpstreamFiles(repo, base, commits[0], changes)
    kept = not_renamed(repo, base, files.lost_folders(line.patches), progress)
    by_slug: dict[str, list[PatchState]] = {}
    together: list[Group] = []
    for slugs in files.groups(line.patches):
        part = replace(line, entries=tuple(e for e in line.entries if e.slug in slugs))
        together.append(Group(part, files.states(part.patches, kept)))
    results = judge_groups(repo, line, together, lambda _: None, cache, progress)
    for group, (verdicts, _) in zip(together, results, strict=True):
        for position, entry in enumerate(group.line.entries):
            by_slug[entry.slug] = [verdicts[state][position] for state in group.states]
    return {
        commit: [by_slug[patch.slug][place] for patch in line.patches]
        for place, commit in enumerate(commits)
    }


def _change(
    commit: Oid, before: Mapping[str, TreeEntry], after: Mapping[str, TreeEntry]
) -> UpstreamChange:
    """What the release ``commit`` changed against the one before it."""
    files: dict[str, TreeEntry | None] = {
        path: entry for path, entry in after.items() if before.get(path) != entry
    }
    files |= dict.fromkeys(before.keys() - after.keys())
    release = UpstreamCommit(commit, "", "", "", None)
    return UpstreamChange(release, None, None, True, files)
