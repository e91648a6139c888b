"""Patches in the forms of other tools: the tools take them, and the bytes are equal each time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fixtool.series.patch import export_all
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
BETA = "alpha\nBETA\ngamma\n"


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("beta", "Zoë fixes beta", python__other_py=BETA, new_txt="n\n")
    return team


@pytest.fixture
def export(fixtool: Callable[..., Ran], series: Team) -> Callable[..., Ran]:
    def run(*words: str | Path) -> Ran:
        source = () if "--worktree" in words else ("--source", series.upstream.path)
        return fixtool("export", *words, *source, cwd=series.root)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_git_patch_and_quilt_take_them(
    export: Callable[..., Ran], series: Team, tmp_path: Path
) -> None:
    out = [(tmp_path / f"{n}.mbox", tmp_path / f"{n}.diff", tmp_path / f"{n}.d") for n in "12"]
    for mbox, combined, folder in out:
        words = ("--mbox", mbox, "--combined", combined, "--series", folder, "--json")
        told = document(export(*words))
        assert [output["form"] for output in told["written"]] == ["mbox", "combined", "series"]
        assert told["changed"]
    (mbox, combined, folder), (mbox2, combined2, folder2) = out
    assert (mbox.read_bytes(), combined.read_bytes()) == (
        mbox2.read_bytes(),
        combined2.read_bytes(),
    )
    assert files(folder) == files(folder2)
    assert files(folder)["fix.patch"] == (series.root / "patches/main/fix.patch").read_bytes()

    git = Git(tmp_path / "user")
    series.upstream("clone", "--quiet", ".", str(git.path))
    trees = []
    tools: list[tuple[list[str], dict[str, str]]] = [
        (["git", "am", "--quiet", str(mbox)], {}),
        (["git", "apply", str(combined)], {}),
    ]
    tools += [(["patch", "-sp1", "-i", str(combined)], {})] if shutil.which("patch") else []
    if shutil.which("quilt"):
        tools.append((["quilt", "push", "-aq"], {"QUILT_PATCHES": str(folder)}))
    for words, env in tools:
        git("reset", "--quiet", "--hard", "v1.0")
        git("clean", "--quiet", "--force", "-d")
        who = {"GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@example.org"}
        path = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path)}
        subprocess.run(words, cwd=git.path, env={**path, **who, **env}, check=True)
        shutil.rmtree(git.path / ".pc", ignore_errors=True)  # quilt's own notes
        git("add", "--all")
        trees.append(git("write-tree"))
    assert len(set(trees)) == 1


def test_binary_files_are_named_and_one_diff_is_made_of_two_trees(
    export: Callable[..., Ran], series: Team, tmp_path: Path
) -> None:
    """For one diff of all, no patch is written by itself: that took most of the time. What has
    binary data is named in each form but the mbox, which git reads."""
    made = series.patch("image", "add an image", image_png="\x00\x01\n")
    assert b"GIT binary patch" in made
    with mock.patch("fixtool.edit.outputs.export_all", wraps=export_all) as exported:
        ran = export("--combined", tmp_path / "one.diff")
    assert (ran.status, exported.call_count) == (0, 0), ran.err
    told = "1 file with binary data: git apply takes them"
    assert (told in ran.err, "image_png" in ran.err) == (True, True), ran.err
    assert told in export("--series", tmp_path / "series").err
    assert told not in export("--mbox", tmp_path / "mbox").err


def test_what_a_tool_needs_to_be_told_is_told(
    export: Callable[..., Ran], series: Team, tmp_path: Path
) -> None:
    """git am refused the mbox, and nothing had said why."""
    series.patch("crlf", "crlf", "patch/beta", crlf_txt="one\r\ntwo\r\n")
    ran = export("--mbox", tmp_path / "mbox")
    assert "1 patch with lines that end in CRLF, which git am takes with --keep-cr only" in ran.err
    assert "CRLF" not in export("--combined", tmp_path / "diff").err
    git = Git(tmp_path / "user")
    series.upstream("clone", "--quiet", ".", str(git.path))
    git("checkout", "--quiet", "v1.0")
    git("am", "--quiet", "--keep-cr", str(tmp_path / "mbox"))
    assert (git.path / "crlf.txt").read_bytes() == b"one\r\ntwo\r\n"
    ran = export("--combined", "-")
    assert (ran.status, "--combined writes a file, and - is the name of none" in ran.err) == (
        2,
        True,
    )
    assert not (series.root / "-").exists()


def test_check_and_dry_run_write_nothing(export: Callable[..., Ran], tmp_path: Path) -> None:
    one = tmp_path / "all.diff"
    assert export("--combined", one, "--check").status == 1
    assert export("--combined", one, "--dry-run").out.endswith(f"would write {one} (combined)\n")
    assert not one.exists()
    export("--combined", one)
    assert export("--combined", one, "--check").status == 0


def test_a_work_tree_gives_the_patches_that_it_has(
    fixtool: Callable[..., Ran], export: Callable[..., Ran], series: Team, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    source = ("--source", series.upstream.path)
    words = ("--sglang-ref", "v1.0", "--no-build", "--without", "fix", "--worktree", tree)
    assert fixtool("apply", *words, *source, cwd=series.root).status == 0
    mbox = tmp_path / "out.mbox"
    told = document(export("--mbox", mbox, "--worktree", tree, "--json"))
    assert [patch["slug"] for patch in told["patches"]] == ["beta"]
    assert mbox.read_bytes() == (series.root / "patches/main/beta.patch").read_bytes()


def test_a_folder_of_somebody_else_is_left_alone(
    export: Callable[..., Ran], series: Team, tmp_path: Path
) -> None:
    folder = tmp_path / "quilt"
    export("--series", folder)
    (series.root / "patches/main/series").write_text("fix.patch\n")
    assert export("--series", folder).status == 0
    assert sorted(files(folder)) == ["fix.patch", "series"]
    (folder / "notes.txt").write_text("mine\n")
    refused = export("--series", folder)
    assert (refused.status, "is there already" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--combined", "x", "--output", "y"], "do not go with another form"),
        (["--line", "main"], "--line and --source are for"),
    ],
)
def test_options_that_do_not_go_together(
    export: Callable[..., Ran], words: list[str], what: str
) -> None:
    ran: Any = export(*words)
    assert ran.status == 2
    assert what in ran.err
