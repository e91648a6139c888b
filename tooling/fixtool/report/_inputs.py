"""What a report is made from: documents of other commands, kept verify results, and a plot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from fixtool import __version__, documents
from fixtool.documents import Failure
from fixtool.errors import Mistyped, Refused, UsageError
from fixtool.files import beside
from fixtool.history.result import History, HistoryDocument, read_history
from fixtool.judgement.covered import Coverage, read_coverage
from fixtool.rebase.result import Rebased, read_rebased
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.text import argument
from fixtool.verify.result import Result, read_kept

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PLOT = 4 << 20  # bytes; the plot is inside the page


@dataclass(frozen=True)
class ReportRequest:
    """What to make a report of, and the folder ``output`` for its two files.

    ``history``, ``rebase`` and ``coverage`` are files with the JSON of these commands, ``results``
    is a folder of kept verify results, and ``plot`` is a PNG.
    """

    output: Path
    line: str | None = None
    history: Path | None = None
    rebase: Path | None = None
    results: Path | None = None
    plot: Path | None = None
    coverage: Path | None = None


@dataclass(frozen=True)
class KeptResult:
    """The verify result in the file ``name``. ``current`` says whether it is about the patches as
    they are now."""

    name: str
    result: Result
    current: bool


@dataclass(frozen=True)
class Plot:
    """``link`` leads from the Markdown file to the plot's own file."""

    name: str
    png: bytes
    link: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the file's header."""
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        return width, height


@dataclass(frozen=True)
class Report:
    """Everything that a report shows about a line. ``url`` is upstream's address and ``made`` the
    time of making, ISO 8601. A document that is not there is None, and the document of a command
    that failed is a Failure."""

    line: str
    url: str | None
    made: str
    version: str
    history: HistoryDocument | Failure | None = None
    rebase: Rebased | Failure | None = None
    results: tuple[KeptResult, ...] = ()
    plot: Plot | None = None
    coverage: Coverage | Failure | None = None


def gather(context: Context, request: ReportRequest, trace: Callable[[Line], History]) -> Report:
    """Read what ``request`` names. If it names no history, ``trace`` makes one of the line.

    Raises UsageError if a file is missing or the files are about different lines, and Refused if a
    file is not what it should be.
    """
    root, wanted = context.repository.root, (request.history, request.rebase)
    history_json, rebase_json = (documents.load(path) if path else None for path in wanted)
    history = read_history(history_json, str(request.history)) if request.history else None
    rebased = read_rebased(rebase_json, str(request.rebase)) if request.rebase else None
    coverage = None
    if request.coverage:
        coverage = read_coverage(
            documents.load(request.coverage, "fixtool coverage --json"), str(request.coverage)
        )
    name = _line_name(request.line, history, rebased)
    line = context.repository.line(name) if name in context.repository.line_names else None
    if name is None or history is None:
        line = context.repository.pick(name or context.settings.line)
        name = line.name
        history = history or HistoryDocument(name, trace(line), None)
    folder = request.results or root / "verify" / "results"
    if request.results and not folder.is_dir():
        raise UsageError(
            f"no such folder: {folder}",
            where=str(folder),
            hint=f"ls {argument(folder.parent)}",
            mistyped=Mistyped(str(folder), beside(folder)),
        )
    return Report(
        name, line.upstream.url if line else None,
        datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), __version__,
        history, _without_foreign_session(rebased), _kept_results(folder, name, line),
        _plot(request.plot, folder, root, request.output), coverage,
    )  # fmt: skip


def _line_name(
    wanted: str | None,
    history: HistoryDocument | Failure | None,
    rebased: Rebased | Failure | None,
) -> str | None:
    """The line that the request and the documents are about; None if none of them says."""
    names: list[tuple[str, ...]] = [(wanted,)] if wanted else []
    if isinstance(history, HistoryDocument):
        names.append((history.line,))
    if isinstance(rebased, Rebased):
        names.append((rebased.line, *([rebased.new_line] if rebased.new_line else [])))
    common = set(names[0]).intersection(*names[1:]) if names else set()
    if names and not common:
        lines = ", ".join(choice[0][:100] for choice in names)
        raise UsageError(f"these are of different lines: {lines}", hint="give one line's files")
    return names[0][0] if len(common) > 1 else min(common, default=None)


def _without_foreign_session(rebased: Rebased | Failure | None) -> Rebased | Failure | None:
    """``rebased`` without a conflict that waits in a work tree of another machine: a reader of this
    report has to start the rebase anew."""
    parked = rebased.parked if isinstance(rebased, Rebased) else None
    if isinstance(rebased, Rebased) and parked and not Path(parked.worktree).is_dir():
        return replace(rebased, parked=None)
    return rebased


def _kept_results(folder: Path, name: str, line: Line | None) -> tuple[KeptResult, ...]:
    """The results in ``folder`` about the line ``name``, newest first.

    A check is kept in the newest result of each machine only, so that a laptop's result does not
    hide a GPU's, and a run of one check does not hide the others. Probes are kept in every result
    that remains, because a matrix is made of one run. Results without a step to show are left out.
    """
    current = [(patch.slug, patch.digest) for patch in (line.patches if line else ())]
    paths = (path for path in folder.glob("*.json") if path.is_file())
    read = ((read_kept(path), path.name) for path in paths)
    ours = [(result, file) for result, file in read if result and result.about["line"] == name]
    kept: list[KeptResult] = []
    shown: set[tuple[str, str]] = set()
    for result, file in sorted(ours, key=lambda pair: (pair[0].started, pair[1]), reverse=True):
        new = [step for step in result.steps if (step.name, result.place) not in shown]
        shown |= {(step.name, result.place) for step in new}
        if new:
            patches = [(patch["slug"], patch["sha256"]) for patch in result.about["patches"]]
            steps = tuple(step for step in result.steps if step in new or step.kind == "probe")
            kept.append(KeptResult(file, replace(result, steps=steps), patches == current))
    return tuple(kept)


def _plot(wanted: Path | None, results: Path, root: Path, output: Path) -> Plot | None:
    """The plot at ``wanted``, else the last by name beside the results or the benchmark."""
    folders = [results, root / "verify" / "bench" / "results", root / "verify" / "bench"]
    pngs = next((paths for folder in folders if (paths := sorted(folder.glob("*.png")))), [None])
    path = wanted or pngs[-1]
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"no such file: {path}", where=str(path))
    if path.stat().st_size > _LARGEST_PLOT:
        raise Refused(f"{path.name} is over {_LARGEST_PLOT >> 20} MiB", where=str(path))
    png = path.read_bytes()
    if not png.startswith(_PNG) or png[12:16] != b"IHDR" or len(png) < 33:
        raise Refused(f"{path.name} is not a PNG", where=str(path))
    return Plot(path.name, png, os.path.relpath(path.resolve(), output.resolve()))
