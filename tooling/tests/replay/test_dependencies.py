"""Which earlier patches each patch needs: by applying them, and by what its trailers say."""

from __future__ import annotations

from unittest import mock

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


def test_a_patch_that_touches_none_of_its_files_is_not_tried(team: Team) -> None:
    """Each try applies patches. That leaves out none that is needed: also not one that takes a file
    away where a folder comes, and one that is needed by what is needed."""
    changes: tuple[tuple[str, dict[str, str | None]], ...] = (
        ("two", {"python__model_py": TWO}),
        ("beta", {"python__other_py": "alpha\nBETA\ngamma\n"}),
        ("place", {"place": "a file\n"}),
        ("inner", {"place": None, "place__inner": "in a folder\n"}),
        ("both", {"python__model_py": MORE, "python__other_py": "alpha\nBETA\nGAMMA\n"}),
        ("again", {"place__inner": "in a folder, again\n"}),
        ("alone", {"new_txt": "new\n"}),
    )
    base = None
    for slug, files in changes:
        team.patch(slug, f"change {slug}", base=base, **files)
        base = f"patch/{slug}"
    made = needs(team)
    assert {patch.slug: patch.derived for patch in made} == {
        "two": (), "beta": (), "place": (), "inner": ("place",), "both": ("two", "beta"),
        "again": ("place", "inner"), "alone": (),
    }  # fmt: skip
    with mock.patch(
        "fixtool.replay.dependencies._near", side_effect=lambda _, number: list(range(number))
    ):
        assert needs(team) == made


def test_a_series_that_does_not_apply(team: Team) -> None:
    team.patch("far", "fix thirty", python__model_py=FAR)
    team.patch("two", "fix two", python__model_py=TWO)
    team.patch("more", "fix two more", base="patch/two", python__model_py=MORE)
    series = team.root / "patches" / "main" / "series"
    series.write_text("far.patch\nmore.patch\n")
    with pytest.raises(Refused, match="more does not apply to the base of its own line"):
        needs(team)
