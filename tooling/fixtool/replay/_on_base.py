"""Applies patches of a series to the series' own base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid, TreeEntry
from fixtool.series.patch import Patch
from fixtool.series.strict import apply_patch


@dataclass(frozen=True)
class SeriesOnBase:
    """A whole series, and the commits that its patches make on its own base: ``after`` maps a
    commit and the position of a patch to the commit that the patch makes on it. ``commits`` are
    those of the patches in order."""

    commits: Sequence[Oid]
    patches: Sequence[Patch]
    after: Mapping[tuple[Oid, int], Oid | None]


class PatchesOnBase:
    """The commits that some of ``patches`` make on their base. The base is brought when it is first
    needed, and each patch is applied to each commit once. The commits are in the repository after a
    flush of ``objects``. ``after`` are such commits that are there already."""

    def __init__(
        self,
        objects: ObjectDatabase,
        patches: Sequence[Patch],
        bring_base: Callable[[], Oid],
        after: Mapping[tuple[Oid, int], Oid | None] | None = None,
    ) -> None:
        self._objects, self._patches, self._bring_base = objects, patches, bring_base
        self._base: Oid | None = None
        # The commit that a patch makes on another: by that one and by the position of the patch.
        self.after = dict(after or {})

    def commit(self, positions: Iterable[int]) -> Oid | None:
        """The commit of the patches at ``positions``, in that order, on the base; None if one of
        them does not apply there."""
        self._base = commit = self._base or self._bring_base()
        for position in positions:
            key = (commit, position)
            if key not in self.after:
                self.after[key] = self._add(self._patches[position], commit)
            after = self.after[key]
            if after is None:
                return None
            commit = after
        return commit

    def known(self, position: int) -> tuple[Oid, Oid] | None:
        """The commit of the patches before ``position``, and that with the one there too, if they
        have been made already."""
        if self.after and self._base is None:
            self._base = self._bring_base()
        commit = self._base
        for number in range(position + 1):
            before, commit = commit, self.after.get((commit, number)) if commit else None
        return (before, commit) if before and commit else None

    def first(self, number: int) -> Oid:
        """The commit of the first ``number`` patches. Raises Refused if one does not apply."""
        commit = self.commit(range(number))
        if commit is not None:
            return commit
        failing = next(size for size in range(number) if self.commit(range(size + 1)) is None)
        patch = self._patches[failing]
        raise Refused(
            f"{patch.slug} does not apply to the base of its own line",
            where=str(patch.path or patch.slug),
            hint="fixtool lint --drift",
        )

    def _add(self, patch: Patch, parent: Oid) -> Oid | None:
        tree = apply_patch(self._objects, patch, self._objects.tree_of(parent))
        return self._objects.add_commit(patch.commit(tree, parent)) if tree else None


def on_named_files(objects: ObjectDatabase, patch: Patch, commit: Oid) -> tuple[Oid, Oid] | None:
    """A patch as a commit on the very files that its index lines name, as `git am --3way` does it;
    first that commit's parent. All other files are those of ``commit``. None if the repository does
    not have the files, or if the patch does not apply to them."""
    tree = objects.tree_of(commit)
    entries = objects.files(tree, patch.paths)
    named: dict[str, TreeEntry | None] = dict.fromkeys(patch.paths)
    for file in patch.files:
        if file.old_path is None:
            continue
        if not is_full_sha(file.old_blob or "") or not objects.repo.has(Oid(file.old_blob or "")):
            return None
        mode = entries[file.old_path].mode if file.old_path in entries else "100644"
        named[file.old_path] = TreeEntry(mode, Oid(file.old_blob or ""))
    parent = objects.add_commit(patch.commit(objects.with_files(tree, named), commit))
    after = apply_patch(objects, patch, objects.tree_of(parent))
    return (parent, objects.add_commit(patch.commit(after, parent))) if after else None
