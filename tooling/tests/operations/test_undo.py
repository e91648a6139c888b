"""Each verb that changes something is taken back by `undo`, and done again by `redo`: bytes, refs,
work trees and what waits for a person.

A new verb needs one line in ``VERBS``: its words, and, where it needs more than the series of
``place``, a function that prepares it. It is run, taken back, done again, and taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtool.commands import verbs
from support.operations import Place, make_place
from support.rebase import FIVE, FIVE_AND_TWENTY, rewrite
from support.repositories import NUMBERS, Ran, Team

TWO = FIVE.replace("line 30\n", "line 30 fixed\n")
RESOLVED = NUMBERS.replace("line 5\n", "line V fixed\n")


def no_preparation(_: Place) -> None:
    """Most verbs need the series alone."""


def upstream_goes_on(place: Place) -> None:
    rewrite(place.maintainer.upstream)


def rebase_waits(place: Place) -> None:
    upstream_goes_on(place)
    place.done("rebase", "--onto", "main", status=3)


def rebase_is_resolved(place: Place) -> None:
    rebase_waits(place)
    (tree,) = place.state.glob("worktrees/*/rebase-main")
    (tree / "python/model.py").write_text(RESOLVED)


def work_tree(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)


def work_tree_with_a_commit(place: Place) -> None:
    work_tree(place)
    place.tree.write("python/other.py", "alpha\nbeta?\ngamma\n")
    place.tree("commit", "--quiet", "--all", "--message", "ask beta\n\nWhy.")


def a_file_to_import(place: Place) -> None:
    text = NUMBERS.replace("line 30\n", "line 30 fixed\n")
    upstream = place.maintainer.upstream
    upstream("checkout", "--quiet", "--detach", "v1.0")
    upstream.commit("fix thirty", python__model_py=text)
    (place.folder / "thirty.diff").write_text(upstream("diff", "HEAD^", "HEAD") + "\n")
    upstream("checkout", "--quiet", "main")


def a_file_that_conflicts(place: Place) -> None:
    upstream = place.maintainer.upstream
    upstream("checkout", "--quiet", "--detach", "v1.0")
    upstream.commit("theirs", python__model_py=NUMBERS.replace("line 5\n", "line five\n"))
    (place.folder / "theirs.diff").write_text(upstream("diff", "HEAD^", "HEAD") + "\n")
    upstream("checkout", "--quiet", "main")


def import_is_resolved(place: Place) -> None:
    a_file_that_conflicts(place)
    place.done("import", place.folder / "theirs.diff", "--3way", status=3)
    (tree,) = place.state.glob("worktrees/*/import-main")
    text = FIVE_AND_TWENTY.replace("line 5 fixed\n", "line five fixed\n")
    (tree / "python/model.py").write_text(text)


def work_tree_with_edits(place: Place) -> None:
    work_tree(place)
    text = FIVE_AND_TWENTY.replace("line 5 fixed\n", "line 5 mended\n")
    place.tree.write("python/model.py", text)


def edits_below(place: Place) -> None:
    """Edits of lines of a later patch, which are to go into an earlier one."""
    work_tree(place)
    text = FIVE_AND_TWENTY.replace("line 20 fixed\n", "line 20 mended\n")
    place.tree.write("python/model.py", text)


def refresh_is_resolved(place: Place) -> None:
    edits_below(place)
    place.done("refresh", "five", "--worktree", place.tree.path, status=3)
    (tree,) = place.state.glob("worktrees/*/edit-main")
    (tree / "python/model.py").write_text(FIVE.replace("line 20\n", "line 20, half\n"))


def two_hunks(place: Place) -> None:
    maintainer = place.maintainer
    files = maintainer.folder
    raw = maintainer.team.patch("both", "fix two", python__model_py=TWO)
    (files / "five.patch").write_bytes(raw)
    (files / "both.patch").unlink()
    (files / "twenty.patch").unlink()
    (files / "series").write_text("other.patch\nfive.patch\n")
    maintainer.save()


def edit_is_made(place: Place) -> None:
    place.run("edit", "five")
    (tree,) = place.state.glob("worktrees/*/edit-main")
    text = (tree / "python/model.py").read_text()
    (tree / "python/model.py").write_text(text.replace("line 5 fixed", "line 5 mended"))


def second_line(place: Place) -> None:
    place.maintainer.team.line("second")
    place.maintainer.save()


def other_is_on_the_shelf(place: Place) -> None:
    place.done("drop", "other", "--reason", "unused")


def upstream_merged_a_patch(place: Place) -> None:
    place.maintainer.upstream.commit("fix five, and twenty", python__model_py=FIVE_AND_TWENTY)


def clone(place: Place) -> None:
    upstream = place.maintainer.upstream
    upstream("clone", "--quiet", str(upstream.path), str(place.folder / "clone"))


@dataclass(frozen=True)
class Verb:
    """The words of a command (``{}`` is the folder around all), its exit code, and what it needs."""

    words: str
    prepare: Callable[[Place], None] = no_preparation
    status: int = 0


VERBS = {
    "drop": Verb("drop other --reason unused"),
    "split": Verb("split five --into low=python/model.py:1", two_hunks),
    "new": Verb("new empty -m empty"),
    "new of edits": Verb("new fresh -m fresh --worktree {}/tree", work_tree_with_edits),
    "edit that stops": Verb("edit five"),
    "edit --continue": Verb("edit --continue", edit_is_made),
    "edit --abort": Verb("edit --abort", edit_is_made),
    "move": Verb("move other --after twenty"),
    "rename": Verb("rename other beta"),
    "reword": Verb("reword other -m other-words"),
    "reword, not committed": Verb("reword other -m other-words --no-commit"),
    "squash": Verb("squash five twenty"),
    "copy": Verb("copy other --line main --to second", second_line),
    "restore": Verb("restore other", other_is_on_the_shelf),
    "rebase": Verb("rebase --onto v1.1 --source {}/upstream"),
    "rebase to a new line": Verb("rebase --onto v1.1 --new-line next"),
    "rebase that stops": Verb("rebase --onto main", upstream_goes_on, status=3),
    "rebase --continue": Verb("rebase --continue", rebase_is_resolved),
    "rebase --skip": Verb("rebase --skip", rebase_waits),
    "rebase --abort": Verb("rebase --abort", rebase_is_resolved),
    "import": Verb("import {}/thirty.diff", a_file_to_import),
    "apply": Verb("apply --no-build --worktree {}/tree-new"),
    "apply that moves": Verb("apply --ref v1.1 --no-build --worktree {}/tree", work_tree),
    "apply --into": Verb("apply --into {}/clone --ref v1.0 --no-build", clone),
    "export": Verb("export --worktree {}/tree", work_tree_with_a_commit),
    "refresh": Verb("refresh --worktree {}/tree", work_tree_with_a_commit),
    "export --no-commit": Verb("export --worktree {}/tree --no-commit", work_tree_with_a_commit),
    "refresh of edits": Verb("refresh five --worktree {}/tree", work_tree_with_edits),
    "refresh that stops": Verb("refresh five --worktree {}/tree", edits_below, status=3),
    "refresh --continue": Verb("refresh --continue", refresh_is_resolved),
    "refresh --abort": Verb("refresh --abort", refresh_is_resolved),
    "absorb": Verb("absorb --worktree {}/tree", work_tree_with_edits),
    "import that stops": Verb("import {}/theirs.diff --3way", a_file_that_conflicts, status=3),
    "import --continue": Verb("import --continue", import_is_resolved),
    "import --abort": Verb("import --abort", import_is_resolved),
    "history --record": Verb("history --record --to main", upstream_merged_a_patch),
    "init of a line": Verb("init {}/team --upstream {}/upstream --base v1.1 --line second"),
}

NOT_RECORDED = {
    "announce", "build", "clean", "coverage", "deps", "diff", "lint", "list", "log", "redo", "report",
    "show", "status", "undo", "verify",
}  # fmt: skip
BEYOND_THE_LOG = {"install", "uninstall", "upstream"}  # an installed package, and what was pushed


def test_every_verb_is_in_one_of_the_tables() -> None:
    taken_back = {verb.words.split()[0] for verb in VERBS.values()}
    assert taken_back | NOT_RECORDED | BEYOND_THE_LOG == set(verbs.VERBS)


@pytest.fixture
def place(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(fixtool, team, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", VERBS)
def test_undo_and_redo(place: Place, name: str) -> None:
    verb = VERBS[name]
    verb.prepare(place)
    words = [word.replace("{}", str(place.folder)) for word in verb.words.split()]
    before = place.snapshot()
    given = [] if words[0] == "init" else ["-C", str(place.maintainer.team.root)]
    ran = place.maintainer.fixtool(*words, *given)
    assert ran.status == verb.status, ran.out + ran.err
    after = place.snapshot()
    assert after != before
    for wanted, command in ((before, "undo"), (after, "redo"), (before, "undo")):
        ran = place.run(command)
        assert (ran.status, ran.err) == (0, "")
        found = place.snapshot()
        for key in {*wanted, *found}:
            assert found.get(key) == wanted.get(key), f"{command}: {key}"
