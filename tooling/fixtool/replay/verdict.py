"""Verdicts: what became of a patch, a file, a hunk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a patch, a file or a hunk."""

    CLEAN = "clean"
    OFFSET = "offset"  # applied, its lines had moved
    MERGED = "merged"  # three-way
    ABSORBED = "absorbed"  # the target has it already
    PARTLY_ABSORBED = "partly-absorbed"
    CONFLICT = "conflict"
    BLOCKED = "blocked"  # fails only because an earlier patch did
    REVERTED = "reverted"  # applies, and upstream once had it: it must not be lost
    SUPERSEDED = "superseded"  # conflict, and its probe says that the bug is gone
    NOT_NEEDED = "not-needed"  # applies, and its probe says that the bug is not there


FAILED = frozenset({Verdict.CONFLICT, Verdict.BLOCKED})


@dataclass(frozen=True)
class HunkResult:
    """``written_for`` is the line (1-based) of the patch's own base where the hunk begins, ``line``
    that of the target, None where it has no place there; ``offset`` is how far they are apart."""

    number: int
    verdict: Verdict
    written_for: int
    line: int | None
    offset: int | None


@dataclass(frozen=True)
class FileResult:
    path: str
    verdict: Verdict
    hunks: tuple[HunkResult, ...]


@dataclass(frozen=True)
class PatchResult:
    """``commit`` is None where the patch made none: absorbed, conflict, blocked."""

    slug: str
    subject: str
    verdict: Verdict
    commit: str | None
    files: tuple[FileResult, ...]
    evidence: tuple[str, ...] = ()


def read_result(text: str) -> PatchResult:
    """One from its JSON. Raises ValueError, KeyError or TypeError where it is not one."""
    data = json.loads(text)
    files = tuple(
        FileResult(
            one["path"],
            Verdict(one["verdict"]),
            tuple(HunkResult(**{**h, "verdict": Verdict(h["verdict"])}) for h in one["hunks"]),
        )
        for one in data["files"]
    )
    return PatchResult(
        data["slug"], data["subject"], Verdict(data["verdict"]), data["commit"], files,
        tuple(data["evidence"]),
    )  # fmt: skip
