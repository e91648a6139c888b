"""The release that a patch fits best is found by trying, and the commands to type are right."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtool.git.objects import Oid
from fixtool.incoming.bases import Known, _rounds
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")


@pytest.fixture
def releases(team: Team) -> Git:
    """An upstream that has changed the file a little at each of its releases v1.0 to v1.5, and one
    line on v1.0."""
    git, text = team.upstream, NUMBERS
    for number in range(1, 6):
        text = text.replace(f"line {15 + number}\n", f"line {15 + number} of 1.{number}\n")
        git.commit(f"1.{number}", python__model_py=text, **{f"new{number}_txt": "n\n"})
        git("tag", f"v1.{number}")
    git("tag", "gateway-v0.9")
    return git


def made_on(git: Git, tag: str, path: Path) -> Path:
    """A diff that was made on a release, without what `index` lines would tell."""
    git("checkout", "--quiet", "--detach", tag)
    text = (git.path / "python/model.py").read_text().replace("line 19", "mine\nline 19")
    git.commit("mine", python__model_py=text, docs__mine_md="mine\n")
    diff = git("diff", "HEAD^", "HEAD") + "\n"
    git("checkout", "--quiet", "main")
    path.write_text("".join(f"{line}\n" for line in diff.split("\n")[:-1]
                            if not line.startswith("index ")))  # fmt: skip
    return path


def find(fixtool: Callable[..., Ran], *words: str | Path, cwd: Path) -> dict[str, Any]:
    ran = fixtool("import", "--find-base", *words, "--json", cwd=cwd)
    assert ran.status == 0, ran.err
    return document(ran)


@pytest.mark.parametrize("tag", ["v1.0", "v1.3", "v1.5"])
def test_it_is_the_release_that_it_was_made_on(
    fixtool: Callable[..., Ran], team: Team, releases: Git, tmp_path: Path, tag: str
) -> None:
    diff = made_on(releases, tag, tmp_path / "mine.patch")
    found = find(fixtool, diff, "--source", releases.path, cwd=team.root)
    best = found["best"]
    assert (best["release"], best["commit"]) == (tag, releases("rev-parse", tag))
    assert (best["fits"], best["of"], found["known"]) == (2, 2, 6)
    assert {fit["release"] for fit in found["tried"]} == {f"v1.{n}" for n in range(6)}


def test_the_releases_of_a_remote_are_fetched(
    fixtool: Callable[..., Ran], team: Team, releases: Git, tmp_path: Path
) -> None:
    releases("config", "uploadpack.allowAnySHA1InWant", "true")
    diff = made_on(releases, "v1.4", tmp_path / "mine.patch")
    found = find(fixtool, diff, "--source", f"file://{releases.path}", cwd=team.root)
    assert (found["best"]["release"], found["best"]["fits"], found["known"]) == ("v1.4", 2, 6)
    assert len(found["tried"]) < 6


def test_the_commands_that_it_prints_import_the_patch(
    fixtool: Callable[..., Ran], team: Team, releases: Git, tmp_path: Path
) -> None:
    diff = made_on(releases, "v1.4", tmp_path / "mine.patch")
    ran = fixtool("import", diff, "--source", releases.path, "--no-3way", cwd=team.root)
    assert ran.status == 1
    hint = ran.err.partition("  try: ")[2].strip()
    for command in hint.split("; "):
        program, *words = shlex.split(command)
        assert program == "fixtool"
        done = fixtool(*words, cwd=tmp_path)
        assert done.status == 0, (words, done.err)
    assert [entry.slug for entry in team.repository.line("v1.4").entries] == ["mine"]
    again = find(fixtool, diff, "--source", releases.path, "--line", "main", cwd=team.root)
    assert again["best"]["next"].startswith("fixtool import ")
    assert "--line v1.4" in again["best"]["next"]


def test_no_repository_is_needed(
    fixtool: Callable[..., Ran], releases: Git, tmp_path: Path
) -> None:
    diff = made_on(releases, "v1.2", tmp_path / "mine.patch")
    (tmp_path / "empty").mkdir()
    ran = fixtool("import", "--find-base", diff, "--source", releases.path, cwd=tmp_path / "empty")
    assert (ran.status, "v1.2     2 of 2" in ran.out) == (0, True), ran
    assert "the release it fits best is v1.2: 2 of 2 files fit (6 of 6 releases tried)" in ran.out


def test_what_no_release_has_does_not_count_and_is_to_be_left_out(
    fixtool: Callable[..., Ran], team: Team, releases: Git, tmp_path: Path
) -> None:
    diff = made_on(releases, "v1.2", tmp_path / "mine.patch")
    lacking = "--- a/kernel/x.cu\n+++ b/kernel/x.cu\n@@ -1 +1 @@\n-a\n+b\n"
    diff.write_text(diff.read_text() + f"diff --git a/kernel/x.cu b/kernel/x.cu\n{lacking}")
    found = find(fixtool, diff, "--source", releases.path, cwd=team.root)
    assert (found["best"]["fits"], found["best"]["of"], found["lacking"]) == (2, 2, ["kernel/x.cu"])
    assert found["best"]["next"].endswith("--exclude 'kernel/*'")


def test_a_source_without_releases_is_told(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path
) -> None:
    team.upstream("tag", "--delete", "v1.0")
    (tmp_path / "a.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    ran = fixtool("import", "--find-base", tmp_path / "a.patch", "--source", team.upstream.path,
                  cwd=team.root)  # fmt: skip
    assert (ran.status, "has no tag of a release" in ran.err) == (4, True)


@pytest.mark.parametrize("best", range(40))
def test_of_many_releases_few_are_tried(best: int) -> None:
    """Where releases fit the better the nearer they are, the best is found by a few."""
    names = tuple(f"1.{number}" for number in range(40))
    known = Known(names, frozenset(), lambda name: Oid(name))
    tried = []
    for round_ in _rounds(known, lambda name: (-abs(names.index(name) - best), 0, 0)):
        tried += round_
    assert names[best] in tried
    assert len(tried) == len(set(tried)) <= 17
