"""The work trees of a store: making, moving and forgetting them.

git reads the entries of all work trees of a repository each time, and gives up at one that another
run has made or removed by half. So one run at a time changes them. The files of a work tree are
written outside of that lock.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.files import lock, temporary_folder, write_atomically
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.uncompressed import reading_uncompressed

_PATIENCE = 600  # seconds that a run waits for others; each needs some hundredths


def add(
    store: Repo, folder: Path, commit: str, *, branch: str | None = None, base: Oid | None = None
) -> Repo:
    """Make ``folder`` a work tree at ``commit``, with all its files. It is on no branch, or on
    ``branch``, which the caller then sets to the commit. Most files are those of ``base``, a commit
    of which further work trees may be made."""
    with alone(store):
        tree = _register(store, folder, f"ref: refs/heads/{branch}" if branch else commit)
    reader = reading_uncompressed(tree, store, base) if base else tree
    reader.run("read-tree", "--reset", "-u", commit)
    return tree


def _register(store: Repo, folder: Path, head: str) -> Repo:
    """Make an empty work tree, in the format of gitrepository-layout(5): `git worktree add` takes
    longer than the files of a short series. The caller is alone."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CannotRun(f"{folder} is not empty", where=str(folder))
    entries = store.git_dir.resolve() / "worktrees"
    entries.mkdir(exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]|^\.|\.(?=\.)", "-", folder.name)  # it becomes part of refs
    entry = entries / f"{name}-{os.urandom(4).hex()}"
    with temporary_folder(".worktree-", store.git_dir) as staging:
        made = staging / "entry"
        made.mkdir()
        (made / "HEAD").write_text(f"{head}\n")
        (made / "commondir").write_text("../..\n")
        (made / "gitdir").write_text(f"{_git_file(folder)}\n")
        (folder / ".git").write_text(f"gitdir: {entry}\n")
        made.rename(entry)  # another git never sees the half of an entry
    return store.worktree_in(entry, folder)


def move(store: Repo, old: Path, new: Path) -> None:
    """Move the work tree at ``old`` to ``new``, which is not there."""
    with alone(store):
        entries = _entries(store, old)
        if not entries:
            raise CannotRun(f"git has removed its entry of the work tree {old}", where=str(old),
                            hint="run the same command again")  # fmt: skip
        # The next run clears what a killed one leaves at the old place, and the entry of the new.
        write_atomically(entries[0] / "gitdir", f"{_git_file(new)}\n")
        old.rename(new)


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
    with alone(store):
        for entry in _entries(store, folder):
            shutil.rmtree(entry)


def _entries(store: Repo, folder: Path) -> list[Path]:
    """The folders of git's entries of the work tree at ``folder``."""
    git_file = str(_git_file(folder))
    found = (store.git_dir / "worktrees").glob("*/gitdir")
    return [path.parent for path in found if path.read_text().strip() == git_file]


def _git_file(folder: Path) -> Path:
    """The file by which git's entry names the work tree at ``folder``, which may be gone."""
    return folder.parent.resolve() / folder.name / ".git"


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
