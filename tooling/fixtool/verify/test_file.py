"""Tests whether a test file of the tree passes. Runs it as SGLang's CI does: as a program.

    test_file.py FILE        (its path in the tree that FIXTOOL_TREE names)

For a tree of SGLang on a host without a GPU, Triton's interpreter stands in for its compiler, and
stand-ins for the packages that a CPU lacks. Another tree gets none of these. Exit codes are those
of answer.py; 77: no test ran, or each was skipped, so nothing was shown.
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
from typing import TextIO

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import install


class _Both(io.TextIOBase):
    """Passes on everything that is written to it, and keeps it: the counts of tests are in it."""

    def __init__(self, onto: TextIO) -> None:
        self.onto, self.kept = onto, io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self.onto.write(text)

    def flush(self) -> None:
        self.onto.flush()

    def isatty(self) -> bool:
        return False


def counts(output: str) -> tuple[int, int]:
    """How many tests ran, and how many of these were skipped, as unittest or pytest prints them."""

    def total(pattern: str, text: str) -> int:
        return sum(map(int, re.findall(pattern, text)))

    if ran := total(r"(?m)^Ran (\d{1,9}) tests? in", output):
        return ran, total(r"skipped=(\d{1,9})", output)
    last = output.strip().rpartition("\n")[2]
    skipped = total(r"(\d{1,9}) skipped", last)
    return total(r"(\d{1,9}) (?:passed|failed|error)", last) + skipped, skipped


def stand_in(name: str) -> list[str]:
    """Put up a module of that name, if none is installed, from which any name can be imported. Not
    worth 100 MB: SGLang's test utilities import it at their top, and unit tests never call it."""
    if importlib.util.find_spec(name):
        return []
    import transformers  # noqa: F401  # which looks for the module, and would believe this one

    def attribute(wanted: str) -> type:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return type(wanted, (), {})

    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module)["__getattr__"] = attribute
    sys.modules[name] = module
    return [name]


def prepare() -> tuple[str, list[str]]:
    """Make ready for a test of SGLang. Returns the device, and the names of the stand-ins."""
    if not os.path.isdir(os.path.join(tree(), "python", "sglang")):
        return "CPU", []
    stand_ins = [*install(), *stand_in("datasets")]
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name()), stand_ins
    os.environ["TRITON_INTERPRET"] = "1"
    return "CPU", stand_ins


def main() -> Answer:
    if len(sys.argv) != 2:
        return Answer(BROKE, "test_file.py FILE")
    file = os.path.join(tree(), sys.argv[1])
    if not os.path.isfile(file):
        return Answer(DOES_NOT_APPLY, f"the tree has no {sys.argv[1]}")
    device, stand_ins = prepare()
    out, err = _Both(sys.stdout), _Both(sys.stderr)
    sys.argv = [file]
    sys.path.insert(0, os.path.dirname(file))
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            code = end.code
    printed = out.kept.getvalue()
    both = re.sub(r"(?m)^=+ (.*) =+$", r"\1", printed + "\n" + err.kept.getvalue())
    ran, skipped = (max(pair) for pair in zip(counts(printed), counts(both), strict=True))
    details = {"ran": ran, "skipped": skipped, "device": device, "stand_ins": stand_ins}
    tests = f"{ran} test{'s' * (ran != 1)}, {skipped} skipped, on {device}"
    if code not in (0, None, False):
        shown = int(code) if isinstance(code, int) else code
        return Answer(FAILED, f"failed (exit {shown}): {tests}", details)
    if ran == skipped:
        return Answer(DOES_NOT_APPLY, f"nothing shown: {tests}", details)
    return Answer(PASSED, tests, details)


if __name__ == "__main__":
    answer(main)
