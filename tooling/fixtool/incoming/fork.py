"""Reads the changes in a range of a fork's commits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid, Signature
from fixtool.git.repo import Repo, reading_answer
from fixtool.git.store import Store
from fixtool.incoming.change import Incoming, make_change
from fixtool.series.message import split_message
from fixtool.series.patch import export_all
from fixtool.sources.resolve import resolve_local
from fixtool.text import argument, count, split_lines

_DIFF = b"\ndiff --git "


def read_range(repo: Store, fork: Repo, text: str, *, first_parent: bool = False) -> list[Incoming]:
    """The commits of ``A..B`` in ``fork``, oldest first, whose objects ``repo`` then borrows. With
    ``first_parent``, these are the commits of the branch itself, and a merge is one change: all
    that it brought into the branch.

    Raises UsageError if ``text`` is no range of commits, Refused if a commit is a merge and not
    ``first_parent``.
    """
    first, dots, last = text.partition("..")
    if not dots or not first or not last or last.startswith("."):
        ends = [name.strip(".") for name in (first, last)]
        meant = f"{ends[0]}..{ends[1]}" if all(ends) else f"BASE..{ends[0] or ends[1] or 'TIP'}"
        hint = f"the same command with {argument(meant)} instead of {argument(text)}"
        if not dots:
            alone = f"{text}~1..{text}"
            hint = f"all since a base: {hint}; or one commit alone: "
            hint += f"the same command with {argument(alone)} instead of {argument(text)}"
        raise UsageError(
            f"{text!r} is not a commit range A..B, the commits of B that A does not have", hint=hint
        )
    repo.borrow(fork)
    where = str(fork.work_tree or fork.git_dir)
    old, new = (_endpoint(fork, name, where) for name in (first, last))
    way = ["--first-parent"] if first_parent else ["--topo-order"]
    listed = split_lines(fork.run("rev-list", "--reverse", "--parents", *way, f"{old}..{new}").text)
    if not listed:
        turned = f"{last}..{first}"
        other = fork.run("rev-list", "--count", f"{new}..{old}").text.strip()
        more = f"; {turned} has {count(int(other), 'commit')}" if other != "0" else ""
        raise UsageError(
            f"no commits in {text}: {first} has all that {last} has{more}",
            where=where,
            hint=f"the same command with {argument(turned)} instead of {argument(text)}"
            if more
            else f"git -C {argument(where)} log --oneline -5 {argument(last)}",
        )
    commits = {}
    for oid, *parents in (map(Oid, entry.split()) for entry in listed):
        if not parents:
            raise Refused(f"{oid[:12]} has no parent to differ from", where=where)
        if len(parents) > 1 and not first_parent:
            raise Refused(
                f"{oid[:12]} is a merge: a series is one straight line",
                where=where,
                hint="make each merge one patch of all that it brought: fixtool import "
                f"{shlex.quote(text)} --from {shlex.quote(where)} --first-parent",
            )
        commits[oid] = parents[0]
    return _read_commits(repo, commits)


def _read_commits(repo: Store, parents: Mapping[Oid, Oid]) -> list[Incoming]:
    """The changes of commits against their first ``parents``. A diff is empty if the commit changes
    no file."""
    texts = _texts(repo, list(parents))
    made = {oid: Oid(text[0]) for oid, text in texts.items()}
    with ObjectDatabase(repo) as objects:
        plain: dict[Oid, Oid] = {}
        trees: dict[Oid, tuple[Oid, Oid]] = {}
        for oid, parent in parents.items():
            # As a commit with another message, which cannot be taken for a part of the diff.
            plain[oid] = objects.add_commit(
                Commit(made[oid], (parent,), MACHINE, MACHINE, "commit\n")
            )
            trees[oid] = made.get(parent) or objects.tree_of(parent), made[oid]
        objects.flush()
    full = [oid for oid, (before, after) in trees.items() if before != after]
    raw = export_all(repo, [plain[oid] for oid in full])
    diffs = {oid: mail[mail.index(_DIFF) + 1 :] for oid, mail in zip(full, raw, strict=True)}
    return [
        _read_commit(oid, texts[oid], diffs.get(oid, b""), plain[oid], trees[oid])
        for oid in parents
    ]


@reading_answer("log")
def _texts(repo: Store, ids: Sequence[Oid]) -> dict[Oid, tuple[str, ...]]:
    """The tree, and the name, the mail address, the date and the message of each commit, in UTF-8,
    whatever it is stored in; from one process."""
    form = "--format=%H%x00%T%x00%an%x00%ae%x00%ad%x00%B"
    words = ("log", "--no-walk=unsorted", "--stdin", "-z", "--encoding=UTF-8", "--no-mailmap",
             "--no-notes", "--date=raw", form)  # fmt: skip
    out = repo.run(*words, stdin="".join(f"{oid}\n" for oid in ids).encode()).stdout
    fields = out.decode("utf-8", "surrogateescape").split("\0")
    texts = {Oid(oid): tuple(text) for oid, *text in zip(*[iter(fields[:-1])] * 6, strict=True)}
    if texts.keys() != set(ids):
        raise ValueError(fields[:1])
    return texts


def _read_commit(
    oid: Oid, text: tuple[str, ...], diff: bytes, plain: Oid, trees: tuple[Oid, Oid]
) -> Incoming:
    """The change of a commit, whose diff is that of the commit ``plain``, between two ``trees``."""
    _, name, address, date, message = text
    subject, body = split_message(message)
    notes = () if address else (f"its author {name} has no mail address",)
    if not subject:
        subject = f"commit {oid[:12]}"
        notes = (f"it has no message: {subject!r} was written", *notes)
    author = Signature(name, address, date)
    return make_change(
        subject, body, author, diff, oid[:12], commit=plain, notes=notes, trees=trees
    )


def _endpoint(fork: Repo, name: str, where: str) -> Oid:
    """The commit that a ref of the fork means, which may end in ``^`` or ``~2``."""
    shown, name = name, f"{name}~0"
    tail = name[len(name.rstrip("~^0123456789")) :]
    steps = re.sub(r"^\d+", "", tail)  # digits before the first `~` or `^` are the ref's
    ref = name.removesuffix(steps)
    commit = fork.commit_id(resolve_local(fork, ref, where) + steps)
    if commit is None:
        raise UsageError(f"{shown!r} goes back beyond the history that {where} has", where=where)
    return commit
