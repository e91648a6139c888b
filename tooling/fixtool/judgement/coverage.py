"""Coverage: for each release or commit of upstream's, the line that is chosen, and what is true of
each of its patches there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.objects import Oid
from fixtool.git.process import pool
from fixtool.history.log import first_parent_changes, upstream_commit
from fixtool.history.releases import releases_within
from fixtool.judgement._borders import CommitFacts, Stretch, borders
from fixtool.judgement._known import read_recorded
from fixtool.judgement.covered import (
    CommitRun,
    Coverage,
    CoveredPatch,
    CoveredRef,
    MissingRef,
)
from fixtool.judgement.line import choose_line
from fixtool.judgement.run import JudgedPatch
from fixtool.progress import Silence
from fixtool.replay.verdict import Verdict
from fixtool.series.context import Context
from fixtool.series.facts import FactKind, facts_of
from fixtool.series.line import Line
from fixtool.series.lint import require_well_formed
from fixtool.sources import index
from fixtool.sources.resolve import Target
from fixtool.sources.source import Releases, Source
from fixtool.sources.target import TargetRequest, bring_base, find_target

_FACT_BEHIND = {
    Verdict.ABSORBED: FactKind.APPLIED,
    Verdict.SUPERSEDED: FactKind.SUPERSEDED,
    Verdict.NOT_NEEDED: FactKind.FIXES,
}


def cover_releases(context: Context, span: str, line: str | None = None) -> Coverage:
    """What covers each release of the package index in ``span``, ``OLDEST..NEWEST``; with the line
    ``line``, or else the one that is chosen.

    A release that cannot be had is listed as missing. Raises UsageError if no release lies in
    ``span`` or there is no such line, and CannotRun if no package index can be reached.
    """
    progress = context.progress
    wanted = line or context.settings.line
    lines = [context.repository.line(wanted)] if wanted else context.repository.lines
    # Lines of releases tell which project the releases are of.
    first = next((line for line in lines if line.upstream.release), lines[0])
    settings = first.upstream.settings(context.settings)
    versions = releases_within(span, index.versions(settings.indexed))
    releases = Releases(settings, progress)
    others = _other_lines(context, wanted)
    covered: list[CoveredRef] = []
    missing: list[MissingRef] = []
    with progress.task(f"judging {len(versions)} releases", len(versions)) as task:
        for version in versions:
            try:
                target = releases.resolve(version)
                covered.append(_cover(context, releases, target, version, wanted, others))
            except CannotRun as error:
                # What it names is to be done with `apply`: --releases takes no other source.
                again = f"fixtool apply --ref {version}"
                hint = error.hint and error.hint.replace("the same command with", again)
                missing.append(MissingRef(version, error.message, hint))
            task.advance(1)
    return Coverage(tuple(covered), len(versions), len(covered), tuple(missing))


def cover_commits(
    context: Context,
    start: str | None = None,
    end: str | None = None,
    source: str | None = None,
    line: str | None = None,
) -> Coverage:
    """What covers the commit ``start`` and every first-parent commit after it up to ``end``; with
    the line ``line``, or else the one that is chosen. Both are refs in ``source``. The default of
    ``start`` is the oldest base of a line, and that of ``end`` is upstream's newest commit.

    Raises UsageError if the source is the package index, which has no commits, or if ``end`` does
    not descend from ``start``; CannotRun if something that a judgement needs cannot be had.
    """
    wanted = line or context.settings.line
    repository = context.repository
    named = [repository.line(wanted)] if wanted else repository.lines
    source = source or context.settings.source
    only_releases = all(line.upstream.release for line in named)
    if source == "pypi" or (source is None and not start and only_releases):
        release = next((line.upstream.release for line in named if line.upstream.release), None)
        raise UsageError(
            "releases have no commits between them",
            hint=f"fixtool coverage --releases {release or ''}..",
        )
    opened, last = find_target(context, TargetRequest(end, source or "git", wanted, newest=True))
    names = [wanted] if wanted else last.lines or repository.line_names
    lines = [repository.line(name) for name in names]
    first = opened.resolve(start).commit if start else _oldest_base(opened, lines, last.commit)
    stretch = _stretch(opened, first, last.commit)
    sound = [line for line in lines if _is_well_formed(line)]  # others are passed over
    bases = {line.name: _base(context, opened, line) for line in sound}
    positions, facts = borders(stretch, sound, bases)
    answers = _judge(context, opened, stretch, (wanted, last.lines), positions, facts)
    commits = [upstream_commit(opened.repo, first), *(each.commit for each in stretch.changes)]
    ends = [*positions[1:], len(commits)]
    runs = [
        replace(answer, commits=CommitRun(commits[begin], commits[end - 1], end - begin))
        for answer, begin, end in zip(answers, positions, ends, strict=True)
    ]
    return Coverage(_joined(runs), len(commits), len(positions))


def _oldest_base(source: Source, lines: Sequence[Line], end: Oid) -> Oid:
    """The base of a line that lies the most commits before ``end``."""
    repo = source.commits(end) or source.repo
    distances = [
        (distance, line.upstream.base)
        for line in lines
        if line.upstream.release is None
        and (distance := repo.ahead_by(line.upstream.base, end)) is not None
    ]
    if not distances:
        raise UsageError(
            f"{end[:12]} descends from no base of a line, as far as the history here tells",
            hint="name the first commit: --from REF",
        )
    return source.ensure(max(distances)[1])


def _stretch(source: Source, start: Oid, end: Oid) -> Stretch:
    since = source.repo.read_commit(start).committer.day
    source.bring_history(start, end, since.isoformat())
    changes = first_parent_changes(source.repo, start, end)
    return Stretch(
        source.repo, source.commits(end) or source.repo, start, changes, source.bring_blobs
    )


def _is_well_formed(line: Line) -> bool:
    try:
        require_well_formed(line)
    except Refused:
        return False
    return True


def _base(context: Context, source: Source, line: Line) -> Oid | None:
    """The base of ``line``, now in the store of ``source``; None if it cannot be had."""
    try:
        return bring_base(source, line.upstream, context.settings, context.progress)
    except CannotRun:
        return None


def _judge(
    context: Context,
    source: Source,
    stretch: Stretch,
    wanted: tuple[str | None, tuple[str, ...]],
    positions: Sequence[int],
    facts: Sequence[CommitFacts],
) -> list[CoveredRef]:
    """What covers the commits at ``positions``: the line ``wanted``, or else one of the lines of
    this upstream."""
    commits = stretch.commits
    line, lines = wanted
    others = _other_lines(context, line)
    quiet = replace(context, progress=Silence())

    def judge(position: int) -> CoveredRef:
        commit, tree = commits[position], facts[position].tree
        target = Target(commit, commit, tree, source.name, lines=lines)
        return _cover(quiet, source, target, commit[:12], line, others)

    answers = []
    with (
        context.progress.task(f"judging {len(positions)} commits", len(positions)) as task,
        pool() as threads,
    ):
        for answer in threads.map(judge, positions):
            answers.append(answer)
            task.advance(1)
    return answers


def _other_lines(context: Context, wanted: str | None) -> tuple[Line, ...]:
    """The lines whose patches count beside those of the line that is chosen: all that are well
    formed, and none if the line ``wanted`` alone is asked for."""
    return () if wanted else tuple(filter(_is_well_formed, context.repository.lines))


def _cover(
    context: Context,
    source: Source,
    target: Target,
    ref: str,
    wanted: str | None,
    others: Sequence[Line],
) -> CoveredRef:
    choice = choose_line(context, source, target, wanted)
    patches = [_patch(choice.line, patch) for patch in choice.judgement.patches]
    patches += _of_other_lines(source, target, choice.line, others)
    return CoveredRef(
        ref, target.commit, None, choice.line.name, choice.why, tuple(patches),
        choice.notes, choice.lacks,
    )  # fmt: skip


def _patch(line: Line, patch: JudgedPatch) -> CoveredPatch:
    result, culprit = patch.result, patch.culprit
    by = culprit.sha[:12] if culprit else _by_fact(line, result.slug, result.verdict)
    return CoveredPatch(
        result.slug, result.subject, result.verdict, by, culprit, tuple(result.evidence)
    )


def _of_other_lines(
    source: Source, target: Target, chosen: Line, others: Sequence[Line]
) -> list[CoveredPatch]:
    """The patches that only ``others`` have, as far as their recorded facts say why ``target`` does
    not need them."""
    known = {entry.slug for entry in chosen.entries}
    patches: list[CoveredPatch] = []
    for line in others:
        if known.issuperset(entry.slug for entry in line.entries):
            continue
        try:
            recorded = read_recorded(source, target, line)
        except CannotRun:
            continue
        for patch in line.patches:
            state, culprit = recorded[patch.slug].state, recorded[patch.slug].culprit
            if state and patch.slug not in known:
                known.add(patch.slug)
                by = culprit.sha[:12] if culprit else _by_fact(line, patch.slug, state.verdict)
                patches.append(
                    CoveredPatch(
                        patch.slug, patch.subject, state.verdict, by, culprit, state.evidence,
                        in_line=False,
                    )
                )  # fmt: skip
    return patches


def _by_fact(line: Line, slug: str, verdict: Verdict) -> str | None:
    """The upstream change that a recorded fact names for a verdict: its first release, or else its
    commit or pull request."""
    kind = _FACT_BEHIND.get(verdict)
    for fact in facts_of(line.find(slug)):
        if fact.kind is kind:
            commit = fact.commit[:12] if fact.commit else None
            return fact.release or commit or (f"#{fact.pull}" if fact.pull else None)
    return None


def _joined(runs: Sequence[CoveredRef]) -> tuple[CoveredRef, ...]:
    """The runs, those in a row with the same answer joined."""
    joined: list[CoveredRef] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last and last.commits and run.commits and _answer(last) == _answer(run):
            commits = replace(
                last.commits,
                last=run.commits.last,
                count=last.commits.count + run.commits.count,
            )
            joined[-1] = replace(last, commits=commits)
        else:
            joined.append(run)
    return tuple(joined)


def _answer(ref: CoveredRef) -> Hashable:
    """What must be equal on two commits for both to be in one run."""
    patches = tuple((patch.slug, patch.verdict, patch.by) for patch in ref.patches)
    return ref.line, patches, ref.lacks
