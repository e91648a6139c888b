"""Releases as commits: synthetic wheels on a local server, and the real ones."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.git.objects import MACHINE
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import list_tree
from fixtool.settings import Settings
from fixtool.sources import index, release
from fixtool.sources.release import Native
from support.package_index import (
    ARM,
    ELF,
    GPU_ELF,
    REAL_CACHE,
    X86,
    Server,
    make_wheel,
    online,
    server,
)
from support.releases import NAMES, SO, make_release, real_wheel

__all__ = ["online", "server"]  # fixtures


def natives_of(path: Path) -> tuple[Native, ...]:
    """The native code in a wheel on this disk."""
    with release.open_wheel(path) as archive:
        data = {member.filename: archive.read(member) for member in release.safe_members(archive)}
    return tuple(
        Native(name, hashlib.sha256(raw).hexdigest(), len(raw))
        for name, raw in data.items()
        if release.is_native(raw[:1024])
    )


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Store.create(tmp_path / "store.git")


# -- what an import makes ----------------------------------------------------------------------


def test_the_commit_holds_the_files_and_nothing_of_the_machine(
    server: Server, repo: Repo, settings: Settings
) -> None:
    make_release(server.folder)
    imported = release.import_release("1.0", repo, settings, tags=[X86])
    entries = list_tree(repo, imported.commit)
    assert set(entries) == {f"python/{name}" for name in NAMES}
    assert {mode for mode, _ in entries.values()} == {"100644"}
    blobs = dict(zip(entries, repo.read_blobs([blob for _, blob in entries.values()]), strict=True))
    assert blobs == {f"python/{name}": data for name, data in NAMES.items()}
    commit = repo.read_commit(imported.commit)
    assert (commit.parents, commit.author, commit.committer) == ((), MACHINE, MACHINE)
    assert commit.message.startswith("sglang 1.0, as released\n")
    assert imported.natives == (release.Native(SO, hashlib.sha256(ELF).hexdigest(), len(ELF)),)
    assert (imported.version, imported.tree, imported.files) == ("1.0", commit.tree, len(NAMES))
    assert repo.run("for-each-ref").text == f"{imported.commit} commit\trefs/fixtool/releases/1.0"
    assert repo.run("fsck", "--strict", "--no-dangling").status == 0


def test_the_id_depends_on_content_alone(
    tmp_path: Path, server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(server.folder)
    ids = set()
    for number, (zone, umask, tags) in enumerate(
        [("UTC", 0o022, [X86]), ("Asia/Tokyo", 0o077, [ARM]), ("Asia/Tokyo", 0o002, ["cp39-x-y"])]
    ):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("GIT_AUTHOR_NAME", f"person {number}")
        old = os.umask(umask)
        try:
            repo = Store.create(tmp_path / f"{number}.git")
            ids.add(release.import_release("1.0", repo, settings, tags=tags).commit)
        finally:
            os.umask(old)
    assert ids == {"7449c238f7ef1b13d883d5cc452c3b252ea9b98f"}


def test_a_second_import_needs_no_network(server: Server, repo: Repo, settings: Settings) -> None:
    make_release(server.folder)
    first = release.import_release("1.0", repo, settings, tags=[X86])
    requests = len(server.seen)
    assert release.import_release("1.0.0", repo, settings, tags=[X86]) != first  # another spelling
    requests = len(server.seen)
    assert release.import_release("1.0", repo, settings) == first
    assert len(server.seen) == requests


def test_a_cleaned_cache_still_serves_the_tree_and_fetches_the_wheel_when_asked(
    server: Server, repo: Repo, settings: Settings
) -> None:
    wheel, _ = make_release(server.folder)
    first = release.import_release("1.0", repo, settings, tags=[X86])
    path = release.wheel_path(first, first.wheel, settings)
    path.unlink()
    again = release.import_release("1.0", repo, settings)
    assert again == first
    fits = release.wheel_for(again, [X86])
    assert fits is not None
    assert release.wheel_path(again, fits, settings).read_bytes() == wheel.read_bytes()
    assert natives_of(path) == first.natives


def test_each_interpreter_gets_its_own_wheel(
    server: Server, repo: Repo, settings: Settings
) -> None:
    make_release(server.folder)
    imported = release.import_release("1.0", repo, settings, tags=[X86])
    arm = release.wheel_for(imported, [ARM])
    assert arm is not None
    natives = natives_of(release.wheel_path(imported, arm, settings))
    assert [native.path for native in natives] == [SO.replace("311-x86_64", "312-aarch64")]
    assert release.wheel_for(imported, ["cp39-cp39-win32"]) is None


def test_a_wheel_that_the_index_has_replaced(
    server: Server, repo: Repo, settings: Settings
) -> None:
    make_release(server.folder)
    imported = release.import_release("1.0", repo, settings, tags=[X86])
    make_wheel(server.folder, "1.0", X86, {"sglang/__init__.py": b"other"})
    release.wheel_path(imported, imported.wheel, settings).unlink()
    with pytest.raises(CannotRun, match="the index no longer has"):
        release.wheel_path(imported, imported.wheel, settings)


def test_a_record_that_is_broken_is_made_anew(
    server: Server, repo: Repo, settings: Settings
) -> None:
    make_release(server.folder)
    first = release.import_release("1.0", repo, settings, tags=[X86])
    record = repo.git_dir / "fixtool" / "releases" / "1.0.json"
    for text in ("", "{}", "[1]", record.read_text().replace(first.commit, "0" * 40)):
        record.write_text(text)
        assert release.recorded("1.0", repo) is None
        assert release.import_release("1.0", repo, settings, tags=[X86]) == first


def test_a_mirrors_password_is_not_kept(
    server: Server, repo: Repo, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(server.folder)
    monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("//", "//me:secret@"))
    imported = release.import_release("1.0", repo, settings, tags=[X86])
    record = (repo.git_dir / "fixtool" / "releases" / "1.0.json").read_text()
    assert json.loads(record)["commit"] == imported.commit
    assert "secret" not in record
    assert "secret" not in repr(imported)


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_killed_import_leaves_nothing_that_counts(
    server: Server, repo: Repo, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(server.folder)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Repo, "update_refs", killed)
        with pytest.raises(KeyboardInterrupt):
            release.import_release("1.0", repo, settings, tags=[X86])
    assert repo.run("for-each-ref").text == ""
    assert release.recorded("1.0", repo) is None
    imported = release.import_release("1.0", repo, settings, tags=[X86])
    assert repo.ref(release.ref_name("1.0")) == imported.commit


def test_two_imports_at_once_agree(server: Server, repo: Repo, settings: Settings) -> None:
    make_release(server.folder)
    wheel = index.find("sglang", "1.0")[0]
    index.fetch(wheel, settings.cache / "releases")
    commits: list[str] = []
    runs = [
        threading.Thread(
            target=lambda: commits.append(
                release.import_release("1.0", repo, settings, tags=[X86]).commit
            )
        )
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert commits == [repo.ref(release.ref_name("1.0"))] * 3


def _entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("x")
    entry.filename = name
    entry.external_attr = mode << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([_entry("/etc/passwd")], "an absolute path"),
        ([_entry("C:/x")], "an absolute path"),
        ([_entry("sglang/../../x")], "leaves the tree"),
        ([_entry("sglang//x")], "not in plain form"),
        ([_entry("./x")], "not in plain form"),
        ([_entry(".git/hooks/post-checkout")], "inside git's own folder"),
        ([_entry("sglang/.GIT/config")], "inside git's own folder"),
        ([_entry("sglang/.g\u200cit/config")], "inside git's own folder"),
        ([_entry("sglang\\x")], "a backslash"),
        ([_entry("sglang/a\nb")], "control character"),
        ([_entry("sglang/x"), _entry("sglang/x")], "there twice"),
        ([_entry("sglang/x"), _entry("sglang/x/y")], "inside another file"),
        ([_entry("sglang/link", stat.S_IFLNK | 0o777)], "a link or a device"),
        ([_entry("sglang/pipe", stat.S_IFIFO | 0o644)], "a link or a device"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_wheel_is_refused(
    server: Server, repo: Repo, settings: Settings, entries: list[zipfile.ZipInfo], why: str
) -> None:
    path = make_wheel(server.folder, "1.0")
    with zipfile.ZipFile(path, "a") as archive:
        for entry in entries:
            archive.writestr(entry, b"data")
    with pytest.raises(Refused, match=why):
        release.import_release("1.0", repo, settings)
    assert repo.run("for-each-ref").text == ""
    assert repo.run("count-objects", "-v").text.startswith("count: 0\n")


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 3), ("MAX_FILE", 9), ("MAX_TOTAL", 99)])
def test_a_zip_bomb_is_refused(
    server: Server,
    repo: Repo,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    make_wheel(server.folder, "1.0")
    monkeypatch.setattr(release, limit, value)
    with pytest.raises(Refused, match="zip bomb"):
        release.import_release("1.0", repo, settings)
    assert repo.run("for-each-ref").text == ""


@pytest.mark.parametrize("damage", ["no zip", "a flipped byte"])
def test_a_damaged_wheel_is_refused(
    server: Server, repo: Repo, settings: Settings, damage: str
) -> None:
    path = make_wheel(server.folder, "1.0", files={"sglang/x.py": b"words " * 999})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(bytes(data) if damage == "a flipped byte" else b"not a zip")
    with pytest.raises(Refused, match="not a readable wheel"):
        release.import_release("1.0", repo, settings)
    assert repo.run("for-each-ref").text == ""


# -- what is native ----------------------------------------------------------------------------

PE = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0"


@pytest.mark.parametrize(
    ("head", "native"),
    [
        (ELF, True),
        (b"\x7fELF\x02\x02\x01" + bytes(11) + b"\x00\xb7" + bytes(44), True),  # big endian
        (GPU_ELF, False),
        (ELF[:18] + b"\xbe\x00" + ELF[20:], False),  # CUDA
        (bytes.fromhex("cffaedfe0c000001"), True),  # Mach-O, arm64
        (bytes.fromhex("cafebabe00000002"), True),  # Mach-O, two architectures
        (bytes.fromhex("cafebabe00000034"), False),  # a Java class
        (PE, True),
        (b"MZ" + bytes(54) + b"PE\0\0" + (56).to_bytes(4, "little"), True),  # 64 bytes, no more
        (b"MZ is how this text begins, and it goes on for more than sixty-four bytes", False),
        (b"\x7fELF", False),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
)
def test_native_code_is_known_by_its_first_bytes(head: bytes, native: bool) -> None:
    assert release.is_native(head) is native


# -- real releases -----------------------------------------------------------------------------


@pytest.mark.slow(8)
@pytest.mark.release(sample_of="wheels of real releases")
@pytest.mark.pypi
@pytest.mark.parametrize(
    ("version", "commit", "files", "natives"),
    [
        ("0.5.12.post1", "409a311ff90988d55526663306d4ba32ad7ca2a6", 2643, 1),
        ("0.5.13", "66b8e3ca53da0ce622405deab4ba87db3efc5205", 3131, 1),
        ("0.5.23", "ff24c9328db351479fa45487c5e4f515959b0152", 5766, 5),
    ],
)
def test_every_wheel_of_a_real_release_gives_one_commit(
    tmp_path: Path, online: None, version: str, commit: str, files: int, natives: int
) -> None:
    settings = Settings(state=tmp_path / "state", cache=REAL_CACHE)
    wheels = set()
    for number, tag in enumerate((X86, X86.replace("311", "312"), ARM)):
        real_wheel(version, tag)
        repo = Store.create(tmp_path / f"{number}.git")
        imported = release.import_release(version, repo, settings, tags=[tag])
        assert (imported.commit, imported.files, len(imported.natives)) == (commit, files, natives)
        wheels.add(imported.wheel.filename)
    assert len(wheels) == 3
