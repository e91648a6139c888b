"""History: for each patch, the runs of upstream commits with one verdict, and who began each.

Exact, not bisected: verdicts come and go (upstream absorbs, edits, reverts). A verdict depends only
on a few files, so commits that leave these alone need no look, and equal files are judged once, in
a tree that holds nothing else. Only where one of the files is gone do others matter, for a
three-way merge looks where it went; then those that it could have become are in the tree too.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.files import write_atomically
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, write_trees
from fixtool.history.log import Step, UpstreamCommit, first_parent, landed, read_one
from fixtool.history.result import History, Interval, PatchHistory
from fixtool.progress import Progress
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.line import Line
from fixtool.series.patch import Patch
from fixtool.series.trailers import forwarded

_CACHE_FORMAT = 1
_APPLIED = frozenset({Verdict.CLEAN, Verdict.OFFSET})

Files = dict[str, TreeEntry]
"""path -> (mode, blob id)."""


def history(
    repo: Repo,
    line: Line,
    start: Oid,
    end: Oid,
    progress: Progress,
    *,
    bring: Callable[[Sequence[Oid]], None] | None = None,
    cache: Path | None = None,
) -> History:
    """Judge ``line`` on ``start`` and every first-parent commit after it up to ``end``.

    ``repo`` holds the line's base; ``bring`` makes blobs readable, ``cache`` is a folder of
    verdicts. Raises UsageError if ``end`` does not descend from ``start``.
    """
    steps = first_parent(repo, start, end)
    own = line.upstream.base
    commits = [read_one(repo, start), *(step.commit for step in steps)]
    walk = _Walk(repo, own, start, steps)
    found: dict[str, list[PatchState]] = {}
    judged = reused = 0
    for members in _components(line.patches):
        states = walk.states([one for one in line.patches if one.slug in members])
        part = replace(line, entries=tuple(e for e in line.entries if e.slug in members))
        judge = _Judge(repo, part, own, cache)
        verdicts = judge.all(states, bring or (lambda _: None), progress)
        judged, reused = judged + judge.judged, reused + judge.reused
        for position, slug in enumerate(entry.slug for entry in part.entries):
            found[slug] = [verdicts[state][position] for state in states]
    patches = tuple(
        PatchHistory(
            patch.slug, patch.subject, _intervals(commits, told(patch, found[patch.slug], steps))
        )
        for patch in line.patches
    )
    return History(line.name, start, end, len(commits), judged, reused, patches)


def told(patch: Patch, found: Sequence[PatchState], steps: Sequence[Step]) -> list[PatchState]:
    """What the text says of each commit (``found``, the first for the start), with what upstream
    said: it took this pull request, in whatever form; it took a change back."""
    shas, numbers = forwarded(patch)
    borders = landed(steps, shas, numbers) if shas or numbers else []
    told: list[PatchState] = []
    taken: int | None = None  # where its text came in; None also once it was taken back
    back = False
    for position, finding in enumerate(found):
        passed = [border for border in borders if border < position]  # steps[0] leads to found[1]
        if len(passed) % 2:
            took = steps[passed[-1]].commit
            if finding.verdict is not Verdict.ABSORBED:
                why = f"upstream took {_name(took)} as {took.sha[:12]}"
                text = f"by its text: {finding.verdict}"
                finding = PatchState(Verdict.ABSORBED, (why, text, *finding.evidence))
        elif finding.verdict is Verdict.CONFLICT and taken is not None and not passed:
            where = f"since {steps[taken - 1].commit.sha[:12]}" if taken else "from the start"
            why = f"upstream had all of it {where}, and edited that later"
            finding = PatchState(Verdict.ABSORBED, (why, *finding.evidence))
        elif finding.verdict in _APPLIED and (passed or back or taken is not None):
            why = (
                f"{steps[passed[-1]].commit.sha[:12]} took it back"
                if passed
                else "upstream had it, and has it no more"
            )
            finding = PatchState(Verdict.REVERTED, (why, *finding.evidence))
        if finding.verdict is Verdict.ABSORBED and taken is None:
            taken = position
        elif finding.verdict is Verdict.REVERTED:
            taken, back = None, True
        told.append(finding)
    return told


def _name(commit: UpstreamCommit) -> str:
    return f"#{commit.pr}" if commit.pr else commit.subject


def _intervals(
    commits: Sequence[UpstreamCommit], found: Sequence[PatchState]
) -> tuple[Interval, ...]:
    runs: list[Interval] = []
    for commit, finding in zip(commits, found, strict=True):
        if runs and runs[-1].verdict is finding.verdict:
            runs[-1] = replace(runs[-1], last=commit, count=runs[-1].count + 1)
        else:
            culprit = commit if runs else None
            runs.append(Interval(finding.verdict, commit, commit, 1, culprit, finding.evidence))
    return tuple(runs)


# -- what a verdict depends on ---------------------------------------------------------------


def _paths(patches: Iterable[Patch]) -> set[str]:
    return {path for patch in patches for path in patch.paths}


def _components(patches: Sequence[Patch]) -> list[frozenset[str]]:
    """The slugs that must be judged together: patches that share a file, or say they depend."""
    groups: list[tuple[set[str], set[str]]] = []  # names (paths, and slugs), slugs
    for patch in patches:
        names = set(patch.paths) | {f"\0{one}" for one in (patch.slug, *patch.depends_on)}
        slugs = {patch.slug}
        for group in [one for one in groups if one[0] & names]:
            groups.remove(group)
            names |= group[0]
            slugs |= group[1]
        groups.append((names, slugs))
    return [frozenset(slugs) for _, slugs in groups]


@dataclass(frozen=True)
class _State:
    """The files of one commit that can matter to some patches, and those of their own base; where
    that is every file, ``whole`` is the commit itself."""

    files: tuple[tuple[str, TreeEntry], ...]
    own: tuple[tuple[str, TreeEntry], ...]
    whole: Oid | None = None


class _Walk:
    """Follows the files of upstream's commits from ``start`` on."""

    def __init__(self, repo: Repo, own: str, start: Oid, steps: Sequence[Step]) -> None:
        self.repo = repo
        self.start, self.steps = start, steps
        self.own = list_tree(repo, own)
        self.first = self.own if own == start else list_tree(repo, start)
        self._sizes: dict[Oid, int] = {}

    def states(self, patches: Sequence[Patch]) -> list[_State]:
        """One for each commit, the first for ``start``; equal where nothing that matters does."""
        paths = _paths(patches)
        own = {path: self.own[path] for path in paths if path in self.own}
        folders = {posixpath.dirname(path) for path in paths - set(own)}
        folders = {one for one in folders if any(p.startswith(f"{one}/") for p in self.own)}
        files = dict(self.first)
        found = [self._state(self.start, files, paths, own, folders)]
        for step in self.steps:
            for path, entry in step.changes.items():
                if entry is None:
                    files.pop(path, None)
                else:
                    files[path] = entry
            gone = any(path not in files for path in own)
            if (
                gone
                or any(entry is None for entry in step.changes.values())
                or (not paths.isdisjoint(step.changes))
            ):
                found.append(self._state(step.commit.sha, files, paths, own, folders))
            else:
                found.append(found[-1])
        return found

    def _state(
        self, commit: Oid, files: Files, paths: set[str], own: Files, folders: set[str]
    ) -> _State:
        if any(not any(path.startswith(f"{one}/") for path in files) for one in folders):
            return _State((), (), commit)  # a folder that a new file goes to may have moved
        here = {path: files[path] for path in paths if path in files}
        there = dict(own)
        if missing := [path for path in own if path not in files]:
            fresh = {p: e for p, e in files.items() if p not in self.own}
            near = self._could_be(fresh, [own[path][1] for path in missing])
            here |= {path: fresh[path] for path in near}
            # A file that went, and is there again letter by letter, is taken for that one first.
            taken = {fresh[path][1] for path in near}
            there |= {p: e for p, e in self.own.items() if p not in files and e[1] in taken}
        return _State(tuple(sorted(here.items())), tuple(sorted(there.items())))

    def _could_be(self, fresh: Files, blobs: Sequence[Oid]) -> list[str]:
        """The new files that git's rename detection would compare with one of ``blobs``: it takes
        none that is less than half as large, or more than twice (diffcore-rename, 50%)."""
        unknown = {entry[1] for entry in fresh.values()} | set(blobs)
        self._sizes |= self.repo.sizes(sorted(unknown - set(self._sizes)))

        def alike(one: Oid, other: Oid) -> bool:
            small, large = sorted((self._sizes[one], self._sizes[other]))
            return large <= 2 * small

        return [path for path, (_, one) in fresh.items() if any(alike(one, b) for b in blobs)]


# -- judging states --------------------------------------------------------------------------


class _Judge:
    """Gives the verdicts of ``line`` (patches that belong together) on states, each once."""

    def __init__(self, repo: Repo, line: Line, own: Oid, cache: Path | None) -> None:
        self.repo, self.line, self.own = repo, line, own
        self.judged = self.reused = 0
        digests = " ".join(f"{patch.slug} {patch.digest}" for patch in line.patches)
        name = hashlib.sha256(f"{_CACHE_FORMAT} {own} {digests}".encode()).hexdigest()
        self._file = cache / f"{name}.json" if cache else None

    def all(
        self,
        states: Sequence[_State],
        bring: Callable[[Sequence[Oid]], None],
        progress: Progress,
    ) -> dict[_State, list[PatchState]]:
        wanted = list(dict.fromkeys(states))
        known = self._load()
        keys = {state: _key(state) for state in wanted}
        found = {state: known[key] for state, key in keys.items() if key in known}
        self.reused = len(found)
        todo = [state for state in wanted if state not in found]
        if todo:
            bring(sorted({entry[1] for one in todo for _, entry in (*one.files, *one.own)}))
            trees = self._trees(todo)
            slugs = ", ".join(entry.slug for entry in self.line.entries)
            with (
                progress.task(f"judging {slugs}", total=len(todo)) as task,
                ThreadPoolExecutor(os.cpu_count() or 1) as pool,
            ):
                for state, findings in zip(
                    todo, pool.map(lambda one: self._judge(one, trees), todo), strict=True
                ):
                    found[state] = findings
                    task.advance(1)
            self.judged = len(todo)
            self._store(known | {keys[state]: findings for state, findings in found.items()})
        return found

    def _judge(self, state: _State, trees: Mapping[str, Oid]) -> list[PatchState]:
        if state.whole:
            onto, base = state.whole, self.own
        else:
            onto, base = (
                self.repo.write_commit(Commit(trees[_id(files)], (), MACHINE, MACHINE, "files\n"))
                for files in (state.files, state.own)
            )
        line = replace(self.line, upstream=replace(self.line.upstream, base=base))
        done = replay(self.repo, line, onto)
        return [PatchState(one.verdict, one.evidence) for one in done.patches]

    def _trees(self, states: Sequence[_State]) -> dict[str, Oid]:
        """A tree object for each set of files."""
        sets = {_id(files): files for one in states for files in (one.files, one.own)}
        made = write_trees(self.repo, [dict(files) for files in sets.values()])
        return dict(zip(sets, made, strict=True))

    def _load(self) -> dict[str, list[PatchState]]:
        if self._file is None:
            return {}
        try:
            data = json.loads(self._file.read_text("utf-8"))
            return {
                key: [PatchState(Verdict(verdict), tuple(why)) for verdict, why in findings]
                for key, findings in data.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _store(self, known: Mapping[str, Sequence[PatchState]]) -> None:
        """A cache that cannot be written costs time, never the result."""
        if self._file is None:
            return
        data = {key: [(one.verdict, one.evidence) for one in known[key]] for key in known}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._file, json.dumps(data))
        except OSError:
            return


def _id(files: Sequence[tuple[str, TreeEntry]]) -> str:
    plain = tuple((path, tuple(entry)) for path, entry in files)
    return hashlib.sha256(repr(plain).encode("utf-8", "surrogateescape")).hexdigest()


def _key(state: _State) -> str:
    return state.whole or _id((*state.files, ("\0", TreeEntry("", Oid(""))), *state.own))
