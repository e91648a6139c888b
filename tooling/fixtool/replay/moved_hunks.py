"""Applies hunks whose lines upstream moved to another file, as when it splits one file in two.

A three-way merge finds a file that was renamed, but never a part of one. A hunk is applied in
another file only if its old lines stand there once, whole, and in no third file, and if they stood
once in the files that the patch was written for. If they stood twice there, what is left may be the
other place, which the patch is not about. In all such cases a person decides.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo, reading_answer
from fixtool.git.trees import list_folders, list_tree, scratch_index, write_tree
from fixtool.replay._hunks import place
from fixtool.replay.verdict import Verdict
from fixtool.series.diff import FilePatch, Hunk
from fixtool.series.lines import Lines, lines_of
from fixtool.series.patch import Patch

_LEAST = 3  # lines that a hunk must hold, and characters that its longest line must have

_LONGEST = 10_000  # characters of a line


@dataclass(frozen=True)
class MovedHunks:
    """The ``tree`` with every hunk applied; ``moves`` says which hunk went to which file."""

    tree: Oid
    moves: tuple[str, ...]


def apply_to_moved_lines(
    repo: Repo, patch: Patch, commit: Oid, bring_before: Callable[[], Oid | None]
) -> MovedHunks | None:
    """Apply ``patch`` to ``commit``, each hunk where its lines are now. None if no hunk has moved,
    or if the place of one is not certain.

    ``bring_before`` is called if a hunk has moved. It makes the files of the commit that the patch
    was written for readable, and returns that commit; None if there is none.
    """
    moves: list[str] = []
    edits: dict[str, list[tuple[int, Hunk]]] = {}
    hunks: list[tuple[str, Hunk, Verdict]] = []
    whole: list[FilePatch] = []  # files that the patch does more to than edit lines
    for file in patch.files:
        if file.binary or file.old_path is None or file.old_path != file.new_path:
            folder = posixpath.dirname(file.path)
            if file.old_path is None and folder and not list_folders(repo, commit, folder):
                return None  # upstream moved the folder: a person says where the new file goes
            whole.append(file)
            continue
        placed = place(file, list_tree(repo, commit, file.path), repo.read_blob)
        for hunk, result in zip(file.hunks, placed.hunks, strict=True):
            hunks.append((file.path, hunk, result.verdict))
            if result.verdict is Verdict.ABSORBED:
                continue
            home = _home(repo, commit, file.path, hunk, moved=result.line is None)
            if home is None:
                return None
            path, index = home
            if path != file.path:
                moves.append(f"hunk {hunk.number} of {file.path} follows its lines to {path}")
            edits.setdefault(path, []).append((index, hunk))
    before = bring_before() if moves else None
    if before is None or not all(_had_one_place(repo, before, *hunk) for hunk in hunks):
        return None
    tree = _edited_tree(repo, patch, commit, edits, whole)
    return MovedHunks(tree, tuple(moves)) if tree else None


def _home(repo: Repo, commit: str, path: str, hunk: Hunk, *, moved: bool) -> tuple[str, int] | None:
    """The file, and the index of the line in it, where ``hunk`` of ``path`` goes: in that file, or
    in another one if its lines have ``moved``."""
    if not moved:
        places = _places_in(repo, commit, path, hunk.before)
    elif _is_distinct(hunk):
        places = _places(repo, commit, hunk.before)
    else:
        return None
    return places[0] if len(places) == 1 else None


def _had_one_place(repo: Repo, before: str, path: str, hunk: Hunk, verdict: Verdict) -> bool:
    """Whether nothing in ``before``, the commit that the patch was written for, could be taken for
    the place of ``hunk`` in the file ``path`` but that place. ``verdict`` is what was found in the
    target's file."""
    if verdict is Verdict.ABSORBED:
        return not _places_in(repo, before, path, hunk.after)
    moved = verdict is Verdict.CONFLICT
    places = (
        _places(repo, before, hunk.before) if moved
        else _places_in(repo, before, path, hunk.before)
    )  # fmt: skip
    return [name for name, _ in places] == [path]


def _is_distinct(hunk: Hunk) -> bool:
    """Whether the old lines of a hunk are enough to look for in other files, with a line that can
    be given to `git grep`."""
    if len(hunk.before) < _LEAST:
        return False
    longest = _longest(hunk.before)
    return len(longest.strip()) >= _LEAST and len(longest) <= _LONGEST and "\0" not in longest


def _longest(lines: Sequence[str]) -> str:
    return max((line.strip("\n") for line in lines), key=lambda line: len(line.strip()))


def _places(repo: Repo, commit: str, wanted: Sequence[str]) -> list[tuple[str, int]]:
    """Every place in the files of a commit where the lines ``wanted`` stand: path, line index."""
    names = repo.run(
        "grep", "-z", "--files-with-matches", "--fixed-strings", "--full-name", "-I",
        "-e", _longest(wanted), commit, accept=(0, 1),
    ).stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]  # fmt: skip
    paths = [name.partition(":")[2] for name in names]
    return [place for path in paths for place in _places_in(repo, commit, path, wanted)]


def _places_in(repo: Repo, commit: str, path: str, wanted: Sequence[str]) -> list[tuple[str, int]]:
    """Every place in one file of a commit where the lines ``wanted`` stand."""
    lines = _lines(repo, commit, path)
    places = Lines("".join(lines)).places(wanted) if wanted else range(len(lines) + 1)
    return [(path, index) for index in places]


def _edited_tree(
    repo: Repo,
    patch: Patch,
    commit: str,
    edits: Mapping[str, Sequence[tuple[int, Hunk]]],
    whole: Sequence[FilePatch],
) -> Oid | None:
    """The tree of ``commit`` with the ``edits`` (path -> line index and hunk) and with the part of
    ``patch`` that is about the files ``whole``; None if that part does not apply."""
    entries = list_tree(repo, commit, *edits)
    with scratch_index(repo, commit) as index:
        if whole:
            include = [f"--include={path}" for file in whole for path in file.paths]
            reply = repo.run("apply", "--cached", "--binary", *include, "-",
                             stdin=patch.diff, index=index, accept=None)  # fmt: skip
            if reply.status != 0:
                return None
        for path, hunks in edits.items():
            lines = _lines(repo, commit, path)
            for at, hunk in sorted(hunks, key=lambda edit: edit[0], reverse=True):
                lines[at : at + len(hunk.before)] = hunk.after
            text = "".join(lines).encode("utf-8", "surrogateescape")
            blob = repo.run("hash-object", "-w", "--stdin", stdin=text).text
            info = f"{entries[path][0]} {blob}\t{path}\0".encode("utf-8", "surrogateescape")
            repo.run("update-index", "-z", "--index-info", stdin=info, index=index)
        return write_tree(repo, index)


def _lines(repo: Repo, commit: str, path: str) -> list[str]:
    with reading_answer("ls-tree"):
        blob = list_tree(repo, commit, path)[path][1]
    return lines_of(repo.read_blob(blob).decode("utf-8", "surrogateescape"))
