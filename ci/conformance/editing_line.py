"""A line of fixtool that holds real commits, for the scripts that edit it as another tool does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outcomes import ROOT, Outcome, Tally, git

sys.path.insert(0, str(ROOT / "tooling" / "tests"))

from fixtool.edit.sequence import own_series
from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.repo import Repo
from fixtool.series.line import PatchRepository
from fixtool.series.lint import errors_in_patch
from fixtool.series.patch import export_all, parse
from support.repositories import Git, Team

LINE = "sample"
IDENTITY = {
    f"GIT_{who}_{key}": value
    for who in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "A Person"), ("EMAIL", "person@example.org"))
}
Patches = list[tuple[str, str, str]]
"""The slug, the tree and the message of each patch."""


class Stopped(Exception):
    """A conflict, or a refusal."""


def stretches(
    clone: Path, count: int, size: int, rng: random.Random,
    suits: Callable[[Path, list[str]], bool] | None = None,
) -> list[list[str]]:  # fmt: skip
    """Stretches of commits in a row, oldest first, without merges and empty commits, that ``suits``
    takes."""
    words = ("rev-list", "--first-parent", "--parents", "--max-count=3000", "HEAD")
    rows = [row.split() for row in git(clone, *words).decode().split("\n")[:-1]][::-1]
    found: list[list[str]] = []
    while len(found) < count:
        start = rng.randrange(1, len(rows) - size)
        part = rows[start : start + size]
        trees = git(
            clone, "rev-parse", *(f"{each}^{{tree}}" for row in part for each in row[:2])
        ).split()
        empty = any(after == before for after, before in zip(trees[::2], trees[1::2], strict=True))
        commits = [row[0] for row in part]
        if any(len(row) != 2 for row in part) or empty or (suits and not suits(clone, commits)):
            continue
        if are_well_formed(clone, commits):
            found.append(commits)
    return found


def are_well_formed(clone: Path, commits: list[str]) -> bool:
    """Whether each commit is a patch in which lint finds no error. `fixtool import` would give the
    others another message."""
    mails = export_all(Repo.open(clone, bare=True), commits)
    try:
        return not any(errors_in_patch(parse(mail, "x")) for mail in mails)
    except Refused:
        return False


class Sample:
    """A line of fixtool with ``commits``, and the clone ``stack`` for the other tool."""

    def __init__(self, clone: Path, commits: list[str], folder: Path) -> None:
        self.clone = clone
        self.base = git(clone, "rev-parse", f"{commits[0]}^").decode().strip()
        self.home, self.stack = folder / "line", folder / "stack"
        self.environment = {
            **os.environ, **IDENTITY, "FIXTOOL_STATE_DIR": str(folder / "state"),
            "FIXTOOL_CACHE_DIR": str(folder / "cache"),
        }  # fmt: skip
        team = Team(self.home, Git(clone))
        team.line(LINE, self.base)
        slugs = [f"p{number:02}" for number in range(len(commits))]
        for slug, raw in zip(slugs, export_all(Repo.open(clone, bare=True), commits), strict=True):
            team.add(slug, raw, LINE)
        team.track()
        git(folder, "clone", "--quiet", "--shared", "--no-checkout", str(clone), str(self.stack))
        git(self.stack, "config", "user.name", "A Person")
        git(self.stack, "config", "user.email", "person@example.org")

    def ours(self) -> Patches:
        """The line's patches as commits on its base, which last in the stack's repository."""
        line = PatchRepository.find(self.home).line(LINE)
        with ObjectDatabase(Repo.open(self.stack)) as objects:
            own = own_series(objects, line, line.upstream.base)
            objects.flush()
        self.tip = own.tip
        return self.patches_of(self.tip, list(own.commits))

    def paths(self, slug: str) -> list[str]:
        """The files in which an edit of that patch can put a line."""
        patch = PatchRepository.find(self.home).line(LINE).find(slug)
        return [file.path for file in patch.files if not file.binary and file.new_path]

    def patches_of(self, tip: str, names: list[str]) -> Patches:
        words = ("log", "--reverse", "--format=%T%x00%B%x01", f"{self.base}..{tip}")
        records = git(self.stack, *words).decode("utf-8", "surrogateescape").split("\1\n")[:-1]
        pairs = [record.split("\0") for record in records]
        return [(name, tree, message.strip("\n"))
                for name, (tree, message) in zip(names, pairs, strict=True)]  # fmt: skip

    def tree_of(self, name: str) -> str:
        """The tree of a line's whole series, on its base."""
        line = PatchRepository.find(self.home).line(name)
        with ObjectDatabase(Repo.open(self.stack)) as objects:
            return own_series(objects, line, line.upstream.base).tree

    def fixtool(self, *words: str, plain: bool = False) -> dict[str, Any]:
        """Run fixtool. Raises Stopped at a conflict or a refusal."""
        plain = plain or "--continue" in words or "--abort" in words
        source = () if plain else ("--source", str(self.clone))
        done = subprocess.run(
            [sys.executable, "-m", "fixtool", *words, *source, "--json", "-C", str(self.home)],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        if done.returncode not in (0, 1, 3):
            raise RuntimeError(
                f"fixtool {' '.join(words)}: {done.returncode} {done.stderr} {found}"
            )
        if done.returncode:
            why = found["error"]["message"] if "error" in found else "a conflict"
            raise Stopped(f"fixtool {words[0]}: {why}")
        edited: dict[str, Any] = found.get("edited", found)
        return edited


def change_file(tree: Path, path: str, number: int, place: float) -> None:
    """Put a line into a file, which may be new."""
    file = tree / path
    lines = file.read_bytes().split(b"\n") if file.is_file() else [b""]
    lines.insert(int(place * len(lines)), b"# edit %d" % number)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\n".join(lines))


def change(tree: Path, path: str, number: int, place: float) -> None:
    """Put a line into a file, and add the file to the index."""
    change_file(tree, path, number, place)
    git(tree, "add", "--", path)


def attempt(edit: Any) -> str:
    """Why an edit stopped; empty if it did not."""
    try:
        edit()
    except Stopped as error:
        return str(error)
    return ""


def count(tally: Tally, verb: str, outcome: Outcome, name: str, text: str) -> None:
    """Count one edit, and print it."""
    tally.add(verb, outcome, name, text)
    print(f"{outcome:12} {name}{': ' + text if outcome is not Outcome.EQUAL else ''}", flush=True)


def state(sample: Sample) -> tuple[dict[str, bytes], bytes, bytes]:
    """The files of the patch repository, its commit and its status."""
    folder = sample.home / "patches"
    files = {str(path): path.read_bytes() for path in folder.rglob("*")
             if path.is_file() and path.name != ".lock"}  # fmt: skip
    return files, git(sample.home, "rev-parse", "HEAD"), git(sample.home, "status", "--porcelain")


def take_back(sample: Sample, name: str, before: Any, tally: Tally, tool: str = "") -> None:
    """Undo and redo an edit. One that changed nothing, such as a move of a patch to its own place, is
    none to undo: the one before it would be taken back."""
    after = state(sample)
    if after == before:
        return
    for verb, wanted in (("undo", before), ("redo", after)):
        refusal = attempt(lambda verb=verb: sample.fixtool(verb, plain=True))
        equal = not refusal and state(sample) == wanted
        text = refusal or "other bytes or another commit"
        outcome = Outcome.EQUAL if equal else Outcome.WRONG
        count(tally, f"{tool} {verb}".strip(), outcome, f"{verb} of {name}", text)


def difference(ours: Patches, theirs: Patches) -> str:
    for pair in zip(ours, theirs, strict=False):
        if pair[0] != pair[1]:
            return ", not ".join(f"{name} {tree[:12]} {text[:60]!r}" for name, tree, text in pair)
    return f"{len(ours)} patches instead of {len(theirs)}"
