"""SIGKILL at random moments of a rebase, and of going on with one: nothing is lost, nobody cleans up.

FIXTOOL_KILLS says how many moments (20 by default; 200 were tried by hand).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repositories import NUMBERS, Git, Ran, Team

Run = Callable[..., Ran]

KILLS = int(os.environ.get("FIXTOOL_KILLS", "20"))
FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")


def lines(root: Path) -> dict[str, bytes]:
    folder = root / "patches" / "main"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def night(team: Team, fixtool: Run) -> Team:
    """A patch repository in git, and an upstream that took one patch and rewrote another's place."""
    git = Git(team.root)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    git.write(".gitignore", "patches/.lock\n")
    team.patch("readme", "read it", README_txt="read it\n")
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py="alpha\nbeta!\ngamma\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "save")
    team.upstream.commit("take the readme", README_txt="read it\n")
    team.upstream.commit("shift", python__other_py="zero\nalpha\nbeta\ngamma\n")
    return team


def begin(team: Team, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fixtool", "rebase", *words, "-C", str(team.root)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes], after: float, *, git_too: bool) -> bool:
    """Whether it still ran. With ``git_too`` its git dies with it, as when a machine goes down."""
    time.sleep(after)
    running = process.poll() is None
    if running and git_too:
        os.killpg(process.pid, signal.SIGKILL)
    elif running:
        process.kill()
    process.wait()
    return running


@pytest.mark.parametrize("what", ["rebase", "continue"])
def test_killed_at_random_moments(
    night: Team, fixtool: Run, tmp_path: Path, home: Path, what: str
) -> None:
    draw = random.Random(what)
    onto = ["--onto", "main", "--source", str(night.upstream.path)]
    if what == "continue":
        rewritten = NUMBERS.replace("line 5\n", "line V\n")
        night.upstream.commit("rewrite", python__model_py=rewritten)
        asked = fixtool("rebase", *onto, "-C", night.root)
        assert asked.status == 3
        (tree,) = (home / "state" / "worktrees").glob("*/rebase-main")
        (tree / "python/model.py").write_text(rewritten.replace("line V\n", "line V fixed\n"))
    words = onto if what == "rebase" else ["--continue"]
    places = [night.root, home / "state"]
    kept = [tmp_path / "kept" / str(number) for number in range(len(places))]
    for place, copy in zip(places, kept, strict=True):
        if place.exists():
            shutil.copytree(place, copy, symlinks=True)

    def restore() -> None:
        for place, copy in zip(places, kept, strict=True):
            shutil.rmtree(place, ignore_errors=True)
            if copy.exists():
                shutil.copytree(copy, place, symlinks=True)

    old = lines(night.root)
    begun = time.monotonic()
    assert begin(night, *words).wait() == 0
    whole = time.monotonic() - begun
    new = lines(night.root)
    assert new != old
    died = 0
    for _ in range(KILLS // 2):
        restore()
        git_too = draw.random() < 0.5
        died += kill(begin(night, *words), draw.uniform(0, whole), git_too=git_too)
        assert lines(night.root) in (old, new)
        if git_too:
            time.sleep(0.05)
        else:
            time.sleep(0.3)  # a git that outlives it ends by itself
        again = fixtool("rebase", *words, "-C", night.root)
        if again.status == 2:
            assert what == "continue"  # it was over, but for the last word
            assert "no rebase is parked" in again.err
        else:
            assert again.status == 0, again.err
        assert lines(night.root) == new
        git = Git(night.root)
        assert git("status", "--porcelain") == ""
        assert git("rev-list", "--count", "HEAD") == "2"
        assert not list((home / "state" / "worktrees").glob("*/rebase-main"))
    assert died > KILLS // 6, "most runs ended before they were killed"
