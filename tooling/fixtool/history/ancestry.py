"""Which upstream changes the history of a commit holds: commits and pull requests that a patch's
trailers record.

The commits alone tell: no tree and no file is read, so a repository without them will do
(`Source.commits`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from fixtool.errors import CannotRun, UsageError
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo, reading_answer
from fixtool.history.log import (
    LogEntry,
    Reference,
    UpstreamCommit,
    restored,
    reverted,
    takes_and_reverts,
    upstream_pull,
)

_FIELDS = ("%H", "%P", "%an", "%aI", "%s", "%b")
_SIZE = len(_FIELDS)
_MOST_SETS = 4  # of ancestors that are kept, a megabyte each


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
    ``pulls``, from one git process that reads commits alone. What was read is remembered: an
    ancestor of the last target needs no process.

    Raises UsageError if a short id means several commits, and CannotRun if ``target`` is not here.
    """
    log = _log_with(repo, target)
    ancestors = log.ancestors(target)
    line = log.first_parents(target)
    names = {name: _full_id(repo, name, ancestors) for name in commits}
    wanted = {oid for oid in names.values() if oid}
    of_pulls = {oid for pull in pulls for oid in log.by_pull.get(pull, ())} & line
    matters = ancestors & {*wanted, *of_pulls, *log.references}
    in_order = sorted(matters, key=log.positions.__getitem__)
    return UpstreamLog(
        target,
        log.shallow.isdisjoint(ancestors),
        tuple(log.entry(oid, oid in line) for oid in in_order),
        names,
        frozenset(pulls),
        {oid: log.merges_of(oid, ancestors) for oid in wanted - line},
    )


class _Log:
    """All ancestors of the commit ``end``, oldest first, of which a few matter."""

    def __init__(self, repo: Repo, end: Oid) -> None:
        self.shallow = repo.shallow
        out = repo.run(
            "log", "-z", "--topo-order", "--reverse", "--no-mailmap", "--no-show-signature",
            f"--format=tformat:{'%x00'.join(_FIELDS)}", "--end-of-options", end,
        ).stdout  # fmt: skip
        fields = out.decode("utf-8", "surrogateescape").split("\0")[:-1]
        # SGLang has 14,000 commits: their rows stay texts.
        with reading_answer("log"):
            self._rows = {Oid(row[0]): row for row in zip(*[iter(fields)] * _SIZE, strict=True)}
        self._parent_ids = {oid: [Oid(parent) for parent in row[1].split()]
                            for oid, row in self._rows.items()}  # fmt: skip
        self._ancestors: dict[Oid, set[Oid]] = {}
        self._counts: dict[Oid, int] = {}
        self.positions = {oid: position for position, oid in enumerate(self._rows)}
        self.references: dict[Oid, tuple[Reference | None, Reference | None]] = {}
        self.by_pull: dict[int, list[Oid]] = {}
        for oid, (_, _, _, _, subject, body) in self._rows.items():
            references = reverted(subject, body), restored(subject)
            if any(references):
                self.references[oid] = references
            if pull := upstream_pull(subject):
                self.by_pull.setdefault(pull, []).append(oid)

    def __contains__(self, oid: Oid) -> bool:
        return oid in self._rows

    def _parents(self, oid: Oid) -> list[Oid]:
        """The parents that are here: a shallow clone names none for its oldest commits."""
        return self._parent_ids[oid]

    def ancestors(self, oid: Oid) -> set[Oid]:
        """The ancestors of a commit, and the commit itself."""
        known = self._ancestors.get(oid)
        if known is not None:
            return known
        found, ahead = {oid}, [oid]
        while ahead:
            new = [parent for parent in self._parents(ahead.pop()) if parent not in found]
            found.update(new)
            ahead += new
        if len(self._ancestors) == _MOST_SETS:
            self._ancestors.clear()
        self._ancestors[oid] = found
        return found

    def count(self, oid: Oid) -> int:
        """How many ancestors a commit has, with itself."""
        if oid not in self._counts:
            self._counts[oid] = len(self.ancestors(oid))
        return self._counts[oid]

    def first_parents(self, oid: Oid) -> set[Oid]:
        """The commit, its first parent, the first parent of that one, and so on."""
        line = {oid}
        while parents := self._parents(oid):
            oid = parents[0]
            line.add(oid)
        return line

    def entry(self, oid: Oid, first_parent: bool) -> LogEntry:
        reverts, restores = self.references.get(oid, (None, None))
        return LogEntry(self._commit(oid), reverts, restores, first_parent)

    def _commit(self, oid: Oid) -> UpstreamCommit:
        _, _, author, date, subject, _ = self._rows[oid]
        return UpstreamCommit(oid, author, date, subject, upstream_pull(subject))

    def merges_of(self, oid: Oid, among: Collection[Oid]) -> tuple[UpstreamCommit, ...]:
        """Those commits of ``among`` that merged ``oid`` into a branch which did not hold it."""
        holders = {oid}
        merges = []
        for later in self._rows:
            first, *others = self._parents(later) or [later]
            if later in among and not holders.isdisjoint((first, *others)):
                holders.add(later)
                if first not in holders:
                    merges.append(self._commit(later))
        return tuple(merges)


_last_read: WeakKeyDictionary[Repo, _Log] = WeakKeyDictionary()
"""The log that was read last from each repository. Its commits never change; which parents are
lacking may."""


def _log_with(repo: Repo, target: Oid) -> _Log:
    """A log of ``repo`` that holds ``target`` with all its ancestors."""
    log = _last_read.get(repo)
    if log is None or target not in log or log.shallow != repo.shallow:
        log = _last_read[repo] = _Log(repo, target)
    return log


def remember(repo: Repo, target: Oid) -> None:
    """Read the history of ``target`` already, so that ``read_upstream`` need not wait for it."""
    with suppress(CannotRun):  # which ``read_upstream`` then raises
        _log_with(repo, target)


def ahead_by(repo: Repo, ancestor: Oid, commit: Oid) -> int | None:
    """The same as ``repo.ahead_by``, without a process if the history of ``commit`` was read."""
    log = _last_read.get(repo)
    if log is None or commit not in log or log.shallow != repo.shallow:
        return repo.ahead_by(ancestor, commit)
    if ancestor not in log.ancestors(commit):
        return None
    return log.count(commit) - log.count(ancestor)


def first_holder(repo: Repo, commit: Oid, ends: Sequence[Oid]) -> int:
    """The position of the first of ``ends``, each an ancestor of the next, whose history holds
    ``commit``, which the last one's holds. Raises CannotRun if the history is cut off before the
    answer is known."""
    log = _log_with(repo, ends[-1])
    if commit in log.ancestors(ends[0]):  # by far the most frequent case
        return 0
    if log.shallow and repo.is_ancestor(commit, ends[0]):  # which raises if nobody can tell
        return 0
    low, high = 1, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if commit in log.ancestors(ends[middle]):
            high = middle
        else:
            low = middle + 1
    return low


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
