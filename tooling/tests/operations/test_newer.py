"""What `undo` refuses, since something newer would be lost, and what it says; the log when a run was
killed, and when a file of it is damaged."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtool.errors import FixtoolError, Refused, UsageError
from fixtool.operations import record
from fixtool.operations import undo as undoing
from fixtool.operations.log import Log, Operation
from fixtool.series.write import writing
from support.dying import run_and_die
from support.json_documents import document
from support.operations import Place, make_place
from support.repositories import Git, Ran, Team

DROP = ("drop", "other", "--reason", "unused")


@pytest.fixture
def place(
    fixtool: Callable[..., Ran], team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(fixtool, team, tmp_path, monkeypatch)


def refusal(place: Place, *words: str) -> Ran:
    """What `undo` says when it refuses; nothing changes then."""
    before = place.snapshot()
    ran = place.run(*(words or ("undo",)))
    assert ran.status == 1, ran.out + ran.err
    assert place.snapshot() == before
    return ran


# -- something newer ---------------------------------------------------------------------------


def test_a_newer_commit(place: Place) -> None:
    place.done(*DROP)
    dropped = place.maintainer.git.head()
    place.maintainer.git.commit("mine", notes_txt="mine\n")
    ran = refusal(place)
    assert "undo would lose what is newer: commit" in ran.err
    assert " mine" in ran.err
    assert f"revert {dropped}" in ran.err
    place.maintainer.git("reset", "--quiet", "--hard", "HEAD^")
    place.done("undo")


def test_an_edited_patch(place: Place) -> None:
    place.done(*DROP)
    file = place.maintainer.folder / "series"
    file.write_text(file.read_text() + "# mine\n")
    assert "patches/main/series was changed since" in refusal(place).err


def test_an_edit_in_another_patch_stays(place: Place) -> None:
    """Only what the command changed is compared, and only that is put back."""
    place.done("rename", "other", "beta")
    place.maintainer.git.write("README", "mine\n")
    place.done("undo")
    assert place.maintainer.git("status", "--porcelain") == "?? README"


@pytest.mark.parametrize("name", ["main", "it's;mine"])
def test_another_branch(place: Place, name: str) -> None:
    place.maintainer.git("branch", "--quiet", "--move", name)
    place.done(*DROP)
    place.maintainer.git("checkout", "--quiet", "-b", "topic")
    ran = refusal(place)
    assert f"another branch is checked out than {name}" in ran.err
    assert f"switch {shlex.quote(name)}, then fixtool undo" in ran.err


def test_a_commit_of_the_same_files_by_hand(place: Place) -> None:
    """A command wrote files without a commit, and the user committed them."""
    place.done("reword", "other", "-m", "other-words", "--no-commit")
    place.maintainer.git("commit", "--quiet", "--all", "--message", "by hand")
    assert "by hand" in refusal(place).err


def test_a_commit_in_a_work_tree(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    place.tree.write("python/other.py", "mine\n")
    assert "edits in the work tree" in refusal(place).err
    place.tree.commit("mine")
    ran = refusal(place)
    assert "commits in the work tree" in ran.err
    assert "fixtool export" in ran.err


@pytest.mark.parametrize("into", [False, True])
def test_commits_on_the_branch_that_a_work_tree_has_left(place: Place, into: bool) -> None:
    """Undo would move that branch back, also one of the user's in a checkout of the user's."""
    tree = place.tree
    if into:
        tree = Git(place.folder / "clone")
        upstream = place.maintainer.upstream
        upstream("clone", "--quiet", str(upstream.path), str(tree.path))
        words: list[str | Path] = ["apply", "--into", tree.path, "--ref", "v1.0", "--no-build"]
    else:
        place.done("apply", "--no-build", "--worktree", tree.path)
        words = ["apply", "--ref", "v1.1", "--no-build", "--worktree", tree.path]
    branch = tree("symbolic-ref", "--short", "HEAD")
    old = tree.head()
    place.done(*words)
    away = tree("symbolic-ref", "--short", "HEAD")
    tree("checkout", "--quiet", branch)
    mine = tree.commit("mine", notes_txt="mine\n")
    tree("checkout", "--quiet", away)
    ran = refusal(place)
    assert f"commits on the branch {branch}" in ran.err
    assert tree("rev-parse", branch) == mine
    tree("branch", "saved", branch)
    tree("branch", "--force", branch, old)
    place.done("undo")
    assert tree.head() == old


def test_an_edit_at_which_git_does_not_look(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    place.tree("update-index", "--skip-worktree", "python/other.py")
    place.tree.write("python/other.py", "mine\n")
    ran = refusal(place)
    assert f"edits of {place.tree.path}/python/other.py" in ran.err
    assert "update-index --no-skip-worktree python/other.py; then fixtool undo" in ran.err


def test_an_ignored_file_is_no_work(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    place.tree.write("python/__pycache__/x.pyc", "made\n")
    place.done("undo")
    assert not place.tree.path.exists()


def test_something_is_where_a_work_tree_was(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    place.done("undo")
    place.tree.write("mine", "mine\n")
    assert "something is at" in refusal(place, "redo").err


def test_a_work_tree_that_was_removed_by_hand(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    shutil.rmtree(place.tree.path)
    place.done("undo")
    place.done("apply", "--no-build", "--worktree", place.tree.path)


def test_a_conflict_that_was_resolved_further(place: Place) -> None:
    place.done("edit", "five")
    (tree,) = place.state.glob("worktrees/*/edit-main")
    (tree / "python/model.py").write_text("mine\n")
    refused = refusal(place).err
    assert "edits in the work tree" in refused
    assert re.search(
        "end what waits: fixtool edit .*--abort --line main; then fixtool undo", refused
    )


def test_what_waits_was_changed_by_hand(place: Place) -> None:
    """The advice did not name the line, and so was refused where something waits in two."""
    place.done("edit", "five")
    (session,) = place.state.glob("edit/*-main.json")
    session.write_text(session.read_text() + "\n")
    refused = refusal(place).err
    assert "the edit of line main that waits was changed since" in refused
    assert re.search(
        "end what waits: fixtool edit .*--abort --line main; then fixtool undo", refused
    )


def test_what_was_pushed_is_told(place: Place) -> None:
    place.done(*DROP)
    git = place.maintainer.git
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    ran = place.run("undo")
    assert ran.status == 0
    assert "was pushed (origin/main) and stays there" in ran.out


# -- several ------------------------------------------------------------------------------------


def test_several_at_once_and_what_cannot_be_done_again(place: Place) -> None:
    start = place.snapshot()
    place.done(*DROP)
    place.done("rename", "five", "V")
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    end = place.snapshot()
    assert "there are 3 operations to take back, not 4" in place.run("undo", "4").err
    place.done("undo", "3")
    assert place.snapshot() == start
    place.done("redo", "3")
    assert place.snapshot() == end
    place.done("undo", "2")
    place.done("rename", "five", "fifth")
    ran = place.run("redo")
    assert (ran.status, "there is nothing to do again" in ran.err) == (2, True)
    shown = document(place.run("log", "--json"))["operations"]
    assert [operation["standing"] for operation in shown] == [
        "done",
        "replaced",
        "replaced",
        "done",
    ]
    place.done("undo", "2")
    assert place.snapshot() == start


def test_a_commit_of_the_users_between_two(place: Place) -> None:
    place.done(*DROP)
    place.maintainer.git.commit("mine", notes_txt="mine\n")
    place.done("rename", "five", "V")
    ran = refusal(place, "undo", "2")
    assert "was changed by something else" in ran.err
    place.done("undo")


def test_a_dry_run(place: Place) -> None:
    place.done(*DROP)
    before = place.snapshot()
    ran = place.run("undo", "--dry-run")
    assert "would be undone 1: fixtool drop other --reason unused" in ran.out
    assert place.snapshot() == before
    assert document(place.run("undo", "--json"))["operations"][0]["number"] == 1


def test_nothing_to_take_back(place: Place) -> None:
    assert place.run("undo").status == 2
    assert "no command has changed anything here yet" in place.run("log").out
    assert place.run("undo", "0").status == 2


def test_a_command_that_changes_nothing_is_not_recorded(place: Place) -> None:
    place.done("list")
    place.done("rename", "five", "V", "--dry-run")
    place.run("drop", "nothing", "--reason", "x")
    assert document(place.run("log", "--json"))["operations"] == []


def test_the_log_shows_no_login(place: Place) -> None:
    place.done(*DROP[:-1], "as https://me:s3cret@host/x says")
    assert "s3cret" not in place.run("log").out
    assert not any(b"s3cret" in path.read_bytes() for path in place.state.rglob("0*.json"))


# -- killed and damaged --------------------------------------------------------------------------


def log_of(place: Place) -> Log:
    repository = place.maintainer.team.repository
    from fixtool.settings import load

    return Log(repository, load(repository.root))


def test_a_killed_command_is_recorded_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = place.snapshot()

    def die(*_: Any) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patched:
        patched.setattr(record.Recording, "finish", die)
        assert place.run(*DROP).status == 9
    assert place.maintainer.files()["series"] == b"# in order\nfive.patch\ntwenty.patch\n"
    (operation,) = document(place.run("log", "--json"))["operations"]
    assert (operation["exit_code"], operation["command"][:18]) == (None, "fixtool drop other")
    place.done("undo")
    assert place.snapshot() == before


def test_a_killed_command_after_one_that_was_taken_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one second: the killed one was told from those before it by the time."""
    before = place.snapshot()

    def die(*_: Any) -> None:
        raise SystemExit(9)

    for module in (record, undoing):
        monkeypatch.setattr(module, "now", lambda: "2026-01-02T03:04:05+00:00")
    place.done(*DROP)
    place.done("undo")
    with monkeypatch.context() as patched:
        patched.setattr(record.Recording, "finish", die)
        assert place.run("rename", "five", "V").status == 9
    place.done("undo")
    assert place.snapshot() == before


@pytest.mark.parametrize("at", ["session", "files", "branch", "mark"])
def test_a_killed_undo(place: Place, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Whatever is done by then, the next `undo` finishes it, and takes back nothing more."""
    before = place.snapshot()
    place.done(*DROP)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(undoing if at == "mark" else undoing._put_back, at, die)
        ran = place.run("undo")
    assert ran.status in (0, 130)
    if at == "session":  # there was none to be put back
        assert ran.status == 0
    if at in ("session", "mark"):  # all was done by then, and the log says so
        assert place.snapshot() == before
        (operation,) = document(place.run("log", "--json"))["operations"]
        assert operation["standing"] == "undone"
        place.done("redo")
    place.done("undo")
    assert place.snapshot() == before


@pytest.mark.parametrize("command", [DROP, ("edit", "five")])
def test_a_killed_command_is_finished_by_the_same_one(
    place: Place, command: tuple[str, ...]
) -> None:
    """At several writes and gits. The commits, the index, a work tree and its session follow."""
    before = place.snapshot()
    place.done(*command, *(("--line", "main") if command == DROP else ()))
    after = place.snapshot()
    for point in (15, 24, 33):
        for verb, wanted in (("undo", before), ("redo", after)):
            root = place.maintainer.team.root
            ran = run_and_die((verb,), root, {}, place.folder, point)
            if ran is None:
                place.run(verb)  # one that had done all, and died before it said so, has no more
            assert comparable(place.snapshot()) == comparable(wanted), (verb, point)


def comparable(snapshot: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without the files that are older or newer and say the same."""
    return {key: value for key, value in snapshot.items() if "MERGE_RR" not in key}


def test_a_damaged_entry_blocks_no_other_command(place: Place) -> None:
    place.done(*DROP)
    (entry,) = place.state.glob("operations/*/000001.json")
    entry.write_text("{")
    place.done("rename", "five", "V")
    ran = place.run("log")
    assert (ran.status, "is not readable" in ran.err) == (0, True)
    place.done("undo")
    ran = place.run("undo")
    assert (ran.status, f"rm {entry}" in ran.err) == (4, True)
    entry.unlink()
    assert place.run("undo").status == 2


def test_a_damaged_note_is_warned_of(place: Place) -> None:
    folder = log_of(place).folder
    folder.mkdir(parents=True, mode=0o700)
    (folder / ".note-1-00000000.json").write_text("{")
    ran = place.run(*DROP)
    assert ran.status == 0
    assert "undo cannot take this command back" in ran.err
    assert "rm " in ran.err


def test_an_error_of_the_system_is_warned_of_in_words(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/read/only")

    monkeypatch.setattr("fixtool.operations.record.begin", fail)
    ran = place.run(*DROP)
    assert ran.status == 0
    assert "undo cannot take this command back: Read-only file system (/read/only)" in ran.err
    assert "Errno" not in ran.err


def test_what_was_kept_is_damaged(place: Place) -> None:
    place.done(*DROP)
    for path in place.state.glob("operations/*/contents/*/*"):
        path.write_bytes(b"other")
    ran = place.run("undo")
    assert (ran.status, "gone or damaged" in ran.err) == (4, True)


HOSTILE = {
    "a file that leaves patches/": {"files": {"main/../../x": "0" * 64}},
    "a file of another folder": {"files": {"/verify/x.py": "0" * 64}},
    "no hash": {"files": {"main/a.patch": "x"}},
    "a session elsewhere": {"waiting": {"../x/main": "0" * 64}},
    "an option for a branch": {"branch": {"name": "--exec=x", "commit": None}},
    "a relative work tree": {"trees": {"x": None}},
    "no object": {"branch": {"name": "HEAD", "commit": "x"}},
    "a store elsewhere": {"trees": {"/x": {"store": "../x.git", "head": "0" * 40, "branch": None}}},
    "a ref that is no branch": {
        "trees": {"/x": {"store": None, "head": "0" * 40, "branch": "refs/notes/x"}}
    },
    "a file of git's": {
        "trees": {"/x": {"store": None, "head": "0" * 40, "branch": None,
                         "git_files": {"config": "0" * 64}}}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_entry(place: Place, name: str) -> None:
    log = log_of(place)
    log.write(Operation(1, "2026-01-02T03:04:05+00:00", ("drop",), "/x"))
    assert log.read(1)
    (path,) = log.folder.glob("000001.json")
    entry = json.loads(path.read_text())
    entry["before"] = HOSTILE[name]
    path.write_text(json.dumps(entry))
    with pytest.raises(FixtoolError, match="is not readable"):
        log.read(1)


# -- what belongs to others ----------------------------------------------------------------------


def test_two_commands_at_once_keep_their_own_changes(place: Place) -> None:
    """A command that ends while another runs notes its own changes, and the other only what is its
    own."""
    repository = place.maintainer.team.repository
    log = log_of(place)
    scope = record.Scope()
    long = record.begin(repository, log.settings, ("long",), scope)
    place.done("rename", "five", "V")
    (place.maintainer.folder / "other.patch").write_bytes(b"long\n")
    long.finish(0)
    assert document(place.run("log", "--json"))["operations"][0]["changes"] == ["main: other"]


def test_old_entries_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixtool.operations.log._MOST", 3)
    monkeypatch.setattr("fixtool.operations.log._EVERY", 1)
    monkeypatch.setattr("fixtool.operations.contents._YOUNG", -1)
    names = ["V", "five", "VI", "five", "VII"]
    for old, new in zip(["five", *names], names, strict=False):
        place.done("rename", old, new)
    assert log_of(place).numbers() == [3, 4, 5]
    place.done("undo", "3")
    assert (
        place.maintainer.files()["series"] == b"# in order\nother.patch\nfive.patch\ntwenty.patch\n"
    )


@pytest.mark.parametrize("kind", [Refused, UsageError])
def test_refusals_name_a_next_command(place: Place, kind: type[FixtoolError]) -> None:
    place.done(*DROP)
    place.maintainer.git.commit("mine", notes_txt="mine\n")
    log = log_of(place)
    with pytest.raises(kind) as raised:
        undoing.undo(log, 1 if kind is Refused else 2)
    assert raised.value.hint
    assert Git(place.maintainer.team.root)("status", "--porcelain") == ""


def test_what_lies_beyond_is_told_and_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package stays; what was done before it can be taken back all the same."""
    before = place.snapshot()
    place.done(*DROP)
    log = log_of(place)
    repository = place.maintainer.team.repository
    words = ("install", "--python", "py")
    record.begin(repository, log.settings, words, record.Scope(), "a package").finish(0)
    record.begin(repository, log.settings, words, record.Scope(), "a package").finish(4)
    shown = document(place.run("log", "--json"))["operations"]
    assert [operation["beyond"] for operation in shown] == ["a package", None]
    ran = place.run("undo")
    assert "not undone, of `fixtool install --python py`: a package" in ran.out
    assert place.snapshot() == before
    assert document(place.run("redo", "2", "--json"))["changed"]


def test_a_work_tree_is_named_by_the_directory_to_run_in(place: Place) -> None:
    place.done("apply", "--no-build", "--worktree", place.tree.path)
    place.tree.write("python/other.py", "mine\n")
    place.tree("commit", "--quiet", "--all", "--message", "mine\n\nWhy.")
    ran = place.maintainer.fixtool("-C", place.tree.path, "export")
    assert ran.status == 0, ran.err
    ran = place.maintainer.fixtool("-C", place.tree.path, "undo")
    assert (ran.status, "undone" in ran.out) == (0, True)


_KILLED = """
import os, signal
from pathlib import Path
from fixtool.operations.record import Scope, begin
from fixtool.series.line import PatchRepository
from fixtool.settings import load
repository = PatchRepository(Path({root!r}))
begin(repository, load(repository.root), ("killed",), Scope())
(repository.folder / "main" / "other.patch").write_bytes(b"half\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_was_killed(place: Place) -> None:
    """The kernel gives its lock back, so the next command knows that it has ended."""
    before = place.snapshot()
    script = _KILLED.format(root=str(place.maintainer.team.root))
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    (operation,) = document(place.run("log", "--json"))["operations"]
    assert (operation["command"], operation["exit_code"]) == ("fixtool killed", None)
    place.done("undo")
    assert place.snapshot() == before


def test_two_undos_at_once(place: Place) -> None:
    place.done(*DROP)
    after = place.snapshot()
    with writing(place.maintainer.team.repository):
        ran = place.run("undo")
    assert (ran.status, "is in use by" in ran.err) == (4, True)
    assert place.snapshot() == after
    place.done("undo")


def test_outside_of_a_patch_repository(place: Place, tmp_path: Path) -> None:
    for verb in ("undo", "redo", "log"):
        assert place.maintainer.fixtool(verb, cwd=tmp_path).status == 2


def test_git_status_in_a_work_tree_changes_nothing(place: Place) -> None:
    """It writes the index anew, with other times of the files."""
    start = place.snapshot()
    place.done("edit", "five")
    (tree,) = place.state.glob("worktrees/*/edit-main")
    (tree / "python/model.py").touch()
    Git(tree)("status")
    place.done("edit", "--abort")
    place.done("undo", "2")
    assert place.snapshot() == start
