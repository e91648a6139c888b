"""How the process of a command ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.processes import GENEROUS

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
