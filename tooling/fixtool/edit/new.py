"""Makes a patch of what is not committed in a work tree, and of the commits on top of it.

The work tree gets one commit with all of that, which is the patch. No file of it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fixtool.apply.identity import commits_after_base, identify, with_renames
from fixtool.apply.worktree import Record
from fixtool.edit.edits import Edits, Folded, read_edits, tree_with_edits
from fixtool.edit.export import Exported, ExportOptions, open_to_export, require_base
from fixtool.edit.refresh import (
    Selection,
    chosen_units,
    export_with,
    has_edits,
    killed_run,
    shown_edits,
)
from fixtool.edit.sequence import require_free
from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import MACHINE, Commit, Oid, Signature
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.lint import errors_in_patch
from fixtool.series.message import join_message, mailable, split_message
from fixtool.series.patch import export, parse
from fixtool.text import argument, count


@dataclass(frozen=True)
class NewPatch:
    """The patch to make: its ``slug``, its message, None if that of the one commit is meant, and
    its author where no commit tells one. ``selection`` says which edits go into it."""

    slug: str
    message: str | None
    author: Signature
    selection: Selection


def has_work(tree: Repo, record: Record) -> bool:
    """Whether a work tree has edits, or commits that are in no patch file."""
    return has_edits(tree) or tree.head() != record.commit


def new_patch(
    context: Context, tree: Repo, record: Record, new: NewPatch, options: ExportOptions
) -> Exported:
    """Make a patch, the last one, of the edits of a work tree and of the commits on top of it that
    are in no patch, and write its file.

    Raises Refused if there is nothing to make it of, if it is not clear what its message is, or if
    other patches are changed in the work tree and not in the line; UsageError if its name cannot be
    one; and whatever ``export`` raises.
    """
    options = replace(options, unclean=True)
    open_to_export(context, tree, record, options)
    line = context.repository.line(record.line)
    require_base(tree, record, line, options)
    require_free(line, new.slug)
    reason = f"fixtool new: {new.slug}"
    on_top = _on_top(tree, record, line, options)
    tree = tree.durably()
    with passing_objects(tree) if options.dry_run else ObjectDatabase(tree) as objects:
        edits = read_edits(tree, objects)
        # A run that was killed has put what was chosen into the commit on top.
        was_done = new.selection.chooses and killed_run(tree, record) == reason
        units = (
            set() if was_done or not edits.units else chosen_units(edits, new.slug, new.selection)
        )
        if not units and not on_top:
            raise _nothing(tree, edits)
        commit = _commit(objects, tree, new, edits, on_top, tree_with_edits(objects, edits, units))
        commits = {**record.commits, new.slug: commit}
        folded = Folded(commits, objects.tree_of(commit))
        objects.flush()
        _require_well_formed(objects.repo, tree, new.slug, commit)
    shown = shown_edits(edits, dict.fromkeys(units, new.slug), {})
    if options.dry_run:
        return Exported(line.name, line.folder, (), False, edits=shown)
    options = replace(options, new={new.slug: commit}, named=(new.slug,), command="new patch")
    done = export_with(context, tree, record, edits, folded, reason, options)
    return replace(done, edits=shown)


def _on_top(tree: Repo, record: Record, line: Line, options: ExportOptions) -> list[Oid]:
    """The commits on top of the series that are in no patch, oldest first. Raises Refused if a
    commit below them is in no patch either, or if a patch is changed."""
    found = identify(tree, record, line, options.pairs)
    record = with_renames(record, found.renamed)
    known = {*record.commits, *(entry.slug for entry in line.entries)}
    commits = commits_after_base(tree, record.onto)
    new = [oid for slug, oid in found.commits.items() if slug not in known]
    on_top = commits[len(commits) - len(new) :]
    kept = {slug: oid for slug, oid in found.commits.items() if slug in known}
    if on_top != new or list(kept.items()) != list(record.commits.items()):
        raise Refused(
            "other patches are changed in this work tree, and not in the line",
            where=str(tree.work_tree),
            hint=f"write these first: fixtool refresh --worktree {argument(tree.work_tree)}",
        )
    return on_top


def _nothing(tree: Repo, edits: Edits) -> Refused:
    at = argument(tree.work_tree)
    hint = "change the files that shall be in it, then run the same command again"
    if edits.untracked:
        hint = f"git does not track {edits.untracked[0]}: git -C {at} add "
        hint += argument(edits.untracked[0])
    return Refused("there is nothing to make a patch of", where=str(tree.work_tree), hint=hint)


def _commit(
    objects: ObjectDatabase,
    tree: Repo,
    new: NewPatch,
    edits: Edits,
    on_top: Sequence[Oid],
    result: Oid,
) -> Oid:
    """The commit of the patch, in the place of those ``on_top``."""
    message, author, parent = new.message, new.author, edits.head
    if on_top:
        first = objects.commit(on_top[0])
        author, (parent,) = first.author, first.parents
        if message is None and len(on_top) == 1:
            subject, body, _ = mailable(*split_message(first.message))
            message = join_message(subject, body)
    if message is None:
        at = f"--worktree {argument(tree.work_tree)}"
        what = f"{count(len(on_top), 'commit')} become one patch, which" if on_top else "the patch"
        hint = f"fixtool new {new.slug} {at} -m MESSAGE"
        if on_top:
            hint += f"; or make a patch of each: fixtool export {at}"
        raise Refused(f"{what} has no message", where=str(tree.work_tree), hint=hint)
    if result == objects.tree_of(parent):
        raise Refused(
            f"{new.slug} would change nothing",
            where=str(tree.work_tree),
            hint="make its change in the work tree first; what differs there now: "
            f"git -C {argument(tree.work_tree)} status",
        )
    machine = replace(MACHINE, date=author.date)
    return objects.add_commit(Commit(result, (parent,), author, machine, message))


def _require_well_formed(repo: Repo, tree: Repo, slug: str, commit: Oid) -> None:
    """Raise Refused if lint would find an error in the patch, whose ``commit`` is in ``repo``."""
    for error in errors_in_patch(parse(export(repo, commit), slug)):
        raise Refused(f"{slug}: {error.message}", where=str(tree.work_tree), hint=error.fix)
