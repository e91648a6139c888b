"""History by file: each file of a patch is judged once, and the whole is as a replay and plain git
say."""

from __future__ import annotations

import random
import runpy
import sys
from pathlib import Path

import pytest

from fixtool.git.objects import Oid
from fixtool.git.store import Store
from fixtool.history.log import first_parent_changes
from fixtool.history.run import Texts, judge_texts
from fixtool.progress import Silence
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState, Verdict
from support.progress import Counted
from support.rebase import FIVE, FIVE_AND_TWENTY, OTHER
from support.repositories import NUMBERS, Git, Team

ORACLE = Path(__file__).parents[3] / "ci" / "history-oracle"
EVEN = "".join(f"even {n}\n" for n in range(0, 60, 2))
ODD = "".join(f"odd {n}\n" for n in range(1, 60, 2))


@pytest.fixture
def monolith(team: Team) -> Team:
    """A patch of three files and a new one. Two more share a file with each other."""
    git = team.upstream
    git.commit("more files", src__even_py=EVEN, src__odd_py=ODD, src__deep__calm_py="calm\n" * 9)
    git("tag", "--force", "v1.0")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line()
    team.patch(
        "many", "change much", src__even_py=EVEN.replace("even 20\n", "even 20 fixed\n"),
        src__odd_py=ODD.replace("odd 9\n", "odd 9 fixed\n").replace("odd 51\n", "odd 51 fixed\n"),
        src__deep__calm_py="calm\n" * 9 + "fixed\n", src__fresh_py="fresh\n" * 5,
    )  # fmt: skip
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch(
        "twenty", "fix twenty", base="patch/five", python__model_py=FIVE_AND_TWENTY,
        python__other_py=OTHER,
    )  # fmt: skip
    return team


def texts_of(team: Team, folder: Path, cache: Path | None = None) -> Texts:
    store = Store.create(folder / "store.git")
    store.borrow(team.upstream.repo)
    line = team.repository.line("main")
    changes = first_parent_changes(store, line.upstream.base, Oid(team.upstream.head()))
    return judge_texts(store, line, line.upstream.base, changes, Silence(), cache=cache)


def replayed(team: Team) -> dict[str, list[PatchState]]:
    """What a replay on the whole tree of every commit says, with its evidence."""
    git, line = team.upstream, team.repository.line("main")
    log = git("rev-list", "--first-parent", "--reverse", f"{line.upstream.base}..HEAD")
    states: dict[str, list[PatchState]] = {patch.slug: [] for patch in line.patches}
    for commit in (line.upstream.base, *map(Oid, log.split())):
        for result in replay(git.repo, line, commit).patches:
            states[result.slug].append(PatchState(result.verdict, result.evidence))
    return states


def as_plain_git_says(team: Team, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether plain git agrees on every commit."""
    words = [team.upstream.path, "main", "-C", team.root, "--count", "1000"]
    monkeypatch.setattr(sys, "argv", [str(ORACLE), *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ORACLE), run_name="__main__")
    return ended.value.code == 0


def edit(git: Git, path: str, *changes: tuple[str, str]) -> None:
    """Change words of a file, and commit that."""
    text = (git.path / path).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    git.write(path, text)
    git.commit(f"edit {path}")


def test_a_patch_of_several_files(
    monolith: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = monolith.upstream
    edit(git, "src/even.py", ("even 0\n", "even 0\neven 1\n"))  # its lines move
    edit(git, "src/odd.py", ("odd 15\n", "odd 15 edited\n"))  # beside a hunk
    edit(git, "src/odd.py", ("odd 51\n", "odd 51 fixed\n"))  # a hunk is absorbed
    edit(git, "src/odd.py", ("odd 9\n", "odd 9 fixed\n"))  # the file is absorbed
    git.commit("take the new file", src__fresh_py="fresh\n" * 5)
    edit(git, "src/even.py", ("even 20\n", "even twenty\n"))
    edit(git, "src/even.py", ("even twenty\n", "even 20 fixed\n"))
    edit(git, "src/deep/calm.py", ("calm\n" * 9, "calm\n" * 9 + "fixed\n"))
    git.commit("another new file", src__fresh_py="other\n" * 5)
    states = texts_of(monolith, tmp_path).states
    assert states == replayed(monolith)
    assert [state.verdict for state in states["many"]] == [
        Verdict.CLEAN, Verdict.OFFSET, Verdict.MERGED, Verdict.PARTLY_ABSORBED,
        Verdict.PARTLY_ABSORBED, Verdict.PARTLY_ABSORBED, Verdict.CONFLICT,
        Verdict.PARTLY_ABSORBED, Verdict.ABSORBED, Verdict.CONFLICT,
    ]  # fmt: skip
    assert states["many"][-1].evidence[0] == "conflict in src/fresh.py"
    assert as_plain_git_says(monolith, monkeypatch)


def test_files_that_are_gone(
    monolith: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git follows one to its new place, stops at another, and takes a third for neither."""
    git = monolith.upstream
    edit(git, "src/even.py", ("even 2\n", "even 2 edited\n"))
    moved = (git.path / "src/even.py").read_text()
    git.commit("move it", src__even_py=None, src__moved_py=moved)
    git.commit("a twin", src__twin_py=moved.replace("even 8\n", "even 8 edited\n"))
    git.commit("remove it", src__odd_py=None)
    edit(git, "src/moved.py", ("even 20\n", "even twenty\n"))
    (git.path / "src/deep/calm.py").unlink()
    (git.path / "src/deep").rmdir()
    git.commit("a file where a folder was", src__deep="file\n")
    git.commit("back", src__deep=None, src__odd_py=ODD)
    git.commit("gone with the folder", **dict.fromkeys(
        ("src__odd_py", "src__moved_py", "src__twin_py")))  # fmt: skip
    states = texts_of(monolith, tmp_path).states
    assert states == replayed(monolith)
    assert as_plain_git_says(monolith, monkeypatch)


def test_patches_that_share_a_file(
    monolith: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the second fits depends on whether the first goes in."""
    git = monolith.upstream
    edit(git, "python/model.py", ("line 5\n", "line V\n"))
    edit(git, "python/model.py", ("line V\n", "line 5 fixed\n"))
    edit(git, "python/other.py", ("beta\n", "beta!\n"))
    edit(git, "python/model.py", ("line 20\n", "line XX\n"))
    git.commit("anew", python__model_py="line 0\n" + NUMBERS)
    git.commit("gone", python__model_py=None)
    states = texts_of(monolith, tmp_path).states
    assert states == replayed(monolith)
    assert Verdict.CONFLICT in {state.verdict for state in states["five"]}
    assert as_plain_git_says(monolith, monkeypatch)


def test_what_blocks_a_patch_on_some_states_alone(team: Team, tmp_path: Path) -> None:
    """The files of the second patch are the same on both states, and its conflict is too. Only on
    one of them the first patch, without which it fits nowhere, did not go in."""
    git = team.upstream
    team.patch("fix", "fix five", python__model_py=FIVE, python__other_py=OTHER)
    more = FIVE_AND_TWENTY.replace("line 5 fixed\n", "line 5 fixed more\n")
    team.patch("more", "fix more", base="patch/fix", python__model_py=more)
    taken = FIVE.replace("line 20\n", "line XX\n")
    git.commit("take it", python__model_py=taken, python__other_py=OTHER)
    edit(git, "python/other.py", ("beta!\n", "beta?\n"))
    states = texts_of(team, tmp_path).states
    assert states == replayed(team)
    assert [state.verdict for state in states["fix"]][1:] == [Verdict.ABSORBED, Verdict.CONFLICT]
    assert [state.verdict for state in states["more"]][1:] == [Verdict.CONFLICT, Verdict.BLOCKED]


def test_what_was_predicted_wrongly_is_judged_again(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git merges the first patch into the block that has moved, and not, as `git apply` does, into
    the copy at the old lines. The second patch goes where the first one went."""
    git = team.upstream
    body = "    def f(self):\n        p\n        q\n        r\n        s\n        t\n        u\n\n"
    head = "".join(f"{n}\n" for n in range(20))
    text = f"{head}class A:\n{body}tail\n"
    base = git.commit("base", python__model_py=text)
    team.line(base=base)
    fixed = text.replace("        r\n", "        r fixed\n")
    team.patch("fix", "fix A.f", base=base, python__model_py=fixed)
    more = fixed.replace("        s\n", "        s fixed\n")
    team.patch("more", "fix more of A.f", base="patch/fix", python__model_py=more)
    git("checkout", "--quiet", "-B", "main", base)
    git.commit("B above A", python__model_py=f"{head}class B:\n{body}class A:\n{body}tail\n")
    edit(git, "python/model.py", ("tail\n", "the tail\n"))
    states = texts_of(team, tmp_path).states
    assert states == replayed(team)
    assert "elsewhere" in states["fix"][-1].evidence[1]
    assert as_plain_git_says(team, monkeypatch)


@pytest.mark.parametrize("seed", range(2))
def test_histories_drawn_at_random(monolith: Team, tmp_path: Path, seed: int) -> None:
    draw_history(monolith.upstream, seed)
    assert texts_of(monolith, tmp_path).states == replayed(monolith)


@pytest.mark.parametrize("seed", range(3))
def test_a_series_that_moves_and_removes_files(monolith: Team, tmp_path: Path, seed: int) -> None:
    """Where the files are as they were written for, no replay is needed; else a replay judges."""
    team = monolith
    team.patch("move", "move even", base="patch/many", src__even_py=None, src__moved_py=EVEN)
    team.patch(
        "more", "edit what moved", base="patch/move",
        src__moved_py=EVEN.replace("even 40\n", "even 40 fixed\n"),
    )  # fmt: skip
    team.patch("drop", "remove calm", base="patch/more", src__deep__calm_py=None)
    team.patch("again", "calm anew", base="patch/drop", src__deep__calm_py="calmer\n")
    draw_history(team.upstream, seed)
    states = texts_of(team, tmp_path).states
    assert {"move", "more", "drop", "again"} <= states.keys()
    assert without_causes(states) == without_causes(replayed(team))


def without_causes(states: dict[str, list[PatchState]]) -> dict[str, list[PatchState]]:
    """The states without the patches that block others: a replay of the whole series names also
    those that share no file with the blocked one."""
    return {
        slug: [PatchState(state.verdict, tuple(text for text in state.evidence
                                               if "it needs " not in text))
               for state in patches]
        for slug, patches in states.items()
    }  # fmt: skip


def draw_history(git: Git, seed: int) -> None:
    """Ten commits of upstream that edit, fix, move and remove the files of the series."""
    draw = random.Random(seed)
    paths = ("src/even.py", "src/odd.py", "src/deep/calm.py", "src/fresh.py", "python/model.py")
    for number in range(10):
        here = [path for path in paths if (git.path / path).exists()] or ["README.txt"]
        path = draw.choice(here)
        lines = (git.path / path).read_text().split("\n")
        place = draw.randrange(len(lines))
        match draw.choice(("edit", "edit", "fix", "fix", "add", "move", "remove")):
            case "edit":
                lines[place] += " edited"
            case "fix":
                lines = [line + " fixed" if line in ("even 20", "odd 9", "line 5") else line
                         for line in lines]  # fmt: skip
            case "add":
                lines.insert(place, f"number {number}")
            case "move":
                git.write(f"src/place{number}.py", "\n".join(lines))
                (git.path / path).unlink()
            case _:
                (git.path / path).unlink()
        if (git.path / path).exists():
            git.write(path, "\n".join(lines))
        git.commit(f"step {number}")


def test_each_content_of_a_file_is_judged_once(monolith: Team, tmp_path: Path) -> None:
    """Whatever the other files do; and what was judged is in the cache."""
    git = monolith.upstream
    edit(git, "src/even.py", ("even 0\n", "even 0\neven 1\n"))
    edit(git, "src/odd.py", ("odd 15\n", "odd 15 edited\n"))
    edit(git, "src/even.py", ("even 1\n", ""))
    progress = Counted()
    line = monolith.repository.line("main")
    base = line.upstream.base
    changes = first_parent_changes(git.repo, base, Oid(git.head()))
    cache = tmp_path / "cache"
    first = judge_texts(git.repo, line, base, changes, progress, cache=cache)
    assert progress.tasks["judging"].total == 4 + 2  # the files of the base, and two other ones
    assert (first.judged, first.reused) == (4 + 1, 0)
    edit(git, "src/odd.py", ("odd 15 edited\n", "odd 15\n"))
    changes = first_parent_changes(git.repo, base, Oid(git.head()))
    again = judge_texts(git.repo, line, base, changes, progress, cache=cache)
    assert again.judged == 0
    assert [state.verdict for state in again.states["many"]][-2:] == [
        Verdict.MERGED, Verdict.CLEAN,
    ]  # fmt: skip
