"""A patch repository with four lines, and three nights of it: one line stays green, one is asked
for two nights, one cannot be rebased, and one has a patch that upstream takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from support.repositories import NUMBERS, Git, Ran, Team

LINES = ("broken", "router", "steady", "taken")
TIMES = ("2026-11-25T024300Z", "2026-11-26T024300Z", "2026-11-27T024300Z")
_FIXED = NUMBERS.replace("line 20\n", "line 20 fixed\n")


def four_lines(team: Team) -> Git:
    """Make ``team`` the repository of four lines, in git."""
    patches = {
        "steady": {"python__model_py": _FIXED},
        "router": {"python__other_py": "alpha\nbeta, routed\ngamma\n"},
        "taken": {"python__model_py": NUMBERS.replace("line 40\n", "line 40 mended\n")},
        "broken": {"python__other_py": "alpha\nbeta\ngamma!\n"},
    }
    for line, files in patches.items():
        raw = team.patch(f"{line}-fix", f"mend {line}", **files)
        team.line(line)
        team.add(f"{line}-fix", raw, line)
    shutil.rmtree(team.root / "patches" / "main")
    about = team.root / "patches" / "broken" / "upstream.toml"
    base = team.upstream("rev-parse", "v1.0^{commit}")
    about.write_text(about.read_text().replace(base, "1" * 40))  # a commit that upstream lost
    git = Git(team.root)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    git.commit("four lines")
    return git


def upstream_moves(team: Team) -> tuple[Callable[[], object], ...]:
    """What upstream commits before each of the nights."""
    routed = "alpha\nbeta, reworked\ngamma\n"
    taken = NUMBERS.replace("line 40\n", "line 40 mended\n")
    commit = team.upstream.commit
    return (
        lambda: commit("Rework the router (#71)", python__other_py=routed),
        lambda: commit("Take the mended line (#72)", python__model_py=taken),
        lambda: commit("Take the rework back (#73)", python__other_py="alpha\nbeta\ngamma\n"),
    )


def spend_nights(team: Team, folder: Path, fixtool: Callable[..., Ran]) -> None:
    """Rebase each line on three nights, as ``ci/nightly`` does, and keep the documents in
    ``folder``. Nobody takes what the nights wrote."""
    git = four_lines(team)
    start = git.head()
    for night, move in zip(TIMES, upstream_moves(team), strict=True):
        move()
        for line in LINES:
            ran = fixtool("rebase", "--line", line, "--onto", "main", "--json", cwd=team.root)
            path = folder / night / f"{line}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(ran.out)
            if ran.status == 3:
                fixtool("rebase", "--abort", "--line", line, cwd=team.root)
            git("reset", "--quiet", "--hard", start)


def tonight(folder: Path, nights: Path, night: str) -> Path:
    """One of the kept nights in the form that ``fixtool announce`` takes: LINE/rebase.json."""
    for path in (nights / night).glob("*.json"):
        (folder / path.stem).mkdir(parents=True)
        shutil.copy2(path, folder / path.stem / "rebase.json")
    return folder
