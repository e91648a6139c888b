"""A team's patch repository and its upstream, copied for each test; and a fork on GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.upstream import Hosting, hosted, template


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("made"))


@pytest.fixture
def hosting(
    made: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hosting]:
    with hosted(made, tmp_path, monkeypatch) as hosting:
        yield hosting
