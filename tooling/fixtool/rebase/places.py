"""Says where a person has to look in a rebase that waits: the lines of the conflict markers, the
hunks that no merge has put in, and the files to which upstream has moved their lines.

When upstream splits a file in two, git shows a conflict with everything that went away, often
thousands of lines, and does not name the file that has these lines now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fixtool.apply.resolving import MARKER, unmarked
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.rebase.result import OpenHunk, Place
from fixtool.replay.verdict import PatchResult, Verdict
from fixtool.series.diff import Hunk
from fixtool.series.lines import Lines, lines_of
from fixtool.series.patch import Patch

_LEAST = 12  # characters of a line by which moved lines are looked for
_FEW = 3  # lines of a hunk that the other file must have at least
_MOST = 400  # lines that are looked for at once


def places_of(tree: Repo, folder: Path, conflicts: Sequence[str]) -> tuple[Place, ...]:
    """Where to edit the files in conflict: the lines of their markers, or why there are none."""
    without = unmarked(tree)
    found = []
    for path in conflicts:
        begins = () if path in without else _begins(folder / path)
        found.append(Place(path, begins, without[path].value if path in without else ""))
    return tuple(found)


def open_hunks(
    tree: Repo, folder: Path, parent: Oid, patch: Patch, result: PatchResult,
    conflicts: Sequence[str],
) -> tuple[OpenHunk, ...]:  # fmt: skip
    """The hunks of ``patch`` that the merge with ``conflicts`` has not put in. Each tells the file
    and line where most of its lines stand now, if they are gone from its own file in the commit
    ``parent``."""
    verdicts = {(file.path, hunk.number): hunk.verdict for file in result.files
                for hunk in file.hunks}  # fmt: skip
    sought = []
    for file in patch.files:
        rest = _without_conflicts(folder / file.path) if file.path in conflicts else ""
        for hunk in file.hunks if file.path in conflicts else ():
            unplaced = verdicts.get((file.path, hunk.number)) is Verdict.CONFLICT
            if unplaced and not _is_in(hunk, rest):
                sought.append((file.path, hunk))
    homes = _homes(tree, parent, sought)
    return tuple(
        OpenHunk(path, hunk.number, hunk.old_start, *homes.get((path, hunk.number), (None, None)))
        for path, hunk in sought
    )


def _begins(file: Path) -> tuple[int, ...]:
    """The line of each conflict's first marker in a file of the work tree."""
    data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    begins = (match for match in MARKER.finditer(data) if match[1].startswith(b"<"))
    return tuple(data.count(b"\n", 0, match.start()) + 1 for match in begins)


def _without_conflicts(file: Path) -> str:
    """The text of a file of the work tree without the parts between conflict markers."""
    if file.is_symlink() or not file.is_file():
        return ""
    kept, inside = [], False
    for line in lines_of(file.read_bytes().decode("utf-8", "surrogateescape")):
        mark = MARKER.match(line.encode("utf-8", "surrogateescape"))
        if mark:
            inside = mark[1].startswith(b"<")
            kept.append("\0\n")  # no lines around a conflict are taken for neighbours
        elif not inside:
            kept.append(line)
    return "".join(kept)


def _is_in(hunk: Hunk, text: str) -> bool:
    """Whether all that a hunk adds stands in ``text``, in one piece each."""
    runs = [run for run in hunk.added_runs if any(line.strip() for line in run)]
    lines = Lines(text)
    return bool(runs) and all(lines.places(run) for run in runs)


def _homes(
    tree: Repo, parent: Oid, hunks: Iterable[tuple[str, Hunk]]
) -> dict[tuple[str, int], tuple[str, int]]:
    """The file and line where most of a hunk's old lines stand in ``parent``, by the path and
    number of the hunk; only for those whose lines another file has, and their own one has not."""
    wanted = {(path, hunk.number): _telling(hunk) for path, hunk in hunks}
    every = list(dict.fromkeys(line for lines in wanted.values() for line in lines))[:_MOST]
    found = _grep(tree, parent, every) if every else {}
    homes = {}
    for (path, number), lines in wanted.items():
        count: dict[str, list[int]] = {}
        for line in lines:
            for name, at in found.get(line, {}).items():
                count.setdefault(name, []).append(at)
        own = len(count.pop(path, ()))
        best = max(count, key=lambda name: len(count[name]), default=None)
        enough = max(_FEW, (len(lines) + 1) // 2, own + 1)
        if best is not None and len(count[best]) >= enough:
            homes[path, number] = (best, min(count[best]))
    return homes


def _telling(hunk: Hunk) -> list[str]:
    """The old lines of a hunk by which it is known again: the long ones, without their indentation,
    which a move changes."""
    lines = (line.strip() for line in hunk.before)
    return list(dict.fromkeys(line for line in lines if len(line) >= _LEAST and "\0" not in line))


def _grep(tree: Repo, commit: Oid, lines: Sequence[str]) -> Mapping[str, dict[str, int]]:
    """For each of the ``lines``: the files of the commit that have it, and the number of the first
    line there."""
    patterns = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    words = ("grep", "-z", "-n", "--fixed-strings", "--full-name", "-I", "-f", "-", commit)
    out = tree.run(*words, stdin=patterns, accept=(0, 1)).stdout.decode("utf-8", "surrogateescape")
    known = set(lines)
    found: dict[str, dict[str, int]] = {}
    for record in out.split("\n"):
        name, _, rest = record.partition("\0")
        number, _, text = rest.partition("\0")
        line, path = text.strip(), name.partition(":")[2]
        if line in known:
            found.setdefault(line, {}).setdefault(path, int(number))
    return found
