"""A fault of fixtool's own is exit 70, one message, and a traceback in a private file."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fixtool
from fixtool.__main__ import main
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


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What ``main`` sets for a process of its own goes back to what it was."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    thresholds, handler = gc.get_threshold(), signal.getsignal(signal.SIGTERM)
    yield
    gc.set_threshold(*thresholds)
    signal.signal(signal.SIGTERM, handler)


def fail(*_: Any, **__: Any) -> None:
    raise KeyError("x")


@pytest.fixture
def run(team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(target: str, command: str, *, as_json: bool) -> Ran:
        """``command`` in the team's folder; whatever calls ``target`` meets KeyError('x')."""
        monkeypatch.setattr(target, fail)
        monkeypatch.chdir(team.root)
        words = ["fixtool", *command.split(), *(["--json"] if as_json else [])]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return Ran(int(end.value.code or 0), output.out, output.err)

    return run


def message_of(ran: Ran, *, as_json: bool) -> tuple[str, str | None, str]:
    """The message, where the traceback lies, and the hint."""
    assert ran.status == 70
    if as_json:
        error = document(ran)["error"]
        return error["message"], error["where"], error["hint"]
    assert ran.out == ""
    lines = ran.err.split("Traceback")[0].splitlines()
    at = [line.removeprefix("   at: ") for line in lines if line.startswith("   at: ")]
    hint = next(line for line in lines if line.startswith("  try: "))
    return lines[0].removeprefix("error: "), at[0] if at else None, hint


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_one_message_and_a_file(
    run: Any, home: Path, case: str, *, as_json: bool
) -> None:
    target, command = CASES[case]
    ran = run(target, command, as_json=as_json)
    message, where, hint = message_of(ran, as_json=as_json)
    assert message == MESSAGE
    assert "send this file with a report" in hint
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) == (0 if as_json else 3)
    (path,) = (home / "state/faults").iterdir()
    assert where == str(path)
    verb = "fixtool" if case == "start" else command.split()[0]
    assert f"Z-{verb}-" in path.name
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = path.read_text()
    assert text.startswith(f"fixtool {fixtool.__version__}\nPython 3.")
    assert f"$ fixtool {command}".replace("me:secret@", "") in text
    assert "secret" not in text
    assert "Traceback (most recent call last):" in text
    assert text.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_that_cannot_be_kept_is_printed(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, as_json: bool
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIXTOOL_STATE_DIR", str(tmp_path / "file/state"))
    ran = run(*CASES["list"], as_json=as_json)
    message, where, hint = message_of(ran, as_json=as_json)
    assert (message, where) == (MESSAGE, None)
    assert "could not be kept: cannot make the folder" in hint
    assert ran.err.endswith("KeyError: 'x'\n")
    assert ran.err.count("Traceback") == 1


def test_a_fault_of_the_real_process(team: Team) -> None:
    code = "import fixtool.__main__ as m, fixtool.settings as s; s.load = None; m.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "fix", "--json"], cwd=team.root, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    ran = Ran(done.returncode, done.stdout, done.stderr)
    message, where, _ = message_of(ran, as_json=True)
    assert message.endswith("TypeError: 'NoneType' object is not callable")
    assert where is not None
    assert "in start" in Path(where).read_text()
