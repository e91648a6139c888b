"""Gives one patch to fixtool on one tree, in the ways in which a user can, and takes the answer."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.edit.importing import ImportOptions, import_changes
from fixtool.errors import FixtoolError
from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.incoming.read import Given, read_paths
from fixtool.replay.run import replay
from fixtool.series.line import Line, PatchRepository, Upstream, read_line
from fixtool.series.lint import require_well_formed
from fixtool.series.write import upstream_toml

MAIL = (
    b"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
    b"From: A Maintainer <a@example.org>\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n"
    b"Subject: [PATCH] a sample\n\n"
)
"""What makes a diff a patch of a line."""


@dataclass(frozen=True)
class Answer:
    """What fixtool made of a patch: the tree after each patch of it, or the reason why there is
    none. ``paths`` are the files that its reader of diffs found, ``notes`` are those of import, and
    ``crash`` is a traceback."""

    trees: tuple[str, ...] = ()
    reason: str = ""
    crash: str = ""
    paths: frozenset[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def tree(self) -> str | None:
        return self.trees[-1] if self.trees else None


class Engine:
    """fixtool's own engine on the objects of ``lender``, a git directory. ``scratch`` is a folder
    for its store and its lines."""

    def __init__(self, lender: Path, scratch: Path) -> None:
        self.store = Store.create(scratch / "store.git")
        self.store.borrow(Repo.open(lender, bare=True))
        self.scratch = scratch

    def imported(self, tree: str, patch: bytes) -> Answer:
        """What `fixtool import FILE` and then a replay of the line on its own base make."""
        return self.imported_files(tree, {"incoming.patch": patch}, "incoming.patch")

    def imported_files(self, tree: str, files: Mapping[str, bytes], name: str) -> Answer:
        """The same for the file ``name`` among ``files``, which may be a series of the others."""

        def make(root: Path, line: Line) -> Answer:
            for each, content in files.items():
                (root / each).parent.mkdir(parents=True, exist_ok=True)
                (root / each).write_bytes(content)
            changes = read_paths(self.store, [root / name], Given())
            base = line.upstream.base
            repository, options = PatchRepository(root), ImportOptions()
            made = import_changes(repository, line, self.store, lambda: base, changes, options)
            notes = tuple(note for patch in made.patches for note in patch.notes)
            return replace(self._replayed(line.folder), notes=notes)

        return self._answer(tree, make)

    def read(self, tree: str, diff: bytes) -> Answer:
        """What a replay makes if ``diff``, which begins with `diff --git`, is a line's patch."""

        def make(_: Path, line: Line) -> Answer:
            (line.folder / "sample.patch").write_bytes(MAIL + diff)
            (line.folder / "series").write_text("sample.patch\n")
            return self._replayed(line.folder)

        return self._answer(tree, make)

    def replayed_onto(self, base: str, onto: str, patch: bytes) -> Answer:
        """What a replay onto commit ``onto`` makes of ``patch``, a mail for commit ``base``."""

        def make(_: Path, line: Line) -> Answer:
            (line.folder / "sample.patch").write_bytes(patch)
            (line.folder / "series").write_text("sample.patch\n")
            return self._replayed(line.folder, Oid(onto))

        return self._answer(base, make)

    def _answer(self, treeish: str, make: Callable[[Path, Line], Answer]) -> Answer:
        """What ``make`` gives for a patch repository with one empty line on ``treeish``."""
        root = Path(tempfile.mkdtemp(prefix="line-", dir=self.scratch))
        try:
            folder = root / "patches" / "sample"
            folder.mkdir(parents=True)
            base = self.store.commit_id(treeish)
            tree = self.store.tree_id(treeish)
            if base is None:
                base = self.store.write_commit(Commit(tree, (), MACHINE, MACHINE, "a sample\n"))
            about = Upstream("https://example.invalid/x", base, tree, None, "0", "2026-01-01")
            (folder / "upstream.toml").write_text(upstream_toml(about, "a sample"))
            (folder / "series").write_text("")
            return make(root, read_line(folder))
        except FixtoolError as error:
            return Answer(reason=error.message)
        except Exception:  # any other exception is what this looks for
            return Answer(crash=traceback.format_exc())
        finally:
            shutil.rmtree(root)

    def _replayed(self, folder: Path, onto: Oid | None = None) -> Answer:
        line = read_line(folder)
        require_well_formed(line)
        result = replay(self.store, line, onto or line.upstream.base)
        paths = frozenset(file.path for patch in line.patches for file in patch.files)
        if not result.ok:
            last = result.patches[-1]
            return Answer(reason=f"{last.verdict}: {'; '.join(last.evidence)}", paths=paths)
        commits = [patch.commit for patch in result.patches if patch.commit]
        return Answer(
            tuple(self.store.tree_id(each) for each in commits) or (result.tree,), paths=paths
        )
