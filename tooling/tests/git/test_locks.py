"""Locks of git's: one that a killed git left is removed, and one that is held is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtool.errors import CannotRun
from fixtool.git import process
from fixtool.git.process import remove_stale_locks
from support.processes import wait_until
from support.repositories import Git, Ran, Team

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only /proc says who runs where")


@contextmanager
def committing(git: Git, tmp_path: Path) -> Iterator[Path]:
    """A git that holds the lock of the index, because it waits for its editor. The lock."""
    go_on = tmp_path / "go-on"
    os.mkfifo(go_on)
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\necho said > $1\nread line < {go_on}\n")
    editor.chmod(0o755)
    git.write("note.txt", "new\n")
    git("add", "note.txt")
    git.write("note.txt", "newer\n")
    env = {**os.environ, "GIT_EDITOR": str(editor)}
    command = ["git", "-C", str(git.path), "commit", "--quiet", "--all"]
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    lock = git.path / ".git" / "index.lock"
    try:
        wait_until(lambda: lock.exists() and (git.path / ".git" / "COMMIT_EDITMSG").exists())
        yield lock
    finally:
        with go_on.open("w") as pipe:
            pipe.write("go on\n")
        assert running.wait() == 0


def drop(fixtool: Callable[..., Ran], team: Team) -> Ran:
    source = ("--source", team.upstream.path)
    return fixtool("drop", "fix", "--reason", "why", *source, cwd=team.root)


@pytest.mark.parametrize("age", [-86_400, 0, 86_400], ids=["old", "new", "of the future"])
def test_a_lock_that_a_killed_git_left(tracked: Git, age: int) -> None:
    lock = tracked.path / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() + age,) * 2)
    remove_stale_locks(tracked.path / ".git", tracked.path, "index", "HEAD")
    assert not lock.exists()


@on_linux
@pytest.mark.parametrize("age", [-86_400, 86_400], ids=["old", "of the future"])
def test_a_lock_that_another_git_holds(
    tracked: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.3)
    with committing(tracked, tmp_path) as lock:
        os.utime(lock, (time.time() + age,) * 2)
        with pytest.raises(CannotRun, match=r"git \(process \d+\) is at work .* index\.lock"):
            remove_stale_locks(tracked.path / ".git", tracked.path, "index")
        assert lock.exists()
    remove_stale_locks(tracked.path / ".git", tracked.path, "index")


@on_linux
def test_a_change_waits_for_another_git_and_changes_nothing(
    fixtool: Callable[..., Ran], team: Team, tracked: Git, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(process, "_GRACE", 0.3)
    with committing(tracked, tmp_path) as lock:
        before = tracked.snapshot()
        ran = drop(fixtool, team)
        assert (ran.status, lock.exists()) == (4, True), ran.err
        assert "is at work in this repository: it holds index.lock" in ran.err
        assert tracked.snapshot() == before
    assert drop(fixtool, team).status == 0
    assert tracked("status", "--porcelain") == ""
    assert tracked("log", "--format=%s") == "main: drop fix\nsaid\nfirst"


def test_a_lock_is_waited_for(tracked: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git_dir = tracked.path / ".git"
    lock = git_dir / "index.lock"
    lock.touch()
    monkeypatch.setattr(process.time, "sleep", lambda _: lock.unlink())
    process.wait_for_lock(git_dir, tracked.path, "index")
    assert not lock.exists()


def test_a_lock_that_is_held_for_a_moment(
    fixtool: Callable[..., Ran], team: Team, tracked: Git
) -> None:
    """Editors and prompts run `git status`, which takes the lock of the index."""
    lock = tracked.path / ".git" / "index.lock"
    lock.touch()
    timer = threading.Timer(0.5, lock.unlink)
    timer.start()
    assert drop(fixtool, team).status == 0
    timer.join()
    assert tracked("status", "--porcelain") == ""
