"""The cache of the patches whose diffs were found to be in order."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.errors import CannotRun, Refused
from fixtool.series import checked, digests, lint
from fixtool.series import line as line_module
from fixtool.series import patch as patch_module
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
    cache = known(tmp_path)
    for each in patches:
        if not cache.holds(each):
            cache.add(each)
    cache.keep()


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


@pytest.mark.parametrize(("old", "new"), [('["f"]', '["g"]'), ("[", ""), ("\n", "0\n"), ("\n", "")])
def test_a_damaged_file_is_not_believed(tmp_path: Path, old: str, new: str) -> None:
    keep(tmp_path, patch())
    (file,) = (tmp_path / "patches").iterdir()
    file.write_text(file.read_text().replace(old, new))
    assert not known(tmp_path).holds(patch())


def test_what_was_damaged_is_written_anew(tmp_path: Path) -> None:
    keep(tmp_path, patch())
    (file,) = (tmp_path / "patches").iterdir()
    file.write_text(file.read_text().replace("\n", "0\n"))
    keep(tmp_path, patch())
    assert known(tmp_path).holds(patch())


def test_what_a_version_with_other_rules_has_written_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, patch())
    monkeypatch.setattr(checked, "_FORMAT", 0)
    assert not known(tmp_path).holds(patch())


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


@pytest.fixture
def in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line whose patch was read long after it was written, and found to be in order."""
    now = time.time_ns
    monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: now() + 10**10))
    folder = line_with(tmp_path / "line", GOOD)
    require_well_formed(read_line(folder), tmp_path / "patches")
    return folder


def write_over(path: Path, raw: bytes) -> None:
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:  # until the kernel's clock goes on
        path.write_bytes(raw)


def test_a_file_that_has_not_changed_is_not_read(
    in_order: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = read_line(in_order)
    with monkeypatch.context() as patched:
        for module in (line_module, patch_module):
            patched.setattr(module, "read_plain", lambda *_: pytest.fail("a file was read"))
        require_well_formed(line, in_order.parent / "patches")
        (known,) = line.patches
        assert (known.slug, known.subject, known.digest) == ("fix", "a: b", patch().digest)
        assert (known.author, known.trailers, line.paths) == (patch().author, (), ["f"])
        assert known.path == in_order / "fix.patch"
    assert (known.raw, known.head, known.diff) == (GOOD, HEAD, GOOD.removeprefix(HEAD))
    assert known == parse(GOOD, "fix", in_order / "fix.patch")
    with pytest.raises(AttributeError, match="tail"):
        _ = known.tail  # type: ignore[attr-defined]


@pytest.mark.parametrize("raw", [OTHER, b""])
def test_a_file_that_changed_after_it_was_known_is_refused(in_order: Path, raw: bytes) -> None:
    line = read_line(in_order)
    require_well_formed(line, in_order.parent / "patches")
    write_over(in_order / "fix.patch", raw)
    (known,) = line.patches
    assert not known.has_text(raw)
    with pytest.raises(Refused, match="changed while fixtool was at work"):
        _ = known.diff


@pytest.mark.parametrize("raw", [OTHER, BAD])
def test_a_file_that_changed_is_read(in_order: Path, raw: bytes) -> None:
    write_over(in_order / "fix.patch", raw)
    line = read_line(in_order)
    found = errors_in(line, in_order.parent / "patches")
    assert [finding.rule for finding in found] == ([] if raw == OTHER else ["form"])
    assert raw == BAD or line.patches[0].raw == raw


def test_what_was_read_before_is_not_taken_for_what_is_there_now(tmp_path: Path) -> None:
    folder, cache = line_with(tmp_path / "line", GOOD), tmp_path / "patches"
    line = read_line(folder)
    assert line.patches[0].raw == GOOD
    write_over(folder / "fix.patch", OTHER)
    with pytest.MonkeyPatch.context() as patched:
        now = time.time_ns
        patched.setattr(digests, "time", SimpleNamespace(time_ns=lambda: now() + 10**10))
        require_well_formed(line, cache)
        again = read_line(folder)
        require_well_formed(again, cache)
    assert again.patches[0].raw == OTHER


def test_a_link_in_the_place_of_a_known_file_is_refused(in_order: Path) -> None:
    elsewhere = in_order.parent / "elsewhere"
    (in_order / "fix.patch").rename(elsewhere)
    (in_order / "fix.patch").symlink_to(elsewhere)
    (error,) = errors_in(read_line(in_order), in_order.parent / "patches")
    assert "is a link" in error.message


def test_the_order_of_known_patches_is_checked(in_order: Path) -> None:
    """What a patch says of itself is known; what it needs of the others is not."""
    cache = in_order.parent / "patches"
    (in_order / "next.patch").write_bytes(GOOD.replace(b"\n\n", b"\n\nDepends-On: fix\n", 1))
    for series, wrong in (("fix\nnext\n", False), ("next\nfix\n", True), ("fix\nnext\n", False)):
        (in_order / "series").write_text(series.replace("\n", ".patch\n"))
        rules = [finding.rule for finding in errors_in(read_line(in_order), cache)]
        assert rules == (["depends-on"] if wrong else [])
