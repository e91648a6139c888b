"""Every verb knows its patch repository and line in each work tree that fixtool made."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtool.apply import home
from support.json_documents import document
from support.rebase import Maintainer, rewrite
from support.repositories import NUMBERS, Git, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")


@pytest.fixture
def two_lines(team: Team) -> Team:
    """A patch repository with two lines, so that a verb has to know which one is meant. Upstream
    has a patch repository of its own in its tree."""
    team.upstream.commit("own patches", **{"patches/theirs/series": "# theirs\n"})
    team.upstream("tag", "v1.1")
    team.line(base=team.upstream.head())
    team.patch("fix", "fix twenty", base="v1.1", python__model_py=FIX)
    team.line("other")
    team.track()
    return team


@pytest.fixture
def worktree(fixtool: Callable[..., Ran], two_lines: Team, tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    ran = fixtool("apply", "--line", "main", "--ref", "v1.1", "--worktree", tree, "--no-build",
                  "--source", two_lines.upstream.path, "-C", two_lines.root)  # fmt: skip
    assert ran.status == 0, ran.err
    return tree


@pytest.mark.parametrize("folder", [".", "python", "patches/theirs"])
def test_verbs_in_a_work_tree(fixtool: Any, worktree: Path, folder: str) -> None:
    """Also where upstream has a folder of its own that looks like a patch repository."""
    shown = document(fixtool("show", "fix", "--json", cwd=worktree / folder))
    assert shown["line"] == "main"
    lines = document(fixtool("list", "--json", cwd=worktree / folder))
    assert {line["line"] for line in lines["lines"]} == {"main", "other"}
    assert fixtool("-C", worktree / folder, "show", "fix").status == 0


def test_export_and_refresh_in_a_work_tree(fixtool: Any, two_lines: Team, worktree: Path) -> None:
    tree = Git(worktree)
    tree.write("python/model.py", FIX.replace("line 30\n", "line 30 fixed\n"))
    tree("commit", "--quiet", "--all", "--amend", "--no-edit")
    assert fixtool("refresh", cwd=worktree / "python").status == 0
    assert "line 30 fixed" in (two_lines.root / "patches/main/fix.patch").read_text()
    assert document(fixtool("export", "--json", cwd=worktree))["changed"] is False


def test_a_line_that_is_named_wins(fixtool: Any, two_lines: Team, worktree: Path) -> None:
    ran = fixtool("show", "fix", "--line", "other", cwd=worktree)
    assert (ran.status, "no patch 'fix'" in ran.err) == (2, True)


def test_a_checkout_of_the_users(fixtool: Any, two_lines: Team, tmp_path: Path) -> None:
    """A series in a checkout of the user's own makes it a home, unless it holds a patch repository
    of the user's and another branch is checked out."""
    clone = Git(tmp_path / "clone")
    two_lines.upstream("clone", "--quiet", str(two_lines.upstream.path), str(clone.path))
    ran = fixtool("apply", "--line", "main", "--into", clone.path, "--no-build",
                  "-C", two_lines.root)  # fmt: skip
    assert ran.status == 0, ran.err
    assert document(fixtool("show", "fix", "--json", cwd=clone.path))["line"] == "main"
    clone("checkout", "--quiet", "main")
    own = two_lines.root / "patches" / "main"
    for file in own.iterdir():
        clone.write(f"patches/own/{file.name}", file.read_bytes())
    assert document(fixtool("show", "fix", "--line", "own", "--json", cwd=clone.path))
    clone("checkout", "--quiet", "-")
    assert document(fixtool("show", "fix", "--json", cwd=clone.path))["line"] == "main"


def test_a_repository_that_is_gone(fixtool: Any, two_lines: Team, worktree: Path) -> None:
    moved = two_lines.root.rename(two_lines.root.with_name("moved"))
    ran = fixtool("list", cwd=worktree)
    assert (ran.status, "which is gone" in ran.err) == (2, True)
    assert fixtool("list", "-C", moved, cwd=worktree).status == 0


@pytest.fixture
def maintainer(fixtool: Callable[..., Ran], team: Team) -> Maintainer:
    maintainer = Maintainer(fixtool, team)
    maintainer.track()
    return maintainer


@pytest.fixture
def parked(maintainer: Maintainer) -> Path:
    """The work tree of a rebase that waits for a person."""
    maintainer.patch_five()
    maintainer.team.line("other")
    maintainer.save()
    rewrite(maintainer.upstream)
    stopped = maintainer.rebase("--line", "main")
    return Path(stopped["session"]["worktree"])


@pytest.mark.parametrize("verb", ["export", "refresh"])
def test_a_verb_that_needs_commits_says_what_waits(fixtool: Any, parked: Path, verb: str) -> None:
    ran = fixtool(verb, cwd=parked)
    assert (ran.status, "the rebase of line main waits" in ran.err) == (1, True)
    assert "fixtool rebase --continue" in ran.err


def test_continue_in_the_parked_work_tree(
    fixtool: Any, maintainer: Maintainer, parked: Path
) -> None:
    text = NUMBERS.replace("line 5\n", "line V fixed\n")
    (parked / "python/model.py").write_text(text)
    moved = document(fixtool("rebase", "--continue", "--json", cwd=parked / "python"))
    assert (moved["line"], moved["moved"]) == ("main", True)
    assert "line V fixed" in maintainer.files()["five.patch"].decode()
    assert not parked.exists()


def test_abort_in_the_parked_work_tree(fixtool: Any, parked: Path) -> None:
    assert fixtool("rebase", "--abort", cwd=parked).status == 0
    assert not parked.exists()


def _of_another(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)


def _record(**changed: object) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def change(_: pytest.MonkeyPatch, record: Path) -> None:
        record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))

    return change


def _damaged(_: pytest.MonkeyPatch, record: Path) -> None:
    record.write_text("{")


def _link(_: pytest.MonkeyPatch, record: Path) -> None:
    record.rename(record.with_name("elsewhere"))
    record.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "change",
    [_of_another, _damaged, _link, _record(line="../x"), _record(line="-x"), _record(line=7),
     _record(patches="relative"), _record(patches="/a\0b"), _record(patches=None)],
)  # fmt: skip
def test_a_record_that_is_not_trusted(
    worktree: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    assert home.home_at(worktree)
    git_dir = Path(Git(worktree)("rev-parse", "--absolute-git-dir"))
    change(monkeypatch, git_dir / "fixtool.json")
    assert home.home_at(worktree) is None


@pytest.mark.parametrize(
    "made", ["--worktree here", "--worktree here --ref v1.2", "--into clone --ref v1.1"]
)
def test_status_names_the_source_that_a_work_tree_was_made_from(
    fixtool: Any, two_lines: Team, tmp_path: Path, made: str
) -> None:
    """The line's own upstream cannot be reached here, so that only the source will do."""
    upstream, about = two_lines.upstream, two_lines.root / "patches/main/upstream.toml"
    upstream.commit("later", later_txt="x\n")
    upstream("tag", "v1.2")
    about.write_text(about.read_text().replace(str(upstream.path), str(tmp_path / "gone")))
    Git(two_lines.root).commit("elsewhere")
    Git(tmp_path)("clone", "--quiet", str(upstream.path), "clone")
    source = () if "--into" in made else ("--source", "upstream")
    words = ("apply", "--line", "main", "-C", two_lines.root, "--no-build", *made.split(), *source)
    assert fixtool(*words, cwd=tmp_path).status == 0
    words = ("--line", "main", "--source", upstream.path, "-C", two_lines.root)
    assert fixtool("drop", "fix", "--reason", "a test", *words).status == 0
    place = tmp_path / made.split()[1]
    ran = fixtool("status", "--worktree", place, cwd=tmp_path)
    (then,) = (line[10:] for line in ran.out.splitlines() if line.startswith("next"))
    assert (ran.status, fixtool(*shlex.split(then)[1:], cwd=tmp_path).status) == (1, 0), then
    now = "NEW-DIR" if "v1.2" in made else place
    assert fixtool("status", "--worktree", now, cwd=tmp_path).status == 0
