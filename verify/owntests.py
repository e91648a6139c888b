"""Does a test file of the tree pass? It is run as SGLang's CI runs it, as a program of its own.

    owntests.py FILE        (its path in FIXTOOL_TREE)

Without a GPU, Triton's interpreter stands in for its compiler, and stand-ins for the packages that
a CPU lacks. 77: every test in it was skipped, so nothing was shown.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import re
import runpy
import sys
import types

from verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from verify.standins import install


class _Both(io.TextIOBase):
    """Says everything on, and keeps it: the counts are in it."""

    def __init__(self, onto) -> None:
        self.onto, self.kept = onto, io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self.onto.write(text)

    def flush(self) -> None:
        self.onto.flush()

    def isatty(self) -> bool:
        return False


def counts(said: str) -> tuple[int, int]:
    """How many tests ran, and how many of them were skipped, as unittest or pytest counts them."""
    number = lambda pattern: sum(int(one) for one in re.findall(pattern, said))
    if ran := number(r"(?m)^Ran (\d+) tests? in"):
        return ran, number(r"skipped=(\d+)")
    last = said.strip().rpartition("\n")[2]
    of = lambda word: sum(int(one) for one in re.findall(rf"(\d+) {word}", last))
    return of("passed") + of("failed") + of("error") + of("skipped"), of("skipped")


def stand_in(name: str) -> list[str]:
    """A module of that name, if none is installed, out of which anything can be imported. What
    SGLang's test utilities import at their top, and unit tests never call, is not worth 100 MB."""
    if importlib.util.find_spec(name):
        return []
    import transformers  # noqa: F401  # which looks for it, and would believe what it finds

    def found(wanted: str) -> type:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return type(wanted, (), {})

    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__getattr__ = found
    sys.modules[name] = module
    return [name]


def main() -> Answer:
    if len(sys.argv) != 2:
        return Answer(BROKE, "owntests.py FILE")
    file = os.path.join(tree(), sys.argv[1])
    if not os.path.isfile(file):
        return Answer(DOES_NOT_APPLY, f"the tree has no {sys.argv[1]}")
    stand_ins = [*install(), *stand_in("datasets")]
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    out, err = _Both(sys.stdout), _Both(sys.stderr)
    sys.argv = [file]
    sys.path.insert(0, os.path.dirname(file))
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            code = end.code
    said = re.sub(r"(?m)^=+ (.*) =+$", r"\1", out.kept.getvalue() + "\n" + err.kept.getvalue())
    ran, skipped = (
        max(pair) for pair in zip(counts(out.kept.getvalue()), counts(said), strict=True)
    )
    details = {"ran": ran, "skipped": skipped, "device": device, "stand_ins": stand_ins}
    tests = f"{ran} test{'s' * (ran != 1)}, {skipped} skipped, on {device}"
    if code not in (0, None, False):
        return Answer(
            FAILED,
            f"failed (exit {int(code) if isinstance(code, int) else code}): {tests}",
            details,
        )
    if ran == skipped:
        return Answer(DOES_NOT_APPLY, f"nothing shown: {tests}", details)
    return Answer(PASSED, tests, details)


if __name__ == "__main__":
    answer(main)
