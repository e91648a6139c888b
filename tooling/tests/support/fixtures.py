"""Real git repositories, and an environment in which nothing of the developer's shines through."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.settings import Settings
from support.command import run_here, run_process
from support.repositories import NUMBERS, Git, Ran, Team, make_upstream


def pytest_collection_finish(session: pytest.Session) -> None:
    """What collecting has made stays to the end. A search for garbage need not look through it."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    for name in [one for one in os.environ if one.startswith("GIT_") and "SSL" not in one]:
        del os.environ[name]
    os.environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull)
    # A shell starts jobs in the background so that they ignore Ctrl-C, and nohup so that they ignore
    # the end of a terminal. What the tests interrupt would inherit that, and wait for an hour.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, state and cache for every test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for kind in ("STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{kind}_HOME", raising=False)
        monkeypatch.setenv(f"FIXTOOL_{kind}_DIR", str(home / kind.lower()))
    for name in ("SOURCE", "LINE", "URL", "PYTHON", "PROFILE", "PROJECT"):
        monkeypatch.delenv(f"FIXTOOL_{name}", raising=False)
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(state=home / "state", cache=home / "cache")


@pytest.fixture
def make_git(tmp_path: Path) -> Callable[[str], Git]:
    def make(name: str) -> Git:
        path = tmp_path / name
        path.mkdir()
        git = Git(path)
        git("init", "--quiet", "--template=", "--initial-branch=main")
        return git

    return make


@pytest.fixture(scope="session")
def made_upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``upstream`` is a copy of, made once."""
    return make_upstream(tmp_path_factory.mktemp("made") / "upstream").path


@pytest.fixture
def upstream(tmp_path: Path, made_upstream: Path) -> Git:
    """A small stand-in for SGLang's repository, with a base commit tagged v1.0."""
    return Git(shutil.copytree(made_upstream, tmp_path / "upstream"))


@pytest.fixture
def team(tmp_path: Path, upstream: Git) -> Team:
    team = Team(tmp_path / "team", upstream)
    team.line()
    return team


@pytest.fixture
def fixtool(tmp_path: Path) -> Callable[..., Ran]:
    """The command line, run inside this process."""

    def run(*args: str | Path, cwd: Path = tmp_path, **env: str) -> Ran:
        # A new process finds git and the modules that it imports by these.
        alone = not env.keys().isdisjoint({"PATH", "PYTHONPATH"})
        return (run_process if alone else run_here)(*args, cwd=cwd, env=env)

    return run


@pytest.fixture
def tracked(team: Team) -> Git:
    """A patch repository in git, with one patch."""
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    return team.track()
