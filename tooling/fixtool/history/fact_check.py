"""Checks whether the recorded facts of a line are true, against upstream's commits.

Each commit must be in the source and be the pull request that the trailer names. The line's own
base must hold what brought the bug, and must not hold its cure: else the patch has nothing to do
there. The first release must be the one that the clone's tags show. What could not be checked is a
finding too, of the level ``note``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from fixtool.errors import CannotRun, FixtoolError
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.history.ancestry import Landing, UpstreamLog, read_upstream
from fixtool.history.log import upstream_commit
from fixtool.history.tags import ReleaseTags, release_tags
from fixtool.series.context import Context
from fixtool.series.facts import FactKind, FactTrailer, RecordedFact, fact_trailers
from fixtool.series.line import Line
from fixtool.series.lint import Finding, Level
from fixtool.series.patch import Patch
from fixtool.sources.source import Local, Source, open_source
from fixtool.sources.target import line_source
from fixtool.text import argument, count, visible

_REFUSED = "not our ref"  # what a server answers that was asked for a commit which it does not have


def check_facts(context: Context, line: Line, source: str | None) -> tuple[Finding, ...]:
    """Check the recorded facts of the patches of ``line`` against the source called ``source``, or
    the one of the settings."""
    patches = [_Recorded(patch, _usable(patch)) for patch in line.patches]
    patches = [recorded for recorded in patches if recorded.trailers]
    if not patches:
        return ()
    upstream = _Upstream(context, line, source)
    findings = [finding for recorded in patches for finding in _check(upstream, recorded)]
    return (*findings, *upstream.notes())


@dataclass(frozen=True)
class _Recorded:
    """A patch, and those of its trailers that record a fact."""

    patch: Patch
    trailers: Sequence[FactTrailer]

    def where(self, trailer: FactTrailer) -> str:
        return f"{self.patch.path}:{trailer.line_number}"

    @property
    def pulls(self) -> list[int]:
        return [trailer.fact.pull for trailer in self.trailers if trailer.fact.pull]


def _usable(patch: Patch) -> list[FactTrailer]:
    return [trailer for trailer in fact_trailers(patch) if trailer.fact.usable]


class _Absent(Exception):
    """The source certainly lacks a commit; the text says so."""


@dataclass
class _Upstream:
    """Upstream's commits and release tags, as far as the source of ``line`` shows them. ``reasons``
    collects why facts could not be checked, and where: (reason, remedy) -> places."""

    context: Context
    line: Line
    name: str | None
    source: Source | None = field(init=False, default=None)
    tags: ReleaseTags | None = field(init=False, default=None)
    reasons: dict[tuple[str, str], list[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        settings, url = self.context.settings, self.line.upstream.url
        name = self.name or line_source(settings, self.line.upstream)
        if name != "pypi":
            progress = self.context.progress
            self.source = open_source(name, settings, settings.url or url, progress)
            self.tags = release_tags(self.source)

    @property
    def base(self) -> Oid | None:
        """The line's base, if that is a commit of upstream's. What a release from the package index
        becomes is a commit of fixtool's own."""
        return None if self.line.upstream.release else self.line.upstream.base

    def note(self, reason: str, where: str, fix: str | None = None) -> None:
        """Keep the ``reason`` why a recorded fact was not checked."""
        usual = f"fixtool lint --drift --line {self.line.name} --source PATH, a clone of upstream"
        self.reasons.setdefault((reason, fix or usual), []).append(where)

    @property
    def how_to_get_tags(self) -> str | None:
        """The command after which the source has release tags; None if it is no clone."""
        if not isinstance(self.source, Local):
            return None
        unshallow = " --unshallow" if self.source.clone.shallow else ""
        return (
            f"git -C {argument(self.source.name)} fetch --tags{unshallow} {self.line.upstream.url}"
        )

    def notes(self) -> Iterator[Finding]:
        """A note for each reason why recorded facts were not checked."""
        for (reason, fix), places in self.reasons.items():
            others = (
                f", here and in {count(len(places) - 1, 'more trailer')}" if len(places) > 1 else ""
            )
            message = f"not checked{others}: {reason}"
            yield Finding(Level.NOTE, "fact-unchecked", places[0], message, fix)

    def find(self, name: str) -> tuple[Repo, Oid]:
        """The commit of this id, which may be short, and a repository that holds it. Raises _Absent
        if there is none or more than one, and CannotRun if the source does not tell."""
        source = self.source
        if source is None:
            raise CannotRun("the package index has no commits")
        if isinstance(source, Local):
            return source.clone, _find_in(source.clone, name, source.name)
        if is_full_sha(name):
            try:
                repo = source.commits(Oid(name))
            except CannotRun as error:
                if _REFUSED in error.message:
                    raise _Absent(f"{source.name} has no commit {name}") from error
                raise
            assert repo is not None
            return repo, Oid(name)
        raise CannotRun(f"{source.name} can be asked only for ids of 40 digits")

    def log(self, commits: Sequence[str], pulls: Sequence[int]) -> UpstreamLog | None:
        """The history of the line's base, as far as it matters to ``commits`` and ``pulls``. None
        if the base is no commit of upstream's. Raises CannotRun if it could not be read."""
        repo = self.source.commits(self.base) if self.source and self.base else None
        return read_upstream(repo, self.base, commits, pulls) if repo and self.base else None


def _find_in(clone: Repo, name: str, where: str) -> Oid:
    """The commit of a clone that an id means."""
    if is_full_sha(name):
        here = not clone.lacks([Oid(name)]) and clone.commit_id(name)
        found = [Oid(name)] if here else []
    else:
        found = clone.candidates(name)
    if len(found) > 1:
        raise _Absent(f"{name} is short for {len(found)} commits of {where}")
    if not found and clone.shallow:
        raise CannotRun(f"{where} is a shallow clone, and does not hold every commit")
    if not found:
        raise _Absent(f"{where} has no commit {name}")
    return found[0]


def _check(upstream: _Upstream, recorded: _Recorded) -> Iterator[Finding]:
    found: dict[str, tuple[Repo, Oid]] = {}
    for trailer in recorded.trailers:
        fact, where = trailer.fact, recorded.where(trailer)
        if fact.commit is None:
            upstream.note("it names no commit", where, "add the commit to the trailer")
            continue
        try:
            found[fact.commit] = upstream.find(fact.commit)
        except _Absent as absent:
            fix = "correct the commit, or fetch it into the clone"
            yield _wrong(where, f"{fact.kind}: {absent}", fix)
        except CannotRun as error:
            upstream.note(error.message, where)
        else:
            yield from _identity(upstream, *found[fact.commit], fact, where)
    yield from _against_release(upstream.line, recorded)
    yield from _against_base(upstream, recorded, set(found))
    yield from _against_tags(upstream, recorded, found)


def _wrong(where: str, message: str, fix: str) -> Finding:
    return Finding(Level.ERROR, "fact-wrong", where, message, fix)


def _identity(
    upstream: _Upstream, repo: Repo, oid: Oid, fact: RecordedFact, where: str
) -> Iterator[Finding]:
    """Check that a commit is the pull request that the trailer names."""
    if fact.pull is None:
        return
    commit = upstream_commit(repo, oid)
    subject = visible(commit.subject)
    if commit.pr is None:
        reason = f"the subject of {oid[:12]} ({subject}) ends with no pull request"
        upstream.note(reason, where, "look the pull request up")
    elif commit.pr != fact.pull:
        message = f"{fact.kind}: {oid[:12]} ({subject}) is not pull request #{fact.pull}"
        yield _wrong(where, message, "correct the commit, or the pull request")


def _against_release(line: Line, recorded: _Recorded) -> Iterator[Finding]:
    """Check what the trailers say of the release that the line is for."""
    release = line.upstream.release
    if release is None:
        return
    facts = [trailer.fact for trailer in recorded.trailers]
    has_bug = any(fact.kind is FactKind.FIXES and fact.in_release(release) for fact in facts)
    fix = f"correct the release, or drop the patch: {_drop(line, recorded)}"
    for trailer in recorded.trailers:
        fact, where = trailer.fact, recorded.where(trailer)
        held = fact.in_release(release)
        if fact.kind is FactKind.FIXES and held is False and not has_bug:
            message = f"release {release}, the base of the line, does not have the bug"
            yield _wrong(where, f"{fact.kind}: {message}", fix)
        elif fact.kind is not FactKind.FIXES and held:
            message = f"release {release}, the base of the line, holds the cure already"
            yield _wrong(where, f"{fact.kind}: {message}", fix)


def _drop(line: Line, recorded: _Recorded) -> str:
    return f"fixtool drop {recorded.patch.slug} --line {line.name}"


def _against_base(upstream: _Upstream, recorded: _Recorded, known: set[str]) -> Iterator[Finding]:
    """Check that the line's base holds what brought the bug, and does not hold its cure."""
    trailers = [trailer for trailer in recorded.trailers if trailer.fact.commit in known]
    if not trailers or upstream.base is None:
        return
    try:
        log = upstream.log(sorted(known), recorded.pulls)
        if log is None:
            return
        landings = [log.landing(trailer.fact.commit, trailer.fact.pull) for trailer in trailers]
    except FixtoolError as error:
        for trailer in trailers:
            upstream.note(error.message, recorded.where(trailer))
        return
    base = upstream.base[:12]
    drop = f"correct the commit, or drop the patch: {_drop(upstream.line, recorded)}"
    pairs = list(zip(trailers, landings, strict=True))
    has_bug = any(
        _holds(landing) and trailer.fact.kind is FactKind.FIXES for trailer, landing in pairs
    )
    for trailer, landing in pairs:
        kind, where = trailer.fact.kind, recorded.where(trailer)
        sha = (trailer.fact.commit or "")[:12]
        back = landing.reverted if landing else None
        undone = f": upstream took it back with {back.sha[:12]}" if back else ""
        if kind is FactKind.FIXES and not _holds(landing):
            message = f"{kind}: the base {base} does not hold {sha}{undone}"
            yield _doubtful(where, message) if has_bug else _wrong(where, message, drop)
        elif kind is not FactKind.FIXES and _holds(landing):
            yield _wrong(where, f"{kind}: the base {base} holds {sha} already", drop)
        elif kind is not FactKind.FIXES and undone:
            yield _doubtful(where, f"{kind}: the base {base} does not hold {sha}{undone}")


def _holds(landing: Landing | None) -> bool:
    return landing is not None and landing.holds


def _doubtful(where: str, message: str) -> Finding:
    return Finding(Level.WARNING, "fact-doubtful", where, message, "take the trailer out")


def _against_tags(
    upstream: _Upstream, recorded: _Recorded, found: dict[str, tuple[Repo, Oid]]
) -> Iterator[Finding]:
    """Check the first release of each trailer, as far as the release tags of a clone tell."""
    cures = [
        found[trailer.fact.commit][1]
        for trailer in recorded.trailers
        if trailer.fact.kind is not FactKind.FIXES and trailer.fact.commit in found
    ]
    for trailer in recorded.trailers:
        fact, where = trailer.fact, recorded.where(trailer)
        if fact.commit not in found or not (fact.release or fact.in_no_release):
            continue
        if upstream.tags is None:
            reason = "its first release can be compared only with the release tags of a whole clone"
            upstream.note(reason, where, upstream.how_to_get_tags)
            continue
        oid = found[fact.commit][1]
        shown = _first_shown(upstream.tags, oid, cures if fact.kind is FactKind.FIXES else [])
        yield from _first_release(upstream, upstream.tags, oid, fact, shown, where)


def _first_shown(tags: ReleaseTags, oid: Oid, cures: Sequence[Oid]) -> Version | None:
    """The first release that holds ``oid`` and none of ``cures``, as ``tags`` show it."""
    cured = {version for cure in cures for version in tags.holding(cure)}
    return next((version for version in tags.holding(oid) if version not in cured), None)


def _first_release(
    upstream: _Upstream,
    tags: ReleaseTags,
    oid: Oid,
    fact: RecordedFact,
    shown: Version | None,
    where: str,
) -> Iterator[Finding]:
    """Compare the first release that a trailer states with the one that ``tags`` show."""
    stated = Version(fact.release) if fact.release else None
    if stated == shown:
        return
    if stated and (shown is None or stated < shown):
        if stated not in tags.names:
            upstream.note(f"the clone has no tag of release {stated}", where)
            return
        if _has_copy(tags, oid, stated):
            return
    claim = stated or "none"
    what = "has the bug" if fact.kind is FactKind.FIXES else f"holds {oid[:12]}"
    first = f"{shown} is the first release that {what}" if shown else f"no release {what}"
    message = f"{fact.kind}: by the tags of the clone, {first}; the trailer says {claim}"
    yield _wrong(where, message, f"write {shown} instead" if shown else "take the release out")


def _has_copy(tags: ReleaseTags, oid: Oid, release: Version) -> bool:
    """Whether a release holds a copy of the commit, as release branches do: another commit with the
    same subject."""
    subject = upstream_commit(tags.clone, oid).subject
    out = tags.clone.run("log", "--format=%s", f"{oid}..refs/tags/{tags.names[release]}")
    return subject in out.stdout.decode("utf-8", "surrogateescape").split("\n")
