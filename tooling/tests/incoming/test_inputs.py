"""What a user names becomes inputs: files, folders, series and archives, safely."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.files import TooLarge
from fixtool.incoming import inputs
from fixtool.incoming.inputs import read_inputs

FILES = {"10-b.patch": b"ten", "2-a.diff": b"two", "README": b"no", "sub/1.eml": b"sub"}


def names(*paths: Path) -> list[str]:
    return [item.name.rpartition("/")[2] for item in read_inputs(paths)]


def fill(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def tarred(path: Path, files: dict[str, bytes], mode: str = "w", **member: object) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), 1_700_000_000
            for key, value in member.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(data))
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20)), data)
    return path


def test_files_keep_their_order_and_date(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    items = read_inputs([folder / "README", folder / "2-a.diff"])
    assert [(item.raw, item.changed_at) for item in items] == [
        (b"no", "1700000000 +0000"), (b"two", "1700000000 +0000"),
    ]  # fmt: skip


def test_a_folder_without_a_series_goes_by_number(tmp_path: Path) -> None:
    assert names(fill(tmp_path)) == ["2-a.diff", "10-b.patch", "1.eml"]


SERIES = {
    "series": b"# first\n10-b.patch -p0 # why\n\nsub/1.eml -R -pab\n#2-a.diff\n",
    **FILES,
}


@pytest.mark.parametrize("form", ["folder", "series", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2",
                                  "zip", "nested"])  # fmt: skip
def test_a_series_decides(tmp_path: Path, form: str) -> None:
    inside = {f"x-1.0/debian/patches/{name}": data for name, data in SERIES.items()}
    path = tmp_path / f"in.{form}"
    if form in ("folder", "series", "nested"):
        path = fill(tmp_path, inside if form == "nested" else SERIES)
        path = path / "series" if form == "series" else path
    elif form == "zip":
        zipped(path, inside)
    else:
        mode = {"tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}.get(form)
        tarred(path, inside, mode or "w")
    items = read_inputs([path])
    assert [(item.raw, item.strip, item.reverse) for item in items] == [
        (b"ten", 0, False), (b"sub", 1, True),
    ]  # fmt: skip
    assert {item.changed_at for item in items} == {"1700000000 +0000"}


def test_electrons_list(tmp_path: Path) -> None:
    fill(tmp_path, {".patches": b"2-a.diff\n10-b.patch\n", **FILES})
    assert names(tmp_path / ".patches") == names(tmp_path) == ["2-a.diff", "10-b.patch"]


def test_compressed_patches(tmp_path: Path) -> None:
    packed = {"a.patch.gz": gzip.compress(b"a"), "b.patch.xz": lzma.compress(b"b"),
              "c.diff.bz2": bz2.compress(b"c")}  # fmt: skip
    fill(tmp_path, packed)
    assert [(item.name[-7:], item.raw) for item in read_inputs([tmp_path])] == [
        ("a.patch", b"a"), ("b.patch", b"b"), ("/c.diff", b"c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("series", "what", "line"),
    [
        (b"a.patch\n", "there is no such file", 1),
        (b"\n../2-a.diff\n", "there is no such file", 2),
        (b"/etc/passwd\n", "there is no such file", 1),
        (b"2-a.diff -p1 --fuzz=3\n", "an option that fixtool does not know: --fuzz=3", 1),
    ],
)
def test_a_series_that_cannot_be_read(tmp_path: Path, series: bytes, what: str, line: int) -> None:
    folder = fill(tmp_path / "in", {"series": series, **FILES})
    fill(tmp_path)
    with pytest.raises(Refused, match=what) as refused:
        read_inputs([folder])
    assert refused.value.where == f"{folder}/series:{line}"


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = fill(tmp_path / "in", {"series": b"a.patch\n"})
    (folder / "a.patch").symlink_to(tmp_path / "secret")
    with pytest.raises(Refused, match="no such file"):
        read_inputs([folder])


LINKS = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}


def test_archives_of_a_stranger(tmp_path: Path) -> None:
    for refused in (
        tarred(tmp_path / "up.tar", {"../x.patch": b"x"}),
        tarred(tmp_path / "root.tar", {"/etc/x.patch": b"x"}),
        tarred(tmp_path / "link.tar", {"x.patch": b""}, **LINKS),
        tarred(tmp_path / "hard.tar", {"x.patch": b""}, **{**LINKS, "type": tarfile.LNKTYPE}),
        tarred(tmp_path / "pipe.tar", {"x.patch": b""}, type=tarfile.FIFOTYPE),
        zipped(tmp_path / "up.zip", {"../x.patch": b"x"}),
        tarred(tmp_path / "empty.tar", {"README": b""}),
        fill(tmp_path / "none", {"README": b""}),
    ):
        with pytest.raises(Refused):
            read_inputs([refused])
    link = zipfile.ZipInfo("x.patch")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match="a link or a device"):
        read_inputs([tmp_path / "link.zip"])


def test_sizes_are_asked_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_LARGEST", 100_000)
    zeros = bytes(1_000_000)
    bombs = [
        zipped(tmp_path / "bomb.zip", {"x.patch": zeros}),
        tarred(tmp_path / "bomb.tar.gz", {"x.patch": zeros}, "w:gz"),
        tarred(
            tmp_path / "header.tar.gz", {"x.patch": b""}, "w:gz", pax_headers={"a": "b" * 10**6}
        ),
        fill(tmp_path, {"x.patch.gz": gzip.compress(zeros)}) / "x.patch.gz",
        fill(tmp_path / "two", {"a.patch": zeros[:60_000], "b.patch": zeros[:60_000]}),
        fill(tmp_path / "one", {"a.patch": zeros}),
    ]
    for bomb in bombs:
        with pytest.raises(TooLarge):
            read_inputs([bomb])
    monkeypatch.setattr(inputs, "_MOST_MEMBERS", 3)
    for many in (fill(tmp_path / "many"), zipped(tmp_path / "many.zip", FILES),
                 tarred(tmp_path / "many.tar", FILES)):  # fmt: skip
        with pytest.raises(Refused, match="4 members|more than 3 files"):
            read_inputs([many])


def test_damaged_archives(tmp_path: Path) -> None:
    whole = {
        "a.zip": zipped(tmp_path / "a.zip", FILES), "a.tar": tarred(tmp_path / "a.tar", FILES),
        "a.tar.gz": tarred(tmp_path / "a.tar.gz", FILES, "w:gz"),
        "a.tar.xz": tarred(tmp_path / "a.tar.xz", FILES, "w:xz"),
    }  # fmt: skip
    for name, path in whole.items():
        raw = path.read_bytes()
        for number, damaged in enumerate(
            (raw[: min(len(raw) // 2, 1500)], b"junk", b"", raw[:40] + b"\xff" * 40)
        ):
            bad = tmp_path / f"{number}{name}"
            bad.write_bytes(damaged)
            with pytest.raises(Refused):
                read_inputs([bad])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot read .*: No such file"):
        read_inputs([tmp_path / "none.patch"])
    with pytest.raises(CannotRun, match="no such file"):
        read_inputs([tmp_path / "series"])


def test_long_numbers_in_names(tmp_path: Path) -> None:
    many = "9" * 5000
    raw = {f"{many}.patch": b"b", "2.patch": b"a"}
    assert [item.raw for item in read_inputs([zipped(tmp_path / "a.zip", raw)])] == [b"a", b"b"]
