"""Real git repositories, as a person drives them, and what a run of the command gave."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository, Upstream
from fixtool.series.write import upstream_toml
from fixtool.settings import load

ROOT = Path(__file__).resolve().parents[3]
"""The checkout of fixtool that the tests run from."""

DATE = "2026-01-02T03:04:05+0100"

TRAILERS = "Origin: vendor\nForwarded: no\nDrop-When: never\nSigned-off-by: A <a@example.org>"
"""What lint asks of the end of a message."""


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
        return self.head()

    def head(self) -> str:
        """The id of the commit that HEAD leads to, where possible without starting git."""
        head = self.path / ".git" / "HEAD"
        text = head.read_text().strip() if head.is_file() else ""
        if text.startswith("ref: ") and (head.parent / text[5:]).is_file():
            text = (head.parent / text[5:]).read_text().strip()
        return text if re.fullmatch("[0-9a-f]{40}", text) else self("rev-parse", "HEAD")

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


NUMBERS = "".join(f"line {n}\n" for n in range(1, 41))


def make_upstream(path: Path) -> Git:
    """A small stand-in for SGLang's repository, with a base commit tagged v1.0."""
    path.mkdir()
    git = Git(path)
    git("init", "--quiet", "--template=", "--initial-branch=main")
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

    def init(self) -> Git:
        """Put the patch repository into git, without a commit."""
        git = Git(self.root)
        git("init", "--quiet", "--template=", "--initial-branch=main")
        git("config", "user.name", "A Maintainer")
        git("config", "user.email", "m@example.org")
        git.write(".gitignore", "patches/.lock\n")
        return git

    def track(self) -> Git:
        """Put the patch repository into git, and commit all of it."""
        git = self.init()
        git.commit("first")
        return git

    @property
    def slugs(self) -> list[str]:
        """The series of the line ``main``."""
        return [entry.slug for entry in self.repository.line("main").entries]

    @property
    def repository(self) -> PatchRepository:
        return PatchRepository.find(self.root)

    @property
    def context(self) -> Context:
        """What a command starts from that is typed there."""
        return Context(self.repository, load(self.root, os.environ))


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str
