"""A patch keeps its slug whatever plain git does to its commit in the work tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fixtool.apply.run import ApplyRequest, apply
from fixtool.apply.worktree import open_worktree
from fixtool.edit.export import Exported, ExportOptions, export
from fixtool.errors import Refused, UsageError
from fixtool.series.context import Context
from fixtool.settings import Settings
from support.editing import make_worktree
from support.repositories import NUMBERS, Git, Team

FIVE = NUMBERS.replace("line 5\n", "line five, as a word\n")
TWENTY = NUMBERS.replace("line 20\n", "line twenty, as a word\n")
BOTH = FIVE.replace("line 20\n", "line twenty, as a word\n")
BETA = "alpha\nBETA in capitals\ngamma\n"
READ = "read me, and read me again\n"


class Work:
    """A work tree of a line with the patches `five` (python/model.py, docs/five.txt), `twenty`
    (python/model.py, python/other.py) and `read` (README.txt). All have the same author and date,
    so neither tells them apart."""

    def __init__(self, team: Team, settings: Settings) -> None:
        team.patch("five", "model: say five", python__model_py=FIVE, docs__five_txt="five words\n")
        team.patch("twenty", "model: say twenty", python__model_py=TWENTY, python__other_py=BETA)
        team.patch("read", "docs: read", README_txt=READ)
        self.team, self.tree = team, make_worktree(team, settings)
        self.folder = team.root / "patches" / "main"
        self.base, *self.commits = self.tree("rev-list", "--reverse", "HEAD", "-4").split()

    def export(self, **options: object) -> Exported:
        repo, record = open_worktree(self.tree.path)
        given = ExportOptions(**options)  # type: ignore[arg-type]
        return export(self.team.context, repo, record, given)

    @property
    def slugs(self) -> list[str]:
        return self.team.slugs

    def message(self, slug: str) -> str:
        return self.team.repository.line("main").find(slug).subject

    def diff(self, slug: str) -> str:
        return self.team.repository.line("main").find(slug).diff.decode()

    # -- what a person does ------------------------------------------------------------------

    def pick(self, *numbers: int) -> None:
        """Make the commits with these numbers (from 1) anew, in this order."""
        self.tree("reset", "--hard", "--quiet", self.base)
        self.again(*numbers)

    def again(self, *numbers: int) -> None:
        for number in numbers:
            self.tree("cherry-pick", self.commits[number - 1])

    def squash(self, number: int, into: int, *, subject: str | None = None) -> None:
        """Squash commit ``number`` into commit ``into``, as `git rebase -i` does."""
        self.tree("reset", "--hard", "--quiet", self.base)
        for at in sorted({1, 2, 3} - {number}):
            self.again(at)
            if at == into:
                self.tree("cherry-pick", "--no-commit", self.commits[number - 1])
                words = ("--message", subject) if subject else ("--no-edit",)
                self.tree("commit", "--amend", "--quiet", *words)

    def reword(self, subject: str) -> None:
        self.tree("commit", "--amend", "--quiet", "--message", subject)

    def edit(self, subject: str | None = None, **files: str) -> None:
        for name, text in files.items():
            self.tree.write(
                name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt"), text
            )
        words = ("--message", subject) if subject else ("--no-edit",)
        self.tree("add", "--all")
        self.tree("commit", "--amend", "--quiet", *words)


@pytest.fixture
def work(team: Team, settings: Settings) -> Work:
    return Work(team, settings)


def reworded(work: Work) -> None:
    work.pick(1)
    work.reword("area: another title")
    work.again(2, 3)


def reworded_all(work: Work) -> None:
    for number, subject in ((1, "a"), (2, "b"), (3, "c")):
        work.again(number) if number > 1 else work.pick(1)
        work.reword(subject)


def titles_changed_places(work: Work) -> None:
    work.pick(1)
    work.reword("model: say twenty")
    work.again(2)
    work.reword("model: say five")
    work.again(3)


def reworded_and_edited(work: Work) -> None:
    work.pick(1, 2)
    work.edit("area: another title", python__other_py="alpha\nBETA in capitals, and more\ngamma\n")
    work.again(3)


def all_reworded_and_edited(work: Work) -> None:
    work.pick(1)
    work.edit("a", docs__five_txt="five words, or six\n")
    work.again(2)
    work.edit("b", python__other_py="alpha\nBETA in capitals, and more\ngamma\n")
    work.again(3)
    work.edit("c", docs__read_txt="more to read\n")


def reordered(work: Work) -> None:
    work.pick(3, 1, 2)


def reordered_and_reworded(work: Work) -> None:
    work.pick(3, 2)
    work.reword("area: another title")
    work.again(1)


def split_and_one_title_kept(work: Work) -> None:
    work.pick(1)
    _split(work, "model: say twenty", "other: beta")


def split_with_new_titles(work: Work) -> None:
    work.pick(1)
    _split(work, "one half", "the other half")


def squashed(work: Work) -> None:
    work.squash(2, into=1)


def squashed_with_a_new_title(work: Work) -> None:
    work.squash(2, into=1, subject="model: say both")


def squashed_from_afar(work: Work) -> None:
    work.squash(3, into=1)


def squashed_all(work: Work) -> None:
    work.tree("reset", "--soft", work.base)
    work.tree("commit", "--quiet", "--message", "all of it")


def renamed_by_hand(work: Work) -> None:
    (work.folder / "twenty.patch").rename(work.folder / "words.patch")
    series = work.folder / "series"
    series.write_text(series.read_text().replace("twenty", "words"))


def renamed_and_reworded(work: Work) -> None:
    renamed_by_hand(work)
    reworded_all(work)


def _split(work: Work, first: str, second: str) -> None:
    work.tree.write("python/model.py", BOTH)
    work.tree("commit", "--quiet", "--all", "--message", first)
    work.tree.write("python/other.py", BETA)
    work.tree("commit", "--quiet", "--all", "--message", second)
    work.again(3)


class Kept(NamedTuple):
    """The slugs after it, and a part of each note."""

    slugs: tuple[str, ...]
    notes: tuple[str, ...] = ()


ALL = ("five", "twenty", "read")
SAME = "the same change under a new subject"
TABLE: dict[Callable[[Work], None], Kept] = {
    reworded: Kept(ALL, (SAME,)),
    reworded_all: Kept(ALL, (SAME, SAME, SAME)),
    titles_changed_places: Kept(ALL, (SAME, SAME)),
    reworded_and_edited: Kept(ALL, ("is twenty: the same author and date",)),
    all_reworded_and_edited: Kept(ALL, ("of their changed lines are the same",) * 3),
    reordered: Kept(("read", "five", "twenty")),
    reordered_and_reworded: Kept(("read", "twenty", "five"), (SAME,)),
    split_and_one_title_kept: Kept(("five", "twenty", "other-beta", "read")),
    split_with_new_titles: Kept(
        ("five", "twenty", "the-other-half", "read"), ("and is the first that does",)
    ),
    squashed: Kept(("five", "read"), ("twenty is in",)),
    squashed_with_a_new_title: Kept(
        ("five", "read"), ("it holds most of five, twenty", "squashed into five")
    ),
    squashed_from_afar: Kept(("five", "twenty"), ("squashed into five",)),
    squashed_all: Kept(("five",), ("of", "squashed into five", "squashed into five")),
    renamed_by_hand: Kept(("five", "words", "read"), ("twenty.patch is words.patch",)),
    renamed_and_reworded: Kept(
        ("five", "words", "read"), (SAME, SAME, SAME, "twenty.patch is words.patch")
    ),
}


@pytest.mark.parametrize("change", TABLE, ids=lambda change: change.__name__)
def test_identity(work: Work, change: Callable[[Work], None]) -> None:
    change(work)
    tree = work.tree("rev-parse", "HEAD^{tree}")
    exported = work.export(command="refresh")
    expected = TABLE[change]
    assert tuple(work.slugs) == expected.slugs
    assert len(exported.notes) == len(expected.notes), exported.notes
    for note, part in zip(exported.notes, expected.notes, strict=True):
        assert part in note
    files = {path.name for path in work.folder.glob("*.patch")}
    assert files == {f"{slug}.patch" for slug in expected.slugs}
    if "five" in work.slugs:
        assert "+line five" in work.diff("five")
    again = work.export(command="refresh")
    assert not again.changed
    work.tree("reset", "--hard", "--quiet", work.base)
    for slug in work.slugs:
        work.tree("am", "--quiet", str(work.folder / f"{slug}.patch"))
    assert work.tree("rev-parse", "HEAD^{tree}") == tree


def test_a_file_of_short_lines_takes_a_patch_of_long_ones(team: Team, settings: Settings) -> None:
    """Lines of a few characters were left out of the commit, and not of the patch."""
    numbers = "".join(f"{number}\n" for number in range(9))
    team.patch("five", "docs: count", docs__count_txt=numbers)
    team.patch("twenty", "model: say five", python__model_py=FIVE)
    tree = make_worktree(team, settings)
    tree.write("docs/count.txt", numbers.replace("4", "four"))
    tree("reset", "--soft", "HEAD~2")
    tree("add", "--all")
    tree("commit", "--quiet", "--message", "docs: count")
    export(team.context, *open_worktree(tree.path))
    assert team.slugs == ["five"]


def test_what_cannot_be_told_is_refused_and_a_person_says_it(work: Work) -> None:
    work.pick(1, 2)
    lines = "".join(f"something else, {number}\n" for number in range(5))
    work.tree.write("notes.txt", READ + lines)
    work.tree("add", "--all")
    work.tree("commit", "--quiet", "--message", "area: of its own", "--date", "2020-01-01")
    with pytest.raises(Refused, match="may be read, or a new patch") as refused:
        work.export()
    head = work.tree.head()
    assert refused.value.hint is not None
    assert f"fixtool export --pair read={head[:12]}" in refused.value.hint
    work.export(pairs={"read": head[:12]})
    assert work.slugs == ["five", "twenty", "read"]
    assert work.message("read") == "area: of its own"


def test_a_pair_names_what_is_there(work: Work) -> None:
    with pytest.raises(UsageError, match="is no commit of this work tree"):
        work.export(pairs={"read": "v1.0"})
    with pytest.raises(UsageError, match="has no patch 'other'"):
        work.export(pairs={"other": "HEAD"})


def test_a_patch_that_is_taken_out_is_not_found_in_a_squash(work: Work) -> None:
    work.pick(1, 3)
    with pytest.raises(Refused, match="no commit in the work tree holds twenty any more"):
        work.export()
    work.export(remove_missing=True)
    assert work.slugs == ["five", "read"]
    assert not Path(work.folder / "twenty.patch").exists()


def test_the_first_of_two_patches_that_change_one_line_is_taken_out(
    team: Team, settings: Settings
) -> None:
    """What is left takes away the line that the other one took away: it was taken for that one."""
    one, two = (NUMBERS.replace("line 5\n", f"line 5 {words}\n") for words in ("one", "one two"))
    team.patch("one", "model: say one", python__model_py=one)
    team.patch("two", "model: say two", "patch/one", python__model_py=two)
    request = ApplyRequest(ref="v1.0", source=str(team.upstream.path))
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    tree = Git(applied.placed.path)
    tree("reset", "--quiet", "--hard", "HEAD~2")
    tree.write("python/model.py", NUMBERS.replace("line 5\n", "line 5 two\n"))
    tree("add", "--all")
    tree("commit", "--quiet", "--reuse-message", applied.replay.commit)
    repo, record = open_worktree(tree.path)
    export(team.context, repo, record, ExportOptions(remove_missing=True))
    (left,) = team.repository.line("main").patches
    assert (left.slug, left.subject) == ("two", "model: say two")
