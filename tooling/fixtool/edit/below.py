"""Edits of a work tree that need a person: they conflict in the patch that they are for, or in a
later one. They become a change of their own in that patch, and the edit of the series waits.

All files of the work tree are as they should be in the end. So a later patch that conflicts, and in
which the edits are known to fit, becomes what leads there. Once the line is written, the branch of
the work tree moves to its commits, and no file changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.worktree import Record, open_worktree, send_objects, write_record
from fixtool.edit.edits import (
    Edits,
    Folded,
    Taken,
    Unfit,
    read_edits,
    take_over,
    tree_with_edits,
    trees_with,
)
from fixtool.edit.export import manifest_after, sha256
from fixtool.edit.parts import Unit
from fixtool.edit.sequence import Made, OwnSeries, Plan, digest_of
from fixtool.errors import FixtoolError
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.repo import Repo
from fixtool.text import argument


@dataclass(frozen=True)
class EditsBelow:
    """Edits that are to go into the patch ``slug``. ``series`` are the trees of the work tree's
    patches, in order, and ``fitting`` are commits with those trees with the edits in them, of the
    patches in which the edits fit."""

    slug: str
    taken: Taken
    series: Mapping[str, Oid]
    fitting: Mapping[str, Oid]
    onto: Oid


class NeedsPerson(Unfit):
    """The edits of ``below`` do not fit, and a person can put them in."""

    def __init__(self, unfit: Unfit, below: EditsBelow) -> None:
        super().__init__(unfit.slug, unfit.paths, unfit.where or "")
        self.below = below


def needs_person(
    objects: ObjectDatabase,
    unfit: Unfit,
    edits: Edits,
    series: Mapping[str, Oid],
    slug: str,
    units: Collection[Unit],
    onto: Oid,
) -> NeedsPerson:
    """What says that edits do not fit, with all that is needed to put them in. ``series`` are the
    commits of the work tree on the commit ``onto``."""
    tree = tree_with_edits(objects, edits, units)
    author = objects.commit(edits.head).author

    def commit_of(tree: Oid) -> Oid:
        message = f"edits for {slug}\n"
        return objects.add_commit(Commit(tree, (edits.head,), author, MACHINE, message))

    placed = trees_with(objects, edits, series, slug, tree)
    fitting = {name: commit_of(fits) for name, fits in placed.items()}
    taken = Taken(str(objects.repo.work_tree), commit_of(tree), edits.head, edits.tree)
    objects.flush()
    known = {name: objects.tree_of(commit) for name, commit in series.items()}
    return NeedsPerson(unfit, EditsBelow(slug, taken, known, fitting, onto))


def with_edits(objects: ObjectDatabase, own: OwnSeries, unfit: NeedsPerson, tree: Repo) -> Plan:
    """The series with the edits of the work tree ``tree`` in the patch that they are for. Raises
    ``unfit`` if the work tree has other patches than the line."""
    below = unfit.below
    trees = {slug: objects.tree_of(commit) for slug, commit in own.commits.items()}
    if (own.base, list(trees.items())) != (below.onto, list(below.series.items())):
        raise unfit
    commits = [below.taken.commit, *below.fitting.values()]
    send_objects(tree, objects.repo, commits, below.taken.head)
    change = tree.read_commit(below.taken.commit)
    theirs = objects.add_commit(replace(change, parents=(own.tip,)))
    objects.flush()
    wanted = own.wanted
    at = list(own.commits).index(below.slug)
    wanted[at] = replace(wanted[at], then=(theirs,))
    for number in range(at + 1, len(wanted)):
        if fitting := below.fitting.get(wanted[number].slug):
            wanted[number] = replace(wanted[number], ends_in=objects.tree_of(fitting))
    emptied = f"{below.slug} has all of it since a refresh"
    return Plan(tuple(wanted), f"refresh {below.slug}", emptied=emptied)


@contextmanager
def handed_over(store: Repo, taken: Taken | None, made: Made) -> Iterator[tuple[str, ...]]:
    """Move the branch of the work tree in which the edits ``taken`` were made to the new series,
    and let the block write the line. If the block fails, the branch goes back. Gives notes: that
    the work tree has changed meanwhile, and so stays as it is."""
    if taken is None:
        yield ()
        return
    try:
        tree, record = open_worktree(Path(taken.worktree))
        with ObjectDatabase(tree) as objects:
            edits = read_edits(tree, objects)
    except FixtoolError as error:
        yield (f"the work tree of the edits stays as it is: {error.message}",)
        return
    tip = list(made.commits.values())[-1]
    if edits.head != tip and (why := _stays(tree, edits, taken, made)):
        look = f"git -C {argument(tree.work_tree)} diff"
        yield (f"the work tree of the edits stays as it is, since {why}: {look}",)
        return
    send_objects(store, tree, [tip], made.line.upstream.base)
    if edits.head == tip:  # a run was killed after it had moved the branch
        yield ()
    else:
        folded, reason = Folded(made.commits, made.tree), f"fixtool {made.plan.subject}"
        with take_over(
            tree, edits, folded, reason, lambda: digest_of(made.line) == made.digest_after
        ):
            yield ()
    write_record(tree, _record_after(tree, record, made, tip))


def _stays(tree: Repo, edits: Edits, taken: Taken, made: Made) -> str | None:
    """Why the work tree cannot move to the new series; None if it can."""
    if (edits.head, edits.tree) != (taken.head, taken.tree):
        return "it has changed since"
    if made.tree != tree.read_commit(taken.commit).tree:
        return "the series makes other files now"
    return None


def _record_after(tree: Repo, record: Record, made: Made, tip: Oid) -> Record:
    """The record of the work tree, which is at the new series."""
    record = replace(record, commit=tip, commits=dict(made.commits))
    digests = {patch.slug: sha256(patch.raw) for patch in made.series}
    manifest = manifest_after(tree, record, list(made.commits), digests)
    return replace(record, manifest=manifest)
