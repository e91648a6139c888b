"""The folder in which a suite works: clones, work trees, and fixtool's own folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from timing import CommandFailed

ROOT = Path(__file__).resolve().parents[2]
"""The checkout of this repository."""


class Place:
    """A folder with everything that a suite makes. ``fixtool`` is the program, ``environment`` that
    of all commands: no configuration of git, one person, and fixtool's folders in this folder."""

    def __init__(self, folder: Path, fixtool: Path) -> None:
        self.folder = folder
        self.fixtool = fixtool
        self.cache = folder / "cache"
        self.state = folder / "state"
        self.environment: Mapping[str, str] = _environment(self.state, self.cache)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *words: str | Path, at: Path | None = None, stdin: bytes = b"") -> str:
        """The output of a command that is not measured. Raises CommandFailed if it fails."""
        done = subprocess.run(
            words, cwd=at or self.folder, env=self.environment, input=stdin, capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            text = done.stderr.decode("utf-8", "replace")
            raise CommandFailed(
                f"exit code {done.returncode} of {' '.join(map(str, words))[:300]}\n{text[-600:]}"
            )
        return done.stdout.decode("utf-8", "replace").strip()

    def git(self, repo: Path, *words: str | Path) -> str:
        return self.run("git", "-C", repo, *words)

    def shared_clone(self, repo: Path, name: str = "upstream.git") -> Path:
        """A bare clone that borrows the objects of ``repo``, which is only read."""
        clone = self.folder / name
        self.run("git", "clone", "--quiet", "--shared", "--bare", repo.resolve(), clone)
        return clone

    def work_tree(self, repo: Path, name: str, commit: str) -> Path:
        """A work tree of ``repo`` on ``commit``, on no branch."""
        folder = self.folder / name
        self.git(repo, "worktree", "add", "--quiet", "--detach", folder, commit)
        return folder

    def patch_repository(self, name: str, repo: Path, base: str, *imported: str | Path) -> Path:
        """A patch repository with one line, ``sample``, on ``base`` of ``repo``. ``imported`` are
        the words of `fixtool import`. It is made with fixtool's own commands, and committed."""
        folder = self.start_line(name, repo, base)
        self.run(self.fixtool, "-C", folder, "import", *imported, "--line", "sample")
        self.commit_all(folder)
        return folder

    def start_line(self, name: str, repo: Path, base: str) -> Path:
        """A patch repository whose one line, ``sample``, has no patch yet."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        self.run(self.fixtool, "init", folder, "--upstream", repo, "--base", base,
                 "--line", "sample", "--wheel-version", "0.0.1")  # fmt: skip
        return folder

    def commit_all(self, folder: Path) -> None:
        self.git(folder, "init", "--quiet")
        self.git(folder, "add", "--all")
        self.git(folder, "commit", "--quiet", "--message=all")

    def empty_cache(self) -> None:
        """Take away what fixtool remembers, but not its downloads."""
        for path in self.cache.glob("*"):
            if path.name != "releases":
                shutil.rmtree(path)


@contextmanager
def temporary_place(parent: Path | None, fixtool: Path) -> Iterator[Place]:
    """A place in a new folder of ``parent``, or of the system's folder for temporary files."""
    with tempfile.TemporaryDirectory(
        prefix="fixtool-bench-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Place(Path(folder).resolve(), fixtool)


def missing(program: str, package: str) -> str:
    """Why a contestant cannot run here, or an empty text if ``program`` is installed."""
    if shutil.which(program):
        return ""
    return f"{program} is not installed (Debian package {package})"


def both(*calls: Callable[[], object]) -> Callable[[], None]:
    """One call that makes all of ``calls``."""

    def call() -> None:
        for each in calls:
            each()

    return call


def _environment(state: Path, cache: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items()
            if not name.startswith(("GIT_", "FIXTOOL_", "QUILT_"))}  # fmt: skip
    identity = {"NAME": "A Person", "EMAIL": "person@example.org"}
    return {
        **kept,
        **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        # Else git packs its objects in the background now and then, while others are measured.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "gc.auto",
        "GIT_CONFIG_VALUE_0": "0",
        "FIXTOOL_STATE_DIR": str(state),
        "FIXTOOL_CACHE_DIR": str(cache),
        "no_proxy": "127.0.0.1",
    }
