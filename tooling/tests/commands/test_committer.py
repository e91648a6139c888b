"""A verb that will commit asks git who commits before it fetches or computes anything."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fixtool.commands.verbs import VERBS
from support.repositories import NUMBERS, TRAILERS, Git, Ran, Team

NOWHERE = "--source http://127.0.0.1:1/x.git"
COMMITTING = {
    "new": f"new more -m x {NOWHERE}",
    "edit": f"edit fix {NOWHERE}",
    "reword": f"reword fix -m x {NOWHERE}",
    "move": f"move fix --after more {NOWHERE}",
    "rename": f"rename fix other {NOWHERE}",
    "squash": f"squash fix more {NOWHERE}",
    "split": f"split fix --by file {NOWHERE}",
    "copy": f"copy fix --to main {NOWHERE}",
    "drop": f"drop more --reason x {NOWHERE}",
    "restore": f"restore more {NOWHERE}",
    "import": f"import x.diff {NOWHERE}",
    "rebase": f"rebase --onto v1.1 {NOWHERE}",
    "history": f"history --record --to main {NOWHERE}",
}
IN_A_WORK_TREE = {"refresh", "export", "absorb"}
NOT_COMMITTING = {
    "init", "apply", "build", "install", "status", "uninstall", "coverage", "announce", "verify",
    "lint", "upstream", "undo", "redo", "log", "list", "show", "diff", "deps", "report", "clean",
}  # fmt: skip


def test_every_verb_is_in_one_of_the_tables() -> None:
    tables = [set(COMMITTING), IN_A_WORK_TREE, NOT_COMMITTING]
    assert set(VERBS) == set().union(*tables)
    assert sum(map(len, tables)) == len(set().union(*tables))


@pytest.fixture
def nameless(team: Team) -> Git:
    """A patch repository in git, which does not know who commits."""
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    team.patch("more", "more", python__other_py="alpha\nBETA\ngamma\n")
    git = team.track()
    for key in ("user.name", "user.email"):
        git("config", "--unset", key)
    git("config", "user.useConfigOnly", "true")
    git.write("x.diff", "--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+x\n")
    return git


@pytest.mark.parametrize("verb", COMMITTING)
def test_the_identity_is_asked_for_before_the_work(
    fixtool: Callable[..., Ran], nameless: Git, verb: str
) -> None:
    before = nameless.snapshot()
    ran = fixtool(*COMMITTING[verb].split(), cwd=nameless.path)
    assert (ran.status, ran.out) == (4, "")
    assert "git does not know who you are" in ran.err
    assert "git config --global user.name NAME && git config --global user.email MAIL" in ran.err
    document = json.loads(fixtool(*COMMITTING[verb].split(), "--json", cwd=nameless.path).out)
    assert document["exit_code"] == 4
    assert nameless.snapshot() == before


def test_a_dry_run_needs_no_identity_and_writes_nothing(
    fixtool: Callable[..., Ran], nameless: Git, upstream: Git
) -> None:
    before = nameless.snapshot()
    words = ["drop", "more", "--reason", "x", "--dry-run", "--source", upstream.path]
    ran = fixtool(*words, cwd=nameless.path)
    assert (ran.status, ran.err) == (0, "")
    assert "would lie in" in ran.out
    assert "nothing was written (--dry-run)" in ran.out
    dropped = json.loads(fixtool(*words, "--json", cwd=nameless.path).out)["dropped"]
    assert (dropped["slug"], dropped["dry_run"], dropped["committed"]) == ("more", True, None)
    assert nameless.snapshot() == before


@pytest.mark.parametrize("verb", ["refresh", "export"])
def test_that_git_tracks_no_patches_is_said(
    fixtool: Callable[..., Ran], team: Team, verb: str
) -> None:
    """The files are written then, and nothing is committed."""
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    tree, source = team.root.parent / "tree", team.upstream.path
    fixtool("apply", "--source", source, "--ref", "v1.0", "--worktree", tree, cwd=team.root)
    Git(tree).commit(f"more\n\nWhy.\n\n{TRAILERS}", README_txt="more\n")
    ran = fixtool(verb, "--worktree", tree, cwd=team.root)
    assert (ran.status, "no git repository tracks" in ran.out) == (0, True), ran.err
    elsewhere = fixtool("export", "--worktree", tree, "--output", tree.parent / "o", cwd=team.root)
    assert "no git repository tracks" not in elsewhere.out
