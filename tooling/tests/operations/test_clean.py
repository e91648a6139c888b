"""What `clean` shows and removes, and what it never removes."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fixtool
from fixtool.operations import clean as cleaning
from support.json_documents import document
from support.operations import Place, make_place
from support.rebase import rewrite
from support.repositories import Git, Ran, Team

DAY = 86400


@pytest.fixture
def place(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    place = make_place(fixtool, team, tmp_path, monkeypatch)
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    return place


def run(place: Place, *words: str) -> list[dict[str, Any]]:
    """The items of `clean`."""
    ran = place.maintainer.fixtool("clean", *words, "--json")
    assert ran.status == 0, ran.err
    items: list[dict[str, Any]] = document(ran)["items"]
    return items


def of_kind(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item["kind"] == kind]


def make_old(place: Place, days: int = 40) -> None:
    """Let all that fixtool keeps look as if it was written some days ago."""
    when = time.time() - days * DAY
    roots = [place.state, place.state.parent / "cache", place.tree.path]
    for path in [path for root in roots if root.exists() for path in (root, *root.rglob("*"))]:
        os.utime(path, (when, when), follow_symlinks=False)


def test_it_shows_and_removes_nothing(place: Place) -> None:
    before = place.snapshot()
    items = run(place)
    (tree,) = of_kind(items, "worktree")
    assert (tree["path"], tree["line"], tree["kept"]) == (str(place.tree.path), "main", None)
    assert tree["repository"] == str(place.maintainer.team.root)
    assert tree["size"] > len("line 1\n") * 40
    (store,) = of_kind(items, "store")
    assert "belongs to it" in store["kept"]
    (log,) = of_kind(items, "log")
    assert (log["kept"], log["repository"]) == ("undo needs it", str(place.maintainer.team.root))
    assert {Path(item["path"]).name for item in of_kind(items, "cache")} == {"patches", "replay"}
    assert run(place, "--remove", "--dry-run") == items
    assert place.snapshot() == before
    shown = place.maintainer.fixtool("clean")
    assert "next      fixtool clean --remove" in shown.out


@pytest.mark.parametrize("dry", [(), ("--dry-run",), ("--remove", "--dry-run")])
def test_the_next_command_removes_what_was_shown_and_no_more(
    place: Place, dry: tuple[str, ...]
) -> None:
    make_old(place, days=10)
    shown = place.maintainer.fixtool("clean", "--only=worktree", *dry, "--older-than", "1w")
    assert "next      fixtool clean --only=worktree --older-than 1w --remove\n" in shown.out


def test_it_removes_what_may_go(place: Place) -> None:
    make_old(place)
    items = run(place, "--remove")
    assert [item for item in items if not item["removed"]] == []
    assert not place.tree.path.exists()
    assert not list(place.state.glob("repos/*"))
    assert not list((place.state.parent / "cache").glob("*"))
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    assert place.maintainer.git("status", "--porcelain") == ""


def test_older_than_and_only(place: Place) -> None:
    make_old(place, days=10)
    kept = run(place, "--remove", "--older-than", "11d", "--only", "worktree")
    assert [item["kept"] for item in kept] == ["it was changed since then"]
    (removed,) = run(place, "--remove", "--older-than", "1w", "--only", "worktree")
    assert removed["removed"]
    assert list(place.state.glob("repos/*.git"))


@pytest.mark.parametrize("words", [("--older-than", "soon"), ("--only", "home")])
def test_a_wrong_option(place: Place, words: tuple[str, str]) -> None:
    ran = place.maintainer.fixtool("clean", *words)
    assert (ran.status, words[1] in ran.err) == (2, True)


# -- what holds work -----------------------------------------------------------------------------


def _edit(place: Place) -> str:
    place.tree.write("python/other.py", "mine\n")
    return "edits that are not committed"


def _new_file(place: Place) -> str:
    place.tree.write("mine.py", "mine\n")
    return "edits that are not committed"


def _hidden(place: Place) -> str:
    place.tree("update-index", "--skip-worktree", "python/other.py")
    return _edit(place) and "edits of python/other.py, at which git was told not to look"


def _commit(place: Place) -> str:
    place.tree.write("python/other.py", "mine\n")
    place.tree.commit("mine\n\nWhy.")
    return "commits that are in no patch"


def _waits(place: Place) -> str:
    shutil.rmtree(place.tree.path)
    rewrite(place.maintainer.upstream)
    place.done("rebase", "--onto", "main", status=3)
    return "the rebase of line main waits in it"


def _damaged(place: Place) -> str:
    git_dir = Path(place.tree("rev-parse", "--absolute-git-dir"))
    (git_dir / "index").write_bytes(b"x")
    return "it cannot be read"


@pytest.mark.parametrize("work", [_edit, _new_file, _hidden, _commit, _waits, _damaged])
def test_unsaved_work_stays(place: Place, work: Callable[[Place], str]) -> None:
    reason = work(place)
    make_old(place)
    before = place.state / "worktrees", place.tree.path
    items = run(place, "--remove")
    (tree,) = of_kind(items, "worktree")
    assert reason in tree["kept"]
    assert tree["hint"]
    assert Path(tree["path"]).is_dir()
    assert of_kind(items, "store")[0]["kept"]
    assert any(path.exists() for path in before)


def test_commits_that_were_exported_are_safe(place: Place) -> None:
    _commit(place)
    place.done("export", "--worktree", place.tree.path)
    make_old(place)
    (tree,) = run(place, "--remove", "--only", "worktree")
    assert tree["removed"]


def test_a_stash_keeps_the_store(place: Place) -> None:
    """All work trees of a store have one stash: it was lost with the store."""
    _edit(place)
    place.tree("stash", "--quiet")
    make_old(place)
    store = of_kind(run(place, "--remove"), "store")[0]
    assert "its stash holds edits of yours" in store["kept"]
    assert f"git -C {store['path']} update-ref -d refs/stash" in store["hint"]


def test_commits_of_a_removed_work_tree_keep_the_store(place: Place) -> None:
    _commit(place)
    shutil.rmtree(place.tree.path)
    make_old_store = run(place, "--remove", "--only", "store")
    assert "holds commits of yours" in make_old_store[0]["kept"]
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    shutil.rmtree(place.tree.path)
    (store,) = run(place, "--remove", "--only", "store")
    assert "its branch kept/" in store["kept"]


def test_a_work_tree_on_a_disk_that_is_not_there(place: Place) -> None:
    (entry,) = place.state.glob("repos/*.git/worktrees/*/gitdir")
    entry.write_text("/no/such/disk/tree/.git\n")
    (store,) = run(place, "--remove", "--only", "store")
    assert "may be on another disk" in store["kept"]


def test_another_run_at_work(place: Place) -> None:
    from fixtool.apply.worktree import alone_in
    from fixtool.git.store import Store

    (path,) = place.state.glob("repos/*.git")
    with alone_in(Store(path), place.tree.path):
        (tree,) = run(place, "--remove", "--only", "worktree")
    assert "is in use by" in tree["kept"]
    assert place.tree.path.is_dir()


def test_an_edit_between_the_two_looks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    original = cleaning.alone_in

    def edited(*words: Any) -> Any:
        _edit(place)
        return original(*words)

    monkeypatch.setattr(cleaning, "alone_in", edited)
    (tree,) = run(place, "--remove", "--only", "worktree")
    assert "edits that are not committed" in tree["kept"]


# -- hostile names and links -----------------------------------------------------------------------


def test_links_lead_nowhere(place: Place) -> None:
    precious = place.folder / "precious"
    (precious / "objects").mkdir(parents=True)
    (precious / "file").write_text("mine\n")
    cache = place.state.parent / "cache"
    (cache / "wheels").symlink_to(precious)
    (place.state / "repos" / "evil.git").symlink_to(precious)
    (place.state / "operations" / "0123456789").symlink_to(precious)
    (place.state / "worktrees" / "team").mkdir(parents=True)
    (place.state / "worktrees" / "team" / "evil").symlink_to(precious)
    inside = cache / "replay" / "link"
    inside.symlink_to(precious)
    make_old(place)
    items = run(place, "--remove")
    assert (precious / "file").read_text() == "mine\n"
    assert not any("evil" in item["path"] for item in items)


def test_only_known_folders_of_the_cache_go(place: Place) -> None:
    """A setting may name a folder of the user's as the cache."""
    mine = place.state.parent / "cache" / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine\n")
    make_old(place)
    run(place, "--remove")
    assert (mine / "file").read_text() == "mine\n"


def test_an_entry_that_names_a_folder_of_the_users(place: Place) -> None:
    mine = Git(place.folder / "mine")
    mine.path.mkdir()
    mine("init", "--quiet")
    (entry,) = place.state.glob("repos/*.git/worktrees/*/gitdir")
    entry.write_text(f"{mine.path}/.git\n")
    run(place, "--remove")
    assert mine.path.is_dir()


def test_an_odd_name(place: Place) -> None:
    odd = place.folder / "-rf $(touch x)\n;"
    place.done("apply", "--no-build", "--worktree", odd)
    make_old(place)
    items = run(place, "--remove", "--only", "worktree")
    assert len(items) == 1 or not odd.exists()


def test_a_folder_that_others_may_write_to(place: Place) -> None:
    place.state.chmod(0o777)
    ran = place.maintainer.fixtool("clean", "--remove")
    assert (ran.status, "can be written to by every user" in ran.err) == (4, True)


def test_a_log_goes_with_its_repository(place: Place) -> None:
    shutil.rmtree(place.maintainer.team.root)
    (log,) = run(place, "--remove", "--only", "log")
    assert log["removed"]


def test_every_part_of_the_cache_is_known() -> None:
    package = Path(fixtool.__file__).parent
    texts = "".join(path.read_text() for path in package.rglob("*.py"))
    named = re.findall(r'settings\.cache\)? / "([\w-]+)"', texts)
    assert set(named) == set(cleaning.CACHES)
