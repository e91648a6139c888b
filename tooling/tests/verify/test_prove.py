"""What the probes prove of each patch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtool.isolation import can_isolate
from support.json_documents import document
from support.repositories import NUMBERS, Git, Team
from support.spy import finds, run_with_token, spy
from support.verifying import (
    FIVE,
    PROBE,
    PY,
    TWENTY,
    Run,
    answers,
    processes,
    proofs,
    prove,
    store_path,
    write_probe,
)

pytestmark = pytest.mark.slow(1)  # each runs probes in processes


def test_each_patch_flips_its_own_probe(fixtool: Run, proved: Team) -> None:
    result = prove(fixtool, proved)
    assert result["exit_code"] == 0
    assert result["matrix"]["columns"] == ["five", "twenty"]
    assert answers(result) == {
        "base": [1, 1], "+five": [0, 1], "+twenty": [1, 0], "series": [0, 0],
    }  # fmt: skip
    assert proofs(result) == {"five": "proved", "twenty": "proved"}
    assert result["current"] is True
    assert [step["said"] for step in result["steps"]][:2] == ["saw the bug"] * 2
    assert all(step["memory_bytes"] > 1 << 20 for step in result["steps"])
    # What ran is what git calls by these names.
    git = proved.upstream
    assert result["trees"]["base"] == git("rev-parse", "v1.0:python")
    assert result["trees"]["series"] == Git(store_path())("rev-parse", f"{result['tree']}:python")  # fmt: skip


def test_a_patch_that_needs_another_may_move_its_probe(fixtool: Run, proved: Team) -> None:
    """Its tree holds both, so the probes of both change their answers there."""
    path = proved.root / "patches/main/twenty.patch"
    text = path.read_bytes()
    assert b"\nSigned-off-by:" in text
    path.write_bytes(text.replace(b"\nSigned-off-by:", b"\nDepends-On: five\nSigned-off-by:", 1))
    result = prove(fixtool, proved)
    assert answers(result)["+twenty"] == [0, 0]
    assert proofs(result) == {"five": "proved", "twenty": "proved"}
    assert result["exit_code"] == 0


def test_for_a_person(fixtool: Run, proved: Team) -> None:
    ran = fixtool(
        "verify", "--prove", "--sglang-ref", "v1.0", "--source", proved.upstream.path,
        "--python", PY, "-C", proved.root,
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"^\+five +0 +1$", ran.out, re.MULTILINE)
    assert re.search(r"^five +proved +1 without it, 0 with it alone$", ran.out, re.MULTILINE)
    assert "8 steps: 8 seen" in ran.out
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    ("slug", "text", "proof", "why"),
    [
        ("five", "print('never'); raise SystemExit(0)", "unproved", "0 on the base"),
        ("five", "print('always'); raise SystemExit(1)", "unproved", "still says 1"),
        ("five", "print('na'); raise SystemExit(77)", "unproved", "not apply to its own base"),
        ("five", "print('?'); raise SystemExit(2)", "broke", "on base: ?"),
        ("five", "import os; os.kill(os.getpid(), 9)", "broke", "said nothing"),
        (  # a crash where the bug is: Python itself exits with 1
            "five", PROBE.format(mark="line 5 fixed").replace("1)", "1/0)"),
            "broke", "on base: broke: ZeroDivisionError: division by zero",
        ),
        (
            "twenty",  # says "fixed" of what either patch does
            PROBE.replace("{mark!r} in text", "'fixed' in text").format(),
            "unproved", "moves the probe of twenty",
        ),
    ],
    ids=["always-0", "always-1", "own-77", "broke", "killed", "crashed", "moved-by-another"],
)  # fmt: skip
def test_a_probe_that_proves_nothing_is_an_error(
    fixtool: Run, proved: Team, slug: str, text: str, proof: str, why: str
) -> None:
    write_probe(proved, slug, text)
    result = prove(fixtool, proved)
    assert result["exit_code"] == 1
    # If the probe of twenty changes too soon, five did it, and it is five that is unproved.
    five = result["proofs"][0]
    assert (five["slug"], five["proof"]) == ("five", proof)
    assert why in five["why"]


def test_a_hanging_probe_is_broken_and_leaves_nothing(fixtool: Run, proved: Team) -> None:
    text = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3987)'], start_new_session=True)\n"
        "print('started', flush=True)\n"
    )
    write_probe(proved, "five", text + "sys.exit(1)\n")
    result = prove(fixtool, proved)
    assert "processes were left behind and stopped" in result["steps"][0]["said"]
    assert not [command for command in processes() if "time.sleep(3987)" in command]


def test_where_upstream_has_the_fix_the_proof_runs_backwards(fixtool: Run, proved: Team) -> None:
    proved.upstream.commit("they took it", python__model_py=FIVE)
    result = prove(fixtool, proved, ref="main")
    assert result["exit_code"] == 0
    assert proofs(result) == {"five": "absorbed", "twenty": "proved"}
    assert answers(result)["base"] == [0, 1]
    assert answers(result)["-five"] == [1, None]


def test_a_fix_in_other_words_is_taken_out_by_a_mutant(fixtool: Run, proved: Team) -> None:
    other = NUMBERS.replace("line 5\n", "# line 5 fixed\n# otherwise\n")
    proved.upstream.commit("they mended it", python__model_py=other)
    without = prove(fixtool, proved, ref="main")
    assert proofs(without)["five"] == "not-present"
    folder = proved.root / "verify/mutants"
    folder.mkdir()
    (folder / "undo.toml").write_text(
        '[[mutant]]\nname = "undo-five"\npatch = "five"\nwhat = "as it was"\nkiller = "probe"\n'
        "undo = true\n[[mutant.edit]]\nfiles = ['python/gone.py', 'python/model.py']\n"
        "find = '''^# line 5 fixed\\n# otherwise$'''\nreplace = 'line 5'\n"
    )
    result = prove(fixtool, proved, ref="main")
    assert result["exit_code"] == 0
    assert proofs(result)["five"] == "absorbed"
    assert answers(result)["-five"] == [1, None]


def test_a_patch_is_proved_where_an_undo_fits_although_the_bug_is_there(
    fixtool: Run, proved: Team
) -> None:
    """As of the routing kernel on a release whose own kernel the patch replaces."""
    proved.upstream.commit("shift", python__model_py=f"line 0\n{NUMBERS}")
    folder = proved.root / "verify/mutants"
    folder.mkdir()
    (folder / "undo.toml").write_text(
        '[[mutant]]\nname = "undo-five"\npatch = "five"\nwhat = "less"\nkiller = "probe"\n'
        "undo = true\n[[mutant.edit]]\nfiles = ['python/model.py']\n"
        "find = '^line 6$'\nreplace = 'line VI'\n"
    )
    result = prove(fixtool, proved, ref="main")
    assert (result["exit_code"], proofs(result)["five"]) == (0, "proved")
    assert answers(result)["+five"] == [0, 1]


def test_an_undo_that_its_probe_does_not_notice_is_an_error(fixtool: Run, proved: Team) -> None:
    proved.upstream.commit("they took it", python__model_py=FIVE)
    write_probe(proved, "five", "print('never'); raise SystemExit(0)")
    result = prove(fixtool, proved, ref="main")
    assert result["exit_code"] == 1
    assert proofs(result)["five"] == "unproved"


def test_a_needed_patch_in_conflict_exits_3(fixtool: Run, proved: Team) -> None:
    theirs = NUMBERS.replace("line 20\n", "line twenty\n")
    proved.upstream.commit("theirs", python__model_py=theirs)
    result = prove(fixtool, proved, ref="main")
    assert result["exit_code"] == 3
    assert proofs(result) == {"five": "proved", "twenty": "conflict"}
    assert {tree["tree"] for tree in result["missing"]} >= {"+twenty", "series"}


def test_a_line_that_lacks_a_patch_still_asks_its_probe(fixtool: Run, proved: Team) -> None:
    proved.line("other", base=proved.upstream.commit("later", python__model_py=TWENTY))
    raw = (proved.root / "patches/main/five.patch").read_bytes()
    proved.add("five", raw, line="other")
    result = prove(fixtool, proved, "--line", "other", ref="main")
    assert result["matrix"]["columns"] == ["five", "twenty"]
    assert proofs(result)["five"] == "proved"
    assert proofs(result)["twenty"] == "not-present"


def test_a_patch_without_a_probe_is_named(fixtool: Run, team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=TWENTY)
    (team.root / "verify").mkdir()
    result = prove(fixtool, team)
    assert result["exit_code"] == 1
    assert "fix has no Probe: trailer" in result["error"]["message"]


def test_from_a_url_only_what_runs_is_fetched(fixtool: Run, proved: Team) -> None:
    proved.upstream("config", "uploadpack.allowFilter", "true")
    proved.upstream("config", "uploadpack.allowAnySHA1InWant", "true")
    result = prove(fixtool, proved, source=f"file://{proved.upstream.path}")
    assert set(proofs(result).values()) == {"proved"}
    store = Git(store_path())
    listed = store("rev-list", "--objects", "--missing=print", "--no-walk", result["onto"])
    assert "?" + proved.upstream("rev-parse", "v1.0:README.txt") in listed  # not under python/


@pytest.mark.skipif(not can_isolate(), reason="this kernel has no Landlock domains")
def test_a_probe_finds_no_token_anywhere(proved: Team, tmp_path: Path) -> None:
    """Not in its environment, and not in that of fixtool or of the shell that started it."""
    log = tmp_path / "log"
    for slug, mark in (("five", "line 5 fixed"), ("twenty", "line 20 fixed")):
        write_probe(proved, slug, spy(log) + PROBE.format(mark=mark))
    words = ["verify", "--prove", "--sglang-ref", "v1.0", "--source", proved.upstream.path]
    ran = run_with_token(*words, "--python", PY, "--json", "-C", proved.root)
    assert document(ran)["exit_code"] == 0
    assert set(map(tuple, finds(log))) == {()}
