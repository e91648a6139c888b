"""What the scripts in this folder share: the form of their results, and git.

A result is the file ``results/<suite>.json``:

    {"suite": "apply", "date": "2026-11-26", "git": "2.39.5", "commit": "<of this repository>",
     "seconds": 71.5, "counts": {"<row>": {"<column>": <number or text>}},
     "stricter": ["<sample>: <reason>"], "found": ["<a sentence>"]}

``stricter`` names what fixtool refuses although the other tool takes it, with the reason. ``found``
are the faults that the suite found, those that are mended too. ``problems``, if the suite tells them
apart, are those of this run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results"


class Outcome(StrEnum):
    """How fixtool's answer to one sample compares with the other tool's."""

    EQUAL = "equal"
    BOTH_REFUSE = "both refuse"
    STRICTER = "stricter"  # fixtool refuses, and says why
    WRONG = "wrong"  # fixtool made something else, or went on where the other tool refuses
    CRASH = "crash"  # an exception that is no FixtoolError


@dataclass
class Tally:
    """The outcomes of a suite's samples, by row. ``problems`` describe what is wrong or crashed."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    stricter: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, row: str, outcome: Outcome, sample: str, text: str = "") -> None:
        """Count one sample. ``text`` is the reason if it is stricter, else what is wrong."""
        self.rows.setdefault(row, Counter())[outcome] += 1
        if outcome is Outcome.STRICTER:
            self.stricter.append(f"{sample}: {text}")
        elif outcome in (Outcome.WRONG, Outcome.CRASH):
            self.problems.append(f"{row}: {outcome}: {sample}: {text}")

    def judged(self, row: str, sample: str, judgement: tuple[Outcome, str]) -> None:
        self.add(row, judgement[0], sample, judgement[1])

    def include(self, result: dict[str, Any]) -> None:
        """Add an earlier result."""
        for row, numbers in result["counts"].items():
            counts = {each: numbers[each.value] for each in Outcome}
            self.rows.setdefault(row, Counter()).update(counts)
        self.stricter += result["stricter"]
        self.problems += result["found"]

    @property
    def counts(self) -> dict[str, dict[str, int | str]]:
        """The table of the result: a column for each outcome, also where it is 0."""
        return {
            row: {"samples": sum(found.values()), **{each.value: found[each] for each in Outcome}}
            for row, found in self.rows.items()
        }

    def finish(
        self, suite: str, started: float, folder: Path | None, found: Sequence[str] = ()
    ) -> int:
        """Print what was found, and write the result, with the faults that earlier runs found. Returns
        the exit code."""
        for row, counts in self.counts.items():
            print(f"{row}: {counts}")
        print(*self.problems, sep="\n")
        faults = [*found, *self.problems]
        print(write(suite, started, self.counts, self.stricter, faults, folder or RESULTS))
        return 1 if self.problems else 0


def git(folder: Path, *words: str, stdin: bytes | None = None, status: bool = True) -> bytes:
    """The output of git. Raises CalledProcessError if it fails and ``status`` is set."""
    done = subprocess.run(
        ["git", "-C", folder, *words], input=stdin, capture_output=True, check=status
    )
    return done.stdout


def bring_source(source: str, target: Path, tag: str = "HEAD") -> Path:
    """The source text that ``source`` names: a folder as it is, or, in the folder ``target``, the
    commit ``tag`` of a clone or a URL."""
    if Path(source).is_dir() and not (Path(source) / "HEAD").exists():
        return Path(source).resolve()
    if not target.exists():
        if Path(source).is_dir():
            target.mkdir(parents=True)
            archive = git(Path(source), "archive", tag)
            subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)
        else:
            branch = [] if tag == "HEAD" else [f"--branch={tag}"]
            command: list[str | Path] = [
                "git",
                "clone",
                "--quiet",
                "--depth=1",
                *branch,
                source,
                target,
            ]
            subprocess.run(command, check=True)
    return target


@contextmanager
def scratch_folder(kept: Path | None) -> Iterator[Path]:
    """The folder ``kept``, or one that is removed at the end."""
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="fixtool-conformance-") as name:
            yield Path(name)


def read_result(name: str) -> dict[str, Any]:
    """The result that an earlier run has written, as the value of an option."""
    try:
        result: dict[str, Any] = json.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error.strerror}") from error
    return result


def add_after(parser: argparse.ArgumentParser) -> None:
    """Add the option --after, whose value is a list of earlier results."""
    parser.add_argument(
        "--after", type=read_result, action="append", default=[], metavar="FILE",
        help="the result of an earlier run, whose counts are added",
    )  # fmt: skip


def write(
    suite: str,
    started: float,
    counts: dict[str, dict[str, int | str]],
    stricter: Sequence[str] = (),
    found: Sequence[str] = (),
    folder: Path = RESULTS,
    problems: Sequence[str] | None = None,
) -> Path:
    """Write the result of a suite that began at ``started``, a value of ``time.monotonic()``."""
    document = {
        "suite": suite,
        "date": datetime.now(UTC).date().isoformat(),
        "git": git(ROOT, "version").decode().split()[2],
        "commit": git(ROOT, "rev-parse", "HEAD").decode().strip(),
        "seconds": round(time.monotonic() - started, 1),
        "counts": counts,
        "stricter": list(stricter),
        "found": list(found),
    }
    if problems is not None:
        document["problems"] = list(problems)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path
