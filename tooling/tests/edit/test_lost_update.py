"""What two maintainers change in the same line meets: no change is lost without a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.edit.merging import with_others
from fixtool.settings import Settings
from support.editing import is_well_formed, make_worktree
from support.json_documents import document
from support.repositories import NUMBERS, TRAILERS, Git, Ran, Team

FIVE = NUMBERS.replace("line 5\n", "line five\n")
TWENTY = FIVE.replace("line 20\n", "line twenty\n")
WHY = f"Why.\n\n{TRAILERS}"


class Two:
    """Two work trees, of Ada and of Bob, of a line with the patches `five`, `twenty` and `read`."""

    def __init__(
        self, fixtool: Callable[..., Ran], team: Team, settings: Settings, folder: Path
    ) -> None:
        team.patch("five", "model: say five", python__model_py=FIVE)
        team.patch("twenty", "model: say twenty", "patch/five", python__model_py=TWENTY)
        team.patch("read", "docs: read", README_txt="read it\n")
        self.fixtool, self.team, self.git = fixtool, team, team.track()
        self.folder = team.root / "patches" / "main"
        self.settings = settings
        self.ada, self.bob = self.worktree(folder / "ada"), self.worktree(folder / "bob")

    def worktree(self, place: Path) -> Git:
        return make_worktree(self.team, self.settings, place)

    def refresh(self, tree: Git, *words: str) -> Ran:
        return self.fixtool("refresh", *words, "--worktree", tree.path, cwd=self.team.root)

    def amend(self, tree: Git, slug: str, message: str | None = None, **files: str | None) -> None:
        """Amend the commit of a patch, and put the later ones onto it again."""
        place = ["five", "twenty", "read"].index(slug)
        commits = tree("rev-list", "--reverse", "HEAD", "-3").split()
        tree("reset", "--hard", "--quiet", commits[place])
        for name, text in files.items():
            path = name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt")
            if text is None:
                (tree.path / path).unlink()
            else:
                tree.write(path, text)
        tree("add", "--all")
        tree("commit", "--amend", "--quiet", *(("-m", message) if message else ("--no-edit",)))
        for commit in commits[place + 1 :]:
            tree("cherry-pick", "--strategy-option=patience", commit)

    def text(self, slug: str) -> str:
        return (self.folder / f"{slug}.patch").read_text()

    @property
    def slugs(self) -> list[str]:
        return self.team.slugs

    def is_sound(self) -> bool:
        return is_well_formed(self.fixtool, self.team)


@pytest.fixture
def two(fixtool: Callable[..., Ran], team: Team, settings: Settings, tmp_path: Path) -> Two:
    return Two(fixtool, team, settings, tmp_path)


def test_changes_of_one_patch_that_go_together_are_merged(two: Two) -> None:
    two.amend(two.ada, "five", new_txt="of Ada\n")
    two.amend(two.bob, "five", other_txt="of Bob\n")
    assert two.refresh(two.ada).status == 0
    ran = two.refresh(two.bob)
    assert ran.status == 0, ran.err
    assert "merged    five" in ran.out
    assert "note      five was changed here and in the line: both are in it now" in ran.out
    assert "of Ada" in two.text("five")
    assert "of Bob" in two.text("five")
    assert two.is_sound()
    again = two.refresh(two.bob)
    assert "0 files written" in again.out
    assert "five is newer in the line than in this work tree: it is kept" in again.out
    assert two.refresh(two.ada).status == 0
    assert "of Bob" in two.text("five")


def test_changes_of_several_patches_and_of_messages_are_merged(two: Two) -> None:
    two.amend(two.ada, "five", f"model: say five\n\nIn the first place.\n\n{WHY}")
    two.amend(two.bob, "five", f"model: say five at last\n\n{WHY}", other_txt="of Bob\n")
    two.amend(two.bob, "read", README_txt="read it twice\n")
    assert two.refresh(two.ada).status == 0
    assert two.refresh(two.bob).status == 0
    assert "Subject: [PATCH] model: say five at last" in two.text("five")
    assert "In the first place." in two.text("five")
    assert "of Bob" in two.text("five")
    assert "+read it twice" in two.text("read")
    assert two.is_sound()


def test_what_only_the_line_has_changed_is_kept(two: Two) -> None:
    two.amend(two.ada, "five", python__model_py=FIVE.replace("line 1\n", "line one\n"))
    assert two.refresh(two.ada).status == 0
    newest = two.text("five")
    assert "+line one" in newest
    ran = two.refresh(two.bob)
    assert ran.status == 0
    assert "five is newer in the line" in ran.out
    assert two.text("five") == newest
    two.amend(two.bob, "read", README_txt="read it twice\n")
    ran = two.refresh(two.bob, "read")
    assert (ran.status, "rewritten read" in ran.out) == (0, True)
    assert two.text("five") == newest
    assert two.is_sound()


def test_a_part_of_what_the_line_has_changed_takes_nothing_of_it_back(two: Two) -> None:
    """Both sides had changed the patch, and the merge was the line's version. The next refresh took
    the work tree's older one for a change of it."""
    two.amend(two.ada, "five", new_txt="of both\n", other_txt="of Ada\n")
    two.amend(two.bob, "five", new_txt="of both\n")
    assert two.refresh(two.ada).status == 0
    for _ in range(2):
        ran = two.refresh(two.bob)
        assert (ran.status, "0 files written" in ran.out) == (0, True), ran.out
        assert "of Ada" in two.text("five")
    two.amend(two.bob, "five", more_txt="of Bob\n")
    assert two.refresh(two.bob).status == 0
    assert "of Ada" in two.text("five")
    assert "of Bob" in two.text("five")


def test_blanks_are_a_change(two: Two) -> None:
    """git's patch-id takes no notice of them, so a new indentation once was no change."""
    two.amend(two.ada, "read", README_txt="    read it\n")
    assert two.refresh(two.ada).status == 0
    two.amend(two.bob, "five", python__model_py=FIVE.replace("line 1\n", "line one\n"))
    ran = two.refresh(two.bob)
    assert "read is newer in the line" in ran.out
    assert "+    read it\n" in two.text("read")
    assert "+line one" in two.text("five")


def both_change_a_line(two: Two) -> None:
    two.amend(two.ada, "read", README_txt="read it, says Ada\n")
    two.amend(two.bob, "read", README_txt="read it, says Bob\n")
    assert two.refresh(two.ada).status == 0


def test_what_cannot_be_merged_is_shown_and_nothing_is_written(two: Two) -> None:
    both_change_a_line(two)
    before = {path.name: path.read_bytes() for path in two.folder.iterdir()}
    ran = two.refresh(two.bob)
    assert ran.status == 3
    assert "conflict  read: README.txt" in ran.out
    assert f"work tree  changed README.txt in {two.bob.head()[:12]}" in ran.out
    assert "line       changed README.txt" in ran.out
    assert {path.name: path.read_bytes() for path in two.folder.iterdir()} == before
    found = document(two.refresh(two.bob, "--json"))
    (conflict,) = found["conflicts"]
    assert (conflict["slug"], conflict["paths"]) == ("read", ["README.txt"])
    exported = two.fixtool("export", "--worktree", two.bob.path, cwd=two.team.root)
    assert (exported.status, exported.out) == (3, ran.out)


@pytest.mark.parametrize(("side", "name"), [("--ours", "Bob"), ("--theirs", "Ada")])
def test_a_person_chooses_a_side(two: Two, side: str, name: str) -> None:
    both_change_a_line(two)
    assert two.refresh(two.bob, side).status == 0
    assert f"+read it, says {name}" in two.text("read")
    assert two.is_sound()
    again = two.refresh(two.bob)
    assert (again.status, "0 files written" in again.out) == (0, True)
    assert f"+read it, says {name}" in two.text("read")
    assert two.refresh(two.bob, "--ours", "--theirs").status == 2


def test_the_change_of_the_line_can_be_taken_up_as_it_is_said(two: Two) -> None:
    both_change_a_line(two)
    out = two.refresh(two.bob).out
    command = next(line for line in out.splitlines() if "cherry-pick" in line).split()
    two.bob(*command[4:], check=False)
    assert "<<<<<<<" in (two.bob.path / "README.txt").read_text()
    early = two.refresh(two.bob, "read", "--ours")
    assert (early.status, "a conflict marker is left" in early.err) == (1, True)
    two.bob.write("README.txt", "read it, say Ada and Bob\n")
    command = next(line for line in out.splitlines() if line.endswith("--ours")).split()
    assert two.fixtool(*command[1:], cwd=two.team.root).status == 0
    assert "+read it, say Ada and Bob" in two.text("read")


def test_what_the_line_has_dropped_stays_out_unless_it_was_changed(two: Two) -> None:
    source = ("--source", str(two.team.upstream.path))
    drop = ("drop", "read", "--reason", "why", *source)
    assert two.fixtool(*drop, cwd=two.team.root).status == 0
    ran = two.refresh(two.bob)
    assert (ran.status, "read is not in the line any more, and stays out" in ran.out) == (0, True)
    assert two.slugs == ["five", "twenty"]
    two.amend(two.bob, "read", README_txt="read it, says Bob\n")
    ran = two.refresh(two.bob)
    assert (ran.status, "line       removed" in ran.out) == (3, True)
    assert two.refresh(two.bob, "--theirs").status == 0
    assert two.slugs == ["five", "twenty"]
    assert two.refresh(two.bob, "--ours").status == 0
    assert two.slugs == ["five", "twenty", "read"]
    assert two.is_sound()


def squash_in_the_tree(two: Two) -> None:
    """Bob squashes the second of his three commits into the first one, with plain git."""
    commits = two.bob("rev-list", "--reverse", "HEAD", "-3").split()
    two.bob("reset", "--hard", "--quiet", commits[1])
    two.bob("reset", "--soft", "--quiet", commits[0])
    two.bob("commit", "--amend", "--quiet", "--no-edit")
    two.bob("cherry-pick", commits[2])


@pytest.mark.parametrize(("side", "holds"), [("--ours", True), ("--theirs", False)])
def test_what_the_line_has_dropped_does_not_come_back_in_another_patch(
    two: Two, side: str, holds: bool
) -> None:
    """A random history found it: Bob had squashed the patch into another one, whose file then brought
    its change back, beside a note that it stays out."""
    source = ("--source", str(two.team.upstream.path))
    assert two.fixtool("drop", "twenty", "--reason", "why", *source, cwd=two.team.root).status == 0
    squash_in_the_tree(two)
    before = two.text("five")
    ran = two.refresh(two.bob)
    assert (ran.status, "work tree  squashed\n  line       removed" in ran.out) == (3, True)
    assert "conflict  twenty: the whole patch" in ran.out
    assert "conflict  five: " in ran.out
    alone = two.refresh(two.bob, "five")
    assert (alone.status, "twenty is squashed into five in the work tree" in alone.err) == (1, True)
    assert (two.slugs, two.text("five")) == (["five", "read"], before)
    ran = two.refresh(two.bob, side)
    assert (ran.status, "stays out" in ran.out) == (0, False), ran.out
    assert (two.slugs, "+line twenty" in two.text("five")) == (["five", "read"], holds)
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out


def test_a_side_that_is_chosen_for_one_squashed_patch_keeps_the_others(two: Two) -> None:
    """With the line's side, the patch that was squashed beside the dropped one was in no patch."""
    source = ("--source", str(two.team.upstream.path))
    assert two.fixtool("drop", "read", "--reason", "why", *source, cwd=two.team.root).status == 0
    two.bob("reset", "--soft", "--quiet", two.bob("rev-parse", "HEAD~2"))
    two.bob("commit", "--amend", "--quiet", "--no-edit")
    ran = two.refresh(two.bob)
    assert (ran.status, "conflict  read: the whole patch" in ran.out) == (3, True)
    before = two.text("twenty")
    assert two.refresh(two.bob, "--theirs").status == 0
    assert (two.slugs, two.text("twenty")) == (["five", "twenty"], before)
    assert "+line twenty" not in two.text("five")
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out
    assert two.slugs == ["five", "twenty"]


def squash_in_the_line(two: Two) -> None:
    words = ("squash", "five", "twenty", "--source", two.team.upstream.path)
    assert two.fixtool(*words, cwd=two.team.root).status == 0


def without(two: Two, place: int) -> None:
    """Take one of Bob's three commits out, as `git rebase` does."""
    commits = two.bob("rev-list", "--reverse", "HEAD", "-3").split()
    two.bob("reset", "--hard", "--quiet", f"{commits[0]}^")
    two.bob("cherry-pick", "--strategy-option=patience", *commits[:place], *commits[place + 1 :])


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_what_was_dropped_here_does_not_stay_in_the_patch_into_which_the_line_squashed_it(
    two: Two, side: str
) -> None:
    """The change stayed in the line, beside a note that the patch "stays out"."""
    squash_in_the_line(two)
    without(two, 1)
    before = two.text("five")
    ran = two.refresh(two.bob)
    assert (ran.status, "work tree  removed\n  line       squashed" in ran.out) == (3, True)
    assert "conflict  five: " in ran.out
    assert f"next      fixtool refresh --worktree {two.bob.path} --ours" in ran.out
    assert (two.slugs, two.text("five")) == (["five", "read"], before)
    ran = two.refresh(two.bob, side)
    assert (ran.status, "stays out" in ran.out) == (0, False), ran.out
    assert (two.slugs, "+line twenty" in two.text("five")) == (["five", "read"], side != "--ours")
    assert "+line five" in two.text("five")
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out


def test_to_drop_a_patch_does_not_drop_what_the_line_squashed_into_it(two: Two) -> None:
    """With --ours the line had neither of the two changes any more."""
    squash_in_the_line(two)
    without(two, 0)
    words = ("export", "--remove-missing", "--worktree", two.bob.path)
    ran = two.fixtool(*words, cwd=two.team.root)
    assert (ran.status, "conflict  twenty: the whole patch" in ran.out) == (3, True)
    command = next(line for line in ran.out.splitlines() if "--ours" in line).split()
    ran = two.fixtool(*command[2 : command.index("--ours") + 1], cwd=two.team.root)
    assert ran.status == 0, ran.err
    assert (two.slugs, "+line twenty" in two.text("twenty")) == (["twenty", "read"], True)
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out


def test_an_edit_of_what_the_line_has_squashed_is_kept_if_it_is_chosen(two: Two) -> None:
    """--ours once ended with the same conflict as without it."""
    squash_in_the_line(two)
    edited = TWENTY.replace("line twenty\n", "line 20 of Bob\n")
    two.amend(two.bob, "twenty", python__model_py=edited)
    ran = two.refresh(two.bob)
    assert (ran.status, "line       squashed" in ran.out) == (3, True)
    assert two.refresh(two.bob, "--ours").status == 0
    assert (two.slugs, "+line 20 of Bob" in two.text("twenty")) == (
        ["five", "twenty", "read"],
        True,
    )
    assert two.is_sound()


def test_the_same_squash_on_both_sides_is_no_conflict(two: Two) -> None:
    squash_in_the_line(two)
    squash_in_the_tree(two)
    before = two.text("five")
    ran = two.refresh(two.bob)
    assert (ran.status, "note      twenty is in five in the line now" in ran.out) == (0, True)
    assert (two.slugs, two.text("five")) == (["five", "read"], before)


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_a_hunk_that_the_line_has_moved_is_in_one_patch_of_the_chosen_side(
    two: Two, side: str
) -> None:
    """--ours took one patch from the work tree and the other one from the line: they did not fit each
    other, or a hunk was in neither."""
    two.amend(two.ada, "read", moved_txt="of the line\n")
    two.amend(two.bob, "read", moved_txt="of the line\n")
    assert two.refresh(two.ada).status == 0
    assert two.refresh(two.bob).status == 0
    commits = two.ada("rev-list", "--reverse", "HEAD", "-3").split()
    two.ada("reset", "--hard", "--quiet", commits[0])
    two.ada.write("moved.txt", "of the line\n")
    two.ada("add", "--all")
    two.ada("commit", "--amend", "--quiet", "--no-edit")
    two.ada("cherry-pick", commits[1])
    two.ada("cherry-pick", "--no-commit", commits[2])
    two.ada("commit", "--quiet", "--reuse-message", commits[2])
    assert two.refresh(two.ada).status == 0
    two.amend(two.bob, "read", moved_txt="of Bob\n")
    ran = two.refresh(two.bob)
    assert (ran.status, "conflict  read: moved.txt" in ran.out) == (3, True), ran.out
    assert "conflict  five: " in ran.out
    assert two.refresh(two.bob, side).status == 0
    texts = [two.text(slug) for slug in ("five", "read")]
    wanted = [False, True] if side == "--ours" else [True, False]
    assert ["moved.txt" in text for text in texts] == wanted
    assert ("+of Bob" in texts[1]) == (side == "--ours")
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out


def test_the_parts_of_a_patch_that_the_line_has_split_go_with_it(two: Two) -> None:
    two.amend(two.ada, "five", new_txt="of Ada\n")
    two.amend(two.bob, "five", new_txt="of Ada\n")
    assert two.refresh(two.ada).status == 0
    assert two.refresh(two.bob).status == 0
    words = ("split", "five", "--into", "part=new.txt", "--source", two.team.upstream.path)
    assert two.fixtool(*words, cwd=two.team.root).status == 0
    two.amend(two.bob, "five", new_txt="of Bob\n")
    ran = two.refresh(two.bob)
    assert ran.status == 3
    assert "conflict  part: the whole patch\n  work tree  unchanged\n  line       added" in ran.out
    assert two.refresh(two.bob, "--ours").status == 0
    assert (two.slugs, "+of Bob" in two.text("five")) == (["five", "twenty", "read"], True)
    assert two.is_sound()


def test_if_no_side_fits_a_new_work_tree_is_advised(two: Two) -> None:
    """Bob's patch stands on one that the line has dropped. The advice was to type the same command
    again."""
    source = ("--source", str(two.team.upstream.path))
    assert two.fixtool("drop", "five", "--reason", "why", *source, cwd=two.team.root).status == 0
    edited = TWENTY.replace("line five\n", "line FIVE\n")
    two.amend(two.bob, "twenty", python__model_py=edited)
    for words in ((), ("--ours",)):
        ran = two.refresh(two.bob, *words)
        assert (ran.status, "conflict  twenty: python/model.py" in ran.out) == (3, True)
        source = f"--source {two.team.upstream.path} --no-build --worktree NEW-DIR"
        assert f"next      fixtool apply -C {two.team.root} --line main {source}" in ran.out
    assert two.slugs == ["twenty", "read"]


def test_what_the_line_has_added_moved_and_renamed_stays(two: Two) -> None:
    two.ada.commit(f"area: of Ada\n\n{WHY}", of_ada_txt="new\n")
    commits = two.ada("rev-list", "--reverse", "HEAD", "-4").split()
    two.ada("reset", "--hard", "--quiet", f"{commits[0]}^")
    two.ada("cherry-pick", *(commits[at] for at in (2, 0, 1, 3)))
    assert two.refresh(two.ada).status == 0
    (two.folder / "five.patch").rename(two.folder / "first.patch")
    series = two.folder / "series"
    series.write_text(series.read_text().replace("five", "first"))
    two.git.commit("rename it")
    two.bob.commit(f"area: of Bob\n\n{WHY}", of_bob_txt="new\n")
    ran = two.refresh(two.bob)
    assert ran.status == 0, ran.out
    assert "five.patch is first.patch in the line now" in ran.out
    assert two.slugs == ["read", "first", "twenty", "area-of-ada", "area-of-bob"]
    assert two.is_sound()
    assert "0 files written" in two.refresh(two.bob).out


def test_a_patch_that_one_side_takes_out_and_the_other_changes_is_a_conflict(two: Two) -> None:
    two.amend(two.ada, "read", README_txt="read it, says Ada\n")
    assert two.refresh(two.ada).status == 0
    two.bob("reset", "--hard", "--quiet", "HEAD^")
    words = ("export", "--worktree", two.bob.path, "--remove-missing")
    ran = two.fixtool(*words, cwd=two.team.root)
    assert (ran.status, "work tree  removed" in ran.out) == (3, True)
    assert two.slugs == ["five", "twenty", "read"]
    assert two.fixtool(*words, "--ours", cwd=two.team.root).status == 0
    assert two.slugs == ["five", "twenty"]


def test_the_order_of_one_side_stays_and_two_new_orders_are_a_conflict(two: Two) -> None:
    commits = two.ada("rev-list", "--reverse", "HEAD", "-3").split()
    for tree, order in ((two.ada, (2, 0, 1)), (two.bob, (0, 2, 1))):
        tree("reset", "--hard", "--quiet", f"{commits[0]}^")
        tree("cherry-pick", *(commits[at] for at in order))
    ran = two.refresh(two.ada)
    assert (ran.status, "moved     the patches have the order" in ran.out) == (0, True)
    assert two.slugs == ["read", "five", "twenty"]
    ran = two.refresh(two.bob)
    assert (ran.status, "work tree  moved" in ran.out) == (3, True)
    assert two.refresh(two.bob, "--theirs").status == 0
    assert two.slugs == ["read", "five", "twenty"]


def test_one_patch_of_several_changed_ones_fits_the_line(two: Two) -> None:
    """Its file was once written on top of a change that was not: the line did not apply."""
    two.amend(two.ada, "five", python__model_py=FIVE.replace("line 17\n", "line seventeen\n"))
    ran = two.refresh(two.ada, "twenty")
    assert ran.status == 0, ran.out
    assert "+line seventeen" not in two.text("five")
    assert two.is_sound()
    assert two.refresh(two.ada).status == 0
    assert "+line seventeen" in two.text("five")
    assert two.is_sound()


def test_the_commit_names_the_patch_and_may_be_left_out(two: Two) -> None:
    two.amend(two.ada, "read", README_txt="read it twice\n")
    ran = two.refresh(two.ada)
    assert two.git("log", "-1", "--format=%s%n%an") == "main: refresh read\nA Maintainer"
    assert f"committed {two.git.head()[:12]}" in ran.out
    two.amend(two.ada, "read", README_txt="read it thrice\n")
    head = two.git.head()
    assert two.refresh(two.ada, "--no-commit").status == 0
    assert two.git.head() == head
    two.amend(two.ada, "read", README_txt="read it four times\n")
    ran = two.refresh(two.ada)
    assert (ran.status, "is not committed" in ran.err) == (1, True)
    assert two.refresh(two.ada, "--no-commit").status == 0
    assert "+read it four times" in two.text("read")


def test_status_says_what_is_newer_where(two: Two) -> None:
    def status(tree: Git, *words: str) -> Ran:
        return two.fixtool("status", *words, cwd=tree.path)

    ran = status(two.bob)
    assert (ran.status, "nothing differs" in ran.out) == (0, True)
    two.amend(two.ada, "five", python__model_py=FIVE.replace("line 1\n", "line one\n"))
    assert two.refresh(two.ada).status == 0
    words = f"-C {two.team.root} --line main --source {two.team.upstream.path}"
    then = f"next      fixtool apply {words} --worktree {two.bob.path} --no-build"
    assert then in status(two.bob).out
    two.amend(two.bob, "read", README_txt="read it twice\n")
    two.bob.commit(f"area: of Bob\n\n{WHY}", of_bob_txt="new\n")
    ran = status(two.bob)
    assert ran.status == 1
    table = [line.split() for line in ran.out.splitlines()[2:7]]
    assert table == [
        ["patch", "work", "tree", "line"], ["five", "unchanged", "changed"],
        ["twenty", "unchanged", "unchanged"], ["read", "changed", "unchanged"],
        ["area-of-bob", "added", "unchanged"],
    ]  # fmt: skip
    assert f"next      fixtool refresh --worktree {two.bob.path}" in ran.out
    two.bob.write("scrap.txt", "x\n")
    found = document(status(two.bob, "--json"))
    assert found["uncommitted"] == ["scrap.txt"]
    assert found["next"] == f"fixtool absorb --worktree {two.bob.path} --dry-run"
    assert two.fixtool("edit", "five", "--line", "main", cwd=two.team.root).status == 0
    waits = document(status(two.bob, "--json"))
    assert waits["next"].startswith("fixtool edit --continue --line main")
    assert waits["notes"][-1] == "fixtool edit of line main waits for you in another work tree"
    assert two.fixtool("status", cwd=two.team.root).status == 2
    assert two.fixtool("status", "--worktree", two.team.root).status == 4


def test_status_says_that_git_has_stopped(two: Two) -> None:
    with pytest.raises(AssertionError):
        two.bob("rebase", "--exec", "false", "HEAD~2")
    ran = two.fixtool("status", cwd=two.bob.path)
    assert ran.status == 1
    assert "note      git is in the middle of a rebase here" in ran.out
    assert f"next      git -C {two.bob.path} rebase --continue" in ran.out


@pytest.mark.parametrize("verb", ["merge", "rebase"])
def test_a_pull_that_conflicts_is_not_taken_for_an_edit(two: Two, verb: str) -> None:
    """The advice was to commit the markers, or to take one side and so to lose the other."""
    two.git("branch", "of-bob")
    for tree, name in ((two.ada, "main"), (two.bob, "of-bob")):
        two.git("checkout", "--quiet", name)
        two.amend(tree, "five", python__model_py=FIVE.replace("five", f"five on {name}"))
        assert two.refresh(tree).status == 0
    with pytest.raises(AssertionError):
        two.git(verb, "main")
    held = {slug: two.text(slug) for slug in two.slugs}
    leave = f"give the {verb} up: git -C {two.team.root} {verb} --abort"
    for words in (["move", "read", "--before", "five"], ["lint"], ["deps"]):
        ran = two.fixtool(*words, cwd=two.team.root)
        assert ran.status == 1
        assert (ran.out + ran.err).count(leave) == (2 if words == ["lint"] else 1)
        assert "checkout HEAD" not in ran.out + ran.err
    assert {slug: two.text(slug) for slug in two.slugs} == held
    two.git(verb, "--abort")
    assert two.is_sound()


def test_apply_says_what_is_newer_where(two: Two) -> None:
    words = ("apply", "--ref", "v1.0", "--source", two.team.upstream.path, "--no-build")
    two.amend(two.ada, "five", python__model_py=FIVE.replace("line 1\n", "line one\n"))
    assert two.refresh(two.ada).status == 0
    bob = ("--worktree", two.bob.path)
    two.amend(two.bob, "read", README_txt="read it twice\n")
    ran = two.fixtool(*words, *bob, cwd=two.team.root)
    assert ran.status == 1
    assert "read is newer in the work tree, and five is newer in the line" in ran.err
    assert two.refresh(two.bob).status == 0
    ran = two.fixtool(*words, *bob, cwd=two.team.root)
    assert (ran.status, "since this work tree was made, five was changed" in ran.out) == (0, True)
    assert "line one\n" in (two.bob.path / "python/model.py").read_text()
    assert "read it twice\n" in (two.bob.path / "README.txt").read_text()
    assert "since this" not in two.fixtool(*words, *bob, cwd=two.team.root).out


def test_with_others() -> None:
    assert with_others(["a", "c"], ["a", "b", "c"]) == ["a", "b", "c"]
    assert with_others(["a", "new", "b"], ["a", "mine", "b", "last"]) == [
        "a", "new", "mine", "b", "last",
    ]  # fmt: skip
    assert with_others(["a"], ["first", "a"]) == ["first", "a"]
    assert with_others([], ["a", "b"]) == ["a", "b"]
