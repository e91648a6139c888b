"""Changes that are put onto another tree: the short way gives what a three-way merge gives."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest

from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.replay.changes import ChangesPut, CommitChange, put_changes
from fixtool.series.patch import export_all, parse
from support.repositories import Git

TEXT = "".join(f"line {number}\n" for number in range(6))
PATHS = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "c/") for name in ("one", "two")]
FOLDERS = [*PATHS, "a", "c", "a/b", "one/below", "a/new/file", "d/file"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectDatabase]:
    path = tmp_path_factory.mktemp("changes") / "bare.git"
    Git(path.parent)("init", "--quiet", "--bare", path.name)
    with passing_objects(Repo(path)) as database:
        yield database


class History:
    """Random commits, each with a patch."""

    def __init__(self, objects: ObjectDatabase, seed: int) -> None:
        self.objects, self.random = objects, random.Random(seed)
        blob = objects.add("blob", TEXT.encode())
        entries = {path: TreeEntry("100644", blob) for path in PATHS}
        self.tree = objects.with_files(Oid(""), entries)
        self.base = self.tip = objects.add_commit(Commit(self.tree, (), MACHINE, MACHINE, "base\n"))

    def commit(self) -> None:
        """One more commit: it changes, adds, removes or renames a file or two."""
        changes: dict[str, TreeEntry | None] = {}
        for _ in range(self.random.choice([1, 1, 2])):
            path = self.random.choice(FOLDERS)
            entry = self.objects.entry(self.tree, path)
            free = entry is None and not self._is_below_file(path)
            if free:
                changes[path] = self._blob(f"new {self.random.random()}\n" * 5)
            elif entry and entry.mode == "100644":
                changes |= self._change(path, entry)
        tree = self.objects.with_files(self.tree, changes)
        if tree != self.tree and self.objects.tree(tree):
            message = f"change {self.random.random()}\n\nWhy.\n"
            self.tip = self.objects.add_commit(Commit(tree, (self.tip,), MACHINE, MACHINE, message))
            self.tree = tree

    def _change(self, path: str, entry: TreeEntry) -> dict[str, TreeEntry | None]:
        what = self.random.choice(["edit", "edit", "edit", "remove", "rename", "mode"])
        lines = self.objects.blob(entry.blob).decode().split("\n")
        if what == "edit":
            lines[self.random.randrange(len(lines))] = f"edited {self.random.random()}"
            return {path: self._blob("\n".join(lines))}
        if what == "mode":
            return {path: TreeEntry("100755", entry.blob)}
        to = f"c/renamed{self.random.randrange(9)}"
        return {path: None} | ({to: entry} if what == "rename" else {})

    def _blob(self, text: str) -> TreeEntry:
        return TreeEntry("100644", self.objects.add("blob", text.encode()))

    def _is_below_file(self, path: str) -> bool:
        parents = [path.rsplit("/", number)[0] for number in range(1, path.count("/") + 1)]
        found = [self.objects.entry(self.tree, parent) for parent in parents]
        return any(entry and entry.mode != "040000" for entry in found)


def changes_of(objects: ObjectDatabase, base: Oid, tip: Oid) -> list[CommitChange]:
    commits: list[Oid] = []
    while tip != base:
        commits.insert(0, tip)
        (tip,) = objects.commit(tip).parents
    objects.flush()
    mails = export_all(objects.repo, commits)
    return [CommitChange(commit, patch=parse(mail, f"p{number}"))
            for number, (commit, mail) in enumerate(zip(commits, mails, strict=True))]  # fmt: skip


def both_ways(
    objects: ObjectDatabase, changes: Sequence[CommitChange], onto: Oid
) -> tuple[ChangesPut, ChangesPut]:
    short = put_changes(objects, changes, onto)
    with mock.patch("fixtool.replay.changes._Differences.merged", return_value=None):
        return short, put_changes(objects, changes, onto)


@pytest.mark.parametrize("seed", range(6))
def test_the_short_way_gives_what_a_merge_gives(objects: ObjectDatabase, seed: int) -> None:
    """A patch is dropped, moved, or changed, and the later ones follow."""
    history = History(objects, seed)
    for _ in range(14):
        history.commit()
    changes = changes_of(objects, history.base, history.tip)
    onto = objects.tree_of(history.base)
    taken = 0
    for number in range(len(changes)):
        others = [*changes[:number], *changes[number + 1 :]]
        moved = [*others]
        moved.insert(history.random.randrange(len(changes)), changes[number])
        for order in (others, moved):
            short, merged = both_ways(objects, order, onto)
            assert (short.trees, short.conflicts) == (merged.trees, merged.conflicts)
            taken += len([at for at in short.aside if at >= number])
    assert taken > len(changes), "hardly any change took the short way"


def test_most_later_patches_take_the_short_way(objects: ObjectDatabase) -> None:
    history = History(objects, 1)
    text = TEXT.replace("line 3", "line three")
    for path in PATHS:
        history.tree = objects.with_files(history.tree, {path: history._blob(text)})
        history.tip = objects.add_commit(
            Commit(history.tree, (history.tip,), MACHINE, MACHINE, f"change {path}\n\nWhy.\n")
        )
    changes = changes_of(objects, history.base, history.tip)
    with mock.patch("fixtool.replay.changes._merged", side_effect=AssertionError):
        put = put_changes(objects, changes[1:], objects.tree_of(history.base))
    assert put.aside == frozenset(range(len(changes) - 1))


ADDED = TreeEntry("100644", Oid("add"))  # stands for a new file
FIRST_AND_LATER = {
    "a file is added to a folder that a later patch renames": (
        {"a/b/new": ADDED}, {"a/b/one": None, "a/b/two": None, "e/one": None, "e/two": None}
    ),
    "a folder is renamed to which a later patch adds a file": (
        {"a/b/one": None, "a/b/two": None, "e/one": None, "e/two": None}, {"a/b/new": ADDED}
    ),
    "a later patch puts a file where a folder is": ({"d/file": ADDED}, {"d": ADDED}),
    "a later patch makes a folder where a file is": ({"d": ADDED}, {"d/file": ADDED}),
    "a file becomes a folder": ({"one": None, "one/new": ADDED}, {"two": ADDED}),
    "a folder becomes a file": (
        {"a/b/one": None, "a/b/two": None, "a/b": ADDED}, {"two": ADDED}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FIRST_AND_LATER)
def test_git_decides_where_it_may_look_for_renamed_files(
    objects: ObjectDatabase, case: str
) -> None:
    """A new patch is put before a later one."""
    history = History(objects, 1)
    commits = []
    for files in FIRST_AND_LATER[case]:
        entries: dict[str, TreeEntry | None] = {}
        for path, entry in files.items():
            if entry is ADDED:
                entries[path] = history._blob(f"{case} {path}\n" * 9)
            else:
                here = objects.entry(history.tree, path)
                entries[path] = None if here else objects.entry(history.tree, f"a/b/{path[2:]}")
        tree = objects.with_files(history.tree, dict.fromkeys(entries))
        tree = objects.with_files(tree, {path: new for path, new in entries.items() if new})
        commit = Commit(tree, (history.base,), MACHINE, MACHINE, f"{case}\n\nWhy.\n")
        commits.append(objects.add_commit(commit))
    first, later = (changes_of(objects, history.base, commit)[0] for commit in commits)
    short, merged = both_ways(objects, [first, later], history.tree)
    assert (short.trees, short.conflicts) == (merged.trees, merged.conflicts)
    assert short.aside == {0}
