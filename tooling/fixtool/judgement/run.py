"""The judgement: what is true of each patch of a line on a commit. Every verb gets it here.

What is certain and cheap comes first. The recorded facts of a patch say, by upstream's commits or
releases alone, that upstream has the patch, cures its bug in another way, or does not have the bug
yet. Upstream's history says so too where it is at hand. All other patches are replayed. A conflict
that nothing explains needs a person. A probe that says that the bug is there outweighs all facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fixtool.errors import CannotRun, Refused
from fixtool.git.objects import Oid
from fixtool.history.log import UpstreamCommit
from fixtool.history.recorded import RecordedState
from fixtool.judgement._known import Known, read_known, read_recorded
from fixtool.replay.moved_hunks import MovedHunks, apply_to_moved_lines
from fixtool.replay.run import Decisions, Earlier, Replay, on_own_base, replay
from fixtool.replay.verdict import FAILED, PatchResult, PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.line import Entry, Line
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base

PRESENT = 1
"""The exit code of a probe that finds the bug of its patch."""

_BY_PROBE = {
    0: "its probe says that the bug is not there",
    77: "its probe says that it does not apply to this tree",
}


@dataclass(frozen=True)
class JudgedPatch:
    """One patch. ``culprit`` is the upstream commit behind its verdict, None if there is none or it
    is not known; ``probe`` is the answer of its probe on the target, None if it was not asked."""

    result: PatchResult
    culprit: UpstreamCommit | None = None
    probe: int | None = None

    @property
    def slug(self) -> str:
        return self.result.slug

    @property
    def needs_person(self) -> bool:
        return self.result.verdict in FAILED

    @property
    def left_out(self) -> bool:
        """Whether the patch is not in the tree although nobody is needed."""
        return self.result.commit is None and not self.needs_person


@dataclass(frozen=True)
class Judgement:
    """A line on a target. ``replay`` holds the tree with every patch that goes in, and
    ``decisions`` make the same replay again. ``history_read`` tells whether upstream's history
    from the line's base to the target was judged too; ``unread`` says why it could not be read,
    None if it was, or if there is none to read. ``earlier`` is what was found on the way: whoever
    goes on with the same line in the same repository need not find it again."""

    line: Line
    target: Target
    replay: Replay
    patches: tuple[JudgedPatch, ...]
    decisions: Decisions
    history_read: bool = False
    unread: str | None = None
    earlier: Earlier = field(default_factory=Earlier, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nobody is needed."""
        return not any(patch.needs_person for patch in self.patches)

    @property
    def left_out(self) -> tuple[JudgedPatch, ...]:
        return tuple(patch for patch in self.patches if patch.left_out)

    def patch(self, slug: str) -> JudgedPatch:
        return next(patch for patch in self.patches if patch.slug == slug)


@dataclass(frozen=True)
class JudgeRequest:
    """How to judge. ``decisions`` are a person's. ``restored`` are patches of the shelf that follow
    the series. ``probes`` are the answers of the probes on the target by slug. ``bring_history``
    says that upstream's history may be fetched if it is not at hand."""

    decisions: Decisions = field(default_factory=Decisions)
    restored: Sequence[Entry] = ()
    probes: Mapping[str, int | None] | None = None
    bring_history: bool = False


def judge(
    context: Context,
    source: Source,
    target: Target,
    line: Line,
    request: JudgeRequest | None = None,
    recorded: Mapping[str, RecordedState] | None = None,
) -> Judgement:
    """Judge ``line`` on ``target``. ``recorded`` is what its recorded facts say there, if that was
    read before.

    Raises CannotRun if the line's base, or the commits that its recorded facts name, cannot be had.
    """
    request = request or JudgeRequest()
    earlier = Earlier()
    known = read_known(
        context, source, target, line, recorded, earlier, bring_history=request.bring_history
    )
    extended = replace(line, entries=(*line.entries, *request.restored))
    # Most sources have all files, and need no list of paths.
    source.bring(target.commit, (path for patch in extended.patches for path in patch.paths))
    left_out = _without_need(known, line, request)
    result, decisions, moved = _replayed(
        context, source, target, extended, request, left_out, earlier
    )
    probes = request.probes or {}
    patches = tuple(
        _judged(known, replace(patch, evidence=moved[patch.slug].moves)
                if patch.slug in moved else patch, probes.get(patch.slug))
        for patch in result.patches
    )  # fmt: skip
    result = replace(result, patches=tuple(patch.result for patch in patches))
    history_read = known.history is not None
    return Judgement(
        extended, target, result, patches, decisions, history_read, known.unread, earlier
    )


def _without_need(known: Known, line: Line, request: JudgeRequest) -> dict[str, PatchState]:
    """The patches of ``line`` that are left out: by hand, or because of what is ``known``, unless
    the probe finds the bug or a person has resolved the patch."""
    probes = request.probes or {}
    left_out = dict(request.decisions.left_out)
    for entry in line.entries:
        state = known.left_out(entry.slug)
        bug_present = probes.get(entry.slug) == PRESENT
        if state and not bug_present and entry.slug not in request.decisions.resolved:
            left_out.setdefault(entry.slug, state)
    return left_out


def _replayed(
    context: Context,
    source: Source,
    target: Target,
    line: Line,
    request: JudgeRequest,
    left_out: dict[str, PatchState],
    earlier: Earlier,
) -> tuple[Replay, Decisions, Mapping[str, MovedHunks]]:
    """The replay of ``line`` without ``left_out``, the decisions that make it, and the patches that
    were put to where upstream has moved their lines. At each conflict, that is tried, and a patch
    whose probe says that its bug is gone is left out too; then the line is replayed again."""
    probes = request.probes or {}
    moved: dict[str, MovedHunks] = {}
    while True:
        trees = dict(request.decisions.resolved)
        trees |= {slug: hunks.tree for slug, hunks in moved.items()}
        decisions = Decisions(left_out, trees)
        result = replay(
            source.repo, line, target.commit,
            base=lambda: _bring_base(context, source, target, line),
            cache=context.settings.cache / "replay", decisions=decisions, earlier=earlier,
        )  # fmt: skip
        failed = (patch for patch in result.patches if patch.verdict is Verdict.CONFLICT)
        conflict = next(failed, None)
        if conflict is None or conflict.slug in moved:
            return result, decisions, moved
        if probes.get(conflict.slug) == 0:
            why = "its probe says that the bug is gone"
            left_out[conflict.slug] = PatchState(Verdict.SUPERSEDED, (why, *conflict.evidence))
            continue
        hunks = _moved_hunks(context, source, target, line, result, conflict.slug, earlier)
        if hunks is None:
            return result, decisions, moved
        moved[conflict.slug] = hunks


def _moved_hunks(
    context: Context,
    source: Source,
    target: Target,
    line: Line,
    result: Replay,
    slug: str,
    earlier: Earlier,
) -> MovedHunks | None:
    """A patch in conflict with each hunk where upstream has moved its lines; None if that is not
    certain."""

    def bring_before() -> Oid | None:
        base = _bring_base(context, source, target, line)
        if line.upstream.release is None:  # an imported release is whole
            source.bring(base, ())
        try:
            _, before = on_own_base(source.repo, line, slug, base, earlier)
        except Refused:
            return None  # the series does not apply to its own base
        return before

    source.bring(target.commit, ())
    commit = commit_before(result, slug)
    return apply_to_moved_lines(source.repo, line.find(slug), commit, bring_before)


def _bring_base(context: Context, source: Source, target: Target, line: Line) -> Oid:
    """Bring the base of a line. A release is never asked for the base of a line for a commit: that
    would fetch from another place than the one that the user named."""
    upstream = line.upstream
    if target.release and upstream.release is None and not source.repo.has(upstream.base):
        raise CannotRun(
            f"line {line.name} is for the commit {upstream.base[:12]}, which no release gives: the "
            "package index does not have it",
            where=str(line.folder / "upstream.toml"),
            hint=f"the same command with --source git --line {line.name}",
        )
    base = bring_base(source, upstream, context.settings, context.progress)
    if upstream.release is None:
        source.bring(base, line.paths)  # in one request: a merge would ask for each file alone
    return base


def _judged(known: Known, result: PatchResult, probe: int | None) -> JudgedPatch:
    """A replayed patch, with what upstream's history and its probe say of it."""
    taken_back = known.taken_back(result.slug, result.verdict)
    if result.commit and taken_back:
        evidence = (*taken_back, *result.evidence)
        result = replace(result, verdict=Verdict.REVERTED, evidence=evidence)
    elif result.commit and probe in _BY_PROBE:
        evidence = (_BY_PROBE[probe], *result.evidence)
        result = replace(result, verdict=Verdict.NOT_NEEDED, evidence=evidence)
    culprit = (
        None if result.verdict is Verdict.CLEAN else known.culprit(result.slug, result.verdict)
    )
    return JudgedPatch(result, culprit, probe)


def is_needed(source: Source, target: Target, line: Line) -> bool:
    """Whether the recorded facts of the patches of ``line`` say that their bugs are on the target.
    Raises CannotRun if the source cannot tell which commits the target holds."""
    return all(state.needed for state in read_recorded(source, target, line).values())


def is_explained(source: Source, target: Target, line: Line) -> bool:
    """Whether the recorded facts of a patch of ``line`` say why it is not to be applied on the
    target. Raises CannotRun if the source cannot tell which commits the target holds."""
    return any(state.state for state in read_recorded(source, target, line).values())


def commit_before(result: Replay, slug: str) -> Oid:
    """The last commit that the replay made before a patch."""
    position = [patch.slug for patch in result.patches].index(slug)
    commits = [patch.commit for patch in result.patches[:position] if patch.commit]
    return commits[-1] if commits else result.onto
