"""What the tests take for the commands in a piece of advice."""

from __future__ import annotations

import pytest

from support.hints import check_hints, commands_in, hints_in, placeholders

HINTS = [
    ("fixtool list", ["fixtool list"]),
    ("save them: fixtool export --worktree /x; or --worktree DIR", ["fixtool export --worktree /x"]),
    ("git -C /a b", ["git -C /a b"]),
    ("git config --global user.name NAME; git config --global user.email MAIL",
     ["git config --global user.name NAME", "git config --global user.email MAIL"]),
    ("git -C '/a; b' commit 'x', or git stash", ["git -C '/a; b' commit 'x'", "git stash"]),
    ("keep it, or put it away (git stash), then go on", ["git stash"]),
    ("fixtool rebase --continue   (or --abort)", ["fixtool rebase --continue"]),
    ("edit the file, then: fixtool rebase --continue", ["fixtool rebase --continue"]),
    ("name one: -C DIR, or start one: fixtool init DIR --base REF", ["fixtool init DIR --base REF"]),
    ("install git 2.38 or newer", []),
    ("restore the file from git, or import it again", []),
    ("give more digits", []),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "commands"), HINTS, ids=[hint[0] for hint in HINTS])
def test_the_commands_of_a_hint(hint: str, commands: list[str]) -> None:
    assert commands_in(hint) == commands


def test_the_hints_of_a_run() -> None:
    text = "x\nnext      fixtool list\nor        fixtool show x\n"
    assert hints_in(text, "error: x\n  try: y\n") == ["fixtool list", "fixtool show x", "y"]
    assert hints_in('{"a": [{"next": "n", "b": 1}], "error": {"hint": "h"}}', "") == ["n", "h"]


@pytest.mark.parametrize("command", ["fixtool nope", "fixtool list --nope", "fixtool drop x"])
def test_a_command_that_is_none_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        check_hints("", f"error: x\n  try: {command}\n")


def test_the_placeholders_of_a_command() -> None:
    assert placeholders("fixtool init DIR --base=REF --line x") == ["DIR", "--base=REF"]
    assert placeholders("fixtool coverage --json >FILE") == [">FILE"]
    assert placeholders("git -C /tmp/a commit patches/main") == []
