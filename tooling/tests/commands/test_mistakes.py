"""Common mistakes: what fixtool answers is what docs/mistakes.md says, and nothing is changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from unittest import mock

import pytest

from fixtool.commands.verbs import VERBS
from support.command import clean_environment
from support.mistakes import HEAD, MISTAKES, Mistake, Situation, prepare, section
from support.repositories import ROOT, make_upstream

PAGE = (ROOT / "docs/mistakes.md").read_text("utf-8")
ALL = [mistake for mistakes in MISTAKES.values() for mistake in mistakes]


@pytest.fixture(scope="module")
def situation(tmp_path_factory: pytest.TempPathFactory) -> Situation:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FIXTOOL_")]:
            patch.delenv(name)
        root = Path(tmp_path_factory.mktemp("mistakes")).resolve()
        return prepare(root, make_upstream(root / "upstream"))


def shot(situation: Situation) -> dict[str, str]:
    """The state of the patch repository, without the file by which runs take turns."""
    return {key: text for key, text in situation.team.snapshot().items() if key != "patches/.lock"}


@pytest.mark.parametrize("mistake", ALL, ids=[mistake.about for mistake in ALL])
def test_a_mistake(mistake: Mistake, situation: Situation) -> None:
    before = shot(situation)
    text = section(mistake, situation)
    assert text in PAGE, f"run ci/mistakes if this answer is meant:\n{text}"
    assert shot(situation) == before
    if mistake.code not in (0, 3) and " lint" not in f" {mistake.typed.partition(' -')[0]}":
        assert re.search(r"\nerror: .+\n   at: .+\n  try: .+\n```", text), text


def test_the_page_has_nothing_else() -> None:
    titles = re.findall(r"^### (.*)$", PAGE, re.M)
    assert titles == [mistake.about for mistake in ALL]
    assert PAGE.startswith(HEAD)
    assert len(titles) >= 40


def test_there_is_a_mistake_for_every_verb_that_people_type() -> None:
    typed = {word for mistake in ALL for word in mistake.typed.split()}
    assert not set(VERBS) - typed


def test_the_page_does_not_depend_on_who_writes_it() -> None:
    """With a FIXTOOL_LINE of the caller's, ci/mistakes ended in an AssertionError."""
    settings = dict.fromkeys(("FIXTOOL_LINE", "GIT_AUTHOR_NAME", "XDG_STATE_HOME"), "x")
    with mock.patch.dict(os.environ, {**settings, "KEPT": "x"}):
        clean_environment()
        left = {name for name in os.environ if name.startswith(("FIXTOOL_", "GIT_", "XDG_"))}
        assert "KEPT" in os.environ
    assert left == {"GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL"}
