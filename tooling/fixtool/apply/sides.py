"""What has changed in a work tree, and in its line, since the work tree was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fixtool.apply.identity import Identified, identify, sides_of, with_renames
from fixtool.apply.newer import newer_in
from fixtool.apply.worktree import Record
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.under_way import said, under_way
from fixtool.series.line import Line
from fixtool.text import argument


class Side(StrEnum):
    """What one side has done to a patch since the work tree was made."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    SQUASHED = "squashed"
    RENAMED = "renamed"


@dataclass(frozen=True)
class PatchSides:
    """What the work tree (``here``) and the line (``there``) have done to a patch. ``commit`` is
    that of the work tree, None if it has none."""

    slug: str
    here: Side
    there: Side
    commit: Oid | None


@dataclass(frozen=True)
class WorktreeState:
    """A work tree and its line. ``at_base`` says whether it is on the base of the line, to which
    alone it can be written. ``uncommitted`` are the paths that are not committed. ``reordered``
    says which sides have changed the order of the patches, and ``next`` is the command to type,
    empty if nothing differs. ``stopped`` is the command of git that waits for a person there, such
    as a rebase: the commits are those of the moment."""

    line: str
    place: Path
    onto: Oid
    at_base: bool
    uncommitted: tuple[str, ...]
    patches: tuple[PatchSides, ...]
    reordered: tuple[str, ...]
    notes: tuple[str, ...]
    next: str
    stopped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the work tree holds what the line says, and no more."""
        same = (Side.UNCHANGED, Side.UNCHANGED)
        every = all((patch.here, patch.there) == same for patch in self.patches)
        return every and not (self.uncommitted or self.reordered or self.stopped)


def same_changes(repo: Repo, pairs: Sequence[tuple[Oid, Oid]]) -> list[bool]:
    """Whether both commits of each pair have the same change, wherever its lines stand, and the
    same message and author. One that is not here is another one."""
    some, others = (sides_of(repo, [pair[side] for pair in pairs]) for side in (0, 1))
    return [
        before in some and after in others and some[before].essence == others[after].essence
        for before, after in pairs
    ]


def state_of(tree: Repo, record: Record, line: Line, waiting: str | None = None) -> WorktreeState:
    """What differs between a work tree and its line, in which the command ``waiting`` may wait for
    a person. Raises Refused if the commits of the work tree are no straight line."""
    assert tree.work_tree is not None
    found = identify(tree, record, line)
    record = with_renames(record, found.renamed)
    newer = newer_in(line, tree, record)
    moved = [(slug, oid) for slug, oid in found.commits.items()
             if record.commits.get(slug) not in (None, oid)]  # fmt: skip
    pairs = [(oid, record.commits[slug]) for slug, oid in moved]
    same = dict(zip((slug for slug, _ in moved), same_changes(tree, pairs), strict=True))
    there = dict.fromkeys(newer.changed, Side.CHANGED) | dict.fromkeys(newer.added, Side.ADDED)
    there |= dict.fromkeys(newer.removed, Side.REMOVED)
    there |= {slug: Side.RENAMED for slug in found.renamed.values() if slug not in newer.changed}
    slugs = dict.fromkeys([*(entry.slug for entry in line.entries), *newer.removed, *found.commits])
    patches = tuple(
        PatchSides(slug, _here(slug, record, found, same), there.get(slug, Side.UNCHANGED),
                   found.commits.get(slug))
        for slug in slugs
    )  # fmt: skip
    reordered = ["the line"] if newer.reordered else []
    kept = [slug for slug in found.commits if slug in record.commits]
    if kept != [slug for slug in record.commits if slug in kept]:
        reordered.insert(0, "the work tree")
    stopped = under_way(tree)
    notes = (said(stopped), *found.notes) if stopped else found.notes
    state = WorktreeState(
        line.name, tree.work_tree, record.onto, is_at_base(tree, record, line),
        tuple(tree.status()), patches, tuple(reordered), notes, "", stopped,
    )  # fmt: skip
    if waiting:  # until it ends, every command that changes the line is refused
        note = f"fixtool {waiting} of line {line.name} waits for you in another work tree"
        go_on = f"fixtool {waiting} --continue --line {line.name}"
        return replace(state, notes=(*state.notes, note), next="" if state.ok else go_on)
    return replace(state, next=_next(state, tree, record, line))


def is_at_base(tree: Repo, record: Record, line: Line) -> bool:
    """Whether the work tree is on the base of the line, or on another commit with the same files:
    patches are written against files."""
    upstream = line.upstream
    return record.onto == upstream.base or tree.tree_id(record.onto) == upstream.tree


def _here(slug: str, record: Record, found: Identified, same: dict[str, bool]) -> Side:
    if slug in found.squashed:
        return Side.SQUASHED
    if slug not in found.commits:
        return Side.REMOVED if slug in record.commits else Side.UNCHANGED
    if slug not in record.commits:
        return Side.ADDED
    return Side.UNCHANGED if same.get(slug, True) else Side.CHANGED


def _next(state: WorktreeState, tree: Repo, record: Record, line: Line) -> str:
    """The command that brings the two together."""
    place = argument(state.place)
    if state.ok:
        return ""
    if state.stopped:
        return f"git -C {place} {state.stopped} --continue"
    if not state.at_base:
        return f"{record.to_apply(line.upstream)} --no-build --worktree NEW-DIR"
    if state.uncommitted:
        return f"fixtool absorb --worktree {place} --dry-run"
    if any(patch.here is not Side.UNCHANGED for patch in state.patches) or (
        "the work tree" in state.reordered
    ):
        return f"fixtool refresh --worktree {place}"
    return f"{record.again(tree)} --no-build"
