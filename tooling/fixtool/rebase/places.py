"""Says where a person has to look in a rebase that waits: the lines of the conflict markers, the
hunks that no merge has put in, and the files to which upstream has moved their lines.

When upstream splits a file in two, git shows a conflict with everything that went away, often
thousands of lines, and does not name the file that has these lines now.
"""

from __future__ import annotations

from collections import Counter
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
_SPREAD = 3  # times as far apart as in the hunk, lines still belong together
_TIMES = 50  # places of one line in one file


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
    sought, whole = [], unmarked(tree)  # a file without markers is the one of one side, as it was
    for file in patch.files:
        if file.path not in conflicts:
            continue
        merged = "" if file.path in whole else _without_conflicts(folder / file.path)
        placed = _runs_in(file.hunks, Lines(merged))
        for hunk in file.hunks:
            unplaced = verdicts.get((file.path, hunk.number)) is Verdict.CONFLICT
            if unplaced and not (hunk.added_runs and placed.issuperset(hunk.added_runs)):
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


def _runs_in(hunks: Sequence[Hunk], text: Lines) -> set[tuple[str, ...]]:
    """The lines that ``hunks`` add, those that follow each other together, that stand in ``text``
    as often as all hunks together add them."""
    wanted = Counter(run for hunk in hunks for run in hunk.added_runs)
    return {run for run, times in wanted.items() if len(text.places(run)) >= times}


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
        own = sum(path in found.get(line, {}) for line in lines)
        enough = max(_FEW, (len(lines) + 1) // 2, own + 1)
        best = (0.0, "", 0)
        for name in {name for line in lines for name in found.get(line, {})} - {path}:
            at, weight, count = _cluster({line: found.get(line, {}) for line in lines}, name)
            if count >= enough and weight >= 1:
                best = max(best, (weight, name, at))
        if best[1]:
            homes[path, number] = best[1:]
    return homes


def _cluster(places: Mapping[str, Mapping[str, list[int]]], name: str) -> tuple[int, float, int]:
    """Where the most of the lines stand close together in the file ``name``: the first line there,
    how much they tell, and how many they are. A line tells 1 if no other file has it, and next to
    nothing if many files have it, as imports are."""
    at = sorted((number, line) for line, files in places.items() for number in files.get(name, ()))
    reach = _SPREAD * len(places)
    best = (0, 0.0, 0)
    for index, (first, _) in enumerate(at):
        near = {line for number, line in at[index:] if number <= first + reach}
        weight = sum(1 / len(places[line]) for line in near)
        if weight > best[1]:
            best = (first, weight, len(near))
    return best


def _telling(hunk: Hunk) -> list[str]:
    """The old lines of a hunk by which it is known again: the long ones, without their indentation,
    which a move changes."""
    lines = (line.strip() for line in hunk.before)
    return list(dict.fromkeys(line for line in lines if len(line) >= _LEAST and "\0" not in line))


def _grep(tree: Repo, commit: Oid, lines: Sequence[str]) -> Mapping[str, dict[str, list[int]]]:
    """For each of the ``lines``: the files of the commit that have it, and the numbers of the lines
    there. If git cannot tell, as in a clone that lacks files, there are none: this is only to help.
    """
    patterns = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    words = ("grep", "-z", "-n", "--fixed-strings", "--full-name", "-I", "-f", "-", commit)
    reply = tree.run(*words, stdin=patterns, accept=None)
    out = reply.stdout.decode("utf-8", "surrogateescape") if reply.status == 0 else ""
    known = set(lines)
    found: dict[str, dict[str, list[int]]] = {}
    for record in out.split("\n"):
        name, _, rest = record.partition("\0")
        number, _, text = rest.partition("\0")
        line, path = text.strip(), name.partition(":")[2]
        if line in known:
            at = found.setdefault(line, {}).setdefault(path, [])
            if len(at) < _TIMES:
                at.append(int(number))
    return found
