"""Hunks whose lines upstream moved to another file."""

from __future__ import annotations

import pytest

from fixtool.git.objects import Oid
from fixtool.replay.moved_hunks import MovedHunks, apply_to_moved_lines
from support.rebase import FIVE
from support.repositories import NUMBERS, Team

HEAD, TAIL = NUMBERS[: NUMBERS.index("line 18\n")], NUMBERS[NUMBERS.index("line 18\n") :]
BLOCK = "".join(f"step {n}\n" for n in range(1, 10))
FIXED = BLOCK.replace("step 5\n", "step 5 fixed\n")


def base_of(team: Team, **files: str) -> str:
    """Give upstream ``files``, and move the line there."""
    base = team.upstream.commit("new base", **files)
    team.line(base=base)
    return base


def follow(team: Team, **files: str | None) -> MovedHunks | None:
    """What becomes of the last patch of the line where upstream has changed ``files``."""
    git, line = team.upstream, team.repository.line("main")
    tip = Oid(git.commit("later", **files))
    return apply_to_moved_lines(git.repo, line.patches[-1], tip, lambda: line.upstream.base)


def file_in(team: Team, hunks: MovedHunks | None, path: str) -> str:
    assert hunks is not None
    return team.upstream("show", f"{hunks.tree}:{path}") + "\n"


def test_each_hunk_goes_where_its_lines_are(team: Team) -> None:
    """Two go to another file, where the first makes the second one's place move; one stays."""
    fixed = NUMBERS.replace("line 5\n", "line 5 fixed\nand more\nand more\n")
    fixed = fixed.replace("line 14\n", "line 14 fixed\n").replace("line 30\n", "line 30 fixed\n")
    team.patch("fix", "fix three", python__model_py=fixed)
    hunks = follow(team, python__model_py=TAIL, python__head_py="# new\n" + HEAD)
    head, tail = fixed[: fixed.index("line 18\n")], fixed[fixed.index("line 18\n") :]
    assert file_in(team, hunks, "python/head.py") == "# new\n" + head
    assert file_in(team, hunks, "python/model.py") == tail
    assert hunks is not None
    assert hunks.moves == (
        "hunk 1 of python/model.py follows its lines to python/head.py",
        "hunk 2 of python/model.py follows its lines to python/head.py",
    )


def test_a_hunk_that_upstream_has_is_not_put_in_again(team: Team) -> None:
    fixed = NUMBERS.replace("line 5\n", "line 5 fixed\n").replace("line 30\n", "line 30 fixed\n")
    team.patch("fix", "fix two", python__model_py=fixed)
    tail = TAIL.replace("line 30\n", "line 30 fixed\n")
    hunks = follow(team, python__model_py=tail, python__head_py=HEAD)
    assert file_in(team, hunks, "python/model.py") == tail
    assert "line 5 fixed" in file_in(team, hunks, "python/head.py")


@pytest.mark.parametrize(
    "files",
    [
        {"python__head_py": HEAD + HEAD},
        {"python__head_py": HEAD, "python__copy_py": HEAD},
        {"python__head_py": HEAD.replace("line 6\n", "line VI\n")},
        {},
    ],
    ids=["twice in one file", "in two files", "not whole", "nowhere"],
)
def test_lines_without_one_place(team: Team, files: dict[str, str]) -> None:
    team.patch("fix", "fix five", python__model_py=FIVE)
    assert follow(team, python__model_py=TAIL, **files) is None


def test_a_twin_in_another_file_is_not_the_place(team: Team) -> None:
    """Upstream rewrote the patched lines. The copy of them that stands elsewhere always did."""
    base = base_of(team, python__a_py=BLOCK, python__b_py="# b\n" + BLOCK)
    team.patch("fix", "fix a", base=base, python__a_py=FIXED)
    assert follow(team, python__a_py="rewritten\n") is None
    # Nor is it, if it moves too.
    assert follow(team, python__b_py=None, python__c_py="# c\n" + BLOCK) is None


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [("rewritten\n", BLOCK), (BLOCK, BLOCK), ("rewritten\n", FIXED)],
    ids=["one is left", "both are left", "it has what the patch does"],
)
def test_a_twin_in_the_same_file_is_not_the_place(team: Team, theirs: str, kept: str) -> None:
    """One hunk of the patch follows its lines. That does not make the place of the other certain."""
    base = base_of(team, python__model_py=NUMBERS + BLOCK + "between\n" * 9 + kept)
    fixed = FIVE + FIXED + "between\n" * 9 + kept
    team.patch("fix", "fix two", base=base, python__model_py=fixed)
    tail = TAIL + theirs + "between\n" * 9 + kept
    assert follow(team, python__model_py=tail, python__head_py=HEAD) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [("first\nsecond\n", "first!\nsecond\n"), ("{\n}\n;\n{{\n", "{\n}\n;;\n{{\n")],
    ids=["two lines", "short lines"],
)
def test_lines_that_are_too_few_to_look_for(team: Team, before: str, after: str) -> None:
    base = base_of(team, python__a_py=before)
    team.patch("fix", "fix a", base=base, python__a_py=after)
    assert follow(team, python__a_py=None, python__b_py=before) is None


@pytest.mark.parametrize("name", ["python__new_py", "fresh_py"])
def test_a_new_file_goes_in_too(team: Team, name: str) -> None:
    team.patch("fix", "fix five", python__model_py=FIVE, **{name: "new\n"})
    hunks = follow(team, python__model_py=TAIL, python__head_py=HEAD)
    path = name.replace("__", "/").replace("_py", ".py")
    assert file_in(team, hunks, path) == "new\n"


def test_a_new_file_that_upstream_has_otherwise(team: Team) -> None:
    team.patch("fix", "fix five", python__model_py=FIVE, python__new_py="new\n")
    moved = {"python__model_py": TAIL, "python__head_py": HEAD}
    assert follow(team, **moved, python__new_py="theirs\n") is None


def test_a_new_file_in_a_folder_that_is_gone(team: Team) -> None:
    """Upstream renamed the folder; where the new file goes, only a person can say."""
    team.patch("fix", "fix five", python__model_py=FIVE, python__new_py="new\n")
    gone = {"python__model_py": None, "python__other_py": None}
    assert follow(team, **gone, lib__head_py=HEAD, lib__tail_py=TAIL) is None


def test_a_patch_without_a_commit_that_it_was_written_for(team: Team) -> None:
    team.patch("fix", "fix five", python__model_py=FIVE)
    git, line = team.upstream, team.repository.line("main")
    tip = Oid(git.commit("later", python__model_py=TAIL, python__head_py=HEAD))
    assert apply_to_moved_lines(git.repo, line.patches[0], tip, lambda: None) is None


def test_a_file_that_is_binary_and_one_that_is_renamed_go_in_too(team: Team) -> None:
    base = base_of(team, picture_bin=b"\0old\0", old_txt="kept\n" * 9)
    team.patch(
        "fix", "fix five", base=base, python__model_py=FIVE, picture_bin=b"\0new\0",
        old_txt=None, new_txt="kept\n" * 8 + "changed\n",
    )  # fmt: skip
    hunks = follow(team, python__model_py=TAIL, python__head_py=HEAD)
    assert hunks is not None
    assert "line 5 fixed" in file_in(team, hunks, "python/head.py")
    git = team.upstream
    assert git("show", f"{hunks.tree}:picture_bin") == "\0new\0"
    assert git("show", f"{hunks.tree}:new.txt").endswith("changed")
    assert "old.txt" not in git("ls-tree", "--name-only", hunks.tree).split()
