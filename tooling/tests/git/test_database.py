"""The object database of a repository."""

from __future__ import annotations

from unittest import mock

from fixtool.git import database
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
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
