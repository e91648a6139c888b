"""`fixtool diff`: what changed of a patch, as `git range-diff` shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.edit.compare import range_diff
from fixtool.series.patch import parse
from fixtool.settings import Settings
from support.editing import make_worktree
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

FIVE = NUMBERS.replace("line 5\n", "line five\n")
MORE = FIVE.replace("line 30\n", "line thirty\n")


@pytest.fixture
def git(team: Team) -> Git:
    team.patch("five", "model: say five", python__model_py=FIVE, empty_txt="")
    team.patch("read", "docs: read", README_txt="read it\n")
    return team.track()


def test_what_has_changed_since_a_commit(fixtool: Callable[..., Ran], team: Team, git: Git) -> None:
    file = team.root / "patches/main/five.patch"
    file.write_text(file.read_text().replace("+line five", "+line V").replace("Why.", "Because."))
    ran = fixtool("diff", "five", cwd=team.root)
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "changed   five: model: say five"
    assert "-    Why." in lines
    assert "+    Because." in lines
    assert "-+line five" in lines
    assert "++line V" in lines
    assert lines[-1] == f"from      commit {git.head()[:12]} to the files"
    assert fixtool("diff", cwd=team.root).out == ran.out
    (patch,) = document(fixtool("diff", "--json", cwd=team.root))["patches"]
    assert (patch["slug"], patch["was"], patch["difference"]) == ("five", "five", "changed")
    git.commit("another")
    ran = fixtool("diff", "five", cwd=team.root)
    assert ran.out.splitlines() == [
        f"no change of five from commit {git.head()[:12]} to the files",
        f"next      fixtool diff five --against {git.head()[:12]}~1",
    ]
    assert "++line V" in fixtool("diff", "five", "--against", "HEAD~1", cwd=team.root).out


def test_what_was_added_removed_renamed_and_moved(
    fixtool: Callable[..., Ran], team: Team, git: Git
) -> None:
    folder = team.root / "patches/main"
    (folder / "read.patch").rename(folder / "words.patch")
    (folder / "series").write_text("words.patch\nfive.patch\n")
    team.patch("more", "model: more", python__model_py=MORE)
    ran = fixtool("diff", cwd=team.root)
    assert ran.out.splitlines() == [
        "renamed   words, which was read: docs: read",
        "added     more: model: more",
        "moved     the patches stand in another order",
        f"from      commit {git.head()[:12]} to the files",
    ]
    (folder / "series").write_text("words.patch\n")
    assert "removed   five" in fixtool("diff", cwd=team.root).out


def test_what_a_work_tree_changes(
    fixtool: Callable[..., Ran], team: Team, git: Git, settings: Settings, tmp_path: Path
) -> None:
    tree = make_worktree(team, settings, tmp_path / "tree")
    words = ("diff", "--worktree", tree.path)
    assert "no change of line main from the files to the work tree" in fixtool(*words).out
    tree.write("README.txt", "read it twice\n")
    tree("commit", "--all", "--amend", "--quiet", "--message", "docs: read twice")
    ran = fixtool(*words, "read")
    assert ran.status == 0
    assert "-+read it" in ran.out.splitlines()
    assert "++read it twice" in ran.out.splitlines()
    assert fixtool(*words, "five").out.startswith("no change of five")


def test_exit_codes(fixtool: Callable[..., Ran], team: Team, tmp_path: Path) -> None:
    team.patch("five", "model: say five", python__model_py=FIVE)
    ran = fixtool("diff", cwd=team.root)
    assert (ran.status, "has no commit to compare with" in ran.err) == (4, True)
    team.track()
    assert fixtool("diff", "nothing", cwd=team.root).status == 2
    assert fixtool("diff", "--against", "nothing", cwd=team.root).status == 2
    assert fixtool("diff", "--against", "HEAD", "--worktree", tmp_path).status == 2
    (team.root / "patches/main/five.patch").write_text("no patch\n")
    assert fixtool("diff", cwd=team.root).status == 1


BOTH = "def first():\n    pass\n" + NUMBERS + "def last():\n" + NUMBERS


CHANGED = BOTH.replace("line 30\n", "line XXX\n")
CASES: list[tuple[dict[str, str | bytes | None], dict[str, str | bytes | None]]] = [
    ({"a_py": CHANGED}, {"a_py": CHANGED.replace("XXX", "thirty")}),
    ({"a_py": CHANGED}, {"a_py": CHANGED.replace("line 5\n", "line V\n")}),
    ({"a_py": None}, {"a_py": CHANGED}),
    ({"a_py": BOTH + "no newline"}, {"a_py": BOTH + "no newline at the end"}),
    ({"a_py": "first\n" + BOTH, "new_py": "new\n"}, {"a_py": BOTH, "new_py": "newer\nnew\n"}),
    ({"b_py": "", "dir__c_py": "x"}, {"b_py": "x\n", "dir__c_py": "x"}),
]


@pytest.mark.parametrize(("old", "new"), CASES)
def test_git_shows_the_same_of_the_real_commits(
    make_git: Callable[[str], Git],
    old: dict[str, str | bytes | None],
    new: dict[str, str | bytes | None],
) -> None:
    git = make_git("some")
    base = git.commit("base", a_py=BOTH, d_py="d\n")
    patches, ranges = [], []
    for name, files in (("old", old), ("new", new)):
        git("checkout", "--quiet", "--detach", base)
        commit = git.commit(f"change\n\nThe {name} one.", **files)
        patches.append(parse(format_patch(git), name))
        ranges.append(f"{base}..{commit}")
    shown = git("range-diff", "--no-color", "--creation-factor=999", *ranges).splitlines()[1:]
    text = range_diff(git.repo, patches[0], patches[1])
    assert text.rstrip().splitlines() == [line.removeprefix("    ") for line in shown]


def test_a_binary_file_and_a_mode(make_git: Callable[[str], Git]) -> None:
    git = make_git("some")
    git.commit("base", bytes=b"\0\1")
    (git.path / "bytes").chmod(0o755)
    git.commit("change", bytes=b"\0\2")
    old = parse(format_patch(git), "old")
    git("commit", "--amend", "--quiet", "--message", "another")
    text = range_diff(git.repo, old, parse(format_patch(git), "new"))
    assert "+    another" in text.splitlines()
