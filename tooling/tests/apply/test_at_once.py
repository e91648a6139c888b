"""Many runs at once on one store: all of them are right.

FIXTOOL_AT_ONCE says how many (5 by default; ci/conformance/faults starts 20).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.command import command_line
from support.processes import GENEROUS
from support.repositories import NUMBERS, Git, Team

RUNS = int(os.environ.get("FIXTOOL_AT_ONCE", "5"))


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    near = NUMBERS.replace("line 22\n", "line 22 new\n")
    team.upstream.commit("go on", python__model_py=near)
    team.upstream("config", "uploadpack.allowFilter", "true")
    team.upstream("config", "uploadpack.allowAnySHA1InWant", "true")
    return team


@pytest.mark.slow(4)
@pytest.mark.parametrize("source", ["{path}", "file://{path}"])
@pytest.mark.parametrize("place", ["places of their own", "one place"])
def test_many_at_once(series: Team, tmp_path: Path, source: str, place: str) -> None:
    processes = []
    for number in range(RUNS):
        words = ["apply", "--sglang-ref", "main", "--no-build", "--json", "-C", series.root,
                 "--source", source.format(path=series.upstream.path)]  # fmt: skip
        if place == "places of their own":
            words += ["--worktree", tmp_path / "trees" / str(number)]
        processes.append(subprocess.Popen(
            command_line(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "FIXTOOL_TIMEOUT": str(GENEROUS)},
        ))  # fmt: skip
    documents = []
    for process in processes:
        out, err = process.communicate(timeout=GENEROUS)
        assert process.returncode == 0, out + err
        documents.append(json.loads(out))
    assert {document["tree"] for document in documents} == {documents[0]["tree"]}
    folders = {document["worktree"] for document in documents}
    assert len(folders) == (RUNS if place == "places of their own" else 1)
    for folder in folders:
        tree = Git(Path(folder))
        assert tree("status", "--porcelain") == ""
        assert tree("rev-parse", "HEAD") == documents[0]["commit"]
