"""Where the hunks of a patch stand in a tree: at their place, moved, there already, nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.replay.verdict import FileResult, HunkResult, Verdict
from fixtool.series.patch import FilePatch, Hunk


def same_blob(one: FilePatch, targets: dict[str, TreeEntry]) -> bool:
    """Whether the target's file is the very one the patch was written against."""
    if one.old_path is None:
        return one.path not in targets
    here = targets.get(one.old_path)
    if one.old_blob is None:  # only its mode or its name changes: git gives no blob
        return here is not None and not one.hunks and not one.binary
    return here is not None and here[1].startswith(one.old_blob)


def untouched(one: FilePatch) -> FileResult:
    hunks = tuple(
        HunkResult(h.number, Verdict.CLEAN, h.old_start, h.old_start, 0) for h in one.hunks
    )
    return FileResult(one.path, Verdict.CLEAN, hunks)


def place(one: FilePatch, targets: dict[str, TreeEntry], repo: Repo) -> FileResult:
    """Look for each hunk in the target's file: its old side (it can go in), else its new side (it
    is there already), else nothing."""
    here = targets.get(one.old_path or one.path)
    if one.binary or not one.hunks or here is None:
        fits = same_blob(one, targets)
        if here is None and one.old_path is not None:
            hunks = tuple(_unplaced(h) for h in one.hunks)
            return FileResult(one.path, Verdict.CONFLICT, hunks)
        return FileResult(one.path, Verdict.CLEAN if fits else Verdict.CONFLICT, ())
    text = next(iter(repo.read_blobs([here[1]]))).decode("utf-8", "surrogateescape")
    lines = lines_of(text)
    shift = 0
    hunks_found = []
    for hunk in one.hunks:
        placed = _find_hunk(hunk, lines, shift)
        shift = placed.offset if placed.offset is not None else shift
        hunks_found.append(placed)
    return FileResult(one.path, _worst(hunks_found), tuple(hunks_found))


def lines_of(text: str) -> list[str]:
    """Lines as git has them: only a newline ends one (str.splitlines cuts at form feeds too)."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _find_hunk(hunk: Hunk, lines: Sequence[str], shift: int) -> HunkResult:
    at = find(lines, hunk.before, hunk.old_start - 1 + shift)
    if at is not None and hunk.before:
        offset = at - (hunk.old_start - 1)
        verdict = Verdict.OFFSET if offset else Verdict.CLEAN
        return HunkResult(hunk.number, verdict, hunk.old_start, at + 1, offset)
    at = find(lines, hunk.after, hunk.new_start - 1 + shift)
    if at is not None and hunk.after:
        offset = at - (hunk.new_start - 1)
        return HunkResult(hunk.number, Verdict.ABSORBED, hunk.old_start, at + 1, offset)
    return _unplaced(hunk)


def _unplaced(hunk: Hunk) -> HunkResult:
    return HunkResult(hunk.number, Verdict.CONFLICT, hunk.old_start, None, None)


def find(lines: Sequence[str], wanted: Sequence[str], near: int) -> int | None:
    """Where ``wanted`` stands in ``lines``, nearest to index ``near``."""
    size = len(wanted)
    places = (
        at
        for at in range(len(lines) - size + 1)
        if lines[at] == wanted[0] and tuple(lines[at : at + size]) == tuple(wanted)
    )
    return min(places, key=lambda at: abs(at - near), default=None) if size else None


def _worst(hunks: Sequence[HunkResult]) -> Verdict:
    found = {hunk.verdict for hunk in hunks}
    for verdict in (Verdict.CONFLICT, Verdict.MERGED):
        if verdict in found:
            return verdict
    if Verdict.ABSORBED in found:
        return Verdict.ABSORBED if found == {Verdict.ABSORBED} else Verdict.PARTLY_ABSORBED
    return Verdict.OFFSET if Verdict.OFFSET in found else Verdict.CLEAN


def all_of(one: FileResult, verdict: Verdict) -> FileResult:
    hunks = tuple(replace(h, verdict=verdict) for h in one.hunks)
    return FileResult(one.path, verdict, hunks)


def merged(one: FileResult, same: frozenset[str]) -> FileResult:
    """After a clean merge no hunk is in conflict: one with no place of its own was merged (near a
    change of upstream's, or in a file that moved). ``same`` are paths the merge left as they were.
    """
    if one.path in same:
        return all_of(one, Verdict.ABSORBED)
    hunks = tuple(
        replace(h, verdict=Verdict.MERGED) if h.verdict is Verdict.CONFLICT else h
        for h in one.hunks
    )
    return FileResult(one.path, _worst(hunks) if hunks else Verdict.MERGED, hunks)


def conflicted(one: FileResult, conflicts: Sequence[str]) -> FileResult:
    """Hunks without a place are what the conflict is about, in the files that git names; hunks in
    other files were merged."""
    if one.path in conflicts:
        return FileResult(one.path, Verdict.CONFLICT, one.hunks)
    return merged(one, frozenset())
