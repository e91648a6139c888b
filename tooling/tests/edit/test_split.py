"""`fixtool split`: the parts stand at the patch's place, and the series makes the same tree."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fixtool.edit.parts import By, group_paths
from fixtool.edit.place import Place
from fixtool.edit.split import SplitRequest, _Splitter, split
from fixtool.git.database import passing_objects
from fixtool.git.objects import Oid
from fixtool.series.commit import Rewrite
from fixtool.series.strict import commits_on
from support.editing import is_well_formed
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

TWICE = NUMBERS.replace("line 5\n", "line five\n").replace("line 30\n", "line thirty\n")
BLOCK = "".join(f"{n}\n" for n in range(9)) + "X\n" + "".join(f"{n}\n" for n in range(9))
"""Lines that, in a row, let a hunk fit at several places."""


class Splitting:
    """A line `main` in git with the patches `before`, `big` and `after`, on upstream's v1.0."""

    def __init__(self, fixtool: Callable[..., Ran], team: Team) -> None:
        self.fixtool, self.team = fixtool, team
        self.git = Git(team.root)
        self.folder = team.root / "patches" / "main"

    def run(self, *words: str | Path) -> Ran:
        source = ("--source", self.team.upstream.path)
        return self.fixtool("split", *words, *source, cwd=self.team.root)

    def split(self, *words: str | Path) -> dict[str, Any]:
        ran = self.run(*words, "--json")
        assert ran.status == 0, ran.out + ran.err
        found = document(ran)["split"]
        assert isinstance(found, dict)
        return found

    @property
    def slugs(self) -> list[str]:
        return self.team.slugs

    def tree(self) -> str:
        """The tree that the series makes."""
        line = self.team.repository.line("main")
        with passing_objects(self.team.upstream.repo) as objects:
            commits, complaint = commits_on(objects, line.patches, line.upstream.base)
            assert complaint == ""
            return objects.tree_of(commits[-1])

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


def add(team: Team, slug: str, subject: str, parent: str, **files: str | bytes | None) -> str:
    """Add a patch that is made on ``parent``, and return its commit."""
    git = team.upstream
    git("checkout", "--quiet", "--detach", parent)
    trailers = "Origin: vendor\nForwarded: no\nDrop-When: never\nSigned-off-by: A <a@example.org>"
    git.commit(f"{subject}\n\nWhy.\n\n{trailers}", **files)
    team.add(slug, format_patch(git))
    return git.head()


@pytest.fixture
def splitting(fixtool: Callable[..., Ran], team: Team) -> Splitting:
    first = add(team, "before", "before", "v1.0", docs__a_txt="a\n")
    second = add(
        team, "big", "change much", first,
        python__model_py=TWICE, python__other_py="alpha\nBETA\ngamma\n", README_txt=None,
        tests__new__test_py="assert True\n", tests__bytes="\0\1\2",
    )  # fmt: skip
    add(team, "after", "after", second, python__model_py=TWICE.replace("line 29\n", "line XX\n"))
    folder = team.root / "patches" / "main"
    (folder / "series").write_text(
        "# first\nbefore.patch\n# big one\nbig.patch # see 7\nafter.patch\n"
    )
    team.track()
    return Splitting(fixtool, team)


BY = {
    "file": (["--by", "file"], ["README.txt", "python/model.py", "python/other.py",
                                "tests/bytes", "tests/new/test.py"]),
    "folder": (["--by", "folder"], ["top", "python", "tests", "tests/new"]),
    "depth": (["--by", "folder", "--depth", "1"], ["top", "python", "tests"]),
}  # fmt: skip


@pytest.mark.parametrize("how", BY)
def test_by_file_and_folder(splitting: Splitting, how: str) -> None:
    words, labels = BY[how]
    tree, old = splitting.tree(), splitting.team.repository.line("main").find("big")
    done = splitting.split("big", *words)
    assert sorted(part["subject"] for part in done["parts"]) == sorted(
        f"change much: {label}" for label in labels
    )
    slugs = [part["slug"] for part in done["parts"]]
    assert splitting.slugs == ["before", *slugs, "after"]
    assert done["tree"] == splitting.tree() == tree
    for slug in slugs:
        part = splitting.team.repository.line("main").find(slug)
        assert (part.author, part.body) == (old.author, old.body)
    assert not (splitting.folder / "big.patch").exists()
    text = (splitting.folder / "series").read_text()
    first, *more = slugs
    middle = "".join(f"{slug}.patch\n" for slug in more)
    assert text == f"# first\nbefore.patch\n# big one\n{first}.patch # see 7\n{middle}after.patch\n"


def test_the_parts_are_well_formed_and_one_commit_that_git_takes_back(splitting: Splitting) -> None:
    old = splitting.files()
    ran = splitting.run("big", "--by", "file")
    assert ran.status == 0, ran.err
    lint = splitting.fixtool(
        "lint", "--drift", "--source", splitting.team.upstream.path, cwd=splitting.team.root
    )
    assert (lint.status, "error" in lint.out) == (0, False), lint.out
    assert splitting.git("status", "--porcelain") == ""
    assert splitting.git("rev-list", "--count", "HEAD") == "2"
    undo = next(line for line in ran.out.splitlines() if line.startswith("undo"))
    splitting.git(*undo.split()[4:])
    assert splitting.files() == old


def test_into_named_parts_by_hunk_and_the_rest_keeps_the_name(splitting: Splitting) -> None:
    tree = splitting.tree()
    done = splitting.split(
        "big", "--into", "late=python/model.py:2", "--into", "tests=tests,README.txt"
    )
    assert [(part["slug"], part["subject"]) for part in done["parts"]] == [
        ("late", "change much: late"), ("tests", "change much: tests"), ("big", "change much"),
    ]  # fmt: skip
    assert done["parts"][0]["files"] == [{"path": "python/model.py", "hunks": [2]}]
    assert done["parts"][2]["files"] == [
        {"path": "python/model.py", "hunks": [1]}, {"path": "python/other.py", "hunks": []},
    ]  # fmt: skip
    late = splitting.team.repository.line("main").find("late").diff
    assert b"+line thirty" in late
    assert b"line five" not in late
    assert splitting.tree() == tree
    assert splitting.slugs == ["before", "late", "tests", "big", "after"]


def test_all_hunks_in_any_order_make_the_same_tree(splitting: Splitting) -> None:
    tree = splitting.tree()
    words = ["--into", "b=python/model.py:2,python/other.py", "--into", "a=python/model.py:1",
             "--into", "c=*s/*", "--into", "d=README.txt"]  # fmt: skip
    assert splitting.run("big", *words).status == 0
    assert splitting.slugs == ["before", "b", "a", "c", "d", "after"]
    assert splitting.tree() == tree


def test_a_part_that_would_go_elsewhere_alone_depends_on_the_others(
    fixtool: Callable[..., Ran], team: Team
) -> None:
    git = team.upstream
    base = git.commit("alike", alike_txt=BLOCK * 3)
    team.line("alike", base)
    git("checkout", "--quiet", "--detach", base)
    git.commit("big\n\nWhy.\n\nSigned-off-by: A <a@example.org>",
               alike_txt="new\n" * 15 + BLOCK + BLOCK.replace("X", "Y") + BLOCK)  # fmt: skip
    team.add("big", format_patch(git), "alike")
    words = ("split", "big", "--line", "alike", "--into", "top=alike.txt:1", "--json")
    done = document(fixtool(*words, "--source", git.path, cwd=team.root))["split"]
    assert [part["depends_on"] for part in done["parts"]] == [[], ["top"]]
    rest = team.repository.line("alike").find("big")
    assert rest.body == "Why.\n\nDepends-On: top\nSigned-off-by: A <a@example.org>"


def test_a_patch_that_depends_on_it_depends_on_the_parts(splitting: Splitting) -> None:
    path = splitting.folder / "after.patch"
    path.write_bytes(path.read_bytes().replace(b"Drop-When: never\n",
                                               b"Drop-When: never\nDepends-On: before,big\n"))  # fmt: skip
    splitting.git("commit", "--quiet", "--all", "--message", "depends")
    done = splitting.split("big", "--into", "one=tests,README.txt", "--into", "two=python")
    assert done["rewritten"] == ["after"]
    assert splitting.team.repository.line("main").find("after").depends_on == (
        "before",
        "one",
        "two",
    )


def test_what_another_run_has_written_into_the_patch_stays(splitting: Splitting) -> None:
    """Only the series was compared: a change of the patch was written over with its old parts."""
    path = splitting.folder / "big.patch"
    newer = path.read_bytes().replace(b"Drop-When: never\n", b"Drop-When: soon\n")
    assert newer != path.read_bytes()
    real = _Splitter.make

    def meanwhile(splitter: _Splitter) -> _Splitter:
        made = real(splitter)
        path.write_bytes(newer)
        return made

    with mock.patch.object(_Splitter, "make", meanwhile):
        ran = splitting.run("big", "--by", "file")
    assert (ran.status, "another run has changed the line meanwhile" in ran.err) == (1, True)
    assert path.read_bytes() == newer


def test_a_dry_run_writes_nothing(splitting: Splitting) -> None:
    old, head = splitting.files(), splitting.git.head()
    done = splitting.split("big", "--by", "file", "--dry-run")
    assert (done["dry_run"], done["committed"], len(done["parts"])) == (True, None, 5)
    assert (splitting.files(), splitting.git.head()) == (old, head)


def test_no_commit_leaves_the_commit_to_the_user(splitting: Splitting) -> None:
    tree, head = splitting.tree(), splitting.git.head()
    words = ("big", "--into", "docs=README.txt", "--no-commit")
    done = splitting.split(*words)
    assert (done["committed"], splitting.git.head()) == (None, head)
    assert (splitting.slugs, splitting.tree()) == (["before", "docs", "big", "after"], tree)
    ran = splitting.run("big", "--by", "folder")
    assert (ran.status, "is not committed" in ran.err) == (1, True)
    ran = splitting.run("big", "--by", "folder", "--no-commit")  # on top of what is not committed
    assert (ran.status, "; nothing was committed" in ran.out) == (0, True), ran.err
    assert (splitting.tree(), splitting.git.head()) == (tree, head)
    splitting.git.commit("of my own")
    assert is_well_formed(splitting.fixtool, splitting.team)


REFUSED = {
    "one file": (["before", "--by", "file"], 1, "it has one file"),
    "all in one": (["big", "--into", "all=*"], 1, "all of it would be in one part"),
    "no way": (["big"], 2, "say how to split: --by makes a part of each file"),
    "two ways": (["big", "--by", "file", "--into", "a=b"], 2, "exclude each other"),
    "kind": (["big", "--by", "line"], 2, "neither file nor folder"),
    "depth": (["big", "--by", "file", "--depth", "1"], 2, "--depth is for --by folder"),
    "no terminal": (["big", "--hunks"], 2, "--hunks asks on a terminal"),
    "form": (["big", "--into", "a"], 2, "is not of the form NAME=PATH"),
    "unsafe": (["big", "--into", "../a=tests"], 2, "is not of the form NAME=PATH"),
    "path": (["big", "--into", "a=nowhere"], 2, "the patch changes no file at 'nowhere'"),
    "hunk": (["big", "--into", "a=python/model.py:3"], 2, "python/model.py has hunks 1 to 2"),
    "whole": (["big", "--into", "a=tests/bytes:1"], 2, "tests/bytes cannot be split by hunk"),
    "twice": (["big", "--into", "a=tests", "--into", "b=*s/new/*"], 2, "is in a already, and b names it too"),
    "taken": (["big", "--into", "after=tests"], 2, "has a patch 'after' already"),
    "rest": (["big", "--into", "big=tests"], 2, "is the name that the rest keeps"),
    "slug": (["none", "--by", "file"], 2, "has no patch 'none'"),
}  # fmt: skip


def test_what_is_refused_changes_nothing(splitting: Splitting) -> None:
    old = splitting.files()
    for words, status, message in REFUSED.values():
        ran = splitting.run(*words)
        assert (ran.status, message in ran.err) == (status, True), (words, ran)
    assert splitting.files() == old
    (splitting.folder / "series").write_bytes(old["series"] + b"# changed\n")
    ran = splitting.run("big", "--by", "file")
    assert (ran.status, "is not committed" in ran.err) == (1, True)


def test_a_file_and_a_folder_that_change_places_stay_together(
    fixtool: Callable[..., Ran], team: Team
) -> None:
    base = team.upstream.commit("a file", place="a file\n", z="z\n")
    team.line("swap", base)
    git = team.upstream
    git("checkout", "--quiet", "--detach", base)
    (git.path / "place").unlink()
    git.commit("big", place__inner="inner\n", z="Z\n")
    team.add("big", format_patch(git), "swap")
    words = ("split", "big", "--line", "swap", "--source", git.path, "--by")
    assert fixtool(*words, "file", cwd=team.root).status in (0, 1)
    entries = team.repository.line("swap").entries
    assert len(entries) in (1, 3)


def test_killed_between_writing_and_committing_the_next_run_finishes(
    splitting: Splitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, carry_out = splitting.files(), Rewrite.carry_out

    class Killed(BaseException):
        pass

    team = splitting.team
    line, base = team.repository.line("main"), Oid(team.upstream("rev-parse", "v1.0"))
    place = Place(team.upstream.repo, base, "git", lambda _: None)
    with monkeypatch.context() as patched:

        def die(change: Rewrite) -> None:
            carry_out(change)
            patched.setattr(Path, "unlink", mock.Mock(side_effect=OSError))
            raise Killed

        patched.setattr(Rewrite, "carry_out", die)
        patched.setattr("fixtool.series.commit._put_back", lambda *_: None)
        with pytest.raises(Killed):
            split(team.context, line, place, "big", SplitRequest(By.FILE))
    assert splitting.files() != old
    done = splitting.split("big", "--by", "file")
    assert len(done["parts"]) == 5
    assert splitting.git("status", "--porcelain") == ""
    assert splitting.git("rev-list", "--count", "HEAD") == "2"


def test_hunks_are_asked_for_on_a_terminal(
    splitting: Splitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["-", "models", "models", "-", "rest", "rest"])
    asked: list[str] = []

    def answer(label: str, default: str) -> str:
        asked.append(f"{label} [{default}]")
        return next(answers)

    monkeypatch.setattr("typer.prompt", answer)
    monkeypatch.setattr("fixtool.commands.options.on_terminal", lambda: True)
    ran = splitting.run("big", "--hunks")
    assert ran.status == 0, ran.err
    assert [label.split(":")[0] for label in asked] == [f"{n} of 6" for n in range(1, 7)]
    assert "+line five" in ran.out
    assert splitting.slugs == ["before", "models", "rest", "big", "after"]


def test_paths_are_grouped_below_the_folder_that_they_share() -> None:
    paths = ["p/a/x.py", "p/a/b/y.py", "p/c/z.py"]
    assert group_paths(paths, By.FILE) == {
        "a/x.py": ["p/a/x.py"], "a/b/y.py": ["p/a/b/y.py"], "c/z.py": ["p/c/z.py"],
    }  # fmt: skip
    assert list(group_paths(paths, By.FOLDER)) == ["a/b", "a", "c"]
    assert list(group_paths(paths, By.FOLDER, 1)) == ["a", "c"]
    assert group_paths(["only/x.py"], By.FILE) == {"x.py": ["only/x.py"]}


def test_without_git_it_is_written_and_nothing_committed(splitting: Splitting) -> None:
    shutil.rmtree(splitting.team.root / ".git")
    ran = splitting.run("big", "--by", "folder")
    assert (ran.status, "nothing was committed" in ran.out) == (0, True)
    assert "big" not in splitting.slugs


def test_odd_files_in_parts_of_their_own_make_the_same_tree(
    fixtool: Callable[..., Ran], team: Team
) -> None:
    """Binary data, modes, links, renames, line ends, and names that git quotes."""
    git = team.upstream
    base = git.commit("odd", **{
        "run.sh": "#!/bin/sh\n", "moved_txt": NUMBERS, "crlf_txt": "a\r\nb\r\nc\r\n" * 9,
        "no newline_txt": "a\n" * 20 + "end", "bytes": b"\0\1", "größe_txt": "x\n",
        'quo"te_txt': "x\n", "kind": "a file\n",
    })  # fmt: skip
    team.line("odd", base)
    git("checkout", "--quiet", "--detach", base)
    (git.path / "run.sh").chmod(0o755)
    git("mv", "moved.txt", "elsewhere.txt")
    (git.path / "kind").unlink()
    (git.path / "kind").symlink_to("run.sh")
    git.commit("change\n\nWhy.", **{
        "crlf_txt": "A\r\nb\r\nc\r\n" + "a\r\nb\r\nc\r\n" * 7 + "a\r\nb\r\nC\r\n",
        "no newline_txt": "A\n" + "a\n" * 19 + "END", "bytes": b"\0\2", "größe_txt": "y\n",
        'quo"te_txt': "y\n", "empty": "",
    })  # fmt: skip
    whole = git("rev-parse", "HEAD^{tree}")
    team.add("big", format_patch(git), "odd")
    words = ("split", "big", "--line", "odd", "--source", git.path, "--json")
    hunks = ("--into", "a=crlf.txt:2,no newline.txt:1", "--into", "b=no newline.txt:2,kind")
    for way in (hunks, ("--by", "file")):
        done = document(fixtool(*words, *way, "--dry-run", cwd=team.root))["split"]
        assert done["tree"] == whole
    assert len(done["parts"]) == 10
    assert fixtool(*words, "--by", "file", cwd=team.root).status == 0
    lint = fixtool("lint", "--line", "odd", "--drift", "--source", git.path, cwd=team.root)
    assert lint.status == 0, lint.out


def test_a_known_series_is_split_without_applying_the_other_patches(splitting: Splitting) -> None:
    """What was applied for one split is known to the next one: it applies its own parts alone."""
    assert splitting.run("big", "--by", "file", "--dry-run").status == 0
    splitting.split("big", "--into", "docs=README.txt")
    with (
        mock.patch("fixtool.edit.sequence.commits_on", side_effect=AssertionError),
        mock.patch("fixtool.edit.split.commits_on", wraps=commits_on) as applied,
    ):
        parts = splitting.split("big", "--by", "file")["parts"]
    (call,) = applied.call_args_list
    assert [patch.slug for patch in call.args[1]] == [part["slug"] for part in parts]
    assert splitting.fixtool("lint", "--line", "main", cwd=splitting.team.root).status == 0
