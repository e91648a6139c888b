"""The JSON document of `fixtool history`, read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtool.documents import Failure
from fixtool.errors import ExitCode, Refused
from fixtool.history.log import UpstreamCommit
from fixtool.history.releases import Cell, ReleaseMatrix, ReleaseRow
from fixtool.history.result import (
    History,
    HistoryDocument,
    Interval,
    PatchHistory,
    read_history,
)
from fixtool.replay.verdict import Verdict
from fixtool.terminal import document
from support import report_example as make

FIRST = UpstreamCommit("a" * 40, "An Author", "2026-05-23T23:30:00-02:00", "subject (#7)", 7)
LAST = UpstreamCommit("b" * 40, "Another", "2026-05-25T00:00:00+00:00", "subject", None)
HISTORY = History(
    "main", FIRST.sha, LAST.sha, 5, 2, 3,
    (PatchHistory("fix", "fix it", (
        Interval(Verdict.CLEAN, FIRST, FIRST, 4, None, ()),
        Interval(Verdict.CONFLICT, LAST, LAST, 1, LAST, ("conflict in a.py",)),
    )),),
)  # fmt: skip
MATRIX = ReleaseMatrix(
    ("0.5.12",), (ReleaseRow("fix", "fix it", (Cell("0.5.12", Verdict.CLEAN, ("why",)),)),)
)


@pytest.mark.parametrize("history", [HISTORY, None])
@pytest.mark.parametrize("releases", [MATRIX, None])
def test_what_is_printed_is_read_back(
    history: History | None, releases: ReleaseMatrix | None
) -> None:
    from fixtool.commands.history import body

    printed = document("history", ExitCode.OK, body("main", history, releases, set()))
    expected = HistoryDocument("main", history, releases)
    assert read_history(json.loads(printed), "h.json") == expected
    assert (FIRST.day, LAST.day) == ("2026-05-24", "2026-05-25")


@pytest.mark.parametrize("end", ["start", "end"])
def test_a_range_with_one_end_is_no_history(end: str) -> None:
    read = read_history(GOOD | {end: None}, "h.json")
    assert isinstance(read, HistoryDocument)
    assert read.history is None
    assert isinstance(full := read_history(GOOD, "h.json"), HistoryDocument)
    assert full.history


def test_an_error_document_is_a_failure() -> None:
    error = {"message": "no network", "where": None, "hint": "try again"}
    printed = {"schema": 1, "command": "history", "ok": False, "exit_code": 4, "error": error}
    failure = Failure("history", "no network", None, "try again")
    assert read_history(printed, "h.json") == failure


GOOD = make.history(make.patch("one", ("clean", 2), ("conflict", 1)))


def interval(**change: Any) -> dict[str, Any]:
    """A document whose first interval has other values."""
    patch = GOOD["patches"][0]
    return {"patches": [{**patch, "intervals": [{**patch["intervals"][0], **change}]}]}


CELL = {"version": "2", "verdict": "clean", "evidence": []}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"line": 3}, "line"),
        ({"start": "main"}, "start"),
        ({"commits": -1}, "commits"),
        ({"commits": True}, "commits"),
        ({"patches": {}}, "patches"),
        ({"patches": [None]}, r"patches\[0\]"),
        ({"patches": [{"slug": "x"}]}, r"patches\[0\].intervals is missing"),
        ({"patches": [{"slug": "x", "subject": "x", "intervals": []}]}, "intervals"),
        ({"patches": [make.patch("x", *[("clean", 1)] * 20_001)]}, "patches"),
        (interval(verdict="fine"), r"patches\[0\].intervals\[0\].verdict is 'fine'"),
        (interval(count=0), "count"),
        (interval(count=10**30), "count"),
        (interval(first=None), "first"),
        (interval(evidence=[1]), r"evidence\[0\]"),
        (interval(first={**make.commit(1), "date": "yesterday"}), "first.date"),
        (interval(first={**make.commit(1), "date": "0001-01-01T00:00:00+23:59"}), "first.date"),
        (interval(first={**make.commit(1), "sha": "../../x"}), "first.sha"),
        (interval(first={**make.commit(1), "pr": "1"}), "first.pr"),
        ({"releases": {"versions": ["1"], "patches": [
            {"slug": "x", "subject": "x", "cells": [CELL]}]}}, "version is '2'"),
        ({"error": "no"}, "error"),
    ],
)  # fmt: skip
def test_a_malformed_document_is_refused_with_its_file_and_key(
    change: dict[str, Any], key: str
) -> None:
    what = f"this is not what `fixtool history --json` prints: .*{key}"
    with pytest.raises(Refused, match=what) as caught:
        read_history({**GOOD, **change}, "h.json")
    assert caught.value.where == "h.json"


@pytest.mark.parametrize(
    "value", [[], {}, 1, None, "text", {**GOOD, "schema": 2}, {**GOOD, "command": "rebase"}]
)
def test_another_document_is_refused(value: Any) -> None:
    with pytest.raises(Refused, match="this is not what `fixtool history --json` prints"):
        read_history(value, "h.json")
