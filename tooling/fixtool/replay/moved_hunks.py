"""Applies hunks whose lines upstream moved to another file, as when it splits one file in two.

A three-way merge finds a file that was renamed, but never a part of one. A hunk is applied in
another file only if its old lines stand there once, whole, and in no third file. In all other cases
a person decides.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import list_folders, list_tree, scratch_index, write_tree
from fixtool.replay._hunks import find, lines_of, place
from fixtool.replay.verdict import HunkResult, Verdict
from fixtool.series.patch import FilePatch, Hunk, Patch

_LEAST = 3  # lines that a hunk must hold, and characters that its longest line must have


@dataclass(frozen=True)
class MovedHunks:
    """The ``tree`` with every hunk applied; ``moves`` says which hunk went to which file."""

    tree: Oid
    moves: tuple[str, ...]


def apply_to_moved_lines(repo: Repo, patch: Patch, commit: Oid) -> MovedHunks | None:
    """Apply ``patch`` to ``commit``, each hunk where its lines are now. None if no hunk has moved,
    or if the place of one is not certain."""
    moves: list[str] = []
    edits: dict[str, list[tuple[int, Hunk]]] = {}
    whole: list[FilePatch] = []  # files that the patch does more to than edit lines
    for file in patch.files:
        if file.binary or file.old_path is None or file.old_path != file.new_path:
            folder = posixpath.dirname(file.path)
            if file.old_path is None and folder and not list_folders(repo, commit, folder):
                return None  # upstream moved the folder: a person says where the new file goes
            whole.append(file)
            continue
        placed = place(file, list_tree(repo, commit, file.path), repo)
        results = {result.number: result for result in placed.hunks}
        for hunk in file.hunks:
            result = results.get(hunk.number)
            if result is not None and result.verdict is Verdict.ABSORBED:
                continue
            home = _home(repo, commit, file.path, hunk, result)
            if home is None:
                return None
            path, index = home
            if path != file.path:
                moves.append(f"hunk {hunk.number} of {file.path} follows its lines to {path}")
            edits.setdefault(path, []).append((index, hunk))
    tree = _edited_tree(repo, patch, commit, edits, whole) if moves else None
    return MovedHunks(tree, tuple(moves)) if tree else None


def _home(
    repo: Repo, commit: str, path: str, hunk: Hunk, result: HunkResult | None
) -> tuple[str, int] | None:
    """The file, and the index of the line in it, where ``hunk`` of ``path`` goes."""
    if result is not None and result.line is not None:
        return path, result.line - 1
    if len(hunk.before) < _LEAST:
        return None
    longest = max((line.strip("\n") for line in hunk.before), key=lambda line: len(line.strip()))
    if len(longest.strip()) < _LEAST:
        return None
    names = repo.run(
        "grep", "-z", "--files-with-matches", "--fixed-strings", "--full-name", "-I", "-e", longest,
        commit, accept=(0, 1),
    ).stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]  # fmt: skip
    homes = []
    for name in names:
        other = name.partition(":")[2]
        lines = _lines(repo, commit, other)
        index = find(lines, hunk.before, 0)
        if index is None:
            continue
        if find(lines[index + 1 :], hunk.before, 0) is not None:
            return None
        homes.append((other, index))
    return homes[0] if len(homes) == 1 else None


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
    blob = list_tree(repo, commit, path)[path][1]
    return lines_of(next(iter(repo.read_blobs([blob]))).decode("utf-8", "surrogateescape"))
