"""SIGKILL at random moments of a rebase, and of its continuation: nothing is lost.

FIXTOOL_KILLS says how many moments (6 by default; 200 were tried by hand).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.command import command_line
from support.processes import wait_until_gone
from support.rebase import REWRITTEN, Maintainer, rewrite

KILLS = int(os.environ.get("FIXTOOL_KILLS", "6"))


@pytest.fixture
def rebasing(maintainer: Maintainer) -> Maintainer:
    """A maintainer whose upstream took one patch and moved the lines of another."""
    team = maintainer.team
    team.patch("readme", "read it", README_txt="read it\n")
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    team.upstream.commit("take the readme", README_txt="read it\n")
    team.upstream.commit("shift", python__other_py="zero\nalpha\nbeta\ngamma\n")
    return maintainer


def begin(maintainer: Maintainer, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_line("rebase", *words, "-C", maintainer.team.root),
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


@pytest.mark.slow(8)
@pytest.mark.parametrize("what", ["rebase", "continue"])
def test_killed_at_random_moments(
    rebasing: Maintainer, tmp_path: Path, home: Path, what: str
) -> None:
    draw = random.Random(what)
    words = ["--onto", "main", "--source", str(rebasing.upstream.path)]
    if what == "continue":
        rewrite(rebasing.upstream)
        assert rebasing.run("rebase", *words).status == 3
        (tree,) = (home / "state" / "worktrees").glob("*/rebase-main")
        (tree / "python/model.py").write_text(REWRITTEN.replace("line V\n", "line V fixed\n"))
        words = ["--continue"]
    copies = {rebasing.team.root: tmp_path / "team-copy", home / "state": tmp_path / "state-copy"}
    for folder, copy in copies.items():
        if folder.exists():
            shutil.copytree(folder, copy, symlinks=True)

    def restore() -> None:
        for folder, copy in copies.items():
            shutil.rmtree(folder, ignore_errors=True)
            if copy.exists():
                shutil.copytree(copy, folder, symlinks=True)

    old = rebasing.files()
    begun = time.monotonic()
    assert begin(rebasing, *words).wait() == 0
    whole = time.monotonic() - begun
    new = rebasing.files()
    assert new != old
    died = 0
    while died < KILLS // 2:
        restore()
        moment, process = draw.uniform(0, whole), begin(rebasing, *words)
        if kill(process, moment, git_too=draw.random() < 0.5):
            died += 1
        else:
            whole = moment  # the machine is faster than it was at the first run
        assert rebasing.files() in (old, new)
        wait_until_gone(process.pid)  # a git that outlives fixtool ends by itself
        again = rebasing.run("rebase", *words)
        if again.status == 2:
            assert what == "continue"  # it was killed after its work, before it ended
            assert "no rebase waits" in again.err
        else:
            assert again.status == 0, again.err
        assert rebasing.files() == new
        assert rebasing.git("status", "--porcelain") == ""
        assert rebasing.git("rev-list", "--count", "HEAD") == "2"
        assert not list((home / "state" / "worktrees").glob("*/rebase-main"))
