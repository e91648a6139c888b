"""The evidence that a patch is in upstream, one sentence for each test that was made."""

from __future__ import annotations

import pytest

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.replay.absorption import compare_with_upstream, missing_lines
from fixtool.series.patch import Patch, parse
from support.repositories import NUMBERS, Git, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n").replace("line 35\n", "line 35 fixed\n")
HALF = NUMBERS.replace("line 20\n", "line 20 fixed\n")


@pytest.fixture
def patch(team: Team) -> Patch:
    return parse(team.patch("fix", "fix two places", python__model_py=FIX), "fix")


def evidence(git: Git, patch: Patch, culprit: str | None) -> tuple[str, ...]:
    with ObjectDatabase(git.repo) as objects:
        onto = Oid(git("rev-parse", "main"))
        (found,) = compare_with_upstream(objects, onto, [(patch, culprit)])
    return found


def test_the_same_change_in_a_larger_commit(team: Team, patch: Patch) -> None:
    """Only the files of the patch count for the patch-id."""
    culprit = team.upstream.commit("take it", python__model_py=FIX, README_txt="more\n")
    assert evidence(team.upstream, patch, culprit) == (
        f"2 of its 2 added lines are in {culprit[:12]}",
        f"its patch-id is that of {culprit[:12]}",
        "its reverse applies",
    )


def test_half_of_the_change(team: Team, patch: Patch) -> None:
    culprit = team.upstream.commit("take half", python__model_py=HALF)
    assert evidence(team.upstream, patch, culprit) == (
        f"1 of its 2 added lines are in {culprit[:12]}",
        f"its patch-id is not that of {culprit[:12]}",
        "its reverse does not apply",
    )


def test_no_commit_to_compare_with(team: Team, patch: Patch) -> None:
    assert evidence(team.upstream, patch, None) == ("its reverse does not apply",)


def test_a_patch_that_adds_nothing(team: Team) -> None:
    less = NUMBERS.replace("line 20\n", "")
    patch = parse(team.patch("less", "remove twenty", python__model_py=less), "less")
    culprit = team.upstream.commit("remove it", python__model_py=less)
    assert evidence(team.upstream, patch, culprit) == (
        f"its patch-id is that of {culprit[:12]}",
        "its reverse applies",
    )


def test_the_lines_that_are_missing(patch: Patch) -> None:
    assert missing_lines(patch, [HALF, "other\n"]) == ["line 35 fixed"]
    assert missing_lines(patch, [HALF, "  line 35 fixed\t\n"]) == []
