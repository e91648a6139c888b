"""What a run left: its result, read back; what it proves; and the same for JUnit and Markdown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fixtool.errors import ExitCode, Refused, UsageError
from fixtool.git.names import is_full_sha
from fixtool.verify.runner.run import SCHEMA
from fixtool.verify.suite import BASE, SERIES, alone, undone

LARGEST = 64 << 20  # bytes of a result.json; a whole run writes under one MiB
OUTCOMES = ("passed", "seen", "failed", "broke", "cannot-run", "skipped")


class Proof(StrEnum):
    """What the matrix says of one patch on one base."""

    PROVED = "proved"  # 1 without it, 0 with it alone, and no other probe moved
    BACKWARDS = "absorbed"  # 0 here already, and 1 once the fix is taken out
    ABSENT = "not-present"  # 0 here, and nothing that is there to take out: the bug never came
    DOES_NOT_APPLY = "does-not-apply"
    PRESENT = "present"  # 1 here, and this line carries no patch for it
    CONFLICT = "conflict"  # 1 here, and its patch does not apply
    UNPROVED = "unproved"
    BROKE = "broke"


BAD = frozenset({Proof.UNPROVED, Proof.BROKE})


@dataclass(frozen=True)
class StepResult:
    """One script's answer. ``answer`` is its exit code, None where it gave none in time;
    ``seconds`` wall time; ``memory_bytes`` the peak of its largest process; ``log`` a folder
    beside the result."""

    name: str
    kind: str
    tree: str
    slug: str | None
    want: tuple[int, ...] | None
    answer: int | None
    outcome: str
    said: str
    seconds: float
    memory_bytes: int | None
    log: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A run as its runner wrote it. ``about`` is the plan's; ``trees`` are git ids of python/, by
    name, computed from the files that were laid out."""

    about: Mapping[str, Any]
    environment: Mapping[str, Any]
    trees: Mapping[str, str]
    steps: tuple[StepResult, ...]
    started: str
    ended: str | None
    prepare_seconds: float

    @property
    def finished(self) -> bool:
        return self.ended is not None

    @property
    def ran(self) -> tuple[str, ...]:
        """What there are answers of: checks, prove, mutants. More may have been planned."""
        probes = [one.want for one in self.steps if one.kind == "probe"]
        kinds = {one.kind for one in self.steps}
        has = {
            "checks": "check" in kinds or any(want is not None for want in probes),
            "prove": any(want is None for want in probes),
            "mutants": "mutant" in kinds,
        }
        return tuple(kind for kind, there in has.items() if there)

    @property
    def place(self) -> str:
        """On what cards it ran, and over how many a step was spread. One that is not spread runs
        on one card, however many there are."""
        names = sorted({str(one.get("name")) for one in self.environment.get("gpus", ())})
        return f"{', '.join(names)} {self.environment.get('spread')}"

    @property
    def missing(self) -> Mapping[str, str]:
        """The trees that could not be made, and why."""
        return {one["name"]: one["why"] for one in self.about["missing"]}

    def count(self, outcome: str) -> int:
        return sum(one.outcome == outcome for one in self.steps)

    def answer(self, slug: str, tree: str) -> int | None:
        """What the probe of ``slug`` said on ``tree``; None where it was not asked or broke."""
        step = self._step(slug, tree)
        return step.answer if step and step.outcome != "broke" else None

    def broke(self, slug: str) -> list[str]:
        return [
            f"on {one.tree}: {one.said}"
            for one in self.steps
            if one.kind == "probe" and one.slug == slug and one.outcome in ("broke", "cannot-run")
        ]

    def _step(self, slug: str, tree: str) -> StepResult | None:
        asked = (one for one in self.steps if one.kind == "probe" and one.slug == slug)
        return next((one for one in asked if one.tree == tree), None)


@dataclass(frozen=True)
class PatchProof:
    """The proof of one patch: ``why`` is in words for a person."""

    slug: str
    proof: Proof
    why: str


@dataclass(frozen=True)
class Matrix:
    """Answers of every probe (``columns``, by slug) on every tree (``rows``: name, how it was made,
    answers in column order; None: not asked, -1: the probe broke)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    proofs: tuple[PatchProof, ...]


def read_result(path: Path) -> Result:
    """A result.json, from here or from another host. It is somebody's file: every field is looked
    at. Raises UsageError where there is none, Refused where it is not one."""
    raw = _read(path)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise _not_a_result(path, "its schema is not 1")
    try:
        return _result(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_result(path, f"{type(error).__name__}: {error}") from error


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise Refused(f"{path.name} is over {LARGEST >> 20} MiB: not a result", where=str(path))
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise _not_a_result(path, "it is not JSON") from error


def read_kept(path: Path) -> Result | None:
    """What ``verify --save`` kept; None for a file of another kind, such as a benchmark's. Raises
    as ``read_result`` does."""
    raw = _read(path)
    if not isinstance(raw, dict) or raw.get("command") != "verify" or "steps" not in raw:
        return None
    try:
        missing = [{"name": one["tree"], "why": one["why"]} for one in raw["missing"]]
        return _result(
            {**raw, "plan": {**raw, "missing": missing}, "finished": raw["ended"] is not None}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_result(path, f"{type(error).__name__}: {error}") from error


def _result(raw: Mapping[str, Any]) -> Result:
    """Raises one of the errors of a look at what is not there, or not what it should be."""
    about, environment = dict(raw["plan"]), dict(raw["environment"])
    for key in ("line", "ref", "source"):
        _require(isinstance(about[key], str), key)
    for key in ("base", "onto"):
        _require(isinstance(about[key], str) and is_full_sha(about[key]), key)
    for one in (*about["patches"], *about["missing"], *environment.get("gpus", ())):
        _require(isinstance(one, dict), "a list of tables")
    for key, fields in (("patches", ("slug", "sha256")), ("missing", ("name", "why"))):
        _require(all(isinstance(one[f], str) for one in about[key] for f in fields), key)
    _require(all(isinstance(one, str) for one in about["kinds"]), "kinds")
    _require(all(isinstance(one["name"], str) for one in environment.get("gpus", ())), "gpus")
    _require(isinstance(environment.get("packages", {}), dict), "packages")
    return Result(
        about, environment, {str(k): str(v) for k, v in raw["trees"].items()},
        tuple(_step_result(one) for one in raw["steps"]), str(raw["started"]),
        str(raw["ended"]) if raw.get("finished") is True else None,
        float(raw.get("prepare_seconds", 0)),
    )  # fmt: skip


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise TypeError(what)


def _not_a_result(path: Path, why: str) -> Refused:
    return Refused(
        f"{path.name} is not a result of fixtool's runner: {why}",
        where=str(path),
        hint="take result.json as the bundle's run.py left it",
    )


def _step_result(raw: Mapping[str, Any]) -> StepResult:
    if raw["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome {raw['outcome']!r}")
    answer, memory, want = raw["answer"], raw["memory_bytes"], raw["want"]
    return StepResult(
        name=str(raw["name"]), kind=str(raw["kind"]), tree=str(raw["tree"]),
        slug=None if raw["slug"] is None else str(raw["slug"]),
        want=None if want is None else tuple(int(one) for one in want),
        answer=None if answer is None else int(answer), outcome=str(raw["outcome"]),
        said=str(raw["said"]), seconds=float(raw["seconds"]),
        memory_bytes=None if memory is None else int(memory),
        log=None if raw["log"] is None else str(raw["log"]), details=dict(raw["details"]),
    )  # fmt: skip


# -- judging -------------------------------------------------------------------------------


def matrix(result: Result) -> Matrix | None:
    """The proof of need, where probes ran on more than the series; None where they did not."""
    asked = [one for one in result.steps if one.kind == "probe"]
    if all(one.want is not None for one in asked):
        return None
    columns = tuple(dict.fromkeys(one.slug or "" for one in asked))
    trees = sorted(dict.fromkeys(one.tree for one in asked), key=_place)
    cells = {(one.tree, one.slug): one for one in asked}

    def cell(tree: str, slug: str) -> int | None:
        step = cells.get((tree, slug))
        if step is None:
            return None
        return step.answer if step.answer in (0, 1, 77) else -1

    rows = tuple((tree, tuple(cell(tree, slug) for slug in columns)) for tree in trees)
    own = [one["slug"] for one in result.about["patches"]]
    proofs = tuple(_prove(result, slug, columns, slug in own) for slug in columns)
    return Matrix(columns, rows, proofs)


def _place(tree: str) -> int:
    """Rows in the order of the argument: without, with each, with all, and backwards."""
    return {BASE: 0, SERIES: 2}.get(tree, 1 if tree.startswith("+") else 3)


def _prove(result: Result, slug: str, columns: Sequence[str], own: bool) -> PatchProof:
    def said(proof: Proof, why: str) -> PatchProof:
        return PatchProof(slug, proof, why)

    if broken := result.broke(slug):
        return said(Proof.BROKE, f"its probe broke {broken[0]}")
    at_home = own and result.about["onto"] == result.about["base"]
    here = result.answer(slug, BASE)
    if here is None:
        return said(Proof.BROKE, "its probe gave no answer on the base")
    if here == 77:
        if at_home:
            return said(Proof.UNPROVED, "its probe says that it does not apply to its own base")
        return said(Proof.DOES_NOT_APPLY, "what it is about is not in this tree")
    if here == 0:
        back = result.answer(slug, undone(slug))
        if back == 1:
            return said(Proof.BACKWARDS, "not present; present again once the fix is taken out")
        if back is not None:
            return said(Proof.UNPROVED, f"the fix was taken out, and its probe still says {back}")
        if at_home:
            return said(Proof.UNPROVED, "its probe says 0 on the base that the patch is to mend")
        why = result.missing.get(undone(slug), "no undo was tried")
        return said(Proof.ABSENT, f"not present, and nothing here to take out ({why})")
    if not own:
        return said(Proof.PRESENT, "present, and this line has no patch for it")
    with_it = result.answer(slug, alone(slug))
    if with_it is None:
        return said(Proof.CONFLICT, result.missing.get(alone(slug), "it has no tree"))
    if with_it != 0:
        return said(Proof.UNPROVED, f"with the patch alone, its probe still says {with_it}")
    if (whole := result.answer(slug, SERIES)) not in (0, None):
        return said(Proof.UNPROVED, f"on the whole series, its probe says {whole}")
    moved = [
        one for one in columns
        if one != slug and result.answer(one, alone(slug)) != result.answer(one, BASE)
    ]  # fmt: skip
    if moved:
        return said(Proof.UNPROVED, f"it also moves the probe of {', '.join(moved)}")
    if whole is None:
        return said(Proof.PROVED, "1 without it, 0 with it; the whole series does not apply here")
    return said(Proof.PROVED, "1 without it, 0 with it alone")


def exit_code(result: Result, proved: Matrix | None, *, require_gpu: bool) -> ExitCode:
    """The worst of it: a check that said no, a needed patch in conflict, what could not run."""
    proofs = {one.proof for one in proved.proofs} if proved else set()
    if result.count("failed") or result.count("broke") or proofs & BAD or not result.steps:
        return ExitCode.REFUSED
    if Proof.CONFLICT in proofs:
        return ExitCode.CONFLICT
    if not result.finished or result.count("cannot-run"):
        return ExitCode.CANNOT_RUN
    if require_gpu and result.count("skipped"):
        return ExitCode.CANNOT_RUN
    return ExitCode.OK


# -- for others ----------------------------------------------------------------------------

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: Result, proved: Matrix | None) -> str:
    """JUnit XML, in the form that GitHub and Jenkins read: one test case a step and a proof."""
    suite = ET.Element("testsuite", name=f"fixtool verify {result.about['line']}")
    wrong = 0
    for step in result.steps:
        case = ET.SubElement(
            suite, "testcase", classname=f"verify.{step.kind}", name=_xml(step.name),
            time=f"{step.seconds:.1f}",
        )  # fmt: skip
        tag = {"failed": "failure", "broke": "error", "cannot-run": "error", "skipped": "skipped"}
        if kind := tag.get(step.outcome):
            ET.SubElement(case, kind, message=_xml(step.said))
            wrong += kind != "skipped"
        ET.SubElement(case, "system-out").text = _xml(step.said)
    for one in proved.proofs if proved else ():
        case = ET.SubElement(suite, "testcase", classname="verify.proof", name=one.slug, time="0")
        if one.proof in BAD or one.proof is Proof.CONFLICT:
            ET.SubElement(case, "failure", message=_xml(f"{one.proof}: {one.why}"))
            wrong += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(wrong))
    suite.set("skipped", str(result.count("skipped")))
    suite.set("time", f"{sum(one.seconds for one in result.steps):.1f}")
    ET.indent(suite)
    return ET.tostring(suite, "unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def markdown(result: Result, proved: Matrix | None) -> str:
    """A page for a pull request or a job summary."""
    about = result.about
    lines = [
        f"## fixtool verify: line `{_md(about['line'])}` on `{_md(about['onto'][:12])}`", "",
        f"{_md(where(result))}, {_md(result.started)}; " + tally(result) + ".", "",
    ]  # fmt: skip
    if proved:
        heads = [f"`{one}`" for one in proved.columns]
        lines += ["| tree | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        lines += [
            f"| `{tree}` | " + " | ".join(shown(cell) for cell in cells) + " |"
            for tree, cells in proved.rows
        ]
        lines += ["", "| patch | proof | |", "|---|---|---|"]
        lines += [f"| `{one.slug}` | {one.proof} | {_md(one.why)} |" for one in proved.proofs]
        lines.append("")
    rest = [one for one in result.steps if one.kind != "probe" or one.want is not None]
    if rest:
        lines += ["| step | outcome | s | MiB | said |", "|---|---|---|---|---|"]
        lines += [
            f"| {_md(one.name)} | {one.outcome} | {one.seconds:.1f} | {mebibytes(one)} | "
            f"{_md(one.said[:300])} |"
            for one in rest
        ]
    return "\n".join(lines).rstrip() + "\n"


def where(result: Result) -> str:
    """The device and the versions that matter, in one line."""
    environment = result.environment
    packages = environment.get("packages", {})
    names = ("torch", "triton", "transformers")
    versions = [f"{name} {packages[name]}" for name in names if packages.get(name)]
    driver = [f"driver {environment['driver']}"] if environment.get("driver") else []
    return ", ".join([devices(result), *driver, f"Python {environment.get('python')}", *versions])


def devices(result: Result) -> str:
    """``NVIDIA H100 80GB HBM3``, ``2 x NVIDIA H100 80GB HBM3``, ``CPU only (x86_64)``."""
    names = Counter(str(one.get("name")) for one in result.environment.get("gpus", ()))
    said = [name if count == 1 else f"{count} x {name}" for name, count in names.items()]
    return ", ".join(said) or f"CPU only ({result.environment.get('machine')})"


def tally(result: Result) -> str:
    """``24 steps: 23 passed, 1 skipped``"""
    parts = [f"{result.count(one)} {one}" for one in OUTCOMES if result.count(one)]
    number = len(result.steps)
    return f"{number} step{'s' * (number != 1)}: {', '.join(parts) or 'none'}"


def shown(answer: int | None) -> str:
    """A cell of the matrix."""
    return "" if answer is None else "broke" if answer == -1 else str(answer)


def mebibytes(step: StepResult) -> str:
    return "" if step.memory_bytes is None else f"{step.memory_bytes / 2**20:.0f}"


def _md(text: object) -> str:
    """Somebody's text in a table: no mention, no tag, no cell of its own."""
    plain = re.sub(r"\s+", " ", str(text))
    plain = re.sub(r"([\\`*_\[\]|<>#])", r"\\\1", plain)
    return plain.replace("@", "@\u200b")
