"""Which upstream changes the history of a commit holds: commits and pull requests that a patch's
trailers record.

The commits alone tell: no tree and no file is read, so a repository without them will do
(`Source.commits`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fixtool.errors import CannotRun, UsageError
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.history.log import (
    LogEntry,
    UpstreamCommit,
    restored,
    reverted,
    takes_and_reverts,
    upstream_pull,
)

_FIELDS = ("%H", "%P", "%an", "%aI", "%s", "%b")
_SIZE = len(_FIELDS)


@dataclass(frozen=True)
class Landing:
    """What became of a change in upstream's history. ``turns`` are the commits that took it, took
    it back, took it again, and so on; there is at least one."""

    turns: tuple[UpstreamCommit, ...]

    @property
    def holds(self) -> bool:
        """Whether the history holds the change at its end."""
        return len(self.turns) % 2 == 1

    @property
    def taken(self) -> UpstreamCommit:
        """The commit that took the change, the last one if there are several."""
        return self.turns[-1 if self.holds else -2]

    @property
    def reverted(self) -> UpstreamCommit | None:
        """The commit that took the change back; None if the history still holds it."""
        return None if self.holds else self.turns[-1]


@dataclass(frozen=True)
class UpstreamLog:
    """The history of ``target``, as far as it matters to some commits and pull requests.

    ``entries`` are in the order of the history, oldest first. ``names`` maps the commits that were
    asked for, perhaps by short ids, to full ids, and to None if there is no such ancestor;
    ``pulls`` are the pull requests that were asked for. ``merges`` gives the merges that brought a
    commit of a side branch. ``whole`` is False if a shallow clone has cut the history off.
    """

    target: Oid
    whole: bool
    entries: tuple[LogEntry, ...]
    names: Mapping[str, Oid | None]
    pulls: frozenset[int]
    merges: Mapping[Oid, tuple[UpstreamCommit, ...]]

    def landing(self, commit: str | None, pull: int | None) -> Landing | None:
        """What became of a change that a trailer records by a ``commit``, a ``pull`` request or
        both; None if the target's history never held it.

        The commit counts wherever it stands in the history. The pull request counts where the
        subject of a first-parent commit ends with it. Raises CannotRun if the history is cut off
        before the answer is known, and ValueError if the log was not read for this change.
        """
        if (commit and commit not in self.names) or (pull and pull not in self.pulls):
            raise ValueError(f"the log was not read for {commit} and {pull}")
        oid = self.names[commit] if commit else None
        positions = takes_and_reverts(
            self.entries, [oid] if oid else [], [pull] if pull else [], self.merges
        )
        if positions:
            return Landing(tuple(self.entries[position].commit for position in positions))
        if not self.whole:
            change = commit[:12] if commit else f"#{pull}"
            raise CannotRun(
                f"the history of {self.target[:12]} is cut off here, so git cannot tell whether it "
                f"holds {change}",
                hint="name a source with the full history: --source PATH of a clone",
            )
        return None


def read_upstream(
    repo: Repo, target: Oid, commits: Sequence[str], pulls: Sequence[int]
) -> UpstreamLog:
    """The history of ``target`` as far as it matters to ``commits`` (ids of 7 to 40 digits) and
    ``pulls``, from one git process that reads commits alone.

    Raises UsageError if a short id means several commits, and CannotRun if ``target`` is not here.
    """
    log = _Log(repo, target)
    names = {name: _full_id(repo, name, log.commits) for name in commits}
    wanted = {oid for oid in names.values() if oid}
    side = wanted - log.first_parents
    return UpstreamLog(
        target, repo.shallow.isdisjoint(log.commits), log.entries(wanted, frozenset(pulls)), names,
        frozenset(pulls), {oid: log.merges_of(oid) for oid in side},
    )  # fmt: skip


class _Log:
    """All ancestors of a commit, oldest first."""

    def __init__(self, repo: Repo, target: Oid) -> None:
        out = repo.run(
            "log", "-z", "--topo-order", "--reverse", "--no-mailmap", "--no-show-signature",
            f"--format=tformat:{'%x00'.join(_FIELDS)}", "--end-of-options", target,
        ).stdout  # fmt: skip
        fields = out.decode("utf-8", "surrogateescape").split("\0")[:-1]
        # The rows stay texts: of 14,000 commits a few matter.
        self.commits = {Oid(row[0]): row for row in zip(*[iter(fields)] * _SIZE, strict=True)}
        self.first_parents = self._line_of(target)

    def _line_of(self, target: Oid) -> set[Oid]:
        line: set[Oid] = set()
        sha = target
        while sha in self.commits:
            line.add(sha)
            sha = Oid(self.commits[sha][1].partition(" ")[0])
        return line

    def entries(self, wanted: Collection[Oid], pulls: Collection[int]) -> tuple[LogEntry, ...]:
        """The commits that are wanted by id or pull request, or that take another one back or put
        it in again."""
        entries = []
        for oid, (_, _, _, _, subject, body) in self.commits.items():
            reverts, restores = reverted(subject, body), restored(subject)
            if reverts or restores or oid in wanted or upstream_pull(subject) in pulls:
                first_parent = oid in self.first_parents
                entries.append(LogEntry(self._commit(oid), reverts, restores, first_parent))
        return tuple(entries)

    def _commit(self, oid: Oid) -> UpstreamCommit:
        _, _, author, date, subject, _ = self.commits[oid]
        return UpstreamCommit(oid, author, date, subject, upstream_pull(subject))

    def merges_of(self, oid: Oid) -> tuple[UpstreamCommit, ...]:
        """The merges that brought the commit ``oid`` to a branch which did not hold it."""
        holders: set[str] = {oid}
        merges = []
        for sha, row in self.commits.items():
            first, *others = row[1].split(" ")
            if first in holders:
                holders.add(sha)
            elif not holders.isdisjoint(others):
                holders.add(sha)
                merges.append(self._commit(sha))
        return tuple(merges)


def _full_id(repo: Repo, name: str, ancestors: Collection[Oid]) -> Oid | None:
    """The ancestor that ``name`` means. A short id is looked up among all commits of ``repo``, so
    that one which also means another commit is not taken for the ancestor's."""
    if is_full_sha(name):
        return Oid(name) if name in ancestors else None
    candidates = repo.candidates(name)
    if len(candidates) > 1:
        raise UsageError(
            f"{name} is short for {len(candidates)} commits: {', '.join(candidates)}",
            hint="write the full id in the trailer",
        )
    return next((oid for oid in candidates if oid in ancestors), None)
