"""A git that is killed has not answered, and an answer of another form is no answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, FixtoolError
from fixtool.git import trees
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.repo import Repo
from fixtool.incoming._mail import read_mail
from fixtool.replay import moved_hunks
from fixtool.series.commit import open_git
from fixtool.series.patch import export
from support.repositories import Git, Ran, Team

GIT = shutil.which("git")
Ask = Callable[[Repo, Oid], object]

QUESTIONS: dict[str, Ask] = {
    "open": lambda repo, _: Repo.open(repo.git_dir.parent),
    "commit_id": lambda repo, _: repo.commit_id("HEAD"),
    "tree_id": lambda repo, commit: repo.tree_id(commit),
    "ref": lambda repo, _: repo.ref("refs/heads/main"),
    "current_branch": lambda repo, _: repo.current_branch(),
    "lacks": lambda repo, commit: repo.lacks([commit]),
    "sizes": lambda repo, commit: repo.sizes([commit]),
    "read_blobs": lambda repo, commit: list(repo.read_blobs([commit])),
    "read_commit": lambda repo, commit: repo.read_commit(commit),
    "write_commit": lambda repo, commit: repo.write_commit(
        Commit(commit, (), MACHINE, MACHINE, "text\n")
    ),
    "ahead_by": lambda repo, commit: repo.ahead_by(commit, commit),
    "list_tree": lambda repo, commit: trees.list_tree(repo, commit),
    "changed_files": lambda repo, commit: trees.changed_files(repo, commit, commit),
    "changed_paths": lambda repo, commit: trees.changed_paths(repo, [commit]),
    "write_trees": lambda repo, _: trees.write_trees(repo, [{}]),
    "export": lambda repo, commit: export(repo, commit),
    "merge": lambda repo, commit: trees.merge_three_way(repo, commit, commit, commit),
}


def spoil(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Put a git on PATH that runs ``script`` instead of git."""
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(Repo, "_version_checked", True)


@pytest.mark.parametrize(
    "script",
    ["kill -KILL $$", "printf 'x\\0y \\377\\n\\n0000 z\\0'"],
    ids=["killed", "garbage"],
)
@pytest.mark.parametrize("question", QUESTIONS)
def test_no_answer(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, script: str
) -> None:
    repo, commit = Repo(upstream.path / ".git"), Oid(upstream.head())
    spoil(monkeypatch, tmp_path, script)
    with pytest.raises(CannotRun):
        QUESTIONS[question](repo, commit)


def test_an_answer_that_ends_within_a_record(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a changed file is missing."""
    repo, commit = upstream.repo, Oid(upstream.head())
    spoil(monkeypatch, tmp_path, f"printf '{commit}\\0:100644 100644 {commit} {commit} M\\0'")
    with pytest.raises(CannotRun, match="cannot be read"):
        trees.raw_changes(repo, [commit])


def test_a_repository_that_git_cannot_open_is_no_folder_without_git(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change was written, and not committed, and the exit code was 0."""
    team.line()
    assert open_git(team.root) is None
    Git(team.root)("init", "--quiet", "--template=")
    spoil(monkeypatch, tmp_path, "exit 128")
    with pytest.raises(FixtoolError):
        open_git(team.root)


def test_a_git_that_ends_before_it_is_asked(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, commit = upstream.repo, Oid(upstream.head())
    spoil(monkeypatch, tmp_path, "exit 128")
    start = Repo.start

    def start_and_wait(repo: Repo, *words: str) -> subprocess.Popen[bytes]:
        running = start(repo, *words)
        running.wait()
        return running

    monkeypatch.setattr(Repo, "start", start_and_wait)
    with pytest.raises(CannotRun, match="cat-file ended"), ObjectDatabase(repo) as database:
        database.read(commit)


def test_a_mail_of_which_git_says_nothing(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import wrote a patch without an author and a subject."""
    repo = upstream.repo
    mail = b"From: A <a@example.org>\nDate: Tue, 14 Nov 2023 22:13:20 +0000\nSubject: x\n\nWhy.\n"
    assert read_mail(repo, mail, "x.patch", 1).title == "x"
    spoil(monkeypatch, tmp_path, f'exec {GIT} "$@" > {os.devnull}')
    with pytest.raises(CannotRun, match="git mailinfo gave an answer"):
        read_mail(repo, mail, "x.patch", 1)


def test_a_file_that_git_does_not_list(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, commit = upstream.repo, upstream.head()
    assert len(moved_hunks._lines(repo, commit, "python/model.py")) == 40
    spoil(monkeypatch, tmp_path, "exit 0")
    with pytest.raises(CannotRun, match="git ls-tree gave an answer"):
        moved_hunks._lines(repo, commit, "python/model.py")


def test_no_patch_is_not_the_patch_of_a_commit(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebase wrote an empty patch file."""
    repo = upstream.repo
    assert export(repo, upstream.commit("nothing is changed")) == b""
    commit = upstream.commit("more", other_txt="more\n")
    assert b"+more" in export(repo, commit)
    spoil(monkeypatch, tmp_path, f'case "$*" in *format-patch*) exit 0;; esac; exec {GIT} "$@"')
    with pytest.raises(CannotRun, match="git format-patch gave an answer"):
        export(repo, commit)


@contextmanager
def listing_spoilt_at(
    turn: int, answer: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Iterator[None]:
    """Let git answer `ls-files` number ``turn`` with ``answer``, and nothing else wrongly."""
    count = folder / "count"
    with monkeypatch.context() as patched:
        spoil(
            patched,
            folder,
            f"""case " $* " in *" ls-files "*) echo >> {count}
            [ "$(wc -l < {count})" = {turn} ] && printf '{answer}' && exit 0;; esac
            exec {GIT} "$@\"""",
        )
        yield
    assert count.read_text().count("\n") >= turn, "no answer was spoilt"


@pytest.mark.parametrize("turn", [1, 2, 3, 4])
@pytest.mark.parametrize("answer", ["", "garbage"])
def test_a_git_that_lists_something_else_leaves_no_half_of_a_move(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    turn: int, answer: str,
) -> None:  # fmt: skip
    """A move changes the series file alone. It was put back, and remained in the user's index."""
    team.line()
    team.patch("fix", "fix twenty", readme_txt="text\n")
    team.patch("more", "more", more_txt="text\n")
    git = team.track()
    words = ("move", "more", "--before", "fix", "--source", team.upstream.path)
    with listing_spoilt_at(turn, answer, monkeypatch, tmp_path):
        ran = fixtool(*words, cwd=team.root)
    assert ran.status in (0, 4), ran.err
    if git("log", "--format=%s") == "first":  # else the next command finishes what is committed
        assert git("status", "--porcelain") == ""
    if ran.status:
        assert fixtool(*words, cwd=team.root).status == 0
    assert git("log", "--format=%s").startswith("main: move more")
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize("turn", [1, 2, 3, 4])
def test_a_git_that_lists_nothing_does_not_tear_a_commit(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    turn: int,
) -> None:  # fmt: skip
    """`ls-files` says what is recorded, first in the commit and then in the user's index."""
    team.line()
    team.patch("fix", "fix twenty", readme_txt="text\n")
    git = team.track()
    words = ("drop", "fix", "--reason", "why", "--source", team.upstream.path)
    with listing_spoilt_at(turn, "", monkeypatch, tmp_path):
        ran = fixtool(*words, cwd=team.root)
    if turn == 2:  # new files were not told: the whole folder is then looked at
        assert ran.status == 0, ran.err
    else:
        assert ran.status == 4, ran.out
        assert "git did not record the change of" in ran.err
    assert fixtool(*words, cwd=team.root).status == 0
    assert git("log", "--format=%s") == "main: drop fix\nfirst"
    assert git("status", "--porcelain") == ""
