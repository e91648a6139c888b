"""No git call lasts for ever: not one that waits for a server, and not one that waits for a disk."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.git.process import TimeLimit, end_all, pool, start
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.settings import load
from support.processes import wait_until
from support.repositories import Git, Ran, Team


@contextmanager
def silent_server(drip: bytes = b"") -> Iterator[str]:
    """A server that takes connections and sends nothing, or ``drip`` now and then. Its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" * bool(drip))
            while not closing.wait(0.1):
                connection.sendall(drip)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/sglang.git"
    finally:
        closing.set()
        listener.close()


def test_a_server_that_sends_nothing_is_given_up(fixtool: Callable[..., Ran], team: Team) -> None:
    with silent_server() as url:
        words = ("apply", "--sglang-ref", "main", "--source", url, "--json")
        ran = fixtool(*words, cwd=team.root, FIXTOOL_TIMEOUT="1")
    assert ran.status == 4
    assert "Operation too slow" in ran.out


@pytest.mark.slow(4)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store.git", online=True, timeout=0.05)
    with (
        silent_server(b"0032") as url,
        pytest.raises(CannotRun, match="git ls-remote did not end within 3 seconds") as caught,
    ):
        store.remote_refs(url)
    assert "run the same command again" in str(caught.value.hint)


def test_the_users_own_limit_wins(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".gitconfig").write_text("[http]\n\tlowSpeedTime = 7\n")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    store = Store.create(tmp_path / "store.git", online=True)
    assert store.run("config", "--get-all", "http.lowSpeedTime").text == "60\n7"


@pytest.mark.parametrize("text", ["7", "'7'", "7.0"])
def test_a_timeout_in_the_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.fixtool]\ntimeout = {text}\n")
    assert load(tmp_path, {"HOME": str(tmp_path)}).timeout == 7.0
    assert load(tmp_path, {"HOME": str(tmp_path), "FIXTOOL_TIMEOUT": "8"}).timeout == 8.0


@pytest.mark.parametrize("key", ["timeout", "line", "source", "url", "python", "project"])
def test_an_empty_setting_is_not_the_default(key: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.fixtool]\n{key} = ''\n")
    with pytest.raises(Refused, match=f"{key} is empty"):
        load(tmp_path, {"HOME": str(tmp_path)})


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "a minute"])
def test_a_timeout_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.fixtool]\ntimeout = '{text}'\n")
    with pytest.raises(Refused, match="is no number of seconds"):
        load(tmp_path, {"HOME": str(tmp_path)})


def put_git_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def gone(ids: Path) -> bool:
    """Whether no process of the git runs any more."""
    for pid in ids.read_text().split():
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                return False
    return True


@pytest.mark.slow(7)
def test_a_git_that_hangs_is_ended(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what it has started, which holds its pipes open."""
    ids = tmp_path / "ids"
    put_git_on_path(monkeypatch, tmp_path, f"sleep 3600 & echo $$ $! > {ids}; wait")
    repo = Repo(upstream.path / ".git")
    monkeypatch.setattr(Repo, "_version_checked", True)
    monkeypatch.setattr(Repo, "_limit", 2.0)
    with pytest.raises(CannotRun, match="git rev-parse did not end within 2 seconds"):
        repo.run("-c", "a.b=c", "rev-parse")
    with pytest.raises(TimeLimit):
        repo.run_as_user("config")
    monkeypatch.setattr(Repo, "_version_checked", False)
    with pytest.raises(CannotRun, match="git version does not end"):
        repo.run("rev-parse")
    wait_until(lambda: gone(ids))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the kernel does not tell")
def test_a_limit_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that did not end when it was told to had twice the time before it was killed."""
    put_git_on_path(monkeypatch, tmp_path, "exec sleep 3600")
    git = start([], tmp_path, dict(os.environ), None)
    left: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "wait", lambda _, timeout: left.append(timeout) or 0)
        git.wait(0.2)
    git.kill()
    git.communicate()
    assert len(left) == 1
    assert left[0] < 0.1


def test_an_interrupted_git_interrupts_fixtool(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches git first if fixtool is busy: that is no failure of git's."""
    monkeypatch.setattr(Repo, "_version_checked", True)
    put_git_on_path(monkeypatch, tmp_path, "kill -INT $$; sleep 3600")
    with pytest.raises(KeyboardInterrupt):
        Repo(upstream.path / ".git").run("rev-parse")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, CannotRun("a thread failed")])
def test_an_interrupt_ends_the_gits_of_all_threads(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: BaseException
) -> None:
    """TERM reaches only the main thread, which then waited for the gits of the others."""
    ids = tmp_path / "ids"
    put_git_on_path(monkeypatch, tmp_path, f"echo $$ >> {ids}; exec sleep 3600")
    monkeypatch.setattr(Repo, "_version_checked", True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    repo = Repo(upstream.path / ".git")
    running: list[Future[object]] = []

    def run() -> None:
        with pool() as threads:
            running.extend(threads.submit(repo.run, "rev-parse") for _ in range(3))
            wait_until(lambda: ids.exists() and len(ids.read_text().split()) == 2)
            raise interrupt

    with pytest.raises((KeyboardInterrupt, CannotRun)):
        run()
    assert gone(ids)
    assert len(ids.read_text().split()) == 2
    assert [future.cancelled() for future in running] == [False, False, True]


def test_an_interrupt_ends_the_git_that_a_thread_asks_for_objects(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run waited ten minutes after TERM: its thread waited for the answer of such a git."""
    ids = tmp_path / "ids"
    put_git_on_path(monkeypatch, tmp_path, f"echo $$ >> {ids}; exec sleep 3600")
    monkeypatch.setattr(Repo, "_version_checked", True)
    repo = Repo(upstream.path / ".git")

    def ask() -> None:
        with ObjectDatabase(repo) as objects:
            objects.read(Oid("1" * 40))

    def run() -> None:
        with pool() as threads:
            threads.submit(ask)
            wait_until(lambda: ids.exists() and bool(ids.read_text()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert gone(ids)


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Puts a git on PATH that does not end, and gives the process of the newest."""
    program, note = tmp_path / "bin" / "git", tmp_path / "process"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ >{note}\nexec sleep 3600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(Repo, "_version_checked", True)

    def newest() -> int:
        wait_until(lambda: note.is_file() and note.read_text())
        return int(note.read_text())

    return newest


def test_an_interrupt_ends_a_git_that_nobody_waits_for_yet(
    tmp_path: Path, endless: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the process was made, and before anybody could see to its end."""
    repo, found = Repo(tmp_path), []

    def interrupted(*_: object) -> None:
        found.append(endless())
        raise KeyboardInterrupt

    monkeypatch.setattr("fixtool.git.repo.communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repo.run("status")
    (process,) = found
    end_all()
    wait_until(lambda: not Path(f"/proc/{process}").exists())


def test_a_git_that_nobody_holds_any_more_ends(tmp_path: Path, endless: Callable[[], int]) -> None:
    """It is held until it has written its number: released earlier, it may end before it has."""
    held = [Repo(tmp_path).start("cat-file", "--batch")]
    process = endless()
    held.clear()
    wait_until(lambda: not Path(f"/proc/{process}").exists())
