"""The report of all lines over the nights: what is counted, and what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtool.errors import Refused, UsageError
from fixtool.report.nights import NightsReport, NightState, read_nights
from fixtool.series.context import Context
from support.nightly import CULPRIT, conflict, document, failure, patch
from support.repositories import Ran, Team

Run = Callable[..., Ran]
Made = dict[str, Any] | str | None


@pytest.fixture
def read(team: Team, tmp_path: Path, settings: Any) -> Callable[..., NightsReport]:
    """Reads nights of the line ``main``, given by their days."""
    team.line()

    def read(days: dict[str, Made], line: str = "main") -> NightsReport:
        for day, made in days.items():
            folder = tmp_path / "nights" / day
            folder.mkdir(parents=True, exist_ok=True)
            if made is not None:
                text = made if isinstance(made, str) else json.dumps(made)
                (folder / f"{line}.json").write_text(text)
        return read_nights(Context(team.repository, settings), tmp_path / "nights")

    return read


def states(report: NightsReport) -> list[str]:
    (line,) = report.lines
    return [night.state.value for night in line.nights]


def test_a_night_is_green_asked_or_failed(read: Callable[..., NightsReport]) -> None:
    report = read({
        "2026-11-01": document(), "2026-11-02": conflict(), "2026-11-03": failure(),
        "2026-11-04": None, "2026-11-05": document(warnings=["look"]), "2026-11-06": "{",
    })  # fmt: skip
    assert report.nights == tuple(f"2026-11-0{day}" for day in range(1, 7))
    assert states(report) == ["green", "asked", "failed", "asked", "failed"]
    assert report.lines[0].newest.state is NightState.FAILED  # type: ignore[union-attr]
    ((name, todo),) = report.todos
    assert (name, todo.why[:25]) == ("main", "main.json is not JSON (" + todo.why[23:25])


def test_a_conflict_waits_from_its_first_night_to_the_last(
    read: Callable[..., NightsReport],
) -> None:
    """A night that failed does not end a wait, a patch behind a conflict does not begin one, and a
    conflict that comes back is another wait."""
    behind = [patch("fix", "conflict", "asked", culprit=CULPRIT), patch("b", "blocked", "asked")]
    report = read({
        "2026-10-30": conflict(patches=behind), "2026-10-31": failure(), "2026-11-02": conflict(),
        "2026-11-05": document(), "2026-11-07": conflict(), "2026-11-10T120000Z": conflict(),
    })  # fmt: skip
    waits = [(wait.slug, wait.first, wait.last, wait.days) for wait in report.waits]
    assert waits == [("fix", "2026-11-07", None, 3), ("fix", "2026-10-30", "2026-11-05", 6)]
    assert report.waits[1].culprit is not None


def test_files_are_counted_by_conflicts_and_merges(read: Callable[..., NightsReport]) -> None:
    def file(path: str, verdict: str) -> dict[str, Any]:
        return {"path": path, "verdict": verdict, "hunks": []}

    files = [file("a.py", "merged"), file("b.py", "conflict"), file("c.py", "clean")]
    night = document(patches=[patch("fix", "merged", "rewritten", files=files)])
    report = read({"2026-11-01": night, "2026-11-02": night})
    assert [(file.path, file.conflicts, file.merges) for file in report.files] == [
        ("b.py", 2, 0), ("a.py", 0, 2),
    ]  # fmt: skip
    assert report.files[0].patches == ("fix",)


def test_a_line_that_cannot_be_read_hides_no_other(
    team: Team, read: Callable[..., NightsReport]
) -> None:
    team.line("other")
    (team.root / "patches/main/series").write_text("lost.patch\n")
    read({"2026-11-01": document(line="gone")}, "gone")
    report = read({"2026-11-01": document()})
    main, other, gone = report.lines
    assert "The line cannot be read: the series names lost.patch" in (main.problem or "")
    assert (other.problem, other.nights) == (None, ())
    assert gone.problem == "The repository does not have this line any more."


@pytest.mark.parametrize("name", ["tonight", "2026-13-01", "2026-11-01T1Z", "2026-02-30"])
def test_a_folder_that_is_no_night_is_refused(read: Callable[..., NightsReport], name: str) -> None:
    with pytest.raises(Refused, match="is not the name of a night"):
        read({name: document()})


def test_no_nights_at_all(read: Callable[..., NightsReport], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read({})
    (tmp_path / "nights").mkdir()
    with pytest.raises(Refused, match="holds no night"):
        read({})


@pytest.mark.parametrize("words", [["--line", "main"], ["--rebase", "x"], ["--source", "git"]])
def test_the_report_of_all_lines_takes_no_file_of_one(
    team: Team, fixtool: Run, words: list[str]
) -> None:
    team.line()
    ran = fixtool("report", "--nights", "nights", *words, cwd=team.root)
    assert (ran.status, "a report of all lines" in ran.err) == (2, True)
    assert "try: fixtool report --nights nights\n" in ran.err
