"""A work tree in which a person resolves a conflict: in the middle of a cherry-pick, with markers
in the files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fixtool.errors import CannotRun, Refused
from fixtool.git.objects import Commit, Oid, parse_oid
from fixtool.git.process import remove_stale_locks
from fixtool.git.repo import Repo
from fixtool.git.store import restore_settings_behind
from fixtool.settings import state_folder
from fixtool.text import argument

MARKER = re.compile(rb"^(<{7}|>{7})( |$)", re.MULTILINE)
_COMMITTER = {f"GIT_COMMITTER_{key}": "fixtool" for key in ("NAME", "EMAIL")}


class Unmarked(StrEnum):
    """Why git writes no markers into a file that is in conflict."""

    REMOVED_BELOW = "upstream or an earlier patch has removed it, and the patch changes it"
    REMOVED_BY_PATCH = "the patch removes it, and upstream or an earlier patch has changed it"
    BINARY = "it is binary"
    SYMLINK = "it is a symlink"
    SUBMODULE = "it is a submodule"
    MODE = "both sides make it the same text, with another mode"
    BY_ATTRIBUTE = "its attributes let git write no usual conflict markers"


@dataclass(frozen=True)
class Resolving:
    """A conflict in the work tree ``folder`` at the commit ``parent``, in the files ``conflicts``.
    ``command`` is the verb that waits, and ``line`` the line that it is about."""

    folder: Path
    parent: Oid
    conflicts: Sequence[str]
    command: str
    line: str


def pick(tree: Repo, commit: Oid, settings: Sequence[str] = ()) -> None:
    """Begin a cherry-pick of ``commit`` in a work tree. ``settings`` are git's, each after `-c`."""
    tree.run(*settings, "cherry-pick", "--allow-empty", commit, env=_COMMITTER, accept=(0, 1))


def unmerged(tree: Repo) -> tuple[str, ...]:
    """The paths in conflict."""
    # `git diff` would tell it too, and would look at every file of the work tree for that.
    out = tree.run("ls-files", "--unmerged", "-z").stdout.decode("utf-8", "surrogateescape")
    return tuple(dict.fromkeys(entry.partition("\t")[2] for entry in out.split("\0")[:-1]))


def marker_line(file: Path) -> int | None:
    """The line of the first conflict marker in a file of a work tree; None if it has none."""
    data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    match = MARKER.search(data)
    return data.count(b"\n", 0, match.start()) + 1 if match else None


def resolved_tree(
    conflict: Resolving, before_writing: Callable[[Repo], None] = lambda _: None
) -> tuple[Repo, Oid]:
    """The work tree, and the tree that a person made in it. ``before_writing`` is called when every
    change is staged.

    Raises Refused, with file and line, if a conflict marker is left, a file in conflict that git
    could not mark is not settled, or a new file is not added; CannotRun if the work tree is gone.
    """
    folder, verb = conflict.folder, conflict.command
    tree = _open(conflict)
    head = tree.head()
    if head != conflict.parent:
        return tree, _tree_of_commit(tree, conflict, head)
    for path in sorted({*conflict.conflicts, *unmerged(tree)}):
        if line := marker_line(folder / path):
            raise Refused(
                "a conflict marker is left",
                where=f"{folder / path}:{line}",
                hint=f"edit the file, then: fixtool {verb} --continue",
            )
    _require_settled(tree, conflict)
    _stage(tree, folder)
    before_writing(tree)
    return tree, parse_oid(tree.run("write-tree").text, "git write-tree")


def edited_tree(place: Resolving) -> tuple[Oid, Oid, Commit]:
    """What a person made in the work tree without a conflict: its tree, and the commit that is
    checked out there, which is ``parent`` or follows it.

    Raises Refused if a new file is not added, or if there is more than one commit; CannotRun if the
    work tree is gone.
    """
    tree = _open(place)
    head = tree.head() or Oid("")
    commit = tree.read_commit(head)
    if head != place.parent and commit.parents != (place.parent,):
        raise _elsewhere(place)
    _stage(tree, place.folder)
    return parse_oid(tree.run("write-tree").text, "git write-tree"), head, commit


def _open(place: Resolving) -> Repo:
    """The work tree. Raises CannotRun if it is gone."""
    folder, verb = place.folder, place.command
    if not folder.is_dir():
        raise CannotRun(
            f"the work tree {folder} is gone",
            where=str(folder),
            hint=f"end it, then {verb} again: fixtool {verb} --abort --line {place.line}",
        )
    tree = Repo.open(folder).durably()
    restore_settings_behind(tree, state_folder(os.environ) / "repos")
    remove_stale_locks(tree.git_dir, tree.work_tree, "index", "MERGE_RR", "HEAD")
    return tree


def _stage(tree: Repo, folder: Path) -> None:
    """Stage every change. Raises Refused if there is a new file that is not added."""
    _require_added(tree, folder)
    tree.run("add", "--update", "--", ".")


def unmarked(tree: Repo) -> dict[str, Unmarked]:
    """The paths in conflict in which git writes no markers, and why: nothing in the file shows then
    whether a person has looked at it."""
    stages: dict[str, dict[str, tuple[str, str]]] = {}
    out = tree.run("ls-files", "--unmerged", "-z").stdout.decode("utf-8", "surrogateescape")
    for entry in out.split("\0")[:-1]:
        about, _, path = entry.partition("\t")
        mode, blob, stage = about.split(" ")
        stages.setdefault(path, {})[stage] = mode, blob
    found = {path: why for path, sides in stages.items() if (why := _why_unmarked(tree, sides))}
    asked = [path for path in stages if path not in found]
    return found | dict.fromkeys(_with_own_markers(tree, asked), Unmarked.BY_ATTRIBUTE)


def _why_unmarked(tree: Repo, sides: Mapping[str, tuple[str, str]]) -> Unmarked | None:
    """Why git writes no markers into a file, of which ``sides`` are the mode and the blob of each
    stage; None if it writes some."""
    if "2" not in sides:
        return Unmarked.REMOVED_BELOW
    if "3" not in sides:
        return Unmarked.REMOVED_BY_PATCH
    modes = {mode for mode, _ in sides.values()}
    if "160000" in modes:
        return Unmarked.SUBMODULE
    if "120000" in modes:
        return Unmarked.SYMLINK
    if sides["2"][1] == sides["3"][1]:
        return Unmarked.MODE
    blobs = (tree.read_blob(parse_oid(blob, "git ls-files")) for _, blob in sides.values())
    return Unmarked.BINARY if any(b"\0" in data for data in blobs) else None


def _with_own_markers(tree: Repo, paths: Sequence[str]) -> Iterator[str]:
    """Those of ``paths`` into which git writes no markers, or longer ones, as attributes say."""
    if not paths:
        return
    names = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    words = ("check-attr", "-z", "--stdin", "merge", "conflict-marker-size")
    answer = tree.run(*words, stdin=names).stdout.decode("utf-8", "surrogateescape").split("\0")
    for path, name, value in zip(answer[::3], answer[1::3], answer[2::3], strict=False):
        if value in ("unset", "binary") or (
            name == "conflict-marker-size" and value not in ("unspecified", "7")
        ):
            yield path


def _require_settled(tree: Repo, conflict: Resolving) -> None:
    """Raise Refused if git could write no markers into a file in conflict, and it is still in
    conflict: the whole file of the patch would come back, although upstream has removed it."""
    for path, why in unmarked(tree).items():
        at = f"git -C {argument(conflict.folder)}"
        raise Refused(
            f"{path} is not resolved: {why}",
            where=str(conflict.folder / path),
            hint=f"{at} add {argument(path)} to keep it as it is there, or {at} rm "
            f"{argument(path)} to remove it; then: fixtool {conflict.command} --continue",
        )


def _require_added(tree: Repo, folder: Path) -> None:
    """Raise Refused if there is a new file that is not added."""
    # `git status` would tell it too, and would compare every file of a fresh work tree for that.
    listed = tree.run("ls-files", "-z", "--others", "--exclude-standard", "--", ":/").stdout
    new = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
    if new:
        raise Refused(
            f"{new[0]} is new, and not added",
            where=str(folder / new[0]),
            hint=f"add it: git -C {argument(folder)} add {argument(new[0])}; or remove it: "
            f"rm {argument(folder / new[0])}",
        )


def _tree_of_commit(tree: Repo, conflict: Resolving, head: Oid | None) -> Oid:
    """The tree of the one commit that the person made on the parent of the conflict."""
    commit = tree.read_commit(head) if head else None
    where = str(conflict.folder)
    if commit is None or commit.parents != (conflict.parent,):
        raise _elsewhere(conflict)
    if dirty := tree.status():
        raise Refused(
            f"{dirty[0]} is not committed",
            where=where,
            hint=f"git -C {argument(where)} commit --amend --all --no-edit",
        )
    return commit.tree


def _elsewhere(place: Resolving) -> Refused:
    where, parent = str(place.folder), place.parent[:12]
    return Refused(
        f"the work tree is not at {parent}, nor one commit after it: one commit is one patch",
        where=where,
        hint=f"make it one commit: git -C {argument(where)} reset --soft {parent} && "
        f"git -C {argument(where)} commit",
    )
