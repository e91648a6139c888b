"""The patches of a line on releases of the package index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fixtool.errors import UsageError
from fixtool.git.objects import Oid
from fixtool.history.releases import judge_releases, releases_within
from fixtool.progress import Silence
from fixtool.series.context import Context
from fixtool.settings import Settings
from fixtool.sources.source import Source, open_source
from support.json_documents import document
from support.package_index import Server, make_wheel
from support.progress import Counted
from support.rebase import FIVE, REWRITTEN
from support.repositories import NUMBERS, Ran, Team

SPANS = [
    ("0.5.23..0.5.12", "0.5.12 comes before 0.5.23", "--releases 0.5.12..0.5.23"),
    ("0.5.12..nope", "'nope' is not a release", "--releases 0.5.12..0.5.24"),
    ("nope..", "'nope' is not a release", "--releases 0.5.11.."),
    ("nope..0.5.12", "'nope' is not a release", "--releases 0.5.11..0.5.12"),
    ("0.6..", "no release with a wheel lies in 0.6..", "--releases 0.5.11..0.5.24"),
    ("0.5.12", "'0.5.12' is no span of releases", "--releases OLDEST..0.5.12"),
]


@pytest.mark.parametrize(("span", "message", "hint"), SPANS, ids=[span[0] for span in SPANS])
def test_a_span_that_is_none(span: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        releases_within(span, ("0.5.11", "0.5.12", "0.5.23", "0.5.24"))
    assert (caught.value.hint or "").rpartition(": ")[2] == hint


def test_a_line_on_releases(team: Team, server: Server, fixtool: Callable[..., Ran]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    releases = {"0.9": NUMBERS, "1.0": "line 0\n" + NUMBERS, "1.1": FIVE, "1.2": REWRITTEN}
    for version, text in {**releases, "1.3rc1": NUMBERS, "2.0": NUMBERS}.items():
        make_wheel(server.folder, version, files={"model.py": text.encode()})
    words = ["history", "--json", "--source", team.upstream.path, "-C", team.root]
    judged = document(fixtool(*words, "--releases", "0.9..1.3"))
    assert (judged["start"], judged["commits"], judged["patches"]) == (None, 0, [])
    assert judged["releases"]["versions"] == list(releases)
    (row,) = judged["releases"]["patches"]
    verdicts = [cell["verdict"] for cell in row["cells"]]
    assert verdicts == ["clean", "offset", "absorbed", "conflict"]
    refused = fixtool(*words, "--releases", "3.0..")
    assert (refused.status, "no release with a wheel lies in 3.0.." in refused.out) == (2, True)
    assert fixtool(*words, "--releases", "1.0").status == 2


def test_a_base_that_is_no_release_comes_from_the_address_of_the_line(
    team: Team, server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    for version, text in {"1.0": NUMBERS, "1.1": FIVE}.items():
        make_wheel(server.folder, version, files={"model.py": text.encode()})
    opened: list[tuple[str, str]] = []

    def open_it(name: str, _: Settings, url: str, __: object, ___: Sequence[Oid] = ()) -> Source:
        opened.append((name, url))
        return open_source(url, settings, "", Silence())

    monkeypatch.setattr("fixtool.history.releases.open_source", open_it)
    progress = Counted()
    line = team.repository.line("main")
    matrix = judge_releases(Context(team.repository, settings, progress), line, "1.0..1.1", "pypi")
    assert [cell.verdict for cell in matrix.patches[0].cells] == ["clean", "absorbed"]
    assert set(opened) == {("git", str(team.upstream.path))}
    assert (progress.tasks["reading"].total, progress.tasks["reading"].done) == (2, 2)
