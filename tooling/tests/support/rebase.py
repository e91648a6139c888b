"""A maintainer who rebases lines of patches, and the changes that upstream makes meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")
"""The file with the bug of its line 5 fixed."""

FIVE_AND_TWENTY = FIVE.replace("line 20\n", "line 20 fixed\n")
FIVE_MORE = FIVE.replace("line 5 fixed\n", "line 5 fixed more\n")
SHIFTED = "line 0\n" + NUMBERS
REWRITTEN = NUMBERS.replace("line 5\n", "line V\n")
OTHER = "alpha\nbeta!\ngamma\n"
PULL_REQUEST = b"Forwarded: https://x.org/o/r/pull/9"

_PROBE = """\
import os, pathlib, sys
text = (pathlib.Path(os.environ['FIXTOOL_TREE']) / 'python/model.py').read_text()
print('looked')
sys.exit(0 if {mark!r} in text else 1)
"""


@dataclass(frozen=True)
class Maintainer:
    """Somebody who runs fixtool in a patch repository."""

    fixtool: Callable[..., Ran]
    team: Team

    @property
    def upstream(self) -> Git:
        return self.team.upstream

    @property
    def git(self) -> Git:
        """The git repository that holds the patch repository."""
        return Git(self.team.root)

    @property
    def folder(self) -> Path:
        return self.team.root / "patches" / "main"

    def track(self) -> None:
        """Put the patch repository in git."""
        self.team.init()

    def save(self) -> str:
        """Commit the patch repository as it is."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "save")
        return self.git("rev-parse", "HEAD")

    def files(self, line: str = "main") -> dict[str, bytes]:
        """The bytes of every file of a line."""
        folder = self.team.root / "patches" / line
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def run(self, *words: str | Path, **env: str) -> Ran:
        return self.fixtool(*words, "-C", self.team.root, **env)

    def on_source(self, *words: str | Path, **env: str) -> Ran:
        """Run a command on upstream's repository."""
        return self.run(*words, "--source", self.upstream.path, **env)

    def rebase(self, *words: str, **env: str) -> dict[str, Any]:
        """The document of a rebase onto upstream's main."""
        return document(self.on_source("rebase", "--json", "--onto", "main", *words, **env))

    def resume(self, *words: str) -> dict[str, Any]:
        """The document of a rebase that goes on."""
        return document(self.run("rebase", "--json", *words))

    # -- patches -----------------------------------------------------------------------------

    def patch_five(self) -> bytes:
        return self.team.patch("five", "fix five", python__model_py=FIVE)

    def patch_other(self) -> bytes:
        return self.team.patch("other", "fix other", python__other_py=OTHER)

    def edit(self, slug: str, old: bytes, new: bytes) -> None:
        """Replace a text in a patch file."""
        path = self.folder / f"{slug}.patch"
        path.write_bytes(path.read_bytes().replace(old, new))

    def add_probe(self, slug: str, mark: str) -> None:
        """Give a patch a probe that says fixed if its file holds ``mark``."""
        probe = self.team.root / "verify" / "probes" / f"{slug}.py"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text(_PROBE.format(mark=mark))
        trailer = b"Drop-When: never\n"
        self.edit(slug, trailer, trailer + f"Probe: probes/{slug}.py\n".encode())

    def rebase_with_probes(self, *words: str) -> dict[str, Any]:
        return self.rebase(*words, "--probe", "--python", sys.executable)


def outcomes(rebased: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The verdict and the action of each patch."""
    return {patch["slug"]: (patch["verdict"], patch["action"]) for patch in rebased["patches"]}


# -- what upstream does ----------------------------------------------------------------------


def shift(git: Git) -> str:
    return git.commit("shift", python__model_py=SHIFTED)


def change_other_things(git: Git) -> str:
    return git.commit("other things", README_txt="new\n")


def rewrite(git: Git) -> str:
    message = "rewrite five (#12)\n\nIt was wrong for odd ones."
    return git.commit(message, python__model_py=REWRITTEN)


def take_reworded(git: Git) -> str:
    text = FIVE.replace("5 fixed", "5 mended")
    return git.commit("take it, reworded (#9)", python__model_py=text)
