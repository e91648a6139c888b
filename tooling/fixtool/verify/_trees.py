"""The trees that a proof compares: a base, the base with one patch, with all, or with a fix undone.

Each is named by what differs from the base, so that thousands of files are laid out once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fixtool.errors import CannotRun, Refused
from fixtool.git.objects import MACHINE, ZERO, Commit, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files, list_tree, merge_three_way
from fixtool.replay.run import Replay, replay
from fixtool.replay.verdict import FAILED, Verdict
from fixtool.series.line import Line
from fixtool.verify.runner.git_ids import blob_id, tree_id
from fixtool.verify.suite import BASE, SERIES, Mutant, Suite, alone, undone

PYTHON = "python"
"""The folder of an SGLang tree that a process imports from; nothing else is laid out."""


@dataclass(frozen=True)
class Tree:
    """``python_tree`` is git's id of its python/; ``changes`` are path -> (mode, blob id) against
    the base, None for a file that is gone; ``made`` holds blobs that no repository has."""

    name: str
    how: str
    python_tree: str
    changes: Mapping[str, tuple[str, str] | None]
    made: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class NoTree:
    """A tree that cannot be made, and why: a patch that does not apply here."""

    name: str
    why: str
    verdict: Verdict | None = None


class Trees:
    """Makes trees of ``line`` on commit ``onto``. ``bring_base`` brings the line's own base and may
    raise CannotRun: then a patch that needs a three-way merge has no tree."""

    def __init__(
        self, repo: Repo, line: Line, onto: Oid, suite: Suite, bring_base: Callable[[], Oid]
    ) -> None:
        self.repo, self.line, self.onto, self.suite = repo, line, onto, suite
        self._bring_base = bring_base
        if not list_tree(repo, onto, PYTHON):
            raise Refused(
                f"{onto[:12]} holds no {PYTHON}/, so nothing of it can be imported",
                hint="verify wants an SGLang tree: python/sglang/…",
            )

    @cached_property
    def files(self) -> dict[str, TreeEntry]:
        """path -> (mode, blob id) of the base's python/."""
        return list_tree(self.repo, self.onto, PYTHON)

    @cached_property
    def base(self) -> Tree:
        return self._of(BASE, "as it is", self.onto)

    @cached_property
    def series(self) -> Tree | NoTree:
        return self._replayed(SERIES, self.line)

    @cached_property
    def whole(self) -> Replay | None:
        """The series on this commit; None where that takes a base that cannot be had."""
        return self._replay(self.line)

    def alone(self, slug: str) -> Tree | NoTree:
        """The base with one patch, and those that it says it depends on."""
        by_slug = {patch.slug: patch for patch in self.line.patches}
        wanted, queue = set[str](), [slug]
        while queue:
            one = queue.pop()
            if one in by_slug and one not in wanted:
                wanted.add(one)
                queue += by_slug[one].depends_on
        entries = tuple(entry for entry in self.line.entries if entry.slug in wanted)
        return self._replayed(alone(slug), replace(self.line, entries=entries))

    def undone(self, slug: str) -> Tree | NoTree:
        """The base with the fix of ``slug`` taken out: by the patch's reverse as a three-way merge,
        else by a mutant that says it undoes it."""
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
        """``on`` with ``mutant``'s edits."""
        files = self._files_of(on)
        texts: dict[str, str] = {}
        for number, edit in enumerate(mutant.edits, 1):
            there = [path for path in edit.files if path in files]
            for path in there:
                texts.setdefault(path, self._text(on, files[path][1]))
            pattern = re.compile(edit.find, re.MULTILINE)
            hits = [(path, hit) for path in there for hit in pattern.finditer(texts[path])]
            if len(hits) != 1:
                why = f"edit {number} matches {len(hits)} times, not once"
                return NoTree(name, f"mutant {mutant.name} does not fit this tree: {why}")
            path, hit = hits[0]
            text = texts[path]
            texts[path] = text[: hit.start()] + hit.expand(edit.replace) + text[hit.end() :]
        changes, made = dict(on.changes), dict(on.made)
        for path, text in texts.items():
            data = text.encode("utf-8", "surrogateescape")
            made[blob_id(data)] = data
            changes[path] = (files[path][0], blob_id(data))
        merged = {**self.files, **changes}
        left = {path: one for path, one in merged.items() if one is not None}
        python_tree = tree_id({path.removeprefix(f"{PYTHON}/"): one for path, one in left.items()})
        return Tree(name, f"mutant {mutant.name}", python_tree, changes, made)

    # -- parts -----------------------------------------------------------------------------

    def _of(self, name: str, how: str, commit: str) -> Tree:
        changed = [
            one for one in changed_files(self.repo, self.onto, commit) if _importable(one.path)
        ]
        kept = [one.path for one in changed if one.new_blob != ZERO]
        entries = list_tree(self.repo, commit, *kept) if kept else {}
        changes = {one.path: entries.get(one.path) for one in changed}
        python_tree = self.repo.run("rev-parse", f"{commit}:{PYTHON}").text
        return Tree(name, how, python_tree, changes)

    def _replay(self, line: Line) -> Replay | None:
        try:
            return replay(self.repo, line, self.onto, base=self._base_commit)
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
        done = self.whole if line is self.line else self._replay(line)
        if done is None:
            assert self._no_base is not None
            return NoTree(name, f"a three-way merge needs its base: {self._no_base.message}")
        if not done.ok:
            failed = next(one for one in done.patches if one.verdict in FAILED)
            return NoTree(name, f"{failed.slug}: {failed.verdict}", failed.verdict)
        words = ", ".join(f"{one.slug} {one.verdict}" for one in done.patches)
        return self._of(name, words, done.commit)

    def _reverse(self, slug: str) -> str | None:
        """A commit of the base without the patch, where its reverse merges and changes anything."""
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
        back = self.repo.write_commit(
            Commit(before.tree, (after.commit,), MACHINE, MACHINE, f"without {slug}\n")
        )
        merge = merge_three_way(self.repo, after.commit, self.onto, back)
        if merge.conflicts or merge.tree == self.repo.tree_id(self.onto):
            return None
        return self.repo.write_commit(
            Commit(merge.tree, (self.onto,), MACHINE, MACHINE, f"without {slug}\n")
        )

    def _files_of(self, tree: Tree) -> dict[str, tuple[str, str]]:
        merged = {**self.files, **tree.changes}
        return {path: one for path, one in merged.items() if one is not None}

    def _text(self, tree: Tree, blob: str) -> str:
        data = tree.made.get(blob) or next(iter(self.repo.read_blobs([blob])))
        return data.decode("utf-8", "surrogateescape")


def _importable(path: str) -> bool:
    return path.startswith(f"{PYTHON}/")


def touched(line: Line, trees: Sequence[Tree]) -> list[str]:
    """Every importable path that a patch of the line names, or that differs in one of ``trees``."""
    return sorted(
        {path for path in line.paths if _importable(path)}
        | {path for tree in trees for path in tree.changes}
    )
