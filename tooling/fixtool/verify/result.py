"""Reads the result of a run, which the runner wrote, and checks its form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fixtool.documents import Field
from fixtool.errors import Refused, UsageError
from fixtool.files import TooLarge, read_at_most
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.text import count
from fixtool.verify.runner.run import SCHEMA

LARGEST = 64 << 20  # bytes of a result.json; a whole run writes under one MiB


class StepKind(StrEnum):
    """What a step is for. A control shows that a mutant's killer passes the unbroken series."""

    PROBE = "probe"
    CHECK = "check"
    MUTANT = "mutant"
    CONTROL = "control"


class StepOutcome(StrEnum):
    """What a step's answer (its exit code) means."""

    PASSED = "passed"  # the answer is right
    SEEN = "seen"  # the step is part of a proof, which compares the answers on all trees
    FAILED = "failed"  # the answer is wrong
    BROKE = "broke"  # no answer in time, or an exit code that is none of the answers
    CANNOT_RUN = "cannot-run"  # the script lacks something that it needs
    SKIPPED = "skipped"  # the script does not apply, the host has no GPU, or the run was stopped


@dataclass(frozen=True)
class StepResult:
    """The answer of one script on one tree.

    ``slug`` names the patch of a probe, and is None for a check. ``want`` holds the right exit
    codes; it is None in a proof, which compares the answers on all trees. ``answer`` is the
    script's exit code, None if the script did not run or did not end in time. ``said`` is the last
    line that it printed, or why it did not run. ``memory_bytes`` is the peak memory of its largest
    process. ``log`` is the folder of its output, inside the folder of the run.
    """

    name: str
    kind: StepKind
    tree: str
    slug: str | None
    want: tuple[int, ...] | None
    answer: int | None
    outcome: StepOutcome
    said: str
    seconds: float
    memory_bytes: int | None
    log: str | None
    details: Mapping[str, Any]

    @property
    def mebibytes(self) -> str:
        """The peak memory in MiB, empty if it is not known."""
        return "" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f}"


@dataclass(frozen=True)
class Result:
    """A run as its runner wrote it.

    ``about`` is copied from the plan. ``environment`` describes the host. ``trees`` maps the name
    of a tree to git's id of its python/, computed from the files on the host. ``ended`` is None if
    the run was stopped.
    """

    about: Mapping[str, Any]
    environment: Mapping[str, Any]
    trees: Mapping[str, Oid]
    steps: tuple[StepResult, ...]
    started: str
    ended: str | None
    prepare_seconds: float

    def needs(self, slug: str) -> tuple[str, ...]:
        """The patches that a patch needs, which are with it in the tree of the patch alone. None
        is known in the result of an older fixtool."""
        patches = self.about["patches"]
        return next(
            (tuple(patch.get("needs", ())) for patch in patches if patch["slug"] == slug), ()
        )

    @property
    def finished(self) -> bool:
        return self.ended is not None

    @property
    def ran(self) -> tuple[str, ...]:
        """The kinds of run that this result has answers for: checks, prove, mutants."""
        wants = [step.want for step in self.steps if step.kind is StepKind.PROBE]
        kinds = {step.kind for step in self.steps}
        ran = {
            "checks": StepKind.CHECK in kinds or any(want is not None for want in wants),
            "prove": any(want is None for want in wants),
            "mutants": StepKind.MUTANT in kinds,
        }
        return tuple(kind for kind, has_answers in ran.items() if has_answers)

    @property
    def gpus(self) -> list[str]:
        return [str(gpu.get("name")) for gpu in self.environment.get("gpus", ())]

    @property
    def place(self) -> str:
        """The names of the host's GPUs, and how steps were spread over them (tp and pp).

        The number of GPUs is left out, because a step that is not spread uses one GPU.
        """
        return f"{', '.join(sorted(set(self.gpus)))} {self.environment.get('spread')}"

    @property
    def devices(self) -> str:
        """The host's GPUs, for example ``2 x NVIDIA H100 80GB HBM3``, or ``CPU only (x86_64)``."""
        counts = Counter(self.gpus).items()
        texts = [name if number == 1 else f"{number} x {name}" for name, number in counts]
        return ", ".join(texts) or f"CPU only ({self.environment.get('machine')})"

    @property
    def host(self) -> str:
        """The devices and the versions that matter, in one line."""
        packages = self.environment.get("packages", {})
        names = ("torch", "triton", "transformers")
        versions = [f"{name} {packages[name]}" for name in names if packages.get(name)]
        driver = self.environment.get("driver")
        python = f"Python {self.environment.get('python')}"
        return ", ".join(
            [self.devices, *([f"driver {driver}"] if driver else []), python, *versions]
        )

    @property
    def tally(self) -> str:
        """The number of steps by outcome, for example ``24 steps: 23 passed, 1 skipped``."""
        counts = [(self.count(outcome), outcome) for outcome in StepOutcome]
        words = [f"{number} {outcome}" for number, outcome in counts if number]
        return f"{count(len(self.steps), 'step')}: {', '.join(words) or 'none'}"

    @property
    def missing(self) -> Mapping[str, str]:
        """Name of a tree that could not be made -> the reason."""
        return {tree["name"]: tree["why"] for tree in self.about["missing"]}

    def count(self, outcome: StepOutcome) -> int:
        return sum(step.outcome is outcome for step in self.steps)

    def answer(self, slug: str, tree: str) -> int | None:
        """The answer of the probe of ``slug`` on ``tree``; None if it broke or did not run."""
        for step in self.steps:
            if (step.kind, step.slug, step.tree) == (StepKind.PROBE, slug, tree):
                return None if step.outcome is StepOutcome.BROKE else step.answer
        return None

    def broke(self, slug: str) -> list[str]:
        """The trees on which the probe of ``slug`` gave no answer, each with its last line."""
        bad = (StepOutcome.BROKE, StepOutcome.CANNOT_RUN)
        return [
            f"on {step.tree}: {step.said}"
            for step in self.steps
            if step.kind is StepKind.PROBE and step.slug == slug and step.outcome in bad
        ]


def read_result(path: Path) -> Result:
    """Read a result.json that this host or another one wrote.

    The fields are checked, because the file may come from anybody. Raises UsageError if the file
    cannot be read, Refused if it is not a result.
    """
    raw = _read_json(path)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise _not_a_result(path, "its schema is not 1")
    try:
        return _result(raw)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _not_a_result(path, f"{type(error).__name__}: {error}") from error


def read_kept(path: Path) -> Result | None:
    """Read a document that ``verify --save`` wrote; None if the file is of another kind, such as
    the result of a benchmark. Raises the same exceptions as ``read_result``."""
    raw = _read_json(path)
    if not isinstance(raw, dict) or raw.get("command") != "verify" or "steps" not in raw:
        return None
    try:
        missing = [{"name": tree["tree"], "why": tree["why"]} for tree in raw["missing"]]
        about = {**raw, "missing": missing}
        return _result({**raw, "plan": about, "finished": raw["ended"] is not None})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _not_a_result(path, f"{type(error).__name__}: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_at_most(path, LARGEST))
    except TooLarge as error:
        raise _not_a_result(path, f"it is over {LARGEST >> 20} MiB") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise _not_a_result(path, "it is not JSON") from error


def _not_a_result(path: Path, why: str) -> Refused:
    return Refused(
        f"{path.name} is not a result of fixtool's runner: {why}",
        where=str(path),
        hint="take result.json as the bundle's run.py left it",
    )


def _list(value: Any) -> list[Any]:
    _require(isinstance(value, list), "a list")
    return list(value)


def _result(raw: Mapping[str, Any]) -> Result:
    """The result in a parsed document. Raises KeyError, TypeError, ValueError or AttributeError if
    a field is missing or wrong."""
    about, environment = dict(raw["plan"]), dict(raw["environment"])
    for key in ("line", "ref", "source"):
        _require(isinstance(about[key], str), key)
    for key in ("base", "onto"):
        _require(isinstance(about[key], str) and is_full_sha(about[key]), key)
    for table in (*about["patches"], *about["missing"], *environment.get("gpus", ())):
        _require(isinstance(table, dict), "a list of tables")
    for key, fields in (("patches", ("slug", "sha256")), ("missing", ("name", "why"))):
        texts = (table[field] for table in about[key] for field in fields)
        _require(all(isinstance(text, str) for text in texts), key)
    needs = (name for patch in about["patches"] for name in _list(patch.get("needs", [])))
    _require(all(isinstance(name, str) for name in needs), "needs")
    _require(all(isinstance(kind, str) for kind in about["kinds"]), "kinds")
    _require(all(isinstance(gpu["name"], str) for gpu in environment.get("gpus", ())), "gpus")
    _require(isinstance(environment.get("packages", {}), dict), "packages")
    return Result(
        about, environment, {str(name): Oid(str(tree)) for name, tree in raw["trees"].items()},
        tuple(map(_step_result, raw["steps"])), str(raw["started"]),
        str(raw["ended"]) if raw.get("finished") is True else None,
        Field(raw.get("prepare_seconds", 0), "prepare_seconds").number(),
    )  # fmt: skip


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise TypeError(what)


def _whole(value: Any) -> int:
    return Field(value, "a number").large()


def _step_result(raw: Mapping[str, Any]) -> StepResult:
    answer, memory, want = raw["answer"], raw["memory_bytes"], raw["want"]
    return StepResult(
        name=str(raw["name"]), kind=StepKind(raw["kind"]), tree=str(raw["tree"]),
        slug=None if raw["slug"] is None else str(raw["slug"]),
        want=None if want is None else tuple(map(_whole, want)),
        answer=None if answer is None else _whole(answer), outcome=StepOutcome(raw["outcome"]),
        said=str(raw["said"]), seconds=Field(raw["seconds"], "seconds").number(),
        memory_bytes=None if memory is None else _whole(memory),
        log=None if raw["log"] is None else str(raw["log"]), details=dict(raw["details"]),
    )  # fmt: skip
