"""Verdicts, judged against what really happened to the tree."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from fixtool.documents import Field, FieldError
from fixtool.errors import CannotRun
from fixtool.git.objects import Oid
from fixtool.replay import _cache, _on_base
from fixtool.replay.run import Decisions, Earlier, Replay, on_own_base, replay
from fixtool.replay.verdict import PatchResult, PatchState, Verdict, read_patch_result
from fixtool.series.line import PatchRepository
from fixtool.series.trailers import with_trailer
from support.repositories import NUMBERS, Git, Team, format_patch


def edited(old: str, new: str, text: str = NUMBERS) -> str:
    assert old in text
    return text.replace(old, new)


def run(
    team: Team,
    onto: str = "main",
    cache: Path | None = None,
    left_out: Mapping[str, PatchState] | None = None,
) -> Replay:
    git, line = team.upstream, team.repository.line("main")
    onto = Oid(git("rev-parse", onto))
    return replay(git.repo, line, onto, cache=cache, decisions=Decisions(left_out or {}))


def file_at(git: Git, commit: str, path: str) -> str:
    return git("show", f"{commit}:{path}") + "\n"


FIX = edited("line 20\n", "line 20 fixed\n")
NEAR = edited("line 22\n", "line 22 new\n")
OTHER = "alpha\nBETA\ngamma\n"
BY_HAND = PatchState(Verdict.LEFT_OUT, ("left out by hand",))


@pytest.mark.parametrize(
    ("change", "verdict", "text"),
    [
        ({}, Verdict.CLEAN, FIX),
        ({"python__model_py": "zero\n" * 3 + NUMBERS}, Verdict.OFFSET, "zero\n" * 3 + FIX),
        ({"python__model_py": NEAR}, Verdict.MERGED, edited("line 22\n", "line 22 new\n", FIX)),
        ({"python__model_py": None, "python__moved_py": NUMBERS}, Verdict.MERGED, FIX),
    ],
    ids=["nothing changed", "more on top", "edited near it", "renamed"],
)
def test_applied(team: Team, change: dict[str, str | None], verdict: Verdict, text: str) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("change", **change)
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [verdict]
    path = "python/moved.py" if "python__moved_py" in change else "python/model.py"
    assert file_at(team.upstream, result.commit, path) == text
    if verdict is Verdict.OFFSET:
        hunk = result.patches[0].files[0].hunks[0]
        assert (hunk.offset, hunk.line) == (3, 20)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("identical", FIX),
        ("lines shifted", "zero\n" * 5 + FIX),
        ("context edited later", edited("line 22\n", "other\n", FIX)),
        ("squashed in with other changes", edited("line 35\n", "other\n", FIX)),
        ("renamed", None),
    ],
)
def test_absorbed(team: Team, case: str, text: str | None) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    moved = {} if text else {"python__moved_py": FIX}
    team.upstream.commit(case, python__model_py=text, **moved)
    result = run(team)
    assert [(patch.verdict, patch.commit) for patch in result.patches] == [(Verdict.ABSORBED, None)]
    assert result.ok
    assert result.commit == result.onto


def test_equals_git_am(team: Team, tmp_path: Path) -> None:
    """The oracle for any series is plain `git am` of the same files."""
    fix = team.patch("fix", "fix twenty", python__model_py=FIX)
    other = team.patch(
        "other", "fix beta", python__other_py="alpha\nBETA\ngamma\n", new_py="x = 1\n"
    )
    result = run(team)
    team.upstream("worktree", "add", "--quiet", "--detach", str(tmp_path / "am"), "v1.0")
    am = Git(tmp_path / "am")
    am("am", "--quiet", stdin=fix)
    am("am", "--quiet", stdin=other)
    assert result.tree == am("rev-parse", "HEAD^{tree}")


def test_partly_absorbed_names_the_hunk(team: Team) -> None:
    both = edited("line 35\n", "line 35 fixed\n", FIX)
    team.patch("fix", "fix two places", python__model_py=both)
    team.upstream.commit("half of it", python__model_py=FIX)
    result = run(team)
    hunks = [hunk.verdict for hunk in result.patches[0].files[0].hunks]
    assert (result.patches[0].verdict, hunks) == (
        Verdict.PARTLY_ABSORBED,
        [Verdict.ABSORBED, Verdict.CLEAN],
    )
    assert file_at(team.upstream, result.commit, "python/model.py") == both


def test_merged_then_reverted_is_not_absorbed(team: Team) -> None:
    """`git cherry` and `git rebase` drop such a patch in silence."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("take it", python__model_py=FIX)
    team.upstream.commit("revert it", python__model_py=NUMBERS)
    result = run(team)
    assert result.patches[0].verdict is Verdict.CLEAN
    assert file_at(team.upstream, result.commit, "python/model.py") == FIX


def test_absorbed_block_is_not_put_in_twice(team: Team) -> None:
    """`git apply` finds the repeated context further down and inserts the block again."""
    block = "begin\nend\n" * 6
    text = "".join(f"{n}\n" for n in range(10)) + block
    team.upstream("checkout", "--quiet", "-b", "base2", "v1.0")
    team.upstream.commit("base2", python__model_py=text)
    base = team.upstream("rev-parse", "HEAD")
    team.line(base=base)
    fixed = text.replace(
        "begin\nend\nbegin\nend\nbegin\n", "begin\nend\nNEW\nbegin\nend\nbegin\n", 1
    )
    raw = team.patch("fix", "insert", base=base, python__model_py=fixed)
    assert raw.count(b"\n+") >= 1
    team.upstream("checkout", "--quiet", "-B", "main", base)
    team.upstream.commit("absorb it", python__model_py="head\n" + fixed)
    result = run(team)
    assert result.patches[0].verdict is Verdict.ABSORBED
    assert result.commit == result.onto


def test_a_twin_of_the_place_is_not_the_place(team: Team) -> None:
    """Upstream rewrote the patched block; `git apply` takes the block that looks like it."""
    block = "def a():\n    x\n    y\n    z\n    end\n\n"
    filler = "".join(f"{n}\n" for n in range(20))
    team.upstream("checkout", "--quiet", "-b", "base2", "v1.0")
    text = filler + block + filler + block + filler
    base = team.upstream.commit("base2", python__model_py=text)
    team.line(base=base)
    fixed = filler + block.replace("    y\n", "    y fixed\n") + filler + block + filler
    raw = team.patch("fix", "fix the first", base=base, python__model_py=fixed)
    team.upstream("checkout", "--quiet", "-B", "main", base)
    team.upstream.commit(
        "rewrite it", python__model_py=filler + "other\n" + filler + block + filler
    )
    team.upstream("apply", "--check", "-", stdin=raw)  # git sees nothing wrong
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [Verdict.CONFLICT]
    assert "wrong place" in result.patches[0].evidence[1]


def test_a_twin_at_the_old_line_is_not_the_place(team: Team) -> None:
    """Upstream put a copy of the patched block at the old line numbers, above the block itself."""
    body = "    def f(self):\n        p\n        q\n        r\n        s\n        t\n        u\n\n"
    head = "".join(f"{n}\n" for n in range(20))
    text = f"{head}class A:\n{body}tail\n"
    team.upstream("checkout", "--quiet", "-b", "base2", "v1.0")
    base = team.upstream.commit("base2", python__model_py=text)
    team.line(base=base)
    fixed = text.replace("        r\n", "        r fixed\n")
    raw = team.patch("fix", "fix A.f", base=base, python__model_py=fixed)
    team.upstream("checkout", "--quiet", "-B", "main", base)
    twin = f"{head}class B:\n{body}class A:\n{body}tail\n"
    team.upstream.commit("add B above A", python__model_py=twin)
    team.upstream("apply", "--check", "-", stdin=raw)  # git takes the copy
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [Verdict.MERGED]
    assert "elsewhere" in result.patches[0].evidence[1]
    assert (
        file_at(team.upstream, result.commit, "python/model.py")
        == (
            f"{head}class B:\n{body}class A:\n{body}tail\n"[::-1].replace(
                "        r\n"[::-1], "        r fixed\n"[::-1], 1
            )[::-1]
        )
    )


def test_clean_stays_clean_where_the_three_way_agrees(team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("the end", python__model_py=NUMBERS + "more\n")
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [Verdict.CLEAN]
    assert file_at(team.upstream, result.commit, "python/model.py") == FIX + "more\n"


@pytest.mark.parametrize(
    ("fix", "verdict"),
    [
        ({"python__new_py": "new\n"}, Verdict.CONFLICT),
        ({"fresh__new_py": "new\n"}, Verdict.CLEAN),
    ],
    ids=["in a folder that upstream renamed", "in a folder that the patch makes"],
)
def test_where_a_new_file_goes(team: Team, fix: dict[str, str], verdict: Verdict) -> None:
    """In a folder that upstream renamed, git asks where the file goes; it is not added to the old
    folder, which nobody reads any more."""
    team.patch("fix", "add a file", **fix)
    git = team.upstream
    git("mv", "python", "lib")
    git("commit", "--quiet", "--message", "rename the folder")
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [verdict]


def test_conflict_names_file_and_hunk_and_goes_on(team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("other", "fix beta", python__other_py="alpha\nBETA\ngamma\n")
    theirs = edited("line 20\n", "line 20 theirs\n")
    team.upstream.commit("same place", python__model_py=theirs)
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [Verdict.CONFLICT, Verdict.CLEAN]
    assert not result.ok
    assert (result.patches[0].commit, result.patches[1].commit) == (None, result.commit)
    assert file_at(team.upstream, result.commit, "python/model.py") == theirs
    conflict = result.patches[0].files[0]
    assert (conflict.path, conflict.hunks[0].verdict) == ("python/model.py", Verdict.CONFLICT)
    assert conflict.hunks[0].line is None


def test_deleted_file_is_a_conflict(team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("gone", python__model_py=None)
    assert run(team).patches[0].verdict is Verdict.CONFLICT


def test_blocked_is_told_apart_from_conflict(team: Team) -> None:
    """86 reported failures were once 45 intact patches and 41 cascades."""
    team.patch("first", "first", python__model_py=FIX)
    second = edited("line 20 fixed\n", "line 20 fixed twice\n", FIX)
    team.patch("second", "second", base="patch/first", python__model_py=second)
    team.upstream.commit("same place", python__model_py=edited("line 20\n", "line 20 theirs\n"))
    verdicts = [patch.verdict for patch in run(team).patches]
    assert verdicts == [Verdict.CONFLICT, Verdict.BLOCKED]


def test_two_conflicts_that_have_nothing_to_do_with_each_other(team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("other", "fix beta", python__other_py=OTHER)
    again = edited("line 20 fixed\n", "line 20 fixed twice\n", FIX)
    team.patch("again", "fix twenty again", base="patch/fix", python__model_py=again)
    theirs = {"python__model_py": edited("line 20\n", "line 20 theirs\n")}
    team.upstream.commit("both places", python__other_py="alpha\nb\ngamma\n", **theirs)
    verdicts = [patch.verdict for patch in run(team).patches]
    assert verdicts == [Verdict.CONFLICT, Verdict.CONFLICT, Verdict.BLOCKED]
    path = team.root / "patches/main/other.patch"
    path.write_bytes(with_trailer(path.read_bytes(), "Depends-On", "fix"))
    result = run(team)
    verdicts = [patch.verdict for patch in result.patches]
    assert verdicts == [Verdict.CONFLICT, Verdict.BLOCKED, Verdict.BLOCKED]
    assert result.patches[1].evidence[-1] == "it needs fix"


@pytest.mark.parametrize("first", [Verdict.MERGED, Verdict.CONFLICT, Verdict.ABSORBED])
def test_the_next_patch_goes_on_from_the_tree_that_counts(team: Team, first: Verdict) -> None:
    """`git apply` has left another tree in the index, or none."""
    block = "def a():\n    x\n    y\n    z\n    end\n\n"
    filler = "".join(f"{n}\n" for n in range(20))
    rest = filler + block + filler
    base = team.upstream.commit("base2", python__model_py=filler + block + rest)
    team.line(base=base)
    fixed = block.replace("    y\n", "    y fixed\n")
    fix = filler + fixed + rest
    team.patch("fix", "fix the first", base=base, python__model_py=fix)
    team.patch("other", "fix beta", base=base, python__other_py=OTHER)
    theirs = {
        Verdict.MERGED: filler + block.replace("end\n", "end\nmore\n") + rest,
        Verdict.CONFLICT: filler + "rewritten\n" + rest,
        Verdict.ABSORBED: "zero\n" + fix,
    }[first]
    git = team.upstream
    git.commit("theirs", python__model_py=theirs)
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [first, Verdict.CLEAN]
    expected = theirs.replace("    y\n", "    y fixed\n", 1) if first is Verdict.MERGED else theirs
    assert file_at(git, result.commit, "python/model.py") == expected
    assert file_at(git, result.commit, "python/other.py") == OTHER


def test_a_merge_does_not_bring_back_what_is_left_out(team: Team) -> None:
    """The patches of a series are changes of their own, although each builds on those before."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    more = edited("line 30\n", "line 30 fixed\n", FIX)
    team.patch("more", "fix thirty", base="patch/fix", python__model_py=more)
    theirs = edited("line 32\n", "line 32 theirs\n")
    team.upstream.commit("theirs", python__model_py=theirs)
    result = run(team, left_out={"fix": BY_HAND})
    assert [patch.verdict for patch in result.patches] == [Verdict.LEFT_OUT, Verdict.MERGED]
    expected = edited("line 30\n", "line 30 fixed\n", theirs)
    assert file_at(team.upstream, result.commit, "python/model.py") == expected


def test_the_hunk_that_is_named_is_the_nearest(team: Team) -> None:
    """Its lines stand three times in the file."""
    block = "def a():\n    x\n    y\n    z\n    end\n\n"
    filler = "".join(f"{n}\n" for n in range(20))
    base = team.upstream.commit("base2", python__model_py=(filler + block) * 3)
    team.line(base=base)
    second = filler + block + filler + block.replace("    y\n", "    y fixed\n") + filler + block
    team.patch("fix", "fix the second", base=base, python__model_py=second)
    team.upstream.commit("on top", python__model_py="zero\n" + (filler + block) * 3)
    result = run(team)
    (hunk,) = result.patches[0].files[0].hunks
    assert (result.patches[0].verdict, hunk.offset) == (Verdict.OFFSET, 1)


def test_same_ids_whatever_the_user_configured(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    first = run(team)
    hostile = tmp_path / "hostile.gitconfig"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("applypatch-msg", "post-checkout", "reference-transaction"):
        (hooks / name).write_text("#!/bin/sh\ntouch hook-ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    hostile.write_text(
        f"[core]\nautocrlf = true\nabbrev = 4\nhooksPath = {hooks}\n[commit]\ngpgsign = true\n"
        "[diff]\nnoprefix = true\nmnemonicPrefix = true\nrenames = copies\nexternal = false\n"
        "[format]\nsubjectPrefix = XX\nsignature = sig\nnumbered = true\n[user]\nname = Mallory\n"
        "[apply]\nwhitespace = fix\nignoreWhitespace = change\n[i18n]\ncommitEncoding = latin1\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(hostile))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Mallory")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    again = replay(team.upstream.repo, PatchRepository.find(team.root).line("main"), first.onto)
    assert (again.commit, again.tree) == (first.commit, first.tree)
    assert not list(tmp_path.rglob("hook-ran"))


def test_cache_answers_and_is_checked(team: Team, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache = tmp_path / "verdicts"
    first = run(team, cache=cache)
    second = run(team, cache=cache)
    assert (first.reused, second.reused) == (0, 1)
    assert second.patches == first.patches
    old = cache / "old.json"
    old.touch()
    os.utime(old, (0, 0))
    for file in cache.iterdir():
        if file != old:
            file.write_text("{")
    assert run(team, cache=cache).commit == first.commit
    assert not old.exists()  # nobody has asked for it in a month
    for file in cache.iterdir():
        file.write_text(file.read_text().replace(first.commit, "f" * 40))
    assert run(team, cache=cache).commit == first.commit


@pytest.mark.parametrize("together", [1000, 1])
def test_each_replay_keeps_what_it_adds(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """A file has the results that one replay has added; the next ones go on after any of them."""
    monkeypatch.setattr(_cache, "_TOGETHER", together)
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("other", "fix beta", python__other_py=OTHER)
    folder, cache = team.root / "patches/main", tmp_path / "verdicts"
    first = run(team, cache=cache)
    assert len(list(cache.iterdir())) == (1 if together > 1 else 2)
    before = {path.name for path in cache.iterdir()}
    raw = (folder / "other.patch").read_bytes()
    (folder / "other.patch").write_bytes(raw.replace(b"Subject: [PATCH] ", b"Subject: [PATCH] x "))
    edited = run(team, cache=cache)
    assert edited.reused == 1
    assert run(team, cache=cache).reused == 2
    (added,) = (path for path in cache.iterdir() if path.name not in before)
    added.write_text("{")
    assert run(team, cache=cache).reused == 1
    (folder / "other.patch").write_bytes(raw)
    again = run(team, cache=cache)
    assert (again.reused, again.patches) == (2, first.patches)


HUNK = {"number": 1, "verdict": "offset", "written_for": 9, "line": 7, "offset": -2}


def read_with(**changes: object) -> PatchResult:
    hunks = [{**HUNK, **changes}]
    files = [{"path": "f", "verdict": "offset", "hunks": hunks}]
    patch = {"slug": "a", "subject": "b", "verdict": "clean", "files": files, "evidence": []}
    return read_patch_result(Field(patch))


@pytest.mark.parametrize("empty", [(), ("line",), ("line", "offset")])
def test_a_hunk_is_read_as_it_was_written(empty: tuple[str, ...]) -> None:
    (file,) = read_with(**dict.fromkeys(empty)).files
    assert [dataclasses.asdict(hunk) for hunk in file.hunks] == [{**HUNK, **dict.fromkeys(empty)}]


@pytest.mark.parametrize("key", ["number", "written_for", "line", "offset"])
@pytest.mark.parametrize("value", [True, "1", 1.0, 1 << 31, [], -(1 << 31)])
def test_a_hunk_with_another_number_is_refused(key: str, value: object) -> None:
    with pytest.raises(FieldError, match=rf"files\[0\].hunks\[0\].{key} is"):
        read_with(**{key: value})


@pytest.mark.parametrize("value", ["perfect", None, 1, [], {}])
def test_a_hunk_with_an_unknown_verdict_is_refused(value: object) -> None:
    with pytest.raises(FieldError, match=r"verdict is .* one of clean"):
        read_with(verdict=value)


def write_with_checksum(file: Path, text: str) -> None:
    """Write ``text``, the content of a file of the cache, with the checksum that it would have."""
    rest = text.partition("\n")[2]
    file.write_text(f"{hashlib.sha256(rest.encode()).hexdigest()}\n{rest}")


@pytest.mark.parametrize("part", ["parent", "author", "message", "slug"])
def test_a_cached_commit_is_believed_only_if_its_patch_makes_it(
    team: Team, tmp_path: Path, part: str
) -> None:
    """Whoever can put an object into the store and a name into the cache decides nothing."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache = tmp_path / "verdicts"
    first = run(team, cache=cache)
    git = team.upstream
    right = git("cat-file", "commit", first.commit) + "\n"
    wrong = {
        "parent": re.sub(r"parent .*\n", "", right),
        "author": right.replace("author A Person", "author Another Person"),
        "message": right.replace("fix twenty", "fix nothing"),
        "slug": right,
    }[part]
    stored = git("hash-object", "-t", "commit", "-w", "--stdin", stdin=wrong.encode())
    (file,) = cache.iterdir()
    text = file.read_text().replace(first.commit, stored)
    text = text.replace('"slug": "fix"', '"slug": "x"') if part == "slug" else text
    write_with_checksum(file, text)
    again = run(team, cache=cache)
    assert (again.commit, again.patches) == (first.commit, first.patches)
    assert again.reused == 0


def test_a_file_of_the_cache_that_was_changed_is_not_believed(team: Team, tmp_path: Path) -> None:
    """The commit has the message of its patch, and changes a file that the patch does not name."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache = tmp_path / "verdicts"
    first = run(team, cache=cache)
    git = team.upstream
    entries = git("ls-tree", first.tree)
    blob = git("hash-object", "-w", "--stdin", stdin=b"x\n")
    tree = git("mktree", stdin=f"{entries}\n100644 blob {blob}\textra\n".encode())
    wrong = git("cat-file", "commit", first.commit).replace(first.tree, tree) + "\n"
    stored = git("hash-object", "-t", "commit", "-w", "--stdin", stdin=wrong.encode())
    (file,) = cache.iterdir()
    file.write_text(file.read_text().replace(first.commit, stored))
    again = run(team, cache=cache)
    assert (again.tree, again.reused) == (first.tree, 0)


def test_the_files_of_a_cached_result_are_read_when_they_are_asked_for(
    team: Team, tmp_path: Path
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    first = run(team, cache=tmp_path / "verdicts").patches[0]
    second = run(team, cache=tmp_path / "verdicts").patches[0]
    assert "files" in vars(first)
    assert "files" not in vars(second)
    assert dataclasses.asdict(second) == dataclasses.asdict(first)
    assert (second.files, second) == (first.files, first)
    assert second.files[0].hunks
    with pytest.raises(AttributeError, match="hunks"):
        _ = second.hunks  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", ["no commit", "another verdict", "a pipe", "a link"])
def test_a_cached_result_that_cannot_be_one_is_not_believed(
    team: Team, tmp_path: Path, part: str
) -> None:
    """Without its commit, the result of a patch left it out of the tree and said that it is in."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache = tmp_path / "verdicts"
    first = run(team, cache=cache)
    (file,) = cache.iterdir()
    text = file.read_text()
    file.unlink()
    if part == "a pipe":
        os.mkfifo(file)
    elif part == "a link":
        (tmp_path / "elsewhere").write_text(text)
        file.symlink_to(tmp_path / "elsewhere")
    else:
        old, new = {
            "no commit": (f'"{first.commit}"', "null"),
            "another verdict": ('"verdict": "clean", "commit"', '"verdict": "absorbed", "commit"'),
        }[part]
        assert old in text
        write_with_checksum(file, text.replace(old, new))
    again = run(team, cache=cache)
    assert (again.commit, again.patches, again.reused) == (first.commit, first.patches, 0)


def test_a_cache_that_others_may_write_to_is_refused(team: Team, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache = tmp_path / "verdicts"
    run(team, cache=cache)
    cache.chmod(0o777)
    with pytest.raises(CannotRun, match="can be written to by every user"):
        run(team, cache=cache)


def test_a_cached_answer_is_for_the_same_target_and_base(team: Team, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    cache, git = tmp_path / "verdicts", team.upstream
    git.commit("take it", python__model_py=FIX)
    for ref, verdict in (("main", Verdict.ABSORBED), ("v1.0", Verdict.CLEAN)):
        result = run(team, ref, cache)
        assert (result.patches[0].verdict, result.reused) == (verdict, 0)
    other = git("commit-tree", "-m", "no files", git("mktree", stdin=b""))
    team.line(base=other)
    result = run(team, "v1.0", cache)
    assert (result.base, result.reused) == (other, 0)


def test_a_cached_answer_is_for_the_same_patches(team: Team, tmp_path: Path) -> None:
    """Each answer depends on all patches before it."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("other", "fix beta", python__other_py=OTHER)
    folder, cache = team.root / "patches/main", tmp_path / "verdicts"
    raw = (folder / "fix.patch").read_bytes()
    first = run(team, cache=cache)
    (folder / "fix.patch").write_bytes(raw.replace(b"+line 20 fixed", b"+line 20 mended"))
    second = run(team, cache=cache)
    assert (second.reused, second.tree == first.tree) == (0, False)
    text = file_at(team.upstream, second.commit, "python/model.py")
    assert "line 20 mended" in text
    (folder / "fix.patch").write_bytes(raw)
    third = run(team, cache=cache)
    assert (third.reused, third.tree) == (2, first.tree)
    (folder / "series").write_text("again.patch\nother.patch\n")
    (folder / "fix.patch").rename(folder / "again.patch")
    renamed = run(team, cache=cache)
    assert [patch.slug for patch in renamed.patches] == ["again", "other"]
    assert renamed.tree == first.tree
    reasons = ("left out by hand", "not now")
    for reason in reasons:
        state = PatchState(Verdict.LEFT_OUT, (reason,))
        assert run(team, cache=cache, left_out={"again": state}).patches[0].evidence == (reason,)


def test_each_result_in_a_file_of_the_cache_is_for_its_patch(team: Team, tmp_path: Path) -> None:
    """The commit that the cache has for the second patch has its message still, and another
    tree."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    raw = team.patch("other", "fix beta", python__other_py=OTHER)
    cache = tmp_path / "verdicts"
    run(team, cache=cache)
    (team.root / "patches/main/other.patch").write_bytes(raw.replace(b"+BETA", b"+Beta"))
    again = run(team, cache=cache)
    assert (again.reused, again.tree) == (1, run(team).tree)
    assert "Beta" in file_at(team.upstream, again.commit, "python/other.py")


def test_a_failure_is_not_cached(team: Team, tmp_path: Path) -> None:
    """What is missing today may be here tomorrow."""
    team.patch("other", "fix beta", python__other_py=OTHER)
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("same place", python__model_py=edited("line 20\n", "line 20 theirs\n"))
    cache = tmp_path / "verdicts"
    assert [run(team, cache=cache).reused for _ in range(2)] == [0, 1]
    texts = [file.read_text() for file in cache.iterdir()]
    assert [Verdict.CONFLICT in text for text in texts] == [False]


def test_unwritable_cache_costs_time_not_the_result(team: Team, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(team, cache=blocked / "cache").ok


def test_nothing_moves_and_no_file_is_written(team: Team) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream("checkout", "--quiet", "main")
    before = team.upstream.snapshot()
    run(team)
    assert team.upstream.snapshot() == before
    assert os.environ.get("GIT_INDEX_FILE") is None


# -- patches that were written for another commit than the base of their line -----------------


def written_for_a_later_commit(team: Team) -> str:
    """A patch that does not apply to its line's base, and the commit that it was written for."""
    later = team.upstream.commit("later", python__model_py=NEAR)
    fixed = edited("line 20\n", "line 20 fixed\n", NEAR)
    team.patch("fix", "fix twenty", base=later, python__model_py=fixed)
    return later


def test_the_files_that_a_patch_names_are_its_base(team: Team) -> None:
    later = written_for_a_later_commit(team)
    team.upstream.commit("the end", python__model_py="zero\n" + NEAR + "more\n")
    for ref, verdict in ((later, Verdict.CLEAN), ("main", Verdict.OFFSET)):
        assert run(team, ref).patches[0].verdict is verdict
    twin = NEAR[NEAR.index("line 15\n") : NEAR.index("line 26\n")]
    rewritten = NEAR.replace("line 20\n", "line XX\n")
    team.upstream.commit("a twin, and a rewrite", python__model_py=rewritten + twin)
    assert run(team).patches[0].verdict is Verdict.CONFLICT


def test_a_series_is_put_on_its_base_once(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("other", "fix beta", python__other_py=OTHER)
    theirs = {"python__model_py": edited("line 20\n", "line 20 theirs\n")}
    team.upstream.commit("both places", python__other_py="alpha\nb\ngamma\n", **theirs)
    repo, line, earlier = team.upstream.repo, team.repository.line("main"), Earlier()
    result = replay(repo, line, Oid(team.upstream("rev-parse", "main")), earlier=earlier)
    assert [patch.verdict for patch in result.patches] == [Verdict.CONFLICT, Verdict.CONFLICT]
    base = line.upstream.base
    first, second = (on_own_base(repo, line, slug, base) for slug in ("fix", "other"))
    assert second[1] == first[0]
    monkeypatch.setattr(_on_base, "apply_patch", lambda *_: pytest.fail("it is made again"))
    assert on_own_base(repo, line, "fix", base, earlier) == first
    assert on_own_base(repo, line, "other", base, earlier) == second


def test_a_text_that_fits_is_not_enough(team: Team) -> None:
    """Neither its base nor the files that it names are here, so nothing tells its place."""
    written_for_a_later_commit(team)
    path = team.root / "patches/main/fix.patch"
    old = path.read_text().split("\nindex ")[1][:40]
    path.write_text(path.read_text().replace(old, "0123456789" * 4))
    result = run(team)
    assert [patch.verdict for patch in result.patches] == [Verdict.CONFLICT]
    assert result.patches[0].evidence == ("does not apply to its own base",)
    assert result.tree == team.upstream("rev-parse", "main^{tree}")


def test_a_patch_that_changes_a_mode_which_upstream_changed_too(team: Team) -> None:
    git = team.upstream
    git("update-index", "--chmod=+x", "python/model.py")
    git("commit", "--quiet", "--message", "make it executable")
    team.add("fix", format_patch(git))
    result = run(team)
    assert result.patches[0].verdict is Verdict.ABSORBED
    assert result.patches[0].evidence == ("applying it changes nothing",)
    assert result.tree == git("rev-parse", "main^{tree}")
