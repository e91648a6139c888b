"""An import is one commit in the patch repository, unless the user wants to make it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.incoming import fork
from support.export_settings import odd_commits
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

FIX = NUMBERS.replace("line 9\n", "line nine\n")


class Importing:
    def __init__(self, fixtool: Callable[..., Ran], team: Team, git: Git, folder: Path) -> None:
        self.fixtool, self.team, self.git = fixtool, team, git
        up = team.upstream
        up("checkout", "--quiet", "--detach", "v1.0")
        for name, files in (("one", {"python__model_py": FIX}), ("two", {"new_txt": "new\n"})):
            up.commit(f"area: {name}", **files)
            (folder / f"{name}.patch").write_bytes(format_patch(up))
        up("checkout", "--quiet", "main")
        self.folder = folder

    def run(self, *words: str) -> Ran:
        source = ("--source", self.team.upstream.path)
        return self.fixtool("import", *words, *source, cwd=self.team.root)

    def patch(self, name: str) -> str:
        return str(self.folder / f"{name}.patch")


@pytest.fixture
def importing(fixtool: Callable[..., Ran], team: Team, tracked: Git, tmp_path: Path) -> Importing:
    return Importing(fixtool, team, tracked, tmp_path)


def test_one_commit_for_all(importing: Importing) -> None:
    ran = importing.run(importing.patch("one"), importing.patch("two"))
    assert ran.status == 0, ran.err
    git = importing.git
    assert git("log", "-1", "--format=%B").splitlines() == [
        "main: import 2 patches", "", "- area-one: area: one", "- area-two: area: two",
    ]  # fmt: skip
    assert git("log", "-1", "--format=%an") == "A Maintainer"
    assert f"committed {git.head()[:12]} in the patch repository" in ran.out
    assert git("status", "--porcelain") == ""


def test_no_commit_and_a_line_that_is_not_committed(importing: Importing) -> None:
    head = importing.git.head()
    ran = importing.run(importing.patch("one"), "--no-commit", "--json")
    assert (ran.status, document(ran)["committed"]) == (0, None)
    assert importing.git.head() == head
    ran = importing.run(importing.patch("two"))
    assert (ran.status, "is not committed" in ran.err) == (1, True)
    assert importing.run(importing.patch("two"), "--dry-run").status == 0
    assert importing.run(importing.patch("two"), "--no-commit").status == 0
    assert importing.team.slugs == ["fix", "area-one", "area-two"]


def test_the_advice_before_the_first_commit_works_as_typed(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path
) -> None:
    """git cannot stash then."""
    git = team.init()
    importing = Importing(fixtool, team, git, tmp_path)
    assert importing.run(importing.patch("one"), "--no-commit").status == 0
    ran = importing.run(importing.patch("two"), "--json")
    advice = document(ran)["error"]["hint"]
    assert (ran.status, "stash" in advice) == (1, False), advice
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "maintainer@example.org")
    for command in advice.removeprefix("commit it: ").split(" && "):
        words = shlex.split(command)
        git(*words[words.index("-C") + 2 :], *(["-m", "one"] if "commit" in words else []))
    assert importing.run(importing.patch("two")).status == 0


@pytest.mark.parametrize("words", [(), ("--no-commit",)])
def test_what_waited_for_a_person_is_committed_as_it_was_asked_for(
    importing: Importing, home: Path, words: tuple[str, ...]
) -> None:
    up = importing.team.upstream
    up("checkout", "--quiet", "--detach", "v1.0")
    up.commit("area: other", python__model_py=NUMBERS.replace("line 20\n", "line twenty\n"))
    (importing.folder / "other.patch").write_bytes(format_patch(up))
    head = importing.git.head()
    assert importing.run(importing.patch("other"), *words).status == 3
    (tree,) = (home / "state" / "worktrees").glob("*/import-main")
    Git(tree).write("python/model.py", NUMBERS.replace("line 20\n", "line XX and twenty\n"))
    ran = importing.fixtool("import", "--continue", cwd=importing.team.root)
    assert ran.status == 0, ran.err
    assert (importing.git.head() == head) is bool(words)
    assert (importing.git("status", "--porcelain") == "") is not bool(words)


def test_a_range_on_the_base_of_the_line_is_imported_as_if_each_commit_were_applied(
    fixtool: Callable[..., Ran], team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is applied then: the trees of the commits are those of the patches."""
    up = team.upstream
    up("checkout", "--quiet", "--detach", "v1.0")
    commits = odd_commits(up)
    words = ("import", f"v1.0..{commits[-1]}", "--from", up.path, "--line", "main", "--no-commit")

    folder = team.line()

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*")}

    before = files()
    with monkeypatch.context() as patched:
        patched.setattr("fixtool.incoming.fit.read_sections", None)
        patched.setattr("fixtool.edit.importing.export_all", lambda _, commits: list(commits))
        assert fixtool(*words, cwd=team.root).status == 0
    fast = files()
    assert len(fast) == len(before) + 1 + len(commits)
    for name in fast.keys() - before.keys():
        (folder / name).unlink()
    for name, data in before.items():
        (folder / name).write_bytes(data)
    make = fork.make_change
    monkeypatch.setattr(fork, "make_change", lambda *a, trees, **b: make(*a, **b))
    assert fixtool(*words, cwd=team.root).status == 0
    assert files() == fast
