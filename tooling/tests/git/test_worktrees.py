"""Work trees of a store, and the uncompressed copies of files that they are made from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fixtool.errors import CannotRun
from fixtool.git import uncompressed, worktrees
from fixtool.git.objects import Oid
from fixtool.git.store import Store
from support.repositories import Git


@pytest.fixture
def store(upstream: Git, tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store.git")
    store.borrow(upstream.repo)
    return store


@pytest.fixture
def base(upstream: Git) -> Oid:
    return Oid(upstream("rev-parse", "v1.0^{commit}"))


def copies(store: Store) -> list[str]:
    """The commits whose files the store holds without compression."""
    packs = store.git_dir.glob("uncompressed/*/pack/pack-*.pack")
    return sorted(pack.parent.parent.name for pack in packs)


def add(store: Store, folder: Path, base: Oid) -> Git:
    worktrees.add(store, folder, base, base=base)
    tree = Git(folder)
    assert tree("status", "--porcelain") == ""
    assert tree("rev-parse", "HEAD") == base
    return tree


def test_git_knows_the_work_tree_as_its_own(store: Store, base: Oid, tmp_path: Path) -> None:
    worktrees.add(store, tmp_path / ".a tree", base)
    plain = Git(store.git_dir)
    plain("worktree", "prune")
    assert f"worktree {tmp_path / '.a tree'}\nHEAD {base}\ndetached" in worktrees.listed(store)
    worktrees.move(store, tmp_path / ".a tree", tmp_path / "other")
    plain("worktree", "prune")
    assert f"worktree {tmp_path / 'other'}\nHEAD {base}\ndetached" in worktrees.listed(store)
    assert Git(tmp_path / "other")("status", "--porcelain") == ""
    plain("worktree", "repair")
    plain("worktree", "remove", str(tmp_path / "other"))
    assert not list(store.git_dir.glob("worktrees/*"))


def test_the_refs_of_a_store_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of a work tree is written in their format, and git may come to have another."""
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")
    store = Store.create(tmp_path / "store.git")
    assert (store.git_dir / "HEAD").read_text().startswith("ref: refs/heads/m")
    assert (store.git_dir / "refs/heads").is_dir()


def test_a_folder_with_files_in_it_is_no_place(store: Store, base: Oid, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mine.txt").write_text("mine\n")
    with pytest.raises(CannotRun, match="not empty"):
        worktrees.add(store, tmp_path / "tree", base)
    assert (tmp_path / "tree/mine.txt").read_text() == "mine\n"
    assert not list(store.git_dir.glob("worktrees/*"))


def test_files_are_kept_uncompressed_from_the_second_work_tree_on(
    store: Store, base: Oid, tmp_path: Path
) -> None:
    add(store, tmp_path / "first", base)
    assert copies(store) == []
    add(store, tmp_path / "second", base)
    assert copies(store) == [base]
    alternates = store.git_dir / "objects/info/alternates"
    alternates.rename(tmp_path / "alternates")  # no other place has the objects now
    worktrees.add(store, tmp_path / "third", base, base=base)
    (tmp_path / "alternates").rename(alternates)
    assert Git(tmp_path / "third")("status", "--porcelain") == ""


def test_what_is_committed_in_a_work_tree_is_in_the_store(
    store: Store, base: Oid, tmp_path: Path
) -> None:
    """The copy may be removed at any time: nothing may be written to it alone."""
    trees = [add(store, tmp_path / name, base) for name in "abc"]
    trees[-1].write("python/model.py", "mine\n")
    commit = trees[-1].commit("mine")
    shutil.rmtree(store.git_dir / "uncompressed")
    assert trees[-1]("show", f"{commit}:python/model.py") == "mine"
    assert trees[-1]("status", "--porcelain") == ""


def test_the_copies_of_two_commits_are_kept(store: Store, upstream: Git, tmp_path: Path) -> None:
    commits = [Oid(upstream.commit(text, README_txt=text)) for text in ("one", "two", "three")]
    for number, commit in enumerate(commits):
        add(store, tmp_path / f"first-{number}", commit)
        add(store, tmp_path / f"second-{number}", commit)
        os.utime(store.git_dir / "uncompressed" / commit, (number, number))
    assert copies(store) == sorted(commits[1:])


@pytest.mark.parametrize("trouble", ["a file in the way", "too large"])
def test_a_work_tree_is_made_without_a_copy_too(
    store: Store, base: Oid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "too large":
        monkeypatch.setattr(uncompressed, "_LARGEST", 1)
    else:
        (store.git_dir / "uncompressed").write_text("")
    for name in "abc":
        add(store, tmp_path / name, base)
    assert copies(store) == []
