"""Judges patches on states of files, each state once: from the cache, else file by file, else by a
replay in a tree that holds nothing but these files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fixtool import documents
from fixtool.documents import Field
from fixtool.errors import CannotRun
from fixtool.files import private_folder, require_private, write_atomically
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.git.scratch import scratch_repo
from fixtool.history.states import Files, FileState, digest
from fixtool.progress import Progress
from fixtool.replay.by_file import ByFile, Outcome, Target, check_predicted
from fixtool.replay.run import Earlier, replay, series_on_base
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.line import Line

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from fixtool.replay.by_file import SeriesOnBase

_FORMAT = 5

_T = TypeVar("_T")
Bring = Callable[[Sequence[Oid]], None]


@dataclass(frozen=True)
class Group:
    """Patches that are judged together, and the states of files on which they are."""

    line: Line
    states: Sequence[FileState]


def judge_groups(
    repo: Repo,
    line: Line,
    groups: Sequence[Group],
    bring: Bring,
    cache: Path | None,
    progress: Progress,
    earlier: Earlier | None = None,
) -> list[tuple[dict[FileState, list[PatchState]], int]]:
    """For each of ``groups`` of patches of ``line``: what is true of each of its patches on each of
    its states, by the patch's text alone; and the number of states that were not in the folder
    ``cache``. ``bring`` makes blobs readable. ``earlier`` is what replays of the line in ``repo``
    have found, and is told what is found now."""
    waiting = [_known_states(group, cache) for group in groups]
    left = [state for _, _, states in waiting for state in states]
    if left:
        _bring(left, bring)
    with _Room(repo, line, earlier or Earlier()) as room:
        started = [
            _start_by_file(room, group.line, states, cache, progress)
            for group, (_, _, states) in zip(groups, waiting, strict=True)
        ]
        _check_predicted([judged.by_file for judged in started if judged], progress)
        return [
            _judge_group(room, group.line, *known, judged, progress)
            for group, known, judged in zip(groups, waiting, started, strict=True)
        ]


def _known_states(
    group: Group, cache: Path | None
) -> tuple[_Kept[list[PatchState]], dict[FileState, list[PatchState]], list[FileState]]:
    """What the cache has of a group, and the states that it does not have."""
    line = group.line
    digests = " ".join(f"{patch.slug} {patch.digest}" for patch in line.patches)
    kept = _Kept.at(cache, f"{line.upstream.base} {digests}", _read_states)
    distinct = list(dict.fromkeys(group.states))
    keys = {state: state.key for state in distinct} if kept.known else {}
    verdicts = {state: kept.known[key] for state, key in keys.items() if key in kept.known}
    return kept, verdicts, [state for state in distinct if state not in verdicts]


def _judge_group(
    room: _Room,
    line: Line,
    kept: _Kept[list[PatchState]],
    verdicts: dict[FileState, list[PatchState]],
    left: Sequence[FileState],
    started: _ByFile | None,
    progress: Progress,
) -> tuple[dict[FileState, list[PatchState]], int]:
    by_file, new = _finish_by_file(room, started) if started else ({}, 0)
    verdicts |= by_file
    replayed = _judge_by_replay(
        room.repo, line, [state for state in left if state not in by_file], progress
    )
    verdicts |= replayed
    # The verdict on one patch is put together from its files again as fast as it is read.
    slow = verdicts if len(line.patches) > 1 else replayed
    if any(state in slow for state in left):
        kept.store({state.key: slow[state] for state in left if state in slow})
    return verdicts, new + len(replayed)


class _Room:
    """Where groups are judged: a place for objects that nobody needs later, and threads. Both are
    made when the first group needs them, and shared by all: to make them takes longer than to judge
    a patch of one file."""

    def __init__(self, repo: Repo, line: Line, earlier: Earlier) -> None:
        self.repo = repo
        self.earlier = earlier
        self._line = line
        self._open = ExitStack()

    @cached_property
    def objects(self) -> ObjectDatabase:
        scratch = self._open.enter_context(scratch_repo(self.repo))
        objects = ObjectDatabase(scratch, scratch=scratch.objects_folder)
        return self._open.enter_context(objects)

    @cached_property
    def series(self) -> SeriesOnBase | None:
        return series_on_base(self.repo, self._line, self.earlier)

    @cached_property
    def threads(self) -> Executor:
        return self._open.enter_context(pool())

    def __enter__(self) -> _Room:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.__exit__(*error)


def known_on(cache: Path, line: Line, commits: Sequence[Oid]) -> dict[Oid, list[PatchState]]:
    """What is true of each patch of ``line`` by its text on those of ``commits`` that were judged
    before."""
    known = _of_commits(cache, line).known
    return {commit: known[commit] for commit in commits if commit in known}


def keep_on(cache: Path, line: Line, verdicts: Mapping[Oid, list[PatchState]]) -> None:
    """Keep what ``known_on`` then tells."""
    _of_commits(cache, line).store({str(commit): known for commit, known in verdicts.items()})


def _of_commits(cache: Path, line: Line) -> _Kept[list[PatchState]]:
    digests = " ".join(f"{patch.slug} {patch.digest}" for patch in line.patches)
    return _Kept.at(cache, f"commits {line.upstream.base} {digests}", _read_states)


@dataclass(frozen=True)
class _ByFile:
    """The judgement of a group by file, which has begun: of those of its states that allow it.
    ``kept`` are outcomes of files from the cache."""

    by_file: ByFile
    states: Sequence[FileState]
    kept: _Kept[Outcome]


def _start_by_file(
    room: _Room,
    line: Line,
    states: Sequence[FileState],
    cache: Path | None,
    progress: Progress,
) -> _ByFile | None:
    """Begin to judge those of ``states`` that can be judged file by file; None if none can."""
    states = [state for state in states if state.commit is None]
    if not states:
        return None
    with ExitStack() as shown:
        by_file = ByFile(room.objects, line.patches, line.upstream.base, room.threads, room.series)
        if not by_file.possible:
            return None
        single = len(line.patches) == 1
        kept = _Kept.at(cache if single else None, by_file.identity(0), _read_outcomes)
        by_file.outcomes[0].update(kept.known)

        def begin(position: int, parts: int) -> Callable[[int], None]:
            shown.close()
            if not parts:
                return lambda _: None
            slug = line.entries[position].slug
            return shown.enter_context(progress.task(f"judging {slug}", total=parts)).advance

        targets = [Target(state.files, state.base_files, state.lost_folders) for state in states]
        by_file.start(targets, begin)
    return _ByFile(by_file, states, kept)


def _check_predicted(judges: Sequence[ByFile], progress: Progress) -> None:
    """Let git make the merges that were predicted, those of all groups together."""
    if size := sum(len(judge.predicted) for judge in judges):
        with progress.task("merging files", total=size) as task:
            check_predicted(judges, task.advance)


def _finish_by_file(room: _Room, started: _ByFile) -> tuple[dict[FileState, list[PatchState]], int]:
    """The verdicts on the states that were judged file by file; and on how many of them a file had
    to be judged."""
    by_file, kept = started.by_file, started.kept
    judged = by_file.finish()
    room.earlier.as_applied.update(by_file.as_applied)
    new = {key: outcome for key, outcome in by_file.outcomes[0].items() if key not in kept.known}
    if new:
        kept.store(new)
    verdicts = {state: patches for state, patches in zip(started.states, judged, strict=True)
                if patches}  # fmt: skip
    return verdicts, by_file.judged


def _bring(states: Sequence[FileState], bring: Bring) -> None:
    used = {entry for state in states for _, entry in (*state.files, *state.base_files)}
    bring(sorted({entry.blob for entry in used}))


def _judge_by_replay(
    repo: Repo, line: Line, states: Sequence[FileState], progress: Progress
) -> dict[FileState, list[PatchState]]:
    if not states:
        return {}
    slugs = ", ".join(entry.slug for entry in line.entries)
    verdicts = {}
    with (
        progress.task(f"judging {slugs}", total=len(states)) as task,
        passing_objects(repo) as objects,
        pool() as threads,
    ):
        commits = _write_commits(objects, states)
        earlier = Earlier(scratch=objects.scratch)
        judged = threads.map(
            lambda state: _replay(objects.repo, line, state, commits, earlier), states
        )
        for state, patches in zip(states, judged, strict=True):
            verdicts[state] = patches
            task.advance(1)
    return verdicts


def _replay(
    repo: Repo, line: Line, state: FileState, commits: Mapping[str, Oid], earlier: Earlier
) -> list[PatchState]:
    if commit := state.commit or state.lost:
        onto, base = commit, line.upstream.base
    else:
        onto, base = (commits[digest(files)] for files in (state.files, state.base_files))
    line = replace(line, upstream=replace(line.upstream, base=base))
    patches = replay(repo, line, onto, earlier=earlier).patches
    return [PatchState(patch.verdict, patch.evidence) for patch in patches]


def _write_commits(objects: ObjectDatabase, states: Sequence[FileState]) -> dict[str, Oid]:
    """Write a commit for each set of files. Returns digest of the set -> commit."""
    sets: dict[str, Files] = {
        digest(files): files for state in states for files in (state.files, state.base_files)
    }
    trees = {name: objects.with_files(Oid(""), dict(files)) for name, files in sets.items()}
    commits = {
        name: objects.add_commit(Commit(tree, (), MACHINE, MACHINE, "files\n"))
        for name, tree in trees.items()
    }
    objects.flush()
    return commits


class _Kept(Generic[_T]):
    """A file of the cache: what is ``known`` of some patches, by key. Without a file nothing is
    known and nothing is kept."""

    def __init__(self, file: Path | None, known: Mapping[str, _T]) -> None:
        self._file = file
        self.known = known

    @classmethod
    def at(
        cls, folder: Path | None, subject: str, read: Callable[[Field], dict[str, _T]]
    ) -> _Kept[_T]:
        """The file in ``folder`` about ``subject``; ``read`` reads it."""
        if folder is None:
            return cls(None, {})
        name = hashlib.sha256(f"{_FORMAT} {subject}".encode("utf-8", "surrogateescape")).hexdigest()
        file = folder / f"{name}.json"
        require_private(folder)
        return cls(file, documents.read_own(file, read) or {})

    def store(self, new: Mapping[str, _T]) -> None:
        """Keep ``new`` besides what is known. If the cache cannot be written, the next history
        takes longer; its result is the same."""
        if self._file is None:
            return
        data = {key: _plain(value) for key, value in {**self.known, **new}.items()}
        try:
            private_folder(self._file.parent)
            write_atomically(self._file, json.dumps(data))
        except (OSError, CannotRun):
            return


def _read_states(root: Field) -> dict[str, list[PatchState]]:
    return {key: _read_state(root[key]) for key in root.table()}


def _read_outcomes(root: Field) -> dict[str, Outcome]:
    return {key: _read_outcome(root[key]) for key in root.table()}


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [(patch.verdict, patch.evidence) for patch in value]
    return value


def _read_state(patches: Field) -> list[PatchState]:
    return list(patches.each(_read_patch))


def _read_patch(patch: Field) -> PatchState:
    pair = patch.each(lambda part: part)
    if len(pair) != 2:
        raise patch.wrong("a verdict and its evidence")
    return PatchState(pair[0].member(Verdict), pair[1].texts())


def _read_outcome(outcome: Field) -> Outcome:
    parts = outcome.each(lambda part: part)
    if len(parts) != len(Outcome._fields):
        raise outcome.wrong("what became of a file")
    as_written, strict, conflicts, *rest = parts
    return Outcome(
        as_written.flag(), strict.optional(Field.flag), conflicts.texts(),
        *(part.flag() for part in rest),
    )  # fmt: skip
