"""`fixtool new` in a work tree that `apply` made: of what is not committed there, and of commits on
top of the series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from fixtool.errors import CannotRun
from fixtool.settings import Settings
from support.json_documents import document
from support.repositories import TRAILERS, Ran, Team
from support.work import WHY, Work

MESSAGE = ("-m", "a new one", "-m", "Why.", "-m", TRAILERS)


@pytest.fixture
def work(fixtool: Callable[..., Ran], team: Team, settings: Settings, tmp_path: Path) -> Work:
    return Work(fixtool, team, settings, tmp_path / "tree")


def slugs(work: Work) -> list[str]:
    return [entry.slug for entry in work.team.repository.line("main").entries]


def test_edits_become_the_last_patch(work: Work) -> None:
    work.edit("line 12\n", "line twelve\n")
    work.tree.write("new.txt", "new\n")
    work.tree("add", "new.txt")
    work.tree.write("scrap.txt", "of my own\n")
    before = work.state()
    planned = work.run("new", "fresh", *MESSAGE, "--dry-run")
    assert (planned.status, "would go into fresh" in planned.out) == (0, True), planned.err
    assert "\nfresh would be written in " in planned.out, "it was `0 files would be written`"
    assert work.state() == before
    ran = work.run("new", "fresh", *MESSAGE, "--json")
    made = document(ran)
    assert [(edit["place"], edit["slug"]) for edit in made["edits"]] == [
        ("new.txt", "fresh"), ("python/model.py:9", "fresh"), ("scrap.txt", None)
    ]  # fmt: skip
    assert [(each["slug"], each["change"]) for each in made["patches"]][-1] == ("fresh", "added")
    assert slugs(work) == ["five", "six", "thirty", "read", "fresh"]
    fresh = work.team.repository.line("main").find("fresh")
    assert (fresh.subject, fresh.author.name) == ("a new one", "A Maintainer")
    assert fresh.paths == {"new.txt", "python/model.py"}
    assert work.git("log", "-1", "--format=%s") == "main: new patch fresh"
    assert work.tree("status", "--porcelain") == "?? scrap.txt"
    (work.tree.path / "scrap.txt").unlink()
    assert work.is_sound()
    again = work.run("refresh")
    assert (again.status, "0 files written" in again.out) == (0, True)


def test_a_part_of_the_edits_where_the_command_is_typed(work: Work) -> None:
    """The work tree is the one of the current folder; the rest of the edits stays."""
    work.edit("line 12\n", "line twelve\n")
    work.edit("line 22\n", "line twenty-two\n")
    ran = work.fixtool("new", "fresh", *MESSAGE, "--take", "python/model.py:2", cwd=work.tree.path)
    assert ran.status == 0, ran.err
    assert "stays: not chosen" in ran.out
    assert "+line twenty-two" in work.text("fresh")
    assert "+line twelve" not in work.text("fresh")
    assert "+line twelve" in work.tree("diff", "--unified=0")
    with (
        mock.patch("fixtool.commands.options.on_terminal", return_value=True),
        mock.patch("typer.confirm", return_value=True),
    ):
        ran = work.run("new", "other", *MESSAGE, "--hunks", "--no-commit")
    assert (ran.status, slugs(work)[-2:]) == (0, ["fresh", "other"]), ran.err
    assert " patches/main/other.patch" in work.git("status", "--porcelain")


def test_commits_on_top_become_one_patch(work: Work) -> None:
    first = work.tree.commit(f"say much\n\n{WHY}", README_txt="much\n")
    work.edit("line 12\n", "line twelve\n")
    ran = work.run("new", "fresh")  # with the message of the one commit
    assert ran.status == 0, ran.err
    fresh = work.team.repository.line("main").find("fresh")
    assert (fresh.subject, fresh.paths) == ("say much", {"README.txt", "python/model.py"})
    assert work.is_sound()
    assert first not in work.tree("rev-list", "HEAD")
    for text in ("more", "most"):
        work.tree.commit(f"say {text}\n\n{WHY}", README_txt=f"{text}\n")
    before = work.state()
    ran = work.run("new", "several")
    assert (ran.status, "2 commits become one patch, which has no message" in ran.err) == (1, True)
    assert f"fixtool export --worktree {work.tree.path}" in ran.err
    assert work.state() == before
    assert work.run("new", "several", *MESSAGE).status == 0
    assert slugs(work)[-2:] == ["fresh", "several"]
    base = work.team.repository.line("main").upstream.base
    assert work.tree("rev-list", "--count", f"{base}..HEAD") == "6"
    assert work.is_sound()


def test_what_is_newer_in_the_line_is_kept(work: Work, tmp_path: Path) -> None:
    other = work.worktree(tmp_path / "other")
    work.edit("read it\n", "read it twice\n", "README.txt")
    assert work.run("refresh", "read").status == 0
    work.tree = other
    work.edit("line 12\n", "line twelve\n")
    ran = work.run("new", "fresh", *MESSAGE)
    assert (ran.status, "read is newer in the line" in ran.out) == (0, True), ran.err
    assert slugs(work)[-1] == "fresh"
    assert "+read it twice" in work.text("read")


MISTAKES = {
    "a name that is taken": (("six", "-m", "a new one"), 2, "has a patch 'six' already"),
    "an unsafe name": (("../x", "-m", "a new one"), 2, "cannot be the name of a patch"),
    "no message": (("fresh",), 1, "the patch has no message"),
    "a place": (("fresh", "--before", "six"), 2, "fixtool move fresh --before SLUG"),
    "another line": (("fresh", "--line", "other"), 2, "the work tree is of line main"),
    "no such hunk": (("fresh", "-m", "a new one", "--take", "nowhere"), 2, "no file at 'nowhere'"),
    "two ways": (("fresh", "--take", "python", "--hunks"), 2, "exclude each other"),
    "no terminal": (("fresh", "--hunks"), 2, "fixtool new fresh --take PATH:N"),
}


def test_a_wrong_command_line_changes_nothing(work: Work) -> None:
    work.edit("line 12\n", "line twelve\n")
    before = work.state()
    for name, (words, status, why) in MISTAKES.items():
        ran = work.run("new", *words)
        assert (ran.status, why in ran.err) == (status, True), (name, ran.err)
        assert work.state() == before, name
    elsewhere = work.fixtool("new", "fresh", "--take", "python", cwd=work.team.root)
    assert (elsewhere.status, "--take python --worktree DIR" in elsewhere.err) == (2, True), (
        elsewhere.err
    )
    words = ("new", "fresh", "--worktree", work.team.root)
    assert work.fixtool(*words, cwd=work.team.root).status == 4


def test_what_is_not_ready_is_refused(work: Work) -> None:
    nothing = work.run("new", "fresh", *MESSAGE)
    assert (nothing.status, "nothing to make a patch of" in nothing.err) == (1, True)
    work.tree.write("scrap.txt", "of my own\n")
    nothing = work.run("new", "fresh", *MESSAGE)
    assert f"git -C {work.tree.path} add scrap.txt" in nothing.err
    work.edit("line 12\n", "line twelve\n")
    before = work.state()
    for error, status in ((CannotRun("late"), 4), (KeyboardInterrupt(), 130)):
        with mock.patch("fixtool.edit.export.rewrite_and_commit", side_effect=error):
            assert work.run("new", "fresh", *MESSAGE).status == status
        assert work.state() == before
    lint = work.run("new", "fresh", "-m", "x\n\nApplied-Upstream: 0123456789ab, 0123456789cd")
    assert (lint.status, work.state() == before) == (1, True), lint.out
    work.tree("commit", "--quiet", "--all", "--amend", "--no-edit")
    work.edit("line 22\n", "line twenty-two\n")
    ran = work.run("new", "fresh", *MESSAGE)
    assert (ran.status, "other patches are changed in this work tree" in ran.err) == (1, True)
    assert f"fixtool refresh --worktree {work.tree.path}" in ran.err


def test_without_edits_a_work_tree_opens(work: Work) -> None:
    """In a work tree as `apply` made it, `new` is what it is elsewhere."""
    ran = work.fixtool("new", "fresh", *MESSAGE, cwd=work.tree.path)
    assert (ran.status, "fresh (patch 5 of 5) is yours to make" in ran.out) == (0, True), ran.err
