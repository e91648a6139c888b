"""Accuracy and speed tables for a pull request, from the results kept under verify/results/.

A result is shown only if it measured exactly the proposed changes. The result of a check names the
diff that it ran on, the benchmark of a kernel names the blob of the file that it timed, and the
benchmark of a server names the git tree. Results of other versions are listed as stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool import documents
from fixtool.errors import FixtoolError
from fixtool.markdown import Markdown, code, inline, table
from fixtool.series.line import PatchRepository
from fixtool.series.patch import Patch
from fixtool.verify.result import Result, StepResult, read_kept
from fixtool.verify.suite import BASE, alone

_LARGEST = 8 << 20  # bytes
_DTYPES = ("bf16", "fp16", "fp32")
_THIS_CHANGE = Markdown("**this change**")
_CONTENDERS = {"copy": "copying the logits", "empty": "an empty kernel"}
# Of the benchmark of the router's chain: what each row is. "apart" is kernel by kernel.
_CHAIN_ROWS = {
    "peer apart": "SGLang 0.5.23's kernels, without align",
    "chain": "**this change**, without align",
    "peer apart+align": "SGLang 0.5.23's kernels, and sgl_kernel's align",
    "chain+align": "**this change**, and its align",
    "empty": "an empty kernel",
}


@dataclass(frozen=True)
class Figure:
    """Tables as Markdown. ``about`` is the benchmark, or checks; ``sources`` are file names."""

    kind: str  # accuracy or speed
    about: str
    sources: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Figures:
    """``stale`` are the files that measured another version of one of the patches."""

    tables: tuple[Figure, ...]
    stale: tuple[str, ...]

    def of(self, kind: str) -> tuple[Figure, ...]:
        return tuple(figure for figure in self.tables if figure.kind == kind)


@dataclass(frozen=True)
class ProposedContent:
    """What a result must have measured: the patches, and the ids of their files and trees.
    ``others`` are the names of checks that test something else."""

    patches: Sequence[Patch]
    blobs: frozenset[str]
    trees: frozenset[str]
    others: frozenset[str]


@dataclass(frozen=True)
class CheckFigure:
    """One row of a table under ``heading``. ``key`` names the check and the device."""

    key: str
    heading: str
    cells: tuple[str, str, str, str]


FileFigures = Sequence[Figure | CheckFigure] | None
"""What one file shows: nothing if it measured something else, None if it measured another version
of the patches."""


def gather(repository: PatchRepository, content: ProposedContent) -> Figures:
    """All tables that the kept results give. Of each benchmark the newest counts, and of each check
    the newest on each kind of device."""
    tables: dict[str, Figure] = {}
    checks: dict[str, tuple[str, CheckFigure]] = {}
    stale: list[str] = []
    folder = repository.root / "verify" / "results"
    for file in sorted(folder.glob("*.json"), reverse=True):
        figures = _read_figures(file, content)
        if figures is None:
            stale.append(file.name)
        for figure in figures or ():
            if isinstance(figure, CheckFigure):
                checks.setdefault(figure.key, (file.name, figure))
            else:
                tables.setdefault(figure.about, figure)
    return Figures((*_check_tables(checks.values()), *tables.values()), tuple(stale))


def _check_tables(checks: Iterable[tuple[str, CheckFigure]]) -> Iterator[Figure]:
    by_heading: dict[str, list[tuple[str, CheckFigure]]] = {}
    for name, check in checks:
        by_heading.setdefault(check.heading, []).append((name, check))
    for heading, group in by_heading.items():
        names = dict.fromkeys(name for name, _ in group)
        rows = table(("", "outcome", "", "date"), [check.cells for _, check in group])
        yield Figure("accuracy", "checks", tuple(names), f"{heading}\n\n{rows}")


def _read_figures(file: Path, content: ProposedContent) -> FileFigures:
    try:
        if file.stat().st_size > _LARGEST:
            return ()
        if (kept := read_kept(file)) is not None:
            return _check_figures(kept, content)
        raw = documents.load(file)
    except (FixtoolError, OSError):
        return ()
    try:
        if isinstance(raw, dict) and "points" in raw and "peer" in raw:
            return _kernel_figures(file.name, raw, content)
        if isinstance(raw, dict) and "points" in raw and "missing" in raw:
            return _chain_figures(file.name, raw, content)
        if isinstance(raw, dict) and "boots" in raw and "contenders" in raw:
            return _server_figures(file.name, raw, content)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return ()
    return ()


def _plain(raw: Mapping[str, Any], key: str) -> str:
    """A word of a file, without effect in Markdown."""
    return inline(str(raw[key])[:100])


def _day(name: str) -> str:
    match = re.match(r"\d{4}-\d{2}-\d{2}", name)
    return match[0] if match else "of an unknown day"


def _check_figures(kept: Result, content: ProposedContent) -> FileFigures:
    about = {patch["slug"]: patch for patch in kept.about["patches"]}
    slugs = {patch.slug for patch in content.patches}
    checks = [
        step
        for step in kept.steps
        if (step.kind, step.outcome) == ("check", "passed") and step.name not in content.others
    ]
    probes = [
        step
        for step in kept.steps
        if step.kind == "probe" and step.slug in slugs and step.tree in (BASE, alone(step.slug))
    ]
    if not slugs <= about.keys() or not (checks or probes):
        return ()
    if not all(_same_diff(about[patch.slug], patch) for patch in content.patches):
        return None
    others = len(about) - len(content.patches)
    beside = f" with {others} more patches that are not part of this" if others else ""
    heading = f"{inline(kept.host)}, on {code(kept.about['onto'][:12])}{beside}:"
    return [
        CheckFigure(f"{step.name} on {kept.place}", heading, (*_row(step), kept.started[:10]))
        for step in (*probes, *checks)
    ]


def _row(step: StepResult) -> tuple[str, str, str]:
    comment = code(step.said, 160)
    if step.kind != "probe":
        return code(step.name), step.outcome, comment
    what = "the bug without this change" if step.tree == BASE else "the bug with it"
    outcome = {1: "there", 0: "not there", None: "?"}.get(step.answer, "?")
    return what, outcome, comment


def _same_diff(about: Mapping[str, Any], patch: Patch) -> bool:
    """Whether a result measured this diff. A new message or trailer does not outdate it."""
    return bool(about.get("diff") == patch.diff_digest or about["sha256"] == patch.digest)


def _kernel_figures(name: str, raw: Mapping[str, Any], content: ProposedContent) -> FileFigures:
    timed = {
        entry.partition("=")[0]: blob for entry, blob in raw["files"].items() if "@" not in entry
    }
    mine = next((kernel for kernel, blob in timed.items() if blob in content.blobs), None)
    if mine is None:
        return None if _is_about(raw, content) else ()
    tables: list[str] = []
    for dtype in _DTYPES:
        points = [point for point in raw["points"] if point["part"] == dtype]
        if not points:
            continue
        peers = raw.get("peers", [raw["peer"]])
        kernels = [kernel for kernel in ("torch ops", *peers, mine, "copy", "empty")
                   if kernel and kernel in points[0]["us"]]  # fmt: skip
        rows = [
            (_THIS_CHANGE if kernel == mine else _CONTENDERS.get(kernel, str(kernel)),
             *(f"{point['us'][kernel][0]:.2f}" for point in points))
            for kernel in kernels
        ]  # fmt: skip
        columns = (f"{dtype}, tokens", *(f"{int(point['T']):,}" for point in points))
        tables.append(table(columns, rows))
    first = raw["points"][0]
    heading = (
        f"{_plain(raw, 'device')}, torch {_plain(raw, 'torch')}, triton {_plain(raw, 'triton')}, "
        f"{_day(name)}: median µs a call in a CUDA graph, {int(first['E'])} experts, "
        f"top-{int(first['K'])}. Every result was compared with a float64 oracle first."
    )
    return [Figure("speed", "kernel", (name,), "\n\n".join([heading, *tables]))]


def _chain_figures(name: str, raw: Mapping[str, Any], content: ProposedContent) -> FileFigures:
    if content.blobs.isdisjoint(raw["files"].values()):
        return None if _is_about(raw, content) else ()
    points = [point for point in raw["points"] if "chain" in point["cold"]]
    rows = [
        (Markdown(label), *(f"{point['cold'][row][0]:.2f}" if row in point["cold"] else "-"
                            for point in points))
        for row, label in _CHAIN_ROWS.items()
        if any(row in point["cold"] for point in points)
    ]  # fmt: skip
    if not rows:
        return ()
    heading = (
        f"{_plain(raw, 'device')}, torch {_plain(raw, 'torch')}, triton {_plain(raw, 'triton')}, "
        f"{_day(name)}: median µs a call in a CUDA graph with cold weights, 128 experts, 2,816 "
        "channels, top-8, from the residual to the experts' ids and their input. Every answer was "
        "compared with float64 first."
    )
    columns = ("bf16, tokens", *(f"{int(point['T']):,}" for point in points))
    return [Figure("speed", "chain", (name,), f"{heading}\n\n{table(columns, rows)}")]


def _is_about(raw: Mapping[str, Any], content: ProposedContent) -> bool:
    """Whether the benchmark was made for one of these patches."""
    return any(patch.slug == raw.get("patch") for patch in content.patches)


def _server_figures(name: str, raw: Mapping[str, Any], content: ProposedContent) -> FileFigures:
    trees = {server: about["python_tree"] for server, about in raw["contenders"].items()}
    changed = next((server for server in ("series", "chain") if server in trees), None)
    before = next((server for server in ("fixes", "upstream") if server in trees), None)
    if changed is None or before is None or not _is_about(raw, content):
        return ()
    if trees[changed] not in content.trees:
        return None
    rows = []
    for batch, rates in raw["summary"]["decode"].items():
        share = raw["summary"]["routing"].get(batch, {})
        row = [f"batch {batch}"]
        for server in (before, changed):
            routing = f", {share[server]['share_percent']:.2f}%" if server in share else ""
            row.append(f"{rates[server]['median']:.0f}{routing}")
        row.append(f"{rates[changed]['median'] / rates[before]['median']:.3f}x")
        rows.append(row)
    heading = (
        f"{_plain(raw, 'device')}, {_day(name)}: decode tokens/s, and routing's share of the GPU's "
        f"time; 26B-A4B's shapes, {int(raw['layers'])} layers, weights made up, "
        f"{len(raw['boots'])} boots in "
        "turns."
    )
    rows_text = table(("", "without", "with this change", "ratio"), rows)
    return [Figure("speed", "serving", (name,), f"{heading}\n\n{rows_text}")]
