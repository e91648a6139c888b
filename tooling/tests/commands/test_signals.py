"""Ctrl-C, TERM and HUP end every command with exit code 130, whatever it is doing, and again.

FIXTOOL_SIGNALS says how many random moments are tried (3 by default; ci/conformance/faults tries hundreds at every verb).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.command import command_line
from support.processes import GENEROUS, wait_until
from support.repositories import Git, Ran, Team

SIGNALS = int(os.environ.get("FIXTOOL_SIGNALS", "3"))
INTERRUPTED = 130


@pytest.mark.slow(10)
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGHUP], [signal.SIGTERM] * 3])
def test_at_random_moments(
    team: Team, tracked: Git, tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    """Every command ends as interrupted, or had ended before; and nothing is left half done."""
    draw = random.Random(str(numbers))
    words = command_line("apply", "--sglang-ref", "v1.0", "--source", team.upstream.path,
                         "--no-build", "--worktree", tmp_path / "tree", "-C", team.root)  # fmt: skip

    def start() -> subprocess.Popen[str]:
        shutil.rmtree(tmp_path / "tree", ignore_errors=True)
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    begun = time.monotonic()
    process = start()
    assert process.communicate(timeout=GENEROUS)[1] == ""
    whole = time.monotonic() - begun
    for _ in range(SIGNALS):
        process = start()
        time.sleep(draw.uniform(0, whole))
        for number in numbers:  # as a terminal does: to every process of the command
            os.killpg(process.pid, number)
            time.sleep(draw.uniform(0, 0.02))
        _, err = process.communicate(timeout=GENEROUS)
        if process.returncode == -numbers[0] and "in main\n" not in err:
            continue  # Python had not come to fixtool's first line; a shell says 130 or 143
        assert process.returncode in (0, INTERRUPTED), err
        assert "Traceback" not in err, err
        assert "Exception ignored" not in err, err
    assert start().wait(GENEROUS) == 0
    assert Git(tmp_path / "tree")("status", "--porcelain") == ""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs the command line in a process of its own after some lines of Python."""
    processes = []

    def run(prelude: str) -> subprocess.Popen[str]:
        code = (
            f"import os, signal, sys, time\n{prelude}\nfrom fixtool.__main__ import main\nmain()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, "list"], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


IN_A_TEXT_THAT_IS_RUN = """\
def find(path):
    exec("open('reached', 'w').close(); time.sleep(3600)")
import fixtool.cli
from fixtool.series.line import PatchRepository
PatchRepository.find = find
"""
BEFORE_FIXTOOL_LISTENS = """\
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "fixtool.signals":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
WHILE_IMPORTING = """\
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            open("reached", "w").close()
            time.sleep(3600)
sys.meta_path.insert(0, Finder())
"""
IN_A_FINALIZER = """\
import fixtool.cli, fixtool.commands.listing
class Finalized:
    def __del__(self):
        open("reached", "w").close()
        time.sleep(3600)
def find(path):
    Finalized()
    time.sleep(3600)
from fixtool.series.line import PatchRepository
PatchRepository.find = find
"""
SWALLOWED = """\
def find(path):
    open("reached", "w").close()
    try:
        time.sleep(3600)
    except BaseException:
        raise SystemExit(0)
from fixtool.series.line import PatchRepository
PatchRepository.find = find
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "prelude", [IN_A_TEXT_THAT_IS_RUN, WHILE_IMPORTING, IN_A_FINALIZER, SWALLOWED]
)
def test_in_an_odd_place(
    script: Callable[[str], subprocess.Popen[str]], tmp_path: Path, prelude: str,
    number: signal.Signals,
) -> None:  # fmt: skip
    process = script(prelude)
    wait_until((tmp_path / "reached").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=GENEROUS)
    assert process.returncode == INTERRUPTED, err
    assert err.startswith("error: interrupted\n")
    assert "Traceback" not in err


def test_before_fixtool_listens(script: Callable[[str], subprocess.Popen[str]]) -> None:
    """Python would print a traceback; a shell says 130 for a death by SIGINT, too."""
    process = script(BEFORE_FIXTOOL_LISTENS)
    _, err = process.communicate(timeout=GENEROUS)
    assert (process.returncode, err) == (-signal.SIGINT, "")


# -- a change of a line -------------------------------------------------------------------------

GATE = """\
#!/bin/sh
case " $* " in
*" {point} "*)
    echo >> {count}
    echo $$ >{count}.gate
    if [ "$(wc -l < {count})" = {turn} ]; then kill -{how} $PPID; sleep {rest}; exit 1; fi;;
esac
exec {git} "$@"
"""


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("how", "point", "turn"),
    [("TERM", "write-tree", 1), ("INT", "update-ref", 1), ("HUP", "update-index", 2),
     *(("KILL", point, turn) for point, turn in [("write-tree", 1), ("update-ref", 1),
                                                 ("update-index", 1), ("update-index", 2)])],
)  # fmt: skip
def test_the_same_drop_works_again(
    fixtool: Callable[..., Ran], team: Team, tracked: Git, tmp_path: Path, how: str, point: str,
    turn: int,
) -> None:  # fmt: skip
    """It is cut between the new folder and the commit, or the user's index."""
    (tmp_path / "bin").mkdir()
    gate = tmp_path / "bin" / "git"
    gate.write_text(GATE.format(point=point, turn=turn, how=how, count=tmp_path / "count",
                                git=shutil.which("git"), rest=0 if how == "KILL" else 3600))  # fmt: skip
    gate.chmod(0o755)
    words = ("drop", "fix", "--reason", "why", "--source", team.upstream.path)
    before = {
        path: path.read_bytes() for path in team.root.rglob("patches/main/*") if path.is_file()
    }
    path = f"{gate.parent}{os.pathsep}{os.environ['PATH']}"
    ran = fixtool(*words, cwd=team.root, PATH=path)
    assert ran.status == (-signal.SIGKILL if how == "KILL" else INTERRUPTED), ran.err
    if how != "KILL":
        gate_process = Path(f"/proc/{(tmp_path / 'count.gate').read_text().strip()}")
        wait_until(lambda: not gate_process.exists(), "no git is left running")
    if how != "KILL" and (point, turn) != ("update-index", 2):
        assert all(path.read_bytes() == data for path, data in before.items())
        assert tracked("status", "--porcelain") == ""
    again = fixtool(*words, cwd=team.root)
    assert again.status == 0, again.err
    assert "dropped   fix from main" in again.out
    assert tracked("log", "--format=%s") == "main: drop fix\nfirst"
    assert tracked("status", "--porcelain") == ""
    assert fixtool("lint", cwd=team.root).status == 0
    assert not (team.root / ".git" / "fixtool.pending.json").exists()


# -- when the answer was given, or some of the work was done ---------------------------------------


INTERRUPTED_ONCE = """\
import fixtool.cli
from fixtool.commands import recording
finish = recording.finish
def interrupted(*given):
    for _ in range({times}):
        os.kill(os.getpid(), signal.SIGINT)
    return finish(*given)
recording.finish = interrupted
"""


@pytest.mark.parametrize(("times", "code"), [(1, 2), (2, INTERRUPTED)])
def test_after_the_answer_one_signal_is_let_pass(
    script: Callable[[str], subprocess.Popen[str]], times: int, code: int
) -> None:
    """`export` once ended with 130 although all was written and said. ``list`` finds no patch
    repository here, which is exit code 2."""
    process = script(INTERRUPTED_ONCE.format(times=times))
    _, err = process.communicate(timeout=GENEROUS)
    assert process.returncode == code, err
    assert err.startswith("error: no patch repository")


def test_what_was_done_before_an_interrupt_is_said(
    fixtool: Callable[..., Ran], team: Team, tracked: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    words = ("drop", "fix", "--reason", "why", "--source", team.upstream.path)
    with monkeypatch.context() as patched:
        patched.setattr("fixtool.commands.options.say_committed", interrupted)
        ran = fixtool(*words, cwd=team.root)
    assert ran.status == INTERRUPTED
    assert ran.err.endswith(
        "warning: some of it was done before the interrupt; to take it back: fixtool undo\n"
    )
    assert tracked("log", "-1", "--format=%s") == "main: drop fix"
    assert fixtool("undo", cwd=team.root).status == 0
    assert fixtool("show", "fix", cwd=team.root).status == 0
