"""What fixtool keeps on the disk: work trees, stores, caches and logs; and its removal.

Nothing is removed that holds work: edits that are not committed, commits that are in no patch file,
or what waits for a person. What is there is looked at again right before it goes.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fixtool.apply.home import Home, home_at
from fixtool.apply.worktree import Record, alone_in, hidden_edits, read_record, to_show
from fixtool.errors import CannotRun, FixtoolError
from fixtool.files import require_private
from fixtool.git import worktrees
from fixtool.git.objects import MACHINE
from fixtool.git.repo import Repo
from fixtool.git.store import Store, restore_settings_behind
from fixtool.operations.capture import OWN_BRANCHES, registered, registered_in
from fixtool.progress import Progress
from fixtool.settings import Settings
from fixtool.text import argument

CACHES = ("history", "patches", "pre-commit", "releases", "replay", "series", "sites", "wheels")
"""The folders in the cache. No other is ever removed: a setting may name a folder of the user's."""
_LOG = re.compile("[0-9a-f]{10}")
_MOMENT = 60  # seconds: a store or a cache that was just written to is in use
_DAY = 86400  # seconds
_LOG_AGE = 30 * _DAY

Exported = Callable[[Repo, Record], bool]
"""Whether the commits of a work tree are all in the patch files of its line."""


class Kind(StrEnum):
    WORKTREE = "worktree"
    STORE = "store"
    CACHE = "cache"
    LOG = "log"


@dataclass(frozen=True)
class Item:
    """One thing on the disk. ``size`` is in bytes, and ``changed`` when it was last changed, in
    seconds since 1970. ``repository`` and ``line`` say what it belongs to, where that is known.
    ``kept`` is the reason for which it is not removed, and ``hint`` the command that changes that;
    None if it may go."""

    kind: Kind
    path: Path
    size: int
    changed: float
    repository: str | None = None
    line: str | None = None
    kept: str | None = None
    hint: str | None = None
    removed: bool = False


@dataclass(frozen=True)
class CleanRequest:
    """Which of them are meant: those of ``kinds``, last changed at least ``older_than`` seconds
    ago. With ``remove``, they go."""

    kinds: Collection[Kind] = tuple(Kind)
    older_than: float = 0
    remove: bool = False


def clean(
    settings: Settings, request: CleanRequest, exported: Exported, progress: Progress
) -> tuple[Item, ...]:
    """All that is there of the kinds that are asked for, and what became of it.

    Raises CannotRun if others may write to the folders: what is in them could not be trusted.
    """
    for folder in (settings.state, settings.stores, settings.worktrees, settings.cache):
        require_private(folder)
    if request.remove:
        _finish_removals(settings)
    found = []
    with progress.task("looking at what is there"):
        for item in _items(settings, request.kinds, exported):
            if item.kept is None and time.time() - item.changed < request.older_than:
                item = replace(item, kept="it was changed since then")
            if request.remove and item.kept is None:
                item = _removed(settings, item, exported)
            found.append(item)
    return tuple(found)


def _items(settings: Settings, kinds: Collection[Kind], exported: Exported) -> Iterator[Item]:
    # Work trees come first: a store can go once none of them needs it.
    if Kind.WORKTREE in kinds:
        yield from _trees(settings, exported)
    if Kind.STORE in kinds:
        for path in sorted(settings.stores.glob("*.git")):
            if not path.is_symlink() and (path / "objects").is_dir():
                kept, hint = _store_is_needed(path)
                item = _item(Kind.STORE, path, kept=kept, hint=hint)
                yield replace(item, changed=_measure(path / "objects")[1])
    if Kind.CACHE in kinds:
        for path in (settings.cache / name for name in CACHES):
            if path.is_dir() and not path.is_symlink():
                yield _of_cache(path)
    if Kind.LOG in kinds:
        for path in sorted((settings.state / "operations").glob("*")):
            if _LOG.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield _of_log(path)


def _item(kind: Kind, path: Path, **known: str | None) -> Item:
    size, changed = _measure(path)
    return Item(kind, path, size, changed, **known)  # type: ignore[arg-type]


def _measure(path: Path) -> tuple[int, float]:
    """The bytes of all files of a folder, and when it was last changed. No link is followed."""
    size, changed, seen = 0, path.lstat().st_mtime, set()
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                about = os.lstat(f"{folder}/{name}")
                changed = max(changed, about.st_mtime)
                if about.st_nlink == 1 or about.st_ino not in seen:
                    size += about.st_size
                    seen.add(about.st_ino)
    return size, changed


# -- work trees --------------------------------------------------------------------------------


def _trees(settings: Settings, exported: Exported) -> Iterator[Item]:
    known = set()
    for top, git_dir in registered(settings):
        if not top.is_dir() or top.is_symlink():
            continue  # it was removed by hand; the entry of it is no file of anybody's
        home = home_at(top)
        if home and home.git_dir.resolve() == git_dir.resolve():
            known.add(top.resolve())
            kept, hint = _tree_is_needed(settings, home, exported)
            yield _item(
                Kind.WORKTREE, top, repository=str(home.patches), line=home.line, kept=kept,
                hint=hint,
            )  # fmt: skip
    for top in sorted(settings.worktrees.glob("*/*")):
        if top.is_dir() and not top.is_symlink() and top.resolve() not in known:
            yield _item(
                Kind.WORKTREE, top, kept="its store is gone, so nobody knows what is in it",
                hint=f"look at it, then: rm -rf {argument(top)}",
            )  # fmt: skip


def _tree_is_needed(
    settings: Settings, home: Home, exported: Exported
) -> tuple[str | None, str | None]:
    """Why a work tree must not go, and the command that changes that."""
    where = argument(home.top)
    if home.waiting:
        run = f"fixtool -C {where} {home.waiting}"
        hint = f"go on: {run} --continue; or give it up: {run} --abort"
        return f"the {home.waiting} of line {home.line} waits in it", hint
    try:
        tree = Repo.open(home.top)
        restore_settings_behind(tree, settings.stores)
        record = read_record(tree)
        head = tree.head()
        if record is None or head is None or record.moving_to:
            make = f"fixtool apply --line {home.line} --worktree {where}"
            return "fixtool cannot tell what is in it", record.again(tree) if record else make
        if tree.status():
            return "it holds edits that are not committed", f"git -C {where} status"
        for path, option in hidden_edits(tree).items():
            why = f"it holds edits of {path}, at which git was told not to look"
            return why, to_show(tree, path, option)
        if head != record.commit and not exported(tree, record):
            return "it holds commits that are in no patch", f"fixtool export --worktree {where}"
    except (FixtoolError, OSError) as error:
        return f"it cannot be read: {error}", f"look at it, then: rm -rf {where}"
    return None, None


# -- stores, caches and logs ---------------------------------------------------------------------


def _store_is_needed(path: Path) -> tuple[str | None, str | None]:
    """Why a store must not go, and the command that changes that."""
    for top, _ in registered_in(path):
        if top.exists():
            return f"the work tree {top} belongs to it", "fixtool clean --remove"
        if not top.parent.exists():
            hint = f"git -C {argument(path)} worktree prune"
            return f"the work tree {top} belongs to it, and may be on another disk", hint
    try:
        form = "--format=%(objectname) %(committeremail) %(refname:short)"
        store = Store(path)
        listed = store.run("for-each-ref", form, "refs/heads/").text
        stashed = store.ref("refs/stash")  # all work trees of a store have one stash
    except FixtoolError as error:
        return f"git cannot read it: {error.message}", f"rm -rf {argument(path)}"
    for line in listed.split("\n") if listed else ():
        commit, email, name = line.split(" ", 2)
        # The branch of an empty series is at upstream's commit, by which it is named.
        ours = email == f"<{MACHINE.email}>" or f"-{commit[:12]}" in name
        if name.startswith("kept/") or not ours:
            hint = f"git -C {argument(path)} branch -D {argument(name)}"
            return f"its branch {name} holds commits of yours", hint
    if stashed:
        at = f"git -C {argument(path)}"
        hint = f"see it: {at} log --walk-reflogs --patch refs/stash; or let it go: "
        return "its stash holds edits of yours", f"{hint}{at} update-ref -d refs/stash"
    return _in_use(_measure(path / "objects")[1]), None


def _of_cache(path: Path) -> Item:
    item = _item(Kind.CACHE, path)
    return replace(item, kept=_in_use(item.changed))


def _in_use(changed: float) -> str | None:
    return "it was used a moment ago" if time.time() - changed < _MOMENT else None


def _of_log(path: Path) -> Item:
    """The log of a patch repository. It goes with the repository, or when it is old: until then
    ``undo`` needs it."""
    root = None
    with suppress(OSError, StopIteration):
        newest = max(path.glob("0*.json"), default=None)
        found = re.search(r'"patches":"((?:[^"\\]|\\.)*)"', newest.read_text()) if newest else None
        root = found[1] if found else None
    item = _item(Kind.LOG, path, repository=root)
    gone = root is not None and not Path(root).is_dir()
    if gone or time.time() - item.changed > _LOG_AGE:
        return item
    return replace(item, kept="undo needs it", hint=f"rm -rf {argument(path)}")


# -- removal -----------------------------------------------------------------------------------


def _removed(settings: Settings, item: Item, exported: Exported) -> Item:
    """``item`` after it was removed, or the reason why it is there still. Another run may be at
    work in it: then it stays."""
    try:
        with ExitStack() as stack:
            if item.kind is Kind.WORKTREE:
                return _remove_tree(settings, item, exported, stack)
            if item.kind is Kind.STORE:
                stack.enter_context(worktrees.alone(Store(item.path), patience=0))
                kept, hint = _store_is_needed(item.path)
                if kept:
                    return replace(item, kept=kept, hint=hint)
            _remove_folder(item.path)
    except (CannotRun, OSError) as error:
        return replace(item, kept=f"it could not be removed: {error}")
    return replace(item, removed=True)


def _remove_tree(settings: Settings, item: Item, exported: Exported, stack: ExitStack) -> Item:
    home = home_at(item.path)
    if home is None:
        return replace(item, kept="it is something else now")
    store = Store(home.git_dir.resolve().parent.parent)
    stack.enter_context(alone_in(store, item.path))
    kept, hint = _tree_is_needed(settings, home, exported)
    if kept:
        return replace(item, kept=kept, hint=hint)
    branch = Repo(home.git_dir, item.path).current_branch()
    commit = store.ref(branch)
    worktrees.remove(store, item.path)
    if commit and branch.startswith(OWN_BRANCHES):
        store.run("update-ref", "-d", branch, commit)
    if item.path.exists():
        return replace(item, kept="some of its files could not be removed")
    with suppress(OSError):
        if settings.worktrees in item.path.parents:
            item.path.parent.rmdir()
    return replace(item, removed=True)


def _finish_removals(settings: Settings) -> None:
    """Remove what killed runs were removing."""
    for folder in (settings.stores, settings.cache, settings.state / "operations"):
        for path in folder.glob(".*.removed-*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _remove_folder(path: Path) -> None:
    """Remove a folder. It first gets another name in one step, so that no other run finds half of
    it, and takes that for the whole."""
    going = path.with_name(f".{path.name}.removed-{os.getpid()}")
    path.rename(going)
    shutil.rmtree(going)
