"""Short histories of two maintainers, drawn by hypothesis: ci/conformance/histories runs many."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.histories import machine_in

SETTINGS = settings(
    max_examples=4, stateful_step_count=9, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_no_change_of_two_maintainers_is_lost(tmp_path: Path) -> None:
    machine = machine_in(tmp_path / "histories")
    run_state_machine_as_test(machine, settings=SETTINGS)
    assert machine.counts["runs"] > 5
