"""Follow hunks whose lines upstream moved to another file, as when it splits one in two.

A three-way merge follows a file that was renamed, never a part of one. A hunk is followed only
where its old lines stand once, whole, in one other file; anything less is for a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, scratch_index, write_tree
from fixtool.replay._hunks import find, lines_of, place
from fixtool.replay.verdict import HunkResult, Verdict
from fixtool.series.patch import FilePatch, Hunk, Patch

_LEAST = 3  # lines that a hunk must know of its place


@dataclass(frozen=True)
class Followed:
    """The tree with every hunk in its place, and where the moved ones went, in words."""

    tree: str
    moves: tuple[str, ...]


def follow(repo: Repo, patch: Patch, commit: str) -> Followed | None:
    """Apply ``patch`` to ``commit``, each hunk where its lines are now; None where one has no such
    place, or the patch does more than edit lines."""
    moves: list[str] = []
    edits: dict[str, list[tuple[int, Hunk]]] = {}
    whole: list[FilePatch] = []
    for one in patch.files:
        if one.binary or one.old_path is None or one.old_path != one.new_path:
            whole.append(one)
            continue
        here = place(one, list_tree(repo, commit, one.path), repo)
        known = {hunk.number: hunk for hunk in here.hunks}
        for hunk in one.hunks:
            found = known.get(hunk.number)
            if found is not None and found.verdict is Verdict.ABSORBED:
                continue
            where = _home(repo, commit, one.path, hunk, found)
            if where is None:
                return None
            path, at = where
            if path != one.path:
                moves.append(f"hunk {hunk.number} of {one.path} follows its lines to {path}")
            edits.setdefault(path, []).append((at, hunk))
    if not moves:
        return None
    return _made(repo, patch, commit, edits, whole, moves)


def _home(
    repo: Repo, commit: str, own: str, hunk: Hunk, found: HunkResult | None
) -> tuple[str, int] | None:
    """The file and index of line where ``hunk`` goes."""
    if found is not None and found.line is not None:
        return own, found.line - 1
    if len(hunk.before) < _LEAST:
        return None
    telling = max((line.strip("\n") for line in hunk.before), key=lambda line: len(line.strip()))
    if len(telling.strip()) < _LEAST:
        return None
    grep = repo.run(
        "grep", "-z", "--files-with-matches", "--fixed-strings", "--full-name", "-I", "-e", telling,
        commit, accept=(0, 1),
    ).stdout.decode("utf-8", "surrogateescape")  # fmt: skip
    homes = []
    for name in grep.split("\0")[:-1]:
        path = name.partition(":")[2]
        lines = _text(repo, commit, path)
        at = find(lines, hunk.before, 0)
        if at is not None:
            again = find(lines[at + 1 :], hunk.before, 0)
            homes += [(path, at)] if again is None else [(path, at), (path, at)]
    return homes[0] if len(homes) == 1 else None


def _made(
    repo: Repo,
    patch: Patch,
    commit: str,
    edits: dict[str, list[tuple[int, Hunk]]],
    whole: list[FilePatch],
    moves: list[str],
) -> Followed | None:
    entries = list_tree(repo, commit, *edits)
    with scratch_index(repo, commit) as index:
        if whole:
            names = [path for one in whole for path in one.paths]
            include = [f"--include={name}" for name in dict.fromkeys(names)]
            done = repo.run("apply", "--cached", "--binary", *include, "-",
                            stdin=patch.diff, index=index, accept=None)  # fmt: skip
            if done.status != 0:
                return None
        for path, places in edits.items():
            lines = _text(repo, commit, path)
            for at, hunk in sorted(places, key=lambda one: one[0], reverse=True):
                lines[at : at + len(hunk.before)] = hunk.after
            text = "".join(lines).encode("utf-8", "surrogateescape")
            blob = repo.run("hash-object", "-w", "--stdin", stdin=text).text
            info = f"{entries[path][0]} {blob}\t{path}\0".encode("utf-8", "surrogateescape")
            repo.run("update-index", "-z", "--index-info", stdin=info, index=index)
        return Followed(write_tree(repo, index), tuple(moves))


def _text(repo: Repo, commit: str, path: str) -> list[str]:
    blob = list_tree(repo, commit, path)[path][1]
    return lines_of(next(iter(repo.read_blobs([blob]))).decode("utf-8", "surrogateescape"))
