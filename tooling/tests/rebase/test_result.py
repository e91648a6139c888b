"""The JSON document of `fixtool rebase`, read back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fixtool.commands.rebase import _body
from fixtool.documents import Failure
from fixtool.errors import ExitCode, Refused
from fixtool.history.log import UpstreamCommit
from fixtool.rebase.result import Action, ParkedPatch, PatchOutcome, Rebased, read_rebased
from fixtool.replay.verdict import FileResult, HunkResult, PatchResult, Verdict
from fixtool.terminal import document

CULPRIT = UpstreamCommit("c" * 40, "An Author", "2026-05-23T10:00:00+00:00", "subject (#7)", 7)
HUNK = HunkResult(1, Verdict.CONFLICT, 5, None, None)
RESULT = PatchResult(
    "fix", "fix it", Verdict.CONFLICT, None, (FileResult("a.py", Verdict.CONFLICT, (HUNK,)),),
    ("conflict in a.py",),
)  # fmt: skip
PARKED = ParkedPatch("/place", "fix", 1, 2, ("a.py",), False, CULPRIT, "It was wrong.")
MOVED = Rebased(
    "main", "next", "a" * 40, "b" * 40, "v2", "git", True, True,
    (PatchOutcome(replace(RESULT, commit="d" * 40), Action.REWRITTEN, None, 1, 0),),
    "e" * 40, "d" * 40, "f" * 40, ("look",), "1: 2\n",
)  # fmt: skip
STOPPED = Rebased(
    "main", None, "a" * 40, "b" * 40, "v2", "git",
    outcomes=(PatchOutcome(RESULT, Action.ASKED, CULPRIT),), parked=PARKED,
)  # fmt: skip


@pytest.mark.parametrize("rebased", [MOVED, STOPPED])
def test_what_is_printed_is_read_back(rebased: Rebased) -> None:
    printed = json.loads(document("rebase", ExitCode.OK, _body(rebased)))
    assert read_rebased(printed, "r.json") == rebased


def test_an_error_document_is_a_failure() -> None:
    error = {"message": "no network", "where": "x", "hint": None}
    printed = {"schema": 1, "command": "rebase", "ok": False, "exit_code": 4, "error": error}
    assert read_rebased(printed, "r.json") == Failure("rebase", "no network", "x", None)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"base": "main"}, "base is 'main'"),
        ({"moved": 1}, "moved"),
        ({"committed": "--force"}, "committed"),
        ({"patches": [{"slug": "x"}]}, r"patches\[0\].subject is missing"),
        ({"patches": [{"action": "eaten"}]}, r"patches\[0\]"),
        ({"session": {"worktree": 1}}, "session.worktree"),
        ({"warnings": "none"}, "warnings"),
        ({"error": "no"}, "error"),
    ],
)
def test_a_malformed_document_is_refused_with_its_file_and_key(
    change: dict[str, Any], key: str
) -> None:
    printed = json.loads(document("rebase", ExitCode.OK, _body(MOVED)))
    what = f"this is not what `fixtool rebase --json` prints: .*{key}"
    with pytest.raises(Refused, match=what) as caught:
        read_rebased({**printed, **change}, "r.json")
    assert caught.value.where == "r.json"
