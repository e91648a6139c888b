"""Which earlier patches each patch needs: by applying them, and by what its trailers say."""

from __future__ import annotations

import pytest

from fixtool.errors import Refused
from fixtool.replay.dependencies import Needs, dependencies
from fixtool.series.trailers import with_trailer
from support.repositories import NUMBERS, Team

TWO = NUMBERS.replace("line 2\n", "line 2 fixed\n")
MORE = NUMBERS.replace("line 2\n", "line 2 fixed more\n")
MOST = NUMBERS.replace("line 2\n", "line 2 fixed most\n")
FAR = NUMBERS.replace("line 30\n", "line 30 fixed\n")


def needs(team: Team) -> tuple[Needs, ...]:
    line = team.repository.line("main")
    return dependencies(team.upstream.repo, line, line.upstream.base)


def test_what_each_patch_needs(team: Team) -> None:
    team.patch("two", "fix two", python__model_py=TWO)
    team.patch("far", "fix thirty", python__model_py=FAR)
    team.patch("more", "fix two more", base="patch/two", python__model_py=MORE)
    other = team.patch("other", "fix beta", python__other_py="alpha\nBETA\ngamma\n")
    team.patch("most", "fix two most", base="patch/more", python__model_py=MOST)
    path = team.root / "patches" / "main" / "other.patch"
    path.write_bytes(with_trailer(other, "Depends-On", "more"))
    assert needs(team) == (
        Needs("two", (), (), (), ("more", "other", "most")),
        Needs("far", (), (), (), ()),
        Needs("more", ("two",), (), ("two",), ("other", "most")),
        Needs("other", (), ("more",), ("two", "more"), ()),
        Needs("most", ("two", "more"), (), ("two", "more"), ()),
    )


def test_a_series_that_does_not_apply(team: Team) -> None:
    team.patch("far", "fix thirty", python__model_py=FAR)
    team.patch("two", "fix two", python__model_py=TWO)
    team.patch("more", "fix two more", base="patch/two", python__model_py=MORE)
    series = team.root / "patches" / "main" / "series"
    series.write_text("far.patch\nmore.patch\n")
    with pytest.raises(Refused, match="more does not apply to the base of its own line"):
        needs(team)
