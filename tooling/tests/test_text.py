"""Texts for people, free of what a terminal or GitHub Actions would act on."""

from __future__ import annotations

import pytest

from fixtool.text import count, printable, visible


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
