"""A team's patch repository on a git server that takes pushes, beside a stand-in for GitHub's API,
and the documents that a nightly rebase leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import git_http as githttp
from support import github_api as githubapi
from support.github_api import TOKEN, Api
from support.repositories import Git

BRANCH = "fixtool/nightly/main"
UPSTREAM = "https://github.com/sgl-project/sglang"
CULPRIT = {
    "sha": "c" * 40,
    "author": "Some Body",
    "date": "2026-11-20T10:11:12-07:00",
    "subject": "Rework the router (#15238)",
    "pr": 15238,
}
Json = dict[str, Any]


@dataclass
class World:
    git: Git  # the patch repository
    served: Path  # the same, bare, on the server
    server: githttp.Server
    api: Api

    @property
    def env(self) -> dict[str, str]:
        return {
            "GITHUB_API_URL": self.api.url,
            "GITHUB_SERVER_URL": self.server.url,
            "GITHUB_REPOSITORY": self.api.repository,
            "GITHUB_TOKEN": TOKEN,
            "no_proxy": "127.0.0.1",
        }

    @property
    def root(self) -> Path:
        return self.git.path

    def moved(self, text: str = "# moved\n", path: str = "patches/main/series") -> str:
        """A commit as a rebase makes it. The branch that is checked out does not move."""
        self.git("checkout", "--quiet", "--detach")
        self.git.write(path, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Rebase line main")
        commit = self.git("rev-parse", "HEAD")
        self.git("checkout", "--quiet", "main")
        return commit

    def bundle(self, commit: str, path: Path) -> Path:
        self.git("checkout", "--quiet", "--detach", commit)
        self.git("bundle", "create", "--quiet", str(path), "main..HEAD")
        self.git("checkout", "--quiet", "main")
        return path

    def tip(self, branch: str = BRANCH) -> str | None:
        process = subprocess.run(
            ["git", f"--git-dir={self.served}", "rev-parse", "--verify", "--quiet",
             f"refs/heads/{branch}"], capture_output=True, text=True, check=False,
        )  # fmt: skip
        return process.stdout.strip() or None

    def refs(self) -> str:
        return subprocess.run(
            ["git", f"--git-dir={self.served}", "for-each-ref"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


def template(folder: Path) -> Path:
    """Both repositories, made once and copied for each test, because making them is slow."""
    git = Git(folder / "team")
    for name, text in {
        "series": "# in order\nfix.patch\n",
        "fix.patch": "From: A Person <person@example.org>\nSubject: [PATCH] mend fix\n",
        "upstream.toml": f'url = "{UPSTREAM}"\nbase = "{"a" * 40}"\ntree = "{"e" * 40}"\n'
        'version = "1.0"\ndate = "2026-01-02"\nwhy = "a test"\n',
    }.items():
        git.write(f"patches/main/{name}", text)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git("remote", "add", "origin", "http://127.0.0.1/acme/fork.git")
    git("add", "--all")
    git("commit", "--quiet", "--message", "the series")
    served = folder / "hub" / "acme" / "fork.git"
    served.parent.mkdir(parents=True)
    git("clone", "--quiet", "--bare", "--no-local", "--template=", str(git.path), str(served))
    Git(served)("config", "http.receivepack", "true")
    return folder


@contextmanager
def world(made: Path, place: Path) -> Iterator[World]:
    """A copy of what ``template`` made, in ``place``, and both servers running."""
    for name in ("team", "hub"):
        shutil.copytree(made / name, place / name)
    git, hub = Git(place / "team"), place / "hub"
    login = f"x-access-token:{TOKEN}"
    with githttp.serve(hub, login) as server, githubapi.serve() as api:
        git("remote", "set-url", "origin", f"{server.url}/acme/fork.git")
        yield World(git, hub / "acme" / "fork.git", server, api)


def patch(slug: str, verdict: str = "clean", action: str = "kept", **more: Any) -> Json:
    return {
        "slug": slug, "subject": f"mend {slug}", "verdict": verdict, "commit": "d" * 40,
        "files": [{"path": "python/model.py", "verdict": verdict, "hunks": []}], "evidence": [],
        "culprit": None, "action": action, "probe": None, **more,
    }  # fmt: skip


def document(**more: Any) -> Json:
    """The document of a rebase that had nothing to do, changed by ``more``."""
    rebase = {
        "schema": 1, "command": "rebase", "ok": True, "exit_code": 0, "line": "main",
        "new_line": None, "base": "a" * 40, "onto": "b" * 40, "ref": "main",
        "source": "git", "dry_run": False,
        "moved": False, "patches": [patch("fix")], "tree": "e" * 40, "commit": "f" * 40,
        "committed": None, "warnings": [], "range_diff": "", "session": None, **more,
    }  # fmt: skip
    return rebase | {"ok": rebase["exit_code"] == 0}


def conflict(**more: Any) -> Json:
    stopped = patch("fix", "conflict", "asked", commit=None, culprit=CULPRIT,
                  evidence=["hunk 1: no place found"])  # fmt: skip
    return document(**{"exit_code": 3, "patches": [stopped], **more})


def failure(message: str = "cannot reach https://github.com/x", code: int = 4) -> Json:
    error = {"message": message, "where": None, "hint": "try later"}
    return {"schema": 1, "command": "rebase", "ok": False, "exit_code": code, "error": error}


def history(**more: Any) -> Json:
    commit = {**CULPRIT, "pr": None}
    first = {"verdict": "clean", "first": commit, "last": commit, "count": 312, "culprit": None,
             "evidence": []}  # fmt: skip
    second = {**first, "verdict": "conflict", "count": 5, "culprit": CULPRIT}
    return {
        "schema": 1, "command": "history", "ok": True, "exit_code": 0, "line": "main",
        "start": "a" * 40, "end": "b" * 40, "commits": 317, "judged": 317, "reused": 0,
        "seconds": 1.0, "releases": None,
        "patches": [{"slug": "fix", "subject": "s", "intervals": [first, second]}], **more,
    }  # fmt: skip


def write(path: Path, data: Json) -> Path:
    path.write_text(json.dumps(data), "utf-8")
    return path
