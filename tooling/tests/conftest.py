"""Real git repositories, and an environment in which nothing of the developer's shines through."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtool.git.repo import Repo
from fixtool.series.line import PatchRepository, Upstream, upstream_toml
from fixtool.settings import Settings

DATE = "2026-01-02T03:04:05+0100"


def pytest_configure(config: pytest.Config) -> None:
    for name in [one for one in os.environ if one.startswith("GIT_") and "SSL" not in one]:
        del os.environ[name]
    os.environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a clone with the full history says so, by name, where there is none."""
    if os.environ.get("FIXTOOL_SGLANG_REPO"):
        return
    skip = pytest.mark.skip(reason="FIXTOOL_SGLANG_REPO names no clone of SGLang")
    for item in items:
        if item.get_closest_marker("history"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, state and cache for every test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for kind in ("STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{kind}_HOME", raising=False)
        monkeypatch.setenv(f"FIXTOOL_{kind}_DIR", str(home / kind.lower()))
    for name in ("FIXTOOL_SOURCE", "FIXTOOL_LINE", "FIXTOOL_URL", "FIXTOOL_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(state=home / "state", cache=home / "cache")


@dataclass(frozen=True)
class Git:
    """A work tree driven by the git command, as a person would."""

    path: Path

    def __call__(self, *args: str, stdin: bytes | None = None, check: bool = True) -> str:
        identity = {"NAME": "A Person", "EMAIL": "person@example.org", "DATE": DATE}
        env = {f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()}
        done = subprocess.run(
            ["git", "-C", str(self.path), "-c", "protocol.file.allow=always", *args],
            input=stdin, capture_output=True, env={**os.environ, **env}, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"git {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, path: str, text: str | bytes) -> None:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)

    def commit(self, message: str, **files: str | bytes | None) -> str:
        """Commit ``files`` (``a__b_py`` is a/b.py; None deletes) and return the id."""
        for name, text in files.items():
            path = name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt")
            if text is None:
                (self.path / path).unlink()
            else:
                self.write(path, text)
        self("add", "--all", "--force")
        self("commit", "--quiet", "--allow-empty", "--message", message)
        return self("rev-parse", "HEAD")

    @property
    def repo(self) -> Repo:
        return Repo.open(self.path)

    def snapshot(self) -> dict[str, str]:
        """Every ref, HEAD, status and file: equal before and after means nothing changed."""
        files = {
            str(one.relative_to(self.path)): one.read_bytes().hex()
            for one in sorted(self.path.rglob("*"))
            if one.is_file() and ".git/" not in str(one)
        }
        return {
            "refs": self("for-each-ref"),
            "head": self("symbolic-ref", "-q", "HEAD", check=False) + self("rev-parse", "HEAD"),
            "status": self("status", "--porcelain"),
            **files,
        }


@pytest.fixture
def make_git(tmp_path: Path) -> Callable[[str], Git]:
    def make(name: str) -> Git:
        path = tmp_path / name
        path.mkdir()
        git = Git(path)
        git("init", "--quiet", "--initial-branch=main")
        return git

    return make


NUMBERS = "".join(f"line {n}\n" for n in range(1, 41))


@pytest.fixture
def upstream(make_git: Callable[[str], Git]) -> Git:
    """A small stand-in for SGLang's repository, with a base commit tagged v1.0."""
    git = make_git("upstream")
    git.commit(
        "base",
        python__model_py=NUMBERS,
        python__other_py="alpha\nbeta\ngamma\n",
        README_txt="read me\n",
    )
    git("tag", "v1.0")
    return git


def format_patch(git: Git, commit: str = "HEAD") -> bytes:
    from fixtool.series.patch import export

    return export(git.repo, git("rev-parse", commit))


@dataclass
class Team:
    """A patch repository under construction."""

    root: Path
    upstream: Git

    def line(self, name: str = "main", base: str | None = None) -> Path:
        folder = self.root / "patches" / name
        folder.mkdir(parents=True, exist_ok=True)
        base = base or self.upstream("rev-parse", "v1.0^{commit}")
        tree = self.upstream("rev-parse", f"{base}^{{tree}}")
        about = Upstream(str(self.upstream.path), base, tree, None, "1.0", "2026-01-02")
        (folder / "upstream.toml").write_text(upstream_toml(about, "a test"))
        if not (folder / "series").exists():
            (folder / "series").write_text("# in order\n")
        return folder

    def add(self, slug: str, raw: bytes, line: str = "main") -> Path:
        folder = self.root / "patches" / line
        (folder / f"{slug}.patch").write_bytes(raw)
        with (folder / "series").open("a") as series:
            series.write(f"{slug}.patch\n")
        return folder / f"{slug}.patch"

    def patch(self, slug: str, subject: str, base: str | None = None, **files: str | None) -> bytes:
        """Write a patch by committing ``files`` on a side branch and exporting the commit."""
        git = self.upstream
        here = git("symbolic-ref", "--short", "HEAD")
        git("checkout", "--quiet", "--detach", base or "v1.0")
        message = f"{subject}\n\nWhy.\n\nOrigin: vendor\nForwarded: no\nDrop-When: never\n"
        git.commit(f"{message}Signed-off-by: A Person <person@example.org>", **files)
        raw = format_patch(git)
        git("branch", "--force", f"patch/{slug}")
        git("checkout", "--quiet", here)
        self.add(slug, raw)
        return raw

    @property
    def repository(self) -> PatchRepository:
        return PatchRepository.find(self.root)


@pytest.fixture
def team(tmp_path: Path, upstream: Git) -> Team:
    team = Team(tmp_path / "team", upstream)
    team.line()
    return team


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


@pytest.fixture
def fixtool(tmp_path: Path) -> Callable[..., Ran]:
    """The command itself, as a process."""

    def run(*args: str | Path, cwd: Path = tmp_path, **env: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "fixtool", *map(str, args)],
            cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
