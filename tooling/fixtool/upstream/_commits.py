"""The commits of a pull request: one patch, and the patches of its series that it needs, on one of
upstream's commits.

They hold nothing else of the series, and no trailer that only the fork reads. Their ids are the
same on every machine, so a second run pushes nothing new.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fixtool.errors import ExitCode, FixtoolError, Refused, UsageError
from fixtool.git.objects import Commit, Oid, Signature
from fixtool.git.repo import Repo, reading_answer
from fixtool.git.trees import changed_files
from fixtool.history.log import UpstreamCommit
from fixtool.judgement.run import Judgement, JudgeRequest, judge
from fixtool.profile import Profile
from fixtool.replay.dependencies import dependencies
from fixtool.replay.run import Decisions, Replay
from fixtool.replay.verdict import Verdict
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.lint import require_well_formed
from fixtool.series.patch import Patch, patch_id
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import TargetRequest, bring_base, find_target, profile_of
from fixtool.text import visible

_KEPT_TRAILERS = frozenset({
    "signed-off-by", "co-authored-by", "reviewed-by", "tested-by", "acked-by", "reported-by",
    "suggested-by", "helped-by",
})  # fmt: skip
"""The trailers that upstream reads. All others are the fork's own."""

_PLACEHOLDER = re.compile(r"@(.*\.)?(invalid|localhost|example)$", re.IGNORECASE)
_NO_WAY = "the target does not descend from the line's base"
_SUBJECTS = 2000  # how many of upstream's subjects show how it spells an area


class DoesNotApply(FixtoolError):
    """The patch does not apply to upstream's commit. A person has to mend it first."""

    exit_code = ExitCode.CONFLICT


@dataclass(frozen=True)
class ChangedFile:
    """One file of a commit. ``added`` and ``removed`` count lines, None for a binary file;
    ``places`` are the functions and classes that the hunks change, as git names them."""

    path: str
    status: str  # A, D, M, T
    added: int | None
    removed: int | None
    places: tuple[str, ...]


@dataclass(frozen=True)
class ProposedCommit:
    """One patch as upstream would get it. ``patch_id`` is git's: an edit of the diff changes it,
    other line numbers do not."""

    slug: str
    title: str
    verdict: Verdict
    commit: Oid
    patch_id: str
    files: tuple[ChangedFile, ...]


@dataclass(frozen=True)
class ProposedBranch:
    """The commits to send. ``patches`` are the patches behind them, the requested one last;
    ``absorbed`` are the needed patches that upstream has already; ``notes`` say what upstream's
    history tells about the patches, or why it could not be read; ``decisions`` are those of the
    judgement."""

    slug: str
    line: Line
    profile: Profile
    source: Source
    target: Target
    commits: tuple[ProposedCommit, ...]
    patches: tuple[Patch, ...]
    absorbed: tuple[str, ...]
    notes: tuple[str, ...]
    decisions: Decisions

    @property
    def repo(self) -> Repo:
        return self.source.repo

    @property
    def tip(self) -> Oid:
        return self.commits[-1].commit

    @property
    def title(self) -> str:
        return self.commits[-1].title

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that the commits add or change."""
        files = (file for commit in self.commits for file in commit.files)
        return tuple(sorted({file.path for file in files if file.status != "D"}))


def propose(
    context: Context,
    wanted: TargetRequest,
    slug: str,
    sender: Signature | None,
    title: str | None = None,
) -> ProposedBranch:
    """The patch ``slug`` and what it needs, as commits on ``wanted.ref``. ``sender`` signs off, and
    replaces an author whose address is a placeholder; ``title`` replaces the patch's subject.

    Raises Refused, with the commit, if upstream has the patch already, and DoesNotApply if a patch
    does not apply.
    """
    line = context.repository.pick(wanted.line or context.settings.line)
    slug = line.find(slug).slug
    _check_request(context, wanted, title)
    require_well_formed(line)
    own = replace(wanted, line=line.name, source=_source(context, wanted))
    source, target = find_target(context, own)
    base = bring_base(source, line.upstream, context.settings, context.progress)
    if not line.upstream.release:
        source.bring(base, line.paths)
    needs = {patch.slug: patch.closure for patch in dependencies(source.repo, line, base)}
    sent = (*needs[slug], slug)
    part = replace(line, entries=tuple(entry for entry in line.entries if entry.slug in sent))
    judgement = judge(context, source, target, part, JudgeRequest(bring_history=True))
    _require_wanted(judgement, slug, line)
    result = judgement.replay
    patches = {patch.slug: patch for patch in part.patches}
    profile = profile_of(context.settings, line.upstream, source.repo, target.commit)
    titles = _titles(source.repo, result, patches, profile, title)
    commits = _rewrite(source.repo, result, patches, sender, titles)
    return ProposedBranch(
        slug, part, profile, source, target, commits,
        tuple(patches[commit.slug] for commit in commits),
        tuple(patch.slug for patch in result.patches if patch.verdict is Verdict.ABSORBED),
        tuple(_notes(judgement, commits)), judgement.decisions,
    )  # fmt: skip


def _source(context: Context, wanted: TargetRequest) -> str:
    """The source of upstream's commits: never the line's own, which may be the package index."""
    return wanted.source or context.settings.source or "git"


def _check_request(context: Context, wanted: TargetRequest, title: str | None) -> None:
    if title is not None and (not title.strip() or visible(title) != title):
        raise UsageError(f"{title!r} is no title: one line, and nothing that cannot be seen")
    if _source(context, wanted) == "pypi":
        raise UsageError(
            f"{wanted.ref} would be a release from the package index: upstream takes commits",
            hint="--onto main, with --source git or a clone",
        )


def _notes(judgement: Judgement, commits: Sequence[ProposedCommit]) -> Iterator[str]:
    """What a reviewer will ask about: patches that upstream had and took back. Also why upstream's
    history could not be read."""
    for slug in (commit.slug for commit in commits):
        result = judgement.patch(slug).result
        if result.verdict is Verdict.REVERTED:
            yield f"{slug} was taken back upstream: {'; '.join(result.evidence)}"
    if not judgement.history_read and judgement.target.commit != judgement.line.upstream.base:
        yield f"upstream's history was not read: {judgement.unread or _NO_WAY}"


def _describe(commit: UpstreamCommit | None) -> str:
    if commit is None:
        return "it came with the line's own base"
    number = f", #{commit.pr}" if commit.pr else ""
    return f"{commit.sha[:12]} ({commit.date[:10]}, {commit.author}{number}: {commit.subject})"


def _require_wanted(judgement: Judgement, slug: str, line: Line) -> None:
    """Raise DoesNotApply if a patch needs a person, and Refused if upstream has ``slug`` already or
    does not need it."""
    onto = judgement.target.commit
    for patch in judgement.patches:
        verdict, evidence = patch.result.verdict, "; ".join(patch.result.evidence)
        since = f"; since upstream's {_describe(patch.culprit)}" if patch.culprit else ""
        if patch.needs_person:
            raise DoesNotApply(
                f"{patch.slug} does not apply to {onto[:12]}: {evidence or verdict}{since}",
                where=str(line.folder / f"{patch.slug}.patch"),
                hint=f"mend it there: fixtool rebase --line {line.name} --onto {onto[:12]}",
            )
        if patch.slug == slug and patch.left_out:
            if verdict is Verdict.ABSORBED:
                message = f"upstream has {slug} already: "
                message += _describe(patch.culprit) if patch.culprit else evidence
            else:
                message = f"upstream does not need {slug}, which is {verdict}: {evidence}"
            raise Refused(
                message,
                where=onto,
                hint=f"let it go: fixtool rebase --line {line.name} --onto {onto[:12]}",
            )


# -- as upstream would get them --------------------------------------------------------------


def _rewrite(
    repo: Repo,
    result: Replay,
    patches: Mapping[str, Patch],
    sender: Signature | None,
    titles: Mapping[str, str],
) -> tuple[ProposedCommit, ...]:
    """The replayed commits with the messages and authors that upstream expects, and ``titles`` by
    slug."""
    commits: list[ProposedCommit] = []
    before = Oid(result.onto)
    for outcome in (patch for patch in result.patches if patch.commit):
        patch, subject = patches[outcome.slug], titles[outcome.slug]
        author = patch.author
        if sender and is_placeholder(author):
            author = replace(sender, date=author.date)
        message = _message(patch, subject, sender)
        assert outcome.commit is not None
        tree = repo.tree_id(outcome.commit)
        commit = repo.write_commit(Commit(tree, (before,), author, author, message))
        diff = _diff(repo, before, commit)
        commits.append(
            ProposedCommit(outcome.slug, subject, outcome.verdict, commit, patch_id(repo, diff),
                           _files(repo, before, commit, diff))
        )  # fmt: skip
        before = commit
    return tuple(commits)


def _titles(
    repo: Repo,
    result: Replay,
    patches: Mapping[str, Patch],
    profile: Profile,
    title: str | None,
) -> dict[str, str]:
    """The title of each replayed commit by slug: the patch's subject, as upstream writes titles.
    ``title`` is that of the last one, if it is given."""
    slugs = [patch.slug for patch in result.patches if patch.commit]
    titles = {slug: patches[slug].subject for slug in slugs}
    if profile.area_titles:
        areas = _areas(repo, result.onto)
        titles = {slug: format_title(subject, areas) for slug, subject in titles.items()}
    return titles | ({slugs[-1]: title} if title and slugs else {})


def is_placeholder(author: Signature) -> bool:
    """Whether nobody can receive mail at the author's address."""
    return bool(_PLACEHOLDER.search(author.email))


def _message(patch: Patch, title: str, sender: Signature | None) -> str:
    """The commit's message: without the trailers that only the fork reads, signed off by the
    sender. A sign-off is a promise that only the person can make, so none is added in the name of
    an author who did not sign."""
    trailers = [
        f"{key}: {value}"
        for key, value in patch.trailers
        if key.lower() in _KEPT_TRAILERS
        and not _PLACEHOLDER.search(value.rpartition("<")[2].rstrip("> "))
    ]
    if sender and (line := f"Signed-off-by: {sender.name} <{sender.email}>") not in trailers:
        trailers.append(line)
    parts = [title, body_of(patch), "\n".join(trailers)]
    return "\n\n".join(part for part in parts if part) + "\n"


def body_of(patch: Patch) -> str:
    """The message without its subject and its trailers."""
    return patch.body.rpartition("\n\n")[0].strip("\n") if patch.trailers else patch.body


def format_title(subject: str, areas: Mapping[str, str]) -> str:
    """``area: do it`` as ``[Area] Do it``. ``areas`` maps an area in lower case to the spelling
    that upstream uses."""
    if subject.startswith("["):
        return subject
    area, colon, rest = subject.partition(": ")
    known = areas.get(area.lower())
    if not colon or not (known or re.fullmatch(r"[\w.+/-]{1,30}", area)):
        return subject[:1].upper() + subject[1:]
    return f"[{known or area[:1].upper() + area[1:]}] {rest[:1].upper()}{rest[1:]}"


def _areas(repo: Repo, onto: str) -> dict[str, str]:
    """An area in lower case -> its most frequent spelling in upstream's newest subjects."""
    log = repo.run("log", "--first-parent", f"--max-count={_SUBJECTS}", "--format=%s", onto).text
    spellings: dict[str, Counter[str]] = {}
    for area in re.findall(r"\[([^\[\]\n]{1,30})\]", log):
        spellings.setdefault(area.lower(), Counter())[area] += 1
    return {area: counter.most_common(1)[0][0] for area, counter in spellings.items()}


def _diff(repo: Repo, before: str, commit: str) -> bytes:
    return repo.run(
        "diff-tree", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--full-index", "--binary", before, commit,
    ).stdout  # fmt: skip


@reading_answer("diff-tree")
def _files(repo: Repo, before: str, commit: str, diff: bytes) -> tuple[ChangedFile, ...]:
    counts: dict[str, tuple[int | None, int | None]] = {}
    out = repo.run("diff-tree", "-r", "--no-renames", "--numstat", "-z", before, commit).stdout
    for row in out.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        added, removed, path = row.split("\t", 2)
        binary = added == "-"
        counts[path] = (None, None) if binary else (int(added), int(removed))
    return tuple(
        ChangedFile(file.path, file.status, *counts[file.path], _places(diff, file.path))
        for file in changed_files(repo, before, commit)
    )


def _places(diff: bytes, path: str) -> tuple[str, ...]:
    """The functions and classes that the hunks of ``path`` add, or else lie in."""
    text = diff.decode("utf-8", "surrogateescape")
    begin, end = rf"^diff --git a/{re.escape(path)} ", r"(?=^diff --git |\Z)"
    match = re.search(f"{begin}.*?{end}", text, re.MULTILINE | re.DOTALL)
    places: list[str] = []
    for hunk in re.split(r"^(?=@@ )", match[0], flags=re.MULTILINE)[1:] if match else ():
        # git names the definition above the hunk, which is the wrong one if the hunk adds another.
        added = re.findall(r"^\+(?:class|def|async def) (\w+)", hunk, re.MULTILINE)
        above = re.match(r"@@ [^@]* @@ .*\b(?:class|def) (\w+)", hunk)
        places += [name for name in added if not name.startswith("_")]
        places += [above[1]] if above and not added else []
    return tuple(dict.fromkeys(places))
