"""What a capture holds is what the operation log can read again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.documents import Field
from fixtool.operations import contents
from fixtool.operations.capture import Scope, capture, session_path
from fixtool.operations.contents import Contents
from fixtool.operations.state import check_state
from fixtool.series import digests
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


def test_a_file_that_has_not_changed_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But if its bytes are not kept, it is; and if it has changed."""
    for kind in ("STATE", "CACHE"):
        monkeypatch.setenv(f"FIXTOOL_{kind}_DIR", str(tmp_path / kind))
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + 10**10)
    monkeypatch.setattr(digests, "time", later)
    file = tmp_path / "team/patches/main/notes"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"why\n")
    repository, settings = PatchRepository(tmp_path / "team"), load(tmp_path / "team")
    read: list[str] = []

    def names(kept: Path) -> dict[str, str]:
        read.clear()
        return dict(capture(repository, settings, Contents(kept), Scope()).files)

    real = contents.read_plain
    monkeypatch.setattr(
        contents, "read_plain", lambda *given: read.append(given[1]) or real(*given)
    )
    first = names(tmp_path / "kept")
    assert read == ["notes"]
    assert names(tmp_path / "kept") == first
    assert not read
    assert (names(tmp_path / "others"), read) == (first, ["notes"])
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:  # until the kernel's clock goes on
        file.write_bytes(b"how\n")
    assert names(tmp_path / "kept") != first
    assert read == ["notes"]
    settings.cache.joinpath("patches").chmod(0o777)  # then nothing in it is believed
    names(tmp_path / "kept")
    assert read == ["notes"]
