"""The JSON document of `fixtool coverage`, read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtool.commands.coverage import body
from fixtool.documents import Failure
from fixtool.errors import ExitCode, Refused
from fixtool.judgement.covered import Coverage, CoveredPatch, CoveredRef, MissingRef, read_coverage
from fixtool.replay.verdict import Verdict
from fixtool.terminal import document
from support import report_example as make
from support.json_documents import validate


def test_what_is_printed_is_read_back() -> None:
    for printed in (make.coverage(), make.coverage_of_releases()):
        validate(printed)
        coverage = read_coverage(printed, "c.json")
        assert isinstance(coverage, Coverage)
        text = document("coverage", coverage.exit_code, body(coverage))
        assert json.loads(text) == printed


def test_an_error_document_is_a_failure() -> None:
    error = {"message": "no network", "where": None, "hint": "try again"}
    printed = {"schema": 1, "command": "coverage", "ok": False, "exit_code": 4, "error": error}
    assert read_coverage(printed, "c.json") == Failure("coverage", "no network", None, "try again")


@pytest.mark.parametrize(
    ("verdict", "missing", "exit_code"),
    [
        (Verdict.CLEAN, False, ExitCode.OK),
        (Verdict.CONFLICT, False, ExitCode.CONFLICT),
        (Verdict.BLOCKED, False, ExitCode.CONFLICT),
        (Verdict.CONFLICT, True, ExitCode.CANNOT_RUN),
        (Verdict.CLEAN, True, ExitCode.CANNOT_RUN),
    ],
)
def test_the_exit_code(verdict: Verdict, missing: bool, exit_code: ExitCode) -> None:
    patch = CoveredPatch("fix", "fix it", verdict, None, None, ())
    ref = CoveredRef("1.0", make.commit(0)["sha"], None, "main", "the only line", (patch,))
    lost = (MissingRef("1.1", "no network", None),) if missing else ()
    assert Coverage((ref,), 1, 1, lost).exit_code is exit_code


def test_a_document_may_hold_so_many_refs_and_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    good = make.coverage()
    size = len(good["refs"]) + sum(len(ref["patches"]) for ref in good["refs"])
    monkeypatch.setattr("fixtool.judgement.covered._MOST", size)
    assert isinstance(read_coverage(good, "c.json"), Coverage)
    monkeypatch.setattr("fixtool.judgement.covered._MOST", size - 1)
    with pytest.raises(Refused, match=f"at most {size - 1} refs and patches"):
        read_coverage(good, "c.json")


def changed(**change: Any) -> dict[str, Any]:
    """A document whose first ref has other values."""
    good = make.coverage()
    return {"refs": [{**good["refs"][0], **change}, *good["refs"][1:]]}


def patch(**change: Any) -> dict[str, Any]:
    """A document whose first patch has other values."""
    return changed(patches=[{**make.coverage()["refs"][0]["patches"][0], **change}])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"total": -1}, "total"),
        ({"judged": None}, "judged is missing"),
        ({"refs": {}}, "refs"),
        ({"refs": [None]}, r"refs\[0\]"),
        ({"refs": make.coverage()["refs"] * 20_000}, "refs"),
        ({"refs": [*make.coverage()["refs"], *make.coverage_of_releases()["refs"]]},
         "a list of commits or a list of releases"),
        ({"missing": [{"ref": 1}]}, r"missing\[0\].ref"),
        (changed(commit="main"), r"refs\[0\].commit"),
        (changed(line=None), r"refs\[0\].line is missing"),
        (changed(notes=[1]), r"refs\[0\].notes\[0\]"),
        (changed(commits={"first": make.commit(0), "last": make.commit(0), "count": 0}), "count"),
        (changed(commits={"first": {}, "last": {}, "count": 1}), r"commits.first.date"),
        (changed(patches=make.coverage()["refs"][0]["patches"] * 2), "different patches"),
        (patch(verdict="fine"), r"refs\[0\].patches\[0\].verdict is 'fine'"),
        (patch(by=7), r"patches\[0\].by"),
        (patch(in_line="yes"), r"patches\[0\].in_line"),
        (patch(culprit={}), r"patches\[0\].culprit"),
        ({"error": "no"}, "error"),
    ],
)  # fmt: skip
def test_a_malformed_document_is_refused_with_its_file_and_key(
    change: dict[str, Any], key: str
) -> None:
    what = f"this is not what `fixtool coverage --json` prints: .*{key}"
    with pytest.raises(Refused, match=what) as refused:
        read_coverage({**make.coverage(), **change}, "c.json")
    assert refused.value.where == "c.json"
