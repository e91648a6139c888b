"""Is the routing kernel of a tree right? Every case, against the oracle, as `verify/README.md` asks.

    check.py [--kernel FILE] [--router FILE_OR_FOLDER] [--family NAME ...] [--jobs N] [--fail-fast]

Without --kernel it is the one that FIXTOOL_TREE's Gemma4 imports (77 if that imports none). On a CUDA GPU
the compiler runs it, elsewhere, or where TRITON_INTERPRET=1 is set, Triton's interpreter does, over
the same cases with fewer tokens. A case runs by every kernel of the file that its shape can reach,
whatever its tokens. Details: what each family gave, cases by kernel, the worst errors, the failures.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree

SHOWN = 20


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", metavar="FILE", help="check this file, not the tree's")
    parser.add_argument(
        "--router", metavar="PATH", help="real router matrices: safetensors; default FIXTOOL_MODEL"
    )
    parser.add_argument("--family", action="append", metavar="NAME", help="only these; repeatable")
    parser.add_argument("--jobs", type=int, help="processes: 1 without a GPU, 8 with one")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    return parser.parse_args()


def summed(outcomes: Iterable[Any]) -> dict[str, Any]:
    """Families, worst errors and failures of a run, ready for JSON."""
    families: dict[str, dict[str, Any]] = defaultdict(lambda: {"cases": 0, "passed": 0, "failed": 0, "skipped": 0, "rows": 0, "seconds": 0.0, "why": {}, "notes": {}})  # fmt: skip
    worst: dict[str, dict[str, Any]] = defaultdict(lambda: {"relative": 0.0, "absolute": 0.0})
    failures, cut = [], Counter()
    for one in outcomes:
        family = families[one.case.family]
        family["cases"] += 1
        family[one.status] += 1
        family["rows"] += one.rows
        family["seconds"] = round(family["seconds"] + one.seconds, 3)
        if one.status == "skipped":
            family["why"][one.what] = family["why"].get(one.what, 0) + 1
        for note in one.notes:
            family["notes"].setdefault(note, []).append(one.case.name)
        if one.status == "failed":
            failures.append({"case": one.case.name, "what": one.what})
        for kind in ("relative", "absolute"):
            if getattr(one, kind) > worst[one.case.dtype][kind]:
                worst[one.case.dtype][kind] = getattr(one, kind)
                worst[one.case.dtype][f"{kind}_in"] = one.case.name
        cut[one.status] += 1
    return {
        "families": dict(families),
        "worst_weight_error": dict(worst),
        "failed": len(failures),
        "failures": failures[:SHOWN],
        "cases": cut["passed"] + cut["failed"],
        "cases_skipped": cut["skipped"],
        "rows": sum(family["rows"] for family in families.values()),
    }


def main(given: argparse.Namespace) -> Answer:
    begun = time.perf_counter()
    from verify.routing import load as kernel

    file = given.kernel or kernel.find(tree())
    if file is None:
        return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
    try:
        import torch
    except ImportError as error:
        return Answer(BROKE, f"broke: {error}")

    interpreted = os.environ.get("TRITON_INTERPRET") == "1" or not torch.cuda.is_available()
    if interpreted:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, on inf and NaN
        torch.set_num_threads(1)
    device = "cpu" if interpreted else "cuda"
    import triton

    from verify.routing import cases as listing
    from verify.routing import variants as paths

    module = kernel.load(file)  # here, so that a file that cannot be loaded is said once
    cases, skipped = listing.listed(given.router or os.environ.get("FIXTOOL_MODEL"))
    known = {case.family for case in cases} | set(skipped)
    if unknown := set(given.family or ()) - known:
        return Answer(BROKE, f"no family named {', '.join(sorted(unknown))}")
    if given.family:
        cases = [case for case in cases if case.family in given.family]
        skipped = {name: why for name, why in skipped.items() if name in given.family}
    uncut = len(cases), sum(case.tokens for case in cases if not case.gpu_only)
    if interpreted:
        cases = [listing.cut(case) for case in cases]

    cases = paths.spread(module, cases)
    if given.fail_fast:
        cases = listing.interleaved(cases)
    jobs = given.jobs or (1 if interpreted else 8)
    outcomes = []
    by_path = dict.fromkeys(paths.rows(module), 0)
    for outcome in run(cases, module, str(file), device, jobs, given.fail_fast):
        outcomes.append(outcome)
        if outcome.status != "skipped" and outcome.case.tokens and by_path:
            by_path[paths.taken(module, outcome.case)] += 1
        if outcome.status == "failed":
            print(f"FAILED {outcome.case.name}: {outcome.what}", file=sys.stderr, flush=True)
            if given.fail_fast:
                break

    details = summed(outcomes)
    for name, family in details["families"].items():
        if family["cases"] == family["skipped"]:
            skipped[name] = "; ".join(family["why"])
    details["families_skipped"] = skipped
    details["cut"] = {
        "cases_listed": uncut[0],
        "tokens_listed": uncut[1],
        "tokens_run": sum(one.case.tokens for one in outcomes if one.status != "skipped"),
        "how": " ".join((listing.cut.__doc__ or "").split()) if interpreted else "none",
    }
    details["kernel"] = {"file": str(file), "blob": kernel.blob(file)}
    details["paths"] = by_path
    details["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    details["device"] = "interpreter" if interpreted else torch.cuda.get_device_name()
    details["jobs"] = jobs
    details["seconds"] = round(time.perf_counter() - begun, 1)

    errors = ", ".join(
        f"{dtype} {worst['relative']:.1e}"
        for dtype, worst in sorted(details["worst_weight_error"].items())
    )
    saw = f"{details['cases']} cases, {details['rows']:,} rows, {details['failed']} failed"
    if details["failures"]:
        first = details["failures"][0]
        return Answer(FAILED, f"{saw}; first: {first['case']}: {first['what'][:400]}", details)
    saw += f"; worst relative weight error {errors}; {details['device']}, {details['seconds']} s"
    if details["paths"]:
        saw += "; " + ", ".join(f"{path} {cases}" for path, cases in details["paths"].items())
    if details["cases_skipped"]:
        saw += f"; {details['cases_skipped']} cases skipped"
    if skipped:
        saw += f"; families skipped: {', '.join(sorted(skipped))}"
    if not details["cases"]:
        return Answer(BROKE, f"no case was run: {saw}", details)
    return Answer(PASSED, saw, details)


def run(
    cases: list[Any], module: Any, file: str, device: str, jobs: int, fail_fast: bool
) -> Iterator[Any]:
    """Outcomes of all cases: here, or by a crew of processes, which a GPU always gets."""
    from verify.routing import executions as ways
    from verify.routing.pool import crew

    if device == "cpu" and jobs == 1:
        yield from (ways.run(module, case, device) for case in cases)
        return
    if not fail_fast:  # long ones first, so that none is left over
        cases = sorted(cases, key=lambda case: -(case.tokens * case.experts + 2**24 * (case.way != "call")))  # fmt: skip
    yield from crew(cases, file, device, jobs)


if __name__ == "__main__":
    given = options()
    answer(lambda: main(given))
