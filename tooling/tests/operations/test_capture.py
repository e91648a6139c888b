"""What a capture holds is what the operation log can read again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fixtool.documents import Field
from fixtool.operations.capture import Scope, capture, session_path
from fixtool.operations.contents import Contents
from fixtool.operations.state import check_state
from fixtool.series.line import PatchRepository
from fixtool.settings import load


@pytest.mark.parametrize("name", ["main", "v1.0+x", "a..b", "-x", "x" * 101])
def test_only_what_can_be_a_line_is_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FIXTOOL_STATE_DIR", str(tmp_path / "state"))
    root = tmp_path / "team"
    for line in {"main", name}:
        (root / "patches" / line).mkdir(parents=True)
        (root / "patches" / line / "notes").write_text("why\n")
    repository, settings = PatchRepository(root), load(root)
    session = session_path(repository, settings, f"rebase/{name}")
    session.parent.mkdir(parents=True)
    session.write_text("{}")
    state = capture(repository, settings, Contents(tmp_path / "contents"), Scope())
    check_state(Field(json.loads(json.dumps(asdict(state)))))
    is_line = name in ("main", "v1.0+x")
    assert set(state.files) == {"main/notes", *([f"{name}/notes"] * is_line)}
    assert set(state.waiting) == ({f"rebase/{name}"} if is_line else set())
