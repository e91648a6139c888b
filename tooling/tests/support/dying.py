"""A command that is killed at one of its writes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.command import run_here
from support.repositories import Ran

_WRITES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "shutil.rmtree", "shutil.copytree", "subprocess.Popen",
}  # fmt: skip


def run_and_die(words: Sequence[str | Path], cwd: Path, env: Mapping[str, str], root: Path,
                point: int) -> Ran | None:  # fmt: skip
    """Run fixtool in a fork that is killed at its write or git number ``point``. None if it was;
    what it gave, if it ended before."""
    answer = root / "tmp" / "answer.json"
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            _arm(root, point)
            ran = run_here(*words, cwd=cwd, env=env)
            answer.write_text(json.dumps([ran.status, ran.out, ran.err]))
        except BaseException as error:
            answer.write_text(json.dumps([70, "", repr(error)]))
        finally:
            os._exit(0)
    _, code = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(code):
        return Ran(*json.loads(answer.read_text()))
    if point % 2:  # the gits that it has started go on to their ends, or die with it
        time.sleep(0.05)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return None


def _arm(root: Path, point: int) -> None:
    left = point
    above = str(root)

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if not (writes and isinstance(args[0], str) and args[0].startswith(above)):
                return
        elif event not in _WRITES:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
