"""Checks the routing kernel of a tree: every case against the oracle.

    check.py [--kernel FILE] [--router FILE_OR_FOLDER] [--family NAME ...] [--jobs N] [--fail-fast]

Without --kernel it is the kernel that FIXTOOL_TREE's Gemma 4 imports (exit 77 if it imports none). On
a CUDA GPU the kernel is compiled. Without one, or if TRITON_INTERPRET=1 is set, Triton's interpreter
runs the same cases with fewer tokens. Each case runs by every kernel of the file that its shape can
reach, whatever its number of tokens. The details hold the results of each family, the cases by
kernel, the worst errors and the failures. Runs under the contract of verify/README.md.
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
from pathlib import Path
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree

SHOWN_FAILURES = 20
SHOWN_SLOWEST = 10


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", metavar="FILE", help="check this file, not the tree's")
    parser.add_argument(
        "--router", metavar="PATH", help="real router matrices: safetensors; default FIXTOOL_MODEL"
    )
    parser.add_argument("--family", action="append", metavar="NAME", help="only these; repeatable")
    parser.add_argument("--jobs", type=int, help="processes: 1 without a GPU, 8 to 16 with one")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    return parser.parse_args()


def summarise(results: Iterable[Any]) -> dict[str, Any]:
    """Families, worst errors and failures of a run, ready for JSON."""
    families: dict[str, dict[str, Any]] = defaultdict(lambda: {"cases": 0, "passed": 0, "failed": 0, "skipped": 0, "rows": 0, "seconds": 0.0, "why": {}, "notes": {}})  # fmt: skip
    worst: dict[str, dict[str, Any]] = defaultdict(lambda: {"relative": 0.0, "absolute": 0.0})
    failures, counts = [], Counter[str]()
    for result in results:
        family = families[result.case.family]
        family["cases"] += 1
        family[result.status] += 1
        family["rows"] += result.rows
        family["seconds"] = round(family["seconds"] + result.seconds, 3)
        if result.status == "skipped":
            family["why"][result.what] = family["why"].get(result.what, 0) + 1
        for note in result.notes:
            family["notes"].setdefault(note, []).append(result.case.name)
        if result.status == "failed":
            failures.append({"case": result.case.name, "what": result.what})
        for kind in ("relative", "absolute"):
            if getattr(result, kind) > worst[result.case.dtype][kind]:
                worst[result.case.dtype][kind] = getattr(result, kind)
                worst[result.case.dtype][f"{kind}_in"] = result.case.name
        counts[result.status] += 1
    return {
        "families": dict(families),
        "worst_weight_error": dict(worst),
        "failed": len(failures),
        "failures": failures[:SHOWN_FAILURES],
        "cases": counts["passed"] + counts["failed"],
        "cases_skipped": counts["skipped"],
        "rows": sum(family["rows"] for family in families.values()),
    }


def time_by_phase(results: list[Any]) -> dict[str, Any]:
    """What all cases together spent their seconds on, how many kernels were compiled (by several
    processes at once, if there are fewer different ones), and the slowest cases."""
    seconds = {name: sum(getattr(result, name) for result in results) for name in ("compiling", "comparing")}  # fmt: skip
    rest = sum(result.seconds for result in results) - sum(seconds.values())
    compiled = [kernel for result in results for kernel in result.compiled]
    slowest = sorted(results, key=lambda result: -result.seconds)[:SHOWN_SLOWEST]
    return {
        "seconds": {name: round(value, 1) for name, value in {**seconds, "rest": rest}.items()},
        "compiled": len(compiled),
        "compiled_different": len(set(compiled)),
        "slowest": [
            {"case": each.case.name, "seconds": round(each.seconds, 1), "compiling": round(each.compiling, 1)}
            for each in slowest
        ],
    }  # fmt: skip


def choose_device() -> str:
    """Return "cuda", or "cpu" where Triton's interpreter runs the kernel. Call before importing triton."""
    import torch

    if os.environ.get("TRITON_INTERPRET") != "1" and torch.cuda.is_available():
        return "cuda"
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, on inf and NaN
    torch.set_num_threads(1)
    return "cpu"


def select_cases(
    families: list[str] | None, router: str | None, device: str
) -> tuple[list[Any], dict[str, str], dict[str, Any]]:
    """The cases to run, the families left out with the reason, and how the list was shortened.
    Raises Answer (broke) if there is no family of a given name."""
    from verify.routing.cases import all_cases, shorten

    cases, skipped = all_cases(router)
    if unknown := set(families or ()) - {case.family for case in cases} - set(skipped):
        raise Answer(BROKE, f"no family named {', '.join(sorted(unknown))}")
    if families:
        cases = [case for case in cases if case.family in families]
        skipped = {name: why for name, why in skipped.items() if name in families}
    cut = {
        "cases_listed": len(cases),
        "tokens_listed": sum(case.tokens for case in cases if not case.gpu_only),
        "how": "none" if device == "cuda" else " ".join((shorten.__doc__ or "").split()),
    }
    return (cases if device == "cuda" else [shorten(case) for case in cases]), skipped, cut


def run_cases(
    cases: list[Any], module: Any, file: str, device: str, jobs: int, fail_fast: bool
) -> Iterator[Any]:
    """Yield the results of all cases, and print the failures. The cases run here or in several
    processes; on a GPU always the latter. ``fail_fast``: the first failure is the last result."""
    from verify.routing.executions import run_case
    from verify.routing.pool import run_in_processes

    if device == "cpu" and jobs == 1:
        results: Iterator[Any] = (run_case(module, case, device) for case in cases)
    else:
        if not fail_fast:  # long ones first, so that none is left over
            cases = sorted(cases, key=lambda case: -(case.tokens * case.experts + 2**24 * (case.execution != "call")))  # fmt: skip
        results = run_in_processes(cases, file, device, jobs, say=_say)
    for result in results:
        if result.status == "failed":
            print(f"FAILED {result.case.name}: {result.what}", file=sys.stderr, flush=True)
        yield result
        if result.status == "failed" and fail_fast:
            return


def _say(text: str) -> None:
    """Print how far the check is, at once: if a host's time ends, its log then names the slow case."""
    print(text, file=sys.stderr, flush=True)


def verdict(details: dict[str, Any]) -> Answer:
    """The check's answer, from its details."""
    summary = f"{details['cases']} cases, {details['rows']:,} rows, {details['failed']} failed"
    if details["failures"]:
        first = details["failures"][0]
        return Answer(FAILED, f"{summary}; first: {first['case']}: {first['what'][:400]}", details)
    errors = ", ".join(
        f"{dtype} {worst['relative']:.1e}"
        for dtype, worst in sorted(details["worst_weight_error"].items())
    )
    summary += (
        f"; worst relative weight error {errors}; {details['device']}, {details['seconds']} s"
    )
    if details["paths"]:
        summary += "; " + ", ".join(f"{name} {cases}" for name, cases in details["paths"].items())
    if details["cases_skipped"]:
        summary += f"; {details['cases_skipped']} cases skipped"
    if details["families_skipped"]:
        summary += f"; families skipped: {', '.join(sorted(details['families_skipped']))}"
    if not details["cases"]:
        return Answer(BROKE, f"no case was run: {summary}", details)
    return Answer(PASSED, summary, details)


def main(options: argparse.Namespace) -> Answer:
    start = time.perf_counter()
    from fixtool.verify.runner.git_ids import blob_id
    from verify.routing.load import find_kernel, load_kernel

    file = options.kernel or find_kernel(tree())
    if file is None:
        return Answer(DOES_NOT_APPLY, "Gemma4 has no fused routing in this tree")
    device = choose_device()
    import torch
    import triton

    from verify.routing.cases import interleave_families
    from verify.routing.variants import chosen, variants_of, with_every_variant

    module = load_kernel(file)  # here, so that a file that cannot be loaded is reported once
    router = options.router or os.environ.get("FIXTOOL_MODEL")
    cases, skipped, cut = select_cases(options.family, router, device)
    cases = with_every_variant(module, cases)
    if options.fail_fast:
        cases = interleave_families(cases)
    jobs = options.jobs or (1 if device == "cpu" else min(max(8, os.cpu_count() or 1), 16))
    results = list(run_cases(cases, module, str(file), device, jobs, options.fail_fast))
    details = summarise(results)
    for name, family in details["families"].items():
        if family["cases"] == family["skipped"]:
            skipped[name] = "; ".join(family["why"])
    by_variant = dict.fromkeys(variants_of(module), 0)
    for result in results if by_variant else ():
        if result.status != "skipped" and result.case.tokens:
            by_variant[chosen(module, result.case)] += 1
    cut["tokens_run"] = sum(result.case.tokens for result in results if result.status != "skipped")
    details |= {
        "families_skipped": skipped,
        "cut": cut,
        "kernel": {"file": str(file), "blob": blob_id(Path(file).read_bytes())},
        "paths": by_variant,
        "phases": time_by_phase(results),
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__,
            "triton": triton.__version__,
        },
        "device": "interpreter" if device == "cpu" else torch.cuda.get_device_name(),
        "jobs": jobs,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    return verdict(details)


if __name__ == "__main__":
    options = parse_arguments()
    answer(lambda: main(options))
