"""Where the answer to the question of what covers upstream's commits may change.

To judge a commit takes a second, and most commits change nothing that matters. So this module finds
the commits on which the line that is chosen, or what is true of its patches, may differ from the
commit before. All others are sure to have the answer of the commit before:

- A replay depends on a few files (`history.states`). A conflict is also tried on the lines of a
  hunk wherever they stand, so a file matters that holds them.
- Recorded facts depend on which commits an upstream commit descends from, and on the commits that
  took a patch or took one back.
- The choice between lines depends on whose base is an ancestor, and which is nearest in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise

from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.history.log import UpstreamChange, UpstreamCommit
from fixtool.history.recorded import claims_of, read_log
from fixtool.history.states import UpstreamFiles
from fixtool.series.line import Line
from fixtool.text import split_lines

_BATCH = 32 << 20  # bytes of files that are read at a time
_BINARY = 8000  # bytes in which git looks for a NUL

Bring = Callable[[Sequence[Oid]], None]


@dataclass(frozen=True)
class Stretch:
    """First-parent commits of upstream: the ``start``, then one for each of ``changes``.

    ``repo`` holds their trees. ``ancestors`` holds every ancestor of the last commit. ``bring``
    makes blobs readable in ``repo``.
    """

    repo: Repo
    ancestors: Repo
    start: Oid
    changes: Sequence[UpstreamChange]
    bring: Bring

    @property
    def commits(self) -> list[Oid]:
        return [self.start, *(change.commit.sha for change in self.changes)]


@dataclass(frozen=True)
class CommitFacts:
    """The tree of a commit, and the day in UTC on which it was committed."""

    tree: Oid
    day: date


def borders(
    stretch: Stretch, lines: Sequence[Line], bases: Mapping[str, Oid | None]
) -> tuple[list[int], list[CommitFacts]]:
    """The positions of the commits to judge, the first is 0; and the facts of every commit.
    ``bases`` are the bases of ``lines`` by name, None for one that cannot be had."""
    facts = _commit_facts(stretch)
    found = {0}
    for line in lines:
        found |= _by_files(stretch, line, bases[line.name])
    found |= _by_moved_lines(stretch, lines)
    found |= _by_recorded_facts(stretch, lines)
    for repo in (stretch.repo, stretch.ancestors):
        found |= _first_holders(stretch, repo, [line.upstream.base for line in lines])
    found |= _by_base(stretch, lines, facts)
    found |= _changes([_nearest_in_time(lines, commit.day) for commit in facts])
    return sorted(found), facts


def _changes(values: Sequence[object]) -> set[int]:
    """The positions of the values that differ from the one before."""
    return {
        position
        for position, (before, after) in enumerate(pairwise(values), 1)
        if before is not after and before != after
    }


def _by_files(stretch: Stretch, line: Line, base: Oid | None) -> set[int]:
    """Where a file differs that a replay of ``line`` reads."""
    files = UpstreamFiles(stretch.repo, base, stretch.start, stretch.changes, stretch.bring)
    states = files.states(line.patches)
    used = (entry for state in states for _, entry in (*state.files, *state.base_files))
    stretch.bring(sorted({entry.blob for entry in used}))
    return _changes(states)


def _commit_facts(stretch: Stretch) -> list[CommitFacts]:
    commits = "".join(f"{commit}\n" for commit in stretch.commits).encode()
    out = stretch.repo.run("log", "--no-walk=unsorted", "--stdin", "--format=%T %ct", stdin=commits)
    rows = (row.split(" ") for row in split_lines(out.text))
    return [
        CommitFacts(Oid(tree), datetime.fromtimestamp(int(seconds), UTC).date())
        for tree, seconds in rows
    ]


def _by_base(stretch: Stretch, lines: Sequence[Line], facts: Sequence[CommitFacts]) -> set[int]:
    """Where a commit is the very base of a line, and the commit after it."""
    commits = {line.upstream.base for line in lines}
    trees = {line.upstream.tree for line in lines}
    is_base = [
        commit in commits or fact.tree in trees
        for commit, fact in zip(stretch.commits, facts, strict=True)
    ]
    after = {position + 1 for position, base in enumerate(is_base[:-1]) if base}
    return after | {position for position, base in enumerate(is_base) if base}


def _nearest_in_time(lines: Sequence[Line], day: date) -> tuple[int, ...]:
    """The rank of each line by the time between its base and ``day``; lines as near have the same
    rank."""
    distances = [abs(date.fromisoformat(line.upstream.date) - day) for line in lines]
    ordered = sorted(set(distances))
    return tuple(ordered.index(distance) for distance in distances)


def _first_holders(stretch: Stretch, repo: Repo, ids: Iterable[Oid]) -> set[int]:
    """The position of the first commit whose history holds each of the commits ``ids``, as far as
    ``repo`` shows. All commits after it hold it too, so it can be found by halving."""
    commits = stretch.commits
    positions = {commit: position for position, commit in enumerate(commits)}
    later = repo.run("rev-list", f"{commits[0]}..{commits[-1]}").text.split()

    def first(oid: Oid) -> int:
        low, high = 0, len(commits) - 1
        while low < high:
            middle = (low + high) // 2
            question = ("merge-base", "--is-ancestor", oid, commits[middle])
            if repo.run(*question, accept=(0, 1)).status == 0:
                high = middle
            else:
                low = middle + 1
        return low

    return {positions.get(oid) or first(oid) for oid in set(map(Oid, later)) & set(ids)}


def _by_recorded_facts(stretch: Stretch, lines: Sequence[Line]) -> set[int]:
    """The commits from which on upstream's history holds another commit that recorded facts name,
    or one that takes such a commit back or puts it in again."""
    claims = [claim for line in lines for patch in line.patches for claim in claims_of(patch)]
    if not claims:
        return set()
    log = read_log(stretch.ancestors, stretch.commits[-1], claims)
    named = {oid for oid in log.names.values() if oid}
    related: dict[Oid, UpstreamCommit] = {}
    before = -1
    while before < len(related):  # a revert may come before what it takes back, on a side branch
        before = len(related)
        for entry in log.entries:
            commit, references = entry.commit, (entry.reverts, entry.restores)
            if (
                commit.sha in named
                or commit.pr in log.pulls
                or any(each.names(other) for each in references if each
                       for other in related.values())
            ):  # fmt: skip
                merges = log.merges.get(commit.sha, ())
                related |= {each.sha: each for each in (commit, *merges)}
    return _first_holders(stretch, stretch.ancestors, related)


def _by_moved_lines(stretch: Stretch, lines: Sequence[Line]) -> set[int]:
    """The commits after which another file holds the old lines of a hunk, or holds them once more
    or once less: a hunk that conflicts may be applied where its lines are now."""
    texts = sorted({
        "".join(hunk.before).encode("utf-8", "surrogateescape")
        for line in lines
        for patch in line.patches
        for file in patch.files
        for hunk in file.hunks
        if file.old_path
    })  # fmt: skip
    if not texts or not stretch.changes:
        return set()
    changed = {path for change in stretch.changes for path in change.files}
    files: dict[str, TreeEntry | None] = dict(list_tree(stretch.repo, stretch.start))
    files = {path: files.get(path) for path in changed}
    entries = [entry for change in stretch.changes for entry in change.files.values()]
    blobs = {entry.blob for entry in (*files.values(), *entries) if entry and _is_file(entry)}
    held = _occurrences(stretch, sorted(blobs), texts)
    found = set()
    for position, change in enumerate(stretch.changes, 1):
        for path, entry in change.files.items():
            before, files[path] = files[path], entry
            if _held(held, before) != _held(held, entry):
                found.add(position)
    return found


def _is_file(entry: TreeEntry) -> bool:
    return entry.mode.startswith("100")  # neither a link nor a submodule


def _held(held: Mapping[Oid, tuple[int, ...]], entry: TreeEntry | None) -> tuple[int, ...] | None:
    return held.get(entry.blob) if entry and _is_file(entry) else None


def _occurrences(
    stretch: Stretch, blobs: Sequence[Oid], texts: Sequence[bytes]
) -> dict[Oid, tuple[int, ...]]:
    """How often each blob holds each of ``texts`` as whole lines, where 2 stands for more than
    once. A blob that holds none is left out."""
    stretch.bring(blobs)
    held = {}
    for batch in _batches(stretch.repo.sizes(blobs)):
        for blob, content in zip(batch, stretch.repo.read_blobs(batch), strict=True):
            if b"\0" not in content[:_BINARY]:
                counts = tuple(_count(content, text) for text in texts)
                if any(counts):
                    held[blob] = counts
    return held


def _batches(sizes: Mapping[Oid, int]) -> Iterator[list[Oid]]:
    """The blobs in groups that hold few bytes, so that little memory is needed."""
    batch: list[Oid] = []
    room = _BATCH
    for blob, size in sizes.items():
        if batch and size > room:
            yield batch
            batch, room = [], _BATCH
        batch.append(blob)
        room -= size
    if batch:
        yield batch


def _count(content: bytes, text: bytes) -> int:
    """How often ``content`` holds the lines ``text``: 0, 1 or, for more than once, 2."""
    if not text.endswith(b"\n"):  # the last line of a file without a newline at its end
        return int(content == text or content.endswith(b"\n" + text))
    count = int(content.startswith(text))
    at = content.find(b"\n" + text)
    while at >= 0 and count < 2:
        count += 1
        at = content.find(b"\n" + text, at + 1)
    return count
