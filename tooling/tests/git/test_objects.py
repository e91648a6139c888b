"""Object ids, and the trees that git stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.errors import CannotRun
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import ZERO, Oid, TreeEntry, parse_oid
from fixtool.git.store import Store
from fixtool.git.trees import changed_files, list_folders, list_tree, similar_blobs, write_trees
from support.repositories import Git


def test_an_object_id_has_40_lower_case_digits() -> None:
    assert parse_oid("0123456789" * 4, "x") == "0123456789" * 4
    for text in ("", "0" * 39, "0" * 41, "A" * 40, "0" * 39 + "\n", "--upload-pack=x"):
        with pytest.raises(CannotRun, match="the server gives .* not an object id"):
            parse_oid(text, "the server")


def test_a_branch_whose_name_is_not_utf_8(upstream: Git) -> None:
    head = upstream.head()
    name = b"refs/heads/caf\xe9".decode("utf-8", "surrogateescape")
    upstream("symbolic-ref", "HEAD", name)
    repo = upstream.repo
    assert repo.current_branch() == name
    repo.update_refs([(name, Oid(head), None)], "made here")
    assert repo.ref(name) == head


@pytest.mark.parametrize("many", [False, True])
def test_many_paths_are_listed_as_a_few_are(
    upstream: Git, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """The command line has room for two million bytes: 20,000 paths once did not fit."""
    if many:
        monkeypatch.setattr("fixtool.git.trees._MOST_PATHS", 0)
    repo = upstream.repo
    wanted = ("python", "README.txt", "gone", "python/other.py/x", "pyth")
    assert set(list_tree(repo, "v1.0", *wanted)) == {
        "README.txt", "python/model.py", "python/other.py"
    }  # fmt: skip
    assert list_folders(repo, "v1.0", "python", "README.txt", "gone") == {"python"}


def test_trees_are_written_listed_and_compared(upstream: Git) -> None:
    repo = upstream.repo
    files = list_tree(repo, "v1.0")
    assert files["python/model.py"].mode == "100644"
    assert set(list_tree(repo, "v1.0", "python")) == {p for p in files if p.startswith("python/")}
    assert list_tree(repo, "v1.0", "python/*.py") == {}  # paths are literal
    moved = {**files, "deep/er/link": TreeEntry("120000", files["python/model.py"].blob)}
    del moved["python/model.py"]
    same, new = write_trees(repo, [files, moved])
    assert same == repo.tree_id("v1.0")
    blob = files["python/model.py"].blob
    changes = [(f.status, f.path, f.old_blob, f.new_blob) for f in changed_files(repo, same, new)]
    assert changes == [("A", "deep/er/link", ZERO, blob), ("D", "python/model.py", blob, ZERO)]


def test_what_a_repository_lacks(upstream: Git, tmp_path: Path) -> None:
    """Also where it borrows its objects, and in another work tree."""
    head, absent = upstream.head(), "f" * 40
    store = Store.create(tmp_path / "store.git")
    assert store.lacks([head, absent]) == {head, absent}
    store.borrow(upstream.repo)
    upstream("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    for repo in (store, upstream.repo, Git(tmp_path / "tree").repo):
        assert repo.lacks([head, absent, head]) == {absent}
        assert repo.lacks([]) == set()
        assert repo.has(head)
        assert repo.has()
        assert not repo.has(head, absent)


def test_what_is_borrowed_while_objects_are_read(
    upstream: Git, make_git: Callable[[str], Git], tmp_path: Path
) -> None:
    """The base of a line may come from another repository in the middle of a replay."""
    own, store = make_git("own"), Store.create(tmp_path / "store.git")
    store.borrow(own.repo)
    first, base = Oid(own.commit("first", x_txt="x\n")), Oid(upstream.head())
    with ObjectDatabase(store) as objects:
        assert objects.tree_of(first) == own("rev-parse", "HEAD^{tree}")
        with pytest.raises(CannotRun, match=f"object {base} is missing"):
            objects.tree_of(base)
        store.borrow(upstream.repo)
        assert objects.tree_of(base) == upstream("rev-parse", "HEAD^{tree}")
        assert objects.tree_of(first) == own("rev-parse", "HEAD^{tree}")


def test_a_call_has_variables_of_its_own(upstream: Git, tmp_path: Path) -> None:
    person = {
        "GIT_AUTHOR_NAME": "M",
        "GIT_AUTHOR_EMAIL": "m@x.org",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
    }
    repo, index = upstream.repo, tmp_path / "index"
    for place in (None, index):
        out = repo.run("var", "GIT_AUTHOR_IDENT", env=person, index=place)
        assert out.text == "M <m@x.org> 1700000000 +0000"


def test_blobs_are_similar_from_half_of_their_lines_on(upstream: Git) -> None:
    def blob(text: str) -> Oid:
        return Oid(upstream("hash-object", "-w", "--stdin", stdin=text.encode()))

    lines = [f"line number {n:02}\n" for n in range(40)]
    whole, edited, half, other = (
        blob("".join(text)) for text in (lines, ["new\n", *lines], lines[:25], ["x\n"] * 250)
    )
    pairs = [(whole, other), (whole, edited), (other, whole), (whole, whole), (whole, half)]
    assert similar_blobs(upstream.repo, pairs) == {pairs[1], pairs[3], pairs[4]}
    assert similar_blobs(upstream.repo, []) == set()


@pytest.mark.parametrize("number", [1, 300])
def test_objects_that_do_not_last(tmp_path: Path, number: int) -> None:
    """git reads them, of any size, until the block ends."""
    store = Store.create(tmp_path / "store.git")
    with passing_objects(store) as objects:
        contents = [b"%d " % size * size for size in range(number)]
        blobs = [objects.add("blob", content) for content in contents]
        objects.flush()
        later = objects.add("blob", b"later\n")
        objects.flush()
        assert list(objects.repo.read_blobs(blobs)) == contents
        assert objects.read(blobs[0]) == ("blob", contents[0])
        assert objects.repo.run_on_objects("cat-file", "-t", later).text == "blob"
        assert objects.scratch is not None
        for index in objects.scratch.glob("pack/*.idx"):
            store.run("verify-pack", str(index))
    assert store.lacks([*blobs, later]) == {*blobs, later}
