"""Which git repository gets the commits of a line, and what a killed rewrite leaves."""

from __future__ import annotations

import pytest

from fixtool.errors import Refused, UsageError
from fixtool.files import lock
from fixtool.series.commit import open_git
from fixtool.series.line import PatchRepository
from fixtool.series.shelf import read as read_shelf
from fixtool.series.write import repair, rewrite, toml_string
from support.repositories import Git, Team

SHELVED = '[[patch]]\nslug = "{slug}"\nwhy = "x"\nbase = "{base}"\n'


def test_what_a_killed_rewrite_left_is_put_right(team: Team) -> None:
    """The only line is gone for a moment where the kernel cannot exchange two folders. Whoever
    looks for the repository next gives the line its name again; a writer removes the rest."""
    patches = team.root / "patches"
    series = (patches / "main" / "series").read_bytes()
    (patches / "main").rename(patches / ".main.old")
    (patches / ".main.new-1").mkdir()
    with lock(patches / ".lock", "the patches"), pytest.raises(UsageError, match="no patch reposi"):
        PatchRepository.find(team.root)  # its writer is alive
    repository = PatchRepository.find(team.root)
    assert repository.line_names == ("main",)
    (patches / ".main.old").mkdir()
    repair(repository)
    assert sorted(path.name for path in patches.iterdir()) == [".lock", "main"]
    assert (patches / "main" / "series").read_bytes() == series


def test_a_patch_repository_that_git_does_not_track(team: Team) -> None:
    assert open_git(team.root) is None
    git = Git(team.root)
    git("init", "--quiet")
    assert open_git(team.root) is not None
    git.write(".gitignore", "/patches\n")
    assert open_git(team.root) is None
    git("config", "core.bare", "true")
    assert open_git(team.root) is None


@pytest.mark.parametrize("slug", ["../x", "a/b", "-x", ""])
def test_a_shelf_names_no_file_elsewhere(team: Team, slug: str) -> None:
    folder = team.root / "patches" / "main"
    (folder / "shelf.toml").write_text(SHELVED.format(slug=slug, base="a" * 40))
    with pytest.raises(Refused, match="an entry is not well formed"):
        read_shelf(folder)


def test_what_cannot_be_printed_becomes_a_blank() -> None:
    assert toml_string('a\nb\x1b"\\') == '"a b \\"\\\\"'


def test_a_rewrite_keeps_the_folders_of_a_line(team: Team) -> None:
    folder = team.root / "patches" / "main"
    (folder / "shelf").mkdir()
    (folder / "shelf" / "old.patch").write_bytes(b"kept\n")
    assert rewrite(folder, {"series": b"# new\n"}) == ["series"]
    assert (folder / "series").read_bytes() == b"# new\n"
    assert (folder / "shelf" / "old.patch").read_bytes() == b"kept\n"


def test_a_base_has_a_day(team: Team) -> None:
    toml = team.root / "patches" / "main" / "upstream.toml"
    text = toml.read_text()
    for day in ("2026-02-30", "20260102", "today", ""):
        toml.write_text(text.replace("2026-01-02", day))
        with pytest.raises(Refused, match="'date' is missing or not a day such as 2026-05-23"):
            team.repository.line("main")
