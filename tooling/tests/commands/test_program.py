"""How the process of a command ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import GENEROUS
from support.repositories import ROOT

ENDS = """
import atexit, sys
import fixtool.__main__ as program

class Held:
    def __del__(self):
        print("taken apart", flush=True)

def main():
    atexit.register(print, "cleared away")
    print("answered")
    sys.exit({code})

sys.modules.pop("coverage", None)
held = Held()
program.main = main
program.program()
"""


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("3", 3, "answered\ncleared away\n"),
        ("None", 0, "answered\ncleared away\n"),
        ("130", 130, "answered\ncleared away\ntaken apart\n"),
        ("'a fault'", 1, "answered\ncleared away\ntaken apart\n"),
    ],
)
def test_a_process_ends_without_taking_its_modules_apart(code: str, status: int, said: str) -> None:
    """What has to be cleared away still is, and nothing that was printed is lost in a pipe."""
    words = [sys.executable, "-c", ENDS.format(code=code)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=GENEROUS, check=False)
    assert (done.returncode, done.stdout) == (status, said)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "status"),
    [(["status", "--bogus"], 2), (["lint", "-C", str(ROOT)], 0), (["list", "-C", str(ROOT)], 0)],
)
def test_a_stream_that_the_caller_closed(
    tmp_path: Path, closed: str, words: list[str], status: int
) -> None:
    """It is None in Python, so to ask whether it is a terminal ended in exit code 70."""
    script = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "fixtool", *words]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, timeout=GENEROUS, check=False)
    assert done.returncode == status
