"""Judges a line on releases: like the commits of a history, each file of a patch by itself.

A release on the package index lacks whole folders of the repository, such as upstream's tests. A
patch that adds a file to one could be carried elsewhere by git, if it takes the folder for renamed.
git is asked that once a release, for the folders of all patches together. If it leaves a new file
in each of them where it is, none of their files has a new place, and a patch alone changes nothing
about that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.git.database import ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.git.scratch import scratch_repo
from fixtool.git.trees import list_tree
from fixtool.history._verdicts import Group, judge_groups, keep_on, known_on
from fixtool.history.log import UpstreamChange, UpstreamCommit
from fixtool.history.states import UpstreamFiles, lost_folders
from fixtool.progress import Progress
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState
from fixtool.series.line import Line

_NEW_FILE = "fixtool-asks-whether-this-folder-was-renamed"


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
    in_base = list_tree(repo, base)
    lost = {commit: folders for commit, tree in zip(commits, trees, strict=True)
            if (folders := lost_folders(in_base, tree, line.patches))}  # fmt: skip
    kept = _not_renamed(repo, base, lost, progress)
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


def _not_renamed(
    repo: Repo, base: Oid, lost: Mapping[Oid, frozenset[str]], progress: Progress
) -> set[Oid]:
    """The commits of ``lost`` on which git takes none of these folders of the base for renamed: it
    leaves a new file there where it is."""
    if not lost:
        return set()
    kept: set[Oid] = set()
    with (
        scratch_repo(repo) as scratch,
        ObjectDatabase(scratch) as objects,
        progress.task(f"looking for {len(next(iter(lost.values())))} folders", len(lost)) as task,
        pool() as threads,
    ):
        on_base = objects.tree_of(base)
        blob = TreeEntry("100644", objects.add("blob", b"a file that nothing is like\n"))
        asked = []
        for commit, folders in lost.items():
            new = {f"{folder}/{_NEW_FILE}": blob for folder in folders}
            theirs = objects.with_files(on_base, {**new})
            pair = Question(on_base, objects.tree_of(commit), theirs).commits(objects)
            asked.append((commit, new, pair))
        objects.flush()
        merges = threads.map(lambda each: merge_many(scratch, [each[2]], keep=True)[0], asked)
        for (commit, new, _), merge in zip(asked, merges, strict=True):
            if not merge.conflicts and len(objects.files(merge.tree, new)) == len(new):
                kept.add(commit)
            task.advance(1)
    return kept
