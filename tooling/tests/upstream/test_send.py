"""Sending a pull request: one branch, one pull request, no duplicates."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from fixtool.github import client
from fixtool.github.push import PushRemote
from fixtool.markdown import read_marker
from fixtool.series import trailers
from support import git_http as githttp
from support.github_api import TOKEN, assert_token_unseen, record_git
from support.json_documents import document
from support.processes import GENEROUS
from support.upstream import Hosting, call, check_result

pytestmark = pytest.mark.slow(1)  # each pushes to a real repository over HTTP

PULL = "https://github.com/sgl/sglang/pull/1"


@pytest.fixture
def single(hosting: Hosting) -> Hosting:
    """A series of one patch, which takes half the time."""
    hosting.repos.keep("b")
    hosting.repos.save()
    return hosting


def send(single: Hosting, *more: str, slug: str = "b") -> dict[str, Any]:
    return document(call(*single.repos.words(slug, "--send", "--yes", "--json", *more)))


def send_again(hosting: Hosting, slug: str = "b") -> dict[str, Any]:
    """Send what was sent before: nothing is written."""
    hosting.api.log.clear()
    result = send(hosting, slug=slug)
    assert (result["sent"]["action"], hosting.api.writes) == ("unchanged", [])
    return result


def refused(single: Hosting, *more: str, code: int, slug: str = "b") -> str:
    """Send, and return message and hint. Checks that fork and upstream did not change."""
    before = single.state()
    single.api.log.clear()
    result = send(single, *more, slug=slug)
    assert (result["exit_code"], single.state(), single.api.writes) == (code, before, [])
    assert TOKEN not in json.dumps(result)
    return f"{result['error']['message']} | {result['error']['hint']}"


def edit(single: Hosting, old: str = "Why.", new: str = "Because.", slug: str = "b") -> None:
    single.repos.edit(slug, old, new)
    single.repos.save()


# -- sent once -------------------------------------------------------------------------------


def test_it_is_pushed_and_opened_and_written_down(hosting: Hosting) -> None:
    hosting.repos.keep("a", "c")
    before = hosting.repos.save()
    result = send(hosting, slug="c")
    tip = result["commits"][-1]["commit"]
    assert hosting.tip("c") == tip
    assert hosting.fork("rev-parse", "c~2") == hosting.repos.upstream("rev-parse", "main")
    (pull,) = hosting.api.pulls
    assert (pull["head"]["label"], pull["base"]["ref"]) == ("octocat:c", "main")
    assert pull["title"] == "[GEMMA4] Change five more"
    marker = read_marker(pull["body"], "upstream")
    assert marker and marker["head"] == tip
    assert pull["body"].partition("\n")[2].strip() == result["body"].strip()
    assert result["sent"] == {
        "action": "created", "number": 1, "url": PULL, "fork": "octocat/sglang", "branch": "c",
        "commit": tip, "replaced": None, "commented": False, "kept_title": False,
        "kept_body": False, "recorded": str(hosting.repos.file("c")),
    }  # fmt: skip
    assert f"\nForwarded: {PULL}\nDrop-When: never\n" in hosting.repos.file("c").read_text()
    team = hosting.repos.team
    assert team("log", "--format=%an %s", f"{before}..") == (
        "A Maintainer main: say where c stands upstream"
    )
    assert team("diff", "--name-only", before) == "patches/main/c.patch"
    assert team("status", "--porcelain") == ""
    drift = call("lint", "-C", team.path, "--drift", "--source", hosting.repos.upstream.path)
    assert "c.patch" not in drift.out  # the file is in normal form
    state = hosting.state()
    hosting.api.log.clear()
    again = send(hosting, slug="c")
    assert (again["sent"]["action"], again["sent"]["recorded"]) == ("unchanged", None)
    assert again["commits"][-1]["commit"] == tip  # the trailer is the fork's own
    assert (hosting.state(), hosting.api.writes) == (state, [])
    assert team("rev-parse", "HEAD~1") == before


def test_an_edited_patch_updates_the_same_pull_request(hosting: Hosting) -> None:
    hosting.repos.keep("a", "c")
    hosting.repos.save()
    first = send(hosting, slug="c")["sent"]["commit"]
    edit(hosting, slug="c")
    result = send(hosting, slug="c")["sent"]
    assert (result["action"], result["replaced"], result["commented"]) == ("updated", first, True)
    (pull,) = hosting.api.pulls
    assert "Because." in pull["body"]
    assert hosting.tip("c") == result["commit"] != first
    (comment,) = hosting.api.comments[1]
    mark, first_line, _, *diff = comment.split("\n")
    assert mark == f"<!-- fixtool range-diff 1 from={first[:12]} to={result['commit'][:12]} -->"
    assert first_line == f"Updated: `{first[:12]}` to `{result['commit'][:12]}`. The range-diff:"
    assert (diff[0], diff[-1]) == ("```diff", "```")
    assert re.search(r"^1:  [0-9a-f]+ = 1:  [0-9a-f]+ \[GEMMA4\] Change five$", comment, re.M)
    assert re.search(r"^ +-    Why\.\n +\+    Because\.$", comment, re.MULTILINE), comment
    send_again(hosting, slug="c")
    hosting.repos.upstream.commit("[x] go on (#7)", README_txt="on\n")
    third = send(hosting, slug="c")["sent"]  # the same patches on another commit
    assert (third["commented"], len(hosting.api.comments[1]), len(hosting.api.pulls)) == (
        True,
        2,
        1,
    )


def test_what_was_written_on_github_is_kept(single: Hosting) -> None:
    send(single)
    (pull,) = single.api.pulls
    pull["body"] = pull["body"].replace("Why.", "As I say.").replace("\n", "\r\n")
    edit(single)
    result = send(single)["sent"]
    assert (result["kept_body"], result["kept_title"], result["commented"]) == (True, False, True)
    assert "As I say." in pull["body"]
    assert "Because." not in pull["body"]
    pull["title"] = "[Model] Change five"
    single.api.log.clear()
    result = send(single)["sent"]
    assert (result["kept_body"], result["kept_title"], result["action"]) == (
        True,
        True,
        "unchanged",
    )
    assert single.api.writes == []
    edit(single, "Because.", "So.")
    assert send(single)["sent"]["action"] == "updated"
    assert pull["title"] == "[Model] Change five"
    assert "As I say." in pull["body"]
    assert len(single.api.comments[1]) == 2


def test_another_title_is_sent_and_trimmed_text_is_no_edit(single: Hosting) -> None:
    send(single)
    (pull,) = single.api.pulls
    pull["body"] = pull["body"].replace("\n", "\r\n").strip()
    result = send(single, "--title", "[Model] Change five")["sent"]
    assert (pull["title"], result["kept_title"], result["kept_body"]) == (
        "[Model] Change five", False, False,
    )  # fmt: skip


def test_figures_stay_current_when_the_address_is_written(single: Hosting) -> None:
    patch = single.repos.repository.line("main").find("b")
    single.repos.keep_result("2026-11-24-x", check_result(patch, "all"))
    single.repos.save()
    first = send(single, slug="b")
    assert first["sent"]["recorded"]
    assert single.repos.repository.line("main").find("b").digest != patch.digest
    again = send(single, slug="b")
    assert (again["figures"], again["stale"]) == (first["figures"], [])
    assert (again["sent"]["action"], again["body"]) == ("unchanged", first["body"])


def test_a_branch_and_a_fork_of_another_name(single: Hosting) -> None:
    single.fork.path.rename(single.fork.path.with_name("sgl-mirror.git"))
    single.api.forks = {"OctoCat/sgl-mirror": {"archived": False}}
    single.fork.path.parent.rename(single.fork.path.parent.with_name("OctoCat"))
    there = ("--fork", "octocat/SGL-mirror", "--branch", "topic/c")
    ran = call(*single.repos.words("b", *there))
    assert ran.out.endswith(f" {' '.join(there)} --send\n")  # the next command names them too
    result = send(single, *there)["sent"]
    assert (result["fork"], result["branch"]) == ("OctoCat/sgl-mirror", "topic/c")
    assert single.api.pulls[0]["head"]["label"] == "OctoCat:topic/c"


# -- asked first -----------------------------------------------------------------------------


def test_nothing_is_sent_before_somebody_says_so(
    single: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = single.state()
    ran = call(*single.repos.words("b", "--send"))
    tip = re.findall(r"^([0-9a-f]{12})  ", ran.out, re.MULTILINE)[-1]
    plan = f"push {tip} to octocat/sglang:b; open a pull request at sgl/sglang: [Numbers] Change"
    assert ran.status == 2
    assert f"nothing was sent: {plan} beta" in ran.err
    assert re.search("  try: fixtool upstream .* --yes$", ran.err, re.M)
    assert document(call(*single.repos.words("b", "--send", "--json")))["exit_code"] == 2
    monkeypatch.setattr(typer, "get_text_stream", lambda name: SimpleNamespace(isatty=lambda: True))
    no = call(*single.repos.words("b", "--send"), typed="n\n")
    assert (no.status, "error: nothing was sent" in no.err) == (1, True)
    assert (single.state(), single.api.writes) == (before, [])
    yes = call(*single.repos.words("b", "--send"), typed="y\n")
    assert yes.status == 0
    assert f"created   {PULL}\nrecorded  Forwarded: {PULL} in " in yes.out
    asked = call(*single.repos.words("b", "--send"), typed="n\n")
    assert f"octocat/sglang:b holds {tip} already; update {PULL}. Send it?" in asked.out


def test_what_the_preflight_refuses_is_not_sent(single: Hosting) -> None:
    edit(single, "Why.", "For @octocat.")
    assert "the preflight says no: calls at message of b, line 3" in refused(single, code=1)


def test_what_is_not_committed_is_not_sent(single: Hosting) -> None:
    single.repos.edit("b", "Why.", "Because.")
    assert "patches/main/b.patch is not committed" in refused(single, code=1)
    assert single.tip() is None


def test_nobody_to_write_it_down_is_said_before(single: Hosting) -> None:
    for name in ("name", "email"):
        single.repos.team("config", f"user.{name}", "")
    single.repos.team("config", "user.useConfigOnly", "true")
    assert "git does not know who you are" in refused(single, code=4)


def test_not_to_another_server(single: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXTOOL_URL", "https://gitlab.example/sgl/sglang")
    message = refused(single, code=2)
    assert "upstream is https://gitlab.example/sgl/sglang, which is not on GitHub" in message
    assert "--mail DIR" in message
    monkeypatch.setenv("GITHUB_TOKEN", "")
    monkeypatch.setenv("FIXTOOL_URL", single.env["FIXTOOL_URL"])
    assert "export GITHUB_TOKEN=$(gh auth token)" in refused(single, code=4)


# -- where it may not go ---------------------------------------------------------------------


def test_not_to_the_repository_of_another_project(
    single: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIXTOOL_URL", f"{single.server.url}/other/project.git")
    message = refused(single, code=1)
    assert "line main is for https://github.com/sgl/sglang, and the settings name" in message


def test_not_to_sglang_from_another_projects_tree(
    single: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that an earlier `init --upstream PATH` made name SGLang, whatever the clone was of."""
    monkeypatch.setenv("FIXTOOL_URL", f"{single.server.url}/sgl-project/sglang.git")
    single.api.repository = "sgl-project/sglang"
    toml = single.repos.file("b").with_name("upstream.toml")
    toml.write_text(toml.read_text().replace("/sgl/", "/sgl-project/"))
    single.repos.save()
    message = refused(single, code=1)
    assert "line main names https://github.com/sgl-project/sglang, and " in message
    assert "holds no python/sglang/: it is the tree of another project" in message


def test_a_token_that_is_not_taken(single: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "wrong")
    assert "does not take the token (Bad credentials)" in refused(single, code=4)
    ran = call(*single.repos.words("b", "--send", "--yes"))
    assert (ran.status, ran.out) == (4, "")  # before hooks and tests, which take a minute
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    single.server.login = "x-access-token:another"
    assert "put a token that may write" in refused(single, code=4)


def test_forks_that_are_none(single: Hosting) -> None:
    other = {"source": {"full_name": "evil/sglang"}}
    none = "there is no fork octocat/sglang, or the token may not see it | gh repo fork sgl/sglang"
    for fork, words, message, code in (
        (None, "", none, 4),
        ({"archived": True}, "", "the fork octocat/sglang is archived", 1),
        ({"fork": False}, "", "octocat/sglang is no fork of sgl/sglang", 1),
        (other, "", "octocat/sglang is no fork of sgl/sglang", 1),
        ({}, "--fork sgl", "sgl/sglang is no fork of sgl/sglang", 1),
        ({}, "--fork hubot", "there is no fork hubot/sglang", 4),
        ({}, "--fork -x", "is no repository's name", 2),
        ({}, "--fork octocat/../x", "is no repository's name", 2),
        ({}, "--branch --force", "is not a commit id, tag, branch", 2),
        ({}, "--branch main", "main is the default branch, which fixtool never pushes to", 2),
    ):
        single.api.forks = {} if fork is None else {"octocat/sglang": fork}
        assert message in refused(single, *words.split(), code=code)


def test_a_branch_that_somebody_else_pushed(single: Hosting) -> None:
    single.fork("update-ref", "refs/heads/b", "main")
    message = refused(single, code=1)
    assert "on its branch b, which fixtool did not push" in message
    assert "--branch NAME" in message


def test_a_reviewers_commit_on_our_branch_is_not_pushed_over(single: Hosting) -> None:
    sent = send(single)["sent"]["commit"]
    theirs = single.fork("commit-tree", "b^{tree}", "-p", "b", "-m", "a reviewer's")
    single.fork("update-ref", "refs/heads/b", theirs)
    edit(single)
    message = refused(single, code=1)
    assert theirs[:12] in message
    assert f"then put the branch back to {sent[:12]}" in message
    assert single.tip() == theirs
    single.fork("update-ref", "refs/heads/b", sent)
    assert send(single)["sent"]["action"] == "updated"


def test_a_pull_request_that_is_done_or_not_ours(single: Hosting) -> None:
    send(single)
    before = dict(single.api.pulls[0])
    merged = {"state": "closed", "merged_at": "2026-11-24T00:00:00Z"}
    for change, message in (
        ({"state": "closed"}, f"{PULL} was closed | choose another branch"),
        (merged, "write that into the patch"),
        ({"body": "by hand"}, f"{PULL} was not opened by fixtool, so its text is left alone"),
        ({"body": "x\n<!-- fixtool upstream 1 head=a -->"}, "was not opened by fixtool"),
    ):
        single.api.pulls[0].update({**before, **change})
        assert message in refused(single, code=1)
    assert send(single, "--branch", "again")["sent"]["number"] == 2


def test_a_fork_that_is_behind(single: Hosting, tmp_path: Path) -> None:
    """The store is shallow, and the fork lacks the commit with which it begins."""
    git = single.repos.upstream
    long_ago = {
        "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
        "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    }
    who = [word for key in ("name", "email") for word in ("-c", f"user.{key}=x@x.example")]
    old = subprocess.run(
        ["git", "-C", git.path, *who, "commit-tree", "v1.0^{tree}", "-m", "long ago"],
        env={**os.environ, **long_ago}, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    base, tip = git("rev-parse", "v1.0"), git("commit-tree", "v1.0^{tree}", "-p", old, "-m", "base")
    git("reset", "--quiet", "--hard", tip)
    about = single.repos.file("b").with_name("upstream.toml")
    about.write_text(about.read_text().replace(base, tip))
    single.repos.save()
    githttp.publish(git.path, tmp_path / "theirs" / "sglang.git")
    with githttp.serve(tmp_path / "theirs") as theirs:
        words = single.repos.words("b", "--send", "--yes", "--source", f"{theirs.url}/sglang.git")
        ran = call(*words)
        assert ran.status == 4
        assert f"octocat/sglang lacks upstream's {tip[:12]}" in ran.err
        assert "  try: bring the fork up to date: gh repo sync octocat/sglang" in ran.err
        assert (single.tip(), single.api.pulls) == (None, [])
        single.fork("fetch", "--quiet", str(git.path), "+main:upstream")
        ran = call(*words)
        assert ran.status == 0, ran.err
    assert single.fork("rev-parse", "b~1") == tip


# -- bad days --------------------------------------------------------------------------------


def test_rate_limits(single: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    single.api.fail("GET /user", 403, "API rate limit exceeded", headers={"Retry-After": "2460"})
    assert "rate limit is used up for 41 minutes" in refused(single, code=4)
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    single.api.fail("POST .*/pulls$", 429, "slow down", headers={"Retry-After": "7"})
    assert send(single)["sent"]["action"] == "created"
    assert 7.0 in slept


@pytest.mark.parametrize(
    ("where", "after"),
    [("GET .*/pulls$", False), ("push", False), ("push", True)]
    + [(f"{request}$", after) for request in ("POST .*/pulls", "POST .*/comments", r"PATCH .*/pulls/\d+")
       for after in (False, True)],
)  # fmt: skip
def test_cut_off_anywhere_the_next_run_finishes(single: Hosting, where: str, after: bool) -> None:
    """The first run gets no answer at all, whether or not the request was carried out."""
    second = "PATCH" in where or "comments" in where
    if second:
        send(single)
        edit(single)
    if where == "push" and not after:
        single.fork("config", "receive.denyUpdates", "true")
        single.fork("config", "http.receivepack", "false")
    elif where == "push":
        single.server.swallow = 1
    else:
        single.api.fail(where, None, after=after, times=9)
    first = send(single)
    assert first["exit_code"] in (0, 4), first
    if first["exit_code"] == 0:  # what was created without an answer was found at once
        assert after
    single.api.faults.clear()
    single.fork("config", "http.receivepack", "true")
    result = send(single)
    (pull,) = single.api.pulls
    assert single.tip() == result["commits"][-1]["commit"]
    marker = read_marker(pull["body"], "upstream")
    assert marker and marker["head"] == single.tip()
    assert result["body"].strip() in pull["body"]
    assert len(single.api.comments.get(1, [])) == (1 if second else 0)
    assert f"Forwarded: {PULL}" in single.repos.file("b").read_text()
    send_again(single)


def test_edited_after_a_push_of_which_no_pull_request_tells(single: Hosting) -> None:
    single.api.fail("POST .*/pulls$", None, times=9)
    assert send(single)["exit_code"] == 4
    pushed = single.tip()
    single.api.faults.clear()
    edit(single)
    result = send(single)["sent"]
    assert (result["action"], result["replaced"]) == ("created", pushed)
    assert single.api.comments == {}


def test_cut_off_before_the_address_is_written(
    single: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as here:
        here.setattr(trailers, "record", cut)
        assert call(*single.repos.words("b", "--send", "--yes")).status == 130
    assert "Forwarded: no" in single.repos.file("b").read_text()
    result = send(single)["sent"]
    assert (result["action"], bool(result["recorded"])) == ("unchanged", True)
    assert f"Forwarded: {PULL}" in single.repos.file("b").read_text()


def test_a_lease_that_was_lost(single: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pushes after the branch was read and before it is pushed."""
    send(single)
    edit(single)
    push = PushRemote.push
    theirs = single.fork("commit-tree", "b^{tree}", "-p", "b", "-m", "late")

    def late(self: PushRemote, commit: str, expected: str | None) -> None:
        single.fork("update-ref", "refs/heads/b", theirs)
        push(self, commit, expected)

    monkeypatch.setattr(PushRemote, "push", late)
    before = single.api.pulls[0]["body"]
    result = send(single)
    assert (result["exit_code"], "somebody else pushed to b just now" in result["error"]["message"]) == (4, True)  # fmt: skip
    assert (single.tip(), single.api.pulls[0]["body"], single.api.comments) == (theirs, before, {})


def test_two_runs_at_once(single: Hosting) -> None:
    """As two processes."""
    command = [
        sys.executable,
        "-m",
        "fixtool",
        *map(str, single.repos.words("b", "--send", "--yes")),
    ]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=GENEROUS) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 4]), outputs
    assert all("Traceback" not in err for _, err in outputs)
    if codes == [0, 4]:
        late = ("is in use by process", "somebody else has committed here meanwhile")
        assert any(message in err for _, err in outputs for message in late), outputs
    assert len(single.api.pulls) == 1
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"unchanged {PULL}" in last.stdout


def test_the_token_is_in_no_argument_file_or_message(
    single: Hosting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", record_git(tmp_path))
    ran = call(*single.repos.words("b", "--send", "--yes"))
    assert ran.status == 0
    argv = (tmp_path / "argv").read_text()
    assert " push " in argv
    repos = single.repos
    folders = (repos.settings.state, repos.settings.cache, repos.team.path)
    assert_token_unseen(folders, ran.out, ran.err, argv)
