"""Texts for people, free of what a terminal or GitHub Actions would act on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import fixtool
from fixtool.text import argument, count, printable, visible

PLACE = re.compile(
    r"(?:git -C|git ls-remote|git clone --bare|\brm|\brm -r|--worktree|safe\.directory|chmod o-w"
    r"|--remove-destination FILE) \{(?!argument\()[^}]*\}"
)


@pytest.mark.parametrize(
    "text", ["a b", "$(id)", "`id`", "a;b", "a'b", "https://x/$(id)", "-x\ny", ""]
)
def test_a_value_is_one_word_of_a_command(text: str) -> None:
    assert shlex.split(f"git {argument(text)}") == ["git", text]


def test_every_place_in_a_command_to_type_is_one_word() -> None:
    """A file, a folder or an address of a stranger's would run what its name holds."""
    modules = sorted(Path(fixtool.__file__).parent.rglob("*.py"))
    found = {path.name: PLACE.findall(path.read_text("utf-8")) for path in modules}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [(1, "patch", "1 patch"), (2, "patch", "2 patches"), (0, "file", "0 files")],
)
def test_counts(number: int, what: str, text: str) -> None:
    assert count(number, what) == text


def test_controls_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\nb\tc") == "a\\x1b[31m\nb\\x09c"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("two\n lines\t here", "two lines here"),
        ("left\u202eright\u200b", "leftright"),
        ("##[error]x", "## [error]x"),
    ],
)
def test_what_cannot_be_seen_goes(text: str, plain: str) -> None:
    assert visible(text) == plain
