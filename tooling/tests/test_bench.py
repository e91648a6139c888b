"""The benchmark runs from end to end, and the documents show the figures of its results."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command import run_here
from support.processes import GENEROUS, wait_until
from support.repositories import ROOT

BENCH = ROOT / "tooling/bench"

sys.path.insert(0, str(BENCH))
import tables  # noqa: E402
import targets  # noqa: E402
import timing  # noqa: E402


def run(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCH / script, *words], capture_output=True, text=True, check=False,
        timeout=GENEROUS,
    )  # fmt: skip


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A repository with eight commits: a short series, and upstream's commits after it."""
    text = "\n".join(f"line {number}" for number in range(40))
    stream = ""
    for number in range(8):
        text = text.replace(f"line {4 * number + 2}\n", f"line {4 * number + 2} changed\n")
        stream += (
            f"commit refs/heads/main\ncommitter A <a@example.org> {1767000000 + number} +0000\n"
            f"data <<END\nfeat: change {number}\nEND\nM 644 inline file.py\ndata {len(text)}\n{text}\n"
        )
    folder = tmp_path / "upstream"
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    subprocess.run(
        ["git", "-C", folder, "fast-import", "--quiet"], input=stream.encode(), check=True
    )
    subprocess.run(["git", "-C", folder, "symbolic-ref", "HEAD", "refs/heads/main"], check=True)
    return folder


@pytest.fixture
def result(upstream: Path, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The result of the one suite that the test is for, on a line with one patch."""
    ids = subprocess.run(
        ["git", "-C", upstream, "rev-list", "--reverse", "main"], capture_output=True, text=True,
        check=True,
    ).stdout.split()  # fmt: skip
    line, out = tmp_path / "line", tmp_path / "result.json"
    init = ["init", line, "--upstream", upstream, "--base", ids[0], "--line", "own"]
    assert run_here(*init, "--wheel-version", "0.1", cwd=tmp_path).status == 0
    words = ["-C", line, "import", f"{ids[0]}..{ids[1]}", "--from", upstream, "--line", "own"]
    assert run_here(*words, cwd=tmp_path).status == 0
    ran = run(
        "run.py", "--quick", "--repo", upstream, "--patches", line, "--line", "own",
        "--last", ids[-1], "--sizes", "2", "--disk", tmp_path, "--memory", tmp_path,
        "--out", out, "--suite", request.param,
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stderr
    return json.loads(out.read_text())


@pytest.mark.release(sample_of="suites of the benchmark")
@pytest.mark.parametrize(
    ("result", "keys"),
    [
        ("start", ["start"]),
        ("four", ["four-tmpfs"]),
        ("series", ["series-2"]),
        ("history", ["history-four"]),
        ("transfer", ["transfer"]),
        ("verbs", ["verbs"]),
    ],
    indirect=["result"],
)
def test_every_contestant_of_a_suite_runs(result: dict[str, Any], keys: list[str]) -> None:
    """And all that do the same work make the same: else the exit code is 2."""
    assert [group["key"] for group in result["groups"]] == keys
    rows = [row for group in result["groups"] for row in group["rows"]]
    idle = [row["name"] for row in rows if not row["samples"]]
    allowed = ("quilt", "stg", "split")  # no patch of the short series can be split
    assert [name for name in idle if not any(word in name for word in allowed)] == []


def contest(tmp_path: Path, **changes: Any) -> timing.Group:
    """Two contestants that write one file each; ``changes`` are of the second."""
    file = tmp_path / "file"
    first = timing.Contestant(
        "first", [["sh", "-c", "echo 1 >file"]], tmp_path, result=file.read_text
    )
    second = dataclasses.replace(first, name="second", against="first", **changes)
    return timing.take_turns("key", "title", [first, second], {}, 3)


def test_contestants_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = contest(tmp_path, most_runs=2)
    order = [line.split(" ")[2][:-1] for line in capsys.readouterr().err.splitlines()]
    assert order == ["first", "second", "first", "second", "first"]
    assert [(len(row.samples), row.failed) for row in group.rows] == [(3, False), (2, False)]
    assert tables.ratio(group, group.rows[1], "peak") > 0


def test_a_contestant_that_makes_something_else_has_failed(tmp_path: Path) -> None:
    _, second = contest(tmp_path, steps=[["sh", "-c", "echo 2 >file"]]).rows
    assert second.failed
    assert second.problem == "it made 2\n, and first made 1\n"


def test_a_contestant_that_ends_badly_has_failed_and_is_cleared_away(tmp_path: Path) -> None:
    cleared: list[bool] = []
    steps = [["sh", "-c", "echo no >&2; exit 3"]]
    _, second = contest(tmp_path, steps=steps, after=lambda: cleared.append(True)).rows
    assert (second.samples, second.failed, cleared) == ([], True, [True])
    assert second.problem.startswith("exit code 3 of sh -c")
    assert second.problem.endswith("no")
    _, second = contest(tmp_path, steps=steps, accepts=frozenset({3})).rows
    assert len(second.samples) == 3
    _, second = contest(tmp_path, steps=steps, may_stop=True).rows
    assert (second.stopped, second.failed) == (True, False)


def test_a_contestant_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    words = ["sh", "-c", "sleep 1000 & echo $! >child; wait"]
    with pytest.raises(timing.CommandFailed, match=r"it took more than 0\.2 s"):
        timing.measure([words], tmp_path, {}, limit=0.2)
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    wait_until(lambda: not state.exists() or state.read_text().split()[2] == "Z")


def test_a_contestant_that_is_not_installed_says_so(tmp_path: Path) -> None:
    group = contest(tmp_path, absent="quilt is not installed")
    assert group.rows[1].samples == []
    assert "second  quilt is not installed" in "\n".join(tables.lines([group]))


def test_memory_and_cpu_time_of_children_count(tmp_path: Path) -> None:
    code = "x = bytearray(64_000_000); [i for i in range(500_000)]"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    sample = timing.measure([[sys.executable, "-c", child]], tmp_path, {})
    assert sample.peak > 61
    assert sample.own_peak is None or sample.own_peak < 61
    assert sample.cpu > 0


def test_the_power_of_growth() -> None:
    groups = [
        timing.Group(f"series-{n}", "", [timing.Row("x", samples=[timing.Sample(0, n**2, 0, 0)])])
        for n in (50, 200, 1000)
    ]
    assert targets.growth(groups, "x") == pytest.approx(2)
    assert targets.growth(groups[:1], "x") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents with one figure, and the result that it is from."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    row = {"name": "git am", "wall": 1.234, "cpu_ratio": 0.5, "bytes": 21_460_000}
    document = {"date": "2026-11-26T10:00Z", "groups": [{"key": "series-50", "rows": [row]}]}
    (tmp_path / "results/2026-11-26-1.json").write_text(json.dumps(document))
    text = "# It\n\nIt takes <!-- figure: series-50 | git am | wall -->1.23 s<!-- end -->.\n"
    (tmp_path / "docs/speed.md").write_text(text)
    (tmp_path / "README.md").write_text("No figure but that of a command: `--timeout 5 s`.\n")
    return tmp_path


def test_the_figures_of_the_documents_are_those_of_the_results() -> None:
    checked = run("figures", "--check")
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.23 s", "1.22 s", "docs/speed.md differs from the results"),
        ("wall", "walk", "docs/speed.md: no result has walk of 'git am' in the group series-50"),
        ("git am", "git an", "no result has the row 'git an' in the group series-50"),
        ("series-50", "series-9", "no result has the group series-9"),
        ("It takes", "In 0.2 s it takes", "docs/speed.md: '0.2 s' has no mark"),
        ("It takes", "15.9% of it takes", "docs/speed.md: '15.9%' has no mark"),
    ],
)
def test_a_figure_that_is_not_in_the_results_is_found(
    folder: Path, old: str, new: str, message: str
) -> None:
    page = folder / "docs/speed.md"
    page.write_text(page.read_text().replace(old, new, 1))
    checked = run("figures", "--check", "--root", folder)
    assert checked.returncode == 1
    assert message in checked.stderr


def test_figures_are_written_from_the_newest_result(folder: Path) -> None:
    result = json.loads((folder / "results/2026-11-26-1.json").read_text())
    result["date"] = "2026-11-27T10:00Z"
    result["groups"][0]["rows"][0]["wall"] = 0.987
    (folder / "results/2026-11-27-1.json").write_text(json.dumps(result))
    assert run("figures", "--root", folder).returncode == 0
    assert "-->0.99 s<!--" in (folder / "docs/speed.md").read_text()
    assert run("figures", "--check", "--root", folder).returncode == 0
