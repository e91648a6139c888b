"""Merges what was changed in a work tree with what was changed in its line since it was made.

Each patch has three versions: the one that the work tree was made of, the work tree's commit, and
the file in the line. The new series is computed whole, on the line's base in the object database. A
version that only one side has changed is taken from that side, and where both have, their results
and their messages are merged three-way. What cannot be merged is shown, and nothing is written.

One side may have moved a change from one patch into another one, for example by a squash, while the
other side has dropped or changed it. A person who then chooses the other side gets its versions of
both patches: with one of them alone, the change would be lost, or be there although it was dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from fixtool.apply.identity import Identified
from fixtool.apply.newer import made_of
from fixtool.apply.sides import same_changes
from fixtool.apply.worktree import Record
from fixtool.edit.change import FileAction
from fixtool.edit.moves import Moves, moves_of
from fixtool.edit.sequence import own_series
from fixtool.git.database import ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import FILE_MODES, MACHINE, Commit, Oid, Signature, TreeEntry
from fixtool.git.repo import Repo
from fixtool.series.line import Line
from fixtool.series.message import join_message, split_message
from fixtool.series.patch import export_all

_T = TypeVar("_T")


class Favour(StrEnum):
    """The side whose version is taken where both have changed a patch and cannot be merged."""

    OURS = "ours"
    THEIRS = "theirs"


@dataclass(frozen=True)
class SideChange:
    """What one side did to a patch: ``what`` is unchanged, changed, added, removed, squashed or
    moved. ``files`` are the paths that differ from what the work tree was made of, and ``message``
    says whether the message does. ``commit`` is that of the work tree, None on the side of the
    line."""

    what: str
    files: tuple[str, ...] = ()
    message: bool = False
    commit: Oid | None = None


@dataclass(frozen=True)
class BothChanged:
    """A patch that was changed in the work tree (``here``) and in the line (``there``). ``paths``
    are the files in conflict. ``take_up`` is a commit with the change that the line has and the
    commit of the work tree has not, None if there is no such one, or if the line has moved a change
    between this patch and another one."""

    slug: str
    here: SideChange
    there: SideChange
    paths: tuple[str, ...]
    take_up: Oid | None = None


@dataclass(frozen=True)
class MergedPatch:
    """A patch of the merged series: ``commit`` is the one on the line's base, ``data`` its file,
    and ``own`` the commit of the work tree, None if it has none. ``here`` and ``there`` say which
    sides have changed the patch."""

    slug: str
    change: FileAction
    commit: Oid
    data: bytes
    own: Oid | None
    here: bool
    there: bool


@dataclass(frozen=True)
class MergedSeries:
    """``conflicts`` are set if it could not be merged; there are no patches then. ``removed`` are
    the patches that go out of the line. ``settled`` are those of which the work tree has no commit
    any more: what becomes of them is decided now."""

    patches: tuple[MergedPatch, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    conflicts: tuple[BothChanged, ...] = ()
    settled: tuple[str, ...] = ()


def merge_series(
    line: Line,
    tree: Repo,
    record: Record,
    found: Identified,
    missing: Sequence[str],
    *,
    only: Collection[str] = (),
    favour: Favour | None = None,
    favoured: Collection[str] = (),
) -> MergedSeries:
    """Merge the commits of a work tree with the series of its line. ``missing`` are the patches
    whose commits a person took out. If ``only`` names patches, the commits of all others count as
    not changed. ``favour`` chooses a side where the two conflict: for all patches, or for those in
    ``favoured``.

    Raises Refused if the line does not apply on its own base.
    """
    sides: dict[str, Favour] = {}
    with ObjectDatabase(tree) as objects:
        while True:
            merging = _Merging(objects, line, record, found, missing, only)
            merging.favour, merging.favoured, merging.sides = favour, favoured, sides
            merged = merging.merge()
            more = merging.joined() - sides.keys()
            if not more:
                return merged
            assert favour is not None
            sides = {**sides, **dict.fromkeys(more, favour)}


@dataclass(frozen=True)
class _Versions:
    """The three versions of a patch as commits, and which sides have changed it."""

    base: Oid | None
    ours: Oid | None
    theirs: Oid | None
    here: bool
    there: bool


class _Merging:
    def __init__(
        self,
        objects: ObjectDatabase,
        line: Line,
        record: Record,
        found: Identified,
        missing: Sequence[str],
        only: Collection[str],
    ) -> None:
        self.objects, self.line, self.record = objects, line, record
        self.favour: Favour | None = None
        self.favoured: Collection[str] = ()
        self.sides: Mapping[str, Favour] = {}  # of patches whose other version is left out
        self.asked: set[str] = set()  # patches that both sides have changed, and do not merge
        self.taken: dict[str, Favour] = {}
        self.versions: Mapping[str, _Versions] = {}
        self.made_of = made_of(objects.repo, record)
        self.squashed = {} if only else found.squashed
        self.gone = set() if only else {*missing, *self.squashed}
        lost = objects.repo.lacks(record.commits.values())
        self.base = {slug: oid for slug, oid in record.commits.items() if oid not in lost}
        self.ours = self._ours(found, only)
        self.theirs = self._theirs()
        self.tip, self.tree = record.onto, objects.tree_of(record.onto)
        self.paths: tuple[str, ...] = ()  # those of the last merge that conflicted
        self.conflicts: list[BothChanged] = []
        self.noted: set[str] = set()
        self.notes: list[str] = []

    def _ours(self, found: Identified, only: Collection[str]) -> dict[str, Oid]:
        """The commits of the work tree by slug. With ``only``, the others are those that the work
        tree was made with."""
        if not only:
            return dict(found.commits)
        ours = {slug: commit for slug, commit in found.commits.items() if slug in only}
        known = {**self.base, **ours}
        return {slug: known[slug] for slug in with_others(list(self.base), list(ours))}

    def _theirs(self) -> dict[str, Oid]:
        own = own_series(self.objects, self.line, self.record.onto)
        self.objects.flush()
        return dict(own.commits)

    # -- the merge ----------------------------------------------------------------------------

    def merge(self) -> MergedSeries:
        self.versions = versions = self._versions()
        removed = self._removed(versions)
        order = self._order([slug for slug in versions if slug not in removed], versions)
        results: dict[str, Oid] = {}
        for slug in order:
            results[slug] = self._add(slug, versions[slug])
        self.objects.flush()
        if self.conflicts:
            self._add_joined()
            self.objects.flush()
            return MergedSeries((), (), (), tuple(self.conflicts))
        patches = self._patches(results, versions)
        for slug in removed:
            self._note_removed(slug)
        gone = tuple(slug for slug in removed if slug in self.theirs)
        settled = tuple(slug for slug in self.base if slug not in self.ours)
        return MergedSeries(tuple(patches), gone, tuple(self.notes), settled=settled)

    def _add_joined(self) -> None:
        """Add the patches for which the person chooses a side too: see ``joined``."""
        if self.asked:
            joined = self.moved_here.joined(self.asked) | self.moved_there.joined(self.asked)
            for slug in [slug for slug in self.versions if slug in joined]:
                self._conflict(slug, self.versions[slug])

    def _note_removed(self, slug: str) -> None:
        """Say why a patch is not in the new series, unless a person has taken it out here."""
        if slug in self.theirs or slug in self.asked:
            return
        if slug not in self.made_of:
            self.notes.append(f"{slug} stays in the work tree alone: the line's version was taken")
        elif slug in self.sides:
            pass  # a person was asked
        elif holder := self.moved_there.holder(slug):
            self.notes.append(f"{slug} is in {holder} in the line now")
        else:
            self.notes.append(f"{slug} is not in the line any more, and stays out")

    def joined(self) -> set[str]:
        """The patches for which the favoured side is to be taken whole: those that do not merge, if
        the other side has moved a change between them and another patch, and these other ones."""
        asked = {slug for slug in self.asked if self._favour(slug)}
        if not asked:
            return set()
        moved = self.moved_there if self.favour is Favour.OURS else self.moved_here
        return {slug for slug in moved.joined(asked) if moved.has(slug)}

    @cached_property
    def moved_here(self) -> Moves:
        changed = [slug for slug, version in self.versions.items() if version.here]
        return self._moves(changed, self.ours)

    @cached_property
    def moved_there(self) -> Moves:
        changed = [slug for slug, version in self.versions.items() if version.there]
        return self._moves(changed, self.theirs)

    def _moves(self, changed: Sequence[str], side: Mapping[str, Oid]) -> Moves:
        before, after = ({slug: commits[slug] for slug in changed if slug in commits}
                         for commits in (self.base, side))  # fmt: skip
        return moves_of(self.objects, before, after)

    def _versions(self) -> dict[str, _Versions]:
        """The versions of each patch that either side has or had."""
        slugs = list(dict.fromkeys([*self.theirs, *self.ours, *self.base]))
        digests = {patch.slug: patch.digest for patch in self.line.patches}
        pairs = [
            (side[slug], self.base[slug])
            for slug in slugs
            for side in (self.ours, self.theirs)
            if slug in side and slug in self.base and side[slug] != self.base[slug]
        ]
        same = dict(zip(pairs, same_changes(self.objects.repo, pairs), strict=True))
        versions = {}
        for slug in slugs:
            base, ours, theirs = (side.get(slug) for side in (self.base, self.ours, self.theirs))
            here = ours != base and not same.get((ours, base), False)  # type: ignore[arg-type]
            there = theirs != base and not same.get((theirs, base), False)  # type: ignore[arg-type]
            if theirs and digests[slug] == self.made_of.get(slug):
                there = False  # also where the file is not in normal form
            versions[slug] = _Versions(base, ours, theirs, here, there)
        return versions

    def _removed(self, versions: Mapping[str, _Versions]) -> list[str]:
        """The patches that one side has taken out. If the other has changed one, or has moved its
        change into another patch, that is a conflict."""
        return [slug for slug, version in versions.items() if self._is_removed(slug, version)]

    def _is_removed(self, slug: str, version: _Versions) -> bool:
        if side := self.sides.get(slug):
            return (version.ours if side is Favour.OURS else version.theirs) is None
        if version.theirs is None and slug in self.made_of:
            if slug in self.base and version.ours is None:
                moved = self.moved_there.holder(slug) is not None
                if moved != (slug in self.squashed):  # one side has it in another patch
                    self._ask(slug, version)
                return True
            if version.ours is None or not version.here:
                return True
            return self._ask(slug, version) is Favour.THEIRS
        return slug in self.gone and (not version.there or self._ask(slug, version) is Favour.OURS)

    def _ask(self, slug: str, version: _Versions) -> Favour | None:
        """The side that a person has chosen for a patch that does not merge. Without one, that is a
        conflict."""
        self.asked.add(slug)
        favour = self._favour(slug)
        if favour is None:
            self._conflict(slug, version)
        return favour

    def _favour(self, slug: str) -> Favour | None:
        """The side whose version of a patch is taken if the two conflict."""
        if slug in self.sides:
            return self.sides[slug]
        return self.favour if not self.favoured or slug in self.favoured else None

    def _order(self, slugs: Sequence[str], versions: Mapping[str, _Versions]) -> list[str]:
        """The merged order of ``slugs``. If both sides have changed it, that is a conflict."""
        base = [slug for slug in self.made_of if slug in slugs]
        ours = [slug for slug in self._order_here(versions) if slug in slugs]
        theirs = [slug for slug in self.theirs if slug in slugs]
        kept = [slug for slug in base if slug in ours and slug in theirs]
        here = [slug for slug in ours if slug in kept]
        there = [slug for slug in theirs if slug in kept]
        if here not in (kept, there) and there != kept and self.favour is None:
            moved = next(slug for slug, other in zip(here, there, strict=True) if slug != other)
            self.conflicts.append(
                BothChanged(moved, SideChange("moved", commit=self.ours.get(moved)),
                            SideChange("moved"), ("series",))
            )  # fmt: skip
        if here in (kept, there) or self.favour is Favour.THEIRS:
            return with_others(theirs, ours)
        return with_others(ours, theirs)

    def _order_here(self, versions: Mapping[str, _Versions]) -> list[str]:
        """The order of the work tree, with the patches that were left out of it at their places."""
        return with_others(list(self.ours), [slug for slug in self.made_of if slug in versions])

    def _add(self, slug: str, version: _Versions) -> Oid:
        """Add one patch to the new series. Returns its commit."""
        base, ours, theirs = version.base, version.ours, version.theirs
        commit: Commit | None
        if side := self.sides.get(slug):
            ours, theirs = (ours, None) if side is Favour.OURS else (None, theirs)
            if version.there if side is Favour.OURS else version.here:
                self.taken[slug] = side
        if theirs is not None and not (version.here and ours is not None):
            merged, commit = self._pick(theirs), self.objects.commit(theirs)
        elif ours is not None and (theirs is None or not version.there):
            merged, commit = self._pick(ours), self.objects.commit(ours)
        else:
            assert ours is not None
            assert theirs is not None
            merged, commit = self._both(base, ours, theirs)
            if merged is None or commit is None:
                favour = self._ask(slug, version)
                if favour:
                    self.taken[slug] = favour
                    chosen = ours if favour is Favour.OURS else theirs
                    merged, commit = self._pick(chosen), self.objects.commit(chosen)
        if merged is None or commit is None or merged == self.tree:
            if not self.conflicts or (version.here and version.there):
                self._conflict(slug, version)
            return self.tip
        machine = replace(MACHINE, date=commit.author.date)
        added = Commit(merged, (self.tip,), commit.author, machine, commit.message)
        self.tip, self.tree = self.objects.add_commit(added), merged
        return self.tip

    def _pick(self, oid: Oid) -> Oid | None:
        """The tree of the new series with one commit more; None if it conflicts."""
        commit = self.objects.commit(oid)
        before = self.objects.tree_of(commit.parents[0])
        return self._three_way(before, self.tree, commit.tree)

    def _three_way(self, base: Oid, ours: Oid, theirs: Oid) -> Oid | None:
        if ours in (base, theirs):
            return theirs
        if base == theirs:
            return ours
        pair = Question(base, ours, theirs).commits(self.objects)
        self.objects.flush()
        (merge,) = merge_many(self.objects.repo, [pair], keep=True)
        self.paths = merge.conflicts
        return None if merge.conflicts else merge.tree

    def _both(self, base: Oid | None, ours: Oid, theirs: Oid) -> tuple[Oid | None, Commit | None]:
        """The tree and the message in which the changes of both sides are merged; None for what
        cannot be merged."""
        picked = [self._pick(oid) if oid else None for oid in (base, ours, theirs)]
        commits = [self.objects.commit(oid) for oid in (ours, theirs)]
        if picked[1] == picked[2] and _message(commits[0]) == _message(commits[1]):
            return picked[1], commits[0]
        if base is None or None in picked:
            return None, None
        before, own, other = (oid for oid in picked if oid)
        merged = self._three_way(before, own, other)
        return merged, self._merged_message(self.objects.commit(base), *commits)

    def _merged_message(self, base: Commit, ours: Commit, theirs: Commit) -> Commit | None:
        """A commit with the author and the message of both sides; None if they conflict."""
        old, own, other = (split_message(commit.message) for commit in (base, ours, theirs))
        author = _either(base.author, ours.author, theirs.author)
        subject = _either(old[0], own[0], other[0])
        body = _either(old[1], own[1], other[1])
        if body is None:
            body = self._merged_text(old[1], own[1], other[1])
        if author is None or subject is None or body is None:
            return None
        return replace(ours, author=author, message=join_message(subject, body))

    def _merged_text(self, *texts: str) -> str | None:
        """The three-way merge of a text, by lines."""
        trees = []
        for text in texts:
            blob = self.objects.add("blob", f"{text}\n".encode("utf-8", "surrogateescape"))
            entry = {"message": TreeEntry(FILE_MODES[0], blob)}
            trees.append(self.objects.with_files(Oid(""), entry))
        merged = self._three_way(*trees)
        if merged is None:
            return None
        data = self.objects.blob(self.objects.tree(merged)["message"].blob)
        return data.decode("utf-8", "surrogateescape").rstrip("\n")

    # -- the answer ---------------------------------------------------------------------------

    def _patches(
        self, results: Mapping[str, Oid], versions: Mapping[str, _Versions]
    ) -> list[MergedPatch]:
        mails = dict(zip(results, export_all(self.objects.repo, list(results.values())),
                         strict=True))  # fmt: skip
        patches = []
        for slug, commit in results.items():
            version, data = versions[slug], mails[slug]
            change = self._change(slug, version)
            if version.theirs is not None:
                file = self.line.find(slug).raw
                if commit == version.theirs:
                    data = file
                if data == file and change is not FileAction.NEWER:
                    change = FileAction.UNCHANGED
            own = self.ours.get(slug)
            there = version.there or slug in self.taken
            patches.append(MergedPatch(slug, change, commit, data, own, version.here, there))
            if slug in self.taken:
                side = "work tree" if self.taken[slug] is Favour.OURS else "line"
                why = f"{slug} was changed on both sides"
                if not (version.here and version.there):
                    why = f"a change was moved into {slug} or out of it"
                self.notes.append(f"{why}: that of the {side} was taken")
            elif change is FileAction.NEWER and own is not None:
                self.notes.append(f"{slug} is newer in the line than in this work tree: it is kept")
            elif change is FileAction.NEWER and slug not in self.made_of:
                self.notes.append(f"{slug} was added to the line since: it is kept")
            elif change is FileAction.MERGED:
                self.notes.append(f"{slug} was changed here and in the line: both are in it now")
        return patches

    def _change(self, slug: str, version: _Versions) -> FileAction:
        if version.theirs is None:
            return FileAction.ADDED
        if slug in self.taken:
            return FileAction.REWRITTEN if self.taken[slug] is Favour.OURS else FileAction.NEWER
        if version.there and not version.here:
            return FileAction.NEWER
        if version.there and slug in self.made_of:
            return FileAction.MERGED
        return FileAction.REWRITTEN

    def _conflict(self, slug: str, version: _Versions) -> None:
        """Note, once for a patch, that both sides have changed it, and cannot be merged."""
        if slug in self.noted:
            return
        self.noted.add(slug)
        paths = self.paths
        base, ours, theirs = version.base, version.ours, version.theirs
        here = self._side(base, ours, "squashed" if slug in self.squashed else "removed")
        moved = slug in self.base and theirs is None and self.moved_there.holder(slug)
        there = replace(self._side(base, theirs, "squashed" if moved else "removed"), commit=None)
        if not version.here and ours is not None:
            here = SideChange("unchanged", commit=ours)
        if not version.there and theirs is not None:
            there = SideChange("unchanged")
        take_up = None
        if base and ours and theirs and not self.moved_there.has(slug):
            before, after = self.objects.commit(base), self.objects.commit(theirs)
            tree = self._three_way(self.objects.tree_of(after.parents[0]),
                                   self.objects.tree_of(before.parents[0]), after.tree)  # fmt: skip
            if tree and tree != before.tree:
                take_up = self.objects.add_commit(replace(after, tree=tree, parents=(base,)))
        paths = paths or tuple(sorted(set(here.files) & set(there.files)))
        self.conflicts.append(BothChanged(slug, here, there, paths, take_up))
        self.paths = ()

    def _side(self, base: Oid | None, side: Oid | None, gone: str) -> SideChange:
        if side is None:
            return SideChange(gone if base else "unchanged")
        commit = self.objects.commit(side)
        parent = self.objects.tree_of(commit.parents[0])
        files = self.objects.changed_paths(parent, commit.tree)
        message = True
        if base is not None:
            old = self.objects.commit(base)
            before = self.objects.tree_of(old.parents[0])
            files = {
                path
                for path in files | self.objects.changed_paths(before, old.tree)
                if self._entries(parent, commit.tree, path) != self._entries(before, old.tree, path)
            }
            message = _message(old) != _message(commit)
        return SideChange("changed" if base else "added", tuple(sorted(files)), message, side)

    def _entries(self, before: Oid, after: Oid, path: str) -> tuple[TreeEntry | None, ...]:
        return self.objects.entry(before, path), self.objects.entry(after, path)


def _either(base: _T, ours: _T, theirs: _T) -> _T | None:
    """The value of the side that alone has changed it; None if both have, and differ."""
    if theirs in (base, ours):
        return ours
    return theirs if ours == base else None


def _message(commit: Commit) -> tuple[Signature, str, str]:
    return commit.author, *split_message(commit.message)


def with_others(order: Sequence[str], other: Sequence[str]) -> list[str]:
    """``order`` with the entries that only ``other`` has: each after all that precede it there, and
    after those that ``order`` has added at that place."""
    known, merged = set(other), list(order)
    for number, slug in enumerate(other):
        if slug in merged:
            continue
        at = max((merged.index(name) + 1 for name in other[:number] if name in merged), default=0)
        while at < len(merged) and merged[at] not in known:
            at += 1
        merged.insert(at, slug)
    return merged
