"""The place where an attack is tried: repositories, a private file, and what must hold afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fixtool.git.repo import Repo
from support.bad_inputs import mail
from support.command import run_here, run_process
from support.repositories import NUMBERS, Git, Ran, Team

SECRET = "the text of a private key"
FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
OTHER = "alpha\nBETA\ngamma\n"
NEAR = NUMBERS.replace("line 22\n", "line 22 new\n")
PROBE = (
    "import os, pathlib, sys\n"
    'text = pathlib.Path(os.environ["FIXTOOL_TREE"], "python/model.py").read_text()\n'
    'print("saw")\nsys.exit(0 if "line 20 fixed" in text else 1)\n'
)
SECONDS = 180  # a busy machine takes a minute for what takes two seconds alone
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_JOB_COMMAND = re.compile(r"^\s*::|##\[", re.MULTILINE)


class Wrong(Exception):
    """What must hold does not."""


@dataclass(frozen=True)
class Attack:
    """``who`` tries ``what`` by means of ``verb``. ``attempt`` does it in a fresh place and returns
    what the command gave; it raises Wrong if more than what every attack must leave alone fell.
    ``must`` is what has to hold: "refused" (exit 1, 2 or 4), "held" (any answer of fixtool's, and
    nothing of the user's read, written or run), or "right" (exit 0 with the right result)."""

    who: str
    verb: str
    what: str
    attempt: Callable[[Place], Ran]
    must: str = "refused"


@dataclass
class Place:
    """An upstream, a patch repository with two patches and a probe, a folder of the user's with a
    private file, and a home. ``mark`` is what a program of an attacker's would make."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    closing: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.up = Git(self.root / "upstream")
        self.team = Team(self.root / "team", self.up)
        self.line = self.team.root / "patches" / "main"
        self.git = Git(self.team.root)
        self.private, self.home = self.root / "private", self.root / "home"
        self.mark, self.out = self.root / "mark", self.root / "out"
        self.state, self.cache = self.home / "state", self.home / "cache"

    # -- what attacks use ------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home), "FIXTOOL_STATE_DIR": str(self.state),
            "FIXTOOL_CACHE_DIR": str(self.cache), "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "NO_PROXY": "127.0.0.1",
            "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0", **self.env,
        }  # fmt: skip

    def run(self, *words: str | Path, cwd: Path | None = None, **env: str) -> Ran:
        """fixtool, inside this process."""
        return run_here(*words, cwd=cwd or self.team.root, env={**self.environment(), **env})

    def process(self, *words: str | Path, cwd: Path | None = None, **env: str) -> Ran:
        """fixtool, as a process of its own."""
        return run_process(*words, cwd=cwd or self.team.root, env={**self.environment(), **env})

    def apply(self, ref: str = "v1.0", *more: str | Path) -> Ran:
        return self.run("apply", "--no-build", "--source", self.up.path, "--sglang-ref", ref, *more)

    def tree(self, *more: str | Path) -> Git:
        """A work tree that ``apply`` made."""
        folder = self.root / "out" / "tree"
        ran = self.apply("v1.0", "--worktree", folder, *more)
        if ran.status:
            raise Wrong(f"a plain apply ends with {ran.status}: {ran.err}")
        return Git(folder)

    def add(self, diff: str | bytes, subject: str = "bad") -> None:
        """Put a patch of this diff at the end of the series."""
        if isinstance(diff, bytes):
            self.team.add("bad", mail("", subject) + diff)
        else:
            self.team.add("bad", mail("", subject) + diff.encode("utf-8", "surrogateescape"))

    def program(self, name: str = "program") -> Path:
        """A program that leaves the mark."""
        path = self.root / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.mark}\nexit 1\n')
        path.chmod(0o755)
        return path

    def commit_all(self) -> None:
        self.git("add", "--all", "--force", "--", "patches", "verify")
        self.git("commit", "--quiet", "--allow-empty", "--message", "state")

    # -- what must hold --------------------------------------------------------------------

    def belongings(self) -> dict[str, object]:
        """What no attack may change: the user's private files, upstream's repository, and which
        files lie beside the places that fixtool writes to."""
        shot: dict[str, object] = {
            str(path): path.read_bytes() if path.is_file() else None
            for path in sorted(self.private.rglob("*"))
        }
        shot["root"] = sorted(path.name for path in self.root.iterdir())
        shot["home"] = sorted(path.name for path in self.home.iterdir())
        shot["refs"] = (self.up.path / ".git" / "refs" / "heads" / "main").read_text()
        return shot

    def check(self, ran: Ran, before: Mapping[str, object]) -> None:
        """Raise Wrong if something fell that every attack must leave alone."""
        if self.mark.exists():
            raise Wrong(f"a program ran: {self.mark.read_text()[:300]}")
        now = self.belongings()
        for key, value in before.items():
            missing = set(value) - set(now[key]) if key in ("root", "home") else None  # type: ignore
            new = set(now[key]) - set(value) if key in ("root", "home") else None  # type: ignore
            allowed = {"state", "cache", "out", "program", ".rustup"}  # pip asks for rustc
            if (
                (missing or (new or set()) - allowed)
                if missing is not None
                else now.get(key) != value
            ):
                raise Wrong(f"{key} changed: {missing or new or now.get(key)!r:.200}")
        said = ran.out + ran.err
        if SECRET in said:
            raise Wrong("the private text was printed")
        if found := _CONTROLS.search(ran.err) or (
            not ran.out.startswith("From ") and _CONTROLS.search(ran.out)
        ):
            raise Wrong(f"a control character was printed: {found[0]!r}")
        if found := _JOB_COMMAND.search(said):
            raise Wrong(f"a command for GitHub Actions was printed: {found[0]!r}")
        if (self.team.root / ".git").is_dir() and SECRET in self.git("log", "-p", "--all"):
            raise Wrong("the private text was committed")


def build(root: Path) -> Place:
    """A whole place at ``root``."""
    place = Place(root)
    for folder in (place.up.path, place.team.root, place.private, place.home, place.out):
        folder.mkdir(parents=True)
    (place.private / "key").write_text(SECRET + "\n")
    (place.home / ".netrc").write_text("machine i.example login me password pw\n")
    place.up("init", "--quiet", "--template=", "--initial-branch=main")
    place.up.commit("base", python__model_py=NUMBERS, python__other_py="alpha\nbeta\ngamma\n",
                    python__sglang____init___py="x = 1\n", README_txt="read me\n")  # fmt: skip
    place.up("tag", "v1.0")
    place.up.commit("go on", python__model_py=NEAR)
    place.up("tag", "v1.1")
    place.team.line()
    place.team.patch("fix", "fix twenty", python__model_py=FIX)
    place.team.patch("other", "fix beta", python__other_py=OTHER)
    (place.team.root / "verify" / "probes").mkdir(parents=True)
    (place.team.root / "verify" / "probes" / "fix.py").write_text(PROBE)
    place.git("init", "--quiet", "--template=", "--initial-branch=main")
    place.git("config", "user.name", "A Person")
    place.git("config", "user.email", "person@example.org")
    place.git.write(".gitignore", "patches/.lock\n")
    place.git("add", "--all")
    place.git("commit", "--quiet", "--message", "first")
    return place


@contextmanager
def fresh(template: Path, root: Path) -> Iterator[Place]:
    """A copy of the place that was built at ``root`` and moved to ``template``."""
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", str(template), str(root)], check=True)
    place = Place(root)
    with _caches_of_the_process():
        try:
            yield place
        finally:
            for close in reversed(place.closing):
                close()


@contextmanager
def _caches_of_the_process() -> Iterator[None]:
    """What fixtool remembers of git for the length of a process."""
    before = Repo._version_checked
    try:
        yield
    finally:
        Repo._version_checked = before


@contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """Raise TimeoutError in this thread after some seconds."""

    def late(*_: object) -> None:
        raise TimeoutError(f"it does not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
