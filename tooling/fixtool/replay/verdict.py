"""The results of a replay for a patch, its files and their hunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeGuard

from fixtool.documents import Field
from fixtool.git.objects import Oid, read_oid


class Verdict(StrEnum):
    """What applying a patch, a file or a hunk gave."""

    CLEAN = "clean"
    OFFSET = "offset"  # applied, its lines had moved
    MERGED = "merged"  # three-way
    ABSORBED = "absorbed"  # the target has it already
    PARTLY_ABSORBED = "partly-absorbed"
    CONFLICT = "conflict"
    BLOCKED = "blocked"  # fails only because an earlier patch did
    REVERTED = "reverted"  # applies, and upstream once had it: it must not be lost
    SUPERSEDED = "superseded"  # upstream cures its bug in another way
    NOT_NEEDED = "not-needed"  # its bug is not there
    LEFT_OUT = "left-out"  # a person said so
    SKIPPED = "skipped"  # a person let a rebase go on without it


_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_LARGE = 1 << 31  # more than any number of a line

FAILED = frozenset({Verdict.CONFLICT, Verdict.BLOCKED})
"""A patch with one of these needs a person."""

APPLIES_AS_WRITTEN = frozenset({Verdict.CLEAN, Verdict.OFFSET})
"""The patch applies, and every hunk of it stands where it was written for, or its lines moved."""


@dataclass(frozen=True)
class PatchState:
    """What is true of one patch on one commit, and why."""

    verdict: Verdict
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HunkResult:
    """One hunk. It begins at line ``written_for`` (from 1) of its file in the patch's own base, and
    at ``line`` of the target's, None if it has no place there; ``offset`` is the difference."""

    number: int
    verdict: Verdict
    written_for: int
    line: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file of a patch and its hunks; none if it is binary, or if only its mode changes."""

    path: str
    verdict: Verdict
    hunks: tuple[HunkResult, ...]


@dataclass(frozen=True)
class PatchResult:
    """One patch. ``commit`` is None if it made none: if it is absorbed, in conflict or blocked."""

    slug: str
    subject: str
    verdict: Verdict
    commit: Oid | None
    files: tuple[FileResult, ...]
    evidence: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> tuple[FileResult, ...]:
        """The files of a result that ``read_kept`` has read, when they are first asked for."""
        kept = self.__dict__.get("_kept")
        if name != "files" or kept is None:
            raise AttributeError(name)
        files = tuple(
            FileResult(path, _VERDICTS[verdict], tuple(
                HunkResult(number, _VERDICTS[of_hunk], *places)
                for number, of_hunk, *places in hunks
            ))
            for path, verdict, hunks in kept
        )  # fmt: skip
        self.__dict__["files"] = files
        return files


def kept_form(result: PatchResult) -> dict[str, Any]:
    """A result as a cache keeps it, for ``read_kept``."""
    files = [
        (file.path, file.verdict, [
            (hunk.number, hunk.verdict, hunk.written_for, hunk.line, hunk.offset)
            for hunk in file.hunks
        ])
        for file in result.files
    ]  # fmt: skip
    return {
        "slug": result.slug, "subject": result.subject, "verdict": result.verdict,
        "commit": result.commit, "files": files, "evidence": result.evidence,
    }  # fmt: skip


def read_kept(kept: Mapping[str, Any]) -> PatchResult:
    """What ``kept_form`` gave, from a file that is known to be as it was written. The hunks of a
    long series are tens of thousands, and few runs ask for them: they are read when one does."""
    result = PatchResult(
        kept["slug"], kept["subject"], _VERDICTS[kept["verdict"]], kept["commit"], (),
        tuple(kept["evidence"]),
    )  # fmt: skip
    del result.__dict__["files"]
    result.__dict__["_kept"] = kept["files"]
    return result


def read_patch_result(patch: Field) -> PatchResult:
    """A patch in a JSON document. Raises FieldError if it is malformed."""
    return PatchResult(
        patch["slug"].text(), patch["subject"].text(), patch["verdict"].member(Verdict),
        patch["commit"].optional(read_oid), patch["files"].each(_read_file),
        patch["evidence"].texts(),
    )  # fmt: skip


def _read_file(file: Field) -> FileResult:
    hunks = file["hunks"].each(_read_hunk)
    return FileResult(file["path"].text(), file["verdict"].member(Verdict), hunks)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LARGE


def _read_hunk(hunk: Field) -> HunkResult:
    # A long series has tens of thousands of hunks. A Field for each value of each would take four
    # times as long, and is needed only to say what is wrong.
    table = hunk.table()
    number, written_for = table.get("number"), table.get("written_for")
    line, offset = table.get("line"), table.get("offset")
    verdict = _VERDICTS.get(str(table.get("verdict")))
    if (
        verdict is not None
        and _is_count(number)
        and _is_count(written_for)
        and (line is None or _is_count(line))
        and (offset is None or (type(offset) is int and abs(offset) < _LARGE))
    ):
        return HunkResult(number, verdict, written_for, line, offset)
    return HunkResult(
        hunk["number"].count(), hunk["verdict"].member(Verdict), hunk["written_for"].count(),
        hunk["line"].optional(Field.count), hunk["offset"].optional(Field.integer),
    )  # fmt: skip
