"""A bundle runs where there is no fixtool, and its result comes back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fixtool.errors import Refused
from fixtool.isolation import can_isolate
from fixtool.verify.bundle import HostPackages, read_host_packages, read_requirements
from fixtool.verify.proof import exit_code
from fixtool.verify.result import Result, StepKind, StepOutcome, StepResult
from fixtool.verify.suite import Suite
from support.repositories import Team
from support.spy import finds, run_with_token, spy
from support.verifying import Run, answers, on_host, prove, read_back

pytestmark = pytest.mark.slow(1)  # each packs or runs a bundle
SHA = "--hash=sha256:" + "a" * 64


def test_a_requirements_file_names_releases() -> None:
    text = f"# why\nx==1.0 # here\ny[z]>=2 ; python_version > '3' \\\n    {SHA} \\\n    {SHA}\n\n"
    assert read_requirements(text, "r.txt") == [
        "x==1.0",
        f'y[z]>=2; python_version > "3" {SHA} {SHA}',
    ]


def test_what_pip_would_take_for_a_second_line_stays_a_comment() -> None:
    text = "# x\x0c--no-binary :all:\n# \u2028.\nx==1\n"
    assert read_requirements(text, "r.txt") == ["x==1"]


@pytest.mark.parametrize(
    "line",
    [".", "./x", "/x/y", "-e .", "-r other.txt", "-c other.txt", "git+https://i.example/x", "x @ file:///x",
     "x @ https://i.example/x.tar.gz", "--no-binary :all:", "--index-url https://i.example/${TOKEN}",
     "${TOKEN}", SHA, "x==1 --global-option=y", "x.whl y"],
)  # fmt: skip
def test_a_requirements_file_names_nothing_that_pip_would_build(line: str) -> None:
    """pip ran the setup.py of a patch repository on the machine that packs a bundle, with the
    credentials of its environment, and put variables into the addresses of an index."""
    with pytest.raises(Refused, match="is not the name of a package"):
        read_requirements(line, "r.txt")


BUNDLE = """\
[bundle]
python = "3.12"
requirements = "gpu.txt"
drop = ["*.a"]
"""


def _packages(folder: Path, text: str, line: str) -> HostPackages | None:
    (folder / "gpu.txt").touch()
    (folder / "own.txt").touch()
    (folder / "checks.toml").write_text(text)
    return read_host_packages(Suite(folder, (), ()), line)


def test_a_line_has_packages_of_its_own(tmp_path: Path) -> None:
    """A release pins other packages than the one before, down to torch."""
    own = '[bundle.lines."v2.0"]\nrequirements = "own.txt"\ndrop = []\ncapability = "9.0"\n'
    general = HostPackages("3.12", "x86_64", tmp_path / "gpu.txt", ("*.a",), None)
    assert _packages(tmp_path, BUNDLE, "v2.0") == general
    assert _packages(tmp_path, BUNDLE + own, "v1.0") == general
    assert _packages(tmp_path, BUNDLE + own, "v2.0") == HostPackages(
        "3.12", "x86_64", tmp_path / "own.txt", (), 90
    )
    assert _packages(tmp_path, "", "v2.0") is None


@pytest.mark.parametrize(
    "own",
    ['capability = "sm_90"', 'capability = "9"', "capability = 9", 'requirements = "none.txt"',
     'requirements = "../key"', "drop = [1]", 'python = ""'],
)  # fmt: skip
def test_what_a_line_says_of_its_packages_is_read_strictly(tmp_path: Path, own: str) -> None:
    with pytest.raises(Refused):
        _packages(tmp_path, f"{BUNDLE}[bundle.lines.x]\n{own}\n", "x")
    assert _packages(tmp_path, f"{BUNDLE}[bundle.lines.x]\n{own}\n", "y") is not None


@pytest.mark.parametrize("place", ["data", "probes/more"])
def test_a_bundle_takes_no_file_from_outside_of_verify(
    fixtool: Run, checked: Team, tmp_path: Path, place: str
) -> None:
    """A link to a private file was followed, and its text went to the GPU host."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("a private key\n")
    (checked.root / "verify" / place).symlink_to(tmp_path / "private")
    ran = fixtool("verify", "--prove", "--source", checked.upstream.path, "--sglang-ref", "v1.0",
                  "--bundle", tmp_path / "out.tar", "-C", checked.root)  # fmt: skip
    assert (ran.status, "is a link" in ran.err) == (1, True), ran.err
    assert not (tmp_path / "out.tar").exists()


def test_a_bundle_gives_the_same_matrix_without_fixtool(
    fixtool: Run, checked: Team, bundled: Path
) -> None:
    local = prove(fixtool, checked, "--checks")
    ran = on_host(bundled)
    assert ran.returncode == 0, ran.stderr
    assert f"{len(local['steps'])}/{len(local['steps'])} " in ran.stdout
    back = read_back(fixtool, checked, bundled)
    assert answers(back)["series"] == [0, 0]  # asked once, for the matrix and as a check
    for key in ("matrix", "proofs", "missing", "trees", "commit", "tree", "patches", "counts"):
        assert back[key] == local[key], key
    assert back["current"] is True
    assert (bundled / "work/logs").is_dir()
    assert not (bundled / "work/trees").exists()

    saved = Path(read_back(fixtool, checked, bundled, "--save")["saved"])
    assert saved.parent == checked.root / "verify/results"
    assert "folder" not in json.loads(saved.read_text())
    # The same result is kept once, another of the same day beside it.
    assert read_back(fixtool, checked, bundled, "--save")["saved"] == str(saved)
    file = bundled / "result.json"
    changed = re.sub(r'"prepare_seconds": [\d.]+', '"prepare_seconds": 7.0', file.read_text())
    file.write_text(changed)
    second = Path(read_back(fixtool, checked, bundled, "--save")["saved"])
    assert second.name == f"{saved.stem}-2.json"

    with (checked.root / "patches/main/five.patch").open("a") as patch:
        patch.write("\n")
    assert read_back(fixtool, checked, bundled)["current"] is False


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
EMPTY = {"schema": 1, "plan": ABOUT, "environment": {}, "trees": {}, "steps": []}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not json", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "its schema is not 1"),
        ('{"schema": 2}', "its schema is not 1"),
        ('{"schema": 1}', "KeyError"),
        *(
            (json.dumps({**EMPTY, **bad}), why)
            for bad, why in (
                ({"plan": {"line": 1}}, "TypeError"),
                ({"steps": [{"outcome": "passed"}]}, "KeyError"),
                ({"plan": {**ABOUT, "onto": "main"}}, "TypeError: onto"),
                ({"plan": {**ABOUT, "patches": [1]}}, "a list of tables"),
                ({"plan": {**ABOUT, "patches": [{"slug": 1}]}}, "TypeError"),
                ({"plan": {**ABOUT, "missing": [{"name": "a"}]}}, "KeyError"),
                ({"plan": {**ABOUT, "missing": None}}, "TypeError"),
                ({"environment": {"gpus": ["x"]}}, "a list of tables"),
                ({"environment": {"packages": []}}, "TypeError: packages"),
            )
        ),
    ],
)
def test_a_result_that_is_none(
    fixtool: Run, team: Team, tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "result.json").write_text(text)
    result = read_back(fixtool, team, tmp_path)
    assert result["exit_code"] == 1
    assert why in result["error"]["message"]


def test_a_result_cannot_write_to_the_terminal(fixtool: Run, checked: Team, bundled: Path) -> None:
    assert on_host(bundled).returncode == 0
    text = (bundled / "result.json").read_text()
    (bundled / "result.json").write_text(text.replace("+five", "+fi\\u001b[2Jve"))
    ran = fixtool("verify", "--import", bundled / "result.json", "-v", "-C", checked.root)
    assert "\x1b" not in ran.out + ran.err
    assert "+fi\\x1b[2Jve" in ran.out


def test_a_run_that_was_stopped_is_no_success(fixtool: Run, checked: Team, bundled: Path) -> None:
    assert on_host(bundled, "--only", "check text").returncode == 0
    raw = json.loads((bundled / "result.json").read_text())
    del raw["ended"]
    raw["finished"] = False
    (bundled / "result.json").write_text(json.dumps(raw))
    ran = fixtool("verify", "--import", bundled / "result.json", "-C", checked.root)
    assert ran.status == 4
    assert "unfinished" in ran.out


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], 1),
        (["passed", "seen"], 0),
        (["passed", "skipped"], 0),
        (["passed", "cannot-run"], 4),
        (["failed", "cannot-run"], 1),
        (["broke", "cannot-run"], 1),
    ],
)
def test_the_worst_decides(outcomes: list[str], status: int) -> None:
    step = StepResult(
        "x", StepKind.CHECK, "series", None, (0,), 0, StepOutcome.PASSED, "", 0, None, None, {}
    )
    steps = tuple(replace(step, outcome=StepOutcome(outcome)) for outcome in outcomes)
    result = Result(ABOUT, {}, {}, steps, "2026", "2026", 0)
    assert exit_code(result, None, require_gpu=False) == status
    assert exit_code(result, None, require_gpu=True) == (4 if "skipped" in outcomes else status)
    assert exit_code(replace(result, ended=None), None, require_gpu=False) == (status or 4)


@pytest.mark.skipif(not can_isolate(), reason="this kernel has no Landlock domains")
def test_a_probe_on_a_host_finds_no_token_anywhere(bundled: Path, tmp_path: Path) -> None:
    """Not even in the environment of the runner, which a person starts with a token."""
    log = tmp_path / "log"
    for probe in (bundled / "verify" / "probes").glob("*.py"):
        probe.write_text(spy(log) + probe.read_text())
    ran = run_with_token(words=["-S", str(bundled / "run.py"), "--only", "probe *"])
    assert ran.status == 0, ran.err
    assert set(map(tuple, finds(log))) == {()}
