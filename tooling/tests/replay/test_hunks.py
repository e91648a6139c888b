"""Where the hunks of a patch stand in upstream's file."""

from __future__ import annotations

from fixtool.git.trees import list_tree
from fixtool.replay._hunks import place
from fixtool.replay.verdict import Verdict
from fixtool.series.patch import parse
from support.repositories import NUMBERS, Team


def test_where_each_hunk_stands_and_how_far_it_moved(team: Team) -> None:
    """The first hunk is there already, two lines lower; the second fits, three lines lower; upstream
    changed the lines of the third."""
    fixed = NUMBERS
    for number in (5, 20, 35):
        fixed = fixed.replace(f"line {number}\n", f"line {number} fixed\n")
    raw = team.patch("fix", "fix three places", python__model_py=fixed)
    theirs = NUMBERS.replace("line 5\n", "line 5 fixed\n").replace("line 35\n", "changed\n")
    theirs = "first\nsecond\n" + theirs.replace("line 12\n", "line 12\nthird\n")
    team.upstream.commit("go on", python__model_py=theirs)
    repo = team.upstream.repo
    (file,) = parse(raw, "fix").files
    placed = place(file, list_tree(repo, team.upstream("rev-parse", "main")), repo.read_blob)
    assert placed.verdict is Verdict.CONFLICT
    assert [(hunk.verdict, hunk.written_for, hunk.line, hunk.offset) for hunk in placed.hunks] == [
        (Verdict.ABSORBED, 2, 4, 2),
        (Verdict.OFFSET, 17, 20, 3),
        (Verdict.CONFLICT, 32, None, None),
    ]


def test_a_renamed_file_is_looked_for_under_its_old_name(team: Team) -> None:
    lines = NUMBERS.replace("line 20\n", "line 20 fixed\n")
    git = team.upstream
    git.commit("move it", python__model_py=None, python__moved_py=lines)
    raw = git("format-patch", "-1", "--find-renames", "--full-index", "--stdout").encode()
    git.commit("go on", python__model_py="first\n" + NUMBERS, python__moved_py=None)
    repo = git.repo
    (file,) = parse(raw, "fix").files
    placed = place(file, list_tree(repo, team.upstream("rev-parse", "main")), repo.read_blob)
    assert (placed.path, placed.verdict) == ("python/moved.py", Verdict.OFFSET)
    assert [hunk.offset for hunk in placed.hunks] == [1]
