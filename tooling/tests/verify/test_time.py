"""The runner on a host that is lent for a time: it ends in time, and says how far each step was."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtool.verify.runner import run as runner

SCRIPT = """
import os, sys, time
print("seconds", os.environ["FIXTOOL_SECONDS"], file=sys.stderr, flush=True)
time.sleep(3600)
"""
STEP: dict[str, Any] = {
    "name": "check slow", "kind": "check", "tree": "base", "slug": None, "want": [0], "wave": "",
    "needs": None, "parallel": False, "model": False, "script": "slow.py", "args": [], "timeout": 900,
}  # fmt: skip


def a_run(folder: Path, seconds: float) -> runner.Run:
    (folder / "verify").mkdir()
    (folder / "verify/slow.py").write_text(SCRIPT)
    plan = {"schema": 1, "about": {}, "trees": {"base": {"folder": "base"}}, "steps": [STEP]}
    (folder / "plan.json").write_text(json.dumps(plan))
    options = runner.arguments(["--folder", str(folder), "--seconds", str(seconds)])
    run = runner.Run(options)
    run.site = None
    run.result["environment"] = {"gpus": []}
    return run


def test_a_step_that_is_late_says_how_far_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The runner's clock goes on by a thousand seconds once the script has said where it stands."""
    run = a_run(tmp_path, 500)

    def clock() -> float:
        logs = [path.read_text() for path in run.work.glob("logs/*/stderr")]
        return time.monotonic() + 1000 * any("\n" in log for log in logs)

    late_time = SimpleNamespace(monotonic=clock, sleep=time.sleep)
    monkeypatch.setattr(runner, "time", late_time)
    record = run.step(1, STEP)
    assert (record["outcome"], record["answer"]) == ("broke", None)
    assert re.fullmatch(r"no answer in 1\d\d\d s: seconds 4\d\d", record["said"])
    assert re.search(r"check slow: 1\d\d\d s: seconds 4\d\d\n", capfd.readouterr().err)
    late = run.step(2, STEP)
    assert (late["outcome"], late["seconds"]) == ("broke", 0.0)
    assert late["said"].startswith("not begun: the 500 s of --seconds are over")


def test_a_script_knows_its_time(tmp_path: Path) -> None:
    run = a_run(tmp_path, 500)
    (tmp_path / "verify/slow.py").write_text(SCRIPT.replace("time.sleep(3600)", "sys.exit(0)"))
    word, seconds = run.step(1, STEP)["said"].split()
    assert word == "seconds"
    assert int(seconds) <= 500 - runner._LAST_SECONDS
    run.end = float("inf")
    assert run.step(2, STEP)["said"] == "seconds 900"
