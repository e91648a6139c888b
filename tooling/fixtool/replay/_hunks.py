"""Finds where the hunks of a patch stand in a tree: at their place, moved, absorbed, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from fixtool.git.objects import Oid, TreeEntry
from fixtool.replay.verdict import FileResult, HunkResult, Verdict
from fixtool.series.diff import FilePatch, Hunk
from fixtool.series.lines import Lines


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


def place(
    file: FilePatch, targets: Mapping[str, TreeEntry], read_blob: Callable[[Oid], bytes]
) -> FileResult:
    """Look for each hunk in the target's file: for its old side (the hunk applies), else for its
    new side (the target has it already)."""
    target = targets.get(file.old_path or file.path)
    if target is None and file.old_path is not None:
        hunks = [_unplaced(hunk) for hunk in file.hunks]
        return FileResult(file.path, Verdict.CONFLICT, tuple(hunks))
    if file.binary or not file.hunks or target is None:
        verdict = Verdict.CLEAN if same_blob(file, targets) else Verdict.CONFLICT
        return FileResult(file.path, verdict, ())
    text = read_blob(target.blob).decode("utf-8", "surrogateescape")
    lines = Lines(text)
    shift = 0
    hunks = []
    for hunk in file.hunks:
        result = _place_hunk(hunk, lines, shift)
        shift = result.offset if result.offset is not None else shift
        hunks.append(result)
    return FileResult(file.path, _worst(hunks), tuple(hunks))


def _place_hunk(hunk: Hunk, lines: Lines, shift: int) -> HunkResult:
    """Find a hunk near its place; ``shift`` is how far the hunk before it has moved."""
    index = lines.find(hunk.before, hunk.old_start - 1 + shift)
    if index is not None:
        offset = index - (hunk.old_start - 1)
        verdict = Verdict.OFFSET if offset else Verdict.CLEAN
        return HunkResult(hunk.number, verdict, hunk.old_start, index + 1, offset)
    index = lines.find(hunk.after, hunk.new_start - 1 + shift)
    if index is not None:
        offset = index - (hunk.new_start - 1)
        return HunkResult(hunk.number, Verdict.ABSORBED, hunk.old_start, index + 1, offset)
    return _unplaced(hunk)


def _unplaced(hunk: Hunk) -> HunkResult:
    return HunkResult(hunk.number, Verdict.CONFLICT, hunk.old_start, None, None)


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
