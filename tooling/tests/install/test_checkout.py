"""A series in the checkout of an editable install, as container images have it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fixtool.settings import Settings
from support.installed import ADDED, MODEL, Environment, make_checkout, snapshot
from support.json_documents import document
from support.repositories import Git


@pytest.fixture
def environment(tmp_path: Path, upstream: Git, settings: Settings) -> Environment:
    return make_checkout(tmp_path, upstream, settings)


def test_a_series_goes_into_a_dirty_detached_checkout_and_out(
    environment: Environment, upstream: Git
) -> None:
    """HEAD and the index stay as they are, and so do the files of others."""
    upstream.write("python/sglang/__init__.py", "x = 1\nmine = True\n")
    upstream.write("python/sglang/mine.py", "mine = True\n")
    before, status = snapshot(upstream.path / "python"), upstream.snapshot()
    index = upstream("ls-files", "--stage")
    answer = document(environment.run("install", "--json"))
    assert (answer["exit_code"], answer["checkout"], answer["version"]) == (
        0, True, upstream.head()
    )  # fmt: skip
    assert answer["left_out_files"] == []
    assert "mine.py" in answer["notes"][0]
    assert (upstream.path / "python/sglang/srt/model.py").read_bytes() == MODEL
    assert (upstream.path / "python/sglang/srt/extra/added.py").read_bytes() == ADDED
    assert (upstream.path / "test/test_model.py").exists()
    assert (upstream.snapshot()["head"], upstream("ls-files", "--stage")) == (status["head"], index)
    proved = document(environment.run("status", "--json"))
    assert (proved["ok"], proved["problems"]) == (True, [])
    assert proved["tree_now"] != answer["package_tree"]  # of the files of others
    assert "as it was" in environment.run("install").out
    assert environment.run("uninstall").status == 0
    assert (snapshot(upstream.path / "python"), upstream.snapshot()) == (before, status)
    assert not (upstream.path / ".git/fixtool-install").exists()


def test_the_tree_of_a_clean_checkout_is_that_of_git(
    environment: Environment, upstream: Git
) -> None:
    answer = document(environment.run("install", "--json"))
    proved = document(environment.run("status", "--json"))
    assert proved["tree_now"] == answer["package_tree"]
    upstream("add", "--all")
    tree = upstream("write-tree")
    assert (tree, upstream("rev-parse", f"{tree}:python/sglang")) == (
        answer["tree"], answer["package_tree"]
    )  # fmt: skip


def test_an_edited_file_of_the_series_is_refused(environment: Environment, upstream: Git) -> None:
    upstream.write("python/sglang/srt/model.py", MODEL + b"# mine\n")
    ran = environment.run("install")
    assert (ran.status, "python/sglang/srt/model.py" in ran.err) == (1, True)
    upstream("checkout", "--quiet", "--", ".")
    upstream.write("test/test_model.py", "mine = True\n")
    ran = environment.run("install")
    assert (ran.status, "is in the way" in ran.err) == (1, True)


def test_a_shallow_checkout_is_judged_by_a_clone(
    environment: Environment, upstream: Git, tmp_path: Path
) -> None:
    """An image lacks the history, which recorded facts need, and the bases; the host of an image may
    have no network, and then a clone."""
    folder = environment.team / "patches/main"
    patch = next(folder.glob("*.patch"))
    fact = f"Fixes: {upstream.head()} (#1), none"
    patch.write_text(patch.read_text().replace("\n\ndiff --git", f"\n\n{fact}\n\ndiff --git", 1))
    upstream.commit("newer")
    clone = tmp_path / "clone"
    upstream("clone", "--quiet", "--bare", str(upstream.path), str(clone))
    (upstream.path / ".git/shallow").write_text(f"{upstream.head()}\n")
    toml = folder / "upstream.toml"
    toml.write_text(toml.read_text().replace("https://", "file:///gone/"))
    ran = environment.run("install")
    assert (ran.status, "is a shallow clone" in ran.err) == (4, True), ran.err
    ran = environment.run("install", "--source", str(clone))
    assert ran.status == 0, ran.err
    assert environment.run("status").status == 0
    assert environment.run("uninstall").status == 0


def test_a_source_without_the_commit_is_refused(
    environment: Environment, upstream: Git, tmp_path: Path
) -> None:
    """The command in the hint works as it stands, also for a commit that only the checkout has."""
    ran = environment.run("install", "--source", "pypi")
    assert (ran.status, "the package index has no commits" in ran.err) == (2, True)
    clone = tmp_path / "clone"
    upstream("clone", "--quiet", "--bare", str(upstream.path), str(clone))
    upstream.commit("newer")
    ran = environment.run("install", "--source", str(clone))
    assert ran.status == 4
    assert f"{clone} does not hold the commit {upstream.head()}" in ran.err
    hint = re.search(r"try: (git .+), then the same command again", ran.err)
    assert hint
    subprocess.run(shlex.split(hint[1]), check=True, capture_output=True)
    assert environment.run("install", "--source", str(clone)).status == 0


def test_status_says_that_the_checkout_has_moved(environment: Environment, upstream: Git) -> None:
    environment.run("install")
    upstream("commit", "--quiet", "--allow-empty", "--message", "on")
    answer = document(environment.run("status", "--json"))
    assert [problem["fault"] for problem in answer["problems"]] == ["moved"]
    assert environment.run("uninstall").status == 0


def test_a_folder_without_git_is_refused(environment: Environment, upstream: Git) -> None:
    (upstream.path / ".git").rename(upstream.path.with_name("git"))
    ran = environment.run("install")
    assert (ran.status, "in no git repository" in ran.err) == (4, True)


def test_the_metadata_that_a_build_leaves_in_the_checkout(
    environment: Environment, upstream: Git
) -> None:
    """setuptools leaves an .egg-info beside the package: with the dist-info of the environment,
    these are one distribution. Alone, it is that of an older editable install."""
    upstream.write("python/sglang.egg-info/PKG-INFO", "Name: sglang\nVersion: 0.0.0\n")
    assert environment.run("install").status == 0
    for file in environment.info.iterdir():
        file.unlink()
    environment.info.rmdir()
    assert environment.run("status").status == 0
    assert environment.run("uninstall").status == 0
