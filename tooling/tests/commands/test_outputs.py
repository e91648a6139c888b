"""A command that writes a file or a folder looks before its work whether it can."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repositories import Git, Ran

NOTHING = "--source /no/such/place"
"""Where the work of each command would fail."""
OUTPUTS = [
    f"verify --prove {NOTHING} --bundle",
    f"verify --prove {NOTHING} --junit",
    f"verify --prove {NOTHING} --markdown",
    f"export --line main {NOTHING} --mbox",
    f"export --line main {NOTHING} --combined",
    f"export --line main {NOTHING} --series",
    f"report {NOTHING} --output",
    f"upstream fix {NOTHING} --mail",
    f"upstream fix {NOTHING} --worktree",
    f"upstream fix {NOTHING} --body",
    f"apply {NOTHING} --worktree",
    "init --upstream /no/such/place --base v1",
]
FOLDERS = ("--series", "--output", "--mail", "--worktree", "v1")


@pytest.mark.parametrize(
    "typed", OUTPUTS, ids=[f"{out.split()[0]} {out.split()[-1]}" for out in OUTPUTS]
)
def test_a_place_that_cannot_be_written_is_found_first(
    fixtool: Callable[..., Ran], tracked: Git, tmp_path: Path, typed: str
) -> None:
    (tmp_path / "file").write_text("x")
    takes_folder = typed.endswith(FOLDERS)
    places = ["file/below"] if takes_folder else ["file/below", "no/such/file", "upstream"]
    for name in places:
        ran = fixtool(*typed.split(), tmp_path / name, cwd=tracked.path)
        assert (ran.status, ran.out) == (4, "")
        assert ran.err.startswith(f"error: cannot write {tmp_path / name}: "), ran.err
        assert f"   at: {tmp_path / name}\n  try: " in ran.err
    free = tmp_path / ("new/folder" if takes_folder else "new")
    ran = fixtool(*typed.split(), free, cwd=tracked.path)
    assert "/no/such/place" in ran.err
    assert not free.exists()


def test_a_kept_result_is_looked_for_first(fixtool: Callable[..., Ran], tracked: Git) -> None:
    tracked.write("verify", "a file\n")
    ran = fixtool("verify", "--save", *NOTHING.split(), cwd=tracked.path)
    assert (ran.status, "cannot write" in ran.err) == (4, True)


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_home_in_which_no_script_can_be_written(
    fixtool: Callable[..., Ran], tmp_path: Path, shell: str
) -> None:
    """It was once reported as a fault of fixtool's own."""
    (tmp_path / "file").write_text("x")
    ran = fixtool("--install-completion", shell, HOME=str(tmp_path / "file"))
    assert ran.status == 4
    assert ran.err.startswith(f"error: cannot write {tmp_path / 'file'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user(fixtool: Callable[..., Ran], tracked: Git) -> None:
    ran = fixtool("export", "--line", "main", *NOTHING.split(), "--mbox", "/x", cwd=tracked.path)
    assert (ran.status, "Permission denied" in ran.err) == (4, True)
