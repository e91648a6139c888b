"""Finds where the hunks of a patch stand in a tree: at their place, moved, absorbed, or nowhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.replay.verdict import FileResult, HunkResult, Verdict
from fixtool.series.patch import FilePatch, Hunk


def same_blob(file: FilePatch, targets: Mapping[str, TreeEntry]) -> bool:
    """Whether the target's file is the very one that the patch was written against. ``targets`` are
    the files of the target by path."""
    if file.old_path is None:
        return file.path not in targets
    target = targets.get(file.old_path)
    if file.old_blob is None:  # only its mode or its name changes: git gives no blob
        return target is not None and not file.hunks and not file.binary
    return target is not None and target.blob.startswith(file.old_blob)


def untouched(file: FilePatch) -> FileResult:
    """The result for a file that upstream has not changed."""
    hunks = (
        HunkResult(hunk.number, Verdict.CLEAN, hunk.old_start, hunk.old_start, 0)
        for hunk in file.hunks
    )
    return FileResult(file.path, Verdict.CLEAN, tuple(hunks))


def place(file: FilePatch, targets: Mapping[str, TreeEntry], repo: Repo) -> FileResult:
    """Look for each hunk in the target's file: for its old side (the hunk applies), else for its
    new side (the target has it already)."""
    target = targets.get(file.old_path or file.path)
    if target is None and file.old_path is not None:
        hunks = [_unplaced(hunk) for hunk in file.hunks]
        return FileResult(file.path, Verdict.CONFLICT, tuple(hunks))
    if file.binary or not file.hunks or target is None:
        verdict = Verdict.CLEAN if same_blob(file, targets) else Verdict.CONFLICT
        return FileResult(file.path, verdict, ())
    text = next(iter(repo.read_blobs([target.blob]))).decode("utf-8", "surrogateescape")
    lines = lines_of(text)
    shift = 0
    hunks = []
    for hunk in file.hunks:
        result = _place_hunk(hunk, lines, shift)
        shift = result.offset if result.offset is not None else shift
        hunks.append(result)
    return FileResult(file.path, _worst(hunks), tuple(hunks))


def lines_of(text: str) -> list[str]:
    """The lines of a text as git has them: only a newline ends one (str.splitlines would cut at
    form feeds too)."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _place_hunk(hunk: Hunk, lines: Sequence[str], shift: int) -> HunkResult:
    """Find a hunk near its place; ``shift`` is how far the hunk before it has moved."""
    index = find(lines, hunk.before, hunk.old_start - 1 + shift)
    if index is not None:
        offset = index - (hunk.old_start - 1)
        verdict = Verdict.OFFSET if offset else Verdict.CLEAN
        return HunkResult(hunk.number, verdict, hunk.old_start, index + 1, offset)
    index = find(lines, hunk.after, hunk.new_start - 1 + shift)
    if index is not None:
        offset = index - (hunk.new_start - 1)
        return HunkResult(hunk.number, Verdict.ABSORBED, hunk.old_start, index + 1, offset)
    return _unplaced(hunk)


def _unplaced(hunk: Hunk) -> HunkResult:
    return HunkResult(hunk.number, Verdict.CONFLICT, hunk.old_start, None, None)


def find(lines: Sequence[str], wanted: Sequence[str], near: int) -> int | None:
    """The index at which ``lines`` hold all of ``wanted``, the nearest to index ``near``; None if
    there is none or ``wanted`` is empty."""
    size = len(wanted)
    indexes = (
        index
        for index in range(len(lines) - size + 1)
        if lines[index] == wanted[0] and tuple(lines[index : index + size]) == tuple(wanted)
    )
    return min(indexes, key=lambda index: abs(index - near), default=None) if size else None


def _worst(hunks: Sequence[HunkResult]) -> Verdict:
    verdicts = {hunk.verdict for hunk in hunks}
    for verdict in (Verdict.CONFLICT, Verdict.MERGED):
        if verdict in verdicts:
            return verdict
    if Verdict.ABSORBED in verdicts:
        return Verdict.ABSORBED if len(verdicts) == 1 else Verdict.PARTLY_ABSORBED
    return Verdict.OFFSET if Verdict.OFFSET in verdicts else Verdict.CLEAN


def with_verdict(file: FileResult, verdict: Verdict) -> FileResult:
    """The file with one verdict for all its hunks."""
    hunks = tuple(replace(hunk, verdict=verdict) for hunk in file.hunks)
    return FileResult(file.path, verdict, hunks)


def after_merge(file: FileResult, unchanged: Collection[str]) -> FileResult:
    """The file after a three-way merge without conflict. If no place was found for a hunk, the
    merge has placed it, near a change of upstream's or in a file that moved. ``unchanged`` are the
    paths that the merge left as they were."""
    if file.path in unchanged:
        return with_verdict(file, Verdict.ABSORBED)
    hunks = tuple(
        replace(hunk, verdict=Verdict.MERGED) if hunk.verdict is Verdict.CONFLICT else hunk
        for hunk in file.hunks
    )
    return FileResult(file.path, _worst(hunks) if hunks else Verdict.MERGED, hunks)


def after_conflict(file: FileResult, conflicts: Collection[str]) -> FileResult:
    """The file after a three-way merge with ``conflicts`` (paths). In those files, the conflict is
    about the hunks without a place; in the others, such hunks were merged."""
    if file.path in conflicts:
        return FileResult(file.path, Verdict.CONFLICT, file.hunks)
    return after_merge(file, ())
