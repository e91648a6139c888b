"""Many three-way merges at once, each of a tree into another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Merge, Oid, parse_oid
from fixtool.git.repo import Repo, reading_answer
from fixtool.git.scratch import scratch_objects

_USAGE = 129  # the status of a git that does not know an option: `--stdin` came with 2.39
# What a merge makes is soon removed, so to compress it would be in vain.
_FORM = (
    "-c",
    "core.looseCompression=0",
    "merge-tree",
    "--write-tree",
    "--name-only",
    "--no-messages",
    "-z",
)


class Question(NamedTuple):
    """A merge of the changes from the tree ``base`` to the tree ``theirs`` into the tree
    ``ours``."""

    base: Oid
    ours: Oid
    theirs: Oid

    def commits(self, objects: ObjectDatabase) -> tuple[Oid, Oid]:
        """Two commits with these trees, whose one merge base has the base's."""
        base = objects.add_commit(Commit(self.base, (), MACHINE, MACHINE, "base\n"))
        ours, theirs = (
            objects.add_commit(Commit(tree, (base,), MACHINE, MACHINE, f"{side}\n"))
            for side, tree in (("ours", self.ours), ("theirs", self.theirs))
        )
        return ours, theirs


def merge_many(repo: Repo, pairs: Sequence[tuple[Oid, Oid]], *, keep: bool) -> list[Merge]:
    """Merge each pair of commits, in one process. What the merges make stays in ``repo`` if
    ``keep``."""
    if keep:
        return _merge(repo, pairs, {})
    with scratch_objects(repo) as environment:
        return _merge(repo, pairs, environment)


@reading_answer("merge-tree")
def _merge(
    repo: Repo, pairs: Sequence[tuple[Oid, Oid]], environment: dict[str, str]
) -> list[Merge]:
    questions = "".join(f"{ours} {theirs}\n" for ours, theirs in pairs).encode()
    out = repo.run(*_FORM, "--stdin", stdin=questions, env=environment, accept=(0, _USAGE))
    if out.status == _USAGE:
        return [_read(repo.run(*_FORM, *pair, env=environment, accept=(0, 1)).stdout)[0]
                for pair in pairs]  # fmt: skip
    merges = []
    fields = out.stdout.decode("utf-8", "surrogateescape").split("\0")
    at = 0
    while fields[at]:  # 1 for a clean merge, 0 for conflicts
        end = fields.index("", at + 2)
        merges.append(_merge_of(fields[at + 1 : end]))
        if (fields[at] == "1") is bool(merges[-1].conflicts):
            raise ValueError(fields[at])
        at = end + 1
    if len(merges) != len(pairs):
        raise ValueError(out.stdout)
    return merges


def _read(answer: bytes) -> tuple[Merge]:
    fields = answer.decode("utf-8", "surrogateescape").split("\0")
    return (_merge_of([field for field in fields if field]),)


def _merge_of(fields: Sequence[str]) -> Merge:
    tree, *conflicts = fields
    return Merge(parse_oid(tree, "git merge-tree"), tuple(conflicts))
