"""Proof, with scripts that look at text instead of importing SGLang: the planning, the running and
the judging are real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtool.git.trees import list_tree
from fixtool.verify.proof import Proof
from fixtool.verify.proof import prove as prove_result
from fixtool.verify.result import read_result
from fixtool.verify.runner.git_ids import blob_id, tree_id
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

Run = Callable[..., Ran]
PY = sys.executable
TWENTY = NUMBERS.replace("line 20\n", "line 20 fixed\n")
FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")

PROBE = """\
import os, pathlib, sys
text = (pathlib.Path(os.environ["FIXTOOL_TREE"]) / "python/model.py").read_text()
fixed = {mark!r} in text
print("saw", "the fix" if fixed else "the bug")
sys.exit(0 if fixed else 1)
"""


def probe(team: Team, slug: str, text: str) -> None:
    path = team.root / "verify/probes" / f"{slug}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def patch(team: Team, slug: str, text: str) -> None:
    """A patch with a Probe: trailer."""
    git = team.upstream
    here = git("symbolic-ref", "--short", "HEAD")
    git("checkout", "--quiet", "--detach", "v1.0")
    trailers = f"Origin: vendor\nForwarded: no\nProbe: probes/{slug}.py\nDrop-When: never"
    git.commit(
        f"{slug}\n\nWhy.\n\n{trailers}\nSigned-off-by: A Person <p@example.org>",
        python__model_py=text,
    )
    from support.repositories import format_patch

    team.add(slug, format_patch(git))
    git("checkout", "--quiet", here)


@pytest.fixture
def proved(team: Team) -> Team:
    """Two patches, each with a probe that sees its own mark."""
    for slug, text, mark in (("five", FIVE, "line 5 fixed"), ("twenty", TWENTY, "line 20 fixed")):
        patch(team, slug, text)
        probe(team, slug, PROBE.format(mark=mark))
    return team


def prove(fixtool: Run, team: Team, *args: str | Path, ref: str = "v1.0") -> dict[str, Any]:
    words = ["verify", "--prove", "--sglang-ref", ref, "--source", team.upstream.path]
    return document(fixtool(*words, "--python", PY, "--json", "-C", team.root, *args))


def answers(found: dict[str, Any]) -> dict[str, list[int | None]]:
    return {row["tree"]: row["answers"] for row in found["matrix"]["rows"]}


def proofs(found: dict[str, Any]) -> dict[str, str]:
    return {one["slug"]: one["proof"] for one in found["proofs"]}


# -- the matrix ----------------------------------------------------------------------------


def test_each_patch_flips_its_own_probe(fixtool: Run, proved: Team) -> None:
    found = prove(fixtool, proved)
    assert found["exit_code"] == 0
    assert found["matrix"]["columns"] == ["five", "twenty"]
    assert answers(found) == {
        "base": [1, 1], "+five": [0, 1], "+twenty": [1, 0], "series": [0, 0],
    }  # fmt: skip
    assert proofs(found) == {"five": "proved", "twenty": "proved"}
    assert found["current"] is True
    assert [one["said"] for one in found["steps"]][:2] == ["saw the bug"] * 2
    assert all(one["memory_bytes"] > 1 << 20 for one in found["steps"])
    # What ran is what git calls by these names.
    git = proved.upstream
    assert found["trees"]["base"] == git("rev-parse", "v1.0:python")
    assert found["trees"]["series"] == Git(found_store(found))("rev-parse", f"{found['tree']}:python")  # fmt: skip


def found_store(found: dict[str, Any]) -> Path:
    (store,) = (Path(os.environ["FIXTOOL_STATE_DIR"]) / "repos").glob("*.git")
    return store


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
    probe(proved, slug, text)
    found = prove(fixtool, proved)
    assert found["exit_code"] == 1
    # What the probe of twenty sees too soon is the doing of five, and told there.
    assert {one["slug"]: one for one in found["proofs"]}["five"]["proof"] == proof
    assert why in {one["slug"]: one for one in found["proofs"]}["five"]["why"]


def test_a_hanging_probe_is_broken_and_leaves_nothing(fixtool: Run, proved: Team) -> None:
    text = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(987)'], start_new_session=True)\n"
        "print('started', flush=True)\n"
    )
    probe(proved, "five", text + "sys.exit(1)\n")
    found = prove(fixtool, proved)
    assert "processes were left behind and stopped" in found["steps"][0]["said"]
    assert not [one for one in processes() if "time.sleep(987)" in one]


def processes() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


# -- elsewhere than at home ----------------------------------------------------------------


def test_where_upstream_has_the_fix_the_proof_runs_backwards(fixtool: Run, proved: Team) -> None:
    proved.upstream.commit("they took it", python__model_py=FIVE)
    found = prove(fixtool, proved, ref="main")
    assert found["exit_code"] == 0
    assert proofs(found) == {"five": "absorbed", "twenty": "proved"}
    assert answers(found)["base"] == [0, 1]
    assert answers(found)["-five"] == [1, None]


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
    found = prove(fixtool, proved, ref="main")
    assert found["exit_code"] == 0
    assert proofs(found)["five"] == "absorbed"
    assert answers(found)["-five"] == [1, None]


def test_an_undo_that_its_probe_does_not_notice_is_an_error(fixtool: Run, proved: Team) -> None:
    proved.upstream.commit("they took it", python__model_py=FIVE)
    probe(proved, "five", "print('never'); raise SystemExit(0)")
    found = prove(fixtool, proved, ref="main")
    assert found["exit_code"] == 1
    assert proofs(found)["five"] == "unproved"


def test_a_needed_patch_in_conflict_exits_3(fixtool: Run, proved: Team) -> None:
    theirs = NUMBERS.replace("line 20\n", "line twenty\n")
    proved.upstream.commit("theirs", python__model_py=theirs)
    found = prove(fixtool, proved, ref="main")
    assert found["exit_code"] == 3
    assert proofs(found) == {"five": "proved", "twenty": "conflict"}
    assert {one["tree"] for one in found["missing"]} >= {"+twenty", "series"}


def test_a_line_that_lacks_a_patch_still_asks_its_probe(fixtool: Run, proved: Team) -> None:
    proved.line("other", base=proved.upstream.commit("later", python__model_py=TWENTY))
    raw = (proved.root / "patches/main/five.patch").read_bytes()
    proved.add("five", raw, line="other")
    found = prove(fixtool, proved, "--line", "other", ref="main")
    assert found["matrix"]["columns"] == ["five", "twenty"]
    assert proofs(found)["five"] == "proved"
    assert proofs(found)["twenty"] == "not-present"


# -- checks and mutants --------------------------------------------------------------------

CHECK = """\
[[check]]
name = "text"
script = "text.py"
[[check]]
name = "card"
script = "text.py"
needs = "gpu"
[[check]]
name = "many"
script = "text.py"
needs = "gpu"
parallel = true
"""
LOOK = """\
import pathlib, sys
import fixtool.verify.sglang_on_cpu, fixtool.verify.test_file
from fixtool.verify.answer import FAILED, PASSED, Answer, answer, tree
from fixtool.verify.runner.git_ids import blob_id
from verify.marks import MARK
text = pathlib.Path(tree(), "python/model.py").read_text()
kit = pathlib.Path(fixtool.__file__).parents[1] / "plan.json"
details = {"lines": len(text.splitlines()), "own": kit.is_file()}
answer(lambda: Answer(PASSED if MARK in text else FAILED, f"args {sys.argv[1:]}", details))
"""


@pytest.fixture
def checked(proved: Team) -> Team:
    folder = proved.root / "verify"
    (folder / "checks.toml").write_text(CHECK)
    (folder / "text.py").write_text(LOOK)
    (folder / "marks.py").write_text('MARK = "line 20 fixed"\n')
    (folder / "mutants").mkdir()
    (folder / "mutants/some.toml").write_text(
        "".join(
            f'[[mutant]]\nname = "{name}"\npatch = "twenty"\nwhat = "x"\nkiller = "{killer}"\n'
            f"[[mutant.edit]]\nfiles = ['python/model.py']\nfind = '{find}'\nreplace = '{to}'\n"
            for name, killer, find, to in (
                ("dropped", "text", "line 20 fixed", "line 20"),
                ("dropped-too", "probe", "line (20) fixed", r"line \1"),
                ("by-path", "probes/twenty.py", "line 20 fixed", "line"),
                ("misfit", "probe", "no such line", ""),
            )
        )
    )
    return proved


def run_checks(fixtool: Run, team: Team, *args: str | Path) -> dict[str, Any]:
    words = ["verify", "--sglang-ref", "v1.0", "--source", team.upstream.path, "--python", PY]
    return document(fixtool(*words, "--json", "-C", team.root, *args))


def test_checks_run_and_a_skip_is_named(fixtool: Run, checked: Team) -> None:
    found = run_checks(fixtool, checked)
    assert found["exit_code"] == 0
    steps = {one["name"]: one for one in found["steps"]}
    assert steps["check text"]["details"] == {"lines": 40, "own": True}
    assert steps["probe five on series"]["outcome"] == "passed"
    if not found["environment"]["gpus"]:
        assert steps["check card"]["outcome"] == "skipped"
        assert steps["check card"]["said"] == "no CUDA GPU on this host"
        assert found["counts"]["skipped"] == 1
        assert run_checks(fixtool, checked, "--require-gpu")["exit_code"] == 4
    only = run_checks(fixtool, checked, "--only", "check text")
    assert [one["name"] for one in only["steps"]] == ["check text"]


def test_mutants_are_killed_after_a_control(fixtool: Run, checked: Team) -> None:
    found = run_checks(fixtool, checked, "--mutants")
    steps = {one["name"]: one for one in found["steps"]}
    assert found["exit_code"] == 0
    assert steps["mutant dropped"]["outcome"] == "passed"
    assert steps["mutant dropped"]["said"] == "args ['--fail-fast']"
    assert steps["mutant dropped-too"]["answer"] == 1
    assert steps["control text twenty"]["outcome"] == "passed"
    assert found["missing"][0]["tree"] == "misfit"
    assert "matches 0 times, not once" in found["missing"][0]["why"]

    (checked.root / "verify/marks.py").write_text('MARK = "line"\n')  # a check that sees nothing
    blind = run_checks(fixtool, checked, "--mutants")
    assert blind["exit_code"] == 1
    assert {one["name"]: one["outcome"] for one in blind["steps"]}["mutant dropped"] == "failed"

    probe(checked, "twenty", PROBE.format(mark="line 20 fixed").replace("else 1", "else 77"))
    lenient = run_checks(fixtool, checked, "--mutants")  # one to which the mutant "does not apply"
    assert lenient["exit_code"] == 1
    assert {one["name"]: one["outcome"] for one in lenient["steps"]}["mutant dropped-too"] == "failed"  # fmt: skip

    (checked.root / "verify/marks.py").write_text('MARK = "?"\n')  # one that refuses everything
    harsh = run_checks(fixtool, checked, "--mutants")
    assert harsh["exit_code"] == 1
    assert {one["name"]: one["outcome"] for one in harsh["steps"]}["control text twenty"] == "failed"  # fmt: skip


def test_junit_and_markdown(fixtool: Run, checked: Team, tmp_path: Path) -> None:
    probe(checked, "five", "print('a | b <x> @someone \\x1b[31m'); raise SystemExit(1)")
    found = run_checks(
        fixtool, checked, "--prove", "--checks",
        "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md",
    )  # fmt: skip
    assert found["exit_code"] == 1
    suite = ET.parse(tmp_path / "j.xml").getroot()
    assert int(suite.get("tests", "0")) == len(found["steps"]) + len(found["proofs"])
    failures = [one.get("name") for one in suite if one.find("failure") is not None]
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
    words = ["verify", "--sglang-ref", "main", "--source", team.upstream.path, "--python", PY]
    path = f"{smi.parent}{os.pathsep}{os.environ['PATH']}"
    return document(fixtool(*words, "--json", "-C", team.root, *args, PATH=path))


def test_a_check_for_several_gpus_runs_only_when_asked_for(fixtool: Run, checked: Team) -> None:
    found = with_cards(fixtool, checked, 2)
    assert "check many" not in {one["name"] for one in found["steps"]}
    assert "spread" not in found["environment"]
    found = with_cards(fixtool, checked, 2, "--tp", "2", "--save")
    steps = {one["name"]: one for one in found["steps"]}
    assert steps["check many"]["outcome"] == "passed"
    assert steps["check many"]["said"] == "args ['--tp', '2', '--pp', '1']"
    assert steps["check card"]["said"] == "args []"
    assert found["environment"]["spread"] == {"tp": 2, "pp": 1}
    assert found["saved"].endswith("-h100-main-tp2.json")
    only = with_cards(fixtool, checked, 4, "--tp", "2", "--pp", "2", "--only", "many")
    assert [one["said"] for one in only["steps"]] == ["args ['--tp', '2', '--pp', '2']"]


def test_more_ranks_than_gpus_start_nothing(fixtool: Run, checked: Team, bundled: Path) -> None:
    found = with_cards(fixtool, checked, 1, "--tp", "4")
    assert found["exit_code"] == 4
    said = found["error"]["message"].partition("could not run the plan: ")[2]
    assert said == (
        "--tp 4 needs 4 GPUs, one a rank, and this host has 1 (NVIDIA H100): ask for fewer ranks, or "
        "run it on a host that has them"
    )
    assert not list(Path(found["error"]["where"]).rglob("stdout"))
    assert with_cards(fixtool, checked, 3, "--tp", "2", "--pp", "2")["exit_code"] == 4
    ran = on_host(bundled, "--pp", "2")
    if not Path("/dev/nvidiactl").exists():
        assert ran.returncode == 4
        assert ran.stderr.startswith(
            "error: --pp 2 needs 2 GPUs, one a rank, and this host has none"
        )


# -- another host --------------------------------------------------------------------------


@pytest.fixture
def bundled(fixtool: Run, checked: Team, tmp_path: Path) -> Path:
    """A bundle, unpacked where there is no fixtool."""
    ran = fixtool(
        "verify", "--prove", "--checks", "--sglang-ref", "v1.0", "--source", checked.upstream.path,
        "--bundle", tmp_path / "out.tar", "--json", "-C", checked.root,
    )  # fmt: skip
    found = document(ran)
    assert found["bundle"]["size"] == (tmp_path / "out.tar").stat().st_size
    assert found["bundle"]["run"] == "tar xf out.tar && python3 fixtool-verify/run.py"
    host = tmp_path / "host"
    host.mkdir()
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(host, filter="data")
    return host / "fixtool-verify"


def on_host(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {key: os.environ[key] for key in ("PATH", "HOME")}
    return subprocess.run(
        [PY, "-S", str(folder / "run.py"), *args],
        env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_bundle_gives_the_same_matrix_without_fixtool(
    fixtool: Run, checked: Team, bundled: Path
) -> None:
    here = prove(fixtool, checked, "--checks")
    ran = on_host(bundled)
    assert ran.returncode == 0, ran.stderr
    assert f"{len(here['steps'])}/{len(here['steps'])} " in ran.stdout
    back = document(
        fixtool("verify", "--import", bundled / "result.json", "--json", "-C", checked.root)
    )
    assert answers(back)["series"] == [0, 0]  # asked once, for the matrix and as a check
    for key in ("matrix", "proofs", "missing", "trees", "commit", "tree", "patches", "counts"):
        assert back[key] == here[key], key
    assert back["current"] is True
    assert (bundled / "work/logs").is_dir()
    assert not (bundled / "work/trees").exists()

    saved = document(
        fixtool("verify", "--import", bundled / "result.json", "--save", "--json", "-C", checked.root)
    )["saved"]  # fmt: skip
    assert Path(saved).parent == checked.root / "verify/results"
    assert "folder" not in json.loads(Path(saved).read_text())
    result = bundled / "result.json"
    again = ["verify", "--import", result, "--save", "--json", "-C", checked.root]
    assert document(fixtool(*again))["saved"] == saved  # the same is kept once
    result.write_text(
        re.sub(r'"prepare_seconds": [\d.]+', '"prepare_seconds": 7.0', result.read_text())
    )
    other = Path(document(fixtool(*again))["saved"])
    assert other.name == f"{Path(saved).stem}-2.json"

    with (checked.root / "patches/main/five.patch").open("a") as file:
        file.write("\n")
    later = document(
        fixtool("verify", "--import", bundled / "result.json", "--json", "-C", checked.root)
    )
    assert later["current"] is False


def test_a_damaged_bundle_is_refused(bundled: Path) -> None:
    blob = next((bundled / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes() + b"# tampered\n")
    ran = on_host(bundled)
    assert ran.returncode == 4
    assert "came out as" in ran.stderr
    (bundled / "base.tar.xz").unlink()
    ran = on_host(bundled)
    assert (ran.returncode, "holds no base.tar" in ran.stderr) == (4, True)


def test_a_bundle_can_run_a_part_and_again(bundled: Path) -> None:
    for _ in range(2):
        ran = on_host(bundled, "--only", "check text", "--jobs", "1")
        assert ran.returncode == 0, ran.stderr
    assert on_host(bundled, "--only", "nothing").returncode == 2
    assert on_host(bundled, "--tp", "0").returncode == 2


ABOUT = {
    "line": "main", "ref": "v1.0", "source": "git", "base": "0" * 40, "onto": "0" * 40,
    "patches": [], "missing": [], "kinds": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not json", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "its schema is not 1"),
        ('{"schema": 2}', "its schema is not 1"),
        ('{"schema": 1}', "KeyError"),
        (
            '{"schema": 1, "plan": {"line": 1}, "environment": {}, "trees": {}, "steps": []}',
            "TypeError",
        ),
        (
            json.dumps(
                {
                    "schema": 1,
                    "plan": ABOUT,
                    "environment": {},
                    "trees": {},
                    "steps": [{"outcome": "passed"}],
                }
            ),
            "KeyError",
        ),
        *(
            (json.dumps({"schema": 1, "environment": {}, "trees": {}, "steps": [], **bad}), why)
            for bad, why in (
                ({"plan": {**ABOUT, "onto": "main"}}, "TypeError: onto"),
                ({"plan": {**ABOUT, "patches": [1]}}, "a list of tables"),
                ({"plan": {**ABOUT, "patches": [{"slug": 1}]}}, "TypeError"),
                ({"plan": {**ABOUT, "missing": [{"name": "a"}]}}, "KeyError"),
                ({"plan": {**ABOUT, "missing": None}}, "TypeError"),
                ({"plan": ABOUT, "environment": {"gpus": ["x"]}}, "a list of tables"),
                ({"plan": ABOUT, "environment": {"packages": []}}, "TypeError: packages"),
            )
        ),
    ],
)
def test_a_result_that_is_none(
    fixtool: Run, proved: Team, tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "result.json").write_text(text)
    found = document(
        fixtool("verify", "--import", tmp_path / "result.json", "--json", "-C", proved.root)
    )
    assert found["exit_code"] == 1
    assert why in found["error"]["message"]


def test_a_result_cannot_write_to_the_terminal(fixtool: Run, checked: Team, bundled: Path) -> None:
    assert on_host(bundled).returncode == 0
    text = (bundled / "result.json").read_text()
    (bundled / "result.json").write_text(text.replace("+five", "+fi\\u001b[2Jve"))
    ran = fixtool("verify", "--import", bundled / "result.json", "-v", "-C", checked.root)
    assert "\x1b" not in ran.out + ran.err
    assert "+fi\\x1b[2Jve" in ran.out


def test_from_a_url_only_what_runs_is_fetched(fixtool: Run, proved: Team) -> None:
    proved.upstream("config", "uploadpack.allowFilter", "true")
    proved.upstream("config", "uploadpack.allowAnySHA1InWant", "true")
    url = f"file://{proved.upstream.path}"
    words = ["verify", "--prove", "--sglang-ref", "v1.0", "--source", url, "--python", PY]
    found = document(fixtool(*words, "--json", "-C", proved.root))
    assert set(proofs(found).values()) == {"proved"}
    store = Git(found_store(found))
    listed = store("rev-list", "--objects", "--missing=print", "--no-walk", found["onto"])
    assert "?" + proved.upstream("rev-parse", "v1.0:README.txt") in listed  # not under python/


def test_a_run_that_was_stopped_is_no_success(fixtool: Run, checked: Team, bundled: Path) -> None:
    assert on_host(bundled, "--only", "check text").returncode == 0
    raw = json.loads((bundled / "result.json").read_text())
    del raw["ended"]
    raw["finished"] = False
    (bundled / "result.json").write_text(json.dumps(raw))
    ran = fixtool("verify", "--import", bundled / "result.json", "-C", checked.root)
    assert ran.status == 4
    assert "unfinished" in ran.out


# -- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--model", "/no/such"], 2, "there is no folder /no/such"),
        (["--model", "."], 2, "holds no config.json"),
        (["--python", "no-such-python"], 2, "no interpreter 'no-such-python'"),
        (["--only", "no such step"], 2, "no step is named no such step"),
        (["--import", "no-such-file"], 2, "cannot read no-such-file"),
        (["--import", "x", "--prove"], 2, "it takes no ref"),
        (["--bundle", "/no/such/out.tar"], 4, "there is no folder /no/such"),
        (["--bundle", "x", "--junit", "y"], 2, "--bundle only packs"),
        (["--junit", "/no/such/j.xml"], 4, "cannot write /no/such/j.xml"),
        (["--port", "70000"], 2, "70000"),
        (["--bundle", "x", "--tp", "2"], 2, "--bundle only packs"),
        (["--tp", "0"], 2, "not in the range"),
        (["--only", "many"], 2, "check many wants --tp N or --pp M"),
        (["--prove", "--pp", "2"], 2, "no step here does that"),
    ],
)  # fmt: skip
def test_one_message(fixtool: Run, checked: Team, args: list[str], status: int, words: str) -> None:
    given = ["verify", "-C", checked.root]
    if "--import" not in args:
        given += ["--sglang-ref", "v1.0", "--source", checked.upstream.path]
    ran = fixtool(*given, *([] if "--python" in args or "--import" in args or "--bundle" in args else ["--python", PY]), *args)  # fmt: skip
    assert ran.status == status, ran.err
    assert words in ran.err
    assert ran.err.startswith("error: ")


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
        ("mutants/m.toml", "[[mutant]]\nname='m'\npatch='five'\nwhat='x'\nkiller='probe'\n", "edits nothing"),
        (
            "mutants/m.toml",
            "[[mutant]]\nname='m'\npatch='five'\nwhat='x'\nkiller='who'\n[[mutant.edit]]\n"
            "files=[]\nfind='x'\nreplace=''\n",
            "a killer that is no check",
        ),
        (
            "mutants/m.toml",
            "[[mutant]]\nname='m'\npatch='five'\nwhat='x'\nkiller='probe'\n[[mutant.edit]]\n"
            "files=[]\nfind='('\nreplace=''\n",
            "missing )",
        ),
    ],
)  # fmt: skip
def test_a_suite_that_is_not_well_formed(
    fixtool: Run, checked: Team, file: str, text: str, words: str
) -> None:
    (checked.root / "verify" / file).write_text(text)
    found = run_checks(fixtool, checked)
    assert found["exit_code"] == 1
    assert words in found["error"]["message"]
    assert "verify" in found["error"]["where"]


def test_a_patch_without_a_probe_is_named(fixtool: Run, team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=TWENTY)
    (team.root / "verify").mkdir()
    found = prove(fixtool, team)
    assert found["exit_code"] == 1
    assert "fix has no Probe: trailer" in found["error"]["message"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process(
    proved: Team, tmp_path: Path, how: signal.Signals
) -> None:
    text = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # one that does not want to go
        f"mark = 'import time; time.sleep(986)  # of {tmp_path}'\n"
        "subprocess.Popen([sys.executable, '-c', mark], start_new_session=True)\n"
        f"open({str(tmp_path / 'up')!r} + str(os.getpid()), 'w').close()\n"
        "time.sleep(986)\n"
    )
    for slug in ("five", "twenty"):
        probe(proved, slug, text)
    process = subprocess.Popen(
        [PY, "-m", "fixtool", "verify", "--prove", "--sglang-ref", "v1.0", "--python", PY,
         "--source", str(proved.upstream.path), "-C", str(proved.root), "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("up*"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert left(tmp_path)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert err.startswith("error: interrupted")
    deadline = time.monotonic() + 60
    while left(tmp_path):
        assert time.monotonic() < deadline, left(tmp_path)
        time.sleep(0.1)


def left(of: Path) -> list[str]:
    """The processes that name this test's own folder.

    Another worker runs its own probes beside this one: looking for every probe of the machine
    made this test wait for theirs, and fail.
    """
    return [one for one in processes() if str(of) in one]


# -- parts ---------------------------------------------------------------------------------


def test_tree_ids_are_gits(make_git: Callable[[str], Git]) -> None:
    git = make_git("odd")
    for name in ("a", "a.b", "a/b", "a0", "ä", "x y"):
        git.write(f"{name}.txt" if name != "a/b" else "a/b/c.txt", name)
    git.write("run.sh", "#!/bin/sh\n")
    (git.path / "run.sh").chmod(0o755)
    (git.path / "link").symlink_to("a.txt")
    git.commit("odd")
    files = list_tree(git.repo, "HEAD")
    assert tree_id(files) == git("rev-parse", "HEAD^{tree}")
    assert blob_id(b"a") == files["a.txt"][1]


def test_a_tree_is_what_git_says_file_by_file(fixtool: Run, proved: Team, tmp_path: Path) -> None:
    """Also where folders are links: a new file in a new folder, one deleted, one in a deep folder
    beside folders that nothing changes in."""
    git = proved.upstream
    for name in ("python/a/b/c.py", "python/a/d.py", "python/e/f.py", "python/e/g/h.py"):
        git.write(name, name)
    git("tag", "--force", "v1.0", git.commit("more"))
    proved.line("more", base=git("rev-parse", "v1.0"))
    git("checkout", "--quiet", "--detach", "v1.0")
    git.commit(
        "deep\n\nWhy.\n\nProbe: probes/five.py\nDrop-When: never",
        python__a__b__c_py="changed", python__new__folder__x_py="new", python__e__f_py=None,
    )  # fmt: skip
    from support.repositories import format_patch

    proved.add("deep", format_patch(git), line="more")
    words = ["verify", "--checks", "--line", "more", "--keep-trees", "--sglang-ref", "v1.0"]
    found = document(
        fixtool(*words, "--source", git.path, "--python", PY, "--json", "-C", proved.root)
    )
    series = Path(found["folder"]) / "trees/series"
    ours = {
        str((Path(at) / name).relative_to(series)): (Path(at) / name).read_text()
        for at, _, names in os.walk(series, followlinks=True)
        for name in names
    }
    store = Git(found_store(found))
    theirs = store("ls-tree", "-r", "--name-only", found["tree"], "python").splitlines()
    assert sorted(ours) == sorted(theirs)
    assert all(store("show", f"{found['tree']}:{name}") == text.strip() for name, text in ours.items())  # fmt: skip
    assert (series / "python/e/g").is_symlink()


def test_the_worst_decides(bundled: Path) -> None:
    assert on_host(bundled).returncode == 0
    result = read_result(bundled / "result.json")
    judged = prove_result(result)
    assert judged is not None
    assert {one.proof for one in judged.proofs} == {Proof.PROVED}
