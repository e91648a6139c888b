"""The nights of a patch repository: what the nightly rebase made of each line, night after night.

A folder of nights holds one folder for each night, which is named by its day (``2026-11-27``) or by
its day and time in UTC (``2026-11-27T024300Z``). In it, ``LINE.json`` is what ``fixtool rebase
--json`` printed about that line. ``ci/nightly`` keeps the nights in this form.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

from fixtool import __version__, documents
from fixtool.documents import Failure
from fixtool.errors import FixtoolError, Mistyped, Refused, UsageError
from fixtool.files import beside
from fixtool.history.log import UpstreamCommit
from fixtool.rebase.result import Action, Rebased, read_rebased
from fixtool.replay.verdict import Verdict
from fixtool.report.todo import ToDo, rebase_todos
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository

_NIGHT = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{6}Z)?")
_MOST = 400  # nights of one page: more than a year


class NightState(StrEnum):
    """What a night means for a line."""

    GREEN = "green"  # nobody is needed
    ASKED = "asked"  # a person has to decide, or should look
    FAILED = "failed"  # the rebase could not run, or was refused


def night_state(rebase: Rebased | Failure) -> NightState:
    """The state of the line after this rebase."""
    if isinstance(rebase, Failure):
        return NightState.FAILED
    return NightState.ASKED if rebase_todos(rebase) else NightState.GREEN


@dataclass(frozen=True)
class LineNight:
    """What one ``night`` made of a line."""

    night: str
    rebase: Rebased | Failure

    @property
    def state(self) -> NightState:
        return night_state(self.rebase)

    @property
    def day(self) -> date:
        return date.fromisoformat(self.night[:10])


@dataclass(frozen=True)
class Wait:
    """A patch of ``line`` that a person was asked about on every night from ``first`` on. ``last``
    is the first night on which nobody was asked any more, and None if the patch still waits;
    ``days`` is how many days passed until then, or until the newest night."""

    line: str
    slug: str
    first: str
    last: str | None
    days: int
    culprit: UpstreamCommit | None


@dataclass(frozen=True)
class TroubledFile:
    """An upstream file, and how often it stopped a patch (``conflicts``) or needed a three-way
    merge (``merges``). One night counts once for each patch of each line."""

    path: str
    conflicts: int
    merges: int
    patches: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PatchText:
    """A patch file of a line as it is now."""

    slug: str
    subject: str
    text: str


@dataclass(frozen=True)
class LineNights:
    """A line as it is now, and its nights, the oldest first. ``url`` is upstream's address, and
    ``base`` the release or the commit id that the patches are written for. ``problem`` says why the
    line cannot be read; then the texts about it are empty."""

    name: str
    nights: tuple[LineNight, ...]
    url: str = ""
    base: str = ""
    patches: tuple[PatchText, ...] = ()
    problem: str | None = None

    @property
    def newest(self) -> LineNight | None:
        return self.nights[-1] if self.nights else None

    @property
    def todos(self) -> tuple[ToDo, ...]:
        """What the newest night asks of a person."""
        return rebase_todos(self.newest.rebase) if self.newest else ()


@dataclass(frozen=True)
class NightsReport:
    """Everything that the page about all lines shows. ``nights`` are the names of the nights, the
    oldest first; ``made`` is the time of making, ISO 8601."""

    made: str
    version: str
    nights: tuple[str, ...]
    lines: tuple[LineNights, ...]
    waits: tuple[Wait, ...]
    files: tuple[TroubledFile, ...]

    @property
    def todos(self) -> tuple[tuple[str, ToDo], ...]:
        """The name of a line and what it asks of a person: what has to be done comes first."""
        found = [(line.name, todo) for line in self.lines for todo in line.todos]
        return tuple(sorted(found, key=lambda pair: not pair[1].act))


def read_nights(context: Context, folder: Path) -> NightsReport:
    """The report on the lines of a repository over the nights in ``folder``.

    Raises UsageError if there is no such folder, and Refused if a folder in it is not named as a
    night, or if it holds no night. A document that cannot be read makes that night a failed one of
    its line: it must not hide all the others.
    """
    if not folder.is_dir():
        raise UsageError(
            f"no such folder: {folder}",
            where=str(folder),
            hint="name the folder in which ci/nightly keeps its nights: --nights DIR",
            mistyped=Mistyped(str(folder), beside(folder)),
        )
    nights = _night_folders(folder)
    by_line: dict[str, list[LineNight]] = defaultdict(list)
    for night in nights:
        for path in sorted((folder / night).glob("*.json")):
            by_line[path.stem].append(LineNight(night, _read(path)))
    names = context.repository.line_names
    gone = sorted(by_line.keys() - set(names))
    lines = tuple(
        _line_nights(context.repository, name, tuple(by_line[name])) for name in (*names, *gone)
    )
    made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return NightsReport(
        made, __version__, tuple(nights), lines, tuple(find_waits(lines)), tuple(find_files(lines))
    )


def _line_nights(
    repository: PatchRepository, name: str, nights: tuple[LineNight, ...]
) -> LineNights:
    if name not in repository.line_names:
        return LineNights(name, nights, problem="The repository does not have this line any more.")
    try:
        line = repository.line(name)
        patches = tuple(
            PatchText(patch.slug, patch.subject, patch.raw.decode("utf-8", "replace"))
            for patch in line.patches
        )
    except FixtoolError as error:  # one broken line must not hide the others
        return LineNights(name, nights, problem=f"The line cannot be read: {error.message}.")
    base = line.upstream.release or line.upstream.base
    return LineNights(name, nights, line.upstream.url, base, patches)


def _night_folders(folder: Path) -> list[str]:
    """The names of the newest nights in ``folder``, the oldest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    hint = "name the folder of a night by its day, such as 2026-11-27 or 2026-11-27T024300Z"
    for name in found:
        if not _is_night(name):
            where = str(folder / name)
            raise Refused(f"{name[:100]!r} is not the name of a night", where=where, hint=hint)
    if not found:
        raise Refused(
            f"{folder} holds no night: a folder such as 2026-11-27 for each",
            where=str(folder),
            hint="name the folder in which ci/nightly keeps its nights: --nights DIR",
        )
    return sorted(found)[-_MOST:]


def _is_night(name: str) -> bool:
    try:
        return bool(_NIGHT.fullmatch(name) and date.fromisoformat(name[:10]))
    except ValueError:  # there is no such day
        return False


def _read(path: Path) -> Rebased | Failure:
    try:
        rebased = read_rebased(documents.load(path), str(path))
    except FixtoolError as error:
        return Failure("rebase", error.message, error.where, error.hint)
    if isinstance(rebased, Rebased):  # its work tree is on the machine of that night, if anywhere
        return replace(rebased, parked=None)
    return rebased


def find_waits(lines: Iterable[LineNights]) -> list[Wait]:
    """The patches that waited for a person: those that still wait first, the longest first. A night
    that failed says nothing about a patch, so it does not end a wait."""
    waits = [wait for line in lines for wait in _waits_of(line)]
    return sorted(waits, key=lambda wait: (wait.last is not None, -wait.days, wait.first))


def _waits_of(line: LineNights) -> Iterable[Wait]:
    begun: dict[str, tuple[LineNight, UpstreamCommit | None]] = {}
    for night in line.nights:
        if isinstance(night.rebase, Failure):
            continue
        asked = {
            outcome.result.slug: outcome.culprit
            for outcome in night.rebase.outcomes
            if outcome.action is Action.ASKED and outcome.result.verdict is not Verdict.BLOCKED
        }
        for slug in begun.keys() - asked.keys():
            first, culprit = begun.pop(slug)
            days = (night.day - first.day).days
            yield Wait(line.name, slug, first.night, night.night, days, culprit)
        for slug, culprit in asked.items():
            begun.setdefault(slug, (night, culprit))
    for slug, (first, culprit) in begun.items():
        days = (line.nights[-1].day - first.day).days
        yield Wait(line.name, slug, first.night, None, days, culprit)


def find_files(lines: Iterable[LineNights]) -> list[TroubledFile]:
    """The upstream files that hurt, those with the most conflicts first."""
    times: Mapping[str, dict[Verdict, int]] = defaultdict(lambda: defaultdict(int))
    patches: Mapping[str, set[str]] = defaultdict(set)
    names: Mapping[str, set[str]] = defaultdict(set)
    for line in lines:
        for rebased in (night.rebase for night in line.nights):
            for outcome in rebased.outcomes if isinstance(rebased, Rebased) else ():
                for file in outcome.result.files:
                    if file.verdict in (Verdict.CONFLICT, Verdict.MERGED):
                        times[file.path][file.verdict] += 1
                        patches[file.path].add(outcome.result.slug)
                        names[file.path].add(line.name)
    files = [
        TroubledFile(path, found[Verdict.CONFLICT], found[Verdict.MERGED],
                     tuple(sorted(patches[path])), tuple(sorted(names[path])))
        for path, found in times.items()
    ]  # fmt: skip
    return sorted(files, key=lambda file: (-file.conflicts, -file.merges, file.path))
