"""The texts of a long series, of which few are in memory."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fixtool.errors import CannotRun
from fixtool.series import texts
from fixtool.series.diff import read_diff
from fixtool.series.patch import Patch, parse
from fixtool.series.texts import Text

_MAIL = b"""From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A Person <a@example.org>
Date: Mon, 23 Nov 2026 12:00:00 +0000
Subject: [PATCH] area: change %d

diff --git a/file b/file
index 1111111..2222222 100644
--- a/file
+++ b/file
@@ -1,2 +1,2 @@ first
 same
-old
+new %d
@@ -11,2 +11,2 @@ second
 same
-old
+new %d
"""


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> texts._Held:
    """Room for two or three patches."""
    monkeypatch.setattr(texts, "_MOST", 1000)
    held = texts._Held()
    monkeypatch.setattr(texts, "_held", held)
    return held


def in_memory(known: list[Text]) -> int:
    return sum(text.size for text in known if text._data is not None)


def test_each_text_is_read_as_it_was_and_few_are_in_memory() -> None:
    draw = random.Random(1)
    contents = [draw.randbytes(draw.randrange(400)) for _ in range(200)]
    known = [Text(content) for content in contents]
    assert in_memory(known) <= 1000
    for _ in range(500):
        at = draw.randrange(200)
        begin, end = sorted(draw.choices(range(400), k=2))
        assert known[at].part(begin, end) == contents[at][begin:end]
        assert known[at].read() == contents[at]
        assert known[at] == Text(contents[at])
        assert in_memory(known) <= 1000


def test_a_text_is_written_once(held: texts._Held) -> None:
    contents = [bytes([number]) * 400 for number in range(10)]
    known = [Text(content) for content in contents]
    for _ in range(3):
        assert [text.read() for text in known] == contents
    assert held._file is not None
    assert os.fstat(held._file.fileno()).st_size == 4000


def test_of_a_large_text_a_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_SMALL", 500)
    large, other = Text(bytes(range(256)) * 8), Text(b"x")
    assert large.part(300, 303) == bytes([44, 45, 46])
    assert large._data is None
    assert large.read() == bytes(range(256)) * 8
    assert other.read() == b"x"


def test_one_text_that_is_larger_than_the_room_stays() -> None:
    large = Text(b"x" * 5000)
    assert large._data is not None


@pytest.mark.parametrize("broken", ["no folder", "full at once", "full later"])
def test_without_room_for_the_file_all_stays_in_memory(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    written = 0

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(descriptor: int, data: bytes, at: int) -> int:
        nonlocal written
        written += 1
        if written > 3:
            fail()
        return real(descriptor, data[:150], at)

    real = os.pwrite
    if broken == "no folder":
        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    else:
        monkeypatch.setattr(os, "pwrite", fail if broken == "full at once" else write)
    contents = [bytes([number]) * 400 for number in range(10)]
    known = [Text(content) for content in contents]
    assert [text.read() for text in known] == contents
    assert in_memory(known) >= 3600


def test_a_file_that_has_lost_something_is_not_believed(held: texts._Held) -> None:
    first, _ = Text(b"x" * 900), Text(b"y" * 900)
    assert held._file is not None
    os.ftruncate(held._file.fileno(), 10)
    with pytest.raises(CannotRun, match="has lost"):
        first.read()


def test_patches_are_those_that_were_read_whatever_becomes_of_their_files(tmp_path: Path) -> None:
    patches: list[Patch] = []
    raws = [_MAIL % (number, number, number) for number in range(20)]
    for number, raw in enumerate(raws):
        path = tmp_path / f"{number}.patch"
        path.write_bytes(raw)
        patches.append(parse(path.read_bytes(), path.stem, path))
        assert len(patches[-1].files) == 1
        path.unlink()
    diffs = [raw[raw.index(b"diff --git") :] for raw in raws]
    assert [patch.raw for patch in patches] == raws
    assert [patch.diff for patch in patches] == diffs
    for number, (patch, diff) in enumerate(zip(patches, diffs, strict=True)):
        first, second = patch.files[0].hunks
        assert (first.old_text, first.new_text) == (b"same\nold\n", b"same\nnew %d\n" % number)
        assert second.head == b"@@ -11,2 +11,2 @@ second\n"
        assert second.text == b" same\n-old\n+new %d\n" % number
        assert read_diff(diff, where="x")[0].hunks == patch.files[0].hunks
        assert patch == parse(raws[number], patch.slug, patch.path)


def test_a_diff_that_its_reader_holds_anyway_is_not_written(held: texts._Held) -> None:
    diff = _MAIL[_MAIL.index(b"diff --git") :].replace(b"%d", b"1")
    diffs = [diff + b"\n" * number for number in range(20)]
    read = [read_diff(each, where="x") for each in diffs]
    assert held._file is None
    assert all(len(file.hunks) == 2 for (file,) in read)
