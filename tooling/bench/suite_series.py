"""Suite `series`: long series of real commits, next to plain git, quilt and StGit.

All sizes have the same base, so a longer series begins with the shorter one. The patch files are
made by `fixtool import`, and git, quilt and StGit apply the same files. Everything is in memory if
the machine has a file system for that, so that CPU time is what counts. "Cold" means that fixtool's
cache is empty, "warm" that it has run before, and "last edited" that since then one line changed in
the last patch.
"""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from place import Place, both, missing, temporary_place
from real_commits import Chosen, choose
from suite_four import series_of, stgit_is_absent
from timing import CommandFailed, Contestant, Group, take_turns

FORMAT_PATCH, AM, REBASE = "git format-patch", "git am", "git rebase"
COLD, WARM, EDITED = "fixtool apply, cold", "fixtool apply, warm", "fixtool apply, last edited"
CHECK = "fixtool apply --dry-run, warm"
IMPORT, LINT, MOVE = "fixtool import", "fixtool lint --drift", "fixtool rebase"
LONG = 500
"""From this size on, StGit is left out. A contestant runs twice at most at the longest of these
sizes, and once at the others."""


def run(given: Namespace) -> list[Group]:
    """Measure each size, all contestants in turns."""
    groups = []
    with temporary_place(given.memory, given.fixtool) as place:
        clone = place.shared_clone(given.repo)
        chosen = choose(place, clone, given.last, given.sizes, given.moved, given.keep)
        print(f"series: base {chosen.base[:12]}, {chosen.moved} new upstream commits",
              file=sys.stderr)  # fmt: skip
        for size in given.sizes:
            few = 2 if size == max(given.sizes) else 1
            runs = min(given.runs, few) if size >= LONG else given.runs
            title = f"{size} patches; rebase {chosen.moved} commits on"
            series = _Series(place, given, clone, chosen, size)
            groups.append(
                take_turns(
                    f"series-{size}", title, series.contestants(), place.environment, runs,
                    limit=given.limit,
                )
            )  # fmt: skip
            series.clear()
    return groups


class _Series:
    """One size, with a work tree for each tool."""

    def __init__(
        self, place: Place, given: Namespace, clone: Path, chosen: Chosen, size: int
    ) -> None:
        self.place, self.given, self.clone, self.chosen, self.size = (
            place, given, clone, chosen, size,
        )  # fmt: skip
        self.tip = chosen.tips[size]
        self.range = f"{chosen.base}..{self.tip}"
        self.mails = place.folder / f"mails-{size}"
        self.imported = place.folder / f"imported-{size}"
        words = (self.range, "--from", clone, "--first-parent", "--skip-empty")
        self.import_words = words
        self.line = place.patch_repository(f"line-{size}", clone, chosen.base, *words)
        self.patches = series_of(self.line, "sample")
        if len(self.patches) != size:
            raise CommandFailed(f"{len(self.patches)} patches were imported instead of {size}")
        self.original = self.patches[-1].read_bytes()
        self.edits = 0

    def contestants(self) -> list[Contestant]:
        return [*self._in_out(), *self._apply(), *self._others(), *self._rebase()]

    def clear(self) -> None:
        """Take the work trees away, which are in memory."""
        for name in ("am", "into", "quilt", "stgit", "rebase"):
            shutil.rmtree(self.place.folder / f"{name}-{self.size}")
        self.place.git(self.clone, "worktree", "prune")

    def _in_out(self) -> list[Contestant]:
        place, at = self.place, self.place.folder
        begin = both(
            place.empty_cache,
            lambda: place.start_line(self.imported.name, self.clone, self.chosen.base),
        )
        words = [self.given.fixtool, "-C", self.imported, "import", *self.import_words,
                 "--line", "sample"]  # fmt: skip
        lint = [self.given.fixtool, "-C", self.line, "lint", "--drift", "--source", self.clone]
        return [
            Contestant(
                FORMAT_PATCH,
                [["git", "-C", self.clone, "format-patch", "--quiet", "-o", self.mails,
                  self.range]],
                at, before=lambda: shutil.rmtree(self.mails, ignore_errors=True),
            ),
            Contestant(IMPORT, [words], at, FORMAT_PATCH, before=begin),
            # Exit code 1 means that it has findings about the texts of the real patches.
            Contestant(LINT, [lint], at, AM, before=place.empty_cache,
                       accepts=frozenset({0, 1})),
        ]  # fmt: skip

    def _apply(self) -> list[Contestant]:
        tree = self.place.work_tree(self.clone, f"am-{self.size}", self.chosen.base)
        into = self.place.work_tree(self.clone, f"into-{self.size}", self.chosen.base)
        am = Contestant(
            AM, [["git", "am", "--quiet", "--keep-cr", *self.patches]], tree,
            before=lambda: self._reset(tree), result=lambda: self._tree(tree), work="apply",
        )  # fmt: skip
        replay = [self.given.fixtool, "-C", self.line, "apply", "--sglang-ref", self.chosen.base]
        apply = [*replay, "--no-build", "--into", into]

        def begin() -> None:
            self._reset(into)
            made = self.place.git(into, "for-each-ref", "--format=%(refname:short)",
                                  "refs/heads/fixtool").split()  # fmt: skip
            if made:
                self.place.git(into, "branch", "--quiet", "-D", *made)

        made: Callable[[], str] = lambda: self._tree(into)  # noqa: E731
        at = self.place.folder
        return [
            am,
            Contestant(COLD, [apply], at, AM, both(self.place.empty_cache, begin), result=made,
                       work="apply"),
            Contestant(WARM, [apply], at, AM, begin, result=made, work="apply"),
            Contestant(CHECK, [[*replay, "--source", self.clone, "--dry-run"]], at, AM),
            Contestant(EDITED, [apply], at, AM, both(begin, self._edit), self._restore),
        ]  # fmt: skip

    def _edit(self) -> None:
        """Change the first added line of the last patch, in another way each time."""
        self.edits += 1
        before, added, after = self.original.partition(b"\n+")
        while after.startswith(b"++ "):  # the line that names the file
            more, sign, after = after.partition(b"\n+")
            before, added = before + added + more, sign
        if not added:
            raise CommandFailed(f"{self.patches[-1].name} adds no line")
        mark = f"edited {self.edits} ".encode()
        self.patches[-1].write_bytes(before + added + mark + after)

    def _restore(self) -> None:
        self.patches[-1].write_bytes(self.original)

    def _others(self) -> list[Contestant]:
        series = self.patches[0].parent
        quilt = self.place.work_tree(self.clone, f"quilt-{self.size}", self.chosen.base)
        stgit = self.place.work_tree(self.clone, f"stgit-{self.size}", self.chosen.base)
        branch = f"stgit-{self.size}"
        slow = "left out from 500 patches on: it takes a minute and more"
        slow = slow if self.size >= LONG else ""

        def begin_stgit() -> None:
            self._reset(stgit)
            self.place.git(stgit, "checkout", "--quiet", "-B", branch, self.chosen.base)
            self.place.run("env", f"--chdir={stgit}", "stg", "init")

        def end_stgit() -> None:
            self.place.run("env", f"--chdir={stgit}", "stg", "branch", "--cleanup", "--force")
            self.place.git(stgit, "checkout", "--quiet", "--detach", self.chosen.base)

        return [
            Contestant(
                "quilt push -a", [["quilt", "--quiltrc", "-", "push", "-aq"]], quilt, AM,
                lambda: self._reset(quilt),
                environment={"QUILT_PATCHES": str(series), "QUILT_PC": ".pc"},
                result=lambda: self._files(quilt), work="apply", most_runs=1,
                absent=missing("quilt", "quilt"), may_stop=True,
            ),
            Contestant(
                "stg import", [["stg", "import", "--series", series / "series"]], stgit, AM,
                begin_stgit, end_stgit, result=lambda: self._tree(stgit), work="apply",
                most_runs=1, absent=slow or stgit_is_absent(self.given), may_stop=True,
            ),
        ]  # fmt: skip

    def _rebase(self) -> list[Contestant]:
        chosen, place = self.chosen, self.place
        tree = place.work_tree(self.clone, f"rebase-{self.size}", self.tip)
        start = place.git(self.line, "rev-parse", "HEAD")
        move = [self.given.fixtool, "-C", self.line, "rebase", "--onto", chosen.onto,
                "--source", self.clone]  # fmt: skip

        def restore() -> None:
            place.git(self.line, "reset", "--quiet", "--hard", start)

        return [
            Contestant(
                REBASE, [["git", "rebase", "--quiet", "--onto", chosen.onto, chosen.base]], tree,
                before=lambda: self._reset(tree, self.tip), result=lambda: self._tree(tree),
                work="rebase",
            ),
            Contestant(
                MOVE, [move], place.folder, REBASE, both(place.empty_cache, restore), restore,
                result=self._applied, work="rebase",
            ),
        ]  # fmt: skip

    def _applied(self) -> str:
        """The tree that the rebased line makes on its new base."""
        tree = self.place.folder / f"rebased-{self.size}"
        self.place.git(self.clone, "worktree", "add", "--quiet", "--detach", tree,
                       self.chosen.onto)  # fmt: skip
        self.place.git(tree, "am", "--quiet", "--keep-cr", *series_of(self.line, "sample"))
        made = self._tree(tree)
        self.place.git(self.clone, "worktree", "remove", "--force", tree)
        return made

    def _reset(self, tree: Path, commit: str = "") -> None:
        """Bring a work tree back to ``commit`` (the base), on no branch, without other files."""
        target = commit or self.chosen.base
        self.place.git(tree, "checkout", "--quiet", "--force", "--detach", target)
        self.place.git(tree, "clean", "--quiet", "--force", "-xd")

    def _tree(self, folder: Path) -> str:
        return self.place.git(folder, "rev-parse", "HEAD^{tree}")

    def _files(self, folder: Path) -> str:
        """The tree that the files make, without quilt's own notes."""
        self.place.git(folder, "add", "--all", "--force", "--", ".", ":!.pc")
        return self.place.git(folder, "write-tree")
