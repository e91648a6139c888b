"""Judges patches on many states of files, each file by itself.

Upstream's commits change few files each, so a patch of many files meets the same contents of most
of them again and again. What becomes of one file of a patch depends on that file alone: on its
content in the target, in the patch's own base, and there with the patch. So each content is judged
once, and the verdict on a patch is made of what became of its files. It is the one that a replay
gives (`replay.run`), with the same evidence.

Files depend on each other where git looks for the new place of a file that is gone. Then those
files are judged together. Some patches and states cannot be taken apart: their judgement is left to
a replay.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import NamedTuple

from fixtool.git.database import ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import FILE_MODES, Merge, Oid, TreeEntry
from fixtool.replay._hunks import after_merge, place, same_blob
from fixtool.replay._merge import Contents
from fixtool.replay._on_base import Files, PatchesOnBase, SeriesOnBase
from fixtool.replay.verdict import FAILED, FileResult, PatchState, Verdict
from fixtool.series.diff import FilePatch
from fixtool.series.patch import Patch
from fixtool.series.strict import LeftToGit, with_hunks

_MOST = 48  # merges that one process makes
_FEWEST = 12  # to start a process takes as long as a few merges
_PROCESSES = 2 * (os.cpu_count() or 1)  # among which the merges are shared, unless they are many

__all__ = ["ByFile", "Outcome", "SeriesOnBase", "Target", "check_predicted"]


class Outcome(NamedTuple):
    """What becomes of a file of a patch, or of files that are judged together.

    ``as_written``: each is the very file that the patch was written against. ``strict``: whether
    `git apply` changes them; None if the patch does not fit. ``conflicts``: the paths at which the
    three-way merge stops. ``merge``: whether it changes them, and ``same``: whether to what `git
    apply` makes. ``placed``: each hunk stands at its old line. ``absorbed``: after the merge, the
    target has a hunk or a file already.
    """

    as_written: bool
    strict: bool | None
    conflicts: tuple[str, ...]
    merge: bool
    same: bool
    placed: bool
    absorbed: bool


_AS_WRITTEN = Outcome(
    as_written=True, strict=True, conflicts=(), merge=True, same=True, placed=True, absorbed=False
)


class Target(NamedTuple):
    """The files of a target that can matter to the patches, and those of their base that can: the
    patches' own, and the new and old places of files that are gone. The target has no new file in a
    folder of which patches remove all files. ``lost`` are the folders of the
    base that get a new file and are gone, although git does not take them for renamed."""

    files: Sequence[tuple[str, TreeEntry]]
    base_files: Sequence[tuple[str, TreeEntry]]
    lost: frozenset[str] = frozenset()

    def has_lost_the_folder_of(self, added: Iterable[FilePatch]) -> bool:
        """Whether the folder of one of the new files ``added`` is gone."""
        return any(posixpath.dirname(file.path) in self.lost for file in added)


@dataclass(frozen=True, slots=True)
class _Part:
    """Files of one patch that are judged together: most often one. ``ours``, ``base`` and
    ``theirs`` are the entries in the target, in the patch's own base, and there with the patch.
    ``alone`` is False if git looks for new places among them."""

    key: str
    files: tuple[FilePatch, ...]
    ours: Files
    base: Files
    theirs: Files
    alone: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A part whose merge git has to make. ``strict`` is what `git apply` makes of it."""

    part: _Part
    as_written: bool
    strict: Files | None
    placed: tuple[FileResult, ...]


class _NeedsReplayError(Exception):
    """The state cannot be judged file by file."""


class ByFile:
    """Judges ``patches``, a series on the commit ``base``, if that is ``possible``. ``objects`` is
    a database whose objects need not last, and ``threads`` are those of a pool. ``series`` holds
    these patches, and has the commits of all its patches on the base, if it is given
    (`replay.run.series_on_base`).

    ``judged`` is the number of targets of which a part was judged. ``outcomes`` are those of the
    parts of each patch. Those of a single patch may be filled in before, and are then not judged
    again. ``predicted`` are the merges that git has not made yet, by the position of the patch and
    the key of the part. ``as_applied`` are contents that git merged to the blob given there, which
    `git apply` makes too.
    """

    def __init__(
        self,
        objects: ObjectDatabase,
        patches: Sequence[Patch],
        base: Oid,
        threads: Executor,
        series: SeriesOnBase | None = None,
    ) -> None:
        self._objects, self._patches, self._threads = objects, patches, threads
        whole = series.patches if series else patches
        after = series.after if series else {}
        slugs = [patch.slug for patch in whole]
        self._positions = [slugs.index(patch.slug) for patch in patches]
        self._on_base = PatchesOnBase(objects, whole, lambda: base, after)
        self.outcomes: list[dict[str, Outcome]] = [{} for _ in patches]
        self.judged = 0
        self.as_applied: dict[Contents, Oid] = {}
        self.predicted: dict[tuple[int, str], _Waiting] = {}
        self._answers: dict[tuple[int, str], Merge] = {}  # of git, about what was predicted
        self._unmerged: dict[tuple[int, str], _Waiting] = {}
        self._wrong = False  # whether something was predicted wrongly
        self._results: dict[tuple[int, str], Files] = {}
        self._single: dict[tuple[int, str, TreeEntry | None], _Part] = {}
        self._paths = frozenset(path for patch in patches for path in patch.paths)
        self._own = [tuple(sorted(patch.paths)) for patch in patches]
        self._as_they_are = [_only_as_they_are(patch) for patch in patches]
        self._searched = [
            () if whole != () else tuple(f.path for f in patch.files if f.old_path)
            for whole, patch in zip(self._as_they_are, patches, strict=True)
        ]
        self.possible = self._on_base.applies(self._positions[-1] + 1)
        if self.possible:
            self._base_tree = objects.tree_of(self._on_base.first(0))
            self._original = objects.files(self._base_tree, self._paths)
            self._sides = [self._sides_of(position) for position in range(len(patches))]

    def _sides_of(self, position: int) -> tuple[Files, Files]:
        """The files of a patch on its own base, and there with the patch."""
        addition = self._on_base.addition(self._positions[position])
        return addition.before, addition.after

    def identity(self, position: int) -> str:
        """A digest of all that the outcomes of a patch depend on besides the target."""
        patch = self._patches[position]
        sides = [sorted((path, *entry) for path, entry in side.items())
                 for side in self._sides[position]]  # fmt: skip
        text = repr((patch.diff_digest, sides))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def start(
        self, targets: Sequence[Target], begin: Callable[[int, int], Callable[[int], None]]
    ) -> None:
        """Judge each patch on each of ``targets``. What git has to merge is predicted as far as
        that is possible, so that one process can merge it for many judges: ``check_predicted``.
        ``begin`` is told a position and how many parts of that patch will be judged, and returns
        what is to be told how many are done."""
        self._targets = targets
        self._given = [dict(outcomes) for outcomes in self.outcomes]
        self._runs = self._judge(begin)

    def finish(self) -> list[list[PatchState] | None]:
        """What is true of each patch on each target; None for a target that only a replay can
        judge. What was predicted wrongly is judged again."""
        check_predicted([self], lambda _: None)
        while self._wrong:
            self._wrong = False
            self.outcomes = [dict(outcomes) for outcomes in self._given]
            self._runs = self._judge(lambda *_: lambda _: None)
            check_predicted([self], lambda _: None)
        self._unmerged.clear()
        self.judged = sum(run.judged for run in self._runs if run.possible)
        return [run.states if run.possible else None for run in self._runs]

    def _judge(self, begin: Callable[[int, int], Callable[[int], None]]) -> list[_Run]:
        runs = [_Run(target) for target in self._targets]
        for position in range(len(self._patches)):
            alike: dict[object, list[_Run]] = {}
            for run in runs:
                if run.possible:
                    alike.setdefault(self._case(position, run), []).append(run)
            self._judge_patch(position, list(alike.values()), begin)
        return runs

    def _case(self, position: int, run: _Run) -> object:
        """What the verdict on a patch depends on. Most targets are alike for most patches, since
        upstream's commits change few files each. If a file is missing whose new place git may look
        for, other files matter too, so the target is like no other."""
        files = run.files
        if any(path not in files for path in self._searched[position]):
            return run
        return tuple(map(files.get, self._own[position])), tuple(run.failed), run.target.lost

    def _judge_patch(
        self,
        position: int,
        alike: Sequence[Sequence[_Run]],
        begin: Callable[[int, int], Callable[[int], None]],
    ) -> None:
        """Judge the patch at ``position`` on targets: those that are ``alike`` for it at once."""
        cases: list[tuple[Sequence[_Run], list[_Part]]] = []
        for runs in alike:
            try:
                cases.append((runs, self._parts(position, runs[0])))
            except _NeedsReplayError:
                _give_up(runs)
        known = self.outcomes[position]
        new = {part.key: part for _, parts in cases for part in parts if part.key not in known}
        if new:
            for runs, parts in cases:
                if any(part.key in new for part in parts):
                    for run in runs:
                        run.judged = True
        impossible = self._measure(position, list(new.values()), begin(position, len(new)))
        for runs, parts in cases:
            if impossible.isdisjoint(part.key for part in parts):
                self._conclude(position, runs, parts)
            else:
                _give_up(runs)

    # -- taking apart ------------------------------------------------------------------------

    def _parts(self, position: int, run: _Run) -> list[_Part]:
        """The parts of a patch on a target with the patches before it."""
        whole = self._as_they_are[position]
        if whole != () and self._is_as_written(position, run):
            return [self._unchanged_part(position, self._patches[position].files)]
        if whole is None:
            raise _NeedsReplayError
        patch, (base, theirs) = self._patches[position], self._sides[position]
        files = run.files
        missing = [file for file in patch.files if file.old_path and file.path not in files]
        added = [file for file in patch.files if file.old_path is None]
        parts = []
        if whole:
            if missing or any(file.path in files for file in added):
                raise _NeedsReplayError
            parts = self._unchanged_parts(position, whole, run)
        others: dict[str, TreeEntry] = {}
        if missing:
            others = {path: entry for path, entry in run.target.files
                      if path not in self._paths}  # fmt: skip
        together: list[FilePatch] = []
        if missing and (others or any(file.path in files for file in added)):
            together = [*missing, *(file for file in added if file.path in files)]
        if missing and self._depends_on_others(position, missing, run, moves=bool(together)):
            raise _NeedsReplayError
        if self._may_move(added, run):
            raise _NeedsReplayError
        for file in patch.files:
            if file in together or file in whole:
                continue
            ours = files.get(file.path)
            part = self._single.get((position, file.path, ours))
            if part is None:  # most targets share it
                part = _alone(file, ours, base.get(file.path), theirs.get(file.path))
                self._single[position, file.path, ours] = part
            parts.append(part)
        if together:
            paths = {file.path for file in together}
            own, own_base, own_theirs = (
                {path: entry for path, entry in side.items() if path in paths}
                for side in (files, base, theirs)
            )
            twins = {path: entry for path, entry in run.target.base_files
                     if path not in self._paths}  # fmt: skip
            sides = (own | others, own_base | twins, own_theirs | twins)
            parts.append(_Part(_key(sides), tuple(together), *sides, False))
        return parts

    def _is_as_written(self, position: int, run: _Run) -> bool:
        """Whether each file of a patch is the very one that it was written against. Then it does
        here what it does on its own base, whatever kinds of change it makes."""
        patch, (base, _) = self._patches[position], self._sides[position]
        ours = {path: run.files[path] for path in patch.paths if path in run.files}
        added = [file for file in patch.files if file.old_path is None]
        return (
            ours == base
            and all(same_blob(file, ours) for file in patch.files)
            and not run.target.has_lost_the_folder_of(added)
            and not self._may_move(added, run)
        )

    def _unchanged_part(self, position: int, files: Sequence[FilePatch]) -> _Part:
        """Files of a patch that are in the target as they are on the patch's own base."""
        paths = {path for file in files for path in file.paths}
        base, theirs = (
            {path: entry for path, entry in side.items() if path in paths}
            for side in self._sides[position]
        )
        part = _Part(_key((base, base, theirs)), tuple(files), base, base, theirs, alone=False)
        self._keep_as_written(position, part)
        return part

    def _keep_as_written(self, position: int, part: _Part) -> None:
        """Keep the outcome of a part whose files are the very ones that the patch was written
        against."""
        self.outcomes[position][part.key] = _AS_WRITTEN
        for key in (part.key, f"strict {part.key}"):
            self._results[position, key] = part.theirs

    def _unchanged_parts(self, position: int, files: Sequence[FilePatch], run: _Run) -> list[_Part]:
        """The parts of a patch that removes or renames ``files``, or changes them otherwise than as
        text, where they are as on its own base: what the patch does with them does not depend on
        the other files then."""
        base, _ = self._sides[position]
        paths = {path for file in files for path in file.paths}
        ours = {path: run.files[path] for path in paths if path in run.files}
        if (
            ours != {path: base[path] for path in paths if path in base}
            or not all(same_blob(file, ours) for file in files)
            or self._may_move([file for file in files if file.new_path], run)
        ):
            raise _NeedsReplayError
        return [self._unchanged_part(position, [file]) for file in files]

    def _depends_on_others(
        self, position: int, missing: Sequence[FilePatch], run: _Run, *, moves: bool
    ) -> bool:
        """Whether other patches matter to where git looks for the new places of files that are
        ``missing``: they have changed these files on the base, they add a file that is here already
        or remove one that is still here and may be such a place, or (if a file ``moves``) they have
        put something into a new place here, or should have added a file that is here at another
        place."""
        base, _ = self._sides[position]
        if any(base.get(file.path) != self._original.get(file.path) for file in missing):
            return True
        others = self._paths - self._patches[position].paths - self._original.keys()
        if any(path in others for path, _ in run.target.files):
            return True
        if any(path in run.files for path in self._removed_before(position)):
            return True
        lacking = {
            self._sides[number][1][file.path].blob
            for number in run.failed
            for file in self._patches[number].files
            if file.old_path is None
        }
        here = {entry.blob for _, entry in run.target.files}
        return moves and (run.moved or not lacking.isdisjoint(here))

    def _removed_before(self, position: int) -> Iterator[str]:
        """The files that the patches before ``position`` remove."""
        for patch in self._patches[:position]:
            yield from (file.left_path for file in patch.files if file.left_path)

    def _may_move(self, added: Sequence[FilePatch], run: _Run) -> bool:
        """Whether git may take a folder of one of the files ``added`` for renamed: a patch made it
        on the base, and did not go in here."""
        failed = [path for position in run.failed for path in self._patches[position].paths]
        made = {
            folder for file in added for folder in _folders(file.path)
            if any(path.startswith(f"{folder}/") for path in failed)
        }  # fmt: skip
        return bool(made - self._objects.folders(self._base_tree, made))

    # -- judging parts -----------------------------------------------------------------------

    def _measure(
        self, position: int, parts: Sequence[_Part], advance: Callable[[int], None]
    ) -> set[str]:
        """Judge ``parts`` of a patch. Returns the keys of those that cannot be judged."""
        impossible: set[str] = set()
        waiting: list[_Waiting] = []
        asked: list[tuple[Sequence[_Waiting], Future[list[Merge]]]] = []
        share = _share(len(parts))
        # git reads the contents of one file faster in a row.
        for part in sorted(parts, key=lambda part: part.key):
            try:
                unmerged = self._unmerged.get((position, part.key)) or self._apply(position, part)
            except LeftToGit:
                impossible.add(part.key)
                unmerged = None
            if unmerged is None or self._is_told(position, unmerged):
                advance(1)
                continue
            waiting.append(unmerged)
            if len(waiting) == share:
                asked.append((waiting, self._ask(position, waiting)))
                waiting = []
        if waiting:
            asked.append((waiting, self._ask(position, waiting)))
        for group, answer in asked:
            for unmerged, merge in zip(group, answer.result(), strict=True):
                self._settle(position, unmerged, merge)
            advance(len(group))
        return impossible

    def _apply(self, position: int, part: _Part) -> _Waiting | None:
        """Apply a part as `git apply` does. Returns it if git then has to merge it; what needs no
        merge is settled."""
        own = {file.path for file in part.files}
        targets = {path: entry for path, entry in part.ours.items() if path in own}
        if any(entry.mode not in FILE_MODES for entry in targets.values()):
            raise LeftToGit
        if part.alone and part.ours == part.base and same_blob(part.files[0], targets):
            self._keep_as_written(position, part)
            return None
        placed = tuple(place(file, targets, self._objects.blob) for file in part.files)
        strict: dict[str, TreeEntry] | None = dict(part.ours)
        for file in part.files:
            entry = self._strict(position, file, part)
            if entry is None:
                strict = None
                break
            assert strict is not None
            strict[file.path] = entry
        as_written = all(same_blob(file, targets) for file in part.files)
        unmerged = _Waiting(part, as_written, strict, placed)
        if not part.alone:
            return unmerged
        (file,) = part.files
        ours, base, theirs = (side.get(file.path) for side in (part.ours, part.base, part.theirs))
        if ours == base:
            self._keep(position, unmerged, part.theirs, part.theirs)
        elif ours == theirs:
            self._keep(position, unmerged, part.ours, part.ours)
        elif ours is None:  # upstream has removed it, and no new file is like it
            self._keep(position, unmerged, None, Merge(Oid(""), (file.path,)))
        else:
            return unmerged
        return None

    def _strict(self, position: int, file: FilePatch, part: _Part) -> TreeEntry | None:
        """What `git apply` makes of one file; None if the patch does not fit."""
        entry = part.ours.get(file.path)
        if file.old_path is None:
            return part.theirs[file.path] if entry is None else None
        if entry is None:
            return None
        data = with_hunks(self._objects.blob(entry.blob), file)
        if data is None:
            return None
        mode = file.mode or entry.mode
        if self._is_needed_later(position, file.path):
            return TreeEntry(mode, self._objects.add("blob", data))
        head = f"blob {len(data)}\0".encode()
        return TreeEntry(mode, Oid(hashlib.sha1(head + data, usedforsecurity=False).hexdigest()))

    def _is_needed_later(self, position: int, path: str) -> bool:
        return any(path in patch.paths for patch in self._patches[position + 1 :])

    def _is_told(self, position: int, unmerged: _Waiting) -> bool:
        """Settle a part that git has merged already, or whose merge can be predicted: it most often
        makes what `git apply` makes, or stops if that does not fit. If later patches need the file,
        only the former is predicted. Returns whether the part is settled."""
        part = unmerged.part
        key = (position, part.key)
        self._unmerged[key] = unmerged
        if (merge := self._answers.get(key)) is not None:
            self._settle(position, unmerged, merge)
        elif unmerged.strict is not None:
            self.predicted[key] = unmerged
            self._keep(position, unmerged, unmerged.strict, unmerged.strict)
        elif len(self._patches) == 1:
            self.predicted[key] = unmerged
            self._keep(position, unmerged, None, Merge(Oid(""), (part.files[0].path,)))
        else:
            return False
        return True

    def told(self, key: tuple[int, str], merge: Merge) -> None:
        """Take git's answer about a merge that was predicted."""
        unmerged = self.predicted.pop(key)
        self._answers[key] = merge
        part, strict = unmerged.part, unmerged.strict
        if strict is None:
            self._wrong |= not (part.alone and merge.conflicts)
            return
        if merge.conflicts or _tree(self._objects, part, strict) != merge.tree:
            self._wrong = True
        else:
            self._note_merge(part, strict)

    def _ask(self, position: int, waiting: Sequence[_Waiting]) -> Future[list[Merge]]:
        """Let git merge parts."""
        return self.ask([(self, position, unmerged) for unmerged in waiting])

    def ask(self, waiting: Sequence[tuple[ByFile, int, _Waiting]]) -> Future[list[Merge]]:
        """Let git merge parts of judges that have the same objects: each with its judge and the
        position of its patch."""
        questions = [_question(self._objects, unmerged.part) for _, _, unmerged in waiting]
        keep = any(judge.is_kept(position, unmerged) for judge, position, unmerged in waiting)
        pairs = [question.commits(self._objects) for question in questions]
        self._objects.flush()
        return self._threads.submit(merge_many, self._objects.repo, pairs, keep=keep)

    def is_kept(self, position: int, unmerged: _Waiting) -> bool:
        """Whether what a merge makes has to be read."""
        part = unmerged.part
        return not part.alone or any(
            self._is_needed_later(position, file.path) for file in part.files
        )

    def _settle(self, position: int, unmerged: _Waiting, merge: Merge) -> None:
        """Keep the outcome of a part that git has merged."""
        part = unmerged.part
        if merge.conflicts:
            paths = tuple(file.path for file in part.files) if part.alone else merge.conflicts
            self._keep(position, unmerged, None, Merge(merge.tree, paths))
            return
        for known in (part.ours, unmerged.strict):
            if known is not None and _tree(self._objects, part, known) == merge.tree:
                self._note_merge(part, known)
                self._keep(position, unmerged, known, known)
                return
        if part.alone and not self._is_needed_later(position, part.files[0].path):
            result: Files = {part.files[0].path: TreeEntry("", merge.tree)}  # another one than all
        elif part.alone:
            (path,), entries = part.ours, self._objects.tree(merge.tree)
            result = dict.fromkeys([path], next(iter(entries.values())))
        else:
            paths_ = (*part.ours, *part.base, *part.theirs)
            result = self._objects.files(merge.tree, paths_)
        self._keep(position, unmerged, result, result)

    def _note_merge(self, part: _Part, merged: Files) -> None:
        """Note that git merges the contents of a file to what was predicted."""
        path = part.files[0].path
        if part.alone and path in part.base and path in merged:
            sides = (side[path].blob for side in (part.base, part.ours, part.theirs))
            self.as_applied[Contents(*sides)] = merged[path].blob

    def _keep(
        self, position: int, unmerged: _Waiting, result: Files | None, merge: Files | Merge
    ) -> None:
        """Keep the outcome of a part, whose files are ``result`` after the merge."""
        part = unmerged.part
        strict = None if unmerged.strict is None else dict(unmerged.strict) != dict(part.ours)
        placed = all(file.verdict is Verdict.CLEAN for file in unmerged.placed)
        if isinstance(merge, Merge):
            outcome = Outcome(
                unmerged.as_written, strict, merge.conflicts, False, False, placed, False
            )
        else:
            unchanged = {path for path, entry in part.ours.items() if merge.get(path) == entry}
            files = [after_merge(file, unchanged) for file in unmerged.placed]
            verdicts = {hunk.verdict for file in files for hunk in file.hunks}
            verdicts |= {file.verdict for file in files}
            outcome = Outcome(
                unmerged.as_written, strict, (), dict(merge) != dict(part.ours),
                unmerged.strict is not None and dict(unmerged.strict) == dict(merge),
                placed, Verdict.ABSORBED in verdicts,
            )  # fmt: skip
        self.outcomes[position][part.key] = outcome
        if len(self._patches) > 1:
            strictly = unmerged.strict if unmerged.strict is not None else {}
            self._results[position, part.key] = result if result is not None else {}
            self._results[position, f"strict {part.key}"] = strictly

    # -- putting together --------------------------------------------------------------------

    def _conclude(self, position: int, runs: Sequence[_Run], parts: Sequence[_Part]) -> None:
        """Note what is true of a patch on targets that are alike for it, and put it there if it
        goes in."""
        outcomes = [self.outcomes[position][part.key] for part in parts]
        first = runs[0]
        if first.target.has_lost_the_folder_of(
            file for file in self._patches[position].files if file.old_path is None
        ):
            outcomes = [outcome._replace(as_written=False) for outcome in outcomes]
        state = _together(outcomes)
        if state.verdict is Verdict.CONFLICT and (
            cause := self._blocked_by(position, first.failed)
        ):
            reason = f"it needs {cause}"
            state = PatchState(Verdict.BLOCKED, (*state.evidence, reason))
        failed = state.verdict in FAILED
        gone: set[str] = set()
        changed: dict[str, TreeEntry] = {}
        moved = False
        if not failed and len(self._patches) > position + 1:
            strict = all(outcome.as_written and outcome.strict is not None for outcome in outcomes)
            moved = not self._as_they_are[position] and any(not part.alone for part in parts)
            for part in parts:
                result = self._results[position, f"strict {part.key}" if strict else part.key]
                gone |= part.ours.keys() - result.keys()
                changed.update(result)
        for run in runs:
            run.states.append(state)
            if failed:
                run.failed.append(position)
            run.moved |= moved
            for path in gone:
                del run.files[path]
            run.files.update(changed)

    def _blocked_by(self, position: int, failed: Sequence[int]) -> str | None:
        """The patches without which this one does not apply even to its own base
        (`replay.run`)."""
        slugs = [patch.slug for patch in self._patches]
        named = [slugs[number] for number in failed
                 if slugs[number] in self._patches[position].depends_on]  # fmt: skip
        if named or not failed:
            return ", ".join(named) or None
        rest = (self._positions[number] for number in range(position + 1) if number not in failed)
        return None if self._on_base.commit(rest) else ", ".join(slugs[number] for number in failed)


class _Run:
    """One target, to which patches are applied in order. ``failed`` are the positions of those that
    did not go in. ``moved`` says that a patch went in with a file that has a new place here."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.files = dict(target.files)
        self.states: list[PatchState] = []
        self.failed: list[int] = []
        self.possible = True
        self.judged = False
        self.moved = False


def check_predicted(judges: Sequence[ByFile], advance: Callable[[int], None]) -> None:
    """Let git make the merges that ``judges`` have predicted, which all have the same objects.
    ``advance`` is told how many are done."""
    waiting = [(judge, *key, unmerged) for judge in judges
               for key, unmerged in judge.predicted.items()]  # fmt: skip
    waiting.sort(key=lambda each: each[2])  # git reads the contents of one file faster in a row
    share = _share(len(waiting))
    groups = [waiting[at : at + share] for at in range(0, len(waiting), share)]
    asked = [
        judges[0].ask([(judge, position, unmerged) for judge, position, _, unmerged in group])
        for group in groups
    ]
    for group, answer in zip(groups, asked, strict=True):
        for (judge, position, part, _), merge in zip(group, answer.result(), strict=True):
            judge.told((position, part), merge)
        advance(len(group))


def _question(objects: ObjectDatabase, part: _Part) -> Question:
    """The merge of a part, for git."""
    return Question(*(_tree(objects, part, side) for side in (part.base, part.ours, part.theirs)))


def _tree(objects: ObjectDatabase, part: _Part, files: Files) -> Oid:
    """The tree of ``files`` of a part, as git merges it: without folders, which do not matter to
    the merge of one file."""
    if part.alone:
        files = {posixpath.basename(path): entry for path, entry in files.items()}
    return objects.with_files(Oid(""), files)


def _share(number: int) -> int:
    """How many of a ``number`` of merges one process makes."""
    return min(_MOST, max(_FEWEST, 1 + number // _PROCESSES))


def _give_up(runs: Iterable[_Run]) -> None:
    """Leave targets to a replay."""
    for run in runs:
        run.possible = False


def _only_as_they_are(patch: Patch) -> tuple[FilePatch, ...] | None:
    """The files of ``patch`` that can be judged only where they are as on its own base: those that
    it removes or renames, or changes otherwise than as text. None if it names a file twice: then no
    file of it can be judged by itself."""
    paths = [file.path for file in patch.files]
    if len(paths) != len(set(paths)):
        return None
    return tuple(file for file in patch.files if not _is_plain(file))


def _is_plain(file: FilePatch) -> bool:
    """Whether a file is text that a patch adds or changes."""
    only_mode = not file.hunks and file.old_path is not None
    mode = file.mode in (None, *FILE_MODES)
    return mode and not (file.binary or file.left_path or only_mode)


def _alone(
    file: FilePatch, ours: TreeEntry | None, base: TreeEntry | None, theirs: TreeEntry | None
) -> _Part:
    mode, blob = ours or ("-", "-")
    before, own, after = ({file.path: entry} if entry else {} for entry in (base, ours, theirs))
    return _Part(f"{file.path} {mode} {blob}", (file,), own, before, after, alone=True)


def _key(sides: Sequence[Files]) -> str:
    plain = [sorted((path, *entry) for path, entry in side.items()) for side in sides]
    return hashlib.sha256(repr(plain).encode("utf-8", "surrogateescape")).hexdigest()


def _folders(path: str) -> Iterator[str]:
    """The folders that ``path`` lies in."""
    while path := posixpath.dirname(path):
        yield path


def _together(outcomes: Sequence[Outcome]) -> PatchState:
    """What is true of a patch, from what became of its files: as `replay.run` judges the whole."""
    strict = all(outcome.strict is not None for outcome in outcomes)
    if strict and not any(outcome.strict for outcome in outcomes):
        return PatchState(Verdict.ABSORBED, ("applying it changes nothing",))
    if strict and all(outcome.as_written for outcome in outcomes):
        return PatchState(Verdict.CLEAN)
    if conflicts := sorted(set(_conflicts(outcomes)), key=_in_git):
        evidence = [f"conflict in {', '.join(conflicts)}"]
        if strict:
            evidence.append("`git apply` alone would have put it in a wrong place")
        return PatchState(Verdict.CONFLICT, tuple(evidence))
    if not any(outcome.merge for outcome in outcomes):
        return PatchState(Verdict.ABSORBED, ("the three-way merge changes nothing",))
    if strict and all(outcome.same for outcome in outcomes):
        placed = all(outcome.placed for outcome in outcomes)
        return PatchState(Verdict.CLEAN if placed else Verdict.OFFSET)
    evidence = ["merged three-way"]
    if strict:
        evidence.append("`git apply` alone would have put it elsewhere")
    absorbed = any(outcome.absorbed for outcome in outcomes)
    verdict = Verdict.PARTLY_ABSORBED if absorbed else Verdict.MERGED
    return PatchState(verdict, tuple(evidence))


def _conflicts(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        yield from outcome.conflicts


def _in_git(path: str) -> bytes:
    """What git sorts paths by."""
    return path.encode("utf-8", "surrogateescape")
