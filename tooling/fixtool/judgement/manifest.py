"""The manifest of a tree: which patches of a line are in it, which are left out, and why.

It is kept with the work tree and put into each wheel of it, so that whoever installs the wheel can
see what it holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from fixtool.documents import Field
from fixtool.git.objects import Oid, read_oid
from fixtool.git.repo import Repo, reading_answer
from fixtool.history.log import UpstreamCommit, read_upstream_commit
from fixtool.replay.verdict import PatchResult, Verdict
from fixtool.series.line import Line
from fixtool.text import split_lines


@dataclass(frozen=True)
class ManifestPatch:
    """One patch of the line. ``sha256`` is that of its file. ``commit`` is None if the patch is
    left out; ``evidence`` says why, and ``culprit`` is the upstream commit behind that, None if
    none is known."""

    slug: str
    subject: str
    sha256: str
    verdict: Verdict
    commit: Oid | None
    evidence: tuple[str, ...] = ()
    culprit: UpstreamCommit | None = None

    @property
    def why(self) -> str:
        """The verdict, the first piece of evidence and the upstream commit, as a person reads
        them."""
        parts = [str(self.verdict), *self.evidence[:1]]
        if self.culprit and self.culprit.sha[:12] not in parts[-1]:
            number = f" (#{self.culprit.pr})" if self.culprit.pr else ""
            parts.append(f"by {self.culprit.sha[:12]}{number}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Manifest:
    """The patches of ``line``, in the order of the series, on the upstream commit ``onto``.

    ``base`` is the line's own base. ``own_commits`` counts the commits of the work tree that are no
    patch of the line.
    """

    line: str
    base: Oid
    onto: Oid
    patches: tuple[ManifestPatch, ...]
    own_commits: int = 0

    @property
    def carried(self) -> tuple[ManifestPatch, ...]:
        return tuple(patch for patch in self.patches if patch.commit is not None)

    @property
    def left_out(self) -> tuple[ManifestPatch, ...]:
        return tuple(patch for patch in self.patches if patch.commit is None)

    @property
    def left_out_by_hand(self) -> tuple[ManifestPatch, ...]:
        """The patches that are left out because a person wanted so, not because they are not
        needed."""
        return tuple(patch for patch in self.left_out if patch.verdict is Verdict.LEFT_OUT)

    @property
    def digest(self) -> str:
        """The sha256 of everything in it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def after_export(self, series: Sequence[str], written: Mapping[str, ManifestPatch]) -> Manifest:
        """The manifest after an export to the line, on the line's own base. ``series`` are the
        slugs of the line in their new order, and ``written`` are the patches that were written, by
        slug."""
        patches = {patch.slug: patch for patch in self.patches}
        for slug, new in written.items():
            old = patches.get(slug)
            if old is None or (old.sha256, old.commit) != (new.sha256, new.commit):
                patches[slug] = new
        return replace(self, patches=tuple(patches[slug] for slug in series if slug in patches))


def manifest_of(
    line: Line,
    onto: Oid,
    results: Iterable[PatchResult],
    culprits: Mapping[str, UpstreamCommit] | None = None,
) -> Manifest:
    """The manifest of the tree that ``line`` gave on ``onto``. ``results`` say what became of each
    of its patches, and ``culprits`` name the upstream commits behind that, by slug."""
    digests = {patch.slug: patch.digest for patch in line.patches}
    patches = (
        ManifestPatch(
            result.slug, result.subject, digests[result.slug], result.verdict, result.commit,
            result.evidence, (culprits or {}).get(result.slug),
        )
        for result in results
    )  # fmt: skip
    return Manifest(line.name, line.upstream.base, onto, tuple(patches))


def manifest_at(manifest: Manifest, repo: Repo, head: Oid) -> Manifest | None:
    """The manifest of ``head``, a commit of the work tree that ``manifest`` was made for; None if
    it does not descend from the commit that the line was applied to.

    A person may have changed the commits since. A patch whose commit is gone is found again by its
    subject, or else by its author and date, as after an amend. If it is not found, it counts as
    left out by hand.
    """
    if repo.ahead_by(manifest.onto, head) is None:
        return None
    log = _read_log(repo, f"{manifest.onto}..{head}")
    present = {commit.oid for commit in log}
    ours = {patch.commit for patch in manifest.carried}
    own = [commit for commit in log if commit.oid not in ours]
    patches = []
    for patch in manifest.patches:
        if patch.commit is None or patch.commit in present:
            patches.append(patch)
        elif successor := _successor(patch, own, repo):
            own.remove(successor)
            evidence = ("its commit was changed in the work tree", *patch.evidence)
            patches.append(replace(patch, commit=successor.oid, evidence=evidence))
        else:
            evidence = ("its commit was taken out of the work tree",)
            patches.append(
                replace(
                    patch, verdict=Verdict.LEFT_OUT, commit=None, evidence=evidence, culprit=None
                )
            )
    return replace(manifest, patches=tuple(patches), own_commits=len(own))


def read_manifest(field: Field) -> Manifest:
    """The manifest at a key of a JSON document. Raises FieldError if it is malformed."""
    return Manifest(
        field["line"].text(), read_oid(field["base"]), read_oid(field["onto"]),
        field["patches"].each(_read_patch), field["own_commits"].count(),
    )  # fmt: skip


def _read_patch(field: Field) -> ManifestPatch:
    sha256 = field["sha256"]
    if not re.fullmatch(r"[0-9a-f]{64}", sha256.text()):
        raise sha256.wrong("a sha256")
    return ManifestPatch(
        field["slug"].text(), field["subject"].text(), sha256.text(),
        field["verdict"].member(Verdict), field["commit"].optional(read_oid),
        field["evidence"].texts(), field["culprit"].optional(read_upstream_commit),
    )  # fmt: skip


class _Committed(NamedTuple):
    """A commit; ``authored`` is who wrote it and when."""

    oid: Oid
    authored: str
    subject: str


@reading_answer("log")
def _read_log(repo: Repo, *revisions: str) -> list[_Committed]:
    log = repo.run("log", "--date=raw", "--format=%H%x00%an <%ae> %ad%x00%s", *revisions).text
    fields = (entry.split("\0") for entry in split_lines(log))
    return [_Committed(Oid(oid), authored, subject) for oid, authored, subject in fields]


def _successor(patch: ManifestPatch, own: Sequence[_Committed], repo: Repo) -> _Committed | None:
    """The commit among ``own`` that a person put in the place of the patch's commit."""
    for commit in own:
        if commit.subject == patch.subject:
            return commit
    assert patch.commit is not None
    if not repo.has(patch.commit):
        return None
    old = _read_log(repo, "--no-walk", patch.commit)[0]
    same = [commit for commit in own if commit.authored == old.authored]
    return same[0] if len(same) == 1 else None
