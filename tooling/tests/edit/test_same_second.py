"""An edit in the second in which its work tree was made, which leaves the file as long as it was.

git knows a file by its times, in whole seconds, and by its size. It reads one that is as young as
the index. The test lets git look at nothing else, and sets the times.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.git import process
from fixtool.git.repo import Repo
from fixtool.settings import Settings
from support.repositories import Ran, Team
from support.work import Work

_SECOND = (1_700_000_000, 1_700_000_000)


@pytest.fixture
def work(
    fixtool: Callable[..., Ran],
    team: Team,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Work:
    monkeypatch.setitem(process.PINNED, "core.checkStat", "minimal")
    made = Work(fixtool, team, settings, tmp_path / "tree")
    tree, file = Repo.open(made.tree.path), made.tree.path / "README.txt"
    os.utime(file, _SECOND)
    tree.run("update-index", "--refresh")
    made.edit("read", "READ", "README.txt")
    os.utime(file, _SECOND)
    os.utime(tree.git_dir / "index", _SECOND)
    return made


def test_it_goes_into_its_patch_and_comes_back(work: Work) -> None:
    assert work.run("refresh", "read").status == 0
    assert "+READ it" in work.text("read")
    assert work.fixtool("undo", cwd=work.team.root).status == 0
    assert "+read it" in work.text("read")
    assert (work.tree.path / "README.txt").read_text() == "READ it\n"
    assert Repo.open(work.tree.path).status() == ["README.txt"]
    assert work.run("absorb").status == 0
    assert "+READ it" in work.text("read")
