"""What each verb wants the series of a line to be: a plan for `edit.sequence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.edit.sequence import OwnSeries, Plan, Wanted, require_free
from fixtool.edit.texts import joined_message, named_outside, renamed_dependency
from fixtool.errors import Refused, UsageError
from fixtool.files import read_plain
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Signature
from fixtool.series import shelf
from fixtool.series.line import Line
from fixtool.series.patch import LARGEST

_RESOLUTIONS = "resolutions"


@dataclass(frozen=True)
class At:
    """A place in a series: directly before or after the patch ``slug``; the end if that is None."""

    slug: str | None = None
    before: bool = False

    def number(self, line: Line, order: Sequence[str]) -> int:
        """Where a patch comes in among the slugs ``order``. Raises UsageError if ``line`` has no
        such patch."""
        if self.slug is None:
            return len(order)
        slug = line.find(self.slug).slug
        if slug not in order:
            raise UsageError(
                f"{slug} cannot stand before or after itself",
                hint=f"name another patch: --{'before' if self.before else 'after'} SLUG",
            )
        return order.index(slug) + (not self.before)

    @property
    def words(self) -> str:
        """The place in words, for the subject of a commit."""
        side = "before" if self.before else "after"
        return f"{side} {self.slug}" if self.slug else "to the end"


def moved(objects: ObjectDatabase, own: OwnSeries, slug: str, at: At) -> Plan:
    """The patch ``slug`` at another place. The series makes the same tree."""
    line = own.line
    slug = line.find(slug).slug
    order = [other for other in own.commits if other != slug]
    order.insert(at.number(line, order), slug)
    return Plan(_reordered(objects, own, order), f"move {slug} {at.words}", same_tree=True)


def _reordered(objects: ObjectDatabase, own: OwnSeries, order: Sequence[str]) -> tuple[Wanted, ...]:
    """The patches in another order. The last one that changes its place ends in the tree that was
    there before, since all patches that change places are in it."""
    wanted = [Wanted(slug, own.commits[slug], slug) for slug in order]
    before = list(own.commits)
    moved = [number for number, slug in enumerate(order) if before[number] != slug]
    if moved:
        tree = objects.tree_of(own.commits[before[moved[-1]]])
        wanted[moved[-1]] = replace(wanted[moved[-1]], ends_in=tree)
    return tuple(wanted)


def renamed(own: OwnSeries, root: Path, old: str, new: str) -> Plan:
    """The patch ``old`` of the series or of the shelf under the name ``new``, also where other
    patches, the shelf and the resolutions of the line name it. ``root`` is the patch repository."""
    line = own.line
    entries = shelf.read(line.folder)
    old, new = old.removesuffix(".patch"), new.removesuffix(".patch")
    on_shelf = old not in own.commits and old in (entry.slug for entry in entries)
    if not on_shelf:
        line.find(old)  # raises UsageError, which names the patches that there are
    require_free(line, new)
    wanted = tuple(replace(each, slug=new) if each.slug == old else each for each in own.wanted)
    names = {entry.slug: entry.slug for entry in entries} | ({old: new} if on_shelf else {})
    files: dict[str, bytes] = {}
    for entry in entries:
        patch = shelf.patch(line.folder, entry.slug)
        needs_old = old in patch.depends_on
        if needs_old or entry.slug != names[entry.slug]:
            raw = renamed_dependency(patch, old, [new]) if needs_old else patch.raw
            files[f"{shelf.FOLDER}/{names[entry.slug]}.patch"] = raw
    remove: tuple[str, ...] = ()
    if on_shelf:
        files[shelf.FILE] = shelf.text(replace(entry, slug=names[entry.slug]) for entry in entries)
        remove = (f"{shelf.FOLDER}/{old}.patch",)
    heading = f"# {old} onto ".encode()
    for path in sorted((line.folder / _RESOLUTIONS).glob("*.*")):
        raw = read_plain(line.folder, f"{_RESOLUTIONS}/{path.name}", LARGEST)
        if raw.startswith(heading):
            files[f"{_RESOLUTIONS}/{path.name}"] = b"# " + new.encode() + raw[2 + len(old) :]
    notes = [f"{old} is on the shelf, and is {new} there now"] if on_shelf else []
    return Plan(wanted, f"rename {old} to {new}", names={old: (new,)}, same_tree=True, files=files,
                remove=remove, notes=(*notes, *named_outside(root, old, new)))  # fmt: skip


def reworded(own: OwnSeries, slug: str, message: str) -> Plan:
    """The patch ``slug`` with another message."""
    slug = own.line.find(slug).slug
    wanted = tuple(
        replace(each, message=message) if each.slug == slug else each for each in own.wanted
    )
    return Plan(wanted, f"reword {slug}", same_tree=True)


def squashed(
    objects: ObjectDatabase,
    own: OwnSeries,
    root: Path,
    slugs: Sequence[str],
    name: str | None = None,
    message: str | None = None,
) -> Plan:
    """The patches ``slugs`` as one, at the place of the first of them in the series, whose name it
    keeps without a ``name``, and whose author it has. The series makes the same tree."""
    line = own.line
    chosen = {line.find(slug).slug for slug in slugs}
    if len(chosen) < 2:
        given = " ".join(sorted(chosen)) or "SLUG"
        hint = f"fixtool squash {given} SLUG"
        raise UsageError("squash takes two patches or more", hint=hint)
    patches = [patch for patch in line.patches if patch.slug in chosen]
    group = [patch.slug for patch in patches]
    slug = (name or group[0]).removesuffix(".patch")
    if slug not in group:
        require_free(line, slug)
    order = [other for other in own.commits if other not in chosen]
    first = list(own.commits).index(group[0])
    order[first:first] = group
    wanted = list(_reordered(objects, own, order))
    joined = Wanted(
        slug, own.commits[group[0]], group[0],
        message=message or joined_message(patches), author=patches[0].author,
        then=tuple(own.commits[other] for other in group[1:]),
    )  # fmt: skip
    wanted[first : first + len(group)] = [joined]
    notes = [note for other in group if other != slug for note in named_outside(root, other, slug)]
    probes = dict.fromkeys(filter(None, (patch.trailer("Probe") for patch in patches)))
    if len(probes) > 1 and message is None:
        notes.append(f"it has {len(probes)} probes: {', '.join(probes)}; only the first one runs")
    return Plan(
        tuple(wanted), squash_subject(slugs), names=dict.fromkeys(group, (slug,)), same_tree=True,
        notes=tuple(notes),
    )  # fmt: skip


def squash_subject(slugs: Sequence[str]) -> str:
    return f"squash {', '.join(slug.removesuffix('.patch') for slug in slugs)}"


def amended(own: OwnSeries, slug: str) -> tuple[Plan, int]:
    """The series as it is, and the number of the patch ``slug``, which a person is to change. What
    it leaves of a later patch goes to the shelf if that is nothing."""
    slug = own.line.find(slug).slug
    plan = Plan(tuple(own.wanted), f"edit {slug}", emptied=f"{slug} has all of it since an edit")
    return plan, list(own.commits).index(slug)


def with_new(
    own: OwnSeries, slug: str, at: At, message: str | None, author: Signature
) -> tuple[Plan, int]:
    """The series with a new patch that a person is to make, and its number."""
    slug = slug.removesuffix(".patch")
    require_free(own.line, slug)
    number = at.number(own.line, list(own.commits))
    wanted = own.wanted
    wanted.insert(number, Wanted(slug, None, message=message, author=author))
    emptied = f"{slug} has all of it"
    return Plan(tuple(wanted), f"new patch {slug}", emptied=emptied), number


def copied(own: OwnSeries, other: OwnSeries, slug: str, at: At) -> Plan:
    """The series with the patch ``slug`` of the line of ``other``, whose commits are in the same
    store."""
    patch = other.line.find(slug)
    if patch.slug in own.commits:
        raise UsageError(
            f"line {own.line.name} has a patch {patch.slug!r} already",
            where=str(own.line.folder / f"{patch.slug}.patch"),
            hint=f"copy it to another line: --to LINE; or change that patch: "
            f"fixtool edit {patch.slug} --line {own.line.name}",
        )
    require_free(own.line, patch.slug)
    commit = other.commits[patch.slug]
    wanted = own.wanted
    number = at.number(own.line, list(own.commits))
    wanted.insert(number, Wanted(patch.slug, commit))
    earlier = [each.slug for each in wanted[:number]]
    if missing := [needed for needed in patch.depends_on if needed not in earlier]:
        first, to = f"fixtool copy {missing[0]}", f"--line {other.line.name} --to {own.line.name}"
        later = f"put it behind that: fixtool copy {patch.slug} {to} --after {missing[0]}"
        raise Refused(
            f"{patch.slug} depends on {missing[0]}, which line {own.line.name} does not have "
            "before it",
            where=str(patch.path),
            hint=later if missing[0] in own.commits else f"copy that first: {first} {to}",
        )
    return Plan(tuple(wanted), f"copy {patch.slug} from {other.line.name}")
