"""Looks at what a command can change. It starts git only where a work tree may hold what is nowhere
else, since each command that writes looks twice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fixtool.apply.home import NOTE, RECORD, git_folder, home_at
from fixtool.errors import CannotRun
from fixtool.files import read_plain
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import restore_settings_behind
from fixtool.git.trees import copied_index, edited_files, stage_files, write_tree
from fixtool.operations.contents import LARGEST, Contents
from fixtool.operations.state import AROUND, EXECUTABLE, MIDDLE_FILES, Branch, State, TreeState
from fixtool.series.digests import FileDigests
from fixtool.series.line import PatchRepository, is_line_name
from fixtool.series.patch import is_slug
from fixtool.settings import Settings

OWN_BRANCHES = "refs/heads/fixtool/"
"""Where the branches are that fixtool makes."""
_OID = re.compile("[0-9a-f]{40}")
_DEEPEST = 3  # folders below that of a line
_MOST = 256 << 20  # bytes of all files of patches/
_NOT_WAITING = ("repos", "worktrees", "operations", "upstream", "verify", "faults")


@dataclass(frozen=True)
class Scope:
    """What to look at beside what fixtool knows by itself: ``places`` are folders in checkouts or
    work trees that the command is about, and ``whole`` says that their files count too. ``around``
    adds the files beside ``patches/`` that belong to a new repository."""

    places: tuple[Path, ...] = ()
    whole: bool = False
    around: bool = False


def capture(
    repository: PatchRepository,
    settings: Settings,
    contents: Contents,
    scope: Scope,
    before: State | None = None,
) -> State:
    """The state now. What it names by hashes is kept in ``contents``. ``before`` is the state a
    moment ago: a work tree that is not in it was made since. Raises CannotRun if the patches are
    too large to be kept."""
    root = repository.root.resolve()
    files = dict(_files(root / "patches", contents, settings))
    if scope.around:
        files |= dict(_around(root, contents))
    return State(
        files,
        _branch(root),
        dict(_waiting(repository, settings, contents)),
        dict(_trees(root, settings, contents, scope, before)),
    )


def session_path(repository: PatchRepository, settings: Settings, name: str) -> Path:
    """The file of the session ``name``, such as ``rebase/main``."""
    verb, _, line = name.partition("/")
    return settings.state / verb / f"{repository.digest[:10]}-{line}.json"


# -- patches/ ---------------------------------------------------------------------------------


def _files(patches: Path, contents: Contents, settings: Settings) -> Iterator[tuple[str, str]]:
    if patches.is_symlink() or not patches.is_dir():
        return
    left = _MOST
    with os.scandir(patches) as lines:
        folders = sorted(
            line.name
            for line in lines
            if is_line_name(line.name) and line.is_dir(follow_symlinks=False)
        )
    for name in folders:
        digests = _digests(settings.cache / "patches", patches / name)
        for file, about in _walk(patches / name, "", 0):
            left -= about.st_size
            if left < 0:
                raise CannotRun(
                    f"the files in patches/ have more than {_MOST >> 20} MiB", where=str(patches)
                )
            digest = contents.keep_file(patches / name, file, about, digests)
            yield f"{name}/{file}", digest + (EXECUTABLE if about.st_mode & 0o100 else "")
        digests.keep()


def _digests(cache: Path, folder: Path) -> FileDigests:
    """What is known of the files in ``folder``; nothing if others may have written to ``cache``."""
    try:
        return FileDigests(cache, folder)
    except CannotRun:
        return FileDigests(None, folder)


def _around(root: Path, contents: Contents) -> Iterator[tuple[str, str]]:
    for name in AROUND:
        with suppress(FileNotFoundError):
            yield f"/{name}", contents.keep(read_plain(root, name, LARGEST))


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """The name and status of each file below a line's folder that can be one of fixtool's."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not is_slug(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)


def _branch(root: Path) -> Branch | None:
    """The branch of the repository that tracks ``patches/``; None if none does."""
    for top in (root, *root.parents):
        if os.path.lexists(top / ".git"):
            git_dir = git_folder(top)
            return _head(git_dir) if git_dir else None
    return None


def _head(git_dir: Path) -> Branch | None:
    """What HEAD leads to. A file tells it, in nearly every repository."""
    text = (git_dir / "HEAD").read_text("utf-8", "replace").strip()
    if _OID.fullmatch(text):
        return Branch("HEAD", Oid(text))
    name = text.removeprefix("ref: ")
    with suppress(OSError):
        commit = (_common(git_dir) / name).read_text("utf-8", "replace").strip()
        if name.startswith("refs/heads/") and ".." not in name and _OID.fullmatch(commit):
            return Branch(name, Oid(commit))
    repo = Repo(git_dir)
    return Branch(repo.current_branch(), repo.head())


def _common(git_dir: Path) -> Path:
    """The folder that all work trees of a repository share."""
    shared = git_dir / "commondir"
    return git_dir / shared.read_text().strip() if shared.is_file() else git_dir


# -- what waits -------------------------------------------------------------------------------


def _waiting(
    repository: PatchRepository, settings: Settings, contents: Contents
) -> Iterator[tuple[str, str]]:
    own = re.compile(rf"{repository.digest[:10]}-(.+)\.json")
    with suppress(FileNotFoundError), os.scandir(settings.state) as verbs:
        for verb in sorted(entry.name for entry in verbs if entry.is_dir(follow_symlinks=False)):
            if verb in _NOT_WAITING:
                continue
            for name in sorted(os.listdir(settings.state / verb)):  # noqa: PTH208 - it is quicker
                if (match := own.fullmatch(name)) and is_line_name(match[1]):
                    data = read_plain(settings.state / verb, name, LARGEST)
                    yield f"{verb}/{match[1]}", contents.keep(data)


# -- work trees -------------------------------------------------------------------------------


def registered(settings: Settings) -> Iterator[tuple[Path, Path]]:
    """The work trees that git has entries of in the stores, as ``registered_in`` gives them."""
    with suppress(FileNotFoundError), os.scandir(settings.stores) as stores:
        for store in sorted(entry.name for entry in stores if entry.name.endswith(".git")):
            yield from registered_in(settings.stores / store)


def registered_in(store: Path) -> Iterator[tuple[Path, Path]]:
    """The work trees that git has entries of in ``store``: the topmost folder, which may be gone,
    and the git folder."""
    folder = store / "worktrees"
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries):
            with suppress(OSError, UnicodeError):
                text = (folder / name / "gitdir").read_text("utf-8").strip()
                yield Path(text).parent, folder / name


def _trees(
    root: Path, settings: Settings, contents: Contents, scope: Scope, before: State | None
) -> Iterator[tuple[str, TreeState]]:
    named = {top for place in scope.places if (top := _top(place))}
    for top, git_dir in registered(settings):
        home = home_at(top)
        if home is None or home.patches != root or home.git_dir.resolve() != git_dir.resolve():
            continue
        whole = home.waiting is not None or (scope.whole and top.resolve() in named)
        store = git_dir.parent.parent.name
        made = before is not None and str(top) not in before.trees
        if state := _tree(top, git_dir, store, settings, contents, whole=whole, just_made=made):
            yield str(top), state
            named.discard(top.resolve())
    for top in sorted(named):
        folder = git_folder(top)
        if folder is None or settings.stores.resolve() in folder.resolve().parents:
            continue
        if state := _tree(top, folder, None, settings, contents, whole=scope.whole):
            yield str(top), state


def _top(place: Path) -> Path | None:
    """The topmost folder of the work tree that holds ``place``."""
    place = place.resolve()
    return next((top for top in (place, *place.parents) if os.path.lexists(top / ".git")), None)


def _tree(
    top: Path,
    git_dir: Path,
    store: str | None,
    settings: Settings,
    contents: Contents,
    *,
    whole: bool,
    just_made: bool = False,
) -> TreeState | None:
    head = _head(git_dir)
    if head is None or head.commit is None:
        return None
    known: dict[str, str] = dict(_kept(git_dir, (RECORD, NOTE), contents))
    branches: dict[str, Oid] = {}
    tree = Repo(git_dir, top)
    if store is None:
        branches = own_branches(tree)
    files = index = None
    git_files: Mapping[str, str] = {}
    if whole:
        if store is not None:
            restore_settings_behind(tree, settings.stores)
        git_files = dict(_kept(git_dir, MIDDLE_FILES, contents))
        files = tree_of_files(tree, just_made=just_made)
        index = next((digest for _, digest in _kept(git_dir, ("index",), contents)), None)
    return TreeState(
        store, head.commit, None if head.name == "HEAD" else head.name,
        known.get(RECORD), known.get(NOTE), files, index, git_files, branches,
    )  # fmt: skip


def _kept(git_dir: Path, names: Iterable[str], contents: Contents) -> Iterator[tuple[str, str]]:
    for name in names:
        with suppress(FileNotFoundError):
            yield name, contents.keep(read_plain(git_dir, name, LARGEST))


def own_branches(repo: Repo) -> dict[str, Oid]:
    """The branches that fixtool made in a repository, with their commits."""
    form = "--format=%(objectname) %(refname)"
    listed = repo.run("for-each-ref", form, OWN_BRANCHES).text
    pairs = (line.partition(" ") for line in listed.split("\n") if line)
    return {name: Oid(commit) for commit, _, name in pairs}


def tree_of_files(tree: Repo, *, just_made: bool = False) -> Oid:
    """The tree of a work tree's files as they are, also those that are not added. What the index of
    the work tree holds stays as it is.

    git reads each file that is as young as the index, which are most of a fresh work tree, and
    remembers in the index what it has found. If the work tree was ``just_made`` by this process,
    nobody else can have changed a file, and none is read."""
    with copied_index(tree, believe_times=just_made) as index:
        edited = edited_files(tree, index if just_made else None)
    with copied_index(tree) as index:
        if edited:
            stage_files(tree, edited, index)
        return write_tree(tree, index)
