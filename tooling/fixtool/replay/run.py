"""Replay: applies a series onto a commit, in the object database, with one verdict a patch.

First each patch is applied strictly (`git apply --cached`), which is exact and needs nothing but
the target. If a file of the target is not the one that the patch was written against, a three-way
merge of the patch, as a commit on its own base, decides, whatever `git apply` says. That would
add an absorbed block a second time if its context repeats, and would patch a copy of a block that
upstream put at the old line numbers. No work tree is touched and no ref moves.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fixtool.git.database import ObjectDatabase, ReadObjects
from fixtool.git.objects import Merge, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.replay._cache import PrefixCache
from fixtool.replay._hunks import (
    after_conflict,
    after_merge,
    place,
    same_blob,
    untouched,
    with_verdict,
)
from fixtool.replay._merge import Contents, Merges
from fixtool.replay._on_base import Additions, PatchesOnBase, SeriesOnBase, on_named_files
from fixtool.replay.verdict import (
    FAILED,
    FileResult,
    PatchResult,
    PatchState,
    Verdict,
)
from fixtool.series.line import Line
from fixtool.series.patch import Patch
from fixtool.series.strict import apply_patch


@dataclass(frozen=True)
class Replay:
    """A series on a commit. ``commit`` and ``tree`` are the last good state: the whole series if
    ``ok``. ``reused`` counts the patches whose results were in the cache."""

    line: str
    base: Oid
    onto: Oid
    commit: Oid
    tree: Oid
    patches: tuple[PatchResult, ...]
    reused: int

    @property
    def ok(self) -> bool:
        return not any(patch.verdict in FAILED for patch in self.patches)


@dataclass(frozen=True)
class Decisions:
    """What a replay takes as given, by slug: ``left_out`` are the patches that it does not apply,
    with what it says of them; ``resolved`` are the trees that resolutions of conflicts made."""

    left_out: Mapping[str, PatchState] = field(default_factory=dict)
    resolved: Mapping[str, Oid] = field(default_factory=dict)


@dataclass(frozen=True)
class _Added:
    """What becomes of a patch, and the entries of the files that it changes then."""

    result: PatchResult
    changes: Mapping[str, TreeEntry | None]


@dataclass
class Earlier:
    """What replays of the same series have found so far, in the same repository. One that is given
    to each of them spares the later ones the patches whose files are as before. With a folder
    ``scratch``, the commits that they make are written there (`git.database.passing_objects`)."""

    scratch: Path | None = None

    read: ReadObjects = field(default_factory=ReadObjects)
    after: Additions = field(default_factory=dict)
    merged: dict[Contents, Oid | None] = field(default_factory=dict)
    as_applied: dict[Contents, Oid] = field(default_factory=dict)
    added: dict[object, _Added] = field(default_factory=dict)

    def database(self, repo: Repo) -> ObjectDatabase:
        """A database of the repository. With ``scratch``, several may be in use at once, so they
        share nothing that they read."""
        known = None if self.scratch else self.read
        return ObjectDatabase(repo, scratch=self.scratch, known=known)


def replay(
    repo: Repo,
    line: Line,
    onto: Oid,
    *,
    base: Callable[[], Oid] | None = None,
    cache: Path | None = None,
    decisions: Decisions | None = None,
    earlier: Earlier | None = None,
) -> Replay:
    """Apply ``line`` to commit ``onto``.

    ``base`` brings the line's base commit into ``repo`` and returns it; it is called only if a
    three-way merge needs it. ``cache`` is the folder of the prefix cache. It is not used if a
    conflict was resolved, since its keys do not name resolutions.
    """
    decisions = decisions or Decisions()
    if decisions.resolved:
        cache = None
    patches = line.patches
    prefix = PrefixCache.of(cache, onto, line.upstream.base, patches, decisions.left_out)
    earlier = earlier or Earlier()
    with earlier.database(repo) as objects:
        results = prefix.load(objects)
        reused = len(results)
        commits = [result.commit for result in results if result.commit]
        commit = commits[-1] if commits else onto
        tree = objects.tree_of(commit)
        if reused < len(patches):
            bring = base or (lambda: line.upstream.base)
            on_base = PatchesOnBase(objects, patches, bring, earlier.after)
            merges = Merges(objects, earlier.merged, earlier.as_applied)
            run = _Run(objects, patches, on_base, decisions, merges, earlier.added, commit, tree)
            results, commit, tree = run.replay(line.upstream.base, results)
            objects.flush()
            earlier.after.update(on_base.after)
            earlier.added.update(run.new)
            prefix.store(results, reused)
    return Replay(line.name, line.upstream.base, onto, commit, tree, tuple(results), reused)


def on_own_base(
    repo: Repo, line: Line, slug: str, base: Oid, earlier: Earlier | None = None
) -> tuple[Oid, Oid]:
    """A patch as a commit of its series on the line's own base, and that commit's parent. They are
    made unless ``earlier`` has them, and it has them then. Raises Refused if the series does not
    apply there."""
    position = [entry.slug for entry in line.entries].index(slug)
    earlier = earlier or Earlier()
    with earlier.database(repo) as objects:
        on_base = PatchesOnBase(objects, line.patches, lambda: base, earlier.after)
        commit, parent = on_base.first(position + 1), on_base.first(position)
        objects.flush()
    earlier.after.update(on_base.after)
    return commit, parent


def series_on_base(repo: Repo, line: Line, earlier: Earlier) -> SeriesOnBase | None:
    """The commits of the whole series on its own base, which is in ``repo``; None if it does not
    apply there. They are made unless ``earlier`` has them, and it has them then."""
    with earlier.database(repo) as objects:
        on_base = PatchesOnBase(objects, line.patches, lambda: line.upstream.base, earlier.after)
        size = len(line.patches)
        if not on_base.applies(size):
            return None
        commits = [on_base.first(number + 1) for number in range(size)]
        objects.flush()
    earlier.after.update(on_base.after)
    return SeriesOnBase(commits, line.patches, earlier.after)


@dataclass
class _Run:
    """A replay under way: ``commit`` and ``tree`` are the target with the patches that were added
    so far."""

    objects: ObjectDatabase
    patches: Sequence[Patch]
    on_base: PatchesOnBase
    decisions: Decisions
    merges: Merges
    known: Mapping[object, _Added]
    commit: Oid
    tree: Oid
    new: dict[object, _Added] = field(default_factory=dict)
    first_in: dict[str, int] = field(default_factory=dict)  # a folder -> first patch in it
    read: int = 0  # the patches whose folders are in there

    def replay(
        self, base: Oid, before: Sequence[PatchResult]
    ) -> tuple[list[PatchResult], Oid, Oid]:
        """Apply the patches, on whose base the series is, after those with the results ``before``.
        Returns the results of all, and the last commit and its tree."""
        start = self.commit, self.tree
        while True:
            self.commit, self.tree = start
            self.new.clear()
            results = list(before)
            for position in range(len(before), len(self.patches)):
                results.append(self._add(base, position, results))
            if self.merges.check():
                return results, self.commit, self.tree

    def _add(self, base: Oid, position: int, before: Sequence[PatchResult]) -> PatchResult:
        """Apply the patch at ``position``, after those with the results ``before``."""
        patch, tree = self.patches[position], self.tree
        if state := self.decisions.left_out.get(patch.slug):
            return PatchResult(patch.slug, patch.subject, state.verdict, None, (), state.evidence)
        if resolution := self.decisions.resolved.get(patch.slug):
            return self._add_resolved(patch, resolution)
        there = [(path, self._at(tree, path)) for path in sorted(patch.paths)]
        key = (base, position, tuple(there))
        if (added := self.known.get(key)) is not None:
            if added.result.commit is None:
                return added.result
            return replace(added.result, commit=self._commit(patch, added.changes))
        result, alone = self._apply(position, before)
        if alone and result.verdict not in FAILED:
            now = {path: self.objects.entry(self.tree, path) for path in patch.paths}
            before_ = self.objects.files(tree, patch.paths)
            changes = {path: entry for path, entry in now.items() if entry != before_.get(path)}
            self.new[key] = _Added(result, changes)
        return result

    def _at(self, tree: Oid, path: str) -> tuple[TreeEntry | str | None, ...]:
        """What is at a path: a file, or if there is none, which folders or files are above."""
        entry = self.objects.entry(tree, path)
        if entry is not None:
            return (entry,)
        above = [path[: match.start()] for match in re.finditer("/", path)]
        entries = (self.objects.entry(tree, folder) for folder in above)
        return tuple(entry and entry.mode for entry in entries)

    def _apply(self, position: int, before: Sequence[PatchResult]) -> tuple[PatchResult, bool]:
        """Apply a patch that no decision is about. Also tells whether only the files that it names
        matter to the result, and the folders above them."""
        patch = self.patches[position]
        targets = self.objects.files(self.tree, patch.paths)
        strict = self._as_on_base(position, targets)
        if strict is None:
            strict = apply_patch(self.objects, patch, self.tree)
        merge: Merge | None
        if strict is not None and self._is_as_written_for(position, targets):
            files = tuple(untouched(file) for file in patch.files)
            merge, alone = Merge(strict, ()), True
        else:
            files = tuple(place(file, targets, self.objects.blob) for file in patch.files)
            merge, alone = self._merge_three_way(position, strict)
        result, tree = self._judge(patch, files, strict, merge, targets)
        if result.verdict is Verdict.CONFLICT and (cause := self._blocked_by(position, before)):
            reason = f"it needs {cause}"
            evidence = (*result.evidence, reason)
            return replace(result, verdict=Verdict.BLOCKED, evidence=evidence), alone
        if tree is None or tree == self.tree:
            return result, alone
        return replace(result, commit=self._commit(patch, tree)), alone

    def _as_on_base(self, position: int, targets: Mapping[str, TreeEntry]) -> Oid | None:
        """The tree with a patch that is known to apply to its own base, where each of its files is
        the one of that base; None if not, or if it is not known."""
        known = self.on_base.known(position)
        if known is None or known.before != targets:
            return None
        patch = self.patches[position]
        if any(file.old_path is None for file in patch.files):
            return None
        changes = {path: known.after.get(path) for path in patch.paths}
        return self.objects.with_files(self.tree, changes)

    def _commit(self, patch: Patch, tree: Oid | Mapping[str, TreeEntry | None]) -> Oid:
        """Commit a patch, which makes this tree, or these changes."""
        if not isinstance(tree, str):
            tree = self.objects.with_files(self.tree, tree)
        self.commit = self.objects.add_commit(patch.commit(tree, self.commit))
        self.tree = tree
        return self.commit

    def _add_resolved(self, patch: Patch, tree: Oid) -> PatchResult:
        """Take the tree of a resolution. If it changes nothing, upstream has the whole patch."""
        if tree == self.tree:
            reason = "resolved by hand to what upstream has"
            return PatchResult(patch.slug, patch.subject, Verdict.ABSORBED, None, (), (reason,))
        paths = self.objects.changed_paths(self.tree, tree)
        files = tuple(FileResult(path, Verdict.MERGED, ()) for path in sorted(paths))
        commit = self._commit(patch, tree)
        return PatchResult(
            patch.slug, patch.subject, Verdict.MERGED, commit, files, ("resolved by hand",)
        )

    def _judge(
        self,
        patch: Patch,
        files: tuple[FileResult, ...],
        strict: Oid | None,
        merge: Merge | None,
        present: Collection[str],
    ) -> tuple[PatchResult, Oid | None]:
        """The verdict, and the tree that the patch makes, None if it makes none. ``strict`` is the
        tree of `git apply`, and ``merge`` decides. ``present`` are the paths of the patch that the
        target has."""

        def result(verdict: Verdict, *evidence: str) -> PatchResult:
            return PatchResult(patch.slug, patch.subject, verdict, None, files, evidence)

        if strict is not None and strict == self.tree:
            return result(Verdict.ABSORBED, "applying it changes nothing"), strict
        if merge is None:
            return result(Verdict.CONFLICT, "does not apply to its own base"), None
        if merge.conflicts:
            files = tuple(after_conflict(file, merge.conflicts) for file in files)
            evidence = [f"conflict in {', '.join(merge.conflicts)}"]
            if strict is not None:  # its own place has changed, and another one looks like it
                evidence.append("`git apply` alone would have put it in a wrong place")
            return result(Verdict.CONFLICT, *evidence), None
        if merge.tree == self.tree:
            files = tuple(with_verdict(file, Verdict.ABSORBED) for file in files)
            return result(Verdict.ABSORBED, "the three-way merge changes nothing"), merge.tree
        if strict == merge.tree:
            return result(_by_place(files)), merge.tree
        unchanged = frozenset(present) - self.objects.changed_paths(self.tree, merge.tree)
        files = tuple(after_merge(file, unchanged) for file in files)
        verdicts = {hunk.verdict for file in files for hunk in file.hunks}
        verdicts |= {file.verdict for file in files}
        evidence = ["merged three-way"]
        if strict is not None:
            evidence.append("`git apply` alone would have put it elsewhere")
        absorbed = Verdict.ABSORBED in verdicts
        verdict = Verdict.PARTLY_ABSORBED if absorbed else Verdict.MERGED
        return result(verdict, *evidence), merge.tree

    def _is_as_written_for(self, position: int, targets: Mapping[str, TreeEntry]) -> bool:
        """Whether each file is the very one that the patch was written against, and no folder that
        gets a new file is gone: upstream may have moved it elsewhere."""
        files = self.patches[position].files
        if not all(same_blob(file, targets) for file in files):
            return False
        new = (file.path for file in files if file.old_path is None)
        folders = {posixpath.dirname(path) for path in new} - {""}
        missing = folders - self.objects.folders(self.tree, folders)
        return not missing or not self._had_folders(position, missing)

    def _had_folders(self, position: int, folders: Collection[str]) -> bool:
        """Whether the series' own base, with the patches before ``position``, has one of the
        ``folders``."""
        for number in range(self.read, position):
            for path in self.patches[number].paths:
                while path := posixpath.dirname(path):
                    self.first_in.setdefault(path, number)
        self.read = max(self.read, position)
        if any(self.first_in.get(folder, position) < position for folder in folders):
            return True
        base = self.on_base.commit(())
        return base is None or bool(self.objects.folders(self.objects.tree_of(base), folders))

    def _merge_three_way(self, position: int, strict: Oid | None) -> tuple[Merge | None, bool]:
        """The merge of a patch on its own base into the target. If it does not apply there, the
        files that it names are its base. None if these are not here either. ``strict`` is what `git
        apply` makes of it. Also tells whether only these files matter to it."""
        patch = self.patches[position]
        if self.on_base.applies(position + 1):
            sides = self.on_base.first(position), self.on_base.first(position + 1)
        elif (named := on_named_files(self.objects, patch, self.commit)) is not None:
            sides = named
        else:
            return None, False
        return self.merges.merge(sides[0], self.tree, sides[1], patch.paths, strict)

    def _blocked_by(self, position: int, before: Sequence[PatchResult]) -> str | None:
        """The patches that failed, or that a person left out or skipped, without which this one
        does not apply even to its own base. Then they block it, and it is not itself in conflict
        with upstream."""
        missing = FAILED | {Verdict.LEFT_OUT, Verdict.SKIPPED}
        failed = [result.slug for result in before if result.verdict in missing]
        named = [slug for slug in failed if slug in self.patches[position].depends_on]
        if named or not failed:
            return ", ".join(named) or None
        slugs = [patch.slug for patch in self.patches[: position + 1]]
        rest = (number for number, slug in enumerate(slugs) if slug not in failed)
        return None if self.on_base.commit(rest) else ", ".join(failed)


def _by_place(files: Sequence[FileResult]) -> Verdict:
    """The verdict on a patch whose text fits: clean if every hunk is at its old line."""
    moved = any(file.verdict is not Verdict.CLEAN for file in files)
    return Verdict.OFFSET if moved else Verdict.CLEAN
