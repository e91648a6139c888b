"""The digests of files that have not changed: whatever is in doubt is read again."""

from __future__ import annotations

import os
import shutil
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtool.errors import CannotRun
from fixtool.series import digests
from fixtool.series.digests import FileDigests

LATER = 10 * 10**9
NAME = "fix.patch"


@pytest.fixture
def line(tmp_path: Path) -> Path:
    folder = tmp_path / "line"
    folder.mkdir()
    (folder / NAME).write_bytes(b"one")
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock shows that all files were written long ago."""
    now = time.time_ns
    monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: now() + LATER))


def opened(line: Path) -> FileDigests:
    return FileDigests(line.parent / "cache", line)


def found(line: Path, name: str = NAME) -> str | None:
    return opened(line).find(name, (line / name).stat())


def keep(line: Path, name: str = NAME) -> str:
    """Read a file, and keep its digest."""
    known = opened(line)
    about = (line / name).stat()
    digest = sha256((line / name).read_bytes()).hexdigest()
    known.note(name, about, digest)
    known.keep()
    return digest


def write(path: Path, data: bytes) -> None:
    """Write a file of the same size, with the time of its old content. The kernel's clock has to
    have gone on since."""
    before = path.stat()
    assert before.st_size == len(data)
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.usefixtures("later")
def test_a_file_that_has_not_changed_is_known(line: Path) -> None:
    assert found(line) is None
    digest = keep(line)
    assert found(line) == digest
    (line / "other.patch").write_bytes(b"two")
    other = keep(line, "other.patch")
    assert (found(line), found(line, "other.patch")) == (digest, other)


@pytest.mark.usefixtures("later")
def test_nothing_is_written_if_all_was_known(line: Path) -> None:
    keep(line)
    (file,) = (line.parent / "cache").iterdir()
    before = file.stat()
    known = opened(line)
    assert known.find(NAME, (line / NAME).stat())
    known.keep()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.usefixtures("later")
def test_an_edit_is_seen_though_size_and_time_are_the_old_ones(line: Path) -> None:
    """As after `touch -d`: only the time of the last change of anything about the file tells."""
    keep(line)
    write(line / NAME, b"two")
    assert found(line) is None


@pytest.mark.usefixtures("later")
def test_an_edit_between_a_look_and_the_reading_is_seen(line: Path) -> None:
    known = opened(line)
    about = (line / NAME).stat()
    write(line / NAME, b"two")
    known.note(NAME, about, sha256(b"two").hexdigest())
    known.keep()
    assert found(line) is None


def test_a_file_that_was_just_written_is_read_again(line: Path) -> None:
    """It may be edited once more within the same tick of the clock."""
    keep(line)
    assert not (line.parent / "cache").exists()
    assert found(line) is None


@pytest.mark.parametrize("which", ["mtime", "ctime"])
def test_a_file_from_the_future_is_read_again(
    line: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """The clock went back, or somebody has set the time of the file."""
    real = time.time_ns
    shift = LATER if which == "mtime" else -3600 * 10**9
    monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: real() + shift))
    if which == "mtime":
        os.utime(line / NAME, ns=(0, real() + 2 * LATER))
    keep(line)
    assert found(line) is None


@pytest.mark.usefixtures("later")
def test_a_file_system_of_whole_seconds_is_not_believed(line: Path) -> None:
    about = (line / NAME).stat()
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    coarse = SimpleNamespace(**{name: getattr(about, name) for name in names})
    coarse.st_ctime_ns -= coarse.st_ctime_ns % 10**9
    known = opened(line)
    known.note(NAME, cast(Any, coarse), "0" * 64)
    known.keep()
    assert opened(line).find(NAME, cast(Any, coarse)) is None


@pytest.mark.usefixtures("later")
def test_a_copy_is_read_again(line: Path) -> None:
    """Also if it takes the place of what it was copied from."""
    digest = keep(line)
    copy = line.with_name("copy")
    shutil.copytree(line, copy)
    write(copy / NAME, b"two")
    assert found(copy) is None
    line.rename(line.with_name("old"))
    copy.rename(line)
    assert found(line) is None
    assert digest == sha256(b"one").hexdigest()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", [b"", b"{", b"0" * 64 + b"\n{}", b"[]", None])
def test_a_damaged_cache_is_not_believed(line: Path, damage: bytes | None) -> None:
    """None stands for another digest in a file that is as it was otherwise."""
    digest = keep(line)
    (file,) = (line.parent / "cache").iterdir()
    raw = file.read_bytes()
    file.write_bytes(raw.replace(digest.encode(), b"0" * 64) if damage is None else damage)
    assert found(line) is None
    assert keep(line) == found(line) == digest


@pytest.mark.usefixtures("later")
def test_files_that_are_gone_are_forgotten_at_some_time(line: Path) -> None:
    known = opened(line)
    for number in range(102):
        name = f"p{number}.patch"
        (line / name).write_bytes(b"x")
        known.note(name, (line / name).stat(), "0" * 64)
    known.keep()
    assert found(line, "p0.patch")
    keep(line)
    assert found(line, NAME)
    assert found(line, "p0.patch") is None


def test_a_cache_of_others_is_refused(line: Path) -> None:
    (line.parent / "cache").mkdir()
    (line.parent / "cache").chmod(0o777)
    with pytest.raises(CannotRun):
        opened(line)
    assert FileDigests(None, line).find(NAME, (line / NAME).stat()) is None
