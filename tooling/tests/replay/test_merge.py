"""The three-way merges of a replay are those of git, in whatever way they are made."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.store import Store
from fixtool.replay._merge import Contents, Merges

NAMES = ("a", "d/b", "d/c", "d/e/f", "g/h", "new", "d/new", "g/h/i", "j/k/l")
PLAIN = "".join(f"line {number}\n" for number in range(12))


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[ObjectDatabase]:
    with ObjectDatabase(Store.create(tmp_path / "store.git")) as database:
        yield database


def changed(
    objects: ObjectDatabase, files: dict[str, TreeEntry], choice: random.Random
) -> dict[str, TreeEntry]:
    """``files`` after some changes: of lines, of modes, of names; and some new ones."""
    files = dict(files)
    names, kinds = choice.choice(
        [(NAMES[:3], ["edit"]), (NAMES, ["edit", "mode", "remove", "move"])]
    )
    for name in choice.sample(names, choice.randint(1, 3)):
        kind = choice.choice(kinds)
        if name in files and kind == "edit":
            lines = objects.blob(files[name].blob).decode().splitlines(keepends=True)
            at = choice.randrange(0, 12, 3)
            lines[at : at + choice.randint(1, 4)] = choice.choice(
                [["changed\n"], [], [PLAIN], ["line 3\n"] * 2]
            )
            blob = objects.add("blob", "".join(lines).encode())
            files[name] = TreeEntry(files[name].mode, blob)
        elif name in files and kind == "mode":
            files[name] = TreeEntry(choice.choice(["100755", "120000"]), files[name].blob)
        elif name in files and kind in ("remove", "move"):
            entry = files.pop(name)
            if kind == "move":
                files.setdefault(choice.choice(NAMES), entry)
        elif name not in files:
            text = choice.choice([PLAIN, "other\n", f"{name}\n"])
            files[name] = TreeEntry("100644", objects.add("blob", text.encode()))
    return {name: entry for name, entry in files.items()
            if not any(other.startswith(f"{name}/") for other in files)}  # fmt: skip


def commit_of(objects: ObjectDatabase, tree: Oid, *parents: Oid) -> Oid:
    return objects.add_commit(Commit(tree, parents, MACHINE, MACHINE, "a commit\n"))


def test_a_merge_is_the_one_of_git(objects: ObjectDatabase) -> None:
    """Of random trees. What `git apply` would have made is at times right, at times wrong, and at
    times not known."""
    here = asked = 0
    known: dict[Contents, Oid | None] = {}
    for seed in range(160):
        choice = random.Random(seed)
        base_files = {name: TreeEntry("100644", objects.add("blob", (PLAIN + name).encode()))
                      for name in NAMES[:5]}  # fmt: skip
        sides = [base_files, *(changed(objects, base_files, choice) for _ in range(2))]
        before, ours, after = (objects.with_files(Oid(""), side) for side in sides)
        base = commit_of(objects, before)
        theirs = commit_of(objects, after, base)
        expected = objects.merge_three_way(base, ours, theirs)
        strict = choice.choice([expected.tree, ours, None])
        paths = objects.changed_paths(before, after)
        merges = Merges(objects, known)
        merge, alone = merges.merge(base, ours, theirs, paths, strict)
        while not merges.check():
            merge, alone = merges.merge(base, ours, theirs, paths, strict)
        assert merge == expected, seed
        here += alone
        asked += not alone
    assert here > 30
    assert asked > 30
    assert len(known) > 20
    assert None in known.values()


@pytest.mark.parametrize("attributes", ["*.txt merge=ours\n", "* -merge\n"])
def test_an_attribute_says_how_git_merges(objects: ObjectDatabase, attributes: str) -> None:
    info = objects.repo.git_dir / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text(attributes)
    sides = [PLAIN, PLAIN.replace("line 2", "two"), PLAIN.replace("line 9", "nine")]
    trees = [
        objects.with_files(
            Oid(""), {"a.txt": TreeEntry("100644", objects.add("blob", side.encode()))}
        )
        for side in sides
    ]
    base = commit_of(objects, trees[0])
    theirs = commit_of(objects, trees[2], base)
    expected = objects.merge_three_way(base, trees[1], theirs)
    merges = Merges(objects, {})
    assert merges.merge(base, trees[1], theirs, ["a.txt"], None) == (expected, False)
    assert merges.check()
