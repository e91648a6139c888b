"""Tries each file of a change by itself on a tree: which fit, and at which line the others fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import FILE_MODES, Oid, TreeEntry
from fixtool.git.trees import apply_to_index, scratch_index, write_tree
from fixtool.incoming.change import Incoming
from fixtool.incoming.places import Place
from fixtool.incoming.sections import Section
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.strict import LeftToGit, apply_in_memory, with_hunks

_MODES = (b"old mode ", b"new mode ", b"new file mode ", b"deleted file mode ")
_NAME = b"diff --git a/file b/file\n"


class Fit(StrEnum):
    """Whether a file of a change fits a tree."""

    FITS = "fits"
    FAILS = "fails"  # a hunk has no place in the file, or the file should be new
    MISSING = "missing"  # the tree has no such file


@dataclass(frozen=True)
class TriedFile:
    """What became of one file. ``where`` is the file and line of the change, and ``line`` the line
    of the file in the tree, at which the first hunk that does not fit is (or the file's first).
    ``new`` says that the change makes the file, and ``as_written`` that the tree has the very file
    that the change was made on."""

    path: str
    fit: Fit
    where: str
    line: int = 1
    new: bool = False
    as_written: bool = False


def try_files(
    objects: ObjectDatabase,
    change: Incoming,
    lines: Sequence[bytes],
    sections: Sequence[Section],
    place: Place,
    tree: Oid,
) -> tuple[list[TriedFile], Oid]:
    """Try each of ``sections`` on ``tree``, strictly, at ``place``. ``lines`` are those of the
    change. Returns what became of each, and the tree with those that fit."""
    tried = []
    for section in sections:
        path, source = place.path(section), place.source(section)
        entry = objects.entry(tree, source) if source else None
        written = bool(entry and section.blob and entry.blob.startswith(section.blob))
        result = TriedFile(
            path or section.new or section.old or "", Fit.MISSING, change.line(section.first),
            new=section.old is None, as_written=written,
        )  # fmt: skip
        if path and (section.old is None or entry is not None):
            result, tree = _try(objects, change, lines, section, place, tree, result)
        tried.append(result)
    return tried, tree


def _try(
    objects: ObjectDatabase,
    change: Incoming,
    lines: Sequence[bytes],
    section: Section,
    place: Place,
    tree: Oid,
    result: TriedFile,
) -> tuple[TriedFile, Oid]:
    """Try one section whose file is there, or should be new."""
    path = result.path
    file = None if section.moved else _file_patch(lines, section, path, backwards=change.reverse)
    try:
        after = apply_in_memory(objects, [file], tree) if file else None
    except LeftToGit:
        file = None
    if file is None:
        after = _by_git(objects, lines, section, place, tree, backwards=change.reverse)
    if after is not None:
        return replace(result, fit=Fit.FITS), after
    if file is None or not section.hunks:
        return replace(result, fit=Fit.FAILS), tree
    number = _first_failure(objects, file, objects.entry(tree, path))
    at = section.hunks[number][0] - 1  # the line of its `@@`
    line = max(file.hunks[number].old_start, 1)
    return replace(result, fit=Fit.FAILS, where=change.line(at), line=line), tree


def _by_git(
    objects: ObjectDatabase,
    lines: Sequence[bytes],
    section: Section,
    place: Place,
    tree: Oid,
    *,
    backwards: bool,
) -> Oid | None:
    """The tree with one section, as git applies it; None if it does not fit."""
    objects.flush()
    diff = b"\n".join(lines[section.first : section.end]) + b"\n"
    words = [*place.words, *(["--reverse"] if backwards else [])]
    with scratch_index(objects.repo, tree) as index:
        out = apply_to_index(objects.repo, index, diff, *words)
        return write_tree(objects.repo, index) if out.status == 0 else None


def _file_patch(
    lines: Sequence[bytes], section: Section, path: str, *, backwards: bool
) -> FilePatch | None:
    """The change of one file at ``path``, however the diff names it; None if it has no hunks that
    can be read."""
    if not section.hunks:
        return None
    new, gone = section.old is None, section.new is None
    if backwards:  # the section was turned around, and its lines were not
        new, gone = gone, new
    first = section.hunks[0][0] - 1
    heads = [line for line in lines[section.first : first] if line.startswith(_MODES)]
    if not section.git:
        heads = [b"new file mode 100644"] * new + [b"deleted file mode 100644"] * gone
    names = [
        b"--- /dev/null" if new else b"--- a/file",
        b"+++ /dev/null" if gone else b"+++ b/file",
    ]
    body = [*heads, *names, *lines[first : section.hunks[-1][1]]]
    try:
        (file,) = read_diff(_NAME + b"\n".join(body) + b"\n", where=path)
    except (Refused, ValueError):
        return None
    if backwards:
        if file.mode and not (new or gone):
            return None
        mode = "100644" if gone else None
        hunks = tuple(hunk.undoing() for hunk in file.hunks)
        old = None if gone else path
        return replace(file, path=path, old_path=old, new_path=None if new else path, mode=mode,
                       hunks=hunks)  # fmt: skip
    return replace(file, path=path, old_path=None if new else path, new_path=None if gone else path)


def _first_failure(objects: ObjectDatabase, file: FilePatch, entry: TreeEntry | None) -> int:
    """The number (from 0) of the first hunk that does not fit."""
    if entry is None or entry.mode not in FILE_MODES:
        return 0
    data = objects.blob(entry.blob)
    for number in range(len(file.hunks)):
        try:
            if with_hunks(data, replace(file, hunks=file.hunks[: number + 1])) is None:
                return number
        except LeftToGit:
            return number
    return 0
