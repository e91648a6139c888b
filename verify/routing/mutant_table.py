"""Which case kills each mutant of a routing kernel, in Triton's interpreter?

    kill.py KERNEL [NAME ...]

KERNEL is a file with the kernel of our series; NAME, mutants of `mutants/kernel.toml`, by default all.
One process runs them all, so that torch and triton are imported once: `fixtool verify` runs the check
itself on each mutated tree. Prints a line a mutant; fails if one lives, or does not fit the file.
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

from verify.answer import FAILED, PASSED, Answer, answer

MUTANTS = Path(__file__).resolve().parents[1] / "mutants" / "kernel.toml"


def mutants() -> list[dict[str, Any]]:
    """The tables of `mutants/kernel.toml`, in order."""
    import tomllib  # Python 3.11, so not for the target's own

    return tomllib.loads(MUTANTS.read_text(encoding="utf-8"))["mutant"]


def mutated(text: str, mutant: dict[str, Any]) -> str:
    """The text with the mutant's edits. Raises ValueError unless each fits exactly once."""
    for edit in mutant["edit"]:
        text, fits = re.subn(edit["find"], edit["replace"], text, flags=re.MULTILINE)
        if fits != 1:
            raise ValueError(f"{mutant['name']} fits {fits} times: {edit['find']}")
    return text


def main(file: Path, names: list[str]) -> Answer:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    warnings.filterwarnings("ignore")
    import torch

    from verify.routing import executions as ways
    from verify.routing import load as kernel
    from verify.routing import variants as paths
    from verify.routing.cases import cut, interleaved, listed

    torch.set_num_threads(1)
    cases = [cut(case) for case in interleaved(listed()[0])]
    text = file.read_text(encoding="utf-8")
    chosen = [one for one in mutants() if not names or one["name"] in names]
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, mutant in enumerate(chosen):
            begun = time.perf_counter()
            changed = Path(place, f"mutant{number}.py")
            changed.write_text(mutated(text, mutant), encoding="utf-8")
            module = kernel.load(changed, changed.stem)
            broken = mutant["name"].split("-")[1]  # "heads", if only that kernel is
            for case in sorted(cases, key=lambda one: broken not in paths.reached(module, one)):
                outcomes = (ways.run(module, one, "cpu") for one in paths.spread(module, [case]))
                if killed := next((one for one in outcomes if one.status == "failed"), None):
                    found[mutant["name"]] = killed.case.name
                    cases.remove(case)
                    cases.insert(0, case)  # what killed one often kills the next
                    break
            killer = found.get(mutant["name"], "NOTHING")
            print(
                f"{mutant['name']:36} {killer:44} {time.perf_counter() - begun:5.1f} s", flush=True
            )
    details = {"killers": found}
    if alive := [one["name"] for one in chosen if one["name"] not in found]:
        return Answer(FAILED, f"{len(alive)} mutants live: {', '.join(alive)}", details)
    return Answer(PASSED, f"{len(found)} mutants killed", details)


if __name__ == "__main__":
    answer(lambda: main(Path(sys.argv[1]), sys.argv[2:]))
