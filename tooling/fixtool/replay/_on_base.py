"""Applies patches of a series to the series' own base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fixtool.errors import Refused
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, scratch_index, write_tree
from fixtool.series.patch import Patch, apply_on


class PatchesOnBase:
    """The commits that some of ``patches`` make on their base, each set of patches made once. The
    base is brought when it is first needed."""

    def __init__(self, repo: Repo, patches: Sequence[Patch], bring_base: Callable[[], Oid]) -> None:
        self._repo, self._patches, self._bring_base = repo, patches, bring_base
        self._commits: dict[tuple[int, ...], Oid | None] = {}

    def commit(self, positions: Iterable[int]) -> Oid | None:
        """The commit of the patches at ``positions``, in that order, on the base; None if one of
        them does not apply there."""
        positions = tuple(positions)
        if positions not in self._commits:
            self._commits[positions] = self._make(positions) if positions else self._bring_base()
        return self._commits[positions]

    def first(self, number: int) -> Oid:
        """The commit of the first ``number`` patches. Raises Refused if one does not apply."""
        commit = self.commit(())
        for position, patch in enumerate(self._patches[:number]):
            commit = self.commit(range(position + 1))
            if commit is None:
                raise Refused(
                    f"{patch.slug} does not apply to the base of its own line",
                    where=str(patch.path or patch.slug),
                    hint="fixtool lint --drift",
                )
        assert commit is not None
        return commit

    def _make(self, positions: tuple[int, ...]) -> Oid | None:
        parent = self.commit(positions[:-1])
        if parent is None:
            return None
        patch = self._patches[positions[-1]]
        tree, _ = apply_on(self._repo, patch, parent)
        return self._repo.write_commit(patch.commit(tree, parent)) if tree else None


def on_named_files(repo: Repo, patch: Patch, commit: Oid) -> tuple[Oid, Oid] | None:
    """A patch as a commit on the very files that its index lines name, as `git am --3way` does it;
    first that commit's parent. All other files are those of ``commit``. None if ``repo`` does not
    have the files, or if the patch does not apply to them."""
    entries = list_tree(repo, commit, *patch.paths)
    lines = [f"0 {'0' * 40}\t{path}" for path in sorted(patch.paths)]
    for file in patch.files:
        if file.old_path is None:
            continue
        if not is_full_sha(file.old_blob or "") or not repo.has(Oid(file.old_blob or "")):
            return None
        mode = entries[file.old_path].mode if file.old_path in entries else "100644"
        lines.append(f"{mode} {file.old_blob}\t{file.old_path}")
    with scratch_index(repo, commit) as index:
        text = "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")
        repo.run("update-index", "-z", "--index-info", stdin=text, index=index)
        parent = repo.write_commit(patch.commit(write_tree(repo, index), commit))
    tree, _ = apply_on(repo, patch, parent)
    return (parent, repo.write_commit(patch.commit(tree, parent))) if tree else None
