"""A conflict that shows no markers is one until a person says what becomes of the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtool.apply.resolving import Resolving, Unmarked, pick, resolved_tree, unmarked
from fixtool.errors import Refused
from support.repositories import Git


def change_link(git: Git, side: str) -> None:
    (git.path / "file").unlink(missing_ok=True)
    (git.path / "file").symlink_to(f"to-{side}")


def change_module(git: Git, side: str) -> None:
    module = {"base": "1", "ours": "2", "theirs": "3"}[side] * 40
    git("update-index", "--add", "--cacheinfo", f"160000,{module},file")


def change_unmerged_text(git: Git, side: str) -> None:
    git.write(".gitattributes", "file -merge\n")
    git.write("file", f"of {side}\n")


def change_text_with_long_markers(git: Git, side: str) -> None:
    git.write(".gitattributes", "file conflict-marker-size=20\n")
    git.write("file", f"of {side}\n")


def change_binary(git: Git, side: str) -> None:
    git.write("file", f"\0{side}")


KINDS = {
    change_link: Unmarked.SYMLINK,
    change_module: Unmarked.SUBMODULE,
    change_unmerged_text: Unmarked.BY_ATTRIBUTE,
    change_text_with_long_markers: Unmarked.BY_ATTRIBUTE,
    change_binary: Unmarked.BINARY,
}


@pytest.mark.parametrize("change", KINDS, ids=lambda change: change.__name__)
def test_a_conflict_without_markers_waits(
    make_git: Callable[[str], Git], change: Callable[[Git, str], None]
) -> None:
    """One side was taken without a word where both had changed a symlink."""
    git = make_git("repo")
    commits = {}
    for side in ("base", "ours", "theirs"):
        if side != "base":
            git("checkout", "--quiet", "--force", "--detach", commits["base"])
        change(git, side)
        if change is not change_module:
            git("add", "--all")
        git("commit", "--quiet", "--message", side)
        commits[side] = git.head()
    git("checkout", "--quiet", "--force", "--detach", commits["ours"])
    pick(git.repo, commits["theirs"])
    assert unmarked(git.repo) == {"file": KINDS[change]}
    conflict = Resolving(git.path, commits["ours"], ["file"], "edit", "main")
    with pytest.raises(Refused, match=f"file is not resolved: {KINDS[change]}"):
        resolved_tree(conflict)
    if change is not change_module:
        git("add", "file")
        resolved_tree(conflict)
