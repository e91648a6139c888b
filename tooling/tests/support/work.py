"""A work tree of a line in which a person edits files, and what the tests ask of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fixtool.settings import Settings
from support.editing import is_well_formed, make_worktree
from support.repositories import NUMBERS, TRAILERS, Git, Ran, Team

WHY = f"Why.\n\n{TRAILERS}"
FIVE = NUMBERS.replace("line 5\n", "line five\n")
NEXT = FIVE.replace("line 6\n", "line six\n")
THIRTY = NEXT.replace("line 30\n", "line thirty\nline thirty and a half\n")


class Work:
    """A work tree of a line with the patches `five`, `six`, which changes the line after it,
    `thirty`, and `read`."""

    def __init__(
        self, fixtool: Callable[..., Ran], team: Team, settings: Settings, place: Path
    ) -> None:
        team.patch("five", "model: say five", python__model_py=FIVE, docs__five_txt="five\n")
        team.patch("six", "model: say six", "patch/five", python__model_py=NEXT)
        team.patch("thirty", "model: say thirty", "patch/six", python__model_py=THIRTY)
        team.patch("read", "docs: read", "patch/thirty", README_txt="read it\n")
        self.fixtool, self.team, self.git = fixtool, team, team.track()
        self.settings = settings
        self.folder = team.root / "patches" / "main"
        self.tree = self.worktree(place)

    def worktree(self, place: Path) -> Git:
        return make_worktree(self.team, self.settings, place)

    def run(self, *words: str) -> Ran:
        return self.fixtool(*words, "--worktree", self.tree.path, cwd=self.team.root)

    def edit(self, old: str, new: str, path: str = "python/model.py") -> None:
        file = self.tree.path / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def text(self, slug: str) -> str:
        return (self.folder / f"{slug}.patch").read_text()

    def state(self) -> tuple[dict[str, str], dict[str, str]]:
        """All that a command may change in the work tree and in the patch repository."""
        found = self.git.snapshot()
        found.pop("patches/.lock", None)
        return self.tree.snapshot(), found

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.iterdir()}

    def is_sound(self, *, clean: bool = True) -> bool:
        """Whether the line is well formed and committed, and makes the tree of the work tree."""
        print(self.tree("status"))
        other = self.worktree(self.team.root.parent / f"other-{self.git.head()[:6]}")
        same = other("rev-parse", "HEAD^{tree}") == self.tree("rev-parse", "HEAD^{tree}")
        is_clean = self.tree("status", "--porcelain") == ""
        return is_well_formed(self.fixtool, self.team) and same and (is_clean or not clean)
