"""Patches that `apply` leaves out: since upstream has them, or since a person said so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtool.apply.run import Applied
from fixtool.git.objects import Oid
from fixtool.judgement.line import Choice
from fixtool.series.trailers import with_trailer
from fixtool.sources.resolve import Target
from support.json_documents import document
from support.rebase import FIVE, FIVE_AND_TWENTY, OTHER, REWRITTEN
from support.repositories import NUMBERS, Git, Ran, Team

Run = Callable[..., Ran]
OTHERWISE = NUMBERS.replace("line 5\n", "line 5 cured otherwise\n")


@pytest.mark.parametrize(
    ("ref", "name"),
    [("v1.1", "v1.1"), ("a1" * 20, "a1a1a1a1a"), ("feature/x", "a1a1a1a1a"), ("-x", "a1a1a1a1a")],
)
def test_the_name_of_a_new_line_for_a_target(team: Team, ref: str, name: str) -> None:
    target = Target(ref, Oid("a1" * 20), Oid("b2" * 20), "git")
    choice = Choice(team.repository.line("main"), "the only line", None)  # type: ignore[arg-type]
    assert Applied(target, choice, None).new_line == name


def test_a_patch_that_upstream_has_is_left_out_and_told(team: Team, fixtool: Run) -> None:
    """`apply` once stopped here, although the patch itself named the commit that took it."""
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    took = team.upstream.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(with_trailer(raw, "Applied-Upstream", f"{took}, #12"))
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "main")
    text = fixtool("apply", *place, "--no-build")
    assert text.status == 0, text.err
    assert f"left out  five: absorbed, upstream took #12 as {took[:12]}" in text.out
    body = document(fixtool("apply", *place, "--dry-run", "--json"))
    assert body["left_out"] == ["five"]
    five, other = body["patches"]
    assert (five["verdict"], five["commit"], five["culprit"]["sha"]) == ("absorbed", None, took)
    assert other["verdict"] == "clean"


def test_a_patch_is_left_out_by_hand(team: Team, fixtool: Run) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "v1.0")
    whole = document(fixtool("apply", *place, "--dry-run", "--json"))
    body = document(fixtool("apply", *place, "--dry-run", "--json", "--without", "five.patch"))
    assert [patch["verdict"] for patch in body["patches"]] == ["left-out", "clean"]
    assert (body["left_out"], whole["left_out"]) == (["five"], [])
    assert body["tree"] != whole["tree"]
    text = fixtool("apply", *place, "--no-build", "--without", "five")
    assert "left out  five: by hand" in text.out


def test_what_is_left_out_has_to_exist(team: Team, fixtool: Run) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "v1.0")
    answer = fixtool("apply", *place, "--without", "six")
    assert answer.status == 2
    assert "has no patch 'six'; it has: five" in answer.err


def test_what_depends_on_it_goes_with_it_or_is_refused(team: Team, fixtool: Run) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    raw = team.patch("other", "fix other", python__other_py=OTHER)
    path = team.root / "patches/main/other.patch"
    path.write_bytes(with_trailer(raw, "Depends-On", "five"))
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "v1.0", "--dry-run")
    answer = fixtool("apply", *place, "--without", "five")
    assert answer.status == 2
    assert "other depends on five, which is to be left out" in answer.err
    assert "--without five --without other" in answer.err
    both = fixtool("apply", *place, "--without", "five", "--without", "other", "--json")
    assert document(both)["left_out"] == ["five", "other"]


def test_what_needs_it_to_apply_is_blocked(team: Team, fixtool: Run) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git("checkout", "--quiet", "patch/five")
    team.patch("more", "fix more", base="patch/five", python__model_py=FIVE_AND_TWENTY.replace(
        "line 5 fixed\n", "line 5 fixed more\n"
    ))  # fmt: skip
    git("checkout", "--quiet", "main")
    place = ("-C", team.root, "--source", git.path, "--sglang-ref", "v1.0", "--dry-run")
    answer = document(fixtool("apply", *place, "--without", "five", "--json"))
    assert answer["exit_code"] == 3
    assert [patch["verdict"] for patch in answer["patches"]] == ["left-out", "blocked"]
    assert answer["patches"][1]["evidence"][-1] == "it needs five"


def test_a_patch_that_does_not_fit_its_own_base_is_not_rebased(team: Team, fixtool: Run) -> None:
    """The advice was to rebase onto the commit on which the line is."""
    team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(path.read_bytes().replace(b"\n line 4\n", b"\n line 4 by hand\n"))
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "v1.0")
    answer = fixtool("apply", *place, "--no-build")
    assert answer.status == 3, answer.err
    assert "its file was changed by hand" in answer.out
    (command,) = [line[10:] for line in answer.out.splitlines() if line.startswith("next  ")]
    found = fixtool(*command.split()[1:])
    assert (found.status, "five.patch:1: error: does not apply" in found.out) == (1, True), (
        found.out
    )


def test_the_next_command_leaves_out_what_conflicts(team: Team, fixtool: Run) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "main")
    answer = fixtool("apply", *place, "--no-build")
    assert answer.status == 3
    (command,) = [line[10:] for line in answer.out.splitlines() if line.startswith("or  ")]
    words = command.replace("fixtool ", "").split()
    assert words[0] == "apply"
    again = fixtool(*words, "-C", team.root, "--dry-run")
    assert again.status == 0, again.err


def test_a_history_that_cannot_be_read_is_told(team: Team, fixtool: Run) -> None:
    """The clone has the files of the base and of the target, and none of those between."""
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git("config", "uploadpack.allowFilter", "true")
    for text in ("line 0\n" + NUMBERS, NUMBERS + "more\n"):
        git.commit("change", python__model_py=text)
    words = ("clone", "--quiet", "--filter=blob:none", "--no-checkout")
    git(*words, f"file://{git.path}", str(team.root / "partial"))
    partial = Git(team.root / "partial")
    for ref in ("v1.0", "main"):
        partial("checkout", "--quiet", ref)
    place = ("-C", team.root, "--source", partial.path, "--sglang-ref", "main", "--dry-run")
    answer = document(fixtool("apply", *place, "--json"))
    assert answer["patches"][0]["verdict"] == "clean"
    (note,) = answer["notes"]
    assert note.startswith("upstream's history was not read: ")
    assert "is a partial clone and lacks files" in note


def test_only_what_is_in_conflict_is_shown(team: Team, fixtool: Run) -> None:
    """A patch for many files once hid its conflict among lines that said that all is well. There is
    nothing to apply without the only patch, so no command without it is offered."""
    team.patch("both", "fix both", python__model_py=FIVE_AND_TWENTY, python__other_py=OTHER)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    place = ("-C", team.root, "--source", team.upstream.path, "--sglang-ref", "main")
    shown = fixtool("apply", *place, "--dry-run")
    assert shown.status == 3
    assert "python/model.py: conflict" in shown.out
    assert "hunk 1: conflict" in shown.out
    assert "python/other.py" not in shown.out.replace("conflict in python/model.py", "")
    assert "hunk 2" not in shown.out
    assert "--without" not in shown.out
    verbose = fixtool("apply", *place, "--dry-run", "--verbose")
    assert "python/other.py: clean" in verbose.out
    assert "hunk 2: clean" in verbose.out
