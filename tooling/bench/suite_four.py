"""Suite `four`: the patches of a line of this repository, next to what `fixtool apply` replaces.

Each contestant makes a new work tree from the same objects. The clone is only read: the work trees
belong to a bare clone that borrows its objects. Taking a work tree away is not measured. Git runs
with its own defaults; fixtool checks out with one worker a core, as it does for a user. "First" is
fixtool without anything of its own; "cold" has its store, where uncompressed files lie since the
second check-out, and an empty cache.

On a disk, work trees are moved aside and removed after the last round. ext4 does not use an inode
again in the first minutes after its file was removed, and each new file searches past all of them:
a check-out right after the removal of 5,600 files took three times the CPU time in the kernel, and
each contestant paid for those before it.
"""

from __future__ import annotations

import shutil
import tomllib
from argparse import Namespace
from pathlib import Path

from place import Place, missing, temporary_place
from timing import Command, Contestant, Group, take_turns

FLOOR = "git worktree add"
AM = "git worktree add + git am"
FIRST = "fixtool apply --no-build, first"
COLD = "fixtool apply --no-build, cold"
WARM = "fixtool apply --no-build, warm"


def run(given: Namespace) -> list[Group]:
    """Apply the line in memory (tmpfs) and on disk."""
    groups = []
    for key, where, parent in (
        ("four-tmpfs", "in memory (tmpfs)", given.memory),
        ("four-disk", "on disk", given.disk),
    ):
        if (parent is None and key == "four-tmpfs") or (given.quick and key == "four-disk"):
            continue
        with temporary_place(parent, given.fixtool) as place:
            keeps = key == "four-disk"  # memory is too small for all work trees
            contestants = _FourPatches(place, given, keeps).contestants()
            for contestant in contestants:  # no target compares with the others
                if contestant.name not in (AM, FIRST, COLD, WARM):
                    contestant.most_runs = 2
            title = f"Four patches, {where}"
            groups.append(
                take_turns(key, title, contestants, place.environment, given.runs,
                           warm_up=key == "four-tmpfs" and not given.quick, limit=given.limit)
            )  # fmt: skip
    return groups


def series_of(patches: Path, line: str) -> list[Path]:
    """The patch files of a line, in order."""
    series = patches.resolve() / "patches" / line / "series"
    names = [text.split("#")[0].strip() for text in series.read_text().splitlines()]
    return [series.parent / name for name in names if name]


def line_base(given: Namespace) -> str:
    """The commit that the line ``given.line`` is written for."""
    path = given.patches / "patches" / given.line / "upstream.toml"
    return str(tomllib.loads(path.read_text())["base"])


def stgit_is_absent(given: Namespace) -> str:
    """Why StGit is not run, or an empty text if it is."""
    return "left out by --quick: it is slow" if given.quick else missing("stg", "stgit")


class _FourPatches:
    def __init__(self, place: Place, given: Namespace, keeps: bool) -> None:
        self.place = place
        self.given = given
        self.keeps = keeps
        self.kept = 0
        self.bare = place.shared_clone(given.repo)
        self.tree = place.folder / "tree"
        self.new_user = place.folder / "new-user"
        self.base = line_base(given)
        self.patches = series_of(given.patches, given.line)

    def contestants(self) -> list[Contestant]:
        tree, series = self.tree, self.patches[0].parent / "series"
        detached = self._worktree_add("--detach")
        two_workers = self._worktree_add("--detach", workers=2)
        am: Command = ["git", "-C", tree, "am", "--quiet", *self.patches]
        apply = [self.given.fixtool, "-C", self.given.patches, "apply", "--line", self.given.line,
                 "--sglang-ref", self.base, "--source", self.bare, "--no-build",
                 "--worktree", tree]  # fmt: skip
        quilt = {"QUILT_PATCHES": str(series.parent), "QUILT_PC": ".pc"}
        return [
            self._contestant(FLOOR, [detached], "base"),
            self._contestant("git worktree add, two workers", [two_workers], "base"),
            self._contestant(AM, [detached, am]),
            self._contestant("git worktree add, two workers + git am", [two_workers, am]),
            self._contestant(
                "git worktree add + quilt push -a",
                [detached, ["env", f"--chdir={tree}", "quilt", "--quiltrc", "-", "push", "-aq"]],
                environment=quilt, absent=missing("quilt", "quilt"), may_stop=True,
            ),
            self._contestant(
                "git worktree add + stg import",
                [self._worktree_add("-b", "bench"), ["env", f"--chdir={tree}", "stg", "init"],
                 ["env", f"--chdir={tree}", "stg", "import", "--series", series]],
                absent=stgit_is_absent(self.given), may_stop=True,
            ),
            self._contestant(FIRST, [apply], before=self._new_user, environment={
                "FIXTOOL_STATE_DIR": str(self.new_user / "state"),
                "FIXTOOL_CACHE_DIR": str(self.new_user / "cache"),
            }),
            self._contestant(COLD, [apply], before=self.place.empty_cache),
            self._contestant(WARM, [apply]),
        ]  # fmt: skip

    def _contestant(
        self, name: str, steps: list[Command], work: str = "series", **more: object
    ) -> Contestant:
        return Contestant(
            name, steps, self.place.folder, AM, after=self._clear, result=self._made, work=work,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def _worktree_add(self, *options: str, workers: int = 0) -> Command:
        settings = ["-c", f"checkout.workers={workers}"] if workers else []
        return ["git", *settings, f"--git-dir={self.bare}", "worktree", "add", "--quiet", *options,
                self.tree, self.base]  # fmt: skip

    def _made(self) -> str:
        """The tree that the files make, whoever committed what, without quilt's own notes."""
        self.place.git(self.tree, "add", "--all", "--force", "--", ".", ":!.pc")
        return self.place.git(self.tree, "write-tree")

    def _new_user(self) -> None:
        """Take away all that fixtool has kept of the first runs."""
        shutil.rmtree(self.new_user, ignore_errors=True)

    def _clear(self) -> None:
        """Take the work tree away, with git's notes of it and its branches."""
        if self.keeps and self.tree.exists():
            self.kept += 1
            self.tree.rename(self.place.folder / f"kept-{self.kept}")
        shutil.rmtree(self.tree, ignore_errors=True)
        for repo in (self.bare, *self.place.state.glob("repos/*.git")):
            self.place.git(repo, "worktree", "prune")
            refs = self.place.git(
                repo, "for-each-ref", "--format=delete %(refname)", "refs/heads/bench*",
                "refs/heads/fixtool", "refs/patches", "refs/stacks",
            )  # fmt: skip
            commands = f"{refs}\n" if refs else ""
            self.place.run("git", "-C", repo, "update-ref", "--stdin", stdin=commands.encode())
        config = self.bare / "config"
        config.write_text(config.read_text().split('[branch "bench')[0])
