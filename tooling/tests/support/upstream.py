"""A tiny upstream and a team's patch repository, made once and copied for each test; and a fork on a
git server that takes pushes, with a stand-in for GitHub's API."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fixtool.errors import FixtoolError
from fixtool.git.objects import Signature
from fixtool.github import client, push
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository
from fixtool.series.patch import Patch
from fixtool.settings import Settings, load
from fixtool.sources.target import TargetRequest
from fixtool.upstream._commits import ProposedBranch, propose
from fixtool.upstream.prepare import PreparedPullRequest, prepare
from fixtool.verify.flip import ProbeFlip
from support import git_http as githttp
from support import github_api as githubapi
from support.command import run_here
from support.github_api import TOKEN, Api
from support.repositories import NUMBERS, Git, Ran, format_patch

FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")
MORE = FIVE.replace("line 5 fixed\n", "line 5 fixed more\n")
TWENTY = NUMBERS.replace("line 20\n", "line 20 fixed\n")
SENDER = Signature("A Maintainer", "m@example.org", "0 +0000")
PAIR = "Co-authored-by: B Person <b@example.org>"
TEST = """\
import unittest


class Look(unittest.TestCase):
    def test(self):
        print('looked')


if __name__ == "__main__":
    unittest.main()
"""
URL = "https://github.com/sgl/sglang"
TEMPLATE = """\
<!-- Thank you. -->
Read the guide first.

## Why is this needed?

<!-- Say why. -->

## What changed

## Screenshots

<!-- if any -->

## Checklist

- [ ] Format your code with [pre-commit](https://x.example/format).
- [ ] Add unit tests.
- [ ] Update the documentation.
- [ ] Ask a friend.
"""
PROBE = """\
import os, pathlib, sys
text = (pathlib.Path(os.environ["FIXTOOL_TREE"]) / "python/model.py").read_text()
print("looked")
sys.exit(0 if {mark!r} in text else 1)
"""


@dataclass
class Repositories:
    """``upstream`` is SGLang's stand-in, ``team`` the patch repository."""

    upstream: Git
    team: Git
    settings: Settings

    @property
    def repository(self) -> PatchRepository:
        return PatchRepository.find(self.team.path)

    @property
    def context(self) -> Context:
        return Context(self.repository, self.settings)

    def words(self, slug: str, *more: str | Path, onto: str = "main") -> list[str | Path]:
        return ["upstream", slug, "--onto", onto, "--source", self.upstream.path,
                "-C", self.team.path, "--python", sys.executable, *more]  # fmt: skip

    def propose(
        self, slug: str, onto: str = "main", title: str | None = None,
        sender: Signature | None = SENDER, line: str | None = None,
    ) -> ProposedBranch:  # fmt: skip
        wanted = TargetRequest(onto, str(self.upstream.path), line)
        return propose(self.context, wanted, slug, sender, title)

    def prepare(self, slug: str, onto: str = "main", *, fresh: bool = False) -> PreparedPullRequest:
        wanted = TargetRequest(onto, str(self.upstream.path))
        return prepare(self.context, wanted, slug, sys.executable, None, fresh=fresh)  # fmt: skip

    def raises(self, slug: str, onto: str = "main") -> FixtoolError:
        try:
            self.prepare(slug, onto)
        except FixtoolError as error:
            return error
        raise AssertionError(f"{slug} was proposed")

    def file(self, slug: str, line: str = "main") -> Path:
        return self.team.path / "patches" / line / f"{slug}.patch"

    def patch(
        self, slug: str, subject: str, files: Mapping[str, str | bytes | None], *, why: str = "Why.",
        on: str = "v1.0", mark: str | None = None, line: str = "main",
        trailers: tuple[str, ...] = ("Signed-off-by: A Person <person@example.org>",),
    ) -> None:  # fmt: skip
        """Write a patch as a commit on ``on``, into the end of the series, or in its old place;
        with ``mark``, the words in python/model.py that its probe looks for, it has one."""
        git, branch = self.upstream, self.upstream("rev-parse", "--abbrev-ref", "HEAD")
        git("checkout", "--quiet", "--detach", on)
        for path, text in files.items():
            if text is None:
                (git.path / path).unlink()
            else:
                git.write(path, text)
        own = ["Origin: vendor", "Forwarded: no", "Drop-When: never"]
        if mark:
            own.append(f"Probe: probes/{slug}.py")
            self.team.write(f"verify/probes/{slug}.py", PROBE.format(mark=mark))
        git("add", "--all", "--force")
        message = "\n\n".join(part for part in (subject, why, "\n".join([*own, *trailers])) if part)
        git(
            "commit",
            "--quiet",
            "--allow-empty",
            "--cleanup=verbatim",
            "-F",
            "-",
            stdin=message.encode(),
        )
        self.file(slug, line).write_bytes(format_patch(git))
        git("branch", "--force", f"patch/{slug}")
        git("checkout", "--quiet", branch)
        series = self.file(slug, line).with_name("series")
        if f"{slug}.patch" not in series.read_text().split():
            series.write_text(f"{series.read_text()}{slug}.patch\n")

    def keep(self, *slugs: str) -> None:
        """A shorter series, which takes less time."""
        series = self.file("a").with_name("series")
        series.write_text("".join(f"{slug}.patch\n" for slug in slugs))
        for file in series.parent.glob("*.patch"):
            if file.stem not in slugs:
                file.unlink()

    def keep_result(self, name: str, result: dict[str, Any]) -> None:
        self.team.write(f"verify/results/{name}.json", json.dumps(result))

    def edit(self, slug: str, old: str, new: str) -> None:
        text = self.file(slug).read_text()
        assert old in text
        self.file(slug).write_text(text.replace(old, new))

    def save_as(self, who: str) -> None:
        """Commit all, with another author."""
        self.team("add", "--all")
        self.team("commit", "--quiet", "--allow-empty", "--message", "save", f"--author={who}")

    def save(self) -> str:
        self.team("add", "--all")
        self.team("commit", "--quiet", "--allow-empty", "--message", "save")
        return self.team("rev-parse", "HEAD")


def template(folder: Path) -> Path:
    """A series a, b, c, d: c needs a because both change one line, and d declares that it needs b."""
    upstream, team = Git(folder / "upstream"), Git(folder / "team")
    for git in (upstream, team):
        git.path.mkdir()
        git("init", "--quiet", "--template=", "--initial-branch=main")
    upstream.commit(
        "base", python__model_py=NUMBERS, python__other_py="alpha\nbeta\ngamma\n",
        README_txt="read me\n", **{".github/pull_request_template.md": TEMPLATE},
    )  # fmt: skip
    upstream("tag", "v1.0")
    upstream.commit("[GEMMA4] Go on (#901)", README_txt="read me more\n")
    upstream.commit("[GEMMA4][Docs] Go on (#902)", README_txt="read me most\n")
    upstream.commit("[gemma4] go on (#903)", README_txt="read me\n\nNow.\n")
    team("config", "user.name", SENDER.name)
    team("config", "user.email", SENDER.email)
    team.write(".gitignore", "patches/.lock\n")
    line(Repositories(upstream, team, Settings(folder, folder)), "main", "v1.0")
    repos = Repositories(upstream, team, Settings(folder, folder))
    repos.patch("a", "gemma4: change five", {"python/model.py": FIVE}, mark="line 5 fixed")
    repos.patch("b", "numbers: change beta", {"python/other.py": "alpha\nbeta!\ngamma\n"})
    repos.patch(
        "c", "gemma4: change five more", {"python/model.py": MORE, "test/test_c.py": TEST},
        on="patch/a", mark="fixed more",
        trailers=(PAIR, "Signed-off-by: A Person <person@example.org>"),
    )  # fmt: skip
    repos.patch(
        "d", "change twenty", {"python/model.py": TWENTY}, mark="line 20 fixed",
        trailers=("Depends-On: b", "Signed-off-by: A Person <person@example.org>"),
    )  # fmt: skip
    repos.save()
    return folder


def check_result(patch: Patch, said: str, **more: Any) -> dict[str, Any]:
    """The document of `fixtool verify --checks` in which one check passed on ``patch``."""
    return {
        "command": "verify", "line": "main", "ref": "v1.0", "source": "git", "base": "a" * 40,
        "onto": "b" * 40, "missing": [], "kinds": ["checks"], "trees": {},
        "patches": [{"slug": patch.slug, "sha256": patch.digest, "diff": patch.diff_digest}],
        "started": "2026-11-24T01:02:03Z", "ended": "2026-11-24T01:02:04Z",
        "environment": {"gpus": [{"name": "NVIDIA H100"}], "packages": {"torch": "2.9.0"},
                        "python": "3.12"},
        "steps": [{"name": "routing", "kind": "check", "tree": "series", "slug": None, "want": [0],
                   "answer": 0, "outcome": "passed", "said": said, "seconds": 1.0,
                   "memory_bytes": None, "log": None, "details": {}}],
        **more,
    }  # fmt: skip


def line(repos: Repositories, name: str, base: str) -> None:
    sha, tree = (repos.upstream("rev-parse", f"{base}^{{{kind}}}") for kind in ("commit", "tree"))
    repos.team.write(
        f"patches/{name}/upstream.toml",
        f'url = "{URL}"\nbase = "{sha}"\ntree = "{tree}"\nversion = "1.0"\ndate = "2026-01-02"\n'
        'why = "a test"\n',
    )
    repos.team.write(f"patches/{name}/series", "# in order\n")


def copy(made: Path, place: Path) -> Repositories:
    """What ``template`` made, in ``place``, with the settings of the environment."""
    for name in ("upstream", "team"):
        shutil.copytree(made / name, place / name)
    return Repositories(Git(place / "upstream"), Git(place / "team"), load(None))


@dataclass
class Hosting:
    """The repositories, and the fork of octocat, who owns the token."""

    repos: Repositories
    fork: Git
    server: githttp.Server
    api: Api

    @property
    def env(self) -> dict[str, str]:
        return {
            "GITHUB_API_URL": self.api.url, "GITHUB_SERVER_URL": self.server.url,
            "GITHUB_TOKEN": TOKEN, "FIXTOOL_URL": f"{self.server.url}/sgl/sglang.git",
            "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def tip(self, branch: str = "b") -> str | None:
        return (
            self.fork("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)
            or None
        )

    def state(self) -> tuple[Any, ...]:
        """All that fork and upstream hold on GitHub."""
        return repr(self.api.pulls), repr(self.api.comments), self.fork("for-each-ref")


@contextmanager
def host_fork(repos: Repositories, place: Path) -> Iterator[Hosting]:
    fork = Git(place / "hub" / "octocat" / "sglang.git")
    fork.path.parent.mkdir(parents=True)
    repos.upstream("clone", "--quiet", "--bare", "--no-local", "--template=", "--single-branch",
                  "--branch=main", str(repos.upstream.path), str(fork.path))  # fmt: skip
    fork("config", "http.receivepack", "true")
    with (
        githttp.serve(place / "hub", f"x-access-token:{TOKEN}") as server,
        githubapi.serve() as api,
    ):
        api.repository = "sgl/sglang"
        api.forks["octocat/sglang"] = {}
        yield Hosting(replace(repos), fork, server, api)


@contextmanager
def hosted(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosting]:
    """A hosted fork, without waits, with probes that answer that their patch is needed."""
    for module in (client, push):
        monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    needed(monkeypatch)
    for name in ("GH_TOKEN", "GITHUB_REPOSITORY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    with host_fork(copy(made, place), place) as hosting:
        for name, value in hosting.env.items():
            monkeypatch.setenv(name, value)
        yield hosting


def needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer for all probes that their patch is needed: running one takes half a second."""
    flips = ProbeFlip(
        "probes/x.py", 1, 0, "without it: the bug is there; with it: it is not", "CPU"
    )
    monkeypatch.setattr("fixtool.upstream.prepare.flip_probe", lambda *words: flips)


def call(*words: str | Path, typed: str = "") -> Ran:
    """Run the command in this process: it starts faster, and monkeypatches reach it."""
    return run_here(*words, cwd=Path.cwd(), typed=typed)
