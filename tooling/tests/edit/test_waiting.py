"""While a command waits for a person in a line, no other command changes that line: what the person
makes is for the line as it was. A change that comes in by git is told by `--continue`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtool.commands import verbs
from support.operations import Place, make_place
from support.rebase import FIVE_AND_TWENTY, rewrite
from support.repositories import NUMBERS, Ran, Team

VERBS = {
    "absorb": "absorb --worktree {}/tree",
    "copy": "copy other --line second --to main",
    "drop": "drop twenty --reason unused",
    "edit": "edit five",
    "export": "export --worktree {}/tree",
    "history": "history --record --to v1.1",
    "import": "import {}/beta.diff",
    "move": "move other --after twenty",
    "new": "new empty -m empty",
    "rebase": "rebase --onto v1.1",
    "refresh": "refresh five --worktree {}/tree",
    "rename": "rename other beta",
    "restore": "restore shelved",
    "reword": "reword other -m other-words",
    "split": "split five --by file",
    "squash": "squash five twenty",
    "upstream": "upstream five --send",
}
DRY_RUNS = (VERBS["move"], VERBS["drop"], VERBS["refresh"])
CHANGE_NO_LINE = {
    "announce", "apply", "build", "clean", "coverage", "deps", "diff", "init", "install", "lint",
    "list", "log", "redo", "report", "show", "status", "undo", "uninstall", "verify",
}  # fmt: skip


@dataclass(frozen=True)
class Waiting:
    """How a command begins to wait in the line ``main``: its words, its exit code, the name of its
    session, and what the refusal of another verb calls it. ``resolved`` is what a person makes of
    the file there."""

    words: str
    status: int
    verb: str
    what: str
    resolved: str


WAITING = {
    "edit": Waiting(
        "edit five", 0, "edit", "an edit of", NUMBERS.replace("line 5\n", "line V\n")
    ),
    "import": Waiting(
        "import {}/theirs.diff --3way", 3, "import", "an import into",
        FIVE_AND_TWENTY.replace("line 5 fixed\n", "line five fixed\n"),
    ),
    "rebase": Waiting(
        "rebase --onto main", 3, "rebase", "a rebase of",
        NUMBERS.replace("line 5\n", "line V fixed\n"),
    ),
}  # fmt: skip


def test_every_verb_is_in_one_of_the_tables() -> None:
    assert VERBS.keys() | CHANGE_NO_LINE == set(verbs.VERBS)
    assert not VERBS.keys() & CHANGE_NO_LINE


@pytest.fixture
def place(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """The place, with a second line, a work tree with edits, and files to import."""
    place = make_place(fixtool, team, tmp_path, monkeypatch)
    place.done("drop", "other", "--reason", "unused")
    (team.root / "patches/main/shelf/shelved.patch").write_bytes(
        (team.root / "patches/main/shelf/other.patch").read_bytes()
    )
    toml = team.root / "patches/main/shelf.toml"
    entry = toml.read_text().partition("[[patch]]")[2].replace('"other"', '"shelved"')
    toml.write_text(f"{toml.read_text()}\n[[patch]]{entry}")
    place.maintainer.save()
    place.done("restore", "other", "--before", "five")
    shutil.copytree(team.root / "patches/main", team.root / "patches/second")
    place.maintainer.save()
    upstream = team.upstream
    upstream("checkout", "--quiet", "--detach", "v1.0")
    upstream.commit("theirs", python__model_py=NUMBERS.replace("line 5\n", "line five\n"))
    (place.folder / "theirs.diff").write_text(upstream("diff", "HEAD^", "HEAD") + "\n")
    upstream.commit("beta", docs__beta_txt="beta\n")
    (place.folder / "beta.diff").write_text(upstream("diff", "HEAD^", "HEAD") + "\n")
    upstream("checkout", "--quiet", "main")
    rewrite(upstream)
    place.done("apply", "--line", "main", "--no-build", "--worktree", place.tree.path)
    place.tree.write("python/model.py", FIVE_AND_TWENTY.replace("line 5 fixed", "line 5 mended"))
    return place


def words_of(place: Place, text: str) -> list[str]:
    words = [word.replace("{}", str(place.folder)) for word in text.split()]
    named = any(option in words for option in ("--line", "--worktree"))
    return words if named else [*words, "--line", "main"]


def begin(place: Place, waiting: Waiting) -> Path:
    """Let it begin to wait. Returns the folder of its work tree."""
    place.done(*words_of(place, waiting.words), status=waiting.status)
    (tree,) = place.state.glob(f"worktrees/*/{waiting.verb}-main")
    return tree


@pytest.mark.parametrize("name", WAITING)
def test_a_line_in_which_something_waits(place: Place, name: str) -> None:
    waiting = WAITING[name]
    folder = begin(place, waiting)
    before = place.snapshot()
    for verb, text in VERBS.items():
        ran = place.run(*words_of(place, text))
        assert ran.status == 1, (verb, ran.out, ran.err)
        assert f"{waiting.what} line main waits" in ran.err, (verb, ran.err)
        assert str(folder) in ran.err
        assert "--continue" in ran.err
    assert place.snapshot() == before
    for text in DRY_RUNS:
        place.done(*words_of(place, f"{text} --dry-run"))
    place.done("move", "other", "--after", "twenty", "--line", "second")
    what_came_in_by_git_is_told(place, waiting, folder)
    place.done(waiting.verb, "--abort", "--line", "main")
    place.done("move", "other", "--after", "twenty", "--line", "main")
    shutil.rmtree(begin(place, waiting))  # a work tree that is gone keeps nobody waiting
    place.done("move", "other", "--before", "five", "--line", "main")


def what_came_in_by_git_is_told(place: Place, waiting: Waiting, folder: Path) -> None:
    """A resolution is a whole tree. A rebase that went on with it took back, exit 0, what a
    teammate had put into an earlier patch meanwhile."""
    (folder / "python/model.py").write_text(waiting.resolved)
    other = place.maintainer.folder / "other.patch"
    other.write_bytes(other.read_bytes().replace(b"+beta!", b"+beta, and more!"))
    place.maintainer.save()
    before = place.snapshot()
    ran = place.run(waiting.verb, "--continue", "--line", "main")
    assert (ran.status, "line main has changed since" in ran.err) == (1, True), ran.err
    assert "--abort --line main" in ran.err
    assert place.snapshot() == before
