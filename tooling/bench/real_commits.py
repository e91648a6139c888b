"""Chooses real commits of a clone: a long series, and an upstream that moved on without it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from place import Place
from timing import CommandFailed

_LATER = 750
"""Of how many commits after the series the new upstream commits are taken."""


@dataclass(frozen=True)
class Chosen:
    """``tips[n]`` is the commit with the first ``n`` commits of the series on ``base``. ``onto`` is
    a commit on ``base`` with ``moved`` upstream commits, none of which is in the series."""

    base: str
    tips: dict[int, str]
    onto: str
    moved: int


def choose(
    place: Place, clone: Path, last: str, sizes: Sequence[int], moved: int, keep: Path | None
) -> Chosen:
    """Choose series of ``sizes`` commits, all on one base, from the first-parent history that ends
    in ``last``, and at most ``moved`` commits of it for the new upstream.

    A series is a stretch of that history. Upstream's new commits come from after the longest
    series, so they are not in it. One is taken if it applies to the base and to the end of the
    longest series, each time after the ones before it, and if `git rebase` moves the longest series
    onto them without a conflict. So a rebase meets moved lines and merges, but needs nobody.
    The folder ``keep`` remembers which were taken, since that takes half a minute to find out.
    """
    history = place.git(clone, "rev-list", "--first-parent", "--no-merges", last).split()
    history.reverse()
    longest = max(sizes)
    if len(history) < longest + 2:
        raise CommandFailed(f"{last} has {len(history)} commits, and {longest + 2} are needed")
    start = max(0, len(history) - 1 - longest - _LATER)
    series: list[str] = []
    for commit in history[start + 1 :]:
        if len(series) == longest:
            break
        if place.git(clone, "diff-tree", "-r", "--name-only", f"{commit}^", commit):
            series.append(commit)
    later = history[history.index(series[-1]) + 1 :]
    search = _Search(place, clone, history[start], series[-1], moved)
    record = None
    if keep:
        key = hashlib.sha256(" ".join([last, str(longest), str(moved)]).encode()).hexdigest()
        record = keep / f"commits-{key[:16]}.json"
    if record and record.exists():
        taken = json.loads(record.read_text())
    else:
        taken = search.find(later)
        if record:
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(taken))
    onto = search.build(taken)
    place.git(clone, "update-ref", "refs/heads/moved", onto)
    tips = {size: series[size - 1] for size in sizes}
    return Chosen(history[start], tips, onto, len(taken))


class _Search:
    """Finds the new upstream commits."""

    def __init__(self, place: Place, clone: Path, base: str, end: str, most: int) -> None:
        self.place, self.clone, self.base, self.end, self.most = place, clone, base, end, most
        self.diff = place.folder / "new.diff"

    def find(self, later: Sequence[str]) -> list[str]:
        """Those of ``later`` that may be taken, at most ``most``."""
        avoided: set[str] = set()
        while True:
            taken = self._that_apply(later, avoided)
            files = self._conflicts(self.build(taken))
            if not files:
                return taken
            if files <= avoided:
                raise CommandFailed(f"the series conflicts in {', '.join(sorted(files))}")
            avoided |= files

    def build(self, taken: Sequence[str]) -> str:
        """A commit with ``taken`` on the base."""
        stack = _Stack(self.place, self.clone, self.base, "base")
        for commit in taken:
            self._write_diff(commit)
            stack.add(self.diff, commit)
        return stack.tip

    def _that_apply(self, later: Sequence[str], avoided: set[str]) -> list[str]:
        at_base = _Stack(self.place, self.clone, self.base, "base")
        at_end = _Stack(self.place, self.clone, self.end, "end")
        taken: list[str] = []
        for commit in later:
            if len(taken) == self.most:
                break
            files = self._write_diff(commit)
            if not files or files & avoided:
                continue
            if not at_base.apply(self.diff):
                continue
            if at_end.apply(self.diff):
                taken.append(commit)
            else:
                at_base.apply(self.diff, reverse=True)
        return taken

    def _write_diff(self, commit: str) -> set[str]:
        """Write the diff of ``commit`` into a file, and return the names of its files."""
        words = ("diff-tree", "-r", "--no-renames", f"{commit}^", commit)
        self.place.git(self.clone, *words, "-p", "--full-index", "--binary",
                       f"--output={self.diff}")  # fmt: skip
        return set(self.place.git(self.clone, *words, "--name-only").splitlines())

    def _conflicts(self, onto: str) -> set[str]:
        """The files in which a rebase of the longest series onto ``onto`` conflicts."""
        tree = self.place.work_tree(self.clone, "trial", self.end)
        files: set[str] = set()
        words = ["rebase", "--quiet", "--onto", onto, self.base]
        while True:
            try:
                self.place.git(tree, *words)
                break
            except CommandFailed:
                found = self.place.git(tree, "diff", "--name-only", "--diff-filter=U").splitlines()
                if not found:
                    raise
                files |= set(found)
                words = ["rebase", "--skip"]
        self.place.git(self.clone, "worktree", "remove", "--force", tree)
        return files


class _Stack:
    """Patches that are applied one after the other to the index of a commit."""

    def __init__(self, place: Place, clone: Path, start: str, name: str) -> None:
        self._place, self._clone = place, clone
        self._git: list[str | Path] = [
            "env",
            f"GIT_INDEX_FILE={place.folder / name}.index",
            "git",
            "-C",
            clone,
        ]
        self.tip = start
        self._run("read-tree", start)

    def apply(self, diff: Path, *, reverse: bool = False) -> bool:
        """Apply ``diff`` to the index alone, and say whether that was possible."""
        options = ["--reverse"] if reverse else []
        try:
            self._run("apply", "--cached", *options, diff)
        except CommandFailed:
            return False
        return True

    def add(self, diff: Path, commit: str) -> None:
        """Apply ``diff``, and commit it with the subject of ``commit`` on the commit before."""
        self._run("apply", "--cached", diff)
        subject = self._place.git(self._clone, "show", "--no-patch", "--format=%s", commit)
        tree = self._run("write-tree")
        self.tip = self._run("commit-tree", "-p", self.tip, "-m", subject, tree)

    def _run(self, *words: str | Path) -> str:
        return self._place.run(*self._git, *words)
