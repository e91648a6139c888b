"""A work tree that was removed by hand never blocks its place, nor the command that waited there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.operations import Place, make_place
from support.rebase import rewrite
from support.repositories import NUMBERS, Ran, Team


@pytest.fixture
def place(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(fixtool, team, tmp_path, monkeypatch)


def conflicting(place: Place) -> Path:
    upstream = place.maintainer.upstream
    rewrite(upstream)
    upstream("checkout", "--quiet", "--detach", "v1.0")
    upstream.commit("theirs", python__model_py=NUMBERS.replace("line 5\n", "line five\n"))
    (place.folder / "theirs.diff").write_text(upstream("diff", "HEAD^", "HEAD") + "\n")
    upstream("checkout", "--quiet", "main")
    return place.folder / "theirs.diff"


VERBS = {
    "apply": ("apply --no-build", 0),
    "apply --worktree": ("apply --no-build --worktree {}/tree", 0),
    "rebase": ("rebase --onto main", 3),
    "import": ("import {}/theirs.diff --3way", 3),
    "edit": ("edit five", 0),
}


def _tree(place: Place) -> None:
    for tree in [*place.state.glob("worktrees/*/*"), place.folder / "tree"]:
        shutil.rmtree(tree, ignore_errors=True)


def _all_trees(place: Place) -> None:
    shutil.rmtree(place.state / "worktrees", ignore_errors=True)
    shutil.rmtree(place.folder / "tree", ignore_errors=True)


def _tree_and_stores(place: Place) -> None:
    _tree(place)
    shutil.rmtree(place.state / "repos")


def _half_of_the_tree(place: Place) -> None:
    """The link to the store is there, and the entry there says that it is locked, as that of a
    killed run does."""
    _tree(place)
    for entry in place.state.glob("repos/*/worktrees/*"):
        (entry / "locked").write_text("initializing\n")
        (entry / "index.lock").write_text("")


@pytest.mark.parametrize("remove", [_tree, _all_trees, _tree_and_stores, _half_of_the_tree])
@pytest.mark.parametrize("verb", VERBS)
def test_the_same_command_again(place: Place, verb: str, remove: Callable[[Place], None]) -> None:
    words, status = VERBS[verb]
    conflicting(place)
    command = words.replace("{}", str(place.folder)).split()
    place.done(*command, status=status)
    remove(place)
    place.done(*command, status=status)
    trees = [*place.state.glob("worktrees/*/*"), place.folder / "tree"]
    assert any((tree / "python/model.py").exists() for tree in trees)


@pytest.mark.parametrize("remove", [_tree, _tree_and_stores])
@pytest.mark.parametrize("verb", ["rebase", "import", "edit"])
def test_abort(place: Place, verb: str, remove: Callable[[Place], None]) -> None:
    words, status = VERBS[verb]
    conflicting(place)
    command = words.replace("{}", str(place.folder)).split()
    place.done(*command, status=status)
    remove(place)
    ran = place.run(verb, "--continue")
    assert ran.status == 4
    assert "is gone" in ran.err
    place.done(verb, "--abort")
    assert place.run(verb, "--continue").status == 2
    place.done(*command, status=status)
