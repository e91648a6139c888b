"""Whether one commit is an ancestor of another, and when a repository cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtool.errors import CannotRun
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from support.repositories import Git

ABSENT = "f" * 40


@pytest.fixture
def line(upstream: Git) -> list[str]:
    """Four commits, oldest first."""
    return [upstream("rev-parse", "v1.0"), *(upstream.commit(f"step {n}") for n in range(3))]


def shallow_clone(upstream: Git, place: Path, depth: int) -> Git:
    upstream("clone", "--quiet", f"--depth={depth}", f"file://{upstream.path}", str(place))
    return Git(place)


def test_ancestors(upstream: Git, line: list[str]) -> None:
    repo = upstream.repo
    side = upstream("commit-tree", f"{line[0]}^{{tree}}", "-p", line[0], "-m", "side")
    merge = upstream("commit-tree", f"{line[0]}^{{tree}}", "-p", line[3], "-p", side, "-m", "merge")
    assert repo.is_ancestor(line[0], line[3])
    assert repo.is_ancestor(line[3], line[3])
    assert not repo.is_ancestor(line[3], line[0])
    assert not repo.is_ancestor(side, line[3])
    assert repo.is_ancestor(side, merge)
    assert not repo.is_ancestor(ABSENT, line[3])  # all of the history is here, and it is not in it
    with pytest.raises(CannotRun, match=f"the commit {ABSENT} is not here"):
        repo.is_ancestor(line[0], ABSENT)


def test_in_a_shallow_clone_no_is_no_answer(upstream: Git, line: list[str], tmp_path: Path) -> None:
    repo = shallow_clone(upstream, tmp_path / "clone", 2).repo
    assert repo.shallow == {line[2]}
    assert repo.is_ancestor(line[2], line[3])
    for ancestor in (line[0], ABSENT):
        with pytest.raises(CannotRun, match=f"is cut off here, .*holds {ancestor[:12]}"):
            repo.is_ancestor(ancestor, line[3])
    with pytest.raises(CannotRun, match="cut off"):
        repo.is_ancestor(line[3], line[2])


def test_a_store_is_as_shallow_as_its_lender_is_now(
    upstream: Git, line: list[str], tmp_path: Path
) -> None:
    clone = shallow_clone(upstream, tmp_path / "clone", 2)
    place = tmp_path / "store.git"
    store = Store.create(place)
    store.borrow(clone.repo)
    assert store.shallow == {line[2]}
    clone("fetch", "--quiet", "--deepen=1")
    Store.create(place).borrow(clone.repo)
    assert store.shallow == {line[1]}
    clone("fetch", "--quiet", "--unshallow")
    Store.create(place).borrow(clone.repo)
    assert not store.shallow
    assert store.is_ancestor(line[0], line[3])


def test_a_store_with_two_lenders(upstream: Git, line: list[str], tmp_path: Path) -> None:
    """Borrowing from a whole repository does not hide what the other one lacks."""
    clone = shallow_clone(upstream, tmp_path / "clone", 2)
    whole = Store.create(tmp_path / "whole.git")
    store = Store.create(tmp_path / "store.git")
    store.borrow(clone.repo)
    store.borrow(whole)
    assert store.shallow == {line[2]}
    store.run("rev-list", line[3])


def test_an_online_store_keeps_its_own(upstream: Git, line: list[str], tmp_path: Path) -> None:
    upstream("config", "uploadpack.allowFilter", "true")
    store = Store.create(tmp_path / "store.git", online=True)
    assert store.fetch(f"file://{upstream.path}", [line[1]]).status == 0
    store.borrow(Store.create(tmp_path / "releases.git"))
    assert store.shallow == {line[1]}
    store.borrow(shallow_clone(upstream, tmp_path / "clone", 1).repo)
    assert Repo(store.git_dir).shallow == {line[1], line[3]}
