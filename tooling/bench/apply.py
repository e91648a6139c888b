"""How long `fixtool apply` takes, next to what it replaces. Run by hand:

    python tooling/bench/apply.py --repo /path/to/clone-of-sglang [--runs 5] [--json FILE]

All contestants take turns (A B C … A B C …) in one run, each from the same objects to a new work
tree on the same file system, process start-up included, page cache warm. Taking a work tree away
is not timed. The clone is only read: the work trees belong to a `git clone --shared` of it. The
contestants that make a tree must make the same one. Git runs with its own defaults; fixtool checks
out with one worker a core, as it does for a user.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_AM = "git worktree add + git am"
_TYPER = "python -c 'import typer'"
_TARGETS = [
    ("fixtool apply, no prefix cache", _AM, 0.9),
    ("fixtool apply, prefix cache", _AM, 0.7),
    ("fixtool --version", _TYPER, 1.3),
]


@dataclass
class Contestant:
    """``steps`` are timed together; ``before`` is not. ``tree`` says that it makes a work tree."""

    name: str
    steps: Sequence[Sequence[str | Path]]
    before: Callable[[], None] = lambda: None
    tree: bool = True
    seconds: list[float] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Arena:
    """A bare shared clone, a place for work trees, and fixtool's state, in one temporary folder."""

    def __init__(self, place: Path, given: argparse.Namespace) -> None:
        self.bare = place / "sglang.git"
        self.tree = place / "tree"
        self.cache = place / "cache"
        self.environment = _environment(place)
        self._run(["git", "clone", "--quiet", "--shared", "--bare", given.repo.resolve(),
                   self.bare])  # fmt: skip
        series = _line(given.patches, given.line)
        self.base = _base(series.parent)
        self._given = given
        self._series = series
        self._patches = [
            series.parent / name
            for text in series.read_text().splitlines()
            if (name := text.split("#")[0].strip())
        ]

    def contestants(self) -> list[Contestant]:
        git, tree, series = ["git", "-C", self.tree], self.tree, self._series
        detached = ["git", f"--git-dir={self.bare}", "worktree", "add", "--quiet", "--detach",
                    tree, self.base]  # fmt: skip
        branch = ["git", f"--git-dir={self.bare}", "worktree", "add", "--quiet", "-b", "bench",
                  tree, self.base]  # fmt: skip
        fixtool: Path = self._given.fixtool
        python = fixtool.with_name("python")
        apply = [fixtool, "-C", self._given.patches, "apply", "--line", series.parent.name,
                 "--sglang-ref", self.base, "--source", self.bare, "--no-build",
                 "--worktree", tree]  # fmt: skip
        return [
            Contestant("git worktree add", [detached]),
            Contestant(_AM, [detached, [*git, "am", "--quiet", *self._patches]]),
            Contestant(
                "git worktree add + quilt push -a",
                [detached, ["quilt", "--quiltrc", "-", "push", "-a", "-q"]],
            ),
            Contestant(
                "git worktree add + stg import",
                [branch, ["stg", "init"],
                 ["stg", "import", "--series", series]],
            ),
            Contestant("fixtool apply, no prefix cache", [apply], self._empty_cache),
            Contestant("fixtool apply, prefix cache", [apply]),
            Contestant("fixtool --version", [[fixtool, "--version"]], tree=False),
            Contestant(_TYPER, [[python, "-c", "import typer"]], tree=False),
            Contestant("python -c pass", [[python, "-c", "pass"]], tree=False),
        ]  # fmt: skip

    def time(self, one: Contestant) -> float:
        one.before()
        start = time.perf_counter()
        for step in one.steps:
            self._run(step, at=self.tree if step[0] in ("quilt", "stg") else self.bare)
        seconds = time.perf_counter() - start
        if one.tree:
            one.made.add(self._made())
            self._clear()
        return seconds

    def _made(self) -> str:
        """The tree that the files make, whoever committed what; quilt's own notes aside."""
        self._git("add", "--all", "--force", "--", ".", ":!.pc")
        return self._git("write-tree")

    def _clear(self) -> None:
        shutil.rmtree(self.tree)
        for place in (self.bare, *(self.bare.parent / "state" / "repos").glob("*.git")):
            self._run(["git", f"--git-dir={place}", "worktree", "prune"], at=place)
            for ref in self._run(
                ["git", f"--git-dir={place}", "for-each-ref", "--format=%(refname)",
                 "refs/heads/bench*", "refs/heads/fixtool", "refs/patches", "refs/stacks"],
                at=place,
            ).split():  # fmt: skip
                self._run(["git", f"--git-dir={place}", "update-ref", "-d", ref], at=place)
        if (stacks := self.bare / "config").exists():
            text = stacks.read_text()
            stacks.write_text(text.split('[branch "bench')[0])

    def _empty_cache(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)

    def _git(self, *args: str) -> str:
        return self._run(["git", "-C", self.tree, *args], at=self.tree)

    def _run(self, command: Sequence[str | Path], at: Path | None = None) -> str:
        env = self.environment
        if command[0] == "quilt":
            env = {**env, "QUILT_PATCHES": str(self._series.parent), "QUILT_PC": ".pc"}
        done = subprocess.run(
            command, env=env, cwd=at, text=True, stdin=subprocess.DEVNULL,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stderr}")
        return done.stdout.strip()


def main() -> None:
    given = _arguments()
    lacking = {"quilt": "quilt", "stg": "stgit"}
    if missing := [package for tool, package in lacking.items() if not shutil.which(tool)]:
        sys.exit(f"not installed: {', '.join(missing)}; apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="fixtool-bench-", dir=given.tmp) as folder:
        arena = Arena(Path(folder), given)
        contestants = arena.contestants()
        for number in range(given.runs + 1):
            for one in contestants:
                seconds = arena.time(one)
                if number:  # the first round warms the page cache and fixtool's store
                    one.seconds.append(seconds)
                print(f"{number}/{given.runs} {one.name}: {seconds:.3f}", file=sys.stderr)
    failed = _report(contestants)
    if given.json:
        given.json.write_text(json.dumps(_body(arena.base, contestants), indent=2) + "\n")
    sys.exit(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repo", type=Path, required=True, help="a clone with SGLang's history")
    parser.add_argument("--line", default="b0ce16d0c")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--patches", type=Path, default=_ROOT, help="the patch repository")
    parser.add_argument("--fixtool", type=Path, default=Path(sys.executable).with_name("fixtool"))
    parser.add_argument("--tmp", type=Path, help="where the trees go (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _line(patches: Path, name: str) -> Path:
    series = patches.resolve() / "patches" / name / "series"
    if not series.exists():
        sys.exit(f"there is no {series}")
    return series


def _base(line: Path) -> str:
    import tomllib

    return str(tomllib.loads((line / "upstream.toml").read_text())["base"])


def _report(contestants: Sequence[Contestant]) -> int:
    named = {one.name: one for one in contestants}
    print(f"{'median of ' + str(len(contestants[0].seconds)):36} seconds    min    max  of am")
    for one in contestants:
        ratio = one.median / named[_AM].median
        low, high = min(one.seconds), max(one.seconds)
        print(f"{one.name:36} {one.median:7.3f} {low:6.3f} {high:6.3f}  {ratio:5.2f}")
    failed = 0
    for name, against, most in _TARGETS:
        ratio = named[name].median / named[against].median
        verdict = "met" if ratio <= most else "MISSED"
        failed |= ratio > most
        print(f"target: {name}, at most {most} of {against}: {verdict} ({ratio:.2f})")
    bare, *series = (one for one in contestants if one.tree)
    trees = set().union(*(one.made for one in series))
    if len(trees) != 1 or trees & bare.made:
        print("UNEQUAL trees:", {one.name: sorted(one.made) for one in series})
        return 2
    print(f"equal trees: {trees.pop()}")
    return failed


def _body(base: str, contestants: Sequence[Contestant]) -> Mapping[str, object]:
    rows = [
        {"name": one.name, "median": one.median, "seconds": one.seconds, "trees": sorted(one.made)}
        for one in contestants
    ]
    return {"base": base, "cores": os.cpu_count(), "contestants": rows}


def _environment(place: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    identity = {"NAME": "A Person", "EMAIL": "person@example.org"}
    return {
        **kept,
        **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "FIXTOOL_STATE_DIR": str(place / "state"),
        "FIXTOOL_CACHE_DIR": str(place / "cache"),
    }


if __name__ == "__main__":
    main()
