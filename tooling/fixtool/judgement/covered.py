"""What covers upstream's commits or releases: which line, and what is true of its patches there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fixtool import documents
from fixtool.documents import Failure, Field
from fixtool.errors import ExitCode
from fixtool.git.objects import Oid, read_oid
from fixtool.history.log import UpstreamCommit, read_upstream_commit
from fixtool.replay.verdict import FAILED, Verdict

_MOST = 20_000  # patches of all refs in a document from elsewhere


@dataclass(frozen=True)
class CoveredPatch:
    """One patch on a ref. ``by`` names the upstream change behind its verdict in one word, a commit
    or a release, if one is known; ``culprit`` is that commit where upstream's history tells it. A
    patch that only another line has is not ``in_line``; its verdict is what its recorded facts say.
    """

    slug: str
    subject: str
    verdict: Verdict
    by: str | None
    culprit: UpstreamCommit | None
    evidence: tuple[str, ...]
    in_line: bool = True


@dataclass(frozen=True)
class CommitRun:
    """``count`` first-parent commits in a row, ``first`` and ``last`` included."""

    first: UpstreamCommit
    last: UpstreamCommit
    count: int


@dataclass(frozen=True)
class CoveredRef:
    """A release, or a run of commits on which the same line is chosen and the same is true of each
    of its patches. ``commit`` is the release's commit, or the first of the run, and ``ref`` is its
    name. ``commits`` is None for a release. ``why`` says why the line was chosen on ``commit``, and
    ``notes`` what a person should know of that choice. ``lacks`` are the slugs of patches that are
    needed there, and that the line does not have."""

    ref: str
    commit: Oid
    commits: CommitRun | None
    line: str
    why: str
    patches: tuple[CoveredPatch, ...]
    notes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def needs_person(self) -> bool:
        return bool(self.lacks) or any(patch.verdict in FAILED for patch in self.patches)

    @property
    def faults(self) -> tuple[str, ...]:
        """What a person is needed for, a few words each."""
        failed = (patch for patch in self.patches if patch.verdict in FAILED)
        lacking = (f"{slug} is needed, and the line lacks it" for slug in self.lacks)
        return (*(f"{patch.slug}: {patch.verdict.value}" for patch in failed), *lacking)


@dataclass(frozen=True)
class MissingRef:
    """A ref that could not be judged, the reason, and the next command to type."""

    ref: str
    reason: str
    hint: str | None


@dataclass(frozen=True)
class Coverage:
    """What covers each ref, oldest first. ``judged`` of the ``total`` commits or releases had to be
    judged; each other commit is sure to have the answer of the commit before it."""

    refs: tuple[CoveredRef, ...]
    total: int
    judged: int
    missing: tuple[MissingRef, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Whether each ref could be judged, and whether any needs a person."""
        if self.missing:
            return ExitCode.CANNOT_RUN
        needed = any(ref.needs_person for ref in self.refs)
        return ExitCode.CONFLICT if needed else ExitCode.OK

    @property
    def slugs(self) -> tuple[str, ...]:
        """The patches of all chosen lines, in the order in which the refs show them, and then those
        that no chosen line has."""
        carried = [patch.slug for ref in self.refs for patch in ref.patches]
        return tuple(dict.fromkeys((*carried, *(slug for ref in self.refs for slug in ref.lacks))))


def read_coverage(document: Any, where: str) -> Coverage | Failure:
    """The JSON ``document`` of `fixtool coverage`, which comes from the file ``where``.

    Raises Refused, naming the file and the key, if the document is malformed.
    """
    return documents.parse(document, where, "coverage", _document)


def _document(root: Field) -> Coverage:
    refs = root["refs"].each(_ref)
    if sum(len(ref.patches) for ref in refs) + len(refs) > _MOST:
        raise root["refs"].wrong(f"a list of at most {_MOST} refs and patches")
    if len({ref.commits is None for ref in refs}) > 1:
        raise root["refs"].wrong("a list of commits or a list of releases")
    missing = root["missing"].each(
        lambda ref: MissingRef(
            ref["ref"].text(), ref["reason"].text(), ref["hint"].optional(Field.text)
        )
    )
    return Coverage(refs, root["total"].count(), root["judged"].count(), missing)


def _ref(ref: Field) -> CoveredRef:
    patches = ref["patches"].each(_patch)
    slugs = {patch.slug for patch in patches}
    if len(slugs) < len(patches):
        raise ref["patches"].wrong("a list of different patches")
    return CoveredRef(
        ref["ref"].text(), read_oid(ref["commit"]), ref["commits"].optional(_run),
        ref["line"].text(), ref["why"].text(), patches, ref["notes"].texts(),
        ref["lacks"].texts(),
    )  # fmt: skip


def _run(run: Field) -> CommitRun:
    count = run["count"].count()
    if count < 1:
        raise run["count"].wrong("a number of commits")
    return CommitRun(read_upstream_commit(run["first"]), read_upstream_commit(run["last"]), count)


def _patch(patch: Field) -> CoveredPatch:
    return CoveredPatch(
        patch["slug"].text(), patch["subject"].text(), patch["verdict"].member(Verdict),
        patch["by"].optional(Field.text), patch["culprit"].optional(read_upstream_commit),
        patch["evidence"].texts(), patch["in_line"].flag(),
    )  # fmt: skip
