"""The manifest of a work tree: what it says after apply, after a person's changes, and of damage."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fixtool.apply.run import ApplyRequest, apply
from fixtool.apply.worktree import open_worktree
from fixtool.documents import Field, FieldError
from fixtool.edit.export import ExportOptions, export
from fixtool.judgement.manifest import Manifest, manifest_at, manifest_of, read_manifest
from fixtool.replay.run import Decisions, replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.context import Context
from fixtool.settings import Settings
from support.repositories import NUMBERS, Git, Team
from support.wheels import THEIRS, carried, left_out, manifest

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
BETA = "alpha\nBETA\ngamma\n"
EXAMPLE = manifest(
    carried("fix", Verdict.OFFSET),
    left_out("more", Verdict.ABSORBED, "upstream took it", culprit=THEIRS),
    own_commits=2,
)


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("beta", "fix beta", python__other_py=BETA)
    for number, slug in enumerate(("fix", "beta")):  # a person does not write two in one second
        file = team.root / f"patches/main/{slug}.patch"
        lines = file.read_text().splitlines(keepends=True)
        date = f"Date: Sat, {number + 1} Jan 2000 12:00:00 +0000\n"
        file.write_text("".join(date if line.startswith("Date: ") else line for line in lines))
    return team


@pytest.fixture
def tree(series: Team, settings: Settings) -> Git:
    return Git(apply_again(series, settings))


def apply_again(team: Team, settings: Settings) -> Path:
    request = ApplyRequest(ref="v1.0", source=str(team.upstream.path))
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    return applied.placed.path


def recorded(tree: Git) -> Manifest:
    """The manifest in the work tree's record."""
    _, record = open_worktree(tree.path)
    assert record.manifest is not None
    return record.manifest


def now(tree: Git) -> Manifest:
    """The manifest of the work tree's HEAD."""
    repo, head = tree.repo, tree.repo.head()
    assert head is not None
    found = manifest_at(recorded(tree), repo, head)
    assert found is not None
    return found


def brief(found: Manifest) -> tuple[dict[str, str], int]:
    """The verdicts of the patches that are in, ``out`` for the others; the number of own commits."""
    patches = {
        patch.slug: patch.verdict.value if patch.commit else "out" for patch in found.patches
    }
    return patches, found.own_commits


# -- after apply -------------------------------------------------------------------------------


def test_apply_records_what_it_did(series: Team, tree: Git) -> None:
    found = recorded(tree)
    line = series.repository.line("main")
    assert (found.line, found.base, found.onto) == ("main", line.upstream.base, line.upstream.base)
    assert [(patch.slug, patch.subject, patch.sha256) for patch in found.patches] == [
        (patch.slug, patch.subject, patch.digest) for patch in line.patches
    ]
    assert [patch.commit for patch in found.patches] == [
        tree("rev-parse", "HEAD~1"), tree("rev-parse", "HEAD"),
    ]  # fmt: skip
    assert brief(found) == ({"fix": "clean", "beta": "clean"}, 0)
    assert now(tree) == found


def test_what_is_left_out_stands_there_with_its_reason(series: Team) -> None:
    series.upstream.commit("theirs", python__model_py=FIX)
    repo, line = series.upstream.repo, series.repository.line("main")
    head = repo.head()
    assert head is not None
    by_hand = Decisions({"beta": PatchState(Verdict.LEFT_OUT, ("left out with --without",))})
    result = replay(repo, line, head, decisions=by_hand)
    found = manifest_of(line, head, result.patches, {"fix": THEIRS})
    assert found.carried == ()
    assert [patch.slug for patch in found.left_out] == ["fix", "beta"]
    assert [patch.slug for patch in found.left_out_by_hand] == ["beta"]
    fix, beta = found.patches
    assert (fix.verdict, fix.culprit) == (Verdict.ABSORBED, THEIRS)
    assert fix.why.startswith("absorbed, ")
    assert fix.why.endswith(f"by {THEIRS.sha[:12]} (#26)")
    assert beta.why == "left-out, left out with --without"


# -- after a person's changes ------------------------------------------------------------------


def test_commits_on_top_are_counted(tree: Git) -> None:
    tree.commit("mine", mine_py="1\n")
    tree.commit("mine too", mine_py="2\n")
    assert brief(now(tree)) == ({"fix": "clean", "beta": "clean"}, 2)


@pytest.mark.parametrize("words", [("--no-edit",), ("--message", "say it in another way")])
def test_an_amended_patch_is_found_again(tree: Git, words: tuple[str, ...]) -> None:
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--quiet", *words)
    found = now(tree)
    assert brief(found) == ({"fix": "clean", "beta": "clean"}, 0)
    assert found.patches[1].commit == tree("rev-parse", "HEAD")
    assert found.patches[1].why == "clean, its commit was changed in the work tree"
    assert found.patches[0] == recorded(tree).patches[0]
    assert found.digest != recorded(tree).digest


def test_a_patch_is_found_again_by_its_subject_alone(tree: Git) -> None:
    """As after `git commit --amend --reset-author`."""
    tree("commit", "--amend", "--quiet", "--no-edit", "--reset-author")
    assert brief(now(tree)) == ({"fix": "clean", "beta": "clean"}, 0)


def test_of_two_commits_by_the_author_of_a_patch_none_is_taken_for_it(tree: Git) -> None:
    author = ("--author", tree("show", "-s", "--format=%an <%ae>", "HEAD"))
    date = ("--date", tree("show", "-s", "--format=%aI", "HEAD"))
    tree("reset", "--hard", "--quiet", "HEAD~1")
    for subject in ("one half", "the other half"):
        tree("commit", "--quiet", "--allow-empty", "--message", subject, *author, *date)
    assert brief(now(tree)) == ({"fix": "clean", "beta": "out"}, 2)


def test_two_patches_in_another_order_are_both_found_again(tree: Git) -> None:
    fix, beta = tree("rev-parse", "HEAD~1"), tree("rev-parse", "HEAD")
    tree("reset", "--hard", "--quiet", "HEAD~2")
    tree("cherry-pick", beta, fix)
    found = now(tree)
    assert [patch.commit for patch in found.patches] == [
        tree("rev-parse", "HEAD"), tree("rev-parse", "HEAD~1"),
    ]  # fmt: skip
    assert found.own_commits == 0


def test_a_patch_that_was_taken_out_was_left_out_by_hand(tree: Git) -> None:
    tree("reset", "--hard", "--quiet", "HEAD~1")
    found = now(tree)
    assert brief(found) == ({"fix": "clean", "beta": "out"}, 0)
    assert [patch.slug for patch in found.left_out_by_hand] == ["beta"]
    assert found.patches[1].why == "left-out, its commit was taken out of the work tree"


def test_another_commit_in_its_place_is_not_taken_for_it(tree: Git) -> None:
    """Neither by its subject nor by its author and date; nor if the old commit is there no more."""
    tree("reset", "--hard", "--quiet", "HEAD~1")
    tree.commit("something else", mine_py="1\n")
    assert brief(now(tree)) == ({"fix": "clean", "beta": "out"}, 1)


def test_a_head_elsewhere_has_no_manifest(tree: Git) -> None:
    empty = tree("commit-tree", "-m", "x", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    assert manifest_at(recorded(tree), tree.repo, tree.repo.commit_id(empty)) is None  # type: ignore[arg-type]


# -- after export ------------------------------------------------------------------------------


def test_export_keeps_the_manifest_in_step(series: Team, tree: Git, settings: Settings) -> None:
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    tree.commit("area: more", more_py="y = 2\n")
    export(series.context, *open_worktree(tree.path))
    found = recorded(tree)
    assert now(tree) == found
    patches = series.repository.line("main").patches
    assert [patch.slug for patch in found.patches] == ["fix", "beta", "area-more"]
    assert [patch.sha256 for patch in found.patches] == [patch.digest for patch in patches]
    assert brief(found) == ({"fix": "clean", "beta": "clean", "area-more": "clean"}, 0)
    apply_again(series, settings)
    assert recorded(tree) == manifest_of(
        series.repository.line("main"), found.onto,
        replay(tree.repo, series.repository.line("main"), found.onto).patches,
    )  # fmt: skip


def test_a_refresh_of_one_patch_changes_one_entry(series: Team, tree: Git) -> None:
    before = recorded(tree)
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    tree.commit("area: more", more_py="y = 2\n")
    export(series.context, *open_worktree(tree.path), ExportOptions(only=["beta"]))
    found = recorded(tree)
    assert found.patches[0] == before.patches[0]
    assert found.patches[1].sha256 == series.repository.line("main").patches[1].digest
    assert brief(now(tree)) == ({"fix": "clean", "beta": "clean"}, 1)


def test_a_patch_that_left_the_line_leaves_the_manifest(series: Team, tree: Git) -> None:
    tree("reset", "--hard", "--quiet", "HEAD~1")
    export(series.context, *open_worktree(tree.path), ExportOptions(remove_missing=True))
    assert brief(now(tree)) == ({"fix": "clean"}, 0)


# -- as a document -----------------------------------------------------------------------------

DOCUMENT = json.loads(json.dumps(asdict(EXAMPLE)))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a document."""
    if not isinstance(value, dict | list):
        return []
    keys = value if isinstance(value, dict) else range(len(value))
    return [place for key in keys for place in ((*path, key), *places(value[key], (*path, key)))]


def test_it_survives_json() -> None:
    assert read_manifest(Field(DOCUMENT)) == EXAMPLE
    assert read_manifest(Field(DOCUMENT)).digest == EXAMPLE.digest


@pytest.mark.parametrize("path", places(DOCUMENT), ids=str)
def test_damage_is_noticed(path: tuple[str | int, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    *way, last = path
    place = document
    for key in way:
        place = place[key]
    place[last] = {"unexpected": True}
    with pytest.raises(FieldError, match=str(last) if isinstance(last, str) else "patches"):
        read_manifest(Field(document))


@pytest.mark.parametrize("digest", ["", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_sha256_has_its_form(digest: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["patches"][0]["sha256"] = digest
    with pytest.raises(FieldError, match="not a sha256"):
        read_manifest(Field(document))
