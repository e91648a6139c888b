"""A rebase that stops at a conflict: waiting, going on, giving up, and remembering resolutions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.json_documents import document
from support.rebase import FIVE_AND_TWENTY, FIVE_MORE, Maintainer, outcomes, rewrite
from support.repositories import NUMBERS, Git

pytestmark = pytest.mark.slow(1)  # each parks and resumes a rebase


@dataclass(frozen=True)
class Stopped:
    """A rebase that stopped: who started it, what its document said, and its work tree."""

    maintainer: Maintainer
    document: dict[str, Any]

    @property
    def tree(self) -> Path:
        return Path(self.document["session"]["worktree"])

    def resolve(self, line: str = "line V fixed\n") -> None:
        text = NUMBERS.replace("line 5\n", line)
        (self.tree / "python/model.py").write_text(text)


@pytest.fixture
def stopped(maintainer: Maintainer) -> Stopped:
    """A rebase that stopped at the second of three patches."""
    maintainer.patch_other()
    maintainer.patch_five()
    maintainer.team.patch(
        "twenty", "fix twenty", base="patch/five", python__model_py=FIVE_AND_TWENTY
    )
    maintainer.save()
    rewrite(maintainer.upstream)
    return Stopped(maintainer, maintainer.rebase())


def expect_refusal(maintainer: Maintainer, *words: str, status: int, message: str) -> None:
    ran = maintainer.run("rebase", *words)
    assert (ran.status, message in ran.err) == (status, True)


def test_a_conflict_waits_for_a_person(stopped: Stopped) -> None:
    maintainer = stopped.maintainer
    assert stopped.document["exit_code"] == 3
    assert outcomes(stopped.document)["five"] == ("conflict", "asked")
    session = stopped.document["session"]
    assert (session["patch"], session["position"], session["of"]) == ("five", 2, 3)
    assert session["conflicts"] == ["python/model.py"]
    assert session["culprit"]["pr"] == 12
    assert session["intent"] == "It was wrong for odd ones."
    assert "<<<<<<<" in (stopped.tree / "python/model.py").read_text()
    assert maintainer.git("status", "--porcelain") == ""
    again = maintainer.on_source("rebase", "--onto", "main")
    assert (again.status, "waits at five" in again.err) == (1, True)
    unresolved = maintainer.run("rebase", "--continue")
    assert unresolved.status == 1
    assert "a conflict marker is left" in unresolved.err
    assert "python/model.py:5" in unresolved.err


def test_continue(stopped: Stopped) -> None:
    """It goes on to the commit that it began with, although upstream has gone on too."""
    maintainer = stopped.maintainer
    stopped.resolve()
    begun = maintainer.upstream.head()
    maintainer.upstream.commit("meanwhile", README_txt="meanwhile\n")
    rebased = maintainer.resume("--continue")
    assert rebased["onto"] == begun
    assert outcomes(rebased)["five"] == ("merged", "rewritten")
    assert rebased["committed"]
    lost = "five: line of your patch missing after the rebase: line 5 fixed"
    assert rebased["warnings"] == [lost]
    assert not stopped.tree.exists()
    text = maintainer.files()["five.patch"].decode()
    assert "-line V\n+line V fixed" in text
    assert "Subject: [PATCH] fix five" in text
    assert text.count("diff --git") == 1  # the patch before it is not taken out again
    assert document(maintainer.on_source("lint", "--json", "--drift"))["ok"]
    expect_refusal(maintainer, "--continue", status=2, message="no rebase waits")


def test_continue_with_a_commit_of_ones_own(stopped: Stopped) -> None:
    stopped.resolve()
    tree = Git(stopped.tree)
    tree("add", "--all")
    tree("-c", "user.name=x", "-c", "user.email=x@y", "cherry-pick", "--continue")
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    tree.write("python/other.py", "more\n")
    message = "python/other.py is not committed"
    expect_refusal(stopped.maintainer, "--continue", status=1, message=message)
    tree(*identity, "commit", "--quiet", "--all", "--message", "a second one")
    message = f"not at {tree('rev-parse', 'HEAD~2')[:12]}, nor one commit after it"
    expect_refusal(stopped.maintainer, "--continue", status=1, message=message)
    tree("reset", "--quiet", "--hard", "HEAD~1")
    assert stopped.maintainer.resume("--continue")["committed"]
    assert "+line V fixed" in stopped.maintainer.files()["five.patch"].decode()


def test_a_new_file_must_be_added(stopped: Stopped) -> None:
    stopped.resolve()
    tree = Git(stopped.tree)
    tree.write("python/new.py", "x = 1\n")
    message = "python/new.py is new, and not added"
    expect_refusal(stopped.maintainer, "--continue", status=1, message=message)
    tree("add", "python/new.py")
    assert stopped.maintainer.resume("--continue")["committed"]
    assert "python/new.py" in stopped.maintainer.files()["five.patch"].decode()


def test_a_resolution_to_what_upstream_has_drops_the_patch(stopped: Stopped) -> None:
    stopped.resolve("line V\n")
    rebased = stopped.maintainer.resume("--continue")
    assert outcomes(rebased)["five"] == ("absorbed", "dropped")
    assert "shelf/five.patch" in stopped.maintainer.files()


def test_skip_keeps_the_patch(stopped: Stopped) -> None:
    raw = stopped.maintainer.files()["five.patch"]
    rebased = stopped.maintainer.resume("--skip", "--reason", "ask upstream")
    assert outcomes(rebased) == {
        "other": ("clean", "kept"), "five": ("skipped", "shelved"), "twenty": ("clean", "rewritten"),
    }  # fmt: skip
    after = stopped.maintainer.files()
    assert after["shelf/five.patch"] == raw
    assert b'why = "ask upstream"' in after["shelf.toml"]
    assert b'verdict = "skipped"' in after["shelf.toml"]
    assert b"five.patch" not in after["series"]
    assert not stopped.tree.exists()
    message = stopped.maintainer.git("log", "-1", "--format=%B")
    assert "five    skipped (ask upstream), shelved" in message
    (name,) = (name for name in after if name.startswith("resolutions/"))
    assert after[name].decode().endswith("\nask upstream\n")


def test_a_skip_is_remembered_at_the_same_conflict(stopped: Stopped) -> None:
    """Each rebase over the same commits asked for the same decision, where git's rerere remembers
    a resolution."""
    maintainer = stopped.maintainer
    old = maintainer.files()
    assert maintainer.run("rebase", "--skip", "--reason", "ask upstream").status == 0
    maintainer.git("reset", "--quiet", "--hard", "HEAD^")
    assert maintainer.files() == old
    ran = maintainer.on_source("rebase", "--onto", "main")
    assert (ran.status, "skipped   before" in ran.out) == (3, False), "nothing is remembered here"
    maintainer.run("rebase", "--abort")
    maintainer.on_source("rebase", "--onto", "main", "--new-line", "next")
    ran = maintainer.run("rebase", "--skip", "--reason", "ask upstream")
    assert (ran.status, "verify --prove" in ran.out) == (0, False), ran.err
    assert "skipped" in ran.out
    assert "since: ask upstream" in ran.out
    ran = maintainer.on_source("rebase", "--onto", "main", "--line", "main", "--new-line", "third")
    assert ran.status == 3, ran.err
    assert "skipped   before, at the same conflict, since: ask upstream" in ran.out
    (advice,) = (line for line in ran.out.splitlines() if line.startswith("next"))
    assert "--line main --skip --reason 'ask upstream'" in advice
    maintainer.run("rebase", "--abort")
    words = ("--onto", "main", "--line", "main", "--new-line", "third", "--accept-resolutions")
    done = document(maintainer.on_source("rebase", "--json", *words))
    assert (done["moved"], done["session"]) == (True, None)
    assert outcomes(done)["five"] == ("skipped", "shelved")
    assert "five: skipped, as it was skipped before: ask upstream" in done["warnings"]
    assert maintainer.files() == old


def test_a_resolution_goes_before_an_earlier_skip(stopped: Stopped) -> None:
    maintainer = stopped.maintainer
    maintainer.run("rebase", "--abort")
    maintainer.rebase("--new-line", "next")
    maintainer.resume("--skip", "--reason", "ask upstream")
    waiting = maintainer.rebase("--line", "main", "--new-line", "third")["session"]
    assert waiting["skipped_before"] == "ask upstream"
    stopped.resolve()
    assert maintainer.resume("--continue")["moved"]
    waiting = maintainer.rebase("--line", "main", "--new-line", "fourth")["session"]
    assert (waiting["remembered"], waiting["skipped_before"]) == (True, None)


def test_a_skip_is_not_proposed_at_another_conflict(stopped: Stopped) -> None:
    """Nor for another patch that stops at the same conflict."""
    maintainer = stopped.maintainer
    maintainer.run("rebase", "--abort")
    maintainer.rebase("--new-line", "next")
    maintainer.resume("--skip", "--reason", "ask upstream")
    series = maintainer.folder / "series"
    words = ("--line", "main", "--new-line", "third")
    for slug, line in (("five", "line W\n"), ("cinq", "line V\n")):
        if slug != "five":
            (maintainer.folder / "five.patch").rename(maintainer.folder / f"{slug}.patch")
            series.write_text(series.read_text().replace("five", slug))
            maintainer.save()
        text = NUMBERS.replace("line 5\n", line)
        maintainer.upstream.commit("rewrite", python__model_py=text)
        waiting = maintainer.rebase(*words)["session"]
        assert (waiting["patch"], waiting["skipped_before"]) == (slug, None)
        maintainer.run("rebase", "--abort")


def test_a_skip_in_a_rebase_that_was_given_up_is_remembered(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    rewrite(maintainer.upstream)
    maintainer.upstream.commit("remove it", python__other_py=None)  # git gives this no name
    assert maintainer.rebase()["session"]["skipped_before"] is None
    stopped = maintainer.resume("--skip", "--reason", "ask upstream")["session"]
    assert (stopped["patch"], stopped["skipped_before"]) == ("other", None)
    maintainer.run("rebase", "--abort")
    assert maintainer.rebase()["session"]["skipped_before"] == "ask upstream"
    stopped = maintainer.resume("--skip", "--reason", "ask upstream")["session"]
    assert (stopped["patch"], stopped["skipped_before"]) == ("other", None)


def test_what_needs_a_skipped_patch_is_shelved_with_it(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.team.patch("more", "five more", base="patch/five", python__model_py=FIVE_MORE)
    maintainer.save()
    rewrite(maintainer.upstream)
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {"five": ("conflict", "asked"), "more": ("blocked", "asked")}
    rebased = maintainer.resume("--skip")
    assert outcomes(rebased) == {"five": ("skipped", "shelved"), "more": ("blocked", "shelved")}


def test_what_another_patch_may_still_block_is_not_shelved_yet(maintainer: Maintainer) -> None:
    """It was shown as shelved as soon as any patch was skipped, and then asked about after all."""
    maintainer.patch_other()
    maintainer.patch_five()
    maintainer.team.patch("more", "five more", base="patch/five", python__model_py=FIVE_MORE)
    maintainer.save()
    rewrite(maintainer.upstream)
    maintainer.upstream.commit("rewrite other", python__other_py="Alpha\nBeta\nGamma\n")
    rebased = maintainer.rebase()
    assert outcomes(rebased)["more"] == ("blocked", "asked")
    rebased = maintainer.resume("--skip")
    assert outcomes(rebased) == {
        "other": ("skipped", "shelved"), "five": ("conflict", "asked"), "more": ("blocked", "asked"),
    }  # fmt: skip
    rebased = maintainer.resume("--skip")
    assert outcomes(rebased)["more"] == ("blocked", "shelved")


def test_a_session_that_others_may_write_is_not_believed(stopped: Stopped, home: Path) -> None:
    (home / "state" / "rebase").chmod(0o777)
    message = "can be written to by every user"
    expect_refusal(stopped.maintainer, "--continue", status=4, message=message)
    assert stopped.tree.exists()


def test_of_two_that_wait_one_must_be_named(stopped: Stopped) -> None:
    maintainer = stopped.maintainer
    shutil.copytree(maintainer.folder, maintainer.folder.with_name("other"))
    maintainer.save()
    for line in ("other", "main"):
        maintainer.rebase("--line", line)
    ran = maintainer.run("rebase", "--abort")
    assert ran.status == 2
    assert "more than one rebase waits, and no line is named: of main, other" in ran.err
    assert maintainer.run("rebase", "--abort", "--line", "other").status == 0
    assert maintainer.run("rebase", "--abort").status == 0


def test_abort(stopped: Stopped) -> None:
    maintainer = stopped.maintainer
    before = maintainer.files()
    assert maintainer.run("rebase", "--abort").status == 0
    assert maintainer.files() == before
    assert not stopped.tree.exists()
    assert maintainer.run("rebase", "--abort").status == 2


def test_a_work_tree_that_is_gone_can_be_aborted(stopped: Stopped) -> None:
    shutil.rmtree(stopped.tree)
    expect_refusal(stopped.maintainer, "--continue", status=4, message="is gone")
    assert stopped.maintainer.run("rebase", "--abort").status == 0
    assert stopped.maintainer.rebase()["session"]["patch"] == "five"


def test_people_are_told_what_to_do(stopped: Stopped) -> None:
    assert stopped.maintainer.run("rebase", "--abort").status == 0
    text = stopped.maintainer.on_source("rebase", "--onto", "main").out
    for words in (
        "five (patch 2 of 3) needs a person", "python/model.py: hunk 1, written for line 2",
        "by A Person:", "rewrite five (#12)", "It was wrong for odd ones.",
        "next      fixtool rebase -C ", " --line main --continue   (or --skip, or --abort)\n",
    ):  # fmt: skip
        assert words in text, text


def test_a_resolution_is_remembered_by_the_team(stopped: Stopped, tmp_path: Path) -> None:
    """A colleague, whose fixtool has never seen the conflict, is offered the resolution."""
    maintainer = stopped.maintainer
    stopped.resolve()
    toml = maintainer.files()["upstream.toml"]
    rebased = maintainer.resume("--continue")
    files = maintainer.files()
    (name,) = (name for name in files if name.startswith("resolutions/"))
    text = files[name].decode()
    assert text.startswith("# five onto ")
    assert "+line V fixed" in text
    assert "line 30" not in text  # the difference alone, not the whole file
    # The line goes back to where it was, with the memory that it has now.
    maintainer.git("checkout", "--quiet", "HEAD^", "--", "patches/main")
    assert maintainer.files()["upstream.toml"] == toml
    maintainer.save()
    resolution = maintainer.folder / name
    assert resolution.exists()
    # On the machine where it was resolved, it is asked for again if the line has forgotten it.
    resolution.rename(tmp_path / "kept")
    maintainer.save()
    assert maintainer.rebase()["session"]["remembered"] is False
    assert maintainer.run("rebase", "--abort").status == 0
    (tmp_path / "kept").rename(resolution)
    maintainer.save()
    colleague = {"FIXTOOL_STATE_DIR": str(tmp_path / "colleague")}
    offered = maintainer.rebase(**colleague)
    assert offered["exit_code"] == 3
    assert offered["session"]["remembered"] is True
    assert maintainer.run("rebase", "--abort", **colleague).status == 0
    accepted = maintainer.rebase("--accept-resolutions", **colleague)
    assert accepted["exit_code"] == 0, accepted["session"]
    assert accepted["tree"] == rebased["tree"]


KILLED_AT = {
    "decide": "run.write_line = die",
    "write": "commit.rewrite = die",
    "commit": "commit._commit = die",
    "end": "run.end_session = die",
    "after": """
def half(_, place):
    shutil.rmtree(place / 'python')
    (place / '.git').unlink()
    die()
session.worktrees.remove = half""",
}


@pytest.mark.parametrize("stage", KILLED_AT)
def test_a_killed_run_is_resumed(stopped: Stopped, stage: str) -> None:
    maintainer = stopped.maintainer
    stopped.resolve()
    code = f"""
import os, shutil, signal
from fixtool.rebase import run, session
from fixtool.series import commit
from fixtool.cli import app
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{KILLED_AT[stage]}
app()
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, "rebase", "--continue", "-C", str(maintainer.team.root)],
        env=dict(os.environ), check=False, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -9
    assert stopped.tree.exists()
    maintainer.resume("--continue")
    assert maintainer.git("status", "--porcelain") == ""
    assert maintainer.git("show", "-s", "--format=%s").startswith("main: rebase onto ")
    assert maintainer.git("rev-list", "--count", "HEAD") == "2"
    assert not stopped.tree.exists()


def _parked_on(maintainer: Maintainer, **upstream: str | None) -> Stopped:
    """A rebase of the patch `five` that stopped, after upstream has changed these files."""
    maintainer.patch_five()
    maintainer.save()
    maintainer.upstream.commit("change", **upstream)
    return Stopped(maintainer, maintainer.rebase())


def test_it_says_where_the_markers_are(stopped: Stopped) -> None:
    session = stopped.document["session"]
    assert session["places"] == [{"path": "python/model.py", "lines": [5], "why": ""}]
    (hunk,) = session["hunks"]
    assert (hunk["path"], hunk["number"], hunk["now_in"]) == ("python/model.py", 1, None)
    parked = stopped.maintainer.run("rebase", "--abort")
    assert parked.status == 0
    again = stopped.maintainer.on_source("rebase", "--onto", "main")
    assert "edit      python/model.py:5\n" in again.out


def test_a_hunk_that_the_merge_has_put_in_is_not_named(maintainer: Maintainer) -> None:
    """The first hunk has no place of its own, since a line beside it changed; the merge puts it in
    all the same, and only the second one waits."""
    text = NUMBERS.replace("line 3\n", "line III\n").replace("line 20\n", "line XX\n")
    maintainer.team.patch("both", "fix both", python__model_py=FIVE_AND_TWENTY)
    maintainer.save()
    maintainer.upstream.commit("change", python__model_py=text)
    session = maintainer.rebase()["session"]
    assert [hunk["number"] for hunk in session["hunks"]] == [2]
    assert len(session["places"][0]["lines"]) == 1


def test_lines_that_upstream_moved_are_found(maintainer: Maintainer) -> None:
    """Upstream has moved the function to another file, and has changed a line of it there, so that
    the hunk cannot follow by itself. Another file has half of the lines too."""
    before = "".join(f"    statement number {number} of it\n" for number in range(1, 10))
    maintainer.upstream.commit("write", python__long_py=f"def long():\n{before}\n\nend = True\n")
    maintainer.team.line(base=maintainer.upstream.head())
    maintainer.team.patch("long", "mend it", base="main", python__long_py=(
        f"def long():\n{before.replace('number 5 of it', 'number five of it')}\n\nend = True\n"
    ))  # fmt: skip
    maintainer.save()
    moved = before.replace("number 6 of it", "number six of it").replace("    ", "        ")
    maintainer.upstream.commit(
        "move", python__long_py="end = True\n", python__a_twin_py="".join(moved.splitlines(True)[:5]),
        python__other_py=f"import os\n\n\ndef long():\n{moved}",
    )  # fmt: skip
    session = maintainer.rebase()["session"]
    (hunk,) = session["hunks"]
    assert (hunk["now_in"], hunk["now_at"]) == ("python/other.py", 6)


def test_a_file_that_upstream_removed_has_to_be_decided(maintainer: Maintainer) -> None:
    """Its whole text lies in the work tree without a marker. Going on at once would bring it back."""
    stopped = _parked_on(maintainer, python__model_py=None)
    (place,) = stopped.document["session"]["places"]
    assert (place["lines"], "earlier patch has removed it" in place["why"]) == ([], True)
    assert [hunk["number"] for hunk in stopped.document["session"]["hunks"]] == [1]
    message = "python/model.py is not resolved: upstream or an earlier patch has removed it"
    expect_refusal(maintainer, "--continue", status=1, message=message)
    Git(stopped.tree)("rm", "--quiet", "python/model.py")
    assert outcomes(maintainer.resume("--continue"))["five"] == ("absorbed", "dropped")


def test_a_resolution_is_offered_again_to_the_old_line(stopped: Stopped) -> None:
    """A rebase to a new line keeps its resolutions there, and the old line is rebased again."""
    maintainer = stopped.maintainer
    assert maintainer.run("rebase", "--abort").status == 0
    again = Stopped(maintainer, maintainer.rebase("--new-line", "next"))
    again.resolve()
    rebased = maintainer.resume("--continue")
    offered = maintainer.rebase("--line", "main", "--new-line", "later")
    assert offered["session"]["remembered"] is True
    assert maintainer.resume("--continue", "--line", "main")["tree"] == rebased["tree"]


def test_what_waits_is_remembered_if_it_is_resolved(stopped: Stopped) -> None:
    """A change that came in by git keeps the rebase from going on. The resolution was lost then."""
    maintainer = stopped.maintainer
    assert maintainer.run("rebase", "--abort").status == 0
    again = Stopped(maintainer, maintainer.rebase())
    assert again.document["session"]["remembered"] is False
    again.resolve()
    other = maintainer.folder / "other.patch"
    other.write_bytes(other.read_bytes().replace(b"+beta!", b"+beta, and more!"))
    maintainer.save()
    message = "line main has changed since the rebase began"
    expect_refusal(maintainer, "--continue", status=1, message=message)
    assert maintainer.run("rebase", "--abort").status == 0
    assert maintainer.rebase()["session"]["remembered"] is True
    assert outcomes(maintainer.resume("--continue"))["five"] == ("merged", "rewritten")


def test_what_was_resolved_outlives_a_rebase_that_is_given_up(maintainer: Maintainer) -> None:
    """The second patch was too much for the day; the first one need not be resolved again."""
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    rewrite(maintainer.upstream)
    maintainer.upstream.commit("rewrite other", python__other_py="Alpha\nBeta\nGamma\n")
    first = Stopped(maintainer, maintainer.rebase())
    first.resolve()
    assert maintainer.resume("--continue")["session"]["patch"] == "other"
    before = maintainer.files()
    assert maintainer.run("rebase", "--abort").status == 0
    assert maintainer.files() == before
    session = maintainer.rebase()["session"]
    assert (session["patch"], session["remembered"]) == ("five", True)


def test_a_resolution_in_other_files_is_remembered_too(stopped: Stopped) -> None:
    """The person has made the change elsewhere: without that file, the resolution is not whole."""
    maintainer = stopped.maintainer
    stopped.resolve("line V\n")
    elsewhere = stopped.tree / "python/other.py"
    elsewhere.write_text(elsewhere.read_text() + "five = 'fixed'\n")
    rebased = maintainer.resume("--continue")
    maintainer.git("checkout", "--quiet", "HEAD^", "--", "patches/main")
    maintainer.save()
    once_more = maintainer.rebase("--accept-resolutions", "--new-line", "next")
    assert once_more["tree"] == rebased["tree"]
    shutil.rmtree(maintainer.folder / "resolutions")  # what was learned from what was remembered
    maintainer.save()
    accepted = maintainer.rebase("--accept-resolutions", "--line", "main")
    assert accepted["exit_code"] == 0, accepted["session"]
    assert accepted["tree"] == rebased["tree"]
