"""Which tests run, and in which order.

Markers: ``slow(seconds)`` is a test that takes more than a few seconds. ``release(sample_of=NAME)``
is a costly one of several that prove the same: its subject changes once a release of SGLang, or it
is one case of a sweep. All of these run once a week, and on every push one of each sample runs,
another one after each change. ``pytest -m "not slow"`` is the fast set, ``pytest -m "release or not
release"`` is all there is.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from support.repositories import ROOT

_SUBJECTS = ("patches", "tooling/fixtool", "verify")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let a worker that has nothing left take tests from one that still has some."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not os.environ.get("FIXTOOL_SGLANG_REPO"):
        for item in items:
            if item.get_closest_marker("history"):
                _skip(item, "FIXTOOL_SGLANG_REPO names no clone of SGLang")
    if "release" not in config.option.markexpr:
        _skip_releases(items)
    items[:] = _arrange(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _skip(item: pytest.Item, reason: str) -> None:
    item.add_marker(pytest.mark.skip(reason=reason))


def _skip_releases(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``release``, except one test of each sample."""
    samples: dict[str | None, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("release"):
            samples[marker.kwargs.get("sample_of")].append(item)
    for name, group in samples.items():
        chosen = min(group, key=lambda item: _draw(item.nodeid)) if name else None
        instead = f", and of these {name} {chosen.name} runs now" if chosen else ""
        for item in group:
            if item is not chosen:
                _skip(
                    item,
                    f"{item.name}: proved once a week, and for each release (pytest -m release){instead}",
                )


def _draw(name: str) -> str:
    """A key that sorts names in an order which every change of the subjects shuffles."""
    return hashlib.sha256(_digest() + name.encode()).hexdigest()


@cache
def _digest() -> bytes:
    """The content of everything that the tests marked ``release`` prove."""
    digest = hashlib.sha256()
    for folder in _SUBJECTS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".patch", ".py", ".toml"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.digest()


def _arrange(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The slowest tests first, dealt to the equal shares with which the workers begin."""
    slow = sorted((item for item in items if _seconds(item)), key=_seconds, reverse=True)
    quick = [item for item in items if not _seconds(item)]
    arranged: list[pytest.Item] = []
    for worker in range(workers):
        begin, end = (len(quick) * share // workers for share in (worker, worker + 1))
        arranged += slow[worker::workers] + quick[begin:end]
    return arranged


def _seconds(item: pytest.Item) -> float:
    """How long the test takes, where it is marked as slow and is not skipped."""
    marker = item.get_closest_marker("slow")
    if marker is None or item.get_closest_marker("skip"):
        return 0.0
    return float(marker.args[0])
