"""Accuracy and speed tables for a pull request, from the results kept under verify/results/.

Only what was measured of these very changes counts: a check's result names the diff that it was
of, a benchmark of a kernel the blob of the file that it timed, one of servers the git tree. What
was measured of another version is named, and not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool.errors import FixtoolError
from fixtool.markdown import code, table
from fixtool.series.line import PatchRepository
from fixtool.series.patch import Patch
from fixtool.verify import result as evidence
from fixtool.verify.result import Result, StepResult
from fixtool.verify.suite import BASE, alone

_LARGEST = 8 << 20  # bytes
_DTYPES = ("bf16", "fp16", "fp32")
_PLAIN = {"copy": "copying the logits", "empty": "an empty kernel"}


@dataclass(frozen=True)
class Figure:
    """Tables as Markdown, what they are about, and the files that they are from."""

    kind: str  # accuracy or speed
    about: str
    sources: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Figures:
    """``stale`` are files that speak of a patch of the proposal, in another version."""

    tables: tuple[Figure, ...]
    stale: tuple[str, ...]

    def of(self, kind: str) -> tuple[Figure, ...]:
        return tuple(one for one in self.tables if one.kind == kind)


@dataclass(frozen=True)
class ProposedContent:
    """What a result must be of: the proposal's patches, and the ids of its files and trees;
    ``others`` are checks of something else."""

    patches: Sequence[Patch]
    blobs: frozenset[str]
    trees: frozenset[str]
    others: frozenset[str]


@dataclass(frozen=True)
class CheckFigure:
    """A row of a table under ``head``; ``key`` is what was checked, and on what."""

    key: str
    head: str
    cells: tuple[str, str, str, str]


Found = Sequence[Figure | CheckFigure] | None
"""What a file gives: nothing where it is of something else, None where of another version."""


def gather(repository: PatchRepository, subject: ProposedContent) -> Figures:
    """Every table that the kept results give: of a benchmark the newest, and of each check the
    newest that ran on such a device."""
    tables: list[Figure] = []
    checks: dict[str, tuple[str, CheckFigure]] = {}
    stale: list[str] = []
    folder = repository.root / "verify" / "results"
    for file in sorted(folder.glob("*.json"), reverse=True):
        found = _one(file, subject)
        if found is None:
            stale.append(file.name)
        for one in found or ():
            if isinstance(one, CheckFigure):
                checks.setdefault(one.key, (file.name, one))
            elif one.about not in {each.about for each in tables}:
                tables.append(one)
    return Figures((*_under_heads(checks.values()), *tables), tuple(stale))


def _under_heads(checks: Iterable[tuple[str, CheckFigure]]) -> Iterator[Figure]:
    heads: dict[str, list[tuple[str, CheckFigure]]] = {}
    for name, one in checks:
        heads.setdefault(one.head, []).append((name, one))
    for head, under in heads.items():
        names = dict.fromkeys(name for name, _ in under)
        rows = table(("", "outcome", "", "date"), [one.cells for _, one in under])
        yield Figure("accuracy", "checks", tuple(names), f"{head}\n\n{rows}")


def _one(file: Path, subject: ProposedContent) -> Found:
    try:
        if file.stat().st_size > _LARGEST:
            return ()
        kept = evidence.read_kept(file)
        raw = json.loads(file.read_text("utf-8")) if kept is None else {}
    except (FixtoolError, OSError, ValueError):
        return ()
    if kept is not None:
        return _checked(kept, subject)
    if not isinstance(raw, dict):
        return ()
    try:
        if "points" in raw and "peer" in raw:
            return _timed(file.name, raw, subject)
        if "boots" in raw and "contenders" in raw:
            return _served(file.name, raw, subject)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ()
    return ()


def _day(name: str) -> str:
    found = re.match(r"\d{4}-\d{2}-\d{2}", name)
    return found[0] if found else "of an unknown day"


def _checked(kept: Result, subject: ProposedContent) -> Found:
    about = {one["slug"]: one for one in kept.about["patches"]}
    mine = [one for one in subject.patches if one.slug in about]
    own = {one.slug for one in subject.patches}
    checks = [one for one in kept.steps if (one.kind, one.outcome) == ("check", "passed")]
    checks = [one for one in checks if one.name not in subject.others]
    probes = [one for one in kept.steps if one.kind == "probe" and one.slug in own]
    probes = [one for one in probes if one.tree in (BASE, alone(one.slug or ""))]
    if len(mine) < len(subject.patches) or not (checks or probes):
        return ()
    if not all(_is_of(about[one.slug], one) for one in mine):
        return None
    others = len(about) - len(mine)
    beside = f" with {others} more patches that are not part of this" if others else ""
    head = f"{evidence.where(kept)}, on {kept.about['onto'][:12]}{beside}:"
    return [
        CheckFigure(f"{one.name} on {kept.place}", head, (*_row(one), kept.started[:10]))
        for one in (*probes, *checks)
    ]


def _row(one: StepResult) -> tuple[str, str, str]:
    said = code(one.said, 160)
    if one.kind != "probe":
        return code(one.name), one.outcome, said
    what = "the bug without this change" if one.tree == BASE else "the bug with it"
    outcome = {1: "there", 0: "not there", None: "?"}.get(one.answer, "?")
    return what, outcome, said


def _is_of(about: Mapping[str, Any], patch: Patch) -> bool:
    """By its diff: a new message or trailer leaves what was measured as it was."""
    return bool(about.get("diff") == patch.diff_digest or about["sha256"] == patch.digest)


def _timed(name: str, raw: Mapping[str, Any], subject: ProposedContent) -> Found:
    timed = {said.partition("=")[0]: blob for said, blob in raw["files"].items() if "@" not in said}
    mine = next((one for one, blob in timed.items() if blob in subject.blobs), None)
    if mine is None:
        return None if _speaks_of(raw, subject) else ()
    found: list[str] = []
    for dtype in _DTYPES:
        points = [one for one in raw["points"] if one["part"] == dtype]
        if not points:
            continue
        peers = raw.get("peers", [raw["peer"]])
        others = [one for one in ("torch ops", *peers, mine, "copy", "empty")
                  if one and one in points[0]["us"]]  # fmt: skip
        rows = [
            ("**this change**" if other == mine else _PLAIN.get(other, other),
             *(f"{one['us'][other][0]:.2f}" for one in points))
            for other in others
        ]  # fmt: skip
        heads = (f"{dtype}, tokens", *(f"{one['T']:,}" for one in points))
        found.append(table(heads, rows))
    first = raw["points"][0]
    head = (
        f"{raw['device']}, torch {raw['torch']}, triton {raw['triton']}, {_day(name)}: median µs a "
        f"call in a CUDA graph, {first['E']} experts, top-{first['K']}. Every result was compared "
        "with a float64 oracle first."
    )
    return [Figure("speed", "kernel", (name,), "\n\n".join([head, *found]))]


def _speaks_of(raw: Mapping[str, Any], subject: ProposedContent) -> bool:
    """Whether it was made to show what one of these patches changes."""
    return any(one.slug == raw.get("patch") for one in subject.patches)


def _served(name: str, raw: Mapping[str, Any], subject: ProposedContent) -> Found:
    whose = {one: about["python_tree"] for one, about in raw["contenders"].items()}
    if "series" not in whose or "fixes" not in whose or not _speaks_of(raw, subject):
        return ()
    if whose["series"] not in subject.trees:
        return None
    rows = []
    for batch in raw["summary"]["decode"]:
        cells = raw["summary"]["decode"][batch]
        share = raw["summary"]["routing"].get(batch, {})
        row = [f"batch {batch}"]
        for one in ("fixes", "series"):
            routed = f", {share[one]['share_percent']:.2f}%" if one in share else ""
            row.append(f"{cells[one]['median']:.0f}{routed}")
        row.append(f"{cells['series']['median'] / cells['fixes']['median']:.3f}x")
        rows.append(row)
    head = (
        f"{raw['device']}, {_day(name)}: decode tokens/s, and routing's share of the GPU's time; "
        f"26B-A4B's shapes, {raw['layers']} layers, weights made up, {len(raw['boots'])} boots in "
        "turns."
    )
    text = table(("", "without", "with this change", "ratio"), rows)
    return [Figure("speed", "serving", (name,), f"{head}\n\n{text}")]
