"""What a rebase and `history --record` learn about a patch goes into its trailers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.git.objects import Oid
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import read_history
from fixtool.rebase._record import recorded_files
from fixtool.rebase.result import Action, PatchOutcome
from fixtool.replay.verdict import PatchResult, Verdict
from fixtool.series import commit as journal
from fixtool.series.commit import Rewrite, open_git, rewrite_and_commit
from support.json_documents import document
from support.rebase import (
    FIVE,
    OTHER,
    PULL_REQUEST,
    REWRITTEN,
    SHIFTED,
    Maintainer,
    change_other_things,
    outcomes,
    rewrite,
    shift,
    take_reworded,
)
from support.repositories import Git

SIGN_OFF = b"Signed-off-by: A Person"


def with_trailer(raw: bytes, trailer: str) -> bytes:
    """``raw`` with a trailer before the sign-off."""
    return raw.replace(SIGN_OFF, f"{trailer}\n".encode() + SIGN_OFF)


def take(git: Git, number: int = 9) -> str:
    return git.commit(f"take it (#{number})", python__model_py=FIVE)


# -- rebase ----------------------------------------------------------------------------------


def test_a_patch_that_upstream_took_says_so_on_the_shelf(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.save()
    took = take(maintainer.upstream)
    change_other_things(maintainer.upstream)
    assert outcomes(maintainer.rebase()) == {"five": ("absorbed", "dropped")}
    shelved = maintainer.files()["shelf/five.patch"]
    assert shelved == with_trailer(raw, f"Applied-Upstream: {took}, #9")
    assert "records it too" not in maintainer.git("show", "-s", "--format=%b")
    assert maintainer.git("status", "--porcelain") == ""


def test_the_first_release_with_it_is_recorded_too(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.save()
    took = take(maintainer.upstream)
    maintainer.upstream("tag", "v1.1rc1")
    maintainer.upstream("tag", "v1.1")
    change_other_things(maintainer.upstream)
    maintainer.upstream("tag", "v1.2")
    maintainer.rebase()
    shelved = maintainer.files()["shelf/five.patch"]
    assert shelved == with_trailer(raw, f"Applied-Upstream: {took}, #9, 1.1")


def test_what_a_person_wrote_is_kept(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    took = take(maintainer.upstream)
    trailer = f"Applied-Upstream: {took[:9]} (in part), 1.1"
    maintainer.edit("five", SIGN_OFF, trailer.encode() + b"\n" + SIGN_OFF)
    maintainer.save()
    maintainer.upstream("tag", "v1.0.post1")
    maintainer.rebase()
    assert f"\n{trailer}, #9\n".encode() in maintainer.files()["shelf/five.patch"]


def test_a_patch_that_names_another_commit_keeps_it(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    other = f"Applied-Upstream: {'a1' * 20}"
    maintainer.edit("five", SIGN_OFF, other.encode() + b"\n" + SIGN_OFF)
    maintainer.save()
    take(maintainer.upstream)
    maintainer.rebase()
    assert maintainer.files()["shelf/five.patch"] == with_trailer(raw, other)


def test_a_message_that_can_take_no_trailer_stops_no_rebase(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.edit("five", SIGN_OFF, b"and more words\n" + SIGN_OFF)
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    take(maintainer.upstream)
    assert outcomes(maintainer.rebase()) == {"five": ("absorbed", "dropped")}
    assert maintainer.files()["shelf/five.patch"] == raw


def test_a_skipped_patch_gets_no_fact(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.save()
    rewrite(maintainer.upstream)
    assert outcomes(maintainer.rebase()) == {"five": ("conflict", "asked")}
    maintainer.resume("--skip")
    assert maintainer.files()["shelf/five.patch"] == raw


def test_what_upstream_takes_back_comes_back_without_the_fact(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.save()
    take(maintainer.upstream)
    maintainer.rebase()
    maintainer.upstream("revert", "--no-edit", "HEAD")
    assert maintainer.rebase()["patches"][0]["action"] == "restored"
    assert maintainer.files()["five.patch"] == raw
    assert document(maintainer.on_source("lint", "--json", "--drift"))["findings"] == []


def test_what_is_taken_back_without_a_word_comes_back_too(maintainer: Maintainer) -> None:
    """The recorded commit does not hide that upstream has the old text again."""
    raw = maintainer.patch_five()
    maintainer.save()
    git = maintainer.upstream
    take(git)
    maintainer.rebase()
    git.commit("tidy up", python__model_py=git("show", "v1.0:python/model.py") + "\n")
    assert maintainer.rebase()["patches"][0]["action"] == "restored"
    assert maintainer.files()["five.patch"] == raw


def test_a_patch_that_upstream_took_and_took_back_at_once(maintainer: Maintainer) -> None:
    """It stays in the series, and its trailer says no more that upstream has it."""
    raw = maintainer.patch_five()
    took = take(maintainer.upstream)
    trailer = f"Applied-Upstream: {took}, #9\n".encode()
    maintainer.edit("five", SIGN_OFF, trailer + SIGN_OFF)
    maintainer.save()
    maintainer.upstream("revert", "--no-edit", "HEAD")
    assert maintainer.rebase()["patches"][0]["verdict"] == "reverted"
    assert maintainer.files()["five.patch"] == raw


def test_a_patch_whose_bug_comes_back_keeps_what_cures_it(maintainer: Maintainer) -> None:
    """It was on the shelf since the older base has no bug, not since upstream took it."""
    git = maintainer.upstream
    base = change_other_things(git)
    git.commit("go on", README_txt="newer\n")
    bug = git.commit("bring it (#8)", python__other_py="alpha\nbug\ngamma\n")
    (maintainer.folder / "upstream.toml").unlink()
    maintainer.team.line(base=bug)
    maintainer.patch_five()
    cure = f"Applied-Upstream: {'a1' * 20}, #9, 1.1"
    facts = f"Fixes: {bug} (#8)\n{cure}\n".encode()
    maintainer.edit("five", SIGN_OFF, facts + SIGN_OFF)
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    older = document(maintainer.on_source("rebase", "--json", "--onto", base))
    assert outcomes(older) == {"five": ("not-needed", "dropped")}
    assert maintainer.files()["shelf/five.patch"] == raw
    assert outcomes(maintainer.rebase()) == {"five": ("clean", "restored")}
    assert maintainer.files()["five.patch"] == raw


def test_a_commit_that_cures_the_bug_in_another_way(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.add_probe("five", "line V")
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    cure = rewrite(maintainer.upstream)
    change_other_things(maintainer.upstream)
    assert outcomes(maintainer.rebase_with_probes()) == {"five": ("superseded", "dropped")}
    shelved = maintainer.files()["shelf/five.patch"]
    assert shelved == with_trailer(raw, f"Superseded-By: {cure}, #12")


def test_that_a_patch_conflicts_since_a_commit_does_not_mean_that_it_is_the_cure(
    maintainer: Maintainer,
) -> None:
    maintainer.patch_five()
    maintainer.add_probe("five", "cured")
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    rewrite(maintainer.upstream)
    maintainer.upstream.commit("cure it (#13)", python__model_py=f"{REWRITTEN}cured\n")
    assert outcomes(maintainer.rebase_with_probes()) == {"five": ("superseded", "dropped")}
    assert maintainer.files()["shelf/five.patch"] == raw


def test_a_recorded_cure_is_completed_without_a_probe(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    cure = rewrite(maintainer.upstream)
    maintainer.edit("five", SIGN_OFF, f"Superseded-By: {cure[:9]}\n".encode() + SIGN_OFF)
    maintainer.save()
    maintainer.upstream("tag", "v1.1")
    assert outcomes(maintainer.rebase()) == {"five": ("superseded", "dropped")}
    shelved = maintainer.files()["shelf/five.patch"]
    assert f"\nSuperseded-By: {cure[:9]}, #12, 1.1\n".encode() in shelved


@pytest.mark.parametrize(
    ("trailer", "recorded"),
    [
        ("Superseded-By: 1.2", False),  # a cure, but perhaps not this one
        ("Applied-Upstream: {cure}", False),  # this commit, but not as another cure
        ("Superseded-By: {cure}", True),
    ],
)
def test_only_a_patch_that_names_the_cure_needs_no_probe(
    maintainer: Maintainer, monkeypatch: pytest.MonkeyPatch, trailer: str, recorded: bool
) -> None:
    maintainer.patch_five()
    cure = UpstreamCommit(Oid("a1" * 20), "A Person", "2026-05-23", "rewrite five (#12)", 12)
    named = trailer.format(cure=cure.sha)
    maintainer.edit("five", SIGN_OFF, named.encode() + b"\n" + SIGN_OFF)
    (patch,) = maintainer.team.repository.line("main").patches
    monkeypatch.setattr("fixtool.rebase._record.release_tags", lambda _: None)
    facts = SimpleNamespace(source=None, patch=lambda _: patch)
    result = PatchResult("five", "fix five", Verdict.SUPERSEDED, None, ())
    files = recorded_files(facts, [PatchOutcome(result, Action.DROPPED, cure)], None)  # type: ignore[arg-type]
    assert list(files) == (["five"] if recorded else [])
    assert all(f"\n{named}, #12\n".encode() in file for file in files.values())


def test_a_revert_is_not_recorded_as_the_commit_that_took_a_patch(maintainer: Maintainer) -> None:
    """Upstream took the patch back, and then again without naming the pull request."""
    raw = maintainer.patch_five()
    maintainer.edit("five", b"Forwarded: no", PULL_REQUEST)
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    take(maintainer.upstream)
    maintainer.upstream("revert", "--no-edit", "HEAD")
    again = maintainer.upstream.commit("fix line 5", python__model_py=FIVE)
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {"five": ("absorbed", "dropped")}
    assert rebased["patches"][0]["culprit"]["sha"] == again
    shelved = maintainer.files()["shelf/five.patch"]
    assert shelved == with_trailer(raw, f"Applied-Upstream: {again}")


# -- rebase --new-line -----------------------------------------------------------------------


@pytest.fixture
def taken(maintainer: Maintainer) -> Maintainer:
    """A line of two patches, of which upstream took one; the first release with it is 1.1."""
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    take(maintainer.upstream)
    maintainer.upstream("tag", "v1.1")
    return maintainer


def test_a_new_line_leaves_the_fact_in_the_old_one(taken: Maintainer) -> None:
    before, head = taken.files(), taken.git("rev-parse", "HEAD")
    took = taken.upstream.head()
    rebased = taken.rebase("--new-line", "next")
    expected = with_trailer(before["five.patch"], f"Applied-Upstream: {took}, #9, 1.1")
    assert taken.files() == before | {"five.patch": expected}
    assert taken.files("next")["shelf/five.patch"] == expected
    assert taken.git("rev-list", f"{head}..") == rebased["committed"]
    assert taken.git("status", "--porcelain") == ""
    changed = taken.git("show", "--format=", "--name-only", "HEAD").split("\n")
    assert "patches/main/five.patch" in changed
    assert "patches/next/shelf/five.patch" in changed
    assert "main records it too: five.patch" in taken.git("show", "-s", "--format=%b")
    assert "#9" not in taken.git("show", "-s", "--format=%B")
    lint = document(taken.on_source("lint", "--json", "--drift"))
    assert lint["findings"] == []


def test_a_new_line_of_a_line_that_loses_nothing(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.save()
    shift(maintainer.upstream)
    before = maintainer.files()
    maintainer.rebase("--new-line", "next")
    assert maintainer.files() == before


def test_a_dry_run_records_nothing(taken: Maintainer) -> None:
    before = taken.files()
    taken.rebase("--new-line", "next", "--dry-run")
    assert taken.files() == before


def test_a_new_line_takes_the_shelf_along(maintainer: Maintainer) -> None:
    """What is on the shelf of the old line can be restored in the new one."""
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    took = take(maintainer.upstream)
    maintainer.rebase()
    change_other_things(maintainer.upstream)
    maintainer.rebase("--new-line", "next")
    shelved = maintainer.files()["shelf/five.patch"]
    assert maintainer.files("next")["shelf/five.patch"] == shelved
    maintainer.upstream("revert", "--no-edit", took)
    rebased = maintainer.rebase("--line", "next")
    assert {patch["slug"]: patch["action"] for patch in rebased["patches"]}["five"] == "restored"


@pytest.mark.parametrize("how", ["killed", "interrupted"])
@pytest.mark.parametrize("stage", ["nothing", "old line", "both lines"])
def test_killed_while_two_lines_are_written(
    taken: Maintainer, monkeypatch: pytest.MonkeyPatch, stage: str, how: str
) -> None:
    """The next command finds both lines old, or makes both new and commits them as one. A run that
    is interrupted makes both old itself."""
    before, head = taken.files(), taken.git("rev-parse", "HEAD")
    root = taken.team.root
    old = Rewrite(taken.folder, {"five.patch": before["five.patch"] + b"\n"})
    new = {"series": b"five.patch\n", "five.patch": before["five.patch"]}
    carried = []
    carry_out = Rewrite.carry_out

    def carry_out_or_die(change: Rewrite) -> None:
        if len(carried) == ["nothing", "old line", "both lines"].index(stage):
            raise KeyboardInterrupt
        carried.append(change)
        carry_out(change)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Rewrite, "carry_out", carry_out_or_die)
        patched.setattr(journal, "_commit", die)
        if how == "killed":
            patched.setattr(journal, "_put_back", die)
        with pytest.raises(KeyboardInterrupt):
            rewrite_and_commit(open_git(root), root / "patches/next", new, (), "both\n", [old])
    if how == "interrupted":
        assert not (root / ".git/fixtool.pending.json").exists()
    assert open_git(root)
    if stage == "nothing" or how == "interrupted":
        assert taken.files() == before
        assert not (root / "patches/next").exists()
        assert taken.git("rev-parse", "HEAD") == head
    else:
        assert taken.files() == before | dict(old.files)
        assert taken.files("next") == new
        assert taken.git("log", "--format=%s", f"{head}..") == "both"
    assert taken.git("status", "--porcelain") == ""
    assert open_git(root)
    assert not list((root / ".git").glob("fixtool*"))


def test_killed_while_two_lines_are_written_and_changed_since(
    taken: Maintainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person wrote in the meantime is not overwritten."""
    root, head = taken.team.root, taken.git("rev-parse", "HEAD")
    old = Rewrite(taken.folder, {"five.patch": b"new\n"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_commit", die)
        patched.setattr(journal, "_put_back", die)
        with pytest.raises(KeyboardInterrupt):
            rewrite_and_commit(open_git(root), root / "patches/next", {"a": b"a"}, (), "x\n", [old])
    (taken.folder / "five.patch").write_bytes(b"mine\n")
    assert open_git(root)
    assert (taken.folder / "five.patch").read_bytes() == b"mine\n"
    assert taken.git("rev-parse", "HEAD") == head


# -- history --record ------------------------------------------------------------------------


def test_history_suggests_what_it_would_record(taken: Maintainer) -> None:
    took, before = taken.upstream.head(), taken.files()
    ran = taken.on_source("history", "--to", "main")
    trailer = f"Applied-Upstream: {took}, #9, 1.1"
    assert f"found     {trailer}, which five does not record\n" in ran.out
    source, root = taken.upstream.path, taken.team.root
    words = f"fixtool history --to main --source {source} -C {root} --record"
    assert ran.out.endswith(f"next      {words}\n")
    answer = document(taken.on_source("history", "--to", "main", "--json"))
    assert answer["facts"] == [{"slug": "five", "trailer": trailer, "recorded": None}]
    assert taken.files() == before
    assert taken.fixtool(*shlex.split(words)[1:]).status == 0
    assert f"\n{trailer}\n".encode() in taken.files()["five.patch"]


def test_history_records_what_it_found(taken: Maintainer) -> None:
    took, before, head = taken.upstream.head(), taken.files(), taken.git("rev-parse", "HEAD")
    answer = document(taken.on_source("history", "--to", "main", "--record", "--json"))
    trailer = f"Applied-Upstream: {took}, #9, 1.1"
    path = str(taken.folder / "five.patch")
    assert answer["facts"] == [{"slug": "five", "trailer": trailer, "recorded": path}]
    assert read_history(json.loads(json.dumps(answer)), "here")
    expected = with_trailer(before["five.patch"], trailer)
    assert taken.files() == before | {"five.patch": expected}
    assert taken.git("log", "--format=%s", f"{head}..") == "main: say where five stands upstream"
    body = taken.git("show", "-s", "--format=%b")
    assert f"five: {took} (pull request 9)" in body
    assert "#9" not in body
    again = taken.on_source("history", "--to", "main", "--record")
    assert "recorded" not in again.out
    assert "next" not in again.out
    assert taken.git("rev-list", "--count", f"{head}..") == "1"


def test_history_again_finishes_what_an_interrupted_run_left(
    taken: Maintainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run finds nothing to record."""
    note = taken.team.root / ".git/fixtool.pending.json"
    commit = journal._commit

    def commit_and_end(*arguments: object) -> None:
        commit(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_commit", commit_and_end)
        assert taken.on_source("history", "--to", "main", "--record").status == 130
    assert note.exists()
    assert taken.on_source("history", "--to", "main", "--record").status == 0
    assert not note.exists()


def test_history_says_where_it_wrote(taken: Maintainer) -> None:
    ran = taken.on_source("history", "--to", "main", "--record")
    path = taken.folder / "five.patch"
    assert f"recorded  Applied-Upstream: {taken.upstream.head()}, #9, 1.1 in {path}\n" in ran.out


def test_history_records_two_patches_in_one_commit(taken: Maintainer) -> None:
    taken.upstream.commit("take beta", python__other_py=OTHER)
    head = taken.git("rev-parse", "HEAD")
    taken.on_source("history", "--to", "main", "--record")
    assert (
        taken.git("log", "--format=%s", f"{head}..") == "main: say where 2 patches stand upstream"
    )
    changed = taken.git("show", "--format=", "--name-only", "HEAD").split("\n")
    assert changed == ["patches/main/five.patch", "patches/main/other.patch"]


def test_history_records_only_the_patches_that_are_named(taken: Maintainer) -> None:
    answer = document(taken.on_source("history", "other", "--to", "main", "--record", "--json"))
    assert answer["facts"] == []
    assert b"Applied-Upstream" not in taken.files()["five.patch"]


def test_a_release_that_came_later_is_added(taken: Maintainer) -> None:
    taken.upstream("tag", "--delete", "v1.1")
    taken.on_source("history", "--to", "main", "--record")
    took = taken.upstream.head()
    assert f"\nApplied-Upstream: {took}, #9\n".encode() in taken.files()["five.patch"]
    taken.upstream("tag", "v1.1")
    taken.on_source("history", "--to", "main", "--record")
    assert f"\nApplied-Upstream: {took}, #9, 1.1\n".encode() in taken.files()["five.patch"]


def test_nothing_is_recorded_of_what_upstream_took_back(taken: Maintainer) -> None:
    taken.upstream("revert", "--no-edit", "HEAD")
    assert document(taken.on_source("history", "--to", "main", "--json"))["facts"] == []


def test_nothing_is_recorded_of_a_patch_that_names_another_commit(taken: Maintainer) -> None:
    taken.edit("five", SIGN_OFF, f"Applied-Upstream: {'a1' * 20}\n".encode() + SIGN_OFF)
    taken.save()
    assert document(taken.on_source("history", "--to", "main", "--json"))["facts"] == []


def test_a_pull_request_taken_in_another_form_is_recorded(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.edit("five", b"Forwarded: no", PULL_REQUEST)
    maintainer.save()
    took = take_reworded(maintainer.upstream)
    (fact,) = document(maintainer.on_source("history", "--to", "main", "--json"))["facts"]
    assert fact["trailer"] == f"Applied-Upstream: {took}, #9"


def test_what_is_not_committed_is_not_risked(taken: Maintainer) -> None:
    taken.edit("other", b"Why.", b"Because.")
    before = taken.files()
    ran = taken.on_source("history", "--to", "main", "--record")
    assert (ran.status, "other.patch is not committed" in ran.err) == (1, True)
    assert taken.files() == before


def test_releases_alone_tell_no_commit(taken: Maintainer) -> None:
    ran = taken.run("history", "--releases", "0.1..0.2", "--record")
    assert (ran.status, "--releases alone reads none" in ran.err) == (2, True)


def test_history_without_git_writes_the_fact(without_git: Maintainer, tmp_path: Path) -> None:
    without_git.patch_five()
    took = take(without_git.upstream)
    without_git.upstream.commit("shift", python__model_py=SHIFTED)
    ran = without_git.on_source("history", "--to", took, "--record")
    assert ran.status == 0
    assert f"\nApplied-Upstream: {took}, #9\n".encode() in without_git.files()["five.patch"]
