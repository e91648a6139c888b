"""The parts that a patch is split into: the files or hunks that each of them holds, and the tree
after each of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid, TreeEntry
from fixtool.series.diff import FilePatch, Hunk
from fixtool.series.lines import lines_of
from fixtool.series.patch import is_slug
from fixtool.text import argument

_NUMBERS = re.compile(r"(.+):(\d{1,9})(?:-(\d{1,9}))?")
_TOP = "top"  # the label of the files that are in no folder


class By(StrEnum):
    """What makes a part of its own."""

    FILE = "file"
    FOLDER = "folder"


class Unit(NamedTuple):
    """What cannot be split further: the hunk ``number`` of a file (from 1), or the whole change of
    a file that is new, removed, binary, or gets another mode (``number`` 0)."""

    path: str
    number: int


@dataclass(frozen=True)
class Part:
    """A part of a patch. ``label`` says in the subject what is in it. ``name`` is the slug that the
    user gave it, if any. The rest, which nobody named, has no label: it stays what the patch is."""

    label: str
    units: tuple[Unit, ...]
    name: str | None = None

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(unit.path for unit in self.units)


def is_divisible(file: FilePatch) -> bool:
    """Whether the hunks of a file can go into several parts."""
    unmoved = file.old_path is not None and file.old_path == file.new_path
    return unmoved and file.mode is None and not file.binary and bool(file.hunks)


def units_of(file: FilePatch) -> tuple[Unit, ...]:
    numbers = [hunk.number for hunk in file.hunks] if is_divisible(file) else [0]
    return tuple(Unit(file.path, number) for number in numbers)


# -- which part holds what -------------------------------------------------------------------


def group_paths(paths: Collection[str], by: By, depth: int | None = None) -> dict[str, list[str]]:
    """The labels of the parts, each with its paths, sorted. ``depth`` is how many leading folders,
    of those that not all paths share, tell parts apart; None takes all of them."""
    shared = _shared_folder(paths)
    groups: dict[str, list[str]] = {}
    for path in sorted(paths):
        inner = path.removeprefix(shared)
        if by is By.FILE:
            label = inner
        else:
            folders = inner.split("/")[:-1]
            label = "/".join(folders if depth is None else folders[:depth]) or _TOP
        groups.setdefault(label, []).append(path)
    return groups


def _shared_folder(paths: Collection[str]) -> str:
    """The folder, with its slash, that all paths are in; empty if there is none."""
    first, last = min(paths).split("/"), max(paths).split("/")
    count = 0
    while count < min(len(first), len(last)) - 1 and first[count] == last[count]:
        count += 1
    return "".join(f"{name}/" for name in first[:count])


def parts_by(files: Sequence[FilePatch], by: By, depth: int | None = None) -> list[Part]:
    """One part for each file or folder."""
    units: dict[str, tuple[Unit, ...]] = {}
    for file in files:
        units[file.path] = units.get(file.path, ()) + units_of(file)
    groups = group_paths(units.keys(), by, depth)
    return [
        Part(label, tuple(unit for path in paths for unit in units[path]))
        for label, paths in groups.items()
    ]


def parts_into(files: Sequence[FilePatch], wanted: Sequence[str]) -> list[Part]:
    """One part for each name in ``wanted``, texts of the form ``NAME=PATH[,PATH...]``, in that
    order, and then the rest. A path may be a file, a folder, or a pattern, and ``PATH:N`` and
    ``PATH:N-M`` are hunks of a file.

    Raises UsageError if a text is not of that form, names what the patch does not change, or names
    something that an earlier one has.
    """
    by_path = {file.path: file for file in files}
    holder: dict[Unit, str] = {}
    chosen: dict[str, list[Unit]] = {}
    for text in wanted:
        name, equals, places = text.partition("=")
        if not equals or not is_slug(name) or not places:
            raise UsageError(
                f"--into {text!r} is not of the form NAME=PATH[,PATH...]",
                hint=f"name a part and what goes into it: the same command with "
                f"NAME={argument(next(iter(by_path), 'PATH'))} instead of {argument(text)}",
            )
        for place in places.split(","):
            for unit in _units_at(place, by_path):
                if holder.setdefault(unit, name) != name:
                    what = f"{unit.path}:{unit.number}" if unit.number else unit.path
                    raise UsageError(
                        f"{what} is in {holder[unit]} already, and {name} names it too"
                    )
                if unit not in chosen.setdefault(name, []):
                    chosen[name].append(unit)
    order = {unit: at for at, unit in enumerate(u for file in files for u in units_of(file))}
    parts = [Part(name, tuple(sorted(units, key=order.__getitem__)), name)
             for name, units in chosen.items()]  # fmt: skip
    rest = tuple(unit for unit in order if unit not in holder)
    return [*parts, Part("", rest)] if rest else parts


def _units_at(place: str, files: Mapping[str, FilePatch]) -> list[Unit]:
    folder = place.rstrip("/") + "/"
    found = [
        unit
        for path, file in files.items()
        if path == place or path.startswith(folder) or fnmatchcase(path, place)
        for unit in units_of(file)
    ]
    if found:
        return found
    match = _NUMBERS.fullmatch(place)
    file = files.get(match[1]) if match else None
    if match is None or file is None:
        raise UsageError(
            f"the patch changes no file at {place!r}; it changes "
            f"{', '.join(sorted(files)[:5])}{' and more' * (len(files) > 5)}",
            hint=f"--into NAME={argument(min(files))}",
        )
    if not is_divisible(file):
        raise UsageError(
            f"{file.path} cannot be split by hunk: it is new, removed, binary, or its mode changes",
            hint=f"name the whole file: {file.path}",
        )
    first, last = int(match[2]), int(match[3] or match[2])
    if not 1 <= first <= last <= len(file.hunks):
        raise UsageError(
            f"{file.path} has hunks 1 to {len(file.hunks)}, and {place!r} asks for more"
        )
    return [Unit(file.path, number) for number in range(first, last + 1)]


def shown(label: str) -> str:
    """A label as it stands in a subject: a path may hold bytes that are no text."""
    return label.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# -- the trees -------------------------------------------------------------------------------


def trees_after(
    objects: ObjectDatabase,
    before: Oid,
    after: Oid,
    files: Sequence[FilePatch],
    parts: Sequence[Part],
) -> list[Oid]:
    """The tree after each of ``parts``. ``files`` is exactly the difference between the trees
    ``before`` and ``after``.

    Raises Refused if one part alone would take away what another part is about.
    """
    by_path = {file.path: file for file in files}
    taken: set[Unit] = set()
    trees, tree = [], before
    for part in parts:
        taken.update(part.units)
        changes = dict(_entries(objects, before, after, part.paths, by_path, taken))
        following = objects.with_files(tree, changes)
        if objects.changed_paths(tree, following) != part.paths:
            raise Refused(
                f"{min(part.paths)} cannot be in a part of its own: a file and a folder change "
                "places",
                hint="put both into one part: --into NAME=PATH,PATH",
            )
        trees.append(following)
        tree = following
    return trees


def tree_with(
    objects: ObjectDatabase, before: Oid, after: Oid, files: Sequence[FilePatch], part: Part
) -> Oid:
    """The tree ``before`` with one part alone."""
    by_path = {file.path: file for file in files}
    entries = _entries(objects, before, after, part.paths, by_path, set(part.units))
    return objects.with_files(before, dict(entries))


def _entries(
    objects: ObjectDatabase,
    before: Oid,
    after: Oid,
    paths: Collection[str],
    files: Mapping[str, FilePatch],
    taken: Collection[Unit],
) -> Iterator[tuple[str, TreeEntry | None]]:
    """The entry of each of ``paths`` once the units ``taken`` are in."""
    for path in paths:
        hunks = [hunk for hunk in files[path].hunks if Unit(path, hunk.number) in taken]
        if len(hunks) in (0, len(files[path].hunks)):
            yield path, objects.entry(after, path)
            continue
        old = objects.entry(before, path)
        assert old is not None
        data = _with_hunks(objects.blob(old.blob), hunks)
        yield path, TreeEntry(old.mode, objects.add("blob", data, old.blob))


def _with_hunks(data: bytes, hunks: Sequence[Hunk]) -> bytes:
    """The content ``data`` with some of the hunks that were made on exactly it."""
    lines = lines_of(data.decode("utf-8", "surrogateescape"))
    for hunk in reversed(hunks):
        old = hunk.before
        start = hunk.old_start - 1 if old else hunk.old_start
        assert lines[start : start + len(old)] == list(old)
        lines[start : start + len(old)] = hunk.after
    return "".join(lines).encode("utf-8", "surrogateescape")
