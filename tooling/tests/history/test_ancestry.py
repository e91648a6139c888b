"""Which upstream changes the history of a commit holds, from its commits alone."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, UsageError
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import CommitStore
from fixtool.history.ancestry import Landing, read_upstream
from fixtool.history.log import first_parent_changes, takes_and_reverts
from support.repositories import Git

FIX = "fix: keep the group (#12)"


def commits_of(git: Git, place: Path, target: str) -> CommitStore:
    """A repository that has the commits up to ``target`` without trees, and no way to get any."""
    git("config", "uploadpack.allowFilter", "true")
    store = CommitStore.create(place, online=True)
    out = store.fetch_commit(f"file://{git.path}", target, lambda _: None)
    assert out.status == 0, out.stderr
    kinds = store.run("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").text
    assert set(kinds.split()) == {"commit"}
    return store


def landing(
    git: Git, tmp_path: Path, commit: str | None = None, pull: int | None = None
) -> Landing | None:
    """What became of a change in the history of HEAD, which a repository without trees answers in
    the same way as the whole one."""
    target = git.head()
    stores = [git.repo, commits_of(git, tmp_path / f"{target}.git", target)]
    first, again = (
        read_upstream(
            repo, target, [commit] if commit else [], [pull] if pull else []
        ).landing(commit, pull)
        for repo in stores
    )  # fmt: skip
    assert first == again
    return first


def test_a_commit_or_a_pull_request_on_the_main_line(upstream: Git, tmp_path: Path) -> None:
    before = upstream.commit("before (#11)")
    fix = upstream.commit(FIX)
    upstream.commit("after (#13)")
    for commit, pull in ((fix, None), (fix[:7], None), (None, 12), (fix, 12), ("f" * 40, 12)):
        found = landing(upstream, tmp_path, commit, pull)
        assert found is not None
        assert found.holds
        assert found.reverted is None
        assert (found.taken.sha, found.taken.pr) == (fix, 12)
        assert (found.taken.author, found.taken.subject) == ("A Person", FIX)
        assert found.taken.day == "2026-01-02"
    for commit, pull in (("f" * 40, None), ("fffffff", None), (None, 14), ("f" * 40, 14)):
        assert landing(upstream, tmp_path, commit, pull) is None
    upstream("checkout", "--quiet", "--detach", before)
    for commit, pull in ((fix, None), (fix[:7], None), (None, 12), (fix, 12)):
        assert landing(upstream, tmp_path, commit, pull) is None
    names = read_upstream(upstream.repo, Oid(before), [fix, fix[:7]], []).names
    assert names == {fix: None, fix[:7]: None}


def test_a_number_counts_at_the_end_of_a_subject(upstream: Git, tmp_path: Path) -> None:
    upstream.commit("(#12) first\n\nFollows (#12)\n(#12)")
    upstream.commit("more (#12) (#13)")
    upstream.commit("other (#112)")
    assert landing(upstream, tmp_path, pull=12) is None
    assert landing(upstream, tmp_path, pull=13) is not None


def test_taken_back_and_taken_again(upstream: Git, tmp_path: Path) -> None:
    fix = upstream.commit(FIX, python__model_py="fixed\n")
    upstream("revert", "--no-edit", "HEAD")
    revert = upstream.head()
    found = landing(upstream, tmp_path, fix, 12)
    assert found is not None
    assert not found.holds
    assert found.taken.sha == fix
    assert found.reverted is not None
    assert found.reverted.sha == revert
    upstream("revert", "--no-edit", "HEAD")
    again = upstream.head()
    found = landing(upstream, tmp_path, fix, 12)
    assert found is not None
    assert [turn.sha for turn in found.turns] == [fix, revert, again]
    assert found.holds
    assert found.taken.sha == again


@pytest.mark.parametrize("reland", ["Re-land #12: carefully (#15)", f'Reland "{FIX}" (#15)'])
def test_landed_again_by_another_pull_request(upstream: Git, tmp_path: Path, reland: str) -> None:
    upstream.commit(FIX)
    revert = upstream.commit(f'Revert "{FIX}" (#14)')
    found = landing(upstream, tmp_path, pull=12)
    assert found is not None
    assert found.reverted is not None
    assert found.reverted.sha == revert
    again = upstream.commit(reland)
    found = landing(upstream, tmp_path, pull=12)
    assert found is not None
    assert found.holds
    assert (found.taken.sha, found.taken.pr) == (again, 15)


def merge_side(upstream: Git, *messages: str) -> tuple[list[str], str]:
    """Commits on a side branch, and the merge that brings them to main."""
    upstream("checkout", "--quiet", "-b", "side")
    side = [
        upstream.commit(message, **{f"side_{len(message)}_txt": message}) for message in messages
    ]
    upstream("checkout", "--quiet", "main")
    upstream.commit("meanwhile (#90)")
    upstream("merge", "--quiet", "--no-ff", "-m", "Merge branch 'side' (#91)", "side")
    return side, upstream.head()


def test_a_commit_that_a_merge_brought(upstream: Git, tmp_path: Path) -> None:
    (fix, other), merge = merge_side(upstream, FIX, "more of it")
    found = landing(upstream, tmp_path, fix)
    assert found is not None
    assert found.taken.sha == fix
    assert landing(upstream, tmp_path, other[:9]) is not None
    # The number of a side branch's commit may be that of another repository.
    assert landing(upstream, tmp_path, pull=12) is None
    taken = landing(upstream, tmp_path, pull=91)
    assert taken is not None
    assert taken.taken.sha == merge
    upstream("checkout", "--quiet", "HEAD^")
    assert landing(upstream, tmp_path, fix) is None


def test_a_side_branch_that_names_the_number_of_another_repository(
    upstream: Git, tmp_path: Path
) -> None:
    upstream.commit(FIX)
    merge_side(upstream, "Revert something of theirs (#12)")
    found = landing(upstream, tmp_path, pull=12)
    assert found is not None
    assert found.holds


def test_what_is_remembered_is_not_taken_for_what_came_since(upstream: Git) -> None:
    repo, old = upstream.repo, Oid(upstream.commit("old"))
    assert read_upstream(repo, old, [], [12]).landing(None, 12) is None
    new = Oid(upstream.commit(FIX))
    assert read_upstream(repo, new, [], [12]).landing(None, 12) is not None
    assert read_upstream(repo, old, [], [12]).landing(None, 12) is None


def test_a_merge_that_is_taken_back(upstream: Git, tmp_path: Path) -> None:
    (fix,), merge = merge_side(upstream, FIX)
    upstream.commit("more (#92)")
    upstream("revert", "--no-edit", "-m", "1", merge)
    revert = upstream.head()
    found = landing(upstream, tmp_path, fix)
    assert found is not None
    assert found.reverted is not None
    assert found.reverted.sha == revert


def test_a_merge_that_brought_both_the_fix_and_its_revert(upstream: Git, tmp_path: Path) -> None:
    """So it is where a fork merges upstream's branch."""
    (fix, revert), _ = merge_side(upstream, FIX, f'Revert "{FIX}" (#14)')
    found = landing(upstream, tmp_path, fix)
    assert found is not None
    assert found.reverted is not None
    assert found.reverted.sha == revert


def test_a_short_id_of_two_commits(upstream: Git, tmp_path: Path) -> None:
    """It is refused even if only one of them is an ancestor."""
    import hashlib

    tree, head, bodies, pair = upstream("rev-parse", "HEAD^{tree}"), upstream.head(), {}, None
    for n in range(200_000):
        who = f"a <a@b> {n} +0000"
        body = f"tree {tree}\nparent {head}\nauthor {who}\ncommitter {who}\n\nx\n".encode()
        sha = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()
        if sha[:7] in bodies:
            pair = (bodies[sha[:7]], body)
            break
        bodies[sha[:7]] = body
    assert pair is not None
    ids = [upstream("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw) for raw in pair]
    upstream("reset", "--quiet", "--hard", ids[0])
    with pytest.raises(UsageError, match=f"{ids[0][:7]} is short for 2 commits"):
        read_upstream(upstream.repo, ids[0], [ids[0][:7]], [])
    found = read_upstream(upstream.repo, ids[0], [ids[0][:20]], []).landing(ids[0][:20], None)
    assert found is not None
    assert found.taken.sha == ids[0]


def test_a_clock_that_was_wrong(upstream: Git, tmp_path: Path) -> None:
    """A commit comes after its parents, whatever its date says."""
    tree, base = upstream("rev-parse", "HEAD^{tree}"), upstream.head()

    def commit(message: str, date: int, *parents: str) -> str:
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"{who} a <a@b> {date} +0000" for who in ("author", "committer")]
        raw = "\n".join([*lines, "", message, ""]).encode()
        return upstream("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)

    fix = commit(FIX, 1_000_000_100, base)
    other = commit("other", 1_000_000_010, fix)
    revert = commit(f'Revert "{FIX}"', 1_000_000_005, fix)
    upstream("reset", "--quiet", "--hard", commit("merge", 1_000_000_200, other, revert))
    found = landing(upstream, tmp_path, fix)
    assert found is not None
    assert found.reverted is not None
    assert found.reverted.sha == revert


def test_a_history_that_is_cut_off(upstream: Git, tmp_path: Path) -> None:
    old = upstream.commit("old (#10)")
    fix = upstream.commit(FIX)
    revert = upstream.commit(f'Revert "{FIX}" (#14)')
    tip = upstream.commit("newer (#15)")
    upstream("clone", "--quiet", "--depth=3", f"file://{upstream.path}", str(tmp_path / "clone"))
    log = read_upstream(Git(tmp_path / "clone").repo, tip, [old, fix, tip], [10, 12, 15])
    for commit, pull in ((old, None), (None, 10), (old, 10)):
        with pytest.raises(CannotRun, match=f"the history of {tip[:12]} is cut off here"):
            log.landing(commit, pull)
    found, reverted = log.landing(tip, 15), log.landing(fix, 12)
    assert found is not None
    assert found.holds
    assert reverted is not None
    assert reverted.reverted is not None
    assert reverted.reverted.sha == revert


def test_a_clone_that_is_completed_meanwhile(upstream: Git, tmp_path: Path) -> None:
    old = upstream.commit("old (#10)")
    tip = upstream.commit("newer (#15)")
    clone = Git(tmp_path / "clone")
    upstream("clone", "--quiet", "--depth=1", f"file://{upstream.path}", str(clone.path))
    repo = clone.repo
    with pytest.raises(CannotRun, match="cut off"):
        read_upstream(repo, tip, [old], []).landing(old, None)
    clone("fetch", "--quiet", "--unshallow")
    assert read_upstream(repo, tip, [old], []).landing(old, None) is not None


def test_what_was_read_serves_every_ancestor(
    upstream: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.commit(FIX)
    merge_side(upstream, "on a branch (#20)", f'Revert "{FIX}" (#21)', "more")
    upstream.commit(f'Reland "{FIX}" (#22)')
    upstream.commit("newer (#23)")
    ids, pulls = upstream("rev-list", "HEAD").split(), [12, 20, 21, 22, 23, 90, 91]
    expected = {oid: read_upstream(Repo(upstream.repo.git_dir), oid, ids, pulls) for oid in ids}
    repo = upstream.repo
    read_upstream(repo, upstream.head(), [], [])

    def run(*_: object, **__: object) -> None:
        raise AssertionError("git was asked again")

    monkeypatch.setattr(Repo, "run", run)
    for oid in ids:
        log = read_upstream(repo, oid, ids, pulls)
        for commit, pull in (*((name, None) for name in ids), *((None, pull) for pull in pulls)):
            assert log.landing(commit, pull) == expected[oid].landing(commit, pull)
            held = log.landing(commit, None) is not None if commit else None
            assert held in (None, commit in {entry for entry in log.names.values() if entry})


def test_a_history_that_is_broken(upstream: Git) -> None:
    """A commit that is missing is no end of the history."""
    old = upstream.commit("old")
    upstream.commit("newer")
    (upstream.path / ".git" / "objects" / old[:2] / old[2:]).unlink()
    with pytest.raises(CannotRun, match="git log failed"):
        read_upstream(upstream.repo, upstream.head(), ["f" * 40], [])


def test_a_change_that_was_not_asked_for(upstream: Git) -> None:
    log = read_upstream(upstream.repo, upstream.head(), ["a" * 40], [1])
    for commit, pull in (("b" * 40, None), (None, 2), ("a" * 40, 2)):
        with pytest.raises(ValueError, match="not read for"):
            log.landing(commit, pull)


def test_odd_messages(upstream: Git, tmp_path: Path) -> None:
    fix = upstream.commit("fix \x01 \x02 é\x1f\nsecond line of the subject (#12)\n\n\x01\n\nbody")
    upstream("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", "")
    upstream.commit("after")
    found = landing(upstream, tmp_path, pull=12)
    assert found is not None
    assert found.taken.sha == fix


@pytest.mark.parametrize("seed", range(4))
def test_as_the_history_of_the_main_line(upstream: Git, tmp_path: Path, seed: int) -> None:
    """`history` reads the first-parent commits with their files. Both tell the same of a change."""
    draw = random.Random(seed)
    start = upstream.head()
    subjects = [FIX, "other (#20)", FIX]
    for number in range(30, 60):
        subject = draw.choice(subjects[-6:])
        kind = draw.choice(["plain", "revert", "by id", "reland", "same"])
        ids = upstream("log", "--format=%H", "-6").split()
        messages = {
            "plain": f"change {number} (#{number})",
            "revert": f'Revert "{subject}" (#{number})',
            "by id": f"undo (#{number})\n\nThis reverts commit {draw.choice(ids)}.",
            "reland": f'Reland "{subject}" (#{number})',
            "same": subject,
        }
        upstream.commit(messages[kind])
        subjects.append(messages[kind].split("\n")[0])
    target = upstream.head()
    changes = first_parent_changes(upstream.repo, start, target)
    ids = [change.commit.sha for change in changes]
    pulls = [12, 20, *range(30, 60)]
    log = read_upstream(commits_of(upstream, tmp_path / "c.git", target), target, ids, pulls)
    turned = 0
    for named, numbers in (*(([oid], []) for oid in ids), *(([], [pull]) for pull in pulls)):
        expected = [changes[turn].commit for turn in takes_and_reverts(changes, named, numbers)]
        found = log.landing(*(named or [None]), *(numbers or [None]))
        assert list(found.turns if found else ()) == expected
        turned += len(expected) > 1
    assert turned


@pytest.mark.history
def test_sglang(tmp_path: Path) -> None:
    repo = Repo.open(Path(os.environ["FIXTOOL_SGLANG_REPO"]), bare=True)
    target, base = (
        "ca17bd83479c1e27f68419bbe05374d349b571cb",
        "b0ce16d0c577e127b3f7b82ada1739277d988687",
    )
    fixed = "89ff2bc1115c5dd33bbb5dba4ccf4f615329b411"
    begun = time.perf_counter()
    log = read_upstream(repo, target, [fixed[:9]], [26026, 26502])
    print(f"{time.perf_counter() - begun:.2f} s")
    for commit, pull in ((fixed[:9], None), (None, 26026)):
        found = log.landing(commit, pull)
        assert found is not None
        assert (found.taken.sha, found.holds) == (fixed, True)
    assert read_upstream(repo, base, [fixed], [26026]).landing(fixed, 26026) is None
