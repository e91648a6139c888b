"""A proposal: one patch, and what it needs of its series, as commits on a commit of upstream's.

Nothing else of the series is in it, and nothing that only the fork can read. The commits are the
same on every machine, so that a second run pushes nothing new.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fixtool.errors import ExitCode, FixtoolError, Refused, UsageError
from fixtool.git.objects import Commit, Oid, Signature
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import Interval
from fixtool.history.trace import trace
from fixtool.progress import Progress
from fixtool.replay.dependencies import dependencies
from fixtool.replay.run import Decisions, Replay, replay
from fixtool.replay.verdict import FAILED, PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import require_well_formed
from fixtool.series.patch import Patch, patch_id
from fixtool.settings import Settings
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import TargetRequest, bring_base, find_target
from fixtool.text import visible

_THEIRS = frozenset({
    "signed-off-by", "co-authored-by", "reviewed-by", "tested-by", "acked-by", "reported-by",
    "suggested-by", "helped-by",
})  # fmt: skip
"""The trailers that upstream reads; all others are the fork's own."""

_PLACEHOLDER = re.compile(r"@(.*\.)?(invalid|localhost|example)$", re.IGNORECASE)
_SUBJECTS = 2000  # of upstream's, from which the spelling of an area is learned


class DoesNotApply(FixtoolError):
    """The patch does not apply to upstream: a person has to mend it first."""

    exit_code = ExitCode.CONFLICT


@dataclass(frozen=True)
class ChangedFile:
    """``added`` and ``removed`` count lines, None for a binary; ``places`` are the functions and
    classes that the hunks lie in, as git names them."""

    path: str
    status: str  # A, D, M, T
    added: int | None
    removed: int | None
    places: tuple[str, ...]


@dataclass(frozen=True)
class ProposedCommit:
    """One patch of a proposal, as upstream would get it. ``patch_id`` is git's: an edit of the diff
    changes it, other line numbers do not."""

    slug: str
    title: str
    verdict: Verdict
    commit: str
    patch_id: str
    files: tuple[ChangedFile, ...]


@dataclass(frozen=True)
class ProposedBranch:
    """``absorbed`` are needed patches that upstream has; ``patches`` those that are sent, the one
    asked for last; ``notes`` say what upstream's history tells of them, or why it tells nothing."""

    slug: str
    line: Line
    source: Source
    target: Target
    parts: tuple[ProposedCommit, ...]
    patches: tuple[Patch, ...]
    absorbed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def repo(self) -> Repo:
        return self.source.repo

    @property
    def tip(self) -> str:
        return self.parts[-1].commit

    @property
    def title(self) -> str:
        return self.parts[-1].title

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that the proposal changes and leaves there."""
        paths = {one.path for part in self.parts for one in part.files if one.status != "D"}
        return tuple(sorted(paths))


def propose(
    repository: PatchRepository,
    settings: Settings,
    wanted: TargetRequest,
    slug: str,
    sender: Signature | None,
    progress: Progress,
    title: str | None = None,
) -> ProposedBranch:
    """``slug`` and its closure on ``wanted.ref``. ``sender`` signs off, and stands in for an author
    whose address is a placeholder.

    Raises Refused where upstream has it, with the commit, and DoesNotApply where it does not apply.
    """
    line = repository.pick(wanted.line or settings.line)
    slug = line.find(slug).slug
    if title is not None and (not title.strip() or visible(title) != title):
        raise UsageError(f"{title!r} is no title: one line, and nothing that cannot be seen")
    if (wanted.source or settings.source) == "pypi":
        raise UsageError(
            f"{wanted.ref} would be a release from the package index: upstream takes commits",
            hint="--onto main, with --source git or a clone",
        )
    require_well_formed(line)
    source, target = find_target(
        Context(repository, settings, progress), replace(wanted, line=line.name)
    )
    base = bring_base(source, line.upstream, settings, progress)
    if not line.upstream.release:
        source.bring(base, line.paths)
    needs = {one.slug: one for one in dependencies(source.repo, line, base)}
    closure = (*needs[slug].closure, slug)
    part = replace(line, entries=tuple(one for one in line.entries if one.slug in closure))
    context = Context(repository, settings, progress)
    runs, unknown = runs_of(context, source, line, base, target.commit)
    if (run := runs.get(slug)) and run.verdict is Verdict.ABSORBED:
        raise Refused(
            f"upstream has {slug} already: {_named(run.culprit)}",
            where=target.commit,
            hint=f"let it go: fixtool rebase --line {line.name} --onto {target.commit[:12]}",
        )
    source.bring(target.commit, part.paths)
    absorbed = {
        one: PatchState(Verdict.ABSORBED, runs[one].evidence)
        for one in closure
        if one in runs and runs[one].verdict is Verdict.ABSORBED
    }
    done = replay(
        source.repo, part, target.commit, base=lambda: base, decisions=Decisions(absorbed)
    )
    _require_applied(done, slug, runs, line)
    patches = {one.slug: one for one in part.patches}
    parts = _rewritten(source.repo, done, patches, sender, target.commit, title)
    return ProposedBranch(
        slug, part, source, target, parts, tuple(patches[one.slug] for one in parts),
        tuple(one.slug for one in done.patches if one.verdict is Verdict.ABSORBED),
        (*_taken_back(runs, parts), *([unknown] if unknown else [])),
    )  # fmt: skip


def _taken_back(runs: Mapping[str, Interval], parts: Sequence[ProposedCommit]) -> Iterator[str]:
    """What whoever sends a patch again has to have an answer to."""
    for one in parts:
        run = runs.get(one.slug)
        if run and run.verdict is Verdict.REVERTED:
            yield f"{one.slug} was taken back upstream: {'; '.join(run.evidence)}"


def runs_of(
    context: Context, source: Source, line: Line, base: Oid, onto: Oid
) -> tuple[Mapping[str, Interval], str | None]:
    """What upstream's history says of each patch at ``onto``; else why it says nothing."""
    try:
        found = trace(context, source, line, base, onto)
    except UsageError as error:
        return {}, f"upstream's history was not read: {error.message}"
    return {one.slug: one.now for one in found.patches}, None


def _named(commit: UpstreamCommit | None) -> str:
    if commit is None:
        return "it came with the line's own base"
    number = f", #{commit.pr}" if commit.pr else ""
    return f"{commit.sha[:12]} ({commit.date[:10]}, {commit.author}{number}: {commit.subject})"


def _require_applied(done: Replay, slug: str, runs: Mapping[str, Interval], line: Line) -> None:
    for one in done.patches:
        by = runs[one.slug].culprit if one.slug in runs else None
        whose = f"; since upstream's {_named(by)}" if by else ""
        if one.verdict in FAILED:
            raise DoesNotApply(
                f"{one.slug} does not apply to {done.onto[:12]}: "
                f"{'; '.join(one.evidence) or one.verdict}{whose}",
                where=str(line.folder / f"{one.slug}.patch"),
                hint=f"mend it there: fixtool rebase --line {line.name} --onto {done.onto[:12]}",
            )
        if one.slug == slug and one.verdict is Verdict.ABSORBED:
            raise Refused(
                f"upstream has {slug} already: {'; '.join(one.evidence)}{whose}", where=done.onto
            )


# -- as upstream would get it ----------------------------------------------------------------


def _rewritten(
    repo: Repo,
    done: Replay,
    patches: Mapping[str, Patch],
    sender: Signature | None,
    onto: str,
    title: str | None,
) -> tuple[ProposedCommit, ...]:
    areas = _areas(repo, onto)
    parts: list[ProposedCommit] = []
    before = onto
    made = [one for one in done.patches if one.commit]
    for one in made:
        patch = patches[one.slug]
        last = one is made[-1]
        subject = title if title and last else title_of(patch.subject, areas)
        author = author_of(patch, sender)
        assert one.commit is not None
        message = message_of(patch, subject, author, sender)
        tree = repo.tree_id(one.commit)
        commit = repo.write_commit(Commit(tree, (Oid(before),), author, author, message))
        diff = _diff(repo, before, commit)
        parts.append(
            ProposedCommit(one.slug, subject, one.verdict, commit, patch_id(repo, diff),
                 _files(repo, before, commit, diff))
        )  # fmt: skip
        before = commit
    return tuple(parts)


def author_of(patch: Patch, sender: Signature | None) -> Signature:
    """The patch's own author, unless nobody can write to that address."""
    if sender and _PLACEHOLDER.search(patch.author.email):
        return replace(sender, date=patch.author.date)
    return patch.author


def is_placeholder(who: Signature) -> bool:
    return bool(_PLACEHOLDER.search(who.email))


def message_of(patch: Patch, title: str, author: Signature, sender: Signature | None) -> str:
    """The commit's message: no trailer that only the fork reads, signed off by the sender."""
    text = prose_of(patch)
    kept = [f"{key}: {value}" for key, value in patch.trailers if key.lower() in _THEIRS]
    kept = [one for one in kept if not _PLACEHOLDER.search(one.rpartition("<")[2].rstrip("> "))]
    sign = sender or (None if is_placeholder(author) else author)
    if sign and (line := f"Signed-off-by: {sign.name} <{sign.email}>") not in kept:
        kept.append(line)
    blocks = [title, text, "\n".join(kept)]
    return "\n\n".join(one for one in blocks if one) + "\n"


def prose_of(patch: Patch) -> str:
    """The message without its subject and its trailers."""
    if not patch.trailers:
        return patch.body
    return patch.body.rpartition("\n\n")[0].strip("\n")


def title_of(subject: str, areas: Mapping[str, str]) -> str:
    """``area: do it`` as upstream writes titles: ``[Area] Do it``, the area spelled as there."""
    if subject.startswith("["):
        return subject
    area, colon, rest = subject.partition(": ")
    known = areas.get(area.lower())
    if not colon or not (known or re.fullmatch(r"[\w.+/-]{1,30}", area)):
        return subject[:1].upper() + subject[1:]
    spelled = known or area[:1].upper() + area[1:]
    return f"[{spelled}] {rest[:1].upper()}{rest[1:]}"


def _areas(repo: Repo, onto: str) -> dict[str, str]:
    """lower case -> the spelling that upstream's newest subjects have most often in brackets."""
    log = repo.run("log", "--first-parent", f"--max-count={_SUBJECTS}", "--format=%s", onto).text
    seen: dict[str, Counter[str]] = {}
    for subject in log.splitlines():
        for area in re.findall(r"\[([^\[\]]{1,30})\]", subject):
            seen.setdefault(area.lower(), Counter())[area] += 1
    return {area: spellings.most_common(1)[0][0] for area, spellings in seen.items()}


def _diff(repo: Repo, before: str, commit: str) -> bytes:
    return repo.run(
        "diff-tree", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--full-index", "--binary", before, commit,
    ).stdout  # fmt: skip


def _files(repo: Repo, before: str, commit: str, diff: bytes) -> tuple[ChangedFile, ...]:
    counts: dict[str, tuple[int | None, int | None]] = {}
    out = repo.run("diff-tree", "-r", "--no-renames", "--numstat", "-z", before, commit).stdout
    for row in out.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        added, removed, path = row.split("\t", 2)
        counts[path] = (_count(added), _count(removed))
    return tuple(
        ChangedFile(one.path, one.status, *counts[one.path], _places(diff, one.path))
        for one in changed_files(repo, before, commit)
    )


def _count(said: str) -> int | None:
    return None if said == "-" else int(said)


def _places(diff: bytes, path: str) -> tuple[str, ...]:
    text = diff.decode("utf-8", "surrogateescape")
    begin, end = rf"^diff --git a/{re.escape(path)} ", r"(?=^diff --git |\Z)"
    mine = re.search(f"{begin}.*?{end}", text, re.MULTILINE | re.DOTALL)
    places: list[str] = []
    for hunk in re.split(r"^(?=@@ )", mine[0], flags=re.MULTILINE)[1:] if mine else ():
        # What git names is the definition above the hunk: not where new ones are added below it.
        made = re.findall(r"^\+(?:class|def|async def) (\w+)", hunk, re.MULTILINE)
        near = re.match(r"@@ [^@]* @@ .*\b(?:class|def) (\w+)", hunk)
        places += [one for one in made if not one.startswith("_")]
        places += [near[1]] if near and not made else []
    return tuple(dict.fromkeys(places))
