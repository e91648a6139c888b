"""The tables of mutants name code, patches and tests that are there.

A mutant whose text is in its file no more breaks nothing, so nothing guards that decision.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.repositories import ROOT


def table(name: str) -> list[dict[str, Any]]:
    mutants: list[dict[str, Any]] = tomllib.loads((ROOT / name).read_text("utf-8"))["mutant"]
    return mutants


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


@cache
def functions_in(path: Path) -> frozenset[str]:
    """The names of the functions of a file."""
    nodes = ast.walk(ast.parse(text_of(path)))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))


def test_every_text_that_is_broken_is_in_its_file_once() -> None:
    """Nineteen of the texts had been written anew, and nothing told so."""
    times = {
        (mutant["file"], mutant["name"]):
            text_of(ROOT / "tooling/fixtool" / mutant["file"]).count(mutant["find"])
        for mutant in table("ci/mutants.toml")
    }  # fmt: skip
    assert {mutant: number for mutant, number in times.items() if number != 1} == {}
    assert len(times) == len(table("ci/mutants.toml")) > 200, "two of a file have one name"


def test_every_mutant_is_another_one() -> None:
    """And it changes its file."""
    rows = [(each["file"], each["find"], each["replace"], *each["tests"])
            for each in table("ci/mutants.toml")]  # fmt: skip
    assert [row for row in rows if rows.count(row) > 1 or row[1] == row[2]] == []


def test_every_test_that_is_to_notice_is_there() -> None:
    named = {test for mutant in table("ci/mutants.toml") for test in mutant["tests"]}
    missing = []
    for test in sorted(named):
        file, _, function = test.partition("::")
        there = functions_in(ROOT / "tooling/tests" / file)
        if (function and function.partition("[")[0] not in there) or not there:
            missing.append(test)
    assert missing == []
    assert all(mutant["tests"] for mutant in table("ci/mutants.toml"))


def test_a_word_that_no_mutant_has_is_refused() -> None:
    """pytest got no test by name then, and so ran all of them."""
    words = [sys.executable, ROOT / "ci/mutants", "--only", "no such mutant"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "'no such mutant'" in done.stderr) == (2, True), done.stderr


# What these break is upstream's code, or lines that no hunk of ours shows.
OF_UPSTREAM = {
    "num-experts-guard-dropped-upstream", "num-experts-no-mapping", "bf16-backend-dropped-upstream",
}  # fmt: skip


def made_by(patch: Path, files: list[str]) -> str:
    """The lines that the hunks of a patch leave in some files."""
    lines = []
    for section in text_of(patch).split("\ndiff --git ")[1:]:
        if section.partition("\n")[0].partition(" b/")[2] in files:
            for hunk in re.split(r"\n@@ .*\n", section)[1:]:
                lines += [line[1:] for line in hunk.split("\n") if line[:1] in ("+", " ")]
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["chain", "fixes", "kernel"])
def test_every_breakage_of_a_patch_fits_it(name: str) -> None:
    """In at least one line; and never at two places, where the runner would refuse it."""
    mutants = table(f"verify/mutants/{name}.toml")
    unfit = set()
    for mutant in mutants:
        patches = sorted(ROOT.glob(f"patches/*/{mutant['patch']}.patch"))
        fits = [
            len(re.findall(edit["find"], made_by(patch, edit["files"]), re.MULTILINE))
            for patch in patches
            for edit in mutant["edit"]
        ]
        assert max(fits, default=0) <= 1, mutant["name"]
        if not any(fits):
            unfit.add(mutant["name"])
    assert unfit == OF_UPSTREAM & {mutant["name"] for mutant in mutants}
