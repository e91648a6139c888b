"""What a capture holds is what the operation log can read again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.documents import Field
from fixtool.git.trees import list_tree
from fixtool.operations import contents
from fixtool.operations.capture import Scope, capture, session_path, tree_of_files
from fixtool.operations.contents import Contents
from fixtool.operations.state import check_state
from fixtool.series import digests
from fixtool.series.line import PatchRepository
from fixtool.settings import load
from support.repositories import Git


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


def test_every_file_is_looked_at_whatever_git_knows_of_it(tmp_path: Path) -> None:
    """Edited, gone, new, ignored, staged and edited again, staged as gone, in conflict, and where a
    file and a folder have changed places; and nothing of a repository that lies in there."""
    git = Git(tmp_path / "tree")
    git.path.mkdir()
    git("init", "--quiet")
    names = ("same", "edited", "gone", "staged", "removed", "removed_and_folder", "folder",
             "conflict", "moved/inner", "mode")  # fmt: skip
    for name in names:
        git.write(name, f"{name}\n")
    git.write(".gitignore", "ignored\n")
    git.commit("base")
    git("checkout", "--quiet", "-b", "other")
    git.commit("theirs", conflict="theirs\n")
    git("checkout", "--quiet", "-")
    git.commit("ours", conflict="ours\n")
    git("merge", "--quiet", "other", check=False)
    for name in ("edited", "staged", "ignored", "new", "a folder/new", "added"):
        git.write(name, "an edit\n")
    git("add", "staged", "added")
    git.write("staged", "another edit\n")
    git("rm", "--quiet", "removed", "removed_and_folder")
    for name in ("gone", "folder", "moved/inner", "added"):
        (git.path / name).unlink()
    (git.path / "moved").rmdir()
    (git.path / "mode").chmod(0o755)
    for name in ("folder/file", "removed_and_folder/file", "moved"):
        git.write(name, "in its place\n")
    inner = Git(git.path / "inner")
    inner.path.mkdir()
    inner("init", "--quiet")
    inner.commit("inner", a_txt="a\n")
    staged = git("ls-files", "--stage")
    trees = {tree_of_files(git.repo, just_made=just_made) for just_made in (False, True)}
    assert git("ls-files", "--stage") == staged
    git("add", "--all", ":/", ":!inner")
    assert trees == {git("write-tree")}
    assert "ignored" not in list_tree(git.repo, trees.pop())
