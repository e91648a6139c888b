"""Which line is chosen for a commit."""

from __future__ import annotations

import pytest

from fixtool.errors import UsageError
from fixtool.judgement.line import choose_line
from fixtool.sources.resolve import Target
from support.repositories import Git, Team


def target(git: Git, ref: str, version: str | None = None) -> Target:
    commit = git("rev-parse", f"{ref}^{{commit}}")
    return Target(ref, commit, git("rev-parse", f"{ref}^{{tree}}"), "x", version)


def test_the_line_that_fits(team: Team) -> None:
    git = team.upstream
    newer = git.commit("newer", x_py="1\n")
    team.line("newer", newer)
    newest = git.commit("newest", x_py="2\n")
    old = git("commit-tree", "-m", "unrelated", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    repository, repo = team.repository, git.repo

    def chosen(ref: str, version: str | None = None, wanted: str | None = None) -> tuple[str, str]:
        choice = choose_line(repository, target(git, ref, version), repo, wanted)
        return choice.line.name, choice.why

    assert chosen("v1.0") == ("main", "its base is this very commit")
    assert chosen(newest) == ("newer", f"{newest[:12]} is 1 commit after its base")
    assert chosen("v1.0", wanted="newer") == ("newer", "asked for")
    assert chosen(old, "0.9")[1] == "its release 1.0 is nearest to 0.9"
    assert chosen(old)[1].startswith("its base of 2026-01-02 is nearest in time")
    with pytest.raises(UsageError, match="no line 'nope'; there are: main, newer"):
        chosen("v1.0", wanted="nope")
