"""The command that brings a file back as it was committed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fixtool.errors import FixtoolError
from fixtool.git.repo import Repo
from fixtool.git.under_way import end_of_conflict, unmerged
from fixtool.text import argument


def restored(path: Path) -> str:
    """How a person brings back a file of a series that was damaged. One that conflicts in a merge
    is not brought back as it was committed: what the other side has changed would be lost."""
    with suppress(FixtoolError, OSError):
        repo = Repo.open(path.parent)
        for name in unmerged(repo, str(path)):
            return end_of_conflict(repo, name)
    if command := restoring(path):
        return f"restore it: {command}"
    line = argument(path.parent.name)
    return f"restore it from a copy, or import it again: fixtool import FILE --line {line}"


def restoring(path: Path) -> str | None:
    """The command of git that brings ``path`` back; None if the last commit does not have it."""
    with suppress(FixtoolError, OSError, ValueError):
        repo = Repo.open(path.parent)
        assert repo.work_tree is not None
        name = path.parent.resolve().relative_to(repo.work_tree.resolve()) / path.name
        out = repo.run("rev-parse", "--verify", "--quiet", f"HEAD:{name.as_posix()}", accept=None)
        if out.status == 0:
            at = f"git -C {argument(path.parent)}"
            return f"{at} checkout HEAD -- {argument(path.name)}"
    return None
