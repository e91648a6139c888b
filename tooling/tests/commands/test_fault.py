"""A fault of fixtool's own is exit 70, one message, and a traceback in a private file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fixtool as package
from support.json_documents import document
from support.repositories import Ran, Team

MESSAGE = "fixtool has a fault of its own: KeyError: 'x'"
SECRET = "https://me:secret@example.org/x.git"
CASES = {
    "list": ("fixtool.series.line.PatchRepository.find", "list"),
    "lint": ("fixtool.series.lint.lint", "lint"),
    "apply": ("fixtool.apply.run.apply", f"apply --source {SECRET}"),
    "settings": ("fixtool.settings.load", "show fix"),
    "options": ("typer.core.TyperCommand.make_context", "deps"),
    "start": ("typer.Typer.__call__", "drop fix"),
}


def fail(*_: Any, **__: Any) -> None:
    raise KeyError("x")


def message_of(ran: Ran, *, as_json: bool) -> tuple[str, str | None, str]:
    """The message, where the traceback lies, and the hint."""
    assert ran.status == 70
    if as_json:
        error = document(ran)["error"]
        return error["message"], error["where"], error["hint"]
    assert ran.out == ""
    lines = dict(line.strip().split(": ", 1) for line in ran.err.split("Traceback")[0].splitlines()
                 if line.startswith(("error: ", "   at: ", "  try: ")))  # fmt: skip
    return lines["error"], lines.get("at"), lines["try"]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_one_message_and_a_file(
    fixtool: Callable[..., Ran], team: Team, home: Path, monkeypatch: pytest.MonkeyPatch,
    case: str, *, as_json: bool,
) -> None:  # fmt: skip
    target, command = CASES[case]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own
    monkeypatch.setattr(target, fail)
    ran = fixtool(*command.split(), *(["--json"] if as_json else []), cwd=team.root)
    message, where, hint = message_of(ran, as_json=as_json)
    assert message == MESSAGE
    assert "send this file with a report" in hint
    assert len(ran.err.splitlines()) == (0 if as_json else 3)
    (path,) = (home / "state/faults").iterdir()
    assert where == str(path)
    verb = "fixtool" if case == "start" else command.split()[0]
    assert f"Z-{verb}-" in path.name
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = path.read_text()
    assert text.startswith(f"fixtool {package.__version__}\nPython 3.")
    assert f"$ fixtool {command}".replace("me:secret@", "") in text
    assert "secret" not in text
    assert "Traceback (most recent call last):" in text
    assert text.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_that_cannot_be_kept_is_printed(
    team: Team, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, as_json: bool
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIXTOOL_STATE_DIR", str(tmp_path / "file/state"))
    code = "import fixtool.__main__ as m, fixtool.settings as s; s.load = {}.__getitem__; m.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "fix", *(["--json"] if as_json else [])],
        cwd=team.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    ran = Ran(done.returncode, done.stdout, done.stderr)
    message, where, hint = message_of(ran, as_json=as_json)
    assert message.startswith("fixtool has a fault of its own: KeyError: ")
    assert where is None
    assert "could not be kept: cannot make the folder" in hint
    assert ran.err.count("Traceback") == 1
    assert "in start" in ran.err
    assert "KeyError: " in ran.err.splitlines()[-1]
