"""Applies a patch strictly: each hunk fits as it is, or the patch does not apply.

`git apply --cached` defines what that means. The usual changes of a text are made here, in memory,
in the same way as git makes them (``apply_fragments`` and ``find_pos`` in git's ``apply.c``), since
a process and an index file for each patch take longer than all the rest. Whatever is not usual is
left to git: binary data, renames, copies, submodules, and a last line without a newline that is not
where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from fixtool.git.database import FOLDER, ObjectDatabase
from fixtool.git.objects import FILE_MODES, Oid, TreeEntry
from fixtool.series.diff import FilePatch, Hunk
from fixtool.series.lines import Lines, lines_of
from fixtool.series.patch import Patch, apply_on

_NEWLINE = 10
_MANY_PLACES = 8
_AHEAD = 16  # patches whose files are read together


class LeftToGit(Exception):
    """The change is not one that is made in memory."""


class _DoesNotFit(Exception):
    """The change does not fit."""


def apply_patch(
    objects: ObjectDatabase, patch: Patch, tree: Oid, believed: Collection[str] = ()
) -> Oid | None:
    """The tree with ``patch`` applied; None if it does not apply. Raises Refused if git changed
    another path than the patch names. For ``believed``, see ``commits_on``."""
    try:
        return apply_in_memory(objects, patch.files, tree, believed)
    except LeftToGit:
        return apply_by_git(objects, patch, tree)[0]


def apply_in_memory(
    objects: ObjectDatabase, files: Sequence[FilePatch], tree: Oid, believed: Collection[str] = ()
) -> Oid | None:
    """The tree with the changes of ``files``; None if they do not fit. Raises LeftToGit if git
    alone can tell. For ``believed``, see ``commits_on``."""
    try:
        return objects.with_files(tree, _changes(objects, files, tree, believed))
    except _DoesNotFit:
        return None


def apply_by_git(objects: ObjectDatabase, patch: Patch, tree: Oid) -> tuple[Oid | None, str]:
    """The same by `git apply`, with its message if the patch does not apply."""
    objects.flush()
    return apply_on(objects.repo, patch, tree)


def commits_on(
    objects: ObjectDatabase, patches: Sequence[Patch], base: Oid, believed: Collection[str] = ()
) -> tuple[list[Oid], str]:
    """The commits that ``patches`` make in order on commit ``base``, up to the first patch that
    does not apply; and git's message about that one, empty if all apply.

    If the `index` line of a file names the content that the tree has, and then a blob that is
    ``believed``, that blob is the new content, and the hunks are not read. The caller then has to
    see whether each commit is exported to the bytes of its patch: a diff that git has made between
    two contents makes the second of the first. From the first that is not, the commits mean
    nothing, and have to be made again without ``believed``.
    """
    commits: list[Oid] = []
    tip = base
    for number, patch in enumerate(patches):
        if number % _AHEAD == 0:
            ahead = patches[number : number + _AHEAD]
            paths = {path for each in ahead for path in each.paths}
            known = {file.path for each in ahead for file in each.files
                     if file.new_blob in believed}  # fmt: skip
            objects.prefetch(objects.tree_of(tip), paths, without=known)
        before = objects.tree_of(tip)
        tree, complaint = apply_patch(objects, patch, before, believed), ""
        if tree is None:
            tree, complaint = apply_by_git(objects, patch, before)
        if tree is None:
            return commits, complaint
        tip = objects.add_commit(patch.commit(tree, tip))
        commits.append(tip)
    return commits, ""


def _changes(
    objects: ObjectDatabase, files: Sequence[FilePatch], tree: Oid, believed: Collection[str]
) -> dict[str, TreeEntry | None]:
    """The new entry of each path that ``files`` change; None if the file goes."""
    changes: dict[str, TreeEntry | None] = {}
    for file in files:
        blob = Oid(file.new_blob) if file.new_blob and file.new_blob in believed else None
        if file.path in changes or not (file.hunks or file.mode or blob):
            raise LeftToGit
        if file.binary and not blob:
            raise LeftToGit
        if file.old_path is None:
            changes[file.path] = _new_file(objects, file, tree, blob)
        elif file.new_path is not None and file.old_path != file.new_path:
            raise LeftToGit
        else:
            changes[file.path] = _changed_file(objects, file, tree, blob)
    return changes


def _new_file(
    objects: ObjectDatabase, file: FilePatch, tree: Oid, believed: Oid | None
) -> TreeEntry:
    if file.mode not in FILE_MODES:
        raise LeftToGit
    if not believed and (len(file.hunks) > 1 or any(hunk.old_text for hunk in file.hunks)):
        raise LeftToGit
    *folders, name = file.path.split("/")
    for folder in folders:
        entry = objects.tree(tree).get(folder)
        if entry is None:
            break
        if entry.mode != FOLDER:  # a file, or a symlink, stands where a folder should
            raise LeftToGit
        tree = entry.blob
    else:
        if name in objects.tree(tree):
            raise LeftToGit
    blob = believed or objects.add("blob", b"".join(hunk.new_text for hunk in file.hunks))
    return TreeEntry(file.mode, blob)


def _changed_file(
    objects: ObjectDatabase, file: FilePatch, tree: Oid, believed: Oid | None
) -> TreeEntry | None:
    entry = objects.entry(tree, file.path)
    if entry is None or entry.mode not in FILE_MODES or file.mode not in (None, *FILE_MODES):
        raise LeftToGit
    if believed and entry.blob == file.old_blob:
        return TreeEntry(file.mode or entry.mode, believed)
    if file.binary:
        raise LeftToGit
    if not file.hunks:
        if file.new_path is None:
            raise LeftToGit
        return TreeEntry(file.mode or entry.mode, entry.blob)
    data = _with_hunks(objects.blob(entry.blob), file)
    if file.new_path is None:
        if data:
            raise _DoesNotFit  # the patch removes the file, and something would be left of it
        return None
    return TreeEntry(file.mode or entry.mode, objects.add("blob", data, entry.blob))


def with_hunks(data: bytes, file: FilePatch) -> bytes | None:
    """The content ``data`` of a file with the hunks of ``file``; None if one does not fit. Raises
    LeftToGit if git alone can tell."""
    try:
        return _with_hunks(data, file)
    except _DoesNotFit:
        return None


def _with_hunks(data: bytes, file: FilePatch) -> bytes:
    in_place = _in_place(data, file.hunks)
    if in_place is not None:
        return in_place
    text = _Text(data)
    for hunk in file.hunks:
        text.apply(hunk)
    return "".join(text.lines).encode("utf-8", "surrogateescape")


def applies_reversed(objects: ObjectDatabase, patch: Patch, tree: Oid) -> bool:
    """Whether ``patch`` can be taken out of a tree. Raises LeftToGit if git alone can tell."""
    paths = {file.path for file in patch.files}
    moves = any(file.left_path and file.new_path for file in patch.files)
    if moves or len(paths) < len(patch.files):
        raise LeftToGit
    left_to_git = False
    for file in patch.files:
        try:
            if not _fits_reversed(objects, file, tree):
                return False  # git takes all of a patch out, or nothing
        except LeftToGit:
            left_to_git = True
    if left_to_git:
        raise LeftToGit
    return True


def _fits_reversed(objects: ObjectDatabase, file: FilePatch, tree: Oid) -> bool:
    """Whether what a patch does to one file can be taken back in a tree."""
    entry = objects.entry(tree, file.path)
    if file.new_path is None:
        if entry is None or entry.mode == FOLDER:
            raise LeftToGit
        return False  # a file stands where the removed one would come back
    if entry is None:
        return False
    if entry.mode not in FILE_MODES or file.binary or not file.hunks:
        raise LeftToGit
    hunks = tuple(hunk.undoing() for hunk in file.hunks)
    data = with_hunks(objects.blob(entry.blob), replace(file, hunks=hunks))
    if data is None:
        return False
    if file.old_path is None:
        if file.mode not in FILE_MODES:
            raise LeftToGit
        return not data
    if file.mode is not None:
        raise LeftToGit
    return True


def _in_place(data: bytes, hunks: Sequence[Hunk]) -> bytes | None:
    """The content ``data`` of a file with the ``hunks``, if each of them has old lines, says of no
    line that it has no newline, and fits at its own line or stands at one place alone; else None.
    Then there is no choice between places, and the file need not be cut into lines, which takes
    longer than the rest. Raises _DoesNotFit if the old lines of one stand nowhere."""
    pieces: list[bytes] = []
    at, line, shift = 0, 0, 0  # the byte and the line of ``data``, and how many lines more are new
    for hunk in hunks:
        old, new = hunk.sides or (b"", b"")
        if not old:
            return None
        wanted = 0 if hunk.old_start <= 1 else hunk.new_start - 1 - shift
        begin = _at_line(data, old, at, wanted - line)
        if begin >= 0:
            line = wanted
        elif b"" in pieces[1::2]:  # lines that were apart may follow each other now
            return None
        else:
            begin = _only_place(data, old)
            if begin < at or hunk.old_start <= 1 or hunk.to_end:
                return None
            line += data.count(b"\n", at, begin)
        end = begin + len(old)
        if hunk.to_end and end != len(data):
            return None
        pieces += [data[at:begin], new]
        size = old.count(b"\n")
        at, line, shift = end, line + size, shift + new.count(b"\n") - size
    return b"".join([*pieces, data[at:]])


def _only_place(data: bytes, text: bytes) -> int:
    """The byte of ``data`` where the lines ``text`` stand; -1 if they stand at several places.
    Raises _DoesNotFit if they stand nowhere."""
    found, begin = -1, -1
    for _ in range(_MANY_PLACES):
        begin = data.find(text, begin + 1)
        if begin < 0:
            break
        if begin == 0 or data[begin - 1] == _NEWLINE:
            if found >= 0:
                return -1
            found = begin
    else:
        return -1
    if found < 0:
        raise _DoesNotFit
    return found


def _at_line(data: bytes, text: bytes, start: int, lines: int) -> int:
    """The byte of ``data`` where ``text`` stands ``lines`` lines after byte ``start``; -1 if it
    stands elsewhere before it, again and again, or not there."""
    begin = start - 1
    for _ in range(_MANY_PLACES):
        begin = data.find(text, begin + 1)
        if begin < 0:
            return -1
        before = data.count(b"\n", start, begin)
        if before > lines:
            return -1
        if before == lines and (begin == 0 or data[begin - 1] == _NEWLINE):
            return begin
    return -1


class _Text:
    """The lines of a file. ``_written`` marks those that a hunk has put there: git lets no later
    hunk of the same file match them."""

    def __init__(self, data: bytes) -> None:
        self.lines = lines_of(data.decode("utf-8", "surrogateescape"))
        self._written = bytearray(len(self.lines))

    def apply(self, hunk: Hunk) -> None:
        before, after = hunk.before, hunk.after
        at = self._place(hunk, before)
        end = at + len(before)
        if after and not after[-1].endswith("\n") and end != len(self.lines):
            raise LeftToGit
        self.lines[at:end] = after
        self._written[at:end] = b"\1" * len(after)

    def _place(self, hunk: Hunk, before: Sequence[str]) -> int:
        """The index of the line at which the hunk with the lines ``before`` fits: the nearest to
        its own, and of two that are as near the later."""
        last = len(self.lines) - len(before)
        near = max(hunk.new_start - 1, 0)
        from_start = hunk.old_start <= 1
        if from_start or hunk.to_end:
            near = 0 if from_start else last
        if self._fits(before, near) and not (hunk.to_end and near != last):
            return near
        if before and not before[-1].endswith("\n"):
            raise LeftToGit  # git compares its last line with the beginning of a line
        if from_start or hunk.to_end or not before:
            raise _DoesNotFit
        near = min(near, len(self.lines))
        text = Lines("".join(self.lines))
        places = [at for at in text.places(before) if self._fits(before, at)]
        if not places:
            raise _DoesNotFit
        return min(places, key=lambda at: (abs(at - near), at < near))

    def _fits(self, before: Sequence[str], at: int) -> bool:
        end = at + len(before)
        return (
            0 <= at <= end <= len(self.lines)
            and self.lines[at:end] == list(before)
            and not any(self._written[at:end])
        )
