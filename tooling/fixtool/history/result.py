"""The history of a line: what was true of each patch on each of upstream's commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fixtool import documents
from fixtool.documents import Failure, Field
from fixtool.git.objects import Oid, read_oid
from fixtool.history.log import UpstreamCommit, read_upstream_commit
from fixtool.history.releases import ReleaseMatrix, read_matrix
from fixtool.replay.verdict import Verdict

_MOST = 20_000  # intervals and cells in a document from elsewhere


@dataclass(frozen=True)
class Interval:
    """A run of commits with one verdict, ``first`` and ``last`` included. ``culprit`` is the commit
    that began it; None for the first run, since the history begins there."""

    verdict: Verdict
    first: UpstreamCommit
    last: UpstreamCommit
    count: int
    culprit: UpstreamCommit | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class PatchHistory:
    """The intervals of one patch, oldest first; there is at least one."""

    slug: str
    subject: str
    intervals: tuple[Interval, ...]

    @property
    def now(self) -> Interval:
        return self.intervals[-1]


@dataclass(frozen=True)
class History:
    """The history of a line from commit ``start`` to commit ``end``. Of its ``commits``, some
    differ in a file that matters: ``judged`` of these states of files had to be judged, and the
    verdicts of ``reused`` were in the cache."""

    line: str
    start: Oid
    end: Oid
    commits: int
    judged: int
    reused: int
    patches: tuple[PatchHistory, ...]


@dataclass(frozen=True)
class HistoryDocument:
    """What `fixtool history` found: the history, the releases, or both, as they were asked for."""

    line: str
    history: History | None
    releases: ReleaseMatrix | None


def read_history(document: Any, where: str) -> HistoryDocument | Failure:
    """The JSON ``document`` of `fixtool history`, which comes from the file ``where``.

    Raises Refused, naming the file and the key, if the document is malformed.
    """
    return documents.parse(document, where, "history", _document)


def _document(root: Field) -> HistoryDocument:
    releases = root["releases"].optional(read_matrix)
    line = root["line"].text()
    patches = root["patches"].each(read_patch_history)
    start, end = (root[key].optional(read_oid) for key in ("start", "end"))
    commits, judged, reused = (root[key].count() for key in ("commits", "judged", "reused"))
    size = sum(len(patch.intervals) for patch in patches)
    size += sum(len(row.cells) for row in releases.patches) if releases else 0
    if size > _MOST:
        raise root["patches"].wrong(f"a list of at most {_MOST} intervals and releases")
    history = None
    if start and end:
        history = History(line, start, end, commits, judged, reused, patches)
    return HistoryDocument(line, history, releases)


def read_patch_history(patch: Field) -> PatchHistory:
    """The history of a patch in a JSON document. Raises FieldError if it is malformed."""
    intervals = patch["intervals"].each(_interval)
    if not intervals:
        raise patch["intervals"].wrong("a list with an interval")
    return PatchHistory(patch["slug"].text(), patch["subject"].text(), intervals)


def _interval(interval: Field) -> Interval:
    count = interval["count"].count()
    if count < 1:
        raise interval["count"].wrong("a number of commits")
    return Interval(
        interval["verdict"].member(Verdict), read_upstream_commit(interval["first"]),
        read_upstream_commit(interval["last"]), count,
        interval["culprit"].optional(read_upstream_commit), interval["evidence"].texts(),
    )  # fmt: skip
