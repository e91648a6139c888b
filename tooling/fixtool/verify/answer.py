"""How a probe or check answers: one line, one exit code, and details as JSON.

    0    a probe: the bug is not in this tree; a check: passed
    1    a probe: the bug is present;          a check: failed
    2    the script itself broke: this counts as neither
    4    it cannot run on this host: no such model, a port in use, too little GPU memory
    77   does not apply to this tree

``from fixtool.verify.answer import …`` works under ``fixtool verify``, which lays this module
beside the tree under test and names the tree in FIXTOOL_TREE; the target's Python needs no fixtool
of its own. Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

NOT_PRESENT = PASSED = 0
PRESENT = FAILED = 1
BROKE = 2
CANNOT_RUN = 4
DOES_NOT_APPLY = 77


class Answer(Exception):
    """What a script saw. Raise it from anywhere, or return it from main."""

    def __init__(self, code: int, saw: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(saw)
        self.code, self.saw, self.details = code, saw, details or {}


def answer(main: Callable[[], Answer]) -> NoReturn:
    """Run ``main``, print what it saw as the last line of stdout, and exit with its code.

    The details go, as JSON, to the file that FIXTOOL_DETAILS names. If ``main`` raises anything but
    an Answer, the script is broken: traceback on stderr, exit 2. (Python's own exit code for a
    traceback is 1, which would read as "present".)
    """
    try:
        result = main()
    except Answer as raised:
        result = raised
    except KeyboardInterrupt:
        result = Answer(130, "interrupted")
    except BaseException as error:
        traceback.print_exc()
        result = Answer(BROKE, f"broke: {type(error).__name__}: {error}")
    if path := os.environ.get("FIXTOOL_DETAILS"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result.details, file)
    sys.stderr.flush()
    print(" ".join(result.saw.split()), flush=True)
    os._exit(result.code)  # threads and atexit hooks of a half-started SGLang may hang or overrule


def tree() -> str:
    """The folder of the tree under test, which holds ``python/sglang``."""
    try:
        return os.environ["FIXTOOL_TREE"]
    except KeyError:
        raise Answer(BROKE, "FIXTOOL_TREE names no tree; run me through `fixtool verify`") from None
