"""A patch repository whose commands are taken back, and all that they may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.rebase import FIVE, FIVE_AND_TWENTY, OTHER, Maintainer
from support.repositories import Git, Ran, Team


@dataclass(frozen=True)
class Place:
    """A patch repository in git with a series of three, a work tree of it, and the state folder."""

    maintainer: Maintainer
    folder: Path
    state: Path

    @property
    def tree(self) -> Git:
        return Git(self.folder / "tree")

    def run(self, *words: str | Path) -> Ran:
        return self.maintainer.run(*words)

    def done(self, *words: str | Path, status: int = 0) -> None:
        ran = self.run(*words)
        assert ran.status == status, ran.out + ran.err

    def snapshot(self) -> dict[str, Any]:
        """All that a command may change."""
        found: dict[str, Any] = dict(self.maintainer.git.snapshot())
        found.pop("patches/.lock", None)
        for file in sorted(self.state.glob("*/*.json")):
            found[str(file)] = file.read_bytes()
        trees = [
            *self.state.glob("worktrees/*/*"),
            *self.folder.glob("tree*"),
            self.folder / "clone",
        ]
        for tree in sorted(path for path in trees if (path / ".git").exists()):
            git = Git(tree)
            found[str(tree)] = {
                path: (tree / path).read_bytes()
                for path in git("ls-files", "--cached", "--others").split("\n")
                if (tree / path).is_file()
            }
            found[f"{tree} index"] = git("ls-files", "--stage")
            found[f"{tree} status"] = git("status", "--porcelain")
            found[f"{tree} head"] = git("symbolic-ref", "-q", "HEAD", check=False), git.head()
            git_dir = Path(git("rev-parse", "--absolute-git-dir"))
            for name in ("fixtool.json", "CHERRY_PICK_HEAD", "MERGE_MSG", "MERGE_RR"):
                if (git_dir / name).is_file():
                    found[f"{tree} {name}"] = (git_dir / name).read_bytes()
        return found


def make_place(
    fixtool: Callable[..., Ran], team: Team, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """The place in ``folder``, with upstream's repository as the source."""
    monkeypatch.setenv("FIXTOOL_SOURCE", str(team.upstream.path))
    return fill(fixtool, team, folder)


def fill(fixtool: Callable[..., Ran], team: Team, folder: Path) -> Place:
    """The place in ``folder``. Upstream has gone on by one commit, v1.1, without a conflict."""
    maintainer = Maintainer(fixtool, team)
    maintainer.track()
    team.upstream.commit("go on", README_txt="read me more\n")
    team.upstream("tag", "v1.1")
    team.patch("other", "change beta", python__other_py=OTHER)
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("twenty", "fix twenty", base="patch/five", python__model_py=FIVE_AND_TWENTY)
    maintainer.save()
    return Place(maintainer, folder, folder / "home" / "state")
