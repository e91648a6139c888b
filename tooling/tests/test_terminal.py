"""What a terminal shows: tables that cut no word, colours where they are wanted, and a pager."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool import terminal
from fixtool.commands import pager
from support.command import command_line
from support.processes import GENEROUS
from support.repositories import NUMBERS, Git, Team

SLUG = "gemma4-route-without-sorting-all-of-the-experts-of-a-token"
PATH = "python/sglang/srt/layers/moe/fused_moe_triton/fused_moe.py"
COMMIT = "b0ce16d0c577e127b3f7b82ada1739277d988687"
COLUMNS = ("line", "patch", "verdict", "subject")
ROWS = [
    ("v0.5.12.post1", SLUG, "clean", "gemma4: route in one launch: top-k, softmax and scale"),
    ("main", "fix", f"conflict ({PATH})", f"a subject that names {COMMIT} and more"),
    ("b0ce16d0c", "广义的补丁", "offset", "主题"),
]


@pytest.fixture
def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[int], list[str]]:
    """The lines of the table on a terminal of so many columns."""

    def show(width: int) -> list[str]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        terminal.table(COLUMNS, ROWS)
        return capsys.readouterr().out.splitlines()

    return show


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 240])
def test_a_table_cuts_no_word(shown: Callable[[int], list[str]], width: int) -> None:
    lines = shown(width)
    text = "\n".join(lines)
    words = {word for row in ROWS for cell in row for word in cell.split()}
    assert {word for word in words if word not in text} == set()
    assert "…" not in text
    longest = max(map(len, words))
    assert max(map(len, lines)) <= max(width, longest + len("verdict") + 2)


def test_a_table_that_fits_has_a_line_for_each_row(shown: Callable[[int], list[str]]) -> None:
    lines = shown(240)
    assert len(lines) == 1 + len(ROWS)
    assert lines[0].split() == list(COLUMNS)
    assert {line.index("clean") for line in lines if "clean" in line} == {lines[0].index("verdict")}


def test_a_narrow_table_shows_the_cells_of_a_row_below_each_other(
    shown: Callable[[int], list[str]],
) -> None:
    lines = shown(60)
    assert lines[:3] == ["line     v0.5.12.post1", f"patch    {SLUG}", "verdict  clean"]
    assert lines[3].startswith("subject  gemma4: route in one launch")
    assert lines[4].startswith(" " * 9)


@pytest.mark.parametrize(
    ("is_terminal", "environment", "colours"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": ""}, False),
        (True, {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_where_colours_are_shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
    environment: dict[str, str],
    colours: bool,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    for name, value in {"TERM": "xterm", "NO_COLOR": "", "FORCE_COLOR": "", **environment}.items():
        monkeypatch.setenv(name, value)
    terminal.table(COLUMNS, ROWS)
    terminal.patch_text("diff --git a/x b/x\n+x\n")
    terminal.failure(terminal.FixtoolError("x"), "show", as_json=False)
    for text in capsys.readouterr():
        assert ("\x1b[" in text) == colours
        assert re.sub(r"\x1b\[[\d;]*m", "", text).isprintable() or "\n" in text


# -- the pager ------------------------------------------------------------------------------------


def chosen(**environment: str) -> str:
    return pager._chosen(environment)


def test_the_pager_is_chosen_as_git_chooses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager.shutil, "which", lambda _: "/usr/bin/less")
    assert chosen() == "less"
    assert chosen(PAGER="more") == "more"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    (home / ".gitconfig").write_text("[core]\n\tpager = mine\n")
    assert chosen(PAGER="more") == "mine"
    assert chosen(PAGER="more", GIT_PAGER="other") == "other"
    assert chosen(GIT_PAGER="") == ""


def test_a_repository_does_not_choose_the_pager(
    tracked: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked("config", "core.pager", "touch ran;")
    monkeypatch.chdir(tracked.path)
    assert chosen(PAGER="more") == "more"


@pytest.mark.parametrize(
    ("command", "is_shown"),
    [("cat > seen", True), ("true", True), ("cat", False), ("", False), ("no-such-pager", False)],
)
def test_a_text_in_the_pager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, is_shown: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_PAGER", command)
    assert pager.page("x\n" * 100_000) == is_shown
    if command.endswith("seen"):
        assert (tmp_path / "seen").read_text() == "x\n" * 100_000


@pytest.mark.parametrize("words", [["show", "fix"], ["show", "fix", "--no-pager"]])
def test_show_uses_the_pager_on_a_terminal(team: Team, words: list[str], tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    read, write = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "GIT_PAGER": f"cat > {tmp_path / 'seen'}"}
    subprocess.run(
        command_line(*words), stdout=write, cwd=team.root, check=True, env=environment,
        timeout=GENEROUS,
    )  # fmt: skip
    os.write(write, b"END")
    os.close(write)
    shown = b""
    while not shown.endswith(b"END"):
        shown += os.read(read, 65536)
    os.close(read)
    paged = (tmp_path / "seen").read_bytes() if (tmp_path / "seen").exists() else b""
    text = shown if "--no-pager" in words else paged
    assert b"\x1b[32m+line XX\x1b[0m" in text
    assert b"line XX" not in (paged if "--no-pager" in words else shown)
