"""Chooses the line of patches that fits a commit best, by judging the lines there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from packaging.version import Version

from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError
from fixtool.git.repo import Repo
from fixtool.history.ancestry import ahead_by
from fixtool.history.recorded import RecordedState, claims_of
from fixtool.judgement._known import is_base, read_recorded
from fixtool.judgement.run import Judgement, JudgeRequest, judge
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.lint import require_well_formed
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.text import count


@dataclass(frozen=True)
class Choice:
    """A line, and the reason why it was chosen, as a person reads it. ``runner_up`` names another
    line that would have done as well; None if there is none. ``notes`` say what a person should
    know of the lines. ``lacks`` are the slugs of other lines' patches that the target needs, as
    their recorded facts say, and that this line does not have."""

    line: Line
    why: str
    judgement: Judgement
    runner_up: str | None = None
    notes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nobody is needed."""
        return self.judgement.ok and not self.lacks


@dataclass(frozen=True)
class _Candidate:
    """A judged line. ``near`` says how it is the nearest; ``lacks`` are the slugs of other lines'
    patches that the target needs, as their recorded facts say, and that this line does not have."""

    line: Line
    near: str
    rank: int
    judgement: Judgement
    lacks: tuple[str, ...]

    @property
    def asks(self) -> int:
        """How many patches need a person."""
        return sum(patch.needs_person for patch in self.judgement.patches) + len(self.lacks)

    @property
    def carries(self) -> int:
        return sum(patch.result.commit is not None for patch in self.judgement.patches)

    @property
    def order(self) -> tuple[int, int, int, int]:
        return (self.asks, len(self.lacks), -self.carries, self.rank)


def choose_line(
    context: Context,
    source: Source,
    target: Target,
    wanted: str | None,
    request: JudgeRequest | None = None,
) -> Choice:
    """The line ``wanted``. Without a wish, the line whose base is the target. Otherwise every line
    is judged on the target, and that one is chosen of whose patches the fewest need a person. Among
    several, it is the one that carries the most patches, and among these the nearest.

    A line whose patch files are damaged is refused if it is wanted, or if no other line will do.
    A line whose base cannot be had is passed over, with a note. Raises UsageError if there is no
    line at all, or none of the name ``wanted``.
    """
    repository = context.repository
    if wanted:
        line, why = repository.line(wanted), "asked for"
    elif not (lines := _lines_of(context, target)):
        raise UsageError(f"{repository.folder} has no line", hint="fixtool init starts one")
    elif own := next((line for line in lines if is_base(line, target)), None):
        line, why = own, "its base is this very commit"
    elif len(lines) == 1:
        only = len(repository.line_names) == 1
        line, why = lines[0], "the only line" if only else "the only line of its upstream"
    else:
        return _with_history(
            context, source, target, request, _best(context, source, target, request)
        )
    require_well_formed(line, context.settings.cache / "patches")
    choice = Choice(line, why, judge(context, source, target, line, request))
    return _with_history(context, source, target, request, choice)


def _with_history(
    context: Context, source: Source, target: Target, request: JudgeRequest | None, choice: Choice
) -> Choice:
    """The choice with its line judged once more if a patch of it needs a person: then upstream's
    history is worth a fetch, since it may explain the conflict."""
    request = request or JudgeRequest()
    if choice.judgement.ok or choice.judgement.history_read or request.bring_history:
        return choice
    asking = replace(request, bring_history=True)
    return replace(choice, judgement=judge(context, source, target, choice.line, asking))


def _lines_of(context: Context, target: Target) -> tuple[Line, ...]:
    """The lines that are for the upstream of ``target``."""
    lines = context.repository.lines
    return tuple(line for line in lines if not target.lines or line.name in target.lines)


def _best(context: Context, source: Source, target: Target, request: JudgeRequest | None) -> Choice:
    lines = _lines_of(context, target)
    notes: list[str] = []
    failures: list[FixtoolError] = []
    recorded: dict[str, Mapping[str, RecordedState]] = {}
    for line in lines:
        try:
            require_well_formed(line, context.settings.cache / "patches")
            recorded[line.name] = read_recorded(source, target, line)
        except (CannotRun, Refused) as error:
            failures.append(error)
            notes.append(f"line {line.name} was passed over: {error.message}")
    states = [(slug, state) for states in recorded.values() for slug, state in states.items()]
    needed = {slug for slug, state in states if state.needed}
    most = len({slug for slug, state in states} - {slug for slug, state in states if state.state})
    candidates: list[_Candidate] = []
    ancestry = _ancestry(source, target, [line for line in lines if line.name in recorded])
    for rank, (line, near) in enumerate(_by_nearness(lines, target, ancestry)):
        if line.name not in recorded:
            continue
        try:
            judgement = judge(context, source, target, line, request, recorded[line.name])
        except CannotRun as error:
            failures.append(error)
            notes.append(f"line {line.name} was not judged: {error.message}")
            continue
        lacks = tuple(sorted(needed - {entry.slug for entry in line.entries}))
        candidates.append(_Candidate(line, near, rank, judgement, lacks))
        if candidates[-1].asks == 0 and candidates[-1].carries >= most:
            break  # no line can carry more, and all others are farther
    if not candidates:
        raise failures[0]
    return _choice(candidates, notes)


def _ancestry(source: Source, target: Target, lines: Sequence[Line]) -> Repo:
    """The repository that knows how far the target is from the bases: upstream's commits, if they
    were read for the recorded facts of ``lines``, or else what the source has here."""
    known = any(claims_of(patch) for line in lines for patch in line.patches)
    return (source.commits(target.commit) if known else None) or source.repo


def _choice(candidates: Sequence[_Candidate], notes: Sequence[str]) -> Choice:
    best, *others = sorted(candidates, key=lambda candidate: candidate.order)
    why = best.near
    nearer = [candidate for candidate in others if candidate.rank < best.rank]
    if nearer:
        first = min(nearer, key=lambda candidate: candidate.rank)
        if first.asks > best.asks:
            fault = f"needs a person for {count(first.asks, 'patch')}"
        else:
            fault = f"carries only {count(first.carries, 'patch')}"
        why += f"; line {first.line.name} is nearer, and {fault}"
    equal = (other for other in others if other.order[:-1] == best.order[:-1])
    runner_up = next((other.line.name for other in equal), None)
    lacking = (
        f"{slug} is needed here, as its recorded facts say, and line {best.line.name} lacks it"
        for slug in best.lacks
    )
    return Choice(best.line, why, best.judgement, runner_up, (*lacking, *notes), best.lacks)


def _by_nearness(lines: Sequence[Line], target: Target, repo: Repo) -> list[tuple[Line, str]]:
    """The lines, the nearest first, each with words for how near it is. Lines whose base is an
    ancestor of the target come first, by the number of commits between. The others follow by their
    release if the target is a release, else by the date of their base."""
    distances = {
        # An imported release has no commits before it.
        line.name: None if target.release else ahead_by(repo, line.upstream.base, target.commit)
        for line in lines
    }
    descending = [(distance, line) for line in lines
                  if (distance := distances[line.name]) is not None]  # fmt: skip
    descending.sort(key=lambda pair: pair[0])
    near = [
        (line, f"{target.commit[:12]} is {count(distance, 'commit')} after its base")
        for distance, line in descending
    ]
    rest = [line for line in lines if distances[line.name] is None]
    if target.version is not None:
        version = Version(target.version)
        rest.sort(key=lambda line: _version_distance(line, version))
        near += [(line, f"its release is {line.upstream.version}") for line in rest]
    elif rest:
        day = repo.read_commit(target.commit).committer.day
        rest.sort(key=lambda line: abs(date.fromisoformat(line.upstream.date) - day))
        near += [(line, f"its base is of {line.upstream.date}, and the target of {day}")
                 for line in rest]  # fmt: skip
    return near


def _version_distance(line: Line, target: Version) -> tuple[int, int, bool, tuple[int, ...], bool]:
    """How far the release of a line is from ``target``. A release with more leading numbers in
    common is nearer, then one whose first other number is nearer. Of two that are as far, the one
    below the target is nearer, and a line for a release is nearer than one for a commit."""
    version = Version(line.upstream.version)
    ours, theirs = ((*number.release, 0, 0, 0)[:4] for number in (version, target))
    pairs = list(zip(ours, theirs, strict=True))
    common = next((place for place, (own, wanted) in enumerate(pairs) if own != wanted), len(pairs))
    distance = abs(pairs[common][0] - pairs[common][1]) if common < len(pairs) else 0
    above = version > target
    rest = tuple(number if above else -number for number in ours[common:])
    return -common, distance, above, rest, line.upstream.release is None
