"""Files that a killed run leaves whole, and locks that name their holder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.files import (
    TooLarge,
    link_or_copy,
    lock,
    private_folder,
    read_at_most,
    read_plain,
    require_plain,
    require_private,
    temporary_folder,
    write_atomically,
)
from fixtool.series.write import rewrite
from support.processes import GENEROUS


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "é")
    assert path.read_bytes() == "é".encode()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert path.read_bytes() == "é".encode()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


INTERRUPTED_AT_EACH_STEP = """\
import itertools, sys
from fixtool import files

def interrupted(at):
    steps = 0
    def step(frame, event, value):
        nonlocal steps
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        steps += 1
        if steps == at:
            raise KeyboardInterrupt
        return step
    sys.settrace(step)
    try:
        with files.temporary_folder("fixtool-") as folder:
            (folder / "file").touch()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return steps >= at

print(next(at for at in itertools.count(1) if not interrupted(at)))
"""


def test_a_temporary_folder_is_removed_wherever_an_interrupt_comes(tmp_path: Path) -> None:
    """At each of Python's instructions that make the folder or remove it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    words = [sys.executable, "-c", INTERRUPTED_AT_EACH_STEP]
    environment = {**os.environ, "TMPDIR": str(folder)}
    ran = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=GENEROUS, check=True
    )
    assert int(ran.stdout) > 50
    assert ran.stderr == ""
    assert list(folder.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_to_is_removed(tmp_path: Path) -> None:
    around = tmp_path / "temporary"
    around.mkdir()
    with temporary_folder("x-", around) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a/b").mkdir(parents=True)
        (folder / "a").chmod(0o500)
    assert list(around.iterdir()) == []


def test_a_temporary_folder_of_a_killed_run_is_removed_a_day_later(tmp_path: Path) -> None:
    names = ("x-" + "a" * 16, "x-" + "b" * 16, "x-others", "y-" + "a" * 16)
    for name in names:
        (tmp_path / name / "in").mkdir(parents=True)
        if name != names[1]:
            os.utime(tmp_path / name, (1, 1))
    with temporary_folder("x-", tmp_path):
        assert not (tmp_path / names[0]).exists()
    assert all((tmp_path / name).exists() for name in names[1:])


def test_a_private_folder(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == folder
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRun, match="cannot make the folder"):
        private_folder(tmp_path / "file" / "x")


def test_a_plain_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"12345")
    assert read_plain(tmp_path, "a/b", 5) == b"12345"
    with pytest.raises(TooLarge, match="b has 5 bytes, and fixtool reads at most 4"):
        read_plain(tmp_path, "a/b", 4)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path, "a/c", 5)
    with pytest.raises(TooLarge, match="zero has more"):
        read_at_most(Path("/dev/zero"), 100)


@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "link of a folder", "folder", "pipe", "device"]
)
def test_only_a_plain_file_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    name = "a/file"
    if kind == "link of a folder":
        (tmp_path / "a").symlink_to(tmp_path / "real")
    else:
        (tmp_path / "a").mkdir()
        path = tmp_path / name
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            targets = {"link": "real/file", "dangling link": "nowhere", "device": "/dev/null"}
            path.symlink_to(tmp_path / targets[kind])
    for folder, file in ((tmp_path, name), (tmp_path / "a", "file")):
        with pytest.raises(Refused, match="is a link, or no regular file"):
            read_plain(folder, file, 10)
    if kind == "folder":
        require_plain(tmp_path)
    else:
        with pytest.raises(Refused, match="is a link, or no regular file"):
            require_plain(tmp_path)


def test_a_folder_around_may_be_everybodys_only_if_it_is_sticky(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a")
    tmp_path.chmod(0o777)
    with pytest.raises(CannotRun, match=f"{tmp_path} can be written to by every user"):
        require_private(folder)
    tmp_path.chmod(0o1777)
    require_private(folder)
    folder.chmod(0o1777)
    with pytest.raises(CannotRun, match=f"{folder} can be written to by every user"):
        require_private(folder)


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from fixtool.files import lock\n"
        f"with lock(Path({str(path)!r}), 'x'): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CannotRun, match=rf"in use by process {holder.pid} on "), lock(path, "x"):
        pass
    holder.kill()
    holder.wait()
    with lock(path, "x"):
        assert str(os.getpid()) in path.read_text()


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    """The lock of a patch repository lies in patches/, which somebody else may have made."""
    (tmp_path / "key").write_text("private\n")
    (tmp_path / ".lock").symlink_to("key")
    with pytest.raises(Refused, match="is a link"), lock(tmp_path / ".lock", "it"):
        pass
    assert (tmp_path / "key").read_text() == "private\n"


def test_a_patient_run_waits_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waiting, order = threading.Event(), []

    def wait() -> None:
        waiting.set()
        with lock(path, "x", patience=GENEROUS):
            order.append("second")

    with lock(path, "x"):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        with pytest.raises(CannotRun, match="in use"), lock(path, "x", patience=0.1):
            pass
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_there_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file system may have none, and the system may forbid links to files of others."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    old = tmp_path / "old"
    old.write_text("text")
    os.utime(old, (7, 7))
    monkeypatch.setattr(os, "link", fail)
    link_or_copy(old, tmp_path / "new")
    assert ((tmp_path / "new").read_text(), (tmp_path / "new").stat().st_mtime) == ("text", 7)


def test_a_full_disk_is_no_reason_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "old").write_text("text")
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="No space"):
        link_or_copy(tmp_path / "old", tmp_path / "new")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached the disk, in order: the names that the files and folders had at that time."""
    names: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only /proc names open files")
def test_a_durable_file_and_its_name_are_on_the_disk(tmp_path: Path, synced: list[str]) -> None:
    write_atomically(tmp_path / "note", "text", durable=True)
    assert [name.split(".")[1] if "." in name else name for name in synced] == [
        "note", tmp_path.name,
    ]  # fmt: skip
    assert (tmp_path / "note").read_text() == "text"
    write_atomically(tmp_path / "cache", "text")
    assert len(synced) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only /proc names open files")
def test_a_new_line_and_its_name_are_on_the_disk(tmp_path: Path, synced: list[str]) -> None:
    line = tmp_path / "patches" / "main"
    rewrite(line, {"series": b"a.patch\n", "shelf/b.patch": b"b"})
    assert set(synced[:2]) == {"series", "b.patch"}
    assert "shelf" in synced[2:4]
    assert synced[-1] == "patches"
    inode = (line / "shelf" / "b.patch").stat().st_ino
    rewrite(line, {"series": b"c.patch\n", "shelf/c.patch": b"c"})
    assert (line / "shelf" / "b.patch").stat().st_ino == inode
    assert synced[-1] == "patches"


def test_a_file_of_a_folder_is_never_changed_in_its_place(tmp_path: Path) -> None:
    """The new folder is made of links to the old files: to write through one would change both."""
    line = tmp_path / "patches" / "main"
    rewrite(line, {"series": b"old\n", "shelf/a.patch": b"old"})
    other = tmp_path / "other"
    os.link(line / "shelf" / "a.patch", other)
    rewrite(line, {"shelf/a.patch": b"new"})
    assert ((line / "shelf" / "a.patch").read_bytes(), other.read_bytes()) == (b"new", b"old")
