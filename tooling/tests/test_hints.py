"""What the tests take for the commands in a piece of advice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.hints import check_hints, commands_in, hints_in, placeholders
from support.repositories import ROOT, Ran
from support.scripts import load_script

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


@pytest.mark.parametrize("hint", ["fixtool nope", "cd '/a b' && fixtool nope"])
def test_a_wrong_command_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hint: str
) -> None:
    """ci/conformance/advice --again runs each that was wrong, also one that goes to a folder first."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "ci/conformance"), *sys.path])
    module = load_script("ci/conformance/advice")
    runs: list[str] = []

    def execute(self: object, command: str, *_: object) -> tuple[int, str]:
        runs.append(command)
        return 70, "it cannot run"

    monkeypatch.setattr(module.Advice, "execute", execute)
    monkeypatch.setattr(module, "_OF_PYTEST", module.re.compile(tmp_path.name))
    advice = module.Advice(tmp_path, sys.stderr)
    (place := tmp_path / "place").mkdir()
    advised = Ran(1, "", f"error: x\n  try: {hint}\n")
    for _ in range(3):
        advice(["list"], place, {}, advised)
    assert (runs, len(advice.wrong)) == ([hint] * 2, 2)
    (test,) = advice.forget_wrong()
    assert test.endswith(
        "tooling/tests/test_hints.py::test_a_wrong_command_is_run_again[" + hint + "]"
    )
    assert (advice.wrong, advice.outcomes["wrong"]) == ([], 0)
    advice(["list"], place, {}, advised)
    assert len(runs) == 3
