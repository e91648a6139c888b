"""ci/coverage-oracle on a series whose probes look at text: it agrees with a right `apply` only."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from support.command import run_here
from support.package_index import Server, make_wheel
from support.processes import GENEROUS
from support.repositories import NUMBERS, ROOT, Team
from support.scripts import load_script
from support.verifying import FIVE, PROBE, proved, write_probe

__all__ = ["proved"]  # a fixture

pytestmark = pytest.mark.slow(1)  # each runs probes in processes


def oracle() -> ModuleType:
    return load_script("ci/coverage-oracle")


def apply_here(root: Path, ref: str, source: str, *options: str) -> tuple[dict[str, Any], float]:
    """What the script's `apply` gives, of a run inside this process."""
    words = ["apply", "--dry-run", "--json", "-C", root, "--sglang-ref", ref, "--source", source]
    return json.loads(run_here(*words, *options, cwd=root).out), 0.1


def ask(team: Team, out: Path, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code, the rows, and what was printed."""
    options = ["-C", team.root, "--python", sys.executable, "--source", team.upstream.path]
    argv = ["coverage-oracle", *options, "--out", out, *words]
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(word) for word in argv]),
        mock.patch.object(oracle(), "apply", apply_here),
        redirect_stdout(printed),
    ):
        status = oracle().main()
    return status, json.loads(out.read_text())["refs"], printed.getvalue()


def test_the_script_starts_fixtool_itself(proved: Team, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    ran = subprocess.run(
        [sys.executable, ROOT / "ci/coverage-oracle", "-C", proved.root, "--python", sys.executable,
         "--source", proved.upstream.path, "--out", out, "v1.0"],
        capture_output=True, text=True, check=False, timeout=GENEROUS,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "1 ref: 1 right, 0 wrong" in ran.stdout


def answers(row: dict[str, Any]) -> dict[tuple[str, str], int | None]:
    return {(answer["tree"], answer["slug"]): answer["answer"] for answer in row["answers"]}


def test_every_answer_is_right_on_a_base_and_after_it(proved: Team, tmp_path: Path) -> None:
    shifted = proved.upstream.commit("shift", python__model_py=f"line 0\n{NUMBERS}")
    words = ["v1.0", shifted, "--carries", "five"]
    code, rows, text = ask(proved, tmp_path / "out.json", *words)
    assert (code, [row["problems"] for row in rows]) == (0, [[], []]), text
    for row in rows:
        assert row["exit_code"] == 0
        assert answers(row) == {
            ("applied", "five"): 0, ("applied", "twenty"): 0,
            ("-five", "five"): 1, ("-twenty", "twenty"): 1,
        }  # fmt: skip
    assert [patch["verdict"] for patch in rows[1]["patches"]] == ["offset", "offset"]
    assert "2 refs: 2 right, 0 wrong" in text


def test_releases_of_the_package_index(proved: Team, server: Server, tmp_path: Path) -> None:
    """One patch alone, so that its base, which no release gives, is not needed."""
    (proved.root / "patches/main/series").write_text("five.patch\n")
    (proved.root / "patches/main/twenty.patch").unlink()
    for version in ("1.0", "1.1", "1.2rc1", "2.0"):
        files = {"model.py": NUMBERS.encode(), "version.py": version.encode()}
        make_wheel(server.folder, version, files=files)
    code, rows, _ = ask(proved, tmp_path / "out.json", "--releases", "1.0..1.9")
    assert [(row["ref"], row["problems"]) for row in rows] == [("1.0", []), ("1.1", [])]
    assert code == 0
    assert [answers(row) for row in rows] == [{("applied", "five"): 0, ("-five", "five"): 1}] * 2


def test_probes_that_disagree_are_told(proved: Team, tmp_path: Path) -> None:
    """The one finds its bug in every tree, so its patch does not work. The other finds its bug in
    none, so its patch is not needed."""
    write_probe(proved, "five", PROBE.format(mark="no such line"))
    write_probe(proved, "twenty", PROBE.format(mark="line 1"))
    code, (row,), printed = ask(proved, tmp_path / "out.json", "v1.0")
    assert (code, row["problems"]) == (
        1, [
            "as applied, probes/five.py answers 1: saw the bug",
            "without twenty, probes/twenty.py answers 0: saw the fix",
        ],
    )  # fmt: skip
    assert all(problem in printed for problem in row["problems"])
    assert "1 ref: 0 right, 1 wrong" in printed


def test_a_ref_without_the_patch_is_told(proved: Team, tmp_path: Path) -> None:
    conflicting = proved.upstream.commit("next", python__model_py="other\n")
    absorbing = proved.upstream.commit("take it", python__model_py=FIVE)
    words = [conflicting, absorbing, "--carries", "five"]
    code, rows, printed = ask(proved, tmp_path / "out.json", *words)
    assert code == 1
    (problem,) = rows[0]["problems"]
    assert problem.startswith("apply ends with exit code 3")
    assert (rows[1]["exit_code"], rows[1]["problems"]) == (0, ["five is not carried"])
    assert "2 refs: 0 right, 2 wrong" in printed


def test_a_probe_that_breaks_is_told(proved: Team, tmp_path: Path) -> None:
    write_probe(proved, "twenty", "import sys\nprint('lost')\nsys.exit(5)\n")
    code, (row,), _ = ask(proved, tmp_path / "out.json", "v1.0")
    broke = "probes/twenty.py breaks: exit with 5, which is no answer"
    assert (code, row["problems"]) == (1, [f"as applied, {broke}", f"without twenty, {broke}"])
