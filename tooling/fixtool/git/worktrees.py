"""The work trees of a store: making, moving and forgetting them.

git reads the entries of all work trees of a repository each time, and gives up at one that another
run has made or removed by half. So one run at a time changes them. The files of a work tree are
written outside of that lock.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.files import lock
from fixtool.git.repo import Repo

_PATIENCE = 600  # seconds that a run waits for others; each needs some hundredths


def add(store: Repo, folder: Path, commit: str) -> Repo:
    """Make ``folder`` a work tree at ``commit``, on no branch, with all its files."""
    with alone(store):
        store.run("worktree", "add", "--quiet", "--detach", "--force", "--no-checkout",
                  str(folder), commit)  # fmt: skip
    tree = store.worktree(folder)
    tree.run("read-tree", "--reset", "-u", commit)
    return tree


def move(store: Repo, old: Path, new: Path) -> None:
    """Move the work tree at ``old`` to ``new``, which is not there."""
    with alone(store):
        store.run("worktree", "move", str(old), str(new))


def remove(store: Repo, folder: Path) -> None:
    """Remove a work tree of fixtool's, with everything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    forget(store, folder)


def forget(store: Repo, folder: Path) -> None:
    """Remove git's entry of a work tree that was removed. Only of this one: another that cannot be
    seen may be on a disk that is not mounted. (``git worktree prune`` would keep the entry of a
    killed ``worktree add``, which is locked.)"""
    if not store.git_dir.is_dir():  # somebody has removed the store; a lock would make its folder
        return
    git_file = str(folder.parent.resolve() / folder.name / ".git")
    with alone(store):
        for entry in (store.git_dir / "worktrees").glob("*/gitdir"):
            if entry.read_text().strip() == git_file:
                shutil.rmtree(entry.parent)


def prune(store: Repo) -> None:
    """Remove git's entries of all work trees that are gone."""
    with alone(store):
        store.run("worktree", "prune")


def listed(store: Repo) -> str:
    """What ``git worktree list --porcelain`` says."""
    with alone(store):
        return store.run("worktree", "list", "--porcelain").text


@contextmanager
def alone(store: Repo, patience: float = _PATIENCE) -> Iterator[None]:
    """Be the only one who changes the list of work trees of ``store``. Raises CannotRun if another
    run does for ``patience`` seconds."""
    path = store.git_dir / "locks" / "worktrees"
    with lock(path, f"the list of work trees of {store.git_dir}", patience):
        yield
