"""Runs one script of a plan, so that its exit code is an answer and never the mark of a crash.

    python3 script.py SCRIPT [ARGUMENT ...]

Python exits with 1 after an uncaught exception and after ``sys.exit("text")``, and 1 is also how a
probe says that the bug is there. Here both end with 2, "the script broke": the traceback goes to
stderr and the reason to the last line of stdout. So does an exit code that is no answer. The script
sees what it would see if Python had been started with it: its arguments, its file, its folder
first on sys.path, and itself as ``__main__``, which multiprocessing can load again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
import types
from contextlib import suppress

BROKE = 2
ANSWERS = frozenset({0, 1, BROKE, 4, 77, 130})
"""Yes, no, broke, cannot run here, does not apply, interrupted."""


def run(script: str, arguments: list[str]) -> int:
    """Run the file ``script`` to its end. Returns one of ANSWERS."""
    sys.argv[:] = [script, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), script, "exec", dont_inherit=True)
        exec(code, vars(main))
    except SystemExit as error:
        status = 0 if error.code is None else error.code
        if isinstance(status, int) and status in ANSWERS:
            return int(status)
        return _broke(error, f"exit with {status!r}, which is no answer")
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        return _broke(error, f"{type(error).__name__}: {error}")
    return 0


def _broke(error: BaseException, why: str) -> int:
    own = error.__traceback__
    traceback.print_exception(type(error), error, own.tb_next if own else None)
    with suppress(Exception):  # the script may have closed its stdout
        sys.stderr.flush()
        print("broke:", " ".join(why.split()), flush=True)
    return BROKE


def _die_with_runner() -> None:
    """Linux: kill this process when the runner is gone, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_runner()
    try:
        status = run(sys.argv[1], sys.argv[2:])
    except BaseException:  # not even the report of a broken script may end as an answer
        os._exit(BROKE)
    sys.exit(status)
