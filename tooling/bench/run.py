"""How fast fixtool is, next to plain git, quilt and StGit. README.md of this folder says more.

    python tooling/bench/run.py --repo CLONE [--slime CLONE] [--torchspec CLONE] [--suite NAME ...]

The exit code is 0 if every target that was measured is met, 1 if one is not, and 2 if a command
failed or two contestants did not make the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import machine
import suite_four
import suite_history
import suite_series
import suite_start
import suite_transfer
import suite_verbs
import tables
from place import ROOT
from targets import answers
from timing import LIMIT, CommandFailed, Group

SUITES = {
    "start": suite_start.run,
    "four": suite_four.run,
    "series": suite_series.run,
    "history": suite_history.run,
    "transfer": suite_transfer.run,
    "verbs": suite_verbs.run,
}
RESULTS = Path(__file__).resolve().parent / "results"
_MEMORY = Path("/dev/shm")


def main() -> int:
    given = _arguments()
    folders = {"disk": given.disk or Path(tempfile.gettempdir())}
    if given.memory:
        folders["memory"] = given.memory
    about = machine.describe(given.fixtool, folders)
    machine.warn_if_busy(about["load_average"])
    began = datetime.now(UTC)
    result = _result_path(given, began)
    groups: list[Group] = []
    seconds: dict[str, float] = {}
    problems: list[str] = []
    for name in given.suite or SUITES:
        begin = time.monotonic()
        try:
            groups += SUITES[name](given)
        except CommandFailed as error:
            problems.append(f"suite {name} could not run: {error}")
        seconds[name] = round(time.monotonic() - begin, 1)
        if result:
            result.write_text(_document(began, about, given, seconds, groups))
    print(*tables.lines(groups), sep="\n")
    problems += [
        f"{group.key}: {row.name}: {row.problem}"
        for group in groups for row in group.rows if row.failed
    ]  # fmt: skip
    print(*(f"PROBLEM {problem}" for problem in problems), sep="\n", file=sys.stderr)
    print("seconds of each suite:", *(f"{name} {spent}" for name, spent in seconds.items()))
    if result:
        print(f"kept in {result}")
    if problems:
        return 2
    return int(any(answer.met is False for answer in answers(groups)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--repo", type=Path, required=True, help="a clone with SGLang's history; it is only read")
    add("--slime", type=Path, help="a clone of slime; without it, its patch is not measured")
    add("--torchspec", type=Path, help="a clone of TorchSpec, likewise")
    add("--suite", action="append", choices=SUITES, help="only this suite; may be repeated")
    add("--runs", type=int, default=5)
    add("--sizes", type=_sizes, help="the lengths of series, such as 50,200")
    add("--last", default="ca17bd83479c1e27f68419bbe05374d349b571cb", help="the newest commit")
    add("--moved", type=int, default=100, help="how many commits a series is rebased on")
    add("--patches", type=Path, default=ROOT, help="the patch repository of suite four")
    add("--line", default="b0ce16d0c", help="its line")
    add("--fixtool", type=Path, default=Path(sys.executable).with_name("fixtool"))
    add("--memory", type=Path, default=_MEMORY if _MEMORY.is_dir() else None,
        help="a folder in memory")  # fmt: skip
    add("--disk", type=Path, help="a folder on a disk (default: that for temporary files)")
    add(
        "--keep",
        type=Path,
        help="a folder that keeps downloads and the choice of commits for the next run",
    )
    add("--out", type=Path, help="the file of the result (default: a new one in results/, if all "
        "suites run)")  # fmt: skip
    add("--limit", type=float, default=LIMIT, help="seconds after which a command has failed")
    add("--quick", action="store_true", help="one round, small sizes, without the package index")
    given = parser.parse_args()
    given.releases = not given.quick
    given.runs = 1 if given.quick else given.runs
    given.sizes = given.sizes or ([2, 4] if given.quick else [50, 200, 500, 998])
    given.step = 1 if given.quick else 10
    return given


def _sizes(text: str) -> list[int]:
    return sorted(int(word) for word in text.split(","))


def _result_path(given: argparse.Namespace, began: datetime) -> Path | None:
    if given.out or given.quick or given.suite:
        return given.out
    RESULTS.mkdir(exist_ok=True)
    number = 1
    while (path := RESULTS / f"{began:%Y-%m-%d}-{number}.json").exists():
        number += 1
    return path


def _document(
    began: datetime, about: dict[str, object], given: argparse.Namespace,
    seconds: dict[str, float], groups: list[Group],
) -> str:  # fmt: skip
    document = {
        "date": began.strftime("%Y-%m-%dT%H:%MZ"),
        "machine": about,
        "runs": given.runs,
        "quick": given.quick,
        "seconds": seconds,
        "targets": [
            {"target": str(answer.target), "measured": _rounded(answer.measured),
             "met": answer.met}
            for answer in answers(groups)
        ],
        "groups": [_group(group) for group in groups],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"


def _group(group: Group) -> dict[str, object]:
    rows = []
    for row in group.rows:
        medians = {name: _rounded(row.median(name)) for name in ("wall", "cpu", "peak", "own_peak")}
        ratios = {f"{name}_ratio": _rounded(tables.ratio(group, row, name))
                  for name in ("wall", "cpu")}  # fmt: skip
        rows.append({
            "name": row.name, "against": row.against, **medians, **ratios, **row.facts,
            "scale": row.scale, "problem": tables.last_line(row.problem),
            "samples": [list(asdict(sample).values()) for sample in row.samples],
        })  # fmt: skip
    return {"key": group.key, "title": group.title, "rows": rows}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    sys.exit(main())
