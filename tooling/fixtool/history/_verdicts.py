"""Judges patches on states of files, each state once: from the cache, else by a replay in a tree
that holds nothing but these files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fixtool import documents
from fixtool.documents import Field
from fixtool.errors import CannotRun
from fixtool.files import private_folder, require_private, write_atomically
from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.git.trees import write_trees
from fixtool.history.states import Files, FileState, digest
from fixtool.progress import Progress
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.line import Line

_FORMAT = 4


def judge_states(
    repo: Repo,
    line: Line,
    states: Sequence[FileState],
    bring: Callable[[Sequence[Oid]], None],
    cache: Path | None,
    progress: Progress,
) -> tuple[dict[FileState, list[PatchState]], int]:
    """What is true of each patch of ``line`` on each of ``states``, by the patch's text alone; and
    the number of states that were not in the folder ``cache``. ``bring`` makes blobs readable."""
    digests = " ".join(f"{patch.slug} {patch.digest}" for patch in line.patches)
    name = hashlib.sha256(f"{_FORMAT} {line.upstream.base} {digests}".encode()).hexdigest()
    file = cache / f"{name}.json" if cache else None
    known = _load(file) if file else {}
    keys = {state: state.key for state in dict.fromkeys(states)}
    verdicts = {state: known[key] for state, key in keys.items() if key in known}
    new = [state for state in keys if state not in verdicts]
    if not new:
        return verdicts, 0
    used = {entry.blob for state in new for _, entry in (*state.files, *state.base_files)}
    bring(sorted(used))
    trees = _write_trees(repo, new)
    slugs = ", ".join(entry.slug for entry in line.entries)
    with (
        progress.task(f"judging {slugs}", total=len(new)) as task,
        pool() as threads,
    ):
        judged = threads.map(lambda state: _judge(repo, line, state, trees), new)
        for state, patches in zip(new, judged, strict=True):
            verdicts[state] = patches
            task.advance(1)
    if file:
        _store(file, known | {keys[state]: patches for state, patches in verdicts.items()})
    return verdicts, len(new)


def _judge(repo: Repo, line: Line, state: FileState, trees: Mapping[str, Oid]) -> list[PatchState]:
    if state.commit:
        onto, base = state.commit, line.upstream.base
    else:
        onto, base = (
            repo.write_commit(Commit(trees[digest(files)], (), MACHINE, MACHINE, "files\n"))
            for files in (state.files, state.base_files)
        )
    line = replace(line, upstream=replace(line.upstream, base=base))
    patches = replay(repo, line, onto).patches
    return [PatchState(patch.verdict, patch.evidence) for patch in patches]


def _write_trees(repo: Repo, states: Sequence[FileState]) -> dict[str, Oid]:
    """Write a tree for each set of files. Returns digest of the set -> tree."""
    sets: dict[str, Files] = {
        digest(files): files for state in states for files in (state.files, state.base_files)
    }
    trees = write_trees(repo, [dict(files) for files in sets.values()])
    return dict(zip(sets, trees, strict=True))


def _load(file: Path) -> dict[str, list[PatchState]]:
    require_private(file.parent)
    return documents.read_own(file, _read_states) or {}


def _read_states(root: Field) -> dict[str, list[PatchState]]:
    return {
        key: [_read_state(patch) for patch in root[key].each(lambda patch: patch)]
        for key in root.table()
    }


def _read_state(patch: Field) -> PatchState:
    pair = patch.each(lambda part: part)
    if len(pair) != 2:
        raise patch.wrong("a verdict and its evidence")
    return PatchState(pair[0].member(Verdict), pair[1].texts())


def _store(file: Path, known: Mapping[str, Sequence[PatchState]]) -> None:
    """Keep the verdicts. If the cache cannot be written, the next history takes longer; its result
    is the same."""
    data = {
        key: [(patch.verdict, patch.evidence) for patch in patches]
        for key, patches in known.items()
    }
    try:
        private_folder(file.parent)
        write_atomically(file, json.dumps(data))
    except (OSError, CannotRun):
        return
