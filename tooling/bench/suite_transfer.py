"""Suite `transfer`: how many bytes fixtool fetches, next to a clone.

The clone's branches and tags are served over HTTP on this machine, from a repository that borrows
its objects; the clone itself is only read. Bytes are what the server sent, headers included. Every
command runs once.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from place import Place, temporary_place
from suite_four import line_base
from timing import Command, CommandFailed, Group, Row, measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import git_http

_BRANCH = "fixtool-bench"  # `git clone --depth` takes a branch, not a commit


def run(given: Namespace) -> list[Group]:
    """Clone, and apply for the first time and again, each over HTTP."""
    base = line_base(given)
    with temporary_place(given.memory, given.fixtool) as place:
        _publish(place, given.repo, base)
        with git_http.serve(place.folder / "served") as server:
            rows = _measure(place, server, base, given)
    return [Group("transfer", "Bytes over HTTP", rows)]


def _publish(place: Place, repo: Path, base: str) -> None:
    """Serve what a user's `git clone` sees, and a branch at ``base``."""
    served = place.folder / "served" / "sglang.git"
    git_http.publish(repo.resolve(), served)
    if not place.git(served, "for-each-ref", "--count=1", f"--contains={base}", "refs/heads"):
        raise CommandFailed(f"no branch of {repo} holds {base}: a full clone would not fetch it")
    place.git(served, "update-ref", f"refs/heads/{_BRANCH}", base)


def _measure(place: Place, server: git_http.Server, base: str, given: Namespace) -> list[Row]:
    url = f"{server.url}/sglang.git"
    commits = f"{base}..{given.last}"
    listed = place.git(given.repo, "rev-list", "--first-parent", "--reverse", commits)
    following = listed.partition("\n")[0]
    folder = place.folder
    clone = ["git", "clone", "--quiet"]
    apply = [given.fixtool, "-C", given.patches, "apply", "--line", given.line, "--source", url,
             "--sglang-ref"]  # fmt: skip
    commands: list[tuple[str, Command, str]] = [
        ("git clone", [*clone, url, folder / "full"], ""),
        ("git clone --depth 1", [*clone, "--depth=1", f"--branch={_BRANCH}", url, folder / "one"],
         ""),
        ("fixtool apply --no-build, first",
         [*apply, base, "--no-build", "--worktree", folder / "a"], "apply"),
        ("fixtool apply --no-build, again, another work tree",
         [*apply, base, "--no-build", "--worktree", folder / "b"], "apply"),
        ("fixtool apply --dry-run, first, on the base", [*apply, base, "--dry-run"], "base"),
        ("fixtool apply --dry-run, first, on the next commit", [*apply, following, "--dry-run"],
         "next"),
    ]  # fmt: skip
    rows = []
    for name, words, state in commands:
        print(f"transfer: {name} …", file=sys.stderr)
        own = Place(folder / f"state-{state}", given.fixtool)
        server.counts.clear()
        row = Row(name, against="" if name == "git clone" else "git clone")
        try:
            # Exit code 3 means that the line conflicts on the next commit.
            row.samples.append(measure([words], folder, own.environment, frozenset({0, 3})))
        except CommandFailed as error:
            row.problem, row.failed = str(error), True
        row.facts = {"bytes": server.counts.sent, "requests": server.counts.requests}
        rows.append(row)
    for row in rows:
        row.facts["bytes_ratio"] = round(row.facts["bytes"] / rows[0].facts["bytes"], 4)
    return rows
