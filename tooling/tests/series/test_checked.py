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


def patch(raw: bytes = GOOD) -> Patch:
    return parse(raw, "fix")


def test_a_patch_in_order_is_known_by_its_bytes(tmp_path: Path) -> None:
    checked = CheckedPatches(tmp_path / "patches")
    assert not checked.holds(patch())
    checked.add(patch())
    again = patch()
    assert CheckedPatches(tmp_path / "patches").holds(again)
    assert again.__dict__["paths"] == again.paths == {"f"}
    assert not checked.holds(patch(GOOD.replace(b"+b", b"+c")))


@pytest.mark.parametrize(("old", "new"), [('["f"]', '["g"]'), ("[", ""), ('"sum": "', '"sum": "0')])
def test_a_damaged_file_is_not_believed(tmp_path: Path, old: str, new: str) -> None:
    checked = CheckedPatches(tmp_path / "patches")
    checked.add(patch())
    (file,) = (tmp_path / "patches").iterdir()
    file.write_text(file.read_text().replace(old, new))
    assert not checked.holds(patch())


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches").chmod(0o777)
    with pytest.raises(CannotRun):
        CheckedPatches(tmp_path / "patches")


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


def test_what_is_not_in_order_is_found_each_time(tmp_path: Path) -> None:
    folder = line_with(tmp_path / "line", BAD)
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
