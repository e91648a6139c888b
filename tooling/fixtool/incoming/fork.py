"""Reads the changes in a range of a fork's commits."""

from __future__ import annotations

import re

from fixtool.errors import Refused, UsageError
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.incoming.change import Incoming
from fixtool.series.patch import export, parse
from fixtool.sources.resolve import resolve_local
from fixtool.text import split_lines


def read_range(repo: Store, fork: Repo, text: str) -> list[Incoming]:
    """The commits of ``A..B`` in ``fork``, oldest first, whose objects ``repo`` then borrows.

    Raises UsageError if ``text`` is no range of commits, Refused if a commit is a merge or changes
    nothing.
    """
    first, dots, last = text.partition("..")
    if not dots or not first or not last or last.startswith("."):
        raise UsageError(f"{text!r} is not a commit range A..B")
    repo.borrow(fork)
    where = str(fork.work_tree or fork.git_dir)
    old, new = (_endpoint(fork, name, where) for name in (first, last))
    listed = split_lines(fork.run("rev-list", "--reverse", "--parents", f"{old}..{new}").text)
    if not listed:
        raise UsageError(f"no commits in {text}", where=where)
    changes = []
    for commit, *parents in (map(Oid, entry.split()) for entry in listed):
        if len(parents) != 1:
            raise Refused(
                f"{commit[:12]} is a merge: a series is one straight line",
                where=where,
                hint=f"rebase the branch first: git -C {where} rebase {old[:12]} {last}",
            )
        author = fork.read_commit(commit).author
        raw = export(repo, commit)
        if not re.search(rb"^diff --git ", raw, re.MULTILINE):
            raise Refused(
                f"{commit[:12]} changes nothing, and a patch has to change something",
                where=where,
                hint=f"drop it first: git -C {where} rebase --no-keep-empty {old[:12]} {last}",
            )
        patch = parse(raw, commit[:12])
        changes.append(Incoming(patch.subject, patch.body, author, patch.diff, commit[:12], commit))
    return changes


def _endpoint(fork: Repo, name: str, where: str) -> Oid:
    """The commit that a ref of the fork means, which may end in ``^`` or ``~2``."""
    ref, steps = re.split(r"(?=[~^][\d~^]*$)", name + "~0", maxsplit=1)
    commit = fork.commit_id(resolve_local(fork, ref, where) + steps)
    if commit is None:
        raise UsageError(f"{name!r} goes back beyond the history that {where} has", where=where)
    return commit
