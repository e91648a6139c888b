"""What a rebase did to a line and to each of its patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fixtool import documents
from fixtool.documents import Failure, Field
from fixtool.git.objects import Oid, read_oid
from fixtool.history.log import UpstreamCommit, read_upstream_commit
from fixtool.replay.verdict import PatchResult, read_patch_result
from fixtool.series.line import Line
from fixtool.sources.resolve import Target

AskProbes = Callable[[Line, Target], Mapping[str, int | None]]
"""Runs the probes of a line on a commit; slug -> 0, 1, 77, or None for a probe that broke."""


class Action(StrEnum):
    """What a rebase does with a patch file."""

    KEPT = "kept"  # byte for byte
    REWRITTEN = "rewritten"
    DROPPED = "dropped"  # moved to the shelf, since upstream has the patch
    SHELVED = "shelved"  # moved to the shelf, since a person skipped the patch
    ASKED = "asked"  # left alone until a person decides
    RESTORED = "restored"  # moved back from the shelf, since the target needs the patch


@dataclass(frozen=True)
class PatchOutcome:
    """What became of one patch. ``culprit`` is the upstream commit that began its verdict.

    ``probe_before`` and ``probe_after`` are what its probe answered on the target without and with
    the patch: 0 (fixed), 1 (the bug is present), 77 (not applicable), None (not asked, or broken).
    """

    result: PatchResult
    action: Action
    culprit: UpstreamCommit | None = None
    probe_before: int | None = None
    probe_after: int | None = None


@dataclass(frozen=True)
class Place:
    """A file in conflict, and the ``lines`` at which its conflict markers begin. If there are none,
    ``why`` says why git could write none; it is empty for a file that was resolved before."""

    path: str
    lines: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True)
class OpenHunk:
    """A hunk that no merge has put in: number ``number`` of its file, written for its line
    ``written_for``. Upstream may have moved its lines to the file ``now_in``, where they begin at
    ``now_at``."""

    path: str
    number: int
    written_for: int
    now_in: str | None = None
    now_at: int | None = None


@dataclass(frozen=True)
class ParkedPatch:
    """The patch that waits for a person, number ``position`` (from 1) of ``of``, and the work tree
    in which its ``conflicts`` (paths) are to be resolved.

    ``remembered`` says that an earlier resolution was put in, for a person to look at; ``intent``
    is how the message of the culprit begins. ``places`` and ``hunks`` say where to look.
    ``skipped_before`` is why the patch was skipped at the same conflict, None if it was not.
    """

    worktree: str
    slug: str
    position: int
    of: int
    conflicts: tuple[str, ...]
    remembered: bool
    culprit: UpstreamCommit | None
    intent: str
    places: tuple[Place, ...] = ()
    hunks: tuple[OpenHunk, ...] = ()
    skipped_before: str | None = None


@dataclass(frozen=True)
class Rebased:
    """The rebase of ``line`` from commit ``base`` to commit ``onto``, which is ``ref`` of
    ``source``; ``new_line`` is the line that was written instead of the old one, if asked for.

    ``moved`` is False if there was nothing to do or a person is needed. ``tree`` and ``commit`` are
    the whole series on ``onto``, None if a person is needed. ``committed`` is the commit in the
    patch repository, None for a dry run, without git, and while ``parked`` waits for a person.
    ``provable`` says whether a patch of the line has a probe.
    """

    line: str
    new_line: str | None
    base: Oid
    onto: Oid
    ref: str
    source: str
    dry_run: bool = False
    moved: bool = False
    outcomes: tuple[PatchOutcome, ...] = ()
    tree: Oid | None = None
    commit: Oid | None = None
    committed: Oid | None = None
    warnings: tuple[str, ...] = ()
    range_diff: str = ""
    parked: ParkedPatch | None = None
    provable: bool = True

    @property
    def stopped_at(self) -> PatchOutcome | None:
        """The first patch that needs a person."""
        asked = (outcome for outcome in self.outcomes if outcome.action is Action.ASKED)
        return next(asked, None)


def read_rebased(document: Any, where: str) -> Rebased | Failure:
    """The JSON ``document`` of `fixtool rebase`, which comes from the file ``where``.

    Raises Refused, naming the file and the key, if the document is malformed.
    """
    return documents.parse(document, where, "rebase", _rebased)


def _rebased(root: Field) -> Rebased:
    tree, commit, committed = (
        root[key].optional(read_oid) for key in ("tree", "commit", "committed")
    )
    return Rebased(
        root["line"].text(), root["new_line"].optional(Field.text), read_oid(root["base"]),
        read_oid(root["onto"]), root["ref"].text(), root["source"].text(),
        root["dry_run"].flag(), root["moved"].flag(), root["patches"].each(_outcome),
        tree, commit, committed, root["warnings"].texts(), root["range_diff"].text(),
        root["session"].optional(_parked),
    )  # fmt: skip


def _outcome(patch: Field) -> PatchOutcome:
    before, after = patch["probe"].optional(_answers) or (None, None)
    return PatchOutcome(
        read_patch_result(patch), patch["action"].member(Action),
        patch["culprit"].optional(read_upstream_commit), before, after,
    )  # fmt: skip


def _answers(probe: Field) -> tuple[int | None, int | None]:
    return probe["before"].optional(Field.count), probe["after"].optional(Field.count)


def _parked(session: Field) -> ParkedPatch:
    return ParkedPatch(
        session["worktree"].text(), session["patch"].text(), session["position"].count(),
        session["of"].count(), session["conflicts"].texts(), session["remembered"].flag(),
        session["culprit"].optional(read_upstream_commit), session["intent"].text(),
        # The documents of nights before these keys lack them.
        session["places"].optional(lambda places: places.each(_place)) or (),
        session["hunks"].optional(lambda hunks: hunks.each(_open_hunk)) or (),
        session["skipped_before"].optional(Field.text),
    )  # fmt: skip


def _place(place: Field) -> Place:
    return Place(place["path"].text(), place["lines"].each(Field.count), place["why"].text())


def _open_hunk(hunk: Field) -> OpenHunk:
    return OpenHunk(
        hunk["path"].text(), hunk["number"].count(), hunk["written_for"].count(),
        hunk["now_in"].optional(Field.text), hunk["now_at"].optional(Field.count),
    )  # fmt: skip
