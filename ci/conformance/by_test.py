"""A plugin of pytest: which test ran a line, how long the test took, and in which order tests run.

`coverage` and `mutation` load it. coverage.py itself names a line's test by its function alone, and
the tests of a sweep share one function.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from coverage import Coverage


class Measure:
    """Tells coverage.py which test runs, and writes a line of JSON for each test that passed."""

    def __init__(self, times: Path) -> None:
        self.times = times
        self.passed: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        coverage = Coverage.current()
        assert coverage is not None, "this plugin runs below `coverage run`"
        coverage.switch_context(item.nodeid)
        start, cpu = time.monotonic(), sum(os.times()[:4])
        try:
            return (yield)
        finally:
            seconds = [round(time.monotonic() - start, 3), round(sum(os.times()[:4]) - cpu, 3)]
            if item.nodeid in self.passed:
                with self.times.open("a") as file:
                    file.write(json.dumps([item.nodeid, *seconds]) + "\n")
            coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)
        elif report.failed:
            self.passed.discard(report.nodeid)


class InOrder:
    """Runs the tests in the order in which they were named."""

    def __init__(self, names: Sequence[str]) -> None:
        self.place = {name: place for place, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.place.get(item.nodeid, len(self.place)))


def pytest_configure(config: pytest.Config) -> None:
    if times := os.environ.get("TIMES_OF_TESTS"):
        config.pluginmanager.register(Measure(Path(times)), "measure")
