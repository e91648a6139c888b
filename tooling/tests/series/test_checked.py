"""The cache of the patches whose diffs were found to be in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.series import lint
from fixtool.series.checked import CheckedPatches
from fixtool.series.line import read_line
from fixtool.series.lint import errors_in, require_well_formed
from fixtool.series.patch import Patch, parse

HEAD = b"From: A <a@b>\nDate: Mon, 23 Nov 2026 12:00:00 +0000\nSubject: [PATCH] a: b\n\n"
GOOD = HEAD + b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
BAD = GOOD.replace(b"+b\n", b"+b\n+c\n")
UNSAFE = GOOD.replace(b"/f", b"/.git/f")


def patch(raw: bytes = GOOD) -> Patch:
    return parse(raw, "fix")


OTHER = GOOD.replace(b"+b", b"+c")


def known(tmp_path: Path, line: str = "line") -> CheckedPatches:
    return CheckedPatches(tmp_path / "patches", tmp_path / line)


def keep(tmp_path: Path, *patches: Patch) -> None:
    checked = known(tmp_path)
    for each in patches:
        if not checked.holds(each):
            checked.add(each)
    checked.keep()


def test_a_patch_in_order_is_known_by_its_bytes(tmp_path: Path) -> None:
    assert not known(tmp_path).holds(patch())
    keep(tmp_path, patch())
    again = patch()
    assert known(tmp_path).holds(again)
    assert again.__dict__["paths"] == again.paths == {"f"}
    assert not known(tmp_path).holds(patch(OTHER))
    assert not known(tmp_path, "another-line").holds(patch())


def test_a_patch_more_keeps_what_is_known_of_the_others(tmp_path: Path) -> None:
    """And a patch that the line has no more is forgotten then."""
    keep(tmp_path, patch())
    keep(tmp_path, patch(), patch(OTHER))
    assert known(tmp_path).holds(patch())
    assert known(tmp_path).holds(patch(OTHER))
    keep(tmp_path, patch(OTHER), patch(GOOD.replace(b"+b", b"+d")))
    assert not known(tmp_path).holds(patch())
    assert known(tmp_path).holds(patch(OTHER))


def test_nothing_is_written_if_all_was_known(tmp_path: Path) -> None:
    keep(tmp_path, patch(), patch(OTHER))
    (file,) = (tmp_path / "patches").iterdir()
    before = file.stat()
    keep(tmp_path, patch())
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(("old", "new"), [('["f"]', '["g"]'), ("[", ""), ('"sum": "', '"sum": "0')])
def test_a_damaged_file_is_not_believed(tmp_path: Path, old: str, new: str) -> None:
    keep(tmp_path, patch())
    (file,) = (tmp_path / "patches").iterdir()
    file.write_text(file.read_text().replace(old, new))
    assert not known(tmp_path).holds(patch())


def test_what_was_damaged_is_written_anew(tmp_path: Path) -> None:
    """So is what a version with other rules about diffs has written."""
    keep(tmp_path, patch())
    (file,) = (tmp_path / "patches").iterdir()
    file.write_text(file.read_text().replace('"sum": "', '"sum": "0'))
    keep(tmp_path, patch())
    assert known(tmp_path).holds(patch())


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches").chmod(0o777)
    with pytest.raises(CannotRun):
        known(tmp_path)


def line_with(folder: Path, raw: bytes) -> Path:
    folder.mkdir()
    (folder / "series").write_text("fix.patch\n")
    (folder / "fix.patch").write_bytes(raw)
    values = {"url": "https://x/y", "base": "a" * 40, "tree": "b" * 40, "date": "2026-01-02"}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    (folder / "upstream.toml").write_text("".join(lines))
    return folder


def test_a_diff_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = line_with(tmp_path / "line", GOOD)
    require_well_formed(read_line(folder), tmp_path / "patches")
    monkeypatch.setattr(Patch, "files", property(lambda _: pytest.fail("the diff was read")))
    line = read_line(folder)
    require_well_formed(line, tmp_path / "patches")
    assert line.paths == ["f"]


@pytest.mark.parametrize("raw", [BAD, UNSAFE], ids=["not readable", "an unsafe path"])
def test_what_is_not_in_order_is_found_each_time(tmp_path: Path, raw: bytes) -> None:
    folder = line_with(tmp_path / "line", raw)
    for _ in range(2):
        with pytest.raises(Refused):
            require_well_formed(read_line(folder), tmp_path / "patches")
    assert not list(tmp_path.glob("patches/*"))


def test_without_a_cache_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = lint.unsafe_paths
    monkeypatch.setattr(lint, "unsafe_paths", lambda files: read.append("") or real(files))
    line = read_line(line_with(tmp_path / "line", GOOD))
    assert errors_in(line) == errors_in(line) == ()
    assert len(read) == 2
