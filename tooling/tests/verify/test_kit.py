"""The probe kit works in any Python, whatever that Python has installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtool.verify.kit import lay_kit
from fixtool.verify.test_file import counts


def test_the_kit_hides_another_version_of_fixtool(tmp_path: Path) -> None:
    other = tmp_path / "site/fixtool/__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("raise ImportError('another version')")
    kit = lay_kit(tmp_path / "run")
    code = (
        "import fixtool.verify.answer, fixtool.verify.sglang_on_cpu, fixtool.verify.test_file\n"
        "import fixtool.verify.runner.run; print(fixtool.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": os.pathsep.join((str(kit.parent), str(tmp_path / "site")))},
    )  # fmt: skip
    assert ran.stdout.strip() == str(kit / "__init__.py")


@pytest.mark.parametrize(
    ("output", "ran", "skipped"),
    [
        ("Ran 3 tests in 0.1s\n\nOK (skipped=2)\n", 3, 2),
        ("Ran 1 test in 0.1s\n\nOK\nRan 2 tests in 1s\n\nFAILED (failures=1)", 3, 0),
        ("3 passed, 1 skipped, 2 warnings in 0.12s\n", 4, 1),
        ("1 failed, 2 errors in 3s", 3, 0),
        ("nothing of the kind\n", 0, 0),
    ],
)
def test_tests_are_counted_as_unittest_and_pytest_print_them(
    output: str, ran: int, skipped: int
) -> None:
    assert counts(output) == (ran, skipped)
