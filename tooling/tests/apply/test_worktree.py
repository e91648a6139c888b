"""Work trees and checkouts: fully new or as before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fixtool.apply.run import Applied, ApplyRequest, apply
from fixtool.apply.worktree import read_record, recover
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git import worktrees
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.settings import Settings
from support.repositories import NUMBERS, Git, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=FIX, new_py="x = 1\n")
    return team


def run(team: Team, settings: Settings, **wanted: object) -> Applied:
    request = ApplyRequest(**{"ref": "v1.0", "source": str(team.upstream.path), **wanted})  # type: ignore[arg-type]
    return apply(Context(team.repository, settings), request)


def test_a_work_tree_with_one_commit_a_patch(series: Team, settings: Settings) -> None:
    applied = run(series, settings)
    assert applied.placed is not None
    tree = Git(applied.placed.path)
    assert tree("rev-parse", "HEAD") == applied.replay.commit
    assert tree("symbolic-ref", "--short", "HEAD") == applied.placed.branch
    assert tree("status", "--porcelain") == ""
    assert (tree.path / "python/model.py").read_text() == FIX
    assert tree("rev-list", "--count", f"{applied.target.commit}..HEAD") == "1"
    assert "fixtool apply: line main" in tree("reflog", "show", applied.placed.branch)


def test_a_work_tree_is_on_its_branch_as_soon_as_it_is_there(
    series: Team, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted after the move left a tree on no branch."""
    move = worktrees.move

    def move_and_end(store: Repo, old: Path, new: Path) -> None:
        move(store, old, new)
        raise KeyboardInterrupt

    monkeypatch.setattr(worktrees, "move", move_and_end)
    with pytest.raises(KeyboardInterrupt):
        run(series, settings, worktree=tmp_path / "tree")
    tree = Git(tmp_path / "tree")
    again = run(series, settings, worktree=tree.path)
    assert again.placed
    assert not again.placed.changed
    assert tree("symbolic-ref", "--short", "HEAD") == again.placed.branch
    assert tree("rev-parse", "HEAD") == again.replay.commit
    assert tree("status", "--porcelain") == ""


def test_a_folder_has_one_branch_however_it_is_typed(
    series: Team, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "within").mkdir()
    monkeypatch.chdir(tmp_path / "within")
    (tmp_path / "link").symlink_to(tmp_path)
    first = run(series, settings, worktree=tmp_path / "tree")
    for typed in ("../tree", "../link/tree"):
        again = run(series, settings, worktree=Path(typed))
        assert first.placed and again.placed
        assert (again.placed.branch, again.placed.changed) == (first.placed.branch, False)


def test_the_source_is_not_written_to(series: Team, settings: Settings) -> None:
    before = series.upstream.snapshot()
    run(series, settings)
    assert series.upstream.snapshot() == before
    assert series.upstream("worktree", "list").count("\n") == 0


def test_a_second_apply_changes_nothing(series: Team, settings: Settings) -> None:
    first, second = run(series, settings), run(series, settings)
    assert first.placed and second.placed
    assert (first.placed.changed, second.placed.changed) == (True, False)
    assert first.placed.path == second.placed.path
    assert second.replay.reused == 1


def test_a_changed_series_moves_the_work_tree_on(series: Team, settings: Settings) -> None:
    first = run(series, settings)
    assert first.placed is not None
    inode = (first.placed.path / "README.txt").stat().st_ino
    series.patch("more", "more", python__other_py="alpha\nBETA\ngamma\n")
    second = run(series, settings)
    tree = Git(first.placed.path)
    assert tree("rev-parse", "HEAD") == second.replay.commit != first.replay.commit
    assert (tree.path / "python/other.py").read_text() == "alpha\nBETA\ngamma\n"
    assert (tree.path / "README.txt").stat().st_ino == inode
    assert tree("status", "--porcelain") == ""


def test_own_work_in_a_work_tree_is_never_lost(series: Team, settings: Settings) -> None:
    applied = run(series, settings)
    assert applied.placed is not None
    tree = Git(applied.placed.path)
    tree.write("python/other.py", "mine\n")
    with pytest.raises(Refused, match="not clean: python/other.py"):
        run(series, settings)
    tree.commit("my own work")
    with pytest.raises(Refused, match="commits of its own"):
        run(series, settings)
    assert (tree.path / "python/other.py").read_text() == "mine\n"


def test_a_deleted_work_tree_is_made_anew(series: Team, settings: Settings) -> None:
    first = run(series, settings)
    assert first.placed is not None
    shutil.rmtree(first.placed.path)
    second = run(series, settings)
    assert second.placed == first.placed
    assert Git(first.placed.path)("status", "--porcelain") == ""


def test_commits_of_a_deleted_work_tree_are_kept(series: Team, settings: Settings) -> None:
    first = run(series, settings)
    assert first.placed is not None
    mine = Git(first.placed.path).commit("my own work")
    shutil.rmtree(first.placed.path)
    again = run(series, settings)
    assert again.placed is not None
    assert again.placed.path == first.placed.path
    assert again.placed.kept
    assert again.placed.kept in again.notes[-1]
    store = Git(next(settings.stores.iterdir()))
    assert store("rev-parse", again.placed.kept) == mine


def there_and_back(
    series: Team, settings: Settings, folder: Path, meanwhile: Callable[[Git], object]
) -> Applied:
    """A work tree goes to the next base, the series changes, and it goes back."""
    run(series, settings, worktree=folder)
    tree = Git(folder)
    branch = tree("symbolic-ref", "--short", "HEAD")
    series.upstream("checkout", "--quiet", "main")
    series.upstream.commit("next", README_txt="next\n")
    run(series, settings, ref="main", worktree=folder)
    away = tree("symbolic-ref", "--short", "HEAD")
    tree("checkout", "--quiet", branch)
    meanwhile(tree)
    tree("checkout", "--quiet", away)
    series.patch("more", "more", python__other_py="alpha\nBETA\ngamma\n")
    again = run(series, settings, worktree=folder)
    assert again.placed
    assert tree("rev-parse", "HEAD", branch).split() == 2 * [again.replay.commit]
    assert tree("symbolic-ref", "--short", "HEAD") == branch
    return again


def test_a_work_tree_goes_to_another_base_and_back(
    series: Team, settings: Settings, tmp_path: Path
) -> None:
    """The branch that it left was taken for one with commits of the user's."""
    again = there_and_back(series, settings, tmp_path / "tree", lambda tree: None)
    assert again.placed
    assert again.placed.kept is None


def test_commits_on_the_branch_that_a_work_tree_left_are_kept(
    series: Team, settings: Settings, tmp_path: Path
) -> None:
    mine: list[str] = []
    again = there_and_back(
        series, settings, tmp_path / "tree",
        lambda tree: mine.append(tree.commit("my own work", README_txt="mine\n")),
    )  # fmt: skip
    assert again.placed
    assert again.placed.kept
    assert any(again.placed.kept in note for note in again.notes)
    assert Git(tmp_path / "tree")("rev-parse", again.placed.kept) == mine[0]


def test_a_failed_replay_leaves_no_trace(series: Team, settings: Settings, tmp_path: Path) -> None:
    series.upstream.commit("same", python__model_py=NUMBERS.replace("line 20\n", "theirs\n"))
    applied = run(series, settings, ref="main", worktree=tmp_path / "wt")
    assert applied.placed is None
    assert not (tmp_path / "wt").exists()
    store = Repo.open(next(settings.stores.iterdir()), bare=True)
    assert store.run("for-each-ref").text == ""
    assert store.run("worktree", "list").text.count("\n") == 0


def test_two_places_for_one_base(series: Team, settings: Settings, tmp_path: Path) -> None:
    first = run(series, settings, worktree=tmp_path / "one")
    second = run(series, settings, worktree=tmp_path / "two")
    assert first.placed and second.placed
    assert first.placed.branch != second.placed.branch
    assert first.replay.commit == second.replay.commit


# -- the record --------------------------------------------------------------------------------


def test_a_record_of_an_older_fixtool_is_readable(series: Team, settings: Settings) -> None:
    """It has no manifest; the next apply writes one, and moves nothing."""
    first = run(series, settings)
    assert first.placed is not None
    tree = Repo.open(first.placed.path)
    path = tree.git_dir / "fixtool.json"
    data = json.loads(path.read_text())
    assert data.pop("manifest")["patches"][0]["slug"] == "fix"
    path.write_text(json.dumps(data))
    record = read_record(tree)
    assert record is not None
    assert (record.manifest, record.line) == (None, "main")
    second = run(series, settings)
    assert second.placed is not None
    assert not second.placed.changed
    record = read_record(tree)
    assert record is not None
    assert record.manifest is not None
    assert [patch.commit for patch in record.manifest.patches] == [first.replay.commit]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["manifest"].pop("patches"),
        lambda data: data["manifest"]["patches"][0].update(verdict="splendid"),
        lambda data: data.update(manifest=[]),
        lambda data: data.update(manifest="all of them"),
        lambda data: data.update(commits=[]),
        lambda data: data.update(commit="not an id"),
        lambda data: data["commits"].update({"../fix": data["commit"]}),
        lambda data: data.pop("line"),
        lambda data: data.update(unknown=1),
    ],
)
def test_a_damaged_record_is_named(
    series: Team, settings: Settings, damage: Callable[[dict[str, Any]], object]
) -> None:
    applied = run(series, settings)
    assert applied.placed is not None
    tree = Repo.open(applied.placed.path)
    path = tree.git_dir / "fixtool.json"
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(CannotRun, match="record of this work tree is not readable") as caught:
        read_record(tree)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "[[1, 2, 3]]", "\ud800"])
def test_a_record_that_is_no_record(series: Team, settings: Settings, text: str) -> None:
    applied = run(series, settings)
    assert applied.placed is not None
    tree = Repo.open(applied.placed.path)
    (tree.git_dir / "fixtool.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CannotRun, match="record of this work tree is not readable"):
        read_record(tree)


# -- somebody's own checkout -------------------------------------------------------------------


@pytest.fixture
def checkout(series: Team, tmp_path: Path) -> Git:
    series.upstream("clone", "--quiet", "--branch", "v1.0", ".", str(tmp_path / "checkout"))
    return Git(tmp_path / "checkout")


def into(team: Team, settings: Settings, checkout: Git, ref: str | None = None) -> Applied:
    return run(team, settings, ref=ref, source=None, into=checkout.path)


def test_into_makes_a_branch(series: Team, settings: Settings, checkout: Git) -> None:
    before = checkout("rev-parse", "HEAD")
    applied = into(series, settings, checkout)
    assert applied.placed and applied.target.commit == before
    assert checkout("rev-parse", "HEAD") == applied.replay.commit
    assert checkout("symbolic-ref", "--short", "HEAD") == applied.placed.branch
    assert checkout("status", "--porcelain") == ""
    assert (checkout.path / "new.py").exists()
    checkout("fsck", "--strict")


def test_objects_that_an_interrupted_git_did_not_write(
    series: Team, settings: Settings, checkout: Git
) -> None:
    """git had written the commit, but not yet its tree, when it was ended."""
    applied = run(series, settings)
    assert applied.placed
    raw = Git(applied.placed.path)("cat-file", "commit", applied.replay.commit)
    words = ["git", "-C", checkout.path, "hash-object", "-w", "-t", "commit", "--stdin"]
    written = subprocess.run(words, input=f"{raw}\n", capture_output=True, text=True, check=True)
    assert written.stdout.strip() == applied.replay.commit
    assert into(series, settings, checkout).placed
    assert checkout("rev-parse", "HEAD") == applied.replay.commit
    checkout("fsck", "--strict")


def test_into_a_checkout_whose_objects_are_partly_there(
    series: Team, settings: Settings, checkout: Git
) -> None:
    """The commit and its trees are there from an earlier time, and a file of them is gone."""
    applied = into(series, settings, checkout)
    blob = checkout("rev-parse", "HEAD:new.py")
    checkout("checkout", "--quiet", "--detach", applied.target.commit)
    (loose,) = (checkout.path / ".git/objects" / blob[:2]).glob(blob[2:])
    loose.unlink()
    assert into(series, settings, checkout).placed
    assert checkout("cat-file", "-t", blob) == "blob"
    checkout("fsck", "--strict")


@pytest.mark.parametrize("damaged", [False, True])
def test_after_the_last_patch_was_edited_few_objects_are_looked_for(
    series: Team,
    settings: Settings,
    checkout: Git,
    monkeypatch: pytest.MonkeyPatch,
    *,
    damaged: bool,
) -> None:
    """But if one that leads to the patch before is gone, all are."""
    applied = into(series, settings, checkout)
    before = checkout("rev-parse", "HEAD^{tree}")
    checkout("checkout", "--quiet", "--detach", applied.target.commit)
    if damaged:
        (loose,) = (checkout.path / ".git/objects" / before[:2]).glob(before[2:])
        loose.unlink()
    series.patch("last", "add a file", last_py="last\n")
    looked_for: list[int] = []
    real = Repo.lacks

    def lacks(repo: Repo, objects: Iterable[Oid]) -> set[Oid]:
        wanted = list(objects)
        looked_for.append(len(wanted))
        return real(repo, wanted)

    monkeypatch.setattr(Repo, "lacks", lacks)
    assert into(series, settings, checkout).placed
    assert looked_for[-1] > 3 if damaged else looked_for[-1] == 3  # a commit, a tree and a file
    assert checkout("cat-file", "-t", before) == "tree"
    checkout("fsck", "--strict")


def test_into_a_copied_checkout(
    series: Team, settings: Settings, checkout: Git, tmp_path: Path
) -> None:
    """Its files have other times than its index has recorded."""
    copy = tmp_path / "copy"
    shutil.copytree(checkout.path, copy, symlinks=True)
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    assert into(series, settings, Git(copy)).placed
    assert Git(copy)("status", "--porcelain") == ""


def test_into_again_replaces_the_series(series: Team, settings: Settings, checkout: Git) -> None:
    first = into(series, settings, checkout)
    series.patch("more", "more", python__other_py="alpha\nBETA\ngamma\n")
    second = into(series, settings, checkout)
    assert second.target.commit == first.target.commit
    assert checkout("rev-list", "--count", f"{first.target.commit}..HEAD") == "2"
    assert checkout("status", "--porcelain") == ""


def test_into_a_shallow_clone(series: Team, settings: Settings, tmp_path: Path) -> None:
    """What a container image holds."""
    url = f"file://{series.upstream.path}"
    series.upstream.commit("newer")
    series.upstream(
        "clone", "--quiet", "--depth=1", "--branch=v1.0", url, str(tmp_path / "shallow")
    )
    applied = into(series, settings, Git(tmp_path / "shallow"))
    assert applied.replay.ok
    Git(tmp_path / "shallow")("fsck")


def test_a_partial_clone_as_source_says_how_to_fill_it(
    series: Team, settings: Settings, tmp_path: Path
) -> None:
    url = f"file://{series.upstream.path}"
    series.upstream("config", "uploadpack.allowFilter", "true")
    series.upstream(
        "clone", "--quiet", "--filter=blob:none", "--no-checkout", url, str(tmp_path / "partial")
    )
    with pytest.raises(CannotRun, match="is a partial clone and lacks files") as caught:
        run(series, settings, source=str(tmp_path / "partial"))
    command = str(caught.value.hint).removeprefix("fill it: git -C ").split(";")[0].split(" ")
    Git(Path(command[0]))(*command[1:])
    assert run(series, settings, source=str(tmp_path / "partial")).replay.ok


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout away")
def test_somebody_elses_checkout_needs_the_users_word(
    series: Team, settings: Settings, checkout: Git, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container image's checkout often belongs to another user."""
    for path in (checkout.path, *checkout.path.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    with pytest.raises(CannotRun, match="dubious ownership") as caught:
        into(series, settings, checkout)
    assert f"safe.directory {checkout.path}" in str(caught.value.hint)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    (home / ".gitconfig").write_text(f"[safe]\n\tdirectory = {checkout.path}\n")
    assert into(series, settings, checkout).placed is not None


def test_into_refuses_a_dirty_tree(series: Team, settings: Settings, checkout: Git) -> None:
    checkout.write("python/other.py", "mine\n")
    before = checkout.snapshot()
    with pytest.raises(Refused, match="not clean"):
        into(series, settings, checkout)
    assert checkout.snapshot() == before


def test_into_refuses_an_untracked_file_in_the_way(
    series: Team, settings: Settings, checkout: Git
) -> None:
    checkout.write(".gitignore", "new.py\n")
    checkout.commit("ignore")
    checkout.write("new.py", "mine\n")
    before = checkout.snapshot()
    with pytest.raises(Refused, match=r"new\.py is in the way"):
        into(series, settings, checkout)
    assert checkout.snapshot() == before


@pytest.mark.parametrize("option", ["assume-unchanged", "skip-worktree"])
def test_into_refuses_an_edit_at_which_git_does_not_look(
    series: Team, settings: Settings, checkout: Git, option: str
) -> None:
    """The edit was written over, or git said only that it cannot merge."""
    checkout("update-index", f"--{option}", "python/model.py")
    checkout.write("python/model.py", "mine\n")
    before = checkout.snapshot()
    with pytest.raises(Refused, match=r"python/model\.py was edited, and git was told") as refused:
        into(series, settings, checkout)
    assert refused.value.hint is not None
    assert f"update-index --no-{option} python/model.py" in refused.value.hint
    assert checkout.snapshot() == before
    checkout("update-index", f"--no-{option}", "python/model.py")
    checkout("checkout", "--quiet", "python/model.py")
    checkout("update-index", f"--{option}", "python/model.py")
    assert into(series, settings, checkout).placed is not None


def test_into_refuses_a_foreign_branch(series: Team, settings: Settings, checkout: Git) -> None:
    applied = into(series, settings, checkout)
    assert applied.placed is not None
    checkout("checkout", "--quiet", "v1.0")
    checkout("branch", "--force", applied.placed.branch, "v1.0")
    mine = checkout("commit-tree", "-m", "mine", "HEAD^{tree}", "-p", "HEAD")
    checkout("branch", "--force", applied.placed.branch, mine)
    before = checkout.snapshot()
    with pytest.raises(Refused, match="did not make"):
        into(series, settings, checkout)
    assert checkout.snapshot() == before


def test_into_is_its_own_source(series: Team, settings: Settings, checkout: Git) -> None:
    with pytest.raises(UsageError, match="leave out"):
        run(series, settings, into=checkout.path)


def test_a_half_written_move_is_undone(series: Team, settings: Settings, checkout: Git) -> None:
    """What SIGKILL in the middle of writing files leaves: some new, some old, HEAD not moved."""
    applied = into(series, settings, checkout)
    target = applied.replay.commit
    checkout("checkout", "--quiet", "--detach", "v1.0")
    record = (checkout.path / ".git" / "fixtool.json").read_text()
    (checkout.path / ".git" / "fixtool.json").write_text(
        record.replace('"moving_to": null', f'"moving_to": "{target}"')
    )
    checkout("checkout", target, "--", "new.py")
    assert checkout("status", "--porcelain") != ""
    recover(checkout.repo)
    assert checkout("status", "--porcelain") == ""
    assert not (checkout.path / "new.py").exists()
    record = read_record(checkout.repo)
    assert record is not None
    assert record.moving_to is None


def test_recovery_leaves_a_users_edit_alone(
    series: Team, settings: Settings, checkout: Git
) -> None:
    applied = into(series, settings, checkout)
    checkout("checkout", "--quiet", "--detach", "v1.0")
    path = checkout.path / ".git" / "fixtool.json"
    path.write_text(
        path.read_text().replace('"moving_to": null', f'"moving_to": "{applied.replay.commit}"')
    )
    checkout.write("python/model.py", "mine\n")
    with pytest.raises(Refused, match="not clean"):
        into(series, settings, checkout)
    assert (checkout.path / "python/model.py").read_text() == "mine\n"
