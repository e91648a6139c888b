"""`fixtool refresh` and `fixtool absorb` from uncommitted edits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from fixtool.apply.run import ApplyRequest, apply
from fixtool.edit import edits
from fixtool.edit import refresh as refreshing
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.series.context import Context
from fixtool.series.patch import export_all
from fixtool.settings import Settings
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team
from support.work import THIRTY, Work


@pytest.fixture
def work(fixtool: Callable[..., Ran], team: Team, settings: Settings, tmp_path: Path) -> Work:
    return Work(fixtool, team, settings, tmp_path / "tree")


def test_a_later_patch_of_other_files_keeps_its_file(work: Work) -> None:
    """Its commit is another one, since an earlier one is. What it changes is the same, so its file
    is not made again: that of `six` and `thirty` is, which change the edited file."""
    read = work.text("read")
    work.edit("line five\n", "line FIVE\n")
    with mock.patch("fixtool.edit.export.export_all", wraps=export_all) as exported:
        assert work.run("refresh", "five").status == 0
    assert [len(call.args[1]) for call in exported.call_args_list] == [3]
    assert ("+line FIVE" in work.text("five"), work.text("read")) == (True, read)
    assert work.is_sound()


def test_edits_go_into_the_patch_that_is_named(work: Work) -> None:
    work.edit("line 12\n", "line twelve\n")
    work.edit("gamma\n", "GAMMA\n", "python/other.py")
    work.tree.write("new.txt", "new\n")
    work.tree("add", "new.txt")
    work.tree.write("scrap.txt", "of my own\n")
    before = (work.tree.path / "python/model.py").stat().st_mtime_ns
    ran = work.run("refresh", "six")
    assert ran.status == 0, ran.err
    assert "rewritten six" in ran.out
    assert "stays: git does not track it" in ran.out
    for line in ("+line twelve", "+GAMMA", "+new"):
        assert f"\n{line}\n" in work.text("six")
        assert f"\n{line}\n" not in work.text("five") + work.text("thirty")
    assert (work.tree.path / "python/model.py").stat().st_mtime_ns == before
    assert work.tree("status", "--porcelain") == "?? scrap.txt"
    assert work.git("log", "-1", "--format=%s") == "main: refresh six"
    assert work.is_sound(clean=False)
    (work.tree.path / "scrap.txt").unlink()
    again = work.run("refresh")
    assert (again.status, "0 files written" in again.out) == (0, True)


def test_an_edit_beside_the_lines_of_a_later_patch(work: Work) -> None:
    """git sees a conflict where two changes touch; the lines that the edit replaces decide."""
    work.edit("line five\n", "line five, and more\n")
    assert work.run("refresh", "five").status == 0
    assert "\n+line five, and more\n" in work.text("five")
    assert "\n line five, and more\n" in work.text("six")
    assert work.is_sound()


def waits(work: Work) -> Git:
    """Edit lines of `six`, and put that into `five`, which stands below it. Returns the work tree
    in which this waits. A new file stays uncommitted."""
    work.edit("line six\n", "line six, and more\n")
    work.edit("line 22\n", "line twenty-two\n")
    work.tree.write("new.txt", "new\n")
    work.tree("add", "new.txt")
    ran = work.run("refresh", "five", "--take", "python")
    assert ran.status == 3, ran.err
    assert "five (patch 1 of 4) conflicts in 1 file\n  python/model.py:" in ran.out
    assert "fixtool refresh --continue --line main   (or --abort)" in ran.out
    (place,) = work.settings.worktrees.glob("*/edit-main")
    return Git(place)


BELOW = NUMBERS.replace("line 5\n", "line five\n").replace("line 22\n", "line twenty-two\n")


def test_an_edit_of_the_lines_of_a_later_patch_waits(work: Work) -> None:
    """It was refused, and the edits had to be made once more in a work tree of the patch."""
    before = work.state()[1]
    there = waits(work)
    assert work.state()[1] == before
    other = work.run("refresh", "six")
    assert (other.status, "an edit of line main waits" in other.err) == (1, True)
    early = work.fixtool("refresh", "--continue", cwd=there.path)
    assert (early.status, "a conflict marker is left" in early.err) == (1, True)
    there.write("python/model.py", BELOW.replace("line 6\n", "line 6, and more\n"))
    times = (work.tree.path / "python/model.py").stat().st_mtime_ns
    ran = work.fixtool("refresh", "--continue", "--json", cwd=there.path)
    assert ran.status == 0, ran.out
    edited = document(ran)["edited"]
    assert (ran.status, edited["verb"], edited["waiting"]) == (0, "refresh", None), ran.err
    assert [patch["slug"] for patch in edited["patches"]] == ["five", "six", "thirty"]
    assert "six conflicted, and became what leads to the tree" in edited["notes"][0]
    assert "\n+line 6, and more\n" in work.text("five")
    assert "\n+line six, and more\n" in work.text("six")
    assert "\n+line twenty-two\n" in work.text("five")
    assert work.git("log", "-1", "--format=%s") == "main: refresh five"
    assert not there.path.exists()
    assert (work.tree.path / "python/model.py").stat().st_mtime_ns == times
    assert work.tree("status", "--porcelain").strip() == "A new.txt"
    again = work.run("refresh", "read")
    assert (again.status, "+new" in work.text("read")) == (0, True), again.err
    assert work.is_sound()


def test_a_refresh_that_waits_is_given_up(work: Work) -> None:
    work.edit("line six\n", "line six, and more\n")
    before = work.state()
    planned = work.run("refresh", "five", "--dry-run")
    assert (planned.status, "of python/model.py conflict in five" in planned.err) == (3, True)
    assert work.state() == before
    assert work.run("refresh", "five").status == 3
    ran = work.fixtool("refresh", "--abort", cwd=work.team.root)
    assert (ran.status, "line main is as it was" in ran.out) == (0, True)
    assert work.state() == before
    assert work.run("refresh", "six").status == 0
    assert work.is_sound()
    ran = work.fixtool("refresh", "--continue", cwd=work.team.root)
    assert (ran.status, "no edit waits for a person here" in ran.err) == (2, True)
    for words in (("five", "--continue"), ("--continue", "--abort"), ("five", "--line", "main")):
        assert work.run("refresh", *words).status == 2


def test_a_work_tree_that_has_changed_meanwhile_stays_as_it_is(work: Work) -> None:
    there = waits(work)
    there.write("python/model.py", BELOW.replace("line 6\n", "line 6, and more\n"))
    work.edit("line 12\n", "line twelve\n")
    before = work.tree.snapshot()
    ran = work.fixtool("refresh", "--continue", cwd=work.team.root)
    assert ran.status == 0, ran.err
    assert "the work tree of the edits stays as it is, since it has changed since" in ran.out
    assert work.tree.snapshot() == before
    assert "\n+line 6, and more\n" in work.text("five")


def test_another_result_than_the_edits_leaves_the_work_tree(work: Work) -> None:
    """What the person makes of the last patch need not be what the work tree holds."""
    there = waits(work)
    there.write("python/model.py", BELOW)
    there.write("docs/five.txt", "another five\n")
    before = work.tree.snapshot()
    ran = work.fixtool("refresh", "--continue", cwd=work.team.root)
    assert ran.status == 0, ran.err
    assert work.tree.snapshot() == before
    assert "since the series makes other files now" in ran.out


@pytest.mark.parametrize("place", ["edit.waiting.end_session", "series.commit._commit",
                                   "edit.below.write_record"])  # fmt: skip
def test_a_refresh_that_goes_on_can_be_killed(work: Work, place: str) -> None:
    there = waits(work)
    there.write("python/model.py", BELOW.replace("line 6\n", "line 6, and more\n"))

    class Killed(BaseException):
        pass

    with (
        mock.patch(f"fixtool.{place}", side_effect=Killed),
        mock.patch("fixtool.series.commit._put_back", side_effect=OSError),
        pytest.raises(Killed),
    ):
        work.fixtool("refresh", "--continue", cwd=work.team.root)
    ran = work.fixtool("refresh", "--continue", cwd=work.team.root)
    assert ran.status == 0, ran.err
    assert not there.path.exists()
    ran = work.run("refresh", "read")
    assert ran.status == 0, ran.err
    assert work.is_sound()


def test_a_work_tree_with_other_patches_than_the_line_is_refused(work: Work) -> None:
    work.tree.commit("mine", README_txt="mine\n")
    work.edit("line six\n", "line six, and more\n")
    ran = work.run("refresh", "five")
    assert (ran.status, "the edits of python/model.py conflict in five" in ran.err) == (3, True)


def test_one_hunk_of_several(work: Work) -> None:
    work.edit("line 12\n", "line twelve\n")
    work.edit("line 22\n", "line twenty-two\n")
    work.tree.write("new.txt", "new\n")
    work.tree("add", "new.txt")
    ran = work.run("refresh", "six", "--take", "python/model.py:2")
    assert ran.status == 0, ran.err
    assert "+line twenty-two" in work.text("six")
    assert "+line twelve" not in work.text("six")
    shown = work.tree("diff", "--unified=0")
    assert "+line twelve" in shown
    assert "+line twenty-two" not in shown
    assert "A new.txt" in work.tree("status", "--porcelain")
    assert work.run("refresh", "six", "--take", "nowhere.txt").status == 2
    assert work.run("refresh", "six", "--take", "new.txt", "--take", "python").status == 0
    assert work.is_sound()


def test_no_attribute_hides_the_hunks_of_a_file(work: Work) -> None:
    """The whole file was one edit, which no hunk could be taken of."""
    work.tree.write(".gitattributes", "*.py -diff\n")
    work.edit("line 12\n", "line twelve\n")
    work.edit("line 22\n", "line twenty-two\n")
    ran = work.run("refresh", "six", "--take", "python/model.py:2")
    assert ran.status == 0, ran.err
    assert "+line twenty-two" in work.text("six")
    assert "+line twelve" not in work.text("six")


def test_hunks_are_asked_for(work: Work) -> None:
    ran = work.run("refresh", "six", "--hunks")
    assert (ran.status, "refresh six --take PATH:N" in ran.err) == (2, True)
    work.edit("line 12\n", "line twelve\n")
    work.edit("line 22\n", "line twenty-two\n")
    before = work.state()
    with (
        mock.patch("fixtool.commands.options.on_terminal", return_value=True),
        mock.patch("typer.confirm", side_effect=typer.Abort),  # Ctrl-D
    ):
        ran = work.run("refresh", "six", "--hunks")
    assert (ran.status, "error: interrupted\n  try: run the same" in ran.err) == (130, True)
    assert work.state() == before
    with (
        mock.patch("fixtool.commands.options.on_terminal", return_value=True),
        mock.patch("typer.confirm", lambda text, default: text.startswith("1 of 2")),
    ):
        ran = work.run("refresh", "six", "--hunks")
    assert ran.status == 0, ran.err
    assert "python/model.py:2" in ran.out
    assert "+line twelve" in work.text("six")
    assert "+line twenty-two" not in work.text("six")


def test_without_a_slug_only_what_is_clear(work: Work) -> None:
    work.edit("read it\n", "read it twice\n", "README.txt")
    assert work.run("refresh").status == 0
    assert "+read it twice" in work.text("read")
    work.edit("line thirty\n", "line 30, as it was\n")
    ran = work.run("refresh")
    assert (ran.status, "the lines are of thirty" in ran.err) == (1, True)
    assert f"fixtool refresh thirty --worktree {work.tree.path}" in ran.err
    work.tree("checkout", "--quiet", "--", ".")
    work.edit("line 12\n", "line twelve\n")
    ran = work.run("refresh")
    assert (ran.status, "the lines are of no patch" in ran.err) == (1, True)
    assert work.run("refresh", "nothing").status == 2
    assert work.run("refresh", "six", "--dry-run").status == 0
    assert "+line twelve" not in work.text("six")


def test_each_edit_goes_to_the_patch_that_last_changed_its_lines(work: Work) -> None:
    work.edit("line five\n", "line five, and more\n")
    work.edit("line six\n", "line six, and more\n")
    work.edit("line thirty and a half\n", "line thirty and two thirds\n")
    work.edit("line 12\n", "line twelve\n")
    work.edit("five\n", "5\n", "docs/five.txt")
    (work.tree.path / "python/other.py").unlink()
    ran = work.run("absorb", "--dry-run")
    assert (ran.status, "0 files" in ran.out) == (0, False)
    table = {line.split("  ")[0].strip(): line.split("  ", 1)[1].strip()
             for line in ran.out.splitlines() if "  " in line}  # fmt: skip
    assert table == {
        "edit": "patch",
        "docs/five.txt:1": "would go into five",
        "python/model.py:5": "stays: its lines are of five and six",
        "python/model.py:12": "stays: no patch has changed these lines",
        "python/model.py:31": "would go into thirty",
        "python/other.py": "stays: no patch has changed these lines",
    }
    old = work.files()
    assert work.tree("log", "-1", "--format=%ce") == "fixtool@localhost"
    ran = work.run("absorb")
    assert ran.status == 0, ran.err
    assert "+5" in work.text("five")
    assert "+line thirty and two thirds" in work.text("thirty")
    assert work.text("six") == old[str(work.folder / "six.patch")].decode()
    assert work.git("log", "-1", "--format=%s") == "main: absorb 2 patches"
    shown = work.tree("diff", "--unified=0")
    assert "+line twelve" in shown
    assert "+line six, and more" in shown
    assert "two thirds" not in shown
    assert work.is_sound(clean=False)


def squash_six_into_five(work: Work) -> None:
    five, six, thirty, read = work.tree("rev-list", "--reverse", "HEAD", "-4").split()
    work.tree("reset", "--hard", "--quiet", five)
    work.tree("cherry-pick", "--no-commit", six)
    work.tree("commit", "--amend", "--quiet", "--no-edit")
    work.tree("cherry-pick", thirty, read)


def test_a_patch_is_not_written_alone_with_the_change_of_another_one(work: Work) -> None:
    squash_six_into_five(work)
    work.edit("line six\n", "line six, and more\n")
    before = work.files()
    ran = work.run("absorb")
    assert ran.status in (1, 3), ran.out
    assert work.files() == before
    assert "line six, and more" in (work.tree.path / "python/model.py").read_text()


@pytest.mark.parametrize("words", [("refresh", "five"), ("absorb",)])
def test_a_refused_export_leaves_the_work_tree_as_it_was(
    work: Work, words: tuple[str, ...]
) -> None:
    """`six` is squashed into `five`, which only the export finds out."""
    squash_six_into_five(work)
    work.edit("five\n", "five, and more\n", "docs/five.txt")
    work.tree("add", "docs/five.txt")
    work.edit("line 12\n", "line twelve\n")
    work.tree.write("new.txt", "new\n")
    work.tree("add", "--intent-to-add", "new.txt")

    def state() -> tuple[object, ...]:
        return work.tree.snapshot(), work.tree("diff"), work.tree("diff", "--cached"), work.files()

    before = state()
    ran = work.run(*words)
    assert (ran.status, "six is squashed into five" in ran.err) == (1, True)
    assert state() == before


def test_a_patch_that_is_not_in_the_line_any_more(work: Work) -> None:
    """The edits went into its commit, and then the command was refused."""
    for slug in ("thirty", "read"):
        ran = work.fixtool("drop", slug, "--reason", "unused", cwd=work.team.root)
        assert ran.status == 0, ran.err
    work.edit("line thirty\n", "line thirty, and more\n")
    before = work.git.snapshot(), work.tree.snapshot()
    ran = work.run("refresh", "thirty")
    assert (ran.status, "line main has no thirty any more" in ran.err) == (1, True)
    assert "fixtool restore thirty" in ran.err
    assert (work.git.snapshot(), work.tree.snapshot()) == before
    work.edit("line six\n", "line six, and more\n")
    ran = work.run("absorb")
    assert ran.status == 0, ran.err
    assert "thirty is not in the line any more" in ran.out
    assert "+line six, and more" in work.text("six")
    assert "and more" in work.tree("diff")
    assert work.fixtool("restore", "thirty", cwd=work.team.root).status == 0
    ran = work.run("refresh", "thirty")
    assert ran.status == 0, ran.err
    assert "+line thirty, and more" in work.text("thirty")


def test_a_later_commit_of_a_person_stays_theirs(work: Work) -> None:
    """The commit that moved got fixtool's name. With its work tree removed, nothing kept it."""
    work.tree.commit("mine", README_txt="mine\n")
    work.edit("line 12\n", "line twelve\n")
    assert work.run("refresh", "five").status == 0
    mine = work.tree.head()
    assert "+mine" not in "".join(map(work.text, ("five", "six", "thirty", "read")))
    shutil.rmtree(work.tree.path)
    request = ApplyRequest("v1.0", str(work.team.upstream.path), worktree=work.tree.path)
    applied = apply(Context(work.team.repository, work.settings), request)
    assert applied.placed
    assert applied.placed.kept
    assert work.tree("rev-parse", applied.placed.kept) == mine


def test_an_absorb_can_be_taken_back(work: Work) -> None:
    work.edit("line thirty\n", "line thirty, and more\n")
    work.edit("line 12\n", "line twelve\n")
    old, edits, head = work.files(), work.tree("diff"), work.tree.head()
    assert work.run("absorb").status == 0
    assert work.files() != old
    assert work.fixtool("undo", cwd=work.team.root).status == 0
    assert (work.files(), work.tree("diff", "HEAD"), work.tree.head()) == (old, edits, head)


def test_lines_of_two_patches_side_by_side_are_told_apart_by_what_is_edited(work: Work) -> None:
    work.edit("line five\n", "line five, and more\n")
    work.edit("line thirty\n", "line thirty\nline thirty and a third\n")
    ran = work.run("absorb")
    assert ran.status == 0, ran.err
    assert "+line five, and more" in work.text("five")
    assert "+line thirty and a third" in work.text("thirty")
    assert work.is_sound()
    ran = work.run("absorb")
    assert (ran.status, "there is nothing to absorb" in ran.out) == (0, True)
    assert "export" not in ran.out
    work.edit("line five, and more\n", "line five, and mine\n")
    work.tree("commit", "--quiet", "--all", "--message", "mine")
    ran = work.run("absorb")
    assert (
        ran.status,
        "its commits are not in the patches yet\nnext      fixtool export" in ran.out,
    ) == (0, True)
    assert document(work.run("absorb", "--json"))["edits"] == []


@pytest.mark.parametrize("words", [("absorb",), ("absorb", "--json")])
def test_an_absorb_that_was_killed_before_it_wrote_is_ended_by_the_next(
    work: Work, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The commits of the work tree had the edit. The next absorb found none, and ended with 0."""

    @contextmanager
    def killed(*given: Any) -> Iterator[None]:
        with suppress(KeyboardInterrupt), edits.take_over(*given[:-1], lambda: True):
            raise KeyboardInterrupt
        raise CannotRun("killed")
        yield

    old = work.files()
    work.edit("line five\n", "line five, and more\n")
    with monkeypatch.context() as patched:
        patched.setattr("fixtool.edit.refresh.take_over", killed)
        assert work.run("absorb").status == 4
    assert work.files() == old
    assert work.tree("diff", "HEAD") == ""
    assert work.run(*words, "--dry-run").status == 0
    assert work.files() == old
    ran = work.run(*words)
    assert ran.status == 0, ran.out
    assert "+line five, and more" in work.text("five")
    assert work.is_sound()
    assert "there is nothing to absorb" in work.run("absorb").out


WAYS = {
    "absorb": ("absorb",),
    "refresh": ("refresh", "five", "--take", "python/model.py:1"),
    "another": ("refresh", "thirty"),
    "new": ("new", "mine", "-m", "model: mine", "--take", "python/model.py:1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_run_has_left_is_written_though_other_edits_are_there(
    work: Work, way: str
) -> None:
    """The next run wrote the patch of the other edits alone, or nothing, and ended with 0."""
    work.edit("line five\n", "line five, and more\n")
    work.edit("line thirty\n", "line thirty, and more\n")
    text = (work.tree.path / "python/model.py").read_text()
    (work.tree.path / "own.txt").write_text("of no patch\n")
    work.tree("add", "own.txt")
    first = WAYS["refresh"] if way == "another" else WAYS[way]
    where = "series.commit.look_at"
    with (
        mock.patch(f"fixtool.{where}", side_effect=KeyboardInterrupt),
        mock.patch("fixtool.edit.refresh.digest_of", side_effect=map(str, range(9))),
    ):
        assert work.run(*first).status == 130
    ran = work.run(*WAYS[way])
    assert ran.status == 0, ran.err
    patch = "mine" if way == "new" else "five"
    assert "+line five, and more" in work.text(patch)
    assert patch in ran.out
    assert ("line thirty, and more" in work.text("thirty")) == (way in ("absorb", "another"))
    assert (work.tree.path / "python/model.py").read_text() == text
    assert "own.txt" in work.tree("ls-files")
    assert work.is_sound(clean=False)


def test_what_is_not_ready_is_refused(work: Work) -> None:
    work.edit("line five\n", "line five, and more\n")
    (work.folder / "six.patch").write_text(work.text("six") + "\n")
    for words in (("absorb",), ("refresh", "five")):
        ran = work.run(*words)
        assert (ran.status, "six.patch is not committed" in ran.err) == (1, True)
    assert work.fixtool("absorb", "--worktree", work.team.root).status == 4
    assert work.run("absorb", "--ours", "--theirs").status == 2
    work.git("checkout", "--quiet", "--", ".")
    (work.tree.repo.git_dir / "MERGE_HEAD").write_text(work.tree.head() + "\n")
    ran = work.run("refresh", "five")
    assert (ran.status, "git is in the middle of a merge here" in ran.err) == (1, True)


def test_an_edit_that_takes_all_of_a_patch_back_is_refused_where_it_was_made(work: Work) -> None:
    """The place in the message was the name of the patch."""
    work.tree("checkout", "HEAD~", "--", "README.txt")
    before = work.tree.snapshot()
    ran = work.run("refresh", "read")
    assert (ran.status, "read would change nothing any more" in ran.err) == (1, True)
    assert f"at: {work.tree.path}\n" in ran.err
    assert "fixtool drop read --reason WHY" in ran.err
    assert work.tree.snapshot() == before


def test_somebody_else_has_changed_the_patch_too(work: Work, tmp_path: Path) -> None:
    other = work.worktree(tmp_path / "other")
    work.edit("line thirty\n", "line thirty, says Ada\n")
    assert work.run("absorb").status == 0
    work.tree = other
    work.edit("line thirty\n", "line thirty, says Bob\n")
    before = work.state()
    ran = work.run("absorb")
    assert (ran.status, "conflict  thirty: python/model.py" in ran.out) == (3, True)
    assert "would go into thirty" in ran.out
    assert "+line thirty, says Ada" in work.text("thirty")
    assert work.state() == before
    commands = [line.partition("  ")[2].strip() for line in ran.out.splitlines()
                if " git -C " in line or " fixtool " in line]  # fmt: skip
    add, take_up, again, theirs = commands
    assert theirs.startswith(f"fixtool absorb --worktree {other.path} --theirs")
    other(*add.split()[3:])
    other(*take_up.split()[3:], check=False)
    assert "<<<<<<<" in (other.path / "python/model.py").read_text()
    other.write("python/model.py", THIRTY.replace("line thirty\n", "line thirty, say both\n"))
    assert work.fixtool(*again.split()[1:], cwd=work.team.root).status == 0
    assert "+line thirty, say both" in work.text("thirty")
    assert work.is_sound()


LATE = {
    "refused": (Refused("late"), 1),
    "a wrong pair": (UsageError("late"), 2),
    "another run is at work": (CannotRun("late"), 4),
    "a full disk": (OSError(28, "No space left on device"), 4),
    "a fault": (ValueError("late"), 70),
    "interrupted": (KeyboardInterrupt(), 130),
}  # fmt: skip


@pytest.mark.parametrize("words", [("refresh", "thirty"), ("absorb",)])
def test_what_fails_late_leaves_the_commits_of_the_work_tree(
    work: Work, words: tuple[str, ...]
) -> None:
    """Only what was refused was taken back: the branch stayed moved after any other failure."""
    work.edit("line thirty\n", "line thirty, and more\n")
    work.tree("add", "--update")
    work.edit("line thirty, and more\n", "line thirty, and much more\n")
    before = work.state()
    for name, (error, status) in LATE.items():
        with mock.patch("fixtool.edit.export.rewrite_and_commit", side_effect=error):
            assert work.run(*words).status == status, name
        assert work.state() == before, name
    with mock.patch("fixtool.edit.export.write_record", side_effect=OSError(28, "full")):
        assert work.run(*words).status == 4
    assert "+line thirty, and much more" in work.text("thirty")
    assert refreshing.has_edits(work.tree.repo) is False  # the file has them, and the commit too
    again = work.run("refresh")
    assert (again.status, "0 files written" in again.out) == (0, True), again.out
    assert work.is_sound()


@pytest.mark.parametrize("step", ["read-tree", "update-refs", "export"])
def test_a_run_that_is_cut_loses_nothing(work: Work, step: str) -> None:
    """Whatever was done before the cut, the same command does the rest."""
    work.edit("line thirty\n", "line thirty, and more\n")

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    places = {"read-tree": "fixtool.edit.refresh.take_over", "export": "fixtool.edit.refresh.export",
              "update-refs": "fixtool.git.repo.Repo.update_refs"}  # fmt: skip
    old = work.files()
    with mock.patch(places[step], cut):
        assert work.run("refresh", "thirty").status == 130
    assert work.files() == old
    assert "line thirty, and more\n" in (work.tree.path / "python/model.py").read_text()
    assert work.run("refresh", "thirty").status == 0
    assert "+line thirty, and more" in work.text("thirty")
    assert work.is_sound()
    assert refreshing.has_edits(work.tree.repo) is False
