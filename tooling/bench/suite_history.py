"""Suite `history`: what fixtool says about many commits and releases.

A plain loop of `git read-tree` and `git apply --check` stands beside it. The loop takes a long
time, so it looks at every Nth commit only, once; its figures are multiplied by N.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from place import Place, temporary_place
from suite_four import line_base, series_of
from timing import Command, Contestant, Group, take_turns

_LOOP = """
git rev-list --first-parent --reverse "$1^..$2" | awk "NR % $3 == 0" | {
  shift 3
  while read -r commit; do
    git read-tree "$commit"
    for patch; do git apply --cached --check "$patch" 2>/dev/null || :; done
  done
}
"""
_TORCHSPEC = (
    "patches/sglang/v0.5.8.post1/sglang.patch",
    "0f2df9370a1de1b4fb11b071d39ab3ce2287a350",
)
_SLIME = ("docker/patch/v0.5.7/sglang.patch", "dce8b0606c06d3a191a24c7b8cbe8e238ab316c9")
LOOP = "git apply --check in a loop"
COLD, WARM = "fixtool history, cold", "fixtool history, warm"


@dataclass(frozen=True)
class _Range:
    """The commits from ``first`` to ``last``; the plain loop looks at every ``step``th."""

    first: str
    last: str
    step: int


def run(given: Namespace) -> list[Group]:
    """The histories that ``given`` has clones for, and the release matrix unless it is left out."""
    groups = []
    with temporary_place(given.memory, given.fixtool) as place:
        clone = place.shared_clone(given.repo)
        commits = _Range(line_base(given), given.last, given.step)
        words = [given.fixtool, "-C", given.patches, "history", "--line", given.line]
        patches = series_of(given.patches, given.line)
        groups.append(_history(place, given, clone, "history-four", "Four patches", commits,
                               words, patches))  # fmt: skip
        if given.torchspec:
            path, base = _TORCHSPEC
            last = _commits_after(place, clone, base, given.last, 1000)
            groups.append(_monolith(place, given, clone, "torchspec", given.torchspec, path,
                                    _Range(base, last, 10)))  # fmt: skip
        if given.slime:
            path, base = _SLIME
            groups.append(_monolith(place, given, clone, "slime", given.slime, path,
                                    _Range(base, given.last, 50)))  # fmt: skip
    if given.releases:
        groups.append(_releases(given))
    return groups


def _monolith(
    place: Place, given: Namespace, clone: Path, name: str, repo: Path, path: str, commits: _Range
) -> Group:
    """The history of one large patch of another project, whose clone is ``repo``."""
    patch = place.folder / f"{name}.patch"
    text = place.git(repo, "show", f"HEAD:{path}")
    patch.write_text(f"{text}\n")
    line = place.patch_repository(
        f"line-{name}", clone, commits.first, patch, "--source", clone, "--subject", name,
        "--author", "A Person <person@example.org>", "--date", "2026-01-31T12:00:00+00:00",
    )  # fmt: skip
    files = place.git(clone, "apply", "--numstat", patch).count("\n") + 1
    words = [given.fixtool, "-C", line, "history"]
    title = f"A patch of {name} with {files} files"
    return _history(place, given, clone, f"history-{name}", title, commits, words,
                    series_of(line, "sample"))  # fmt: skip


def _history(
    place: Place, given: Namespace, clone: Path, key: str, title: str, commits: _Range,
    words: Command, patches: list[Path],
) -> Group:  # fmt: skip
    count = place.git(
        clone, "rev-list", "--first-parent", "--count", f"{commits.first}..{commits.last}"
    )
    history = [*words, "--from", commits.first, "--to", commits.last, "--source", clone]
    at = place.folder
    loop: Command = [
        "sh",
        "-c",
        _LOOP,
        "sh",
        commits.first,
        commits.last,
        str(commits.step),
        *patches,
    ]
    index = {"GIT_DIR": str(clone), "GIT_INDEX_FILE": str(at / "loop.index")}
    contestants = [
        Contestant(LOOP, [loop], at, environment=index, most_runs=1,
                   scale=commits.step),
        Contestant(COLD, [history], at, LOOP, place.empty_cache),
        Contestant(WARM, [history], at, LOOP),
    ]  # fmt: skip
    title = f"{title}, over {int(count) + 1:,} commits"
    runs = min(given.runs, 2) if key == "history-slime" else given.runs
    return take_turns(key, title, contestants, place.environment, runs, limit=given.limit)


def _commits_after(place: Place, clone: Path, base: str, last: str, count: int) -> str:
    """The first-parent commit ``count`` after ``base`` on the way to ``last``."""
    found = place.git(clone, "rev-list", "--first-parent", "--reverse", f"{base}..{last}").split()
    return found[count - 1]


def _releases(given: Namespace) -> Group:
    """Fifteen releases, with their wheels downloaded before."""
    with temporary_place(given.memory, given.fixtool) as place:
        if given.keep:
            place = Place(given.keep.resolve() / "releases", given.fixtool)
        words = [given.fixtool, "-C", given.patches, "coverage", "--releases", "0.5.12..0.5.23"]
        place.run(*words)
        at = place.folder
        contestants = [
            Contestant("fixtool coverage --releases, cold", [words], at,
                       before=place.empty_cache),
            Contestant("fixtool coverage --releases, warm", [words], at),
        ]  # fmt: skip
        title = "Release matrix: 15 releases, their wheels downloaded before"
        return take_turns(
            "releases", title, contestants, place.environment, given.runs, limit=given.limit
        )
