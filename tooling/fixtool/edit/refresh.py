"""Puts the uncommitted edits of a work tree into the patches that they belong to.

The commits of the work tree come first: its branch moves to ones that hold the edits, and no file
changes. Then the patch files are written as by every export. If they are not, for whatever reason,
the branch moves back. A run that is killed in between leaves commits that the next one exports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fixtool.apply.identity import identify
from fixtool.apply.worktree import Record, read_record
from fixtool.edit.below import needs_person
from fixtool.edit.change import Edit
from fixtool.edit.edits import (
    Edits,
    Folded,
    Unfit,
    fold,
    owners,
    place_of,
    read_edits,
    take_over,
    without_context,
)
from fixtool.edit.export import Exported, ExportOptions, export, open_to_export, require_base
from fixtool.edit.parts import Unit, parts_into
from fixtool.edit.sequence import digest_of
from fixtool.edit.split import HunkText, hunk_text
from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.text import argument, count

Choose = Callable[[Sequence[HunkText]], Collection[str]]
"""Asks a person which hunks go into the patch. Returns their places."""
_ENDED = ("fixtool absorb: ", "fixtool refresh: ")


@dataclass(frozen=True)
class Selection:
    """Which edits go into the patch ``slug``: those at ``places``, as `split --into` names them, or
    those that ``choose`` returns, or all. Without a slug, the last patch is meant if the edits can
    belong to no other."""

    slug: str | None = None
    places: tuple[str, ...] = ()
    choose: Choose | None = None

    @property
    def chooses(self) -> bool:
        """Whether only some of the edits go into the patch."""
        return bool(self.places or self.choose)


def has_edits(tree: Repo) -> bool:
    """Whether something is not committed in a work tree."""
    return bool(tree.status(remember=True))


def refresh_edits(
    context: Context,
    tree: Repo,
    record: Record,
    selection: Selection,
    options: ExportOptions,
) -> Exported:
    """Put the uncommitted edits of a work tree into one patch, and write its file.

    Raises NeedsPerson if they do not fit below the later patches; Refused if it cannot be shown
    which patch is meant, and as ``export`` does; UsageError if the selection names what is not
    there.
    """
    record, ended = _end_killed(context, tree, record, options)
    if ended and (ended.conflicts or selection.chooses or not has_edits(tree)):
        return replace(ended, edits=_left(tree))
    work = _open(context, tree, record, options)
    with work.objects() as objects:
        edits = read_edits(work.tree, objects)
        slug = selection.slug.removesuffix(".patch") if selection.slug else None
        if slug is None:
            slug = work.last_patch(without_context(objects, edits))
        if slug not in work.series:
            work.line.find(slug)  # raises UsageError, which names the patches that there are
            raise Refused(
                f"{slug} is not in this work tree",
                where=str(tree.work_tree),
                hint="make a work tree that has it: "
                f"{record.to_apply(work.line.upstream)} --worktree DIR",
            )
        work.require_in_line(slug)
        units = chosen_units(edits, slug, selection)
        try:
            folded = work.fold(objects, edits, {slug: units}) if units else None
        except Unfit as unfit:
            if options.dry_run:
                raise
            raise needs_person(
                objects, unfit, edits, work.series, slug, units, record.onto
            ) from unfit
    shown = shown_edits(edits, dict.fromkeys(units, slug), {})
    return _both(ended, work.write([slug], folded, edits, shown))


def absorb(context: Context, tree: Repo, record: Record, options: ExportOptions) -> Exported:
    """Put each uncommitted edit of a work tree into the patch that last changed its lines, and
    write the files of these patches. What belongs to none or to several, or does not fit below a
    later patch, stays as it is. If an earlier run was killed before it wrote the files, this run
    writes them.

    Raises Refused as ``export`` does.
    """
    record, ended = _end_killed(context, tree, record, options)
    if ended and ended.conflicts:
        return ended
    work = _open(context, tree, record, options)
    with work.objects() as objects:
        edits = read_edits(work.tree, objects, context=0)
        if not edits.units and was_killed(tree, record):  # a dry run
            return export(context, tree, record, work.options)
        owned = owners(work.tree, edits, work.series, record.onto)
        targets: dict[str, set[Unit]] = {}
        stays: dict[Unit, str] = {}
        for unit, found in owned.items():
            if len(found) == 1 and work.is_gone(found[0]):
                stays[unit] = f"{found[0]} is not in the line any more"
            elif len(found) == 1:
                targets.setdefault(found[0], set()).add(unit)
            elif found:
                stays[unit] = f"its lines are of {' and '.join(found)}"
            else:
                stays[unit] = "no patch has changed these lines"
        folded = work.fold_what_fits(objects, edits, targets, stays)
    into = {unit: slug for slug, units in targets.items() for unit in units}
    slugs = [slug for slug in work.series if targets.get(slug)]
    return _both(ended, work.write(slugs, folded, edits, shown_edits(edits, into, stays)))


def was_killed(tree: Repo, record: Record) -> bool:
    """Whether an earlier run made the last commits of a work tree of its edits, and no patch files.
    What `new` made is on top of the series, where the next `new` finds it."""
    return killed_run(tree, record).startswith(_ENDED)


def killed_run(tree: Repo, record: Record) -> str:
    """The run that made the last commits of a work tree, and no patch files, as ``take_over`` names
    it in the reflog: the record has other commits then. Empty if there is none."""
    if tree.head() == record.commit:
        return ""
    last = tree.run("reflog", "-1", "--format=%gs", accept=None).text.strip()
    return "" if last.endswith(": taken back") else last


def _end_killed(
    context: Context, tree: Repo, record: Record, options: ExportOptions
) -> tuple[Record, Exported | None]:
    """Write the patch files that a killed run had still to write: the next edits would leave them
    out. Returns the record of the work tree after that, and what was written; None if no run was
    killed, and on a dry run."""
    if options.dry_run or not was_killed(tree, record):
        return record, None
    ended = export(context, tree, record, replace(options, only=(), unclean=True))
    return read_record(tree) or record, ended


def _left(tree: Repo) -> tuple[Edit, ...]:
    """The edits of a work tree of which nobody has chosen any."""
    with passing_objects(tree) as objects:
        return shown_edits(read_edits(tree, objects), {}, {})


def _both(ended: Exported | None, done: Exported) -> Exported:
    """What a run has written together with what it has ``ended`` before."""
    if ended is None:
        return done
    now = {file.slug for file in done.patches if file.changed}
    earlier = tuple(file for file in ended.patches if file.slug not in now)
    later = tuple(file for file in done.patches if file.slug in now)
    return replace(
        done, patches=(*earlier, *later), committed=done.committed or ended.committed,
        series_changed=ended.series_changed or done.series_changed,
        notes=tuple(dict.fromkeys((*ended.notes, *done.notes))),
    )  # fmt: skip


def shown_edits(
    edits: Edits, into: Mapping[Unit, str], stays: Mapping[Unit, str]
) -> tuple[Edit, ...]:
    """What becomes of each edit: ``into`` says which patch it goes into, and ``stays`` why it goes
    into none; without a reason, nobody has chosen it. No patch gets a file that git does not
    track."""
    why = "git does not track it: git add it, if it belongs to a patch"
    return (
        *(Edit(place_of(unit, edits.files), into.get(unit),
               "" if unit in into else stays.get(unit, "not chosen")) for unit in edits.units),
        *(Edit(path, None, why) for path in edits.untracked),
    )  # fmt: skip


def chosen_units(edits: Edits, slug: str, selection: Selection) -> set[Unit]:
    """The edits of ``selection``, which go into the patch ``slug``."""
    places: tuple[str, ...] = selection.places
    if selection.choose is not None:
        texts = [hunk_text(file, unit) for file in edits.files for unit in edits.units
                 if unit.path == file.path]  # fmt: skip
        places = tuple(selection.choose(texts))
        if not places:
            return set()
    if not places:
        return set(edits.units)
    return set(parts_into(edits.files, [f"{slug}={','.join(places)}"])[0].units)


def _open(context: Context, tree: Repo, record: Record, options: ExportOptions) -> _Work:
    options = replace(options, unclean=True)
    open_to_export(context, tree, record, options)
    line = context.repository.line(record.line)
    require_base(tree, record, line, options)
    found = identify(tree, record, line, options.pairs)
    if not found.commits:
        raise Refused(
            f"line {line.name} has no patch in this work tree",
            where=str(tree.work_tree),
            hint="commit the change, then make it a patch: fixtool export --worktree "
            f"{argument(tree.work_tree)}",
        )
    return _Work(context, tree.durably(), record, line, options, dict(found.commits))


@dataclass(frozen=True)
class _Work:
    """A work tree with uncommitted edits. ``series`` are its commits by slug, in order."""

    context: Context
    tree: Repo
    record: Record
    line: Line
    options: ExportOptions
    series: Mapping[str, Oid]

    def objects(self) -> AbstractContextManager[ObjectDatabase]:
        """Where new objects go: on a dry run, they are removed."""
        return passing_objects(self.tree) if self.options.dry_run else ObjectDatabase(self.tree)

    def is_gone(self, slug: str) -> bool:
        """Whether somebody has taken a patch of this work tree out of the line since."""
        entries = {entry.slug for entry in self.line.entries}
        return slug in self.record.commits and slug not in entries

    def require_in_line(self, slug: str) -> None:
        """Raise Refused if somebody has taken a patch out of the line since the work tree was made:
        the edits would be in its commit then, and in no file."""
        if self.is_gone(slug):
            line = self.line
            on_shelf = slug in {entry.slug for entry in shelf.read(line.folder)}
            hint = f"fixtool restore {slug} --line {line.name}, then run the same command again"
            if not on_shelf:
                hint = f"keep the edits: git -C {argument(self.tree.work_tree)} stash"
            raise Refused(
                f"line {line.name} has no {slug} any more: it was taken out since this work tree "
                "was made",
                where=str(line.folder / "series"),
                hint=hint,
            )

    def last_patch(self, edits: Edits) -> str:
        """The last patch, if ``edits``, which are read without context, can belong to no other.
        Raises Refused otherwise."""
        last = list(self.series)[-1]
        if len(self.series) == 1:
            return last
        owned = owners(self.tree, edits, self.series, self.record.onto)
        slugs = list(dict.fromkeys(slug for found in owned.values() for slug in found))
        if slugs == [last]:
            return last
        at = f"--worktree {argument(self.tree.work_tree)}"
        hint = f"put them into one: fixtool refresh {slugs[0] if slugs else last} {at}"
        if slugs:
            hint = f"{hint}; or each into the patch whose lines it changes: fixtool absorb {at}"
        what = f"the lines are of {', '.join(slugs)}" if slugs else "the lines are of no patch"
        raise Refused(
            f"it is not clear which patch the uncommitted edits belong to: {what}",
            where=str(self.tree.work_tree),
            hint=hint,
        )

    def fold(
        self, objects: ObjectDatabase, edits: Edits, targets: Mapping[str, Collection[Unit]]
    ) -> Folded:
        folded = fold(objects, edits, self.series, targets)
        objects.flush()
        return folded

    def fold_what_fits(
        self,
        objects: ObjectDatabase,
        edits: Edits,
        targets: dict[str, set[Unit]],
        stays: dict[Unit, str],
    ) -> Folded | None:
        """Fold ``targets``. What does not fit goes from there to ``stays``."""
        while any(targets.values()):
            wanted = {slug: units for slug, units in targets.items() if units}
            try:
                return self.fold(objects, edits, wanted)
            except Unfit as unfit:
                for units in targets.values():
                    for unit in [unit for unit in units if unit.path in unfit.paths]:
                        units.remove(unit)
                        stays[unit] = f"it conflicts in {unfit.slug}"
        return None

    def write(
        self, slugs: Sequence[str], folded: Folded | None, edits: Edits, shown: tuple[Edit, ...]
    ) -> Exported:
        """Export the patches of ``slugs``, whose commits with the edits are in ``folded``.
        ``shown`` says what became of each edit."""
        if self.options.dry_run or folded is None:
            return Exported(self.line.name, self.line.folder, (), False, edits=shown)
        recorded = self.record.commits
        saved = {slug for slug, oid in self.series.items() if recorded.get(slug) == oid}
        known = {*recorded, *(entry.slug for entry in self.line.entries)}
        pairs = {slug: oid for slug, oid in folded.commits.items() if slug in known}
        # The later patches have moved; what else a person has changed of them is not written.
        only = [slug for slug in self.series
                if slug in {*saved, *slugs} and not self.is_gone(slug)]  # fmt: skip
        options = replace(self.options, only=only if known >= {*only} else (), pairs=pairs,
                          named=tuple(slugs))  # fmt: skip
        names = ", ".join(slugs) if len(slugs) < 4 else count(len(slugs), "patch")
        reason = f"fixtool {options.command}: {names}"
        done = export_with(self.context, self.tree, self.record, edits, folded, reason, options)
        return replace(done, edits=shown)


def export_with(
    context: Context,
    tree: Repo,
    record: Record,
    edits: Edits,
    folded: Folded,
    reason: str,
    options: ExportOptions,
) -> Exported:
    """Move the branch of a work tree to the commits that hold its edits, and export. The branch
    goes back unless the patch files were written."""
    line = context.repository.line(record.line)
    before = digest_of(line)

    def is_written() -> bool:
        return digest_of(line) != before

    with take_over(tree, edits, folded, reason, is_written) as put_back:
        done = export(context, tree, record, options)
        if done.conflicts:
            put_back()
    return done
