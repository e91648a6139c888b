"""Files that a killed run leaves whole, and locks that name their holder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.files import (
    TooLarge,
    lock,
    private_folder,
    read_at_most,
    read_plain,
    require_plain,
    require_private,
    write_atomically,
)
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
