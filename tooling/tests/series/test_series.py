"""Rewriting a line: old or new, never a mix, and only one writer."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.errors import Refused
from fixtool.series.diff import read_diff
from fixtool.series.line import PatchRepository, read_line
from fixtool.series.write import repair, rewrite
from support.repositories import Git, Team


@pytest.mark.parametrize(
    "name",
    [
        "$(id)",
        "a;b",
        "a b",
        "`id`",
        "-x",
        "a|b",
        "a'b",
        "a\nb",
        "a\x1b[31m",
        "a\u202e",
        "~",
        "a..b",
    ],
)
def test_a_line_has_a_name_that_can_be_typed(team: Team, name: str) -> None:
    """The name stands in the commands that fixtool tells a person to type next."""
    (team.root / "patches/main").rename(team.root / "patches" / name)
    with pytest.raises(Refused, match="cannot be the name of a line"):
        team.repository.line(name)


def test_comments_and_blank_lines_are_no_entries(team: Team) -> None:
    (team.root / "patches/main/series").write_text(
        "# x\n\na.patch # why\n  b.patch -p1\n#c.patch\n"
    )
    line = team.repository.line("main")
    assert [(entry.slug, entry.line_number) for entry in line.entries] == [("a", 3), ("b", 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url = ", "not valid TOML"),
        ('url = "x"\nnope = 1\n', "unknown key 'nope'"),
        ("url = 1\n", "'url' is not a string"),
        ('url = "x"\nbase = "abc"\n', "base = .* is not the full id of a commit"),
    ],
)
def test_upstream_toml_is_checked(team: Team, text: str, message: str) -> None:
    (team.root / "patches/main/upstream.toml").write_text(text)
    with pytest.raises(Refused, match=message):
        team.repository.line("main")


def test_the_nearest_repository_upward(team: Team, tmp_path: Path) -> None:
    deep = team.root / "a" / "b"
    deep.mkdir(parents=True)
    assert PatchRepository.find(deep).root == team.root
    with pytest.raises(Exception, match="no patch repository"):
        PatchRepository.find(tmp_path)


def test_rewrite_changes_only_what_differs(tmp_path: Path) -> None:
    folder = tmp_path / "patches" / "line"
    assert rewrite(folder, {"a": b"1", "b": b"2"}) == ["a", "b"]
    inode = (folder / "a").stat().st_ino
    assert rewrite(folder, {"a": b"1", "b": b"2"}) == []
    assert rewrite(folder, {"b": b"3"}, frozenset({"c"})) == ["b"]
    assert (folder / "a").stat().st_ino == inode
    assert rewrite(folder, {}, frozenset({"a"})) == ["a"]
    assert sorted(path.name for path in folder.iterdir()) == ["b"]
    assert [path.name for path in folder.parent.iterdir()] == ["line"]


KILLED = """
    import ctypes, os, signal, sys
    from pathlib import Path
    from fixtool import files
    from fixtool.series import write
    point, folder = sys.argv[1], Path(sys.argv[2])
    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
    if point == "writing":
        write.write_durably = die
    elif point == "swapping":
        write.swap = die
    elif point == "between renames":
        ctypes.CDLL = lambda *a, **k: object()
        real = Path.rename
        def rename(self, target):
            real(self, target)
            die()
        Path.rename = rename
    write.rewrite(folder, {"a": b"new", "b": b"new"})
"""


@pytest.mark.parametrize("point", ["writing", "swapping", "between renames", "never"])
def test_sigkill_leaves_old_or_new(tmp_path: Path, point: str) -> None:
    folder = tmp_path / "patches" / "line"
    rewrite(folder, {"a": b"old", "b": b"old", "series": b""})
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), point, str(folder)], check=False
    )
    assert run.returncode == (0 if point == "never" else -9)
    repair(PatchRepository(tmp_path))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files["a"] == files["b"] == (b"new" if point == "never" else b"old")
    assert [path.name for path in folder.parent.iterdir()] == ["line"]


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "patches" / "line"
    rewrite(folder, {"a": b"old"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fixtool.series.write.write_durably", full)
    with pytest.raises(OSError, match="No space"):
        rewrite(folder, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"old"}
    assert [path.name for path in folder.parent.iterdir()] == ["line"]


def test_a_line_without_upstream_toml(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("")
    with pytest.raises(Refused, match=r"no upstream\.toml"):
        read_line(tmp_path)


def test_a_line_that_is_read_anew_has_what_is_there_now(tracked: Git, team: Team) -> None:
    repository = team.repository
    before = repository.line("main").patches
    repository.read_anew()
    again = repository.line("main").patches
    assert again[0] is before[0]  # the same bytes are not parsed twice
    path = before[0].path
    assert path is not None
    path.write_bytes(before[0].raw.replace(b"Subject: [PATCH] ", b"Subject: [PATCH] other: "))
    repository.read_anew()
    assert repository.line("main").patches[0].subject == f"other: {before[0].subject}"


DAMAGED = [
    (lambda _: "", ":1", "the file is empty", "restore it from a copy"),
    (lambda text: f"\ufeff{text}", ":1", "a byte order mark", "take it out: sed -i '1s/^"),
    (lambda text: text.replace("[PATCH] ", ""), ":4", "does not begin with [PATCH]", "sed -i '4s/"),
]


@pytest.mark.parametrize(("damage", "place", "what", "hint"), DAMAGED)
def test_a_patch_file_that_an_editor_has_damaged(
    team: Team, damage: Callable[[str], str], place: str, what: str, hint: str
) -> None:
    team.line()
    team.patch("fix", "fix: x", a="x\n")
    path = team.root / "patches/main/fix.patch"
    path.write_text(damage(path.read_text()), "utf-8")
    with pytest.raises(Refused, match=re.escape(what)) as refused:
        PatchRepository(team.root).line("main").patches  # noqa: B018
    assert refused.value.where == f"{path}{place}"
    assert hint in (refused.value.hint or "")


def test_a_hunk_with_a_line_more_gets_its_numbers(team: Team) -> None:
    """Who adds a line by hand is told what the head of the hunk has to say; sed writes it."""
    team.line()
    team.patch("fix", "fix: x", python__other_py="alpha\nBETA\ngamma\n")
    path = team.root / "patches/main/fix.patch"
    path.write_text(path.read_text().replace("+BETA\n", "+BETA\n+more\n"))
    with pytest.raises(Refused, match="another number of lines than its head says") as refused:
        read_diff(path.read_bytes(), where=str(path))
    command = (refused.value.hint or "").partition(": ")[2]
    assert command.startswith("sed -i ")
    subprocess.run(["sh", "-c", command], check=True)
    assert "@@ -1,3 +1,4 @@" in path.read_text()
    assert read_diff(path.read_bytes(), where=str(path))[0].hunks
