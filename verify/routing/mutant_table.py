"""Lists which case kills each mutant of a routing kernel, in Triton's interpreter.

    mutant_table.py KERNEL [NAME ...]

KERNEL is a file with the kernel of our series; NAME are mutants of `mutants/kernel.toml`, by default
all. One process runs them all, so that torch and triton are imported once; `fixtool verify` instead
runs the check itself on each mutated tree. Prints a line a mutant. Fails if a mutant survives or does
not fit the file.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from fixtool.verify.answer import FAILED, PASSED, Answer, answer

MUTANTS = Path(__file__).resolve().parents[1] / "mutants" / "kernel.toml"


def read_mutants() -> list[dict[str, Any]]:
    """The tables of `mutants/kernel.toml`, in order."""
    import tomllib  # Python 3.11; the target's Python may be older

    return list(tomllib.loads(MUTANTS.read_text(encoding="utf-8"))["mutant"])


def apply_mutant(text: str, mutant: dict[str, Any]) -> str:
    """The text with the mutant's edits. Raises ValueError unless each edit fits exactly once."""
    for edit in mutant["edit"]:
        text, fits = re.subn(edit["find"], edit["replace"], text, flags=re.MULTILINE)
        if fits != 1:
            raise ValueError(f"{mutant['name']} fits {fits} times: {edit['find']}")
    return text


def main(file: Path, names: list[str]) -> Answer:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    warnings.filterwarnings("ignore")
    import torch

    from verify.routing.cases import all_cases, interleave_families, shorten
    from verify.routing.executions import run_case
    from verify.routing.load import load_kernel
    from verify.routing.variants import reachable, with_every_variant

    torch.set_num_threads(1)
    cases = [shorten(case) for case in interleave_families(all_cases()[0])]
    text = file.read_text(encoding="utf-8")
    mutants = [mutant for mutant in read_mutants() if not names or mutant["name"] in names]
    killers: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(mutants):
            start = time.perf_counter()
            changed = Path(folder, f"mutant{number}.py")
            changed.write_text(apply_mutant(text, mutant), encoding="utf-8")
            module = load_kernel(changed, changed.stem)
            name = mutant["name"]
            broken = name.split("-")[1]  # "heads", if only that kernel is broken
            for case in sorted(cases, key=lambda case: broken not in reachable(module, case)):
                results = (
                    run_case(module, variant, "cpu")
                    for variant in with_every_variant(module, [case])
                )
                if killed := next((r for r in results if r.status == "failed"), None):
                    killers[name] = killed.case.name
                    cases.remove(case)
                    cases.insert(0, case)  # what killed one often kills the next
                    break
            took = time.perf_counter() - start
            print(f"{name:36} {killers.get(name, 'NOTHING'):44} {took:5.1f} s", flush=True)
    details = {"killers": killers}
    if alive := [mutant["name"] for mutant in mutants if mutant["name"] not in killers]:
        return Answer(FAILED, f"{len(alive)} mutants live: {', '.join(alive)}", details)
    return Answer(PASSED, f"{len(killers)} mutants killed", details)


if __name__ == "__main__":
    answer(lambda: main(Path(sys.argv[1]), sys.argv[2:]))
