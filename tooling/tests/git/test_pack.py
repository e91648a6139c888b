"""Packs that fixtool writes, as git reads them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gitdb.pack import IndexWriter

from fixtool.git import database
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.pack import _index, packed, unpacked
from support.repositories import Git


@pytest.fixture
def objects(
    make_git: Callable[[str], Git], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectDatabase]:
    monkeypatch.setattr(database, "FEW", 1)  # all becomes a pack
    with ObjectDatabase(make_git("repo").repo) as objects:
        yield objects


def texts(seed: int, number: int) -> list[bytes]:
    """Contents of which each is the one before with a few edits."""
    draw = random.Random(seed)
    text = bytearray(draw.randbytes(draw.choice([0, 1, 900, 70_000, 200_000])))
    found = []
    for _ in range(number):
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text) + 1)
            if draw.random() < 0.5:
                text[at:at] = draw.randbytes(draw.choice([1, 127, 128, 700]))
            else:
                del text[at : at + draw.choice([1, 300, 66_000])]
        found.append(bytes(text))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_git_reads_each_object_as_it_was_added(objects: ObjectDatabase, seed: int) -> None:
    added: dict[Oid, bytes] = {}
    like = None
    for text in texts(seed, 120):  # the chain of differences is cut once
        like = objects.add("blob", text, like)
        added[like] = text
    objects.flush()
    git = objects.repo
    for oid, text in added.items():
        assert git.run("cat-file", "blob", oid).stdout == text
    packs = [str(path) for path in (objects.repo.objects_folder / "pack").glob("*.idx")]
    assert len(packs) == 1
    listing = git.run("verify-pack", "-v", *packs).text
    depths = [int(line.split()[5]) for line in listing.split("\n") if len(line.split()) == 7]
    assert not depths or max(depths) <= 50


def test_a_tree_and_its_commits(objects: ObjectDatabase) -> None:
    tree = objects.with_files(Oid(""), {})
    parents: tuple[Oid, ...] = ()
    for number in range(60):
        blob = objects.add("blob", b"%d\n" % number)
        tree = objects.with_files(tree, {f"a/{number}": TreeEntry("100644", blob)})
        parents = (objects.add_commit(Commit(tree, parents, MACHINE, MACHINE, "x\n")),)
    objects.flush()
    objects.repo.run("update-ref", "HEAD", parents[0])
    assert objects.repo.run("fsck", "--strict", "--full").status == 0
    assert objects.repo.run("rev-list", "--count", "HEAD").text == "60"


def test_new_objects_are_read_before_they_are_written(
    objects: ObjectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_CONTENTS", 0)
    base = texts(1, 1)[0] * 3
    oids = [objects.add("blob", base)]
    for number in range(20):
        oids.append(objects.add("blob", b"%d" % number + base, oids[-1]))
    assert [objects.blob(oid) for oid in oids[1:]] == [b"%d" % n + base for n in range(20)]


def test_a_difference_is_undone() -> None:
    for seed in range(30):
        old, new = texts(seed, 2)
        change = packed("blob", new, Oid("0" * 40), old)
        assert unpacked(change, old) == new


def test_a_killed_write_leaves_nothing_that_git_reads(
    objects: ObjectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fail)
    objects.add("blob", b"x")
    with pytest.raises(OSError, match="No space"):
        objects.flush()
    assert list((objects.repo.objects_folder / "pack").iterdir()) == []


def test_a_content_that_was_read_counts_once(objects: ObjectDatabase) -> None:
    text = b"text" * 100
    (objects.repo.git_dir / "text").write_bytes(text)
    oid = Oid(objects.repo.run("hash-object", "-w", str(objects.repo.git_dir / "text")).text)
    assert objects.blob(oid) == text
    assert objects.add("blob", text) == oid
    assert objects._known._size == len(text)


@pytest.mark.parametrize("number", [0, 1, 700])
def test_the_index_is_that_of_gitdb(number: int) -> None:
    """Also if objects stand after the first 2 GiB of a pack."""
    draw = random.Random(number)
    rows = [
        (
            draw.randbytes(20),
            draw.getrandbits(32),
            draw.choice([at, 0x7FFFFFFF - at, (at + 3) << 31]),
        )
        for at in range(number)
    ]
    checksum, pieces, theirs = draw.randbytes(20), list[bytes](), IndexWriter()
    for row in rows:
        theirs.append(*row)
    theirs.write(checksum, pieces.append)
    assert b"".join(_index(rows, checksum)) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 300, 0xFFFF, 0x10000])
def test_what_is_not_compressed_is_read_as_zlib_wrote_it(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert unpacked(packed("blob", data, level=0)) == data


def test_a_pack_is_written_without_a_second_copy_of_it(objects: ObjectDatabase) -> None:
    draw = random.Random(0)
    for _ in range(60):
        objects.add("blob", draw.randbytes(100_000))
    tracemalloc.start()
    try:
        objects.flush()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
