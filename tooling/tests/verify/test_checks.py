"""Checks and mutants, their options, and what goes wrong with them."""

from __future__ import annotations

import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from support.processes import GENEROUS, wait_until
from support.repositories import Team
from support.verifying import (
    CHECK,
    PROBE,
    PY,
    Run,
    by_name,
    on_host,
    processes,
    run_checks,
    write_probe,
)

pytestmark = pytest.mark.slow(1)  # each runs whole checks in processes


def test_checks_run_and_a_skip_is_named(fixtool: Run, checked: Team) -> None:
    result = run_checks(fixtool, checked)
    assert result["exit_code"] == 0
    steps = by_name(result)
    assert steps["check text"]["details"] == {"lines": 40, "own": True}
    assert steps["probe five on series"]["outcome"] == "passed"
    if not result["environment"]["gpus"]:
        assert steps["check card"]["outcome"] == "skipped"
        assert steps["check card"]["said"] == "no CUDA GPU on this host"
        assert result["counts"]["skipped"] == 1
        assert run_checks(fixtool, checked, "--require-gpu")["exit_code"] == 4
    only = run_checks(fixtool, checked, "--only", "check text")
    assert list(by_name(only)) == ["check text"]


def test_mutants_are_killed_after_a_control(fixtool: Run, checked: Team) -> None:
    result = run_checks(fixtool, checked, "--mutants")
    steps = by_name(result)
    assert result["exit_code"] == 0
    assert steps["mutant dropped"]["outcome"] == "passed"
    assert steps["mutant dropped"]["said"] == "args ['--fail-fast']"
    assert steps["mutant dropped-too"]["answer"] == 1
    assert steps["control text twenty"]["outcome"] == "passed"
    assert result["missing"][0]["tree"] == "misfit"
    assert "matches 0 times, not once" in result["missing"][0]["why"]

    (checked.root / "verify/marks.py").write_text('MARK = "line"\n')
    blind = run_checks(fixtool, checked, "--mutants")
    assert blind["exit_code"] == 1
    assert by_name(blind)["mutant dropped"]["outcome"] == "failed"

    write_probe(checked, "twenty", PROBE.format(mark="line 20 fixed").replace("else 1", "else 77"))
    lenient = run_checks(fixtool, checked, "--mutants")
    assert lenient["exit_code"] == 1
    assert by_name(lenient)["mutant dropped-too"]["outcome"] == "failed"

    (checked.root / "verify/marks.py").write_text('MARK = "?"\n')
    harsh = run_checks(fixtool, checked, "--mutants")
    assert harsh["exit_code"] == 1
    assert by_name(harsh)["control text twenty"]["outcome"] == "failed"


def test_junit_and_markdown(fixtool: Run, checked: Team, tmp_path: Path) -> None:
    write_probe(checked, "five", "print('a | b <x> @someone \\x1b[31m'); raise SystemExit(1)")
    result = run_checks(
        fixtool, checked, "--prove", "--checks",
        "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md",
    )  # fmt: skip
    assert result["exit_code"] == 1
    suite = ET.parse(tmp_path / "j.xml").getroot()
    assert int(suite.get("tests", "0")) == len(result["steps"]) + len(result["proofs"])
    failures = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failures == ["probe five on series", "five"]
    text = (tmp_path / "m.md").read_text()
    assert r"a \| b \<x\>" in text
    assert "@someone" not in text
    assert "| `base` | 1 | 1 |" in text


# -- several GPUs --------------------------------------------------------------------------

CARDS = """\
from types import SimpleNamespace as Some
version = Some(cuda="13.0")
cuda = Some(
    device_count=lambda: {count},
    get_device_properties=lambda n: Some(name="NVIDIA H100", total_memory=1, major=9, minor=0),
)
"""


def with_cards(fixtool: Run, team: Team, count: int, *args: str | Path) -> dict[str, Any]:
    """On a host with ``count`` GPUs, as far as nvidia-smi and torch say, which is in the tree."""
    smi = team.root.parent / "bin/nvidia-smi"
    smi.parent.mkdir(exist_ok=True)
    smi.write_text("#!/bin/sh\n")
    smi.chmod(0o755)
    team.upstream.commit("cards", python__torch_py=CARDS.format(count=count))
    path = f"{smi.parent}{os.pathsep}{os.environ['PATH']}"
    return run_checks(fixtool, team, *args, ref="main", PATH=path)


def test_a_check_for_several_gpus_runs_only_when_asked_for(fixtool: Run, checked: Team) -> None:
    result = with_cards(fixtool, checked, 2)
    assert "check many" not in by_name(result)
    assert "spread" not in result["environment"]
    result = with_cards(fixtool, checked, 2, "--tp", "2", "--save")
    steps = by_name(result)
    assert steps["check many"]["outcome"] == "passed"
    assert steps["check many"]["said"] == "args ['--tp', '2', '--pp', '1']"
    assert steps["check card"]["said"] == "args []"
    assert result["environment"]["spread"] == {"tp": 2, "pp": 1}
    assert result["saved"].endswith("-h100-main-tp2.json")
    only = with_cards(fixtool, checked, 4, "--tp", "2", "--pp", "2", "--only", "many")
    assert [step["said"] for step in only["steps"]] == ["args ['--tp', '2', '--pp', '2']"]


def test_more_ranks_than_gpus_start_nothing(fixtool: Run, checked: Team, bundled: Path) -> None:
    result = with_cards(fixtool, checked, 1, "--tp", "4")
    assert result["exit_code"] == 4
    message = result["error"]["message"].partition("could not run the plan: ")[2]
    assert message == (
        "--tp 4 needs 4 GPUs, one a rank, and this host has 1 (NVIDIA H100): ask for fewer ranks, or "
        "run it on a host that has them"
    )
    assert not list(Path(result["error"]["where"]).rglob("stdout"))
    assert with_cards(fixtool, checked, 3, "--tp", "2", "--pp", "2")["exit_code"] == 4
    ran = on_host(bundled, "--pp", "2")
    if not Path("/dev/nvidiactl").exists():
        assert ran.returncode == 4
        assert ran.stderr.startswith(
            "error: --pp 2 needs 2 GPUs, one a rank, and this host has none"
        )


# -- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--model", "/no/such"], 2, "there is no folder /no/such"),
        (["--model", "."], 2, "holds no config.json"),
        (["--python", "no-such-python"], 2, "no interpreter 'no-such-python'"),
        (["--only", "no such step"], 2, "no step is named no such step"),
        (["--import", "no-such-file"], 2, "cannot read no-such-file"),
        (["--import", "x", "--prove"], 2, "it takes no ref"),
        (["--bundle", "/no/such/out.tar"], 4, "cannot write /no/such/out.tar"),
        (["--bundle", "x", "--junit", "y"], 2, "--bundle only packs"),
        (["--junit", "/no/such/j.xml"], 4, "cannot write /no/such/j.xml"),
        (["--port", "70000"], 2, "70000"),
        (["--bundle", "x", "--tp", "2"], 2, "--bundle only packs"),
        (["--tp", "0"], 2, "--tp takes a number from 1 on"),
        (["--only", "many"], 2, "check many wants --tp N or --pp M"),
        (["--prove", "--pp", "2"], 2, "no step here does that"),
    ],
)  # fmt: skip
def test_one_message(
    fixtool: Run, checked: Team, args: list[str], status: int, message: str
) -> None:
    words = ["verify", "-C", checked.root]
    if "--import" not in args:
        words += ["--sglang-ref", "v1.0", "--source", checked.upstream.path]
    if not {"--python", "--import", "--bundle"} & set(args):
        words += ["--python", PY]
    ran = fixtool(*words, *args)
    assert ran.status == status, ran.err
    assert message in ran.err
    assert ran.err.startswith("error: ")


MUTANT = "[[mutant]]\nname='m'\npatch='five'\nwhat='x'\nkiller='{}'\n{}"
EDIT = "[[mutant.edit]]\nfiles=[]\nfind='{}'\nreplace=''\n"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("checks.toml", "[[check]]\nname = 1\nscript = 'text.py'\n", "name is not a str"),
        ("checks.toml", "[[check]]\nname = 'a'\n", "has no 'script'"),
        ("checks.toml", "[[check]]\nname = 'a'\nscript = '../x.py'\n", "leads out of verify/"),
        ("checks.toml", "[[check]]\nname = 'a'\nscript = 'gone.py'\n", "there is no verify/gone.py"),
        ("checks.toml", CHECK + CHECK, "two checks are named 'card'"),
        ("checks.toml", "check = 3", "wanted [[check]] tables"),
        ("checks.toml", "[[check]\n", "not valid TOML"),
        ("mutants/m.toml", MUTANT.format("probe", ""), "edits nothing"),
        ("mutants/m.toml", MUTANT.format("who", EDIT.format("x")), "a killer that is no check"),
        ("mutants/m.toml", MUTANT.format("probe", EDIT.format("(")), "missing )"),
    ],
)  # fmt: skip
def test_a_suite_that_is_not_well_formed(
    fixtool: Run, checked: Team, file: str, text: str, words: str
) -> None:
    (checked.root / "verify" / file).write_text(text)
    result = run_checks(fixtool, checked)
    assert result["exit_code"] == 1
    assert words in result["error"]["message"]
    assert "verify" in result["error"]["where"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process(
    proved: Team, tmp_path: Path, how: signal.Signals
) -> None:
    text = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # one that does not want to go
        f"mark = 'import time; time.sleep(3986)  # of {tmp_path}'\n"
        "subprocess.Popen([sys.executable, '-c', mark], start_new_session=True)\n"
        f"open({str(tmp_path / 'up')!r} + str(os.getpid()), 'w').close()\n"
        "time.sleep(3986)\n"
    )
    for slug in ("five", "twenty"):
        write_probe(proved, slug, text)
    process = subprocess.Popen(
        [PY, "-m", "fixtool", "verify", "--prove", "--sglang-ref", "v1.0", "--python", PY,
         "--source", str(proved.upstream.path), "-C", str(proved.root), "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def up() -> bool:
        assert process.poll() is None, process.communicate()
        return len(list(tmp_path.glob("up[0-9]*"))) == 2

    wait_until(up, "both probes run")
    assert still_running(tmp_path)
    process.send_signal(how)
    _, err = process.communicate(timeout=GENEROUS)
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert err.startswith("error: interrupted")
    wait_until(lambda: not still_running(tmp_path), "no process is left")


def still_running(folder: Path) -> list[str]:
    """The processes that name this test's own folder.

    Another worker runs its own probes beside this one: looking for every probe of the machine
    made this test wait for theirs, and fail.
    """
    return [command for command in processes() if str(folder) in command]
