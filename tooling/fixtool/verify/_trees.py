"""Makes the trees that a run compares: the base, and the base with one patch, with all patches,
with a fix taken out, or with a mutant.

"The base" is here the target commit without any patch. Every other tree is stored as its
differences from the base, so that the thousands of files they share are laid out once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fixtool.errors import CannotRun
from fixtool.git.objects import MACHINE, ZERO, Commit, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files, list_tree, merge_three_way
from fixtool.replay.run import Decisions, Replay, replay
from fixtool.replay.verdict import FAILED, Verdict
from fixtool.series.line import Line
from fixtool.sources.target import python_folder
from fixtool.verify.runner.git_ids import blob_id, tree_id
from fixtool.verify.suite import BASE, SERIES, Mutant, Suite, alone, undone


@dataclass(frozen=True)
class Tree:
    """A tree of upstream, stored as its differences from the base.

    ``how`` says for people how it was made. ``python_tree`` is git's id of its python/,
    or of the whole tree if it has none.
    ``changes`` maps each path that differs to its entry, or to None if this tree lacks the file.
    ``new_blobs`` holds the contents of blobs that are in no repository.
    """

    name: str
    how: str
    python_tree: Oid
    changes: Mapping[str, TreeEntry | None]
    new_blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class NoTree:
    """A tree that cannot be made, and why. ``verdict`` is that of the patch that does not apply,
    None if there is another reason."""

    name: str
    why: str
    verdict: Verdict | None = None


class Trees:
    """Makes the trees of ``line`` on commit ``onto``.

    ``bring_base`` fetches the line's own base. If it raises CannotRun, the trees that need a
    three-way merge cannot be made. ``decisions`` are those of the line's judgement on ``onto``.
    ``files`` maps each path in the python/ of ``onto`` to its entry; each path of all if there is
    no python/.
    """

    def __init__(
        self,
        repo: Repo,
        line: Line,
        onto: Oid,
        suite: Suite,
        bring_base: Callable[[], Oid],
        decisions: Decisions | None = None,
    ) -> None:
        self.repo, self.line, self.onto, self.suite = repo, line, onto, suite
        self._bring_base, self._decisions = bring_base, decisions
        self.files = list_tree(repo, onto, *filter(None, [python_folder(repo, onto)]))

    @cached_property
    def base(self) -> Tree:
        return self._of(BASE, "as it is", self.onto)

    @cached_property
    def series(self) -> Tree | NoTree:
        return self._replayed(SERIES, self.line)

    @cached_property
    def whole(self) -> Replay | None:
        """The replay of the series; None if it needs the line's base and that cannot be had."""
        return self._replay(self.line, self._decisions)

    def alone(self, slug: str) -> Tree | NoTree:
        """The base with one patch, and the patches that it declares as its dependencies."""
        wanted = {slug, *needs(self.line, slug)}
        entries = tuple(entry for entry in self.line.entries if entry.slug in wanted)
        return self._replayed(alone(slug), replace(self.line, entries=entries))

    def undone(self, slug: str) -> Tree | NoTree:
        """The base with the fix of ``slug`` taken out. A three-way merge of the reversed patch
        takes it out, or, if that fails, a mutant with ``undo``."""
        name = undone(slug)
        if commit := self._reverse(slug):
            return self._of(name, "the patch in reverse", commit)
        reasons = []
        for mutant in self.suite.undo(slug):
            tree = self.mutant(mutant, self.base, name)
            if isinstance(tree, Tree):
                return tree
            reasons.append(tree.why)
        return NoTree(name, reasons[0] if reasons else "no mutant undoes it")

    def mutant(self, mutant: Mutant, on: Tree, name: str) -> Tree | NoTree:
        """The tree ``on`` with the edits of ``mutant``. The new tree is called ``name``."""
        files = _present({**self.files, **on.changes})
        texts: dict[str, str] = {}
        for number, edit in enumerate(mutant.edits, 1):
            paths = [path for path in edit.files if path in files]
            for path in paths:
                texts.setdefault(path, self._text(on, files[path].blob))
            pattern = re.compile(edit.find, re.MULTILINE)
            matches = [(path, match) for path in paths for match in pattern.finditer(texts[path])]
            if len(matches) != 1:
                why = f"edit {number} matches {len(matches)} times, not once"
                return NoTree(name, f"mutant {mutant.name} does not fit this tree: {why}")
            path, match = matches[0]
            text = texts[path]
            texts[path] = text[: match.start()] + match.expand(edit.replace) + text[match.end() :]
        new_blobs = dict(on.new_blobs)
        for path, text in texts.items():
            data = text.encode("utf-8", "surrogateescape")
            files[path] = TreeEntry(files[path].mode, Oid(blob_id(data)))
            new_blobs[files[path].blob] = data
        changes = {**on.changes, **{path: files[path] for path in texts}}
        below = {path.removeprefix("python/"): entry for path, entry in files.items()}
        return Tree(name, f"mutant {mutant.name}", Oid(tree_id(below)), changes, new_blobs)

    # -- parts -----------------------------------------------------------------------------

    def _of(self, name: str, how: str, commit: Oid) -> Tree:
        return tree_of(self.repo, self.onto, name, how, commit)

    def _replay(self, line: Line, decisions: Decisions | None = None) -> Replay | None:
        try:
            return replay(self.repo, line, self.onto, base=self._base_commit, decisions=decisions)
        except CannotRun:
            if self._no_base is None:
                raise
            return None

    _no_base: CannotRun | None = None

    def _base_commit(self) -> Oid:
        try:
            return self._bring_base()
        except CannotRun as error:
            self._no_base = error
            raise

    def _replayed(self, name: str, line: Line) -> Tree | NoTree:
        result = self.whole if line is self.line else self._replay(line)
        if result is None:
            assert self._no_base is not None
            return NoTree(name, f"a three-way merge needs its base: {self._no_base.message}")
        if not result.ok:
            failed = next(patch for patch in result.patches if patch.verdict in FAILED)
            return NoTree(name, f"{failed.slug}: {failed.verdict}", failed.verdict)
        how = ", ".join(f"{patch.slug} {patch.verdict}" for patch in result.patches)
        return self._of(name, how, result.commit)

    def _reverse(self, slug: str) -> Oid | None:
        """A commit that is the target without the patch.

        None if the line has no such patch, if the line's base cannot be had, or if the reversed
        patch does not merge or changes nothing.
        """
        slugs = [entry.slug for entry in self.line.entries]
        if slug not in slugs:
            return None
        position = slugs.index(slug)
        try:
            base = self._base_commit()
        except CannotRun:
            return None
        before, after = (
            replay(self.repo, replace(self.line, entries=self.line.entries[:end]), base)
            for end in (position, position + 1)
        )
        if not (before.ok and after.ok):
            return None
        without = self._commit(slug, before.tree, after.commit)
        merge = merge_three_way(self.repo, after.commit, self.onto, without)
        if merge.conflicts or merge.tree == self.repo.tree_id(self.onto):
            return None
        return self._commit(slug, merge.tree, self.onto)

    def _commit(self, slug: str, tree: Oid, parent: Oid) -> Oid:
        commit = Commit(tree, (parent,), MACHINE, MACHINE, f"without {slug}\n")
        return self.repo.write_commit(commit)

    def _text(self, tree: Tree, blob: Oid) -> str:
        data = tree.new_blobs.get(blob) or self.repo.read_blob(blob)
        return data.decode("utf-8", "surrogateescape")


def tree_of(repo: Repo, onto: Oid, name: str, how: str, commit: Oid) -> Tree:
    """The tree of a commit, as its differences from that of ``onto``."""
    folder = python_folder(repo, onto)
    changed = [file for file in changed_files(repo, onto, commit) if _importable(file.path, folder)]
    kept = [file.path for file in changed if file.new_blob != ZERO]
    entries = list_tree(repo, commit, *kept) if kept else {}
    changes = {file.path: entries.get(file.path) for file in changed}
    python_tree = Oid(repo.run("rev-parse", f"{commit}:{folder}").text)
    return Tree(name, how, python_tree, changes)


def _present(files: Mapping[str, TreeEntry | None]) -> dict[str, TreeEntry]:
    return {path: entry for path, entry in files.items() if entry is not None}


def _importable(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def touched(line: Line, trees: Sequence[Tree], folder: str) -> list[str]:
    """The paths in ``folder``, all if that is empty, that a patch of the line changes, or at which
    one of ``trees`` differs from the base."""
    return sorted(
        {path for path in line.paths if _importable(path, folder)}
        | {path for tree in trees for path in tree.changes}
    )


def needs(line: Line, slug: str) -> tuple[str, ...]:
    """The patches of ``line`` that a patch depends on, directly or through others, by its trailers:
    in the order of the series."""
    by_slug = {patch.slug: patch for patch in line.patches}
    found, queue = set[str](), [slug]
    while queue:
        patch = by_slug.get(queue.pop())
        needed = patch.depends_on if patch else ()
        queue += [other for other in needed if other not in found]
        found.update(needed)
    return tuple(other for other in by_slug if other in found and other != slug)
