"""The object database of a repository."""

from __future__ import annotations

from random import Random
from unittest import mock

import pytest

from fixtool.git import database
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid, TreeEntry
from support.repositories import Git


def test_what_stands_at_many_paths_is_read_with_few_questions(upstream: Git) -> None:
    commit = upstream.commit(
        "more", **{f"deep__er__f{n}_txt": f"{n}\n" for n in range(9)}, top_txt="t\n"
    )
    paths = [*(f"deep/er/f{n}.txt" for n in range(9)), "top.txt", "nope/x", "top.txt/y", "deep"]
    with ObjectDatabase(upstream.repo) as objects:
        tree = objects.tree_of(Oid(commit))
        objects.tree(tree)
        with mock.patch.object(database._Reader, "read_many", autospec=True,
                               side_effect=database._Reader.read_many) as asked:  # fmt: skip
            objects.prefetch(tree, paths)
            few = asked.call_count
            found = objects.files(tree, paths)
            contents = {path: objects.blob(entry.blob) for path, entry in found.items()}
        assert contents["deep/er/f8.txt"] == b"8\n"
        assert set(found) == {*paths[:9], "top.txt"}
        assert (few, asked.call_count - few) <= (2, 5)
        objects.prefetch(tree, ["deep/er/f1.txt", "deep/er/f2.txt"])


def test_a_tree_is_the_same_however_it_was_made(upstream: Git) -> None:
    random = Random(4)
    names = ("a", "ab", "b", "a/x", "a/y/z", "c/x")
    ids = [Oid(f"{number}" * 40) for number in range(3)]
    with ObjectDatabase(upstream.repo) as objects:
        tree, files = objects.with_files(Oid(""), {}), dict[str, TreeEntry]()
        for _ in range(100):
            path = random.choice(names)
            there = TreeEntry(random.choice(("100644", "100755")), random.choice(ids))
            inside = [name for name in files if f"{name}/".startswith(f"{path}/")]
            around = [name for name in files if path.startswith(f"{name}/")]
            for changes in (dict.fromkeys([*inside, *around]), {path: there}):
                if changes and (path not in changes or random.random() < 0.9):
                    tree = objects.with_files(tree, changes)
                    files = {n: entry for n, entry in {**files, **changes}.items() if entry}
            with ObjectDatabase(upstream.repo) as fresh:
                assert tree == fresh.with_files(Oid(""), files)


def test_an_id_that_looks_like_an_entry_of_a_tree_is_left_alone(upstream: Git) -> None:
    """The id of `a`, with what follows it, has the bytes of the entry `b`."""
    like, rest = b"100644 b\0", b"01234567890"
    files = {
        name: TreeEntry("100644", Oid(raw.hex()))
        for name, raw in (("a", like + rest), ("ab", bytes(20)), ("b", rest + b"100644 ab"))
    }
    other = {"b": TreeEntry("100644", Oid("1" * 40))}
    with ObjectDatabase(upstream.repo) as objects, ObjectDatabase(upstream.repo) as fresh:
        tree = objects.with_files(objects.with_files(Oid(""), files), other)
        assert tree == fresh.with_files(Oid(""), {**files, **other})


@pytest.mark.parametrize("data", [b"100644 a\0" + bytes(19), b"a\0" + bytes(20), b"x"])
def test_a_damaged_tree_is_told(upstream: Git, data: bytes) -> None:
    words = ("hash-object", "-t", "tree", "--literally", "-w", "--stdin")
    tree = Oid(upstream(*words, stdin=data))
    with ObjectDatabase(upstream.repo) as objects, pytest.raises(ValueError, match="^b'"):
        objects.tree(tree)
