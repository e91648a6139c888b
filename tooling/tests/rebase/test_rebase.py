"""Rebase on real git repositories: what is kept, dropped, asked, taken back, resolved, remembered."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.repositories import NUMBERS, Git, Ran, Team, format_patch

Run = Callable[..., Ran]
SCHEMA = json.loads(
    (importlib.resources.files("fixtool") / "schemas/output.json").read_text("utf-8")
)

FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")
TWENTY = NUMBERS.replace("line 20\n", "line 20 fixed\n")
BLOB = bytes(range(256)) * 8


@pytest.fixture
def saved(team: Team) -> Team:
    """A patch repository that is in git, as a team's is."""
    git = Git(team.root)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    git.write(".gitignore", "patches/.lock\n")
    return team


def save(team: Team) -> str:
    git = Git(team.root)
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", "save")
    return git("rev-parse", "HEAD")


def document(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran.out)
    jsonschema.validate(found, SCHEMA)
    assert found["exit_code"] == ran.status
    return found


def rebase(
    fixtool: Run, team: Team, *args: str | Path, onto: str | None = "main"
) -> dict[str, Any]:
    words = ["rebase", "--json", "--source", team.upstream.path, "-C", team.root, *args]
    return document(fixtool(*words, *(["--onto", onto] if onto else [])))


def rows(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["slug"]: (one["verdict"], one["action"]) for one in found["patches"]}


def files(team: Team, line: str = "main") -> dict[str, bytes]:
    folder = team.root / "patches" / line
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- the absorption table --------------------------------------------------------------------


def shifted(git: Git) -> None:
    git.commit("shift", python__model_py="line 0\n" + NUMBERS)
    git.commit("take it (#9)", python__model_py="line 0\n" + FIVE)


def edited_later(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("edit near it", python__model_py=FIVE.replace("line 7\n", "line 7 more\n"))


def edited_itself(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("go on from there", python__model_py=FIVE.replace("5 fixed", "5 fixed more"))


def squashed(git: Git) -> None:
    text = FIVE.replace("line 30\n", "line 30 more\n")
    git.commit("take it, and more (#9)", python__model_py=text, README_txt="new\n")


def renamed_later(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("move", python__model_py=None, python__far__model_py=FIVE)


def reverted(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")


def tweaked(git: Git) -> None:
    git.commit("take it, reworded (#9)", python__model_py=FIVE.replace("5 fixed", "5 mended"))


def moved(git: Git) -> None:
    git.commit("move", python__model_py=None, python__far__model_py=NUMBERS)


def split(git: Git) -> None:
    head, tail = NUMBERS[: NUMBERS.index("line 11\n")], NUMBERS[NUMBERS.index("line 11\n") :]
    git.commit("split", python__model_py=tail, python__head_py=head)


def split_in_two(git: Git) -> None:
    head, tail = NUMBERS[: NUMBERS.index("line 18\n")], NUMBERS[NUMBERS.index("line 18\n") :]
    git.commit("split", python__model_py=None, python__head_py=head, python__tail_py=tail)


def elsewhere(git: Git) -> None:
    git.commit("other things", README_txt="new\n")


def rewritten(git: Git) -> None:
    git.commit("rewrite (#12)", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))


def gone(git: Git) -> None:
    git.commit("remove", python__model_py=None)


def twin(git: Git) -> None:
    """The block comes twice, and the patch's own place is rewritten: `git apply` takes the twin."""
    git.commit("twin", python__model_py=NUMBERS.replace("line 5\n", "line V\n") + NUMBERS)


TABLE = [
    ("identical, lines shifted", shifted, "absorbed", "dropped"),
    ("identical, context edited later", edited_later, "absorbed", "dropped"),
    ("identical, edited itself later", edited_itself, "absorbed", "dropped"),
    ("squashed in with other changes", squashed, "absorbed", "dropped"),
    ("file renamed later", renamed_later, "absorbed", "dropped"),
    ("merged, then reverted", reverted, "reverted", "kept"),
    ("tweaked in review, no trailer", tweaked, "conflict", "asked"),
    ("tweaked in review, with the PR's trailer", tweaked, "absorbed", "dropped"),
    ("file moved", moved, "merged", "rewritten"),
    ("file split", split, "merged", "rewritten"),
    ("file split in two, the old one gone", split_in_two, "merged", "rewritten"),
    ("other things changed", elsewhere, "clean", "kept"),
    ("rewritten", rewritten, "conflict", "asked"),
    ("file removed", gone, "conflict", "asked"),
    ("a twin of its place", twin, "conflict", "asked"),
]


@pytest.mark.parametrize(("case", "do", "verdict", "action"), TABLE, ids=[row[0] for row in TABLE])
def test_the_absorption_table(
    fixtool: Run, team: Team, case: str, do: Callable[[Git], None], verdict: str, action: str
) -> None:
    raw = team.patch("fix", "fix five", python__model_py=FIVE)
    if "trailer" in case and "no trailer" not in case:
        path = team.root / "patches" / "main" / "fix.patch"
        path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/o/r/pull/9"))
    do(team.upstream)
    found = rebase(fixtool, team, "--dry-run")
    assert rows(found) == {"fix": (verdict, action)}
    assert found["exit_code"] == (3 if action == "asked" else 0)
    culprit = found["patches"][0]["culprit"]
    if verdict == "clean":
        assert culprit is None
    elif "9" in case or verdict == "absorbed":
        assert culprit["pr"] == 9
    assert found["patches"][0]["evidence"] or verdict == "clean"


def test_deletion_only(fixtool: Run, team: Team) -> None:
    """A reverse apply calls a deletion absorbed wherever its context stands; a merge does not."""
    text = NUMBERS.replace("line 5\n", "")
    team.patch("gone", "take line 5 out", python__model_py=text)
    elsewhere(team.upstream)
    assert rows(rebase(fixtool, team, "--dry-run")) == {"gone": ("clean", "kept")}
    team.upstream.commit("they took it out too", python__model_py=text)
    assert rows(rebase(fixtool, team, "--dry-run")) == {"gone": ("absorbed", "dropped")}


def test_mode_only(fixtool: Run, team: Team) -> None:
    git = team.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    (git.path / "python/model.py").chmod(0o755)
    git.commit("make it a program\n\nSigned-off-by: A Person <person@example.org>")
    team.add("mode", format_patch(git))
    git("checkout", "--quiet", "main")
    elsewhere(git)
    assert rows(rebase(fixtool, team, "--dry-run")) == {"mode": ("clean", "kept")}
    (git.path / "python/model.py").chmod(0o755)
    git.commit("they made it one")
    assert rows(rebase(fixtool, team, "--dry-run")) == {"mode": ("absorbed", "dropped")}


def test_binary(fixtool: Run, team: Team) -> None:
    git = team.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    git.commit("add data\n\nSigned-off-by: A Person <person@example.org>", data_bin=BLOB)
    team.add("data", format_patch(git))
    git("checkout", "--quiet", "main")
    elsewhere(git)
    assert rows(rebase(fixtool, team, "--dry-run")) == {"data": ("clean", "kept")}
    git.commit("their data", data_bin=BLOB[::-1])
    assert rows(rebase(fixtool, team, "--dry-run")) == {"data": ("conflict", "asked")}
    git.commit("ours, taken", data_bin=BLOB)
    assert rows(rebase(fixtool, team, "--dry-run")) == {"data": ("absorbed", "dropped")}


def test_partly_absorbed_keeps_the_rest(fixtool: Run, saved: Team) -> None:
    both = FIVE.replace("line 20\n", "line 20 fixed\n")
    saved.patch("both", "fix two", python__model_py=both)
    save(saved)
    saved.upstream.commit("half of it", python__model_py="line 0\n" + FIVE)
    found = rebase(fixtool, saved)
    assert rows(found) == {"both": ("partly-absorbed", "rewritten")}
    text = files(saved)["both.patch"].decode()
    assert "+line 20 fixed" in text
    assert "+line 5 fixed" not in text
    assert found["warnings"] == []


# -- writing ---------------------------------------------------------------------------------


def test_a_line_moves_as_one_commit(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    saved.patch("other", "fix other", python__other_py="alpha\nbeta!\ngamma\n")
    saved.patch("taken", "take beta", README_txt="read me now\n")
    about = saved.root / "patches" / "main" / "upstream.toml"
    about.write_text("# why we carry it\n" + about.read_text())
    before = files(saved)
    head = save(saved)
    git = saved.upstream
    git.commit("take the readme (#3)", README_txt="read me now\n")
    tip = git.commit("shift", python__model_py="line 0\n" + NUMBERS)
    (saved.root / "notes.txt").write_text("mine, not yet committed\n")
    found = rebase(fixtool, saved)
    assert rows(found) == {
        "five": ("offset", "rewritten"), "other": ("clean", "kept"), "taken": ("absorbed", "dropped"),
    }  # fmt: skip
    after = files(saved)
    assert after["other.patch"] == before["other.patch"]
    assert after["shelf/taken.patch"] == before["taken.patch"]
    assert "taken.patch" not in after
    assert after["series"] == b"# in order\nfive.patch\nother.patch\n"
    assert after["upstream.toml"].startswith(b"# why we carry it\nwhy = ")
    assert f'base = "{tip}"' in after["upstream.toml"].decode()
    assert git("rev-parse", f"{tip}^{{tree}}") in after["upstream.toml"].decode()
    mine = Git(saved.root)
    assert mine("rev-parse", "HEAD") == found["committed"]
    assert mine("rev-parse", "HEAD^") == head
    assert mine("show", "-s", "--format=%an %s") == f"A Maintainer main: rebase onto {tip[:12]}"
    assert "taken  absorbed, dropped" in mine("show", "-s", "--format=%b")
    assert "#3" not in mine("show", "-s", "--format=%B")  # a link to something else, here
    assert mine("status", "--porcelain") == "?? notes.txt"
    assert "take beta" in found["range_diff"]
    assert document(fixtool("lint", "--json", "--drift", "--source", git.path, "-C", saved.root))[
        "ok"
    ]
    again = rebase(fixtool, saved)
    assert (again["moved"], again["committed"], again["exit_code"]) == (False, None, 0)
    assert files(saved) == after
    applied = document(
        fixtool(
            "apply",
            "--sglang-ref",
            tip,
            "--source",
            git.path,
            "--dry-run",
            "--json",
            "-C",
            saved.root,
        )
    )
    assert [one["verdict"] for one in applied["patches"]] == ["clean", "clean"]
    assert applied["tree"] == found["tree"]


def test_what_upstream_takes_back_comes_off_the_shelf(fixtool: Run, saved: Team) -> None:
    raw = saved.patch("five", "fix five", python__model_py=FIVE)
    save(saved)
    git = saved.upstream
    git.commit("take it", python__model_py=FIVE)
    assert rows(rebase(fixtool, saved)) == {"five": ("absorbed", "dropped")}
    git("revert", "--no-edit", "HEAD")
    found = rebase(fixtool, saved)
    assert found["patches"][0]["action"] == "restored"
    assert "took it back" in found["warnings"][0]
    after = files(saved)
    assert after["five.patch"] == raw
    assert "shelf/five.patch" not in after
    assert after["series"].endswith(b"five.patch\n")


def test_what_upstream_took_in_another_form_stays_on_the_shelf(fixtool: Run, saved: Team) -> None:
    """Although its text would fit again: the bug is fixed elsewhere in the file."""
    raw = saved.patch("five", "fix five", python__model_py=FIVE)
    path = saved.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/o/r/pull/9"))
    save(saved)
    git = saved.upstream
    took = git.commit("another form (#9)", python__model_py=TWENTY)
    assert rows(rebase(fixtool, saved)) == {"five": ("absorbed", "dropped")}
    git.commit("docs", README_txt="new\n")
    assert rebase(fixtool, saved)["patches"] == []
    git("revert", "--no-edit", took)
    assert rebase(fixtool, saved)["patches"][0]["action"] == "restored"


def test_comments_of_a_series_stay_with_their_patches(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    saved.patch("other", "fix other", python__other_py="alpha\nbeta!\ngamma\n")
    series = saved.root / "patches" / "main" / "series"
    series.write_text("# first\nfive.patch\n# second\nother.patch # why\n# end\n")
    save(saved)
    saved.upstream.commit("take it", python__model_py=FIVE)
    rebase(fixtool, saved)
    assert series.read_text() == "# first\n# second\nother.patch # why\n# end\n"


def test_dry_run_and_new_line_leave_the_line_alone(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    save(saved)
    before = files(saved)
    saved.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    assert rebase(fixtool, saved, "--dry-run")["moved"]
    assert files(saved) == before
    found = rebase(fixtool, saved, "--new-line", "next")
    assert files(saved) == before
    assert found["committed"]
    assert b"@@ -3,7 +3,7 @@" in files(saved, "next")["five.patch"]
    ran = fixtool("rebase", "--onto", "main", "--line", "main", "--new-line", "next",
                  "--source", saved.upstream.path, "-C", saved.root)  # fmt: skip
    assert (ran.status, "there is a line 'next' already" in ran.err) == (2, True)


def test_what_is_not_committed_is_not_risked(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    save(saved)
    saved.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    series = saved.root / "patches" / "main" / "series"
    series.write_text(series.read_text() + "# mine\n")
    ran = fixtool("rebase", "--onto", "main", "--source", saved.upstream.path, "-C", saved.root)
    assert ran.status == 1
    assert "is not committed" in ran.err
    assert "# mine" in series.read_text()


def test_without_git_the_line_is_written_and_that_is_said(fixtool: Run, team: Team) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    ran = fixtool("rebase", "--onto", "main", "--source", team.upstream.path, "-C", team.root)
    assert ran.status == 0
    assert "is not in git" in ran.out


def test_a_history_that_cannot_be_read_is_told(fixtool: Run, team: Team) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    code = (
        "from fixtool.history import trace\nfrom fixtool.errors import CannotRun\n"
        "def fail(*_, **__): raise CannotRun('the disk is full')\n"
        "trace.history = fail\nfrom fixtool.cli import app\napp()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "rebase", "--onto", "main", "--dry-run", "--json",
         "--source", str(team.upstream.path), "-C", str(team.root)],
        env=dict(os.environ), check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "text alone decided: the disk is full" in json.loads(ran.stdout)["warnings"][0]


def test_git_must_know_who_commits(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    save(saved)
    git = Git(saved.root)
    git("config", "user.useConfigOnly", "true")
    git("config", "--unset", "user.email")
    before = files(saved)
    saved.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    ran = fixtool("rebase", "--onto", "main", "--source", saved.upstream.path, "-C", saved.root)
    assert (ran.status, "git does not know who you are" in ran.err) == (4, True)
    assert files(saved) == before


# -- conflicts -------------------------------------------------------------------------------


@pytest.fixture
def waiting(fixtool: Run, saved: Team) -> tuple[Team, dict[str, Any]]:
    """A rebase that stopped at the second of three patches."""
    saved.patch("other", "fix other", python__other_py="alpha\nbeta!\ngamma\n")
    saved.patch("five", "fix five", python__model_py=FIVE)
    saved.patch("twenty", "fix twenty", base="patch/five",
                python__model_py=FIVE.replace("line 20\n", "line 20 fixed\n"))  # fmt: skip
    save(saved)
    message = "rewrite five (#12)\n\nIt was wrong for odd ones."
    saved.upstream.commit(message, python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    return saved, rebase(fixtool, saved)


def on(fixtool: Run, team: Team, *words: str) -> Ran:
    return fixtool("rebase", *words, "-C", team.root)


def resolve(found: dict[str, Any], text: str = "line V fixed\n") -> Path:
    tree = Path(found["session"]["worktree"])
    (tree / "python/model.py").write_text(NUMBERS.replace("line 5\n", text))
    return tree


def test_a_conflict_waits_for_a_person(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, found = waiting
    assert found["exit_code"] == 3
    assert rows(found) == {
        "other": ("clean", "kept"), "five": ("conflict", "asked"), "twenty": ("clean", "kept"),
    } or rows(found)["five"] == ("conflict", "asked")  # fmt: skip
    session = found["session"]
    assert (session["patch"], session["position"], session["of"]) == ("five", 2, 3)
    assert session["conflicts"] == ["python/model.py"]
    assert session["culprit"]["pr"] == 12
    assert session["intent"] == "It was wrong for odd ones."
    assert "<<<<<<<" in (Path(session["worktree"]) / "python/model.py").read_text()
    assert Git(team.root)("status", "--porcelain") == ""
    again = on(fixtool, team, "--onto", "main", "--source", str(team.upstream.path))
    assert (again.status, "waits at five" in again.err) == (1, True)
    left = on(fixtool, team, "--continue")
    assert left.status == 1
    assert "a conflict marker is left" in left.err
    assert "python/model.py:5" in left.err


def test_continue(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, found = waiting
    tree = resolve(found)
    done = document(on(fixtool, team, "--continue", "--json"))
    assert rows(done) == {
        "other": ("clean", "kept"), "five": ("merged", "rewritten"), "twenty": ("offset", "rewritten"),
    } or rows(done)["five"] == ("merged", "rewritten")  # fmt: skip
    assert done["committed"]
    assert not tree.exists()
    text = files(team)["five.patch"].decode()
    assert "-line V\n+line V fixed" in text
    assert "Subject: [PATCH] fix five" in text
    assert document(
        fixtool("lint", "--json", "--drift", "--source", team.upstream.path, "-C", team.root)
    )["ok"]
    nothing = on(fixtool, team, "--continue")
    assert (nothing.status, "no rebase is parked" in nothing.err) == (2, True)


def test_continue_with_a_commit_of_ones_own(
    fixtool: Run, waiting: tuple[Team, dict[str, Any]]
) -> None:
    team, found = waiting
    tree = Git(resolve(found))
    tree("add", "--all")
    tree("-c", "user.name=x", "-c", "user.email=x@y", "cherry-pick", "--continue")
    assert document(on(fixtool, team, "--continue", "--json"))["committed"]
    assert "+line V fixed" in files(team)["five.patch"].decode()


def test_a_new_file_must_be_added(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, found = waiting
    tree = resolve(found)
    (tree / "python" / "new.py").write_text("x = 1\n")
    ran = on(fixtool, team, "--continue")
    assert (ran.status, "python/new.py is new, and not added" in ran.err) == (1, True)
    Git(tree)("add", "python/new.py")
    assert document(on(fixtool, team, "--continue", "--json"))["committed"]
    assert "python/new.py" in files(team)["five.patch"].decode()


def test_a_resolution_to_what_upstream_has_drops_the_patch(
    fixtool: Run, waiting: tuple[Team, dict[str, Any]]
) -> None:
    team, found = waiting
    resolve(found, "line V\n")
    done = document(on(fixtool, team, "--continue", "--json"))
    assert rows(done)["five"] == ("absorbed", "dropped")
    assert "shelf/five.patch" in files(team)


def test_skip_keeps_the_patch(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, found = waiting
    raw = files(team)["five.patch"]
    done = document(on(fixtool, team, "--skip", "--reason", "ask upstream", "--json"))
    assert rows(done)["five"] == ("blocked", "shelved")
    after = files(team)
    assert after["shelf/five.patch"] == raw
    assert b'why = "ask upstream"' in after["shelf.toml"]
    assert b"five.patch" not in after["series"]
    assert not Path(found["session"]["worktree"]).exists()


def test_abort(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, found = waiting
    before = files(team)
    assert on(fixtool, team, "--abort").status == 0
    assert files(team) == before
    assert not Path(found["session"]["worktree"]).exists()
    assert on(fixtool, team, "--abort").status == 2


def test_a_work_tree_that_is_gone_can_be_aborted(
    fixtool: Run, waiting: tuple[Team, dict[str, Any]]
) -> None:
    import shutil

    team, found = waiting
    shutil.rmtree(found["session"]["worktree"])
    ran = on(fixtool, team, "--continue")
    assert (ran.status, "is gone" in ran.err) == (4, True)
    assert on(fixtool, team, "--abort").status == 0
    assert rebase(fixtool, team)["session"]["patch"] == "five"


def test_a_resolution_is_remembered_by_the_team(
    fixtool: Run, waiting: tuple[Team, dict[str, Any]], tmp_path: Path
) -> None:
    """A colleague, whose fixtool has never seen the conflict, is offered the resolution."""
    team, found = waiting
    resolve(found)
    base = files(team)["upstream.toml"]
    done = document(on(fixtool, team, "--continue", "--json"))
    kept = [name for name in files(team) if name.startswith("resolutions/")]
    assert len(kept) == 1
    text = files(team)[kept[0]].decode()
    assert text.startswith("# five onto ")
    assert "+line V fixed" in text
    assert "line 30" not in text  # not the whole file: how it differs
    # The line goes back to where it was, with the memory that it has now.
    folder = team.root / "patches" / "main"
    Git(team.root)("checkout", "--quiet", "HEAD^", "--", "patches/main")
    assert files(team)["upstream.toml"] == base
    save(team)
    for name in kept:
        assert (folder / name).exists()
    # Where it was resolved, it is asked for again if the line has forgotten it.
    (folder / kept[0]).rename(tmp_path / "kept")
    save(team)
    asked = rebase(fixtool, team)
    assert asked["session"]["remembered"] is False
    assert on(fixtool, team, "--abort").status == 0
    (tmp_path / "kept").rename(folder / kept[0])
    save(team)
    there = {"FIXTOOL_STATE_DIR": str(tmp_path / "colleague")}
    words = ["rebase", "--onto", "main", "--json", "--source", team.upstream.path, "-C", team.root]
    offered = document(fixtool(*words, **there))
    assert offered["exit_code"] == 3
    assert offered["session"]["remembered"] is True
    assert fixtool("rebase", "--abort", "-C", team.root, **there).status == 0
    taken = document(fixtool(*words, "--accept-resolutions", **there))
    assert taken["exit_code"] == 0, taken["session"]
    assert taken["tree"] == done["tree"]


@pytest.mark.parametrize("stage", ["decide", "write", "commit", "end", "after"])
def test_a_killed_run_is_resumed(
    fixtool: Run, waiting: tuple[Team, dict[str, Any]], stage: str
) -> None:
    team, found = waiting
    tree = resolve(found)
    code = (
        "import os, signal\nfrom fixtool.rebase import run as rebase\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code += {
        "decide": "rebase.write_line = die\n",
        "write": "from fixtool.series import commit\ncommit.rewrite = die\n",
        "commit": "from fixtool.series import commit\ncommit._commit = die\n",
        "end": "rebase.end_session = die\n",
        "after": (
            "import shutil\nfrom fixtool.rebase import session\n"
            "def half(_, place): shutil.rmtree(place / 'python'); (place / '.git').unlink(); die()\n"
            "session.remove = half\n"
        ),
    }[stage]
    code += "from fixtool.cli import app\napp()\n"
    ran = subprocess.run(
        [sys.executable, "-c", code, "rebase", "--continue", "-C", str(team.root)],
        env=dict(os.environ), check=False, capture_output=True,
    )  # fmt: skip
    assert ran.returncode == -9
    assert tree.exists()
    document(on(fixtool, team, "--continue", "--json"))
    git = Git(team.root)
    assert git("status", "--porcelain") == ""
    assert git("show", "-s", "--format=%s").startswith("main: rebase onto ")
    assert git("rev-list", "--count", "HEAD") == "2"
    assert not tree.exists()


def test_what_needs_a_skipped_patch_is_set_aside_with_it(fixtool: Run, saved: Team) -> None:
    saved.patch("five", "fix five", python__model_py=FIVE)
    more = FIVE.replace("line 5 fixed\n", "line 5 fixed more\n")
    saved.patch("more", "fix five more", base="patch/five", python__model_py=more)
    save(saved)
    saved.upstream.commit("rewrite", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    found = rebase(fixtool, saved)
    assert rows(found) == {"five": ("conflict", "asked"), "more": ("blocked", "asked")}
    done = document(on(fixtool, saved, "--skip", "--json"))
    assert rows(done) == {"five": ("blocked", "shelved"), "more": ("blocked", "shelved")}


# -- probes ----------------------------------------------------------------------------------

PROBE = (
    "import os, pathlib, sys\n"
    "text = (pathlib.Path(os.environ['FIXTOOL_TREE']) / 'python/model.py').read_text()\n"
    "print('looked')\n"
    "sys.exit(0 if {mark!r} in text else 1)\n"
)


def with_probe(team: Team, slug: str, mark: str, raw: bytes) -> None:
    probes = team.root / "verify" / "probes"
    probes.mkdir(parents=True, exist_ok=True)
    (probes / f"{slug}.py").write_text(PROBE.format(mark=mark))
    named = raw.replace(
        b"Drop-When: never\n", f"Drop-When: never\nProbe: probes/{slug}.py\n".encode()
    )
    (team.root / "patches" / "main" / f"{slug}.patch").write_bytes(named)


def test_a_probe_turns_a_conflict_into_superseded(fixtool: Run, saved: Team) -> None:
    with_probe(saved, "five", "line V", saved.patch("five", "fix five", python__model_py=FIVE))
    save(saved)
    saved.upstream.commit("rewrite", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    assert rows(rebase(fixtool, saved, "--dry-run")) == {"five": ("conflict", "asked")}
    found = rebase(fixtool, saved, "--probe", "--python", sys.executable)
    assert rows(found) == {"five": ("superseded", "dropped")}
    assert found["patches"][0]["probe"] == {"before": 0, "after": None}
    assert b'verdict = "superseded"' in files(saved)["shelf.toml"]


def test_a_probe_says_that_a_patch_is_not_needed(fixtool: Run, saved: Team) -> None:
    with_probe(saved, "five", "line 30", saved.patch("five", "fix five", python__model_py=FIVE))
    save(saved)
    elsewhere(saved.upstream)
    found = rebase(fixtool, saved, "--probe", "--python", sys.executable)
    assert rows(found) == {"five": ("not-needed", "kept")}
    assert "fixtool drop five" in found["warnings"][0]
    assert "five.patch" in files(saved)


# -- drop, deps, refresh ---------------------------------------------------------------------


def test_deps_are_found_by_applying(fixtool: Run, team: Team) -> None:
    """C needs A, not B."""
    team.patch("a", "change five", python__model_py=FIVE)
    team.patch("b", "change other", python__other_py="alpha\nbeta!\ngamma\n")
    more = FIVE.replace("line 5 fixed\n", "line 5 fixed more\n")
    team.patch("c", "change five more", base="patch/a", python__model_py=more)
    found = document(fixtool("deps", "--json", "--source", team.upstream.path, "-C", team.root))
    needs = {
        one["slug"]: (one["derived"], one["closure"], one["breaks"]) for one in found["patches"]
    }
    assert needs == {"a": ([], [], ["c"]), "b": ([], [], []), "c": (["a"], ["a"], [])}


def test_a_probe_that_finds_the_bug_outweighs_what_upstream_says(fixtool: Run, saved: Team) -> None:
    raw = saved.patch("five", "fix five", python__model_py=FIVE)
    raw = raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/o/r/pull/9")
    with_probe(saved, "five", "no such line", raw)
    save(saved)
    tweaked(saved.upstream)
    assert rows(rebase(fixtool, saved, "--dry-run")) == {"five": ("absorbed", "dropped")}
    found = rebase(fixtool, saved, "--dry-run", "--probe", "--python", sys.executable)
    assert rows(found) == {"five": ("conflict", "asked")}


def test_drop(fixtool: Run, saved: Team) -> None:
    raw = saved.patch("a", "add a line", python__model_py="line 0\n" + NUMBERS)
    text = ("line 0\n" + NUMBERS).replace("line 20\n", "line 20 fixed\n")
    saved.patch("b", "fix twenty", base="patch/a", python__model_py=text)
    save(saved)
    words = ["--source", saved.upstream.path, "-C", saved.root]
    done = document(fixtool("drop", "a", "--reason", "of no use", "--json", *words))["dropped"]
    assert (done["slug"], done["rewritten"]) == ("a", ["b"])
    after = files(saved)
    assert after["shelf/a.patch"] == raw
    assert b'why = "of no use"' in after["shelf.toml"]
    assert after["series"] == b"# in order\nb.patch\n"
    assert Git(saved.root)("show", "-s", "--format=%s") == "main: drop a"
    assert document(fixtool("lint", "--json", "--drift", *words))["ok"]


def test_drop_refuses_what_others_need(fixtool: Run, team: Team) -> None:
    team.patch("a", "change five", python__model_py=FIVE)
    more = FIVE.replace("line 5 fixed\n", "line 5 fixed more\n")
    team.patch("c", "change five more", base="patch/a", python__model_py=more)
    before = files(team)
    ran = fixtool("drop", "a", "--reason", "x", "--source", team.upstream.path, "-C", team.root)
    assert (ran.status, "c would not apply without a" in ran.err) == (1, True)
    assert files(team) == before


def test_refresh_writes_one_patch(fixtool: Run, team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", base="patch/five", python__other_py="alpha\nbeta!\ngamma\n")
    place = tmp_path / "place"
    fixtool("apply", "--sglang-ref", "v1.0", "--source", team.upstream.path, "--worktree", place,
            "--no-build", "-C", team.root)  # fmt: skip
    tree = Git(place)
    text = (place / "python/other.py").read_text()
    tree.write("python/other.py", text + "delta\n")
    tree("commit", "--all", "--amend", "--no-edit")
    before = files(team)
    assert fixtool("refresh", "five", "--worktree", place).status == 0
    assert files(team) == before
    done = document(fixtool("refresh", "other", "--worktree", place, "--json"))
    assert [one["change"] for one in done["patches"]] == ["rewritten"]
    assert b"+delta" in files(team)["other.patch"]


def test_history_for_people_and_programs(fixtool: Run, team: Team) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("rewrite (#12)", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    words = ["history", "--to", "main", "--source", team.upstream.path, "-C", team.root]
    found = document(fixtool(*words, "--json"))
    assert [one["verdict"] for one in found["patches"][0]["intervals"]] == ["clean", "conflict"]
    assert found["patches"][0]["intervals"][1]["culprit"]["pr"] == 12
    told = fixtool(*words, "five", "-v").out
    assert "rewrite (#12) (A Person)" in told
    assert "conflict in python/model.py" in told
    ran = fixtool(*words, "nope")
    assert (ran.status, "no patch 'nope'" in ran.err) == (2, True)


def test_history_of_a_source_without_one(fixtool: Run, team: Team) -> None:
    ran = fixtool("history", "--source", "pypi", "-C", team.root)
    assert (ran.status, "releases have no commits" in ran.err) == (2, True)


# -- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of --onto REF"),
        (["--onto", "main", "--abort"], "give one of --onto REF"),
        (["--skip"], "no rebase is parked"),
        (["--onto", "--upload-pack=x"], ""),
        (["--onto", "nowhere"], "nowhere"),
        (["--onto", "main", "--new-line", "../x"], "is not a safe folder name"),
        (["--onto", "main", "--line", "no"], "no line 'no'"),
    ],
)
def test_words_that_do_not_fit(fixtool: Run, team: Team, words: list[str], said: str) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    before = files(team)
    source = ["--source", team.upstream.path] if "--onto" in words else []
    ran = fixtool("rebase", *words, *source, "-C", team.root)
    assert ran.status in (2, 4)
    assert said in ran.err
    assert files(team) == before


def test_people_are_told_what_to_do(fixtool: Run, waiting: tuple[Team, dict[str, Any]]) -> None:
    team, _ = waiting
    assert on(fixtool, team, "--abort").status == 0
    told = on(fixtool, team, "--onto", "main", "--source", str(team.upstream.path)).out
    for words in (
        "five (patch 2 of 3) needs a person", "python/model.py: hunk 1, written for line 2",
        "by A Person:", "rewrite five (#12)", "It was wrong for odd ones.",
        "next      fixtool rebase --continue",
    ):  # fmt: skip
        assert words in told, told
