"""A session of a GPU host without one: its steps are small commands, and its GPUs are names."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.processes import wait_until
from support.repositories import ROOT
from verify.bench import session
from verify.bench.session import Session, Step


def step(name: str, code: str, gpus: int = 1, least: float = 0.0, **env: str) -> Step:
    command: Callable[[float], list[str]] = lambda left: [sys.executable, "-c", code, f"{left:.0f}"]
    return Step(name, gpus, least, command, f"{name}.json", env)


def says(text: str) -> str:
    return f"import os, sys; print({text})"


def notes(out: Path) -> dict[str, dict[str, Any]]:
    return {note["name"]: note for note in json.loads((out / "session.json").read_text())}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_SAY_SECONDS", 0.3)
    monkeypatch.setattr(session, "_GRACE_SECONDS", 0.5)


def test_each_step_gets_its_gpus_and_its_time(tmp_path: Path) -> None:
    gpus = says("os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('MORE'), sys.argv[1]")
    run = Session(["0", "1"], tmp_path, 1000)
    code = run.run([step("both", gpus, 2), step("a", gpus, MORE="x"), step("b", gpus)])
    assert code == 0
    found = notes(tmp_path)
    left = found["both"]["said"].split()
    assert left[:2] == ["0,1", "None"]
    assert 900 < int(left[2]) <= 1000 - session._LAST_SECONDS
    assert sorted(found[name]["said"].split()[0] for name in "ab") == ["0", "1"]
    assert found["a"]["said"].split()[1] == "x"
    assert sorted(run.free) == ["0", "1"]


def test_a_step_for_which_the_host_has_too_few_gpus_costs_only_itself(tmp_path: Path) -> None:
    run = Session(["7"], tmp_path, 1000)
    assert run.run([step("spread", says("1"), 4), step("chain", says("os.environ['CUDA_VISIBLE_DEVICES']"))]) == 4  # fmt: skip
    found = notes(tmp_path)
    assert found["spread"]["said"] == "it takes 4 GPUs, and here are 1"
    assert (found["chain"]["outcome"], found["chain"]["said"]) == ("passed", "7")


def test_the_end_of_the_time_leaves_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step that does not want to end is ended; one that is told to may save; others do not begin."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('at row 3', flush=True); time.sleep(3600)"
    saves = f"""
import signal, sys, time
def save(*_): open({str(tmp_path / "saves.json")!r}, "w").write("rows"); sys.exit(0)
signal.signal(15, save)
print("ready", flush=True)
time.sleep(3600)
"""
    run = Session(["0", "1"], tmp_path, 1000)
    begun = run._begin

    def begin(each: Step, left: float) -> None:
        begun(each, left)
        if each.name == "saves":  # both have said that they are ready: now the time is over
            wait_until(lambda: all(r.last_line() for r in run.running), "both run")
            time.sleep(0.5)
            run.end = 0.0

    run._begin = begin  # type: ignore[method-assign]
    steps = [step("stubborn", stubborn), step("saves", saves), step("late", says("1"), least=1.0)]
    assert run.run(steps) == 1
    found = notes(tmp_path)
    assert (found["stubborn"]["outcome"], found["stubborn"]["said"]) == ("stopped", "at row 3")
    assert (found["saves"]["outcome"], found["saves"]["result"]) == ("stopped", "saves.json")
    assert found["late"]["outcome"] == "cannot-run"
    assert "stubborn begins on GPU 0" in capsys.readouterr().out


def options(folder: Path, *words: str) -> Any:
    (folder / "bundle.tar").touch()
    return session.parse_arguments(
        [str(folder / "bundle.tar"), "--out", str(folder / "out"), *words]
    )


def test_the_steps_and_their_files(tmp_path: Path) -> None:
    (tmp_path / "peer.py").touch()
    found = {each.name: each for each in session.steps(options(tmp_path, "--peer", str(tmp_path / "peer.py")))}  # fmt: skip
    assert list(found) == ["spread", "serves", "chain", "mtp", "workloads"]
    commands = {name: each.command(300.0) for name, each in found.items()}
    assert commands["spread"][3:] == ["--seconds", "300", "--tp", "2", "--pp", "2", "--only", "server answers alike"]  # fmt: skip
    assert "--peer" in commands["chain"]
    assert commands["mtp"][commands["mtp"].index("--order") + 1].startswith("upstream,series")
    assert "8000/1000x8" in commands["workloads"]
    for name, script in (("spread", 0), ("chain", 1), ("mtp", 1)):
        assert Path(commands[name][script]).is_file()
    scripts = {
        "mtp": "serving", "workloads": "serving", "chain": "chain",
    }  # fmt: skip
    for name, module in scripts.items():
        words = commands[name]
        words = words[words.index("--") + 1 :] if "--" in words else words[2:]
        known = subprocess.run(
            [sys.executable, str(ROOT / f"verify/bench/{module}.py"), "--help"],
            capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT}:{ROOT}/tooling"},
        ).stdout  # fmt: skip
        assert [word for word in words if word.startswith("--") and word not in known] == []


def test_the_bundle_is_unpacked_once_for_all_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps side by side share what is unpacked, and no folder in which they write."""
    unpacked: list[Path] = []
    ran: list[Step] = []

    def prepare(_: Path, work: Path) -> dict[str, str]:
        unpacked.append(work)
        return {"UNPACKED": str(work)}

    monkeypatch.setattr(session, "prepare", prepare)
    monkeypatch.setattr(session, "stop_compiling", lambda: None)
    monkeypatch.setattr(session, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(Session, "run", lambda _, todo: ran.extend(todo) or 0)
    work = tmp_path / "work"
    assert session.main(options(tmp_path, "--work", str(work))) == 0
    assert unpacked == [work / "bundle"]
    has = {each.name: each.env.get("UNPACKED") for each in ran}
    place = str(work / "bundle")
    assert has == {"spread": None, "serves": None, "chain": place, "mtp": place, "workloads": place}
    (chain,) = (each for each in ran if each.name == "chain")
    assert chain.env["FIXTOOL_TREE"] == f"{place}/trees/series"
    words = [each.command(300.0) for each in ran if each.name in ("mtp", "workloads")]
    folders = [[each[each.index(flag) + 1] for each in words] for flag in ("--work", "--run")]
    assert folders == [[place, place], [str(work / "mtp"), str(work / "workloads")]]
    assert session.main(options(tmp_path, "--work", str(work), "--only", "spread")) == 0
    assert len(unpacked) == 1, "the checks unpack the bundle themselves"


def test_what_passed_earlier_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = options(tmp_path, "--list", "--only", "chain", "--only", "mtp")
    assert session.main(chosen) == 0
    assert capsys.readouterr().out.split()[0] == "chain"
    earlier = [{"name": "chain", "outcome": "passed"}, {"name": "mtp", "outcome": "stopped"}]
    (tmp_path / "out/session.json").write_text(json.dumps(earlier))
    assert session.main(chosen) == 0
    assert capsys.readouterr().out.split()[:2] == ["mtp", "1"]
    run = Session(["0"], tmp_path / "out", 1000)
    assert run.run([step("mtp", says("2"))]) == 0
    assert notes(tmp_path / "out")["mtp"]["outcome"] == "passed"
    assert notes(tmp_path / "out")["chain"]["outcome"] == "passed"


def test_a_host_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert session.main(options(tmp_path, "--only", "mtp")) == 4
    with pytest.raises(SystemExit):
        options(tmp_path, "--only", "no-such-step")
