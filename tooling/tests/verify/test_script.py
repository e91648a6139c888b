"""The shim that starts every script of a plan: an exit code is an answer, never a crash."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtool.verify.runner import script as shim
from support.processes import GENEROUS

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', '1/0'], check={check})"
FORK = """\
import os, sys
if (pid := os.fork()) == 0:
    1 / 0
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def start(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "probe.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, shim.__file__, str(script), *arguments],
        capture_output=True, text=True, check=False, timeout=GENEROUS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 0, ""),
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(1)", 1, ""),
        ("import sys; sys.exit(True)", 1, ""),
        ("import sys; sys.exit(2)", 2, ""),
        ("import sys; sys.exit(4)", 4, ""),
        ("import sys; sys.exit(77)", 77, ""),
        ("import os; os._exit(1)", 1, ""),  # this is how fixtool.verify.answer ends a script
        ("raise KeyboardInterrupt", 130, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("import no_such_package", 2, "ModuleNotFoundError: No module named 'no_such_package'"),
        ("import sys; sys.exit('text')", 2, "exit with 'text', which is no answer"),
        ("import sys; sys.exit(3)", 2, "exit with 3, which is no answer"),
        ("import sys; sys.exit(257)", 2, "exit with 257, which is no answer"),  # 1 for a shell
        ("import sys; sys.exit([1])", 2, "exit with [1], which is no answer"),
        ("assert 0, 'not so'", 2, "AssertionError: not so"),
        ("if:", 2, "SyntaxError: invalid syntax (probe.py, line 1)"),
        ("x = '\0'", 2, "SyntaxError: source code"),
        ("def f(): f()\nf()", 2, "RecursionError: maximum recursion depth exceeded"),
        ("class Own(BaseException): pass\nraise Own('odd')", 2, "Own: odd"),
        ("import sys; sys.stdout.close(); 1 / 0", 2, ""),
        ("import sys; sys.stderr.close(); 1 / 0", 2, ""),
        (CHILD.format(check=False), 0, ""),
        (CHILD.format(check=True), 2, "CalledProcessError: Command"),
        (FORK, 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_only_an_answer_is_an_answer(tmp_path: Path, text: str, status: int, reason: str) -> None:
    ended = start(tmp_path, text)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout.startswith(f"broke: {reason}" if reason else "")
    if reason:
        assert "Traceback" in ended.stderr or "SyntaxError" in ended.stderr
        assert shim.__file__ not in ended.stderr


def test_a_file_that_is_not_there_is_a_broken_script(tmp_path: Path) -> None:
    command = [sys.executable, shim.__file__, str(tmp_path / "none.py")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2
    assert subprocess.run(command[:2], check=False, capture_output=True).returncode == 2


def test_a_script_sees_what_it_would_see_if_python_ran_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7")
    text = """\
import beside, inspect, json, multiprocessing, pickle, sys, threading

class Found: pass

def square(number):
    return number * number

def late():
    print("late", flush=True)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        squares = pool.map(square, [2, 3])
    print(json.dumps([
        sys.argv, __file__, __name__, sys.path[0], beside.VALUE, squares, globals().get("annotations"),
        type(pickle.loads(pickle.dumps(Found()))) is Found, inspect.getsource(square).count("\\n"),
        sys.modules["__main__"].square is square,
    ]))
    threading.Timer(0.2, late).start()
"""
    ended = start(tmp_path, text, "--flag", "a b")
    assert ended.returncode == 0, ended.stderr
    document, last = ended.stdout.splitlines()
    path = str(tmp_path / "probe.py")
    assert json.loads(document) == [
        [path, "--flag", "a b"], path, "__main__", str(tmp_path), 7, [4, 9], None, True, 2, True,
    ]  # fmt: skip
    assert last == "late"
