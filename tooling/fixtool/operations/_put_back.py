"""Gives files, a branch, work trees and sessions the state that they had."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fixtool.apply.home import NOTE, RECORD, git_folder
from fixtool.errors import CannotRun
from fixtool.files import private_folder, write_atomically
from fixtool.git import worktrees
from fixtool.git.objects import ZERO, Oid
from fixtool.git.process import remove_stale_locks, wait_for_lock
from fixtool.git.repo import Repo
from fixtool.git.store import Store, restore_settings_behind
from fixtool.git.trees import changed_files
from fixtool.operations.capture import OWN_BRANCHES, own_branches, session_path, tree_of_files
from fixtool.operations.log import Log
from fixtool.operations.state import EXECUTABLE, MIDDLE_FILES, Branch, TreeState
from fixtool.series.write import rewrite
from fixtool.settings import Settings

# -- patches/ ---------------------------------------------------------------------------------


def files(log: Log, wanted: Mapping[str, str | None]) -> None:
    """Give the files of ``patches/`` the bytes that ``wanted`` names; None removes a file."""
    lines: dict[str, dict[str, str | None]] = {}
    for name, digest in wanted.items():
        line, _, file = name.partition("/")
        if line:
            lines.setdefault(line, {})[file] = digest
        else:
            _file_around(log, file, digest)
    for line, changes in lines.items():
        folder = log.repository.folder / line
        new = {
            name: log.contents.read(digest.removesuffix(EXECUTABLE))
            for name, digest in changes.items()
            if digest
        }
        gone = frozenset(name for name, digest in changes.items() if not digest)
        if folder.exists() or new:
            rewrite(folder, new, gone)
        for name, digest in changes.items():
            if digest:
                mode = 0o755 if digest.endswith(EXECUTABLE) else 0o644
                if ((folder / name).stat().st_mode ^ mode) & 0o100:
                    (folder / name).chmod(mode)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _file_around(log: Log, name: str, digest: str | None) -> None:
    """Write or remove a file beside ``patches/``, with the folders that are empty then."""
    path = log.repository.root / name
    if digest:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, log.contents.read(digest.removesuffix(EXECUTABLE)))
        return
    path.unlink(missing_ok=True)
    for folder in path.parents[: name.count("/")]:
        with suppress(OSError):
            folder.rmdir()


def branch(git: Repo, now: Branch, wanted: Branch, names: list[str], reason: str) -> None:
    """Move the branch, and let the user's index agree with it about the files ``names``, which are
    paths in the work tree."""
    if now.commit == wanted.commit:
        return
    git = git.durably()
    remove_stale_locks(git.git_dir, git.work_tree, "HEAD", now.name)
    if wanted.commit:
        git.update_refs([(now.name, wanted.commit, now.commit)], reason)
    elif now.commit:
        git.run("update-ref", "-m", reason, "-d", now.name, now.commit)
    index(git, names)


def index(git: Repo, names: list[str]) -> None:
    """Let the user's index agree with HEAD about the files ``names``."""
    git = git.durably()
    remove_stale_locks(git.git_dir, git.work_tree, "index")
    wait_for_lock(git.git_dir, git.work_tree, "index")
    top = git.work_tree
    assert top is not None
    words = ("reset", "--quiet", "--pathspec-from-file=-", "--pathspec-file-nul")
    paths = "".join(f":(top,literal){name}\0" for name in names)
    if names:
        git.run(*words, stdin=paths.encode(), accept=(0, 1))


# -- what waits -------------------------------------------------------------------------------


def session(log: Log, name: str, digest: str | None) -> None:
    """Write a session file again, or remove it."""
    path = session_path(log.repository, log.settings, name)
    if digest is None:
        path.unlink(missing_ok=True)
    else:
        private_folder(path.parent)
        write_atomically(path, log.contents.read(digest), durable=True)


# -- work trees -------------------------------------------------------------------------------


def open_tree(settings: Settings, path: str, state: TreeState) -> Repo:
    """The work tree at ``path``, without settings that code of others could have left."""
    tree = Repo.open(Path(path))
    restore_settings_behind(tree, settings.stores)
    if state.store is not None and tree.git_dir.parent.parent.name != state.store:
        raise CannotRun(f"{path} is a work tree of another repository now", where=path)
    return tree


def tree(
    log: Log,
    path: str,
    expected: TreeState | None,
    wanted: TreeState | None,
    present: TreeState | None,
    reason: str,
) -> None:
    """Make, move or remove a work tree. What is in it was found to be what is expected."""
    settings = log.settings
    if wanted is None:
        if expected and expected.store and present:
            _remove(settings, path, expected)
        return
    if present is None:
        if expected is not None or wanted.store is None:
            return  # it was removed by hand, and stays so
        store = Store(settings.stores / wanted.store)
        worktrees.forget(store, Path(path))
        private_folder(Path(path).parent) if _is_own(settings, path) else None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        made = worktrees.add(store, Path(path), wanted.head)
        _restore(log, made, None, wanted, reason)
        return
    _restore(log, open_tree(settings, path, present), present, wanted, reason)


def _is_own(settings: Settings, path: str) -> bool:
    return settings.worktrees in Path(path).parents


def _remove(settings: Settings, path: str, state: TreeState) -> None:
    assert state.store
    store = Store(settings.stores / state.store)
    worktrees.remove(store, Path(path))
    if state.branch and state.branch.startswith(OWN_BRANCHES):
        _delete(store, state.branch, state.head)


def _delete(repo: Repo, name: str, commit: Oid) -> None:
    if repo.ref(name) == commit:
        repo.run("update-ref", "-d", name, commit)


def _restore(
    log: Log, tree: Repo, present: TreeState | None, wanted: TreeState, reason: str
) -> None:
    remove_stale_locks(tree.git_dir, tree.work_tree, "index", "HEAD")
    now = tree_of_files(tree) if present else tree.tree_id(wanted.head)
    target = wanted.files or tree.tree_id(wanted.head)
    if now != target:
        # With --reset, an entry that stays keeps the times of its file, and git does not read it.
        tree.run("read-tree", "--reset", now)
        tree.run("update-index", "-q", "--refresh", accept=None)
        tree.run("read-tree", "-m", "-u", now, target)
    _restore_branch(tree, present, wanted, reason)
    if wanted.index:
        index = tree.git_dir / "index"
        index.write_bytes(log.contents.read(wanted.index))
        os.utime(index, (1, 1))  # older than every file: git then compares the bytes of each
    elif now != target or wanted.files:
        tree.run("read-tree", "--reset", wanted.head)
    tree.run("update-index", "-q", "--refresh", accept=None)
    kept: dict[str, str | None] = {}
    if wanted.files:
        kept |= dict.fromkeys(MIDDLE_FILES) | dict(wanted.git_files)
    kept |= {RECORD: wanted.record, NOTE: wanted.note}  # last: they say that the tree is whole
    for name, digest in kept.items():
        path = tree.git_dir / name
        if digest is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, log.contents.read(digest), durable=True)


def finish_tree(
    log: Log,
    path: str,
    expected: TreeState | None,
    wanted: TreeState | None,
    present: TreeState | None,
) -> bool:
    """Whether what is at ``path`` may be what a killed run has left on its way from ``expected`` to
    ``wanted``. A work tree that it had only begun to make, or to remove, goes: nobody was told of
    it, or it had to be gone."""
    settings, folder = log.settings, Path(path)
    if present is not None:
        if _is_at(present, wanted):
            return True
        if not _is_at(present, expected):
            return False
        old = present.files or present.head
        new = (wanted.files or wanted.head) if wanted else old
        return _is_between(open_tree(settings, path, present), old, new)
    git = git_folder(folder) if os.path.lexists(folder / ".git") else None
    state = wanted or expected
    if not folder.exists() or state is None or state.store is None:
        return True
    store = Store(settings.stores / state.store)
    if git and store.git_dir.resolve() not in git.resolve().parents:
        return False
    if wanted is None or git or not any(folder.iterdir()):
        worktrees.remove(store, folder)
        return True
    return False


def _is_at(present: TreeState, state: TreeState | None) -> bool:
    """Whether a work tree is in this state, but for what git and fixtool keep beside it."""
    if state is None or (present.head, present.branch) != (state.head, state.branch):
        return False
    return None in (present.files, state.files) or present.files == state.files


def _is_between(tree: Repo, old: Oid, new: Oid) -> bool:
    """Whether each file of a work tree is that of ``old`` or of ``new``, or is missing."""
    ours = {(change.path, change.new_blob) for change in changed_files(tree, old, new)}
    changes = changed_files(tree, old, tree_of_files(tree))
    return all(
        change.new_blob == ZERO or (change.path, change.new_blob) in ours for change in changes
    )


def _restore_branch(tree: Repo, present: TreeState | None, wanted: TreeState, reason: str) -> None:
    """Give HEAD its branch and commit again. A branch that is checked out elsewhere is not
    touched, since its name is that of one work tree alone."""
    if wanted.branch is None:
        if (present and present.branch is not None) or tree.head() != wanted.head:
            tree.run("update-ref", "--no-deref", "-m", reason, "HEAD", wanted.head)
    else:
        at = tree.ref(wanted.branch)
        if at != wanted.head:
            tree.update_refs([(wanted.branch, wanted.head, at)], reason)
        tree.run("symbolic-ref", "-m", reason, "HEAD", wanted.branch)
    if present is None:
        return
    left = present.branch
    if wanted.store is None:
        for name, commit in own_branches(tree).items():
            before = wanted.branches.get(name)
            if before is None and present.branches.get(name) == commit and name != wanted.branch:
                _delete(tree, name, commit)
            elif before and before != commit and present.branches.get(name) == commit:
                tree.update_refs([(name, before, commit)], reason)
        for name, commit in wanted.branches.items():
            if tree.ref(name) is None:
                tree.update_refs([(name, commit, None)], reason)
    elif left and left != wanted.branch and left.startswith(OWN_BRANCHES):
        _delete(tree, left, present.head)
