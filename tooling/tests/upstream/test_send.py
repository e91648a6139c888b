"""Sending a proposal, and where it stands: one branch, one pull request, nothing twice."""

from __future__ import annotations

import base64
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
from support.github_api import TOKEN
from support.json_documents import document
from support.upstream import Sea, call

PULL = "https://github.com/sgl/sglang/pull/1"


@pytest.fixture
def world(wide: Sea) -> Sea:
    """With a series of one patch, which takes half the time."""
    wide.land.keep("b")
    wide.land.save()
    return wide


def send(world: Sea, *more: str, slug: str = "b") -> dict[str, Any]:
    return document(call(*world.land.words(slug, "--send", "--yes", "--json", *more)))


def refused(world: Sea, *more: str, code: int, slug: str = "b") -> str:
    """The message and the hint; and nothing of the other side has changed."""
    before = world.state()
    world.api.log.clear()
    result = send(world, *more, slug=slug)
    assert (result["exit_code"], world.state(), world.api.writes) == (code, before, [])
    assert TOKEN not in json.dumps(result)
    return f"{result['error']['message']} | {result['error']['hint']}"


def edit(world: Sea, old: str = "Why.", new: str = "Because.", slug: str = "b") -> None:
    world.land.edit(slug, old, new)
    world.land.save()


# -- sent once -------------------------------------------------------------------------------


def test_it_is_pushed_and_opened_and_written_down(wide: Sea) -> None:
    wide.land.keep("a", "c")
    before = wide.land.save()
    result = send(wide, slug="c")
    tip = result["commits"][-1]["commit"]
    assert wide.tip("c") == tip
    assert wide.fork("rev-parse", "c~2") == wide.land.upstream("rev-parse", "main")
    (pull,) = wide.api.pulls
    assert (pull["head"]["label"], pull["base"]["ref"]) == ("octocat:c", "main")
    assert pull["title"] == "[GEMMA4] Change five more"
    marker = read_marker(pull["body"], "upstream")
    assert marker and marker["head"] == tip
    assert pull["body"].partition("\n")[2].strip() == result["body"].strip()
    assert result["sent"] == {
        "action": "created", "number": 1, "url": PULL, "fork": "octocat/sglang", "branch": "c",
        "commit": tip, "replaced": None, "commented": False, "kept_title": False,
        "kept_body": False, "recorded": str(wide.land.file("c")),
    }  # fmt: skip
    assert f"\nForwarded: {PULL}\nDrop-When: never\n" in wide.land.file("c").read_text()
    team = wide.land.team
    assert team("log", "--format=%an %s", f"{before}..") == (
        "A Maintainer main: say where c stands upstream"
    )
    assert team("diff", "--name-only", before) == "patches/main/c.patch"
    assert team("status", "--porcelain") == ""
    drift = call("lint", "-C", team.path, "--drift", "--source", wide.land.upstream.path)
    assert "c.patch" not in drift.out  # the file is in normal form
    state = wide.state()
    wide.api.log.clear()
    again = send(wide, slug="c")
    assert (again["sent"]["action"], again["sent"]["recorded"]) == ("unchanged", None)
    assert again["commits"][-1]["commit"] == tip  # the trailer is the fork's own
    assert (wide.state(), wide.api.writes) == (state, [])
    assert team("rev-parse", "HEAD~1") == before


def test_an_edited_patch_updates_the_same_pull_request(wide: Sea) -> None:
    wide.land.keep("a", "c")
    wide.land.save()
    first = send(wide, slug="c")["sent"]["commit"]
    edit(wide, slug="c")
    result = send(wide, slug="c")["sent"]
    assert (result["action"], result["replaced"], result["commented"]) == ("updated", first, True)
    (pull,) = wide.api.pulls
    assert "Because." in pull["body"]
    assert wide.tip("c") == result["commit"] != first
    (comment,) = wide.api.comments[1]
    mark, first_line, _, *diff = comment.split("\n")
    assert mark == f"<!-- fixtool range-diff 1 from={first[:12]} to={result['commit'][:12]} -->"
    assert first_line == f"Updated: `{first[:12]}` to `{result['commit'][:12]}`. The range-diff:"
    assert (diff[0], diff[-1]) == ("```diff", "```")
    assert re.search(r"^1:  [0-9a-f]+ = 1:  [0-9a-f]+ \[GEMMA4\] Change five$", comment, re.M)
    assert re.search(r"^ +-    Why\.\n +\+    Because\.$", comment, re.MULTILINE), comment
    wide.api.log.clear()
    assert send(wide, slug="c")["sent"]["action"] == "unchanged"
    assert wide.api.writes == []
    wide.land.upstream.commit("[x] go on (#7)", README_txt="on\n")
    third = send(wide, slug="c")["sent"]  # the same patches on another commit
    assert (third["commented"], len(wide.api.comments[1]), len(wide.api.pulls)) == (True, 2, 1)


def test_what_was_written_on_github_is_kept(world: Sea) -> None:
    send(world)
    (pull,) = world.api.pulls
    pull["body"] = pull["body"].replace("Why.", "As I say.").replace("\n", "\r\n")
    edit(world)
    result = send(world)["sent"]
    assert (result["kept_body"], result["kept_title"], result["commented"]) == (True, False, True)
    assert "As I say." in pull["body"]
    assert "Because." not in pull["body"]
    pull["title"] = "[Model] Change five"
    world.api.log.clear()
    result = send(world)["sent"]
    assert (result["kept_body"], result["kept_title"], result["action"]) == (
        True,
        True,
        "unchanged",
    )
    assert world.api.writes == []
    edit(world, "Because.", "So.")
    assert send(world)["sent"]["action"] == "updated"
    assert pull["title"] == "[Model] Change five"
    assert "As I say." in pull["body"]
    assert len(world.api.comments[1]) == 2


def test_another_title_is_sent_and_trimmed_text_is_no_edit(world: Sea) -> None:
    send(world)
    (pull,) = world.api.pulls
    pull["body"] = pull["body"].replace("\n", "\r\n").strip()
    result = send(world, "--title", "[Model] Change five")["sent"]
    assert (pull["title"], result["kept_title"], result["kept_body"]) == (
        "[Model] Change five", False, False,
    )  # fmt: skip


def test_figures_stay_current_when_the_address_is_written(world: Sea) -> None:
    patch = world.land.repository.line("main").find("b")
    result = {
        "command": "verify", "line": "main", "ref": "v1.0", "source": "git", "base": "a" * 40,
        "onto": "b" * 40, "missing": [], "kinds": ["checks"], "trees": {}, "started": "2026-11-24",
        "patches": [{"slug": "b", "sha256": patch.digest, "diff": patch.diff_digest}],
        "ended": "2026-11-24", "environment": {"gpus": [{"name": "H100"}]},
        "steps": [{"name": "routing", "kind": "check", "tree": "series", "slug": None, "want": [0],
                   "answer": 0, "outcome": "passed", "said": "all", "seconds": 1.0,
                   "memory_bytes": None, "log": None, "details": {}}],
    }  # fmt: skip
    world.land.team.write("verify/results/2026-11-24-x.json", json.dumps(result))
    world.land.save()
    first = send(world, slug="b")
    assert first["sent"]["recorded"]
    assert world.land.repository.line("main").find("b").digest != patch.digest
    again = send(world, slug="b")
    assert (again["figures"], again["stale"]) == (first["figures"], [])
    assert (again["sent"]["action"], again["body"]) == ("unchanged", first["body"])


def test_a_branch_and_a_fork_of_another_name(world: Sea) -> None:
    world.fork.path.rename(world.fork.path.with_name("sgl-mirror.git"))
    world.api.forks = {"OctoCat/sgl-mirror": {"archived": False}}
    world.fork.path.parent.rename(world.fork.path.parent.with_name("OctoCat"))
    there = ("--fork", "octocat/SGL-mirror", "--branch", "topic/c")
    ran = call(*world.land.words("b", *there))
    assert ran.out.endswith(
        f" {' '.join(there)} --send\n"
    )  # what is to be typed next goes there too
    result = send(world, *there)["sent"]
    assert (result["fork"], result["branch"]) == ("OctoCat/sgl-mirror", "topic/c")
    assert world.api.pulls[0]["head"]["label"] == "OctoCat:topic/c"


# -- asked first -----------------------------------------------------------------------------


def test_nothing_is_sent_before_somebody_says_so(
    world: Sea, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.state()
    ran = call(*world.land.words("b", "--send"))
    tip = re.findall(r"^([0-9a-f]{12})  ", ran.out, re.MULTILINE)[-1]
    plan = f"push {tip} to octocat/sglang:b; open a pull request at sgl/sglang: [Numbers] Change"
    assert ran.status == 2
    assert f"nothing was sent: {plan} beta" in ran.err
    assert "  try: the same command with --yes" in ran.err
    assert document(call(*world.land.words("b", "--send", "--json")))["exit_code"] == 2
    monkeypatch.setattr(typer, "get_text_stream", lambda name: SimpleNamespace(isatty=lambda: True))
    no = call(*world.land.words("b", "--send"), typed="n\n")
    assert (no.status, "error: nothing was sent" in no.err) == (1, True)
    assert (world.state(), world.api.writes) == (before, [])
    yes = call(*world.land.words("b", "--send"), typed="y\n")
    assert yes.status == 0
    assert f"created   {PULL}\nrecorded  Forwarded: {PULL} in " in yes.out
    asked = call(*world.land.words("b", "--send"), typed="n\n")
    assert f"octocat/sglang:b holds {tip} already; update {PULL}. Send it?" in asked.out


def test_what_the_preflight_refuses_is_not_sent(world: Sea) -> None:
    edit(world, "Why.", "For @octocat.")
    assert "the preflight says no: calls at message of b, line 3" in refused(world, code=1)


def test_what_is_not_committed_is_not_sent(world: Sea) -> None:
    world.land.edit("b", "Why.", "Because.")
    message = refused(world, code=1)
    assert "patches/main/b.patch is not committed" in message
    assert world.tip() is None


def test_nobody_to_write_it_down_is_said_before(world: Sea) -> None:
    for name in ("name", "email"):
        world.land.team("config", f"user.{name}", "")
    world.land.team("config", "user.useConfigOnly", "true")
    assert "git does not know who you are" in refused(world, code=4)


def test_not_to_another_server(world: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXTOOL_URL", "https://gitlab.example/sgl/sglang")
    message = refused(world, code=2)
    assert "upstream is https://gitlab.example/sgl/sglang, which is not on GitHub" in message
    assert "--mail DIR" in message
    monkeypatch.setenv("GITHUB_TOKEN", "")
    monkeypatch.setenv("FIXTOOL_URL", world.env["FIXTOOL_URL"])
    assert "GITHUB_TOKEN=$(gh auth token)" in refused(world, code=4)


# -- where it may not go ---------------------------------------------------------------------


def test_a_token_that_is_not_taken(world: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "wrong")
    assert "does not take the token (Bad credentials)" in refused(world, code=4)
    ran = call(*world.land.words("b", "--send", "--yes"))
    assert (ran.status, ran.out) == (4, "")  # before the minute that hooks and tests take
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    world.server.login = "x-access-token:another"
    assert "put a token that may write" in refused(world, code=4)


def test_forks_that_are_none(world: Sea) -> None:
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
        world.api.forks = {} if fork is None else {"octocat/sglang": fork}
        assert message in refused(world, *words.split(), code=code)


def test_a_branch_that_somebody_else_pushed(world: Sea) -> None:
    world.fork("update-ref", "refs/heads/b", "main")
    message = refused(world, code=1)
    assert "on its branch b, which fixtool did not push" in message
    assert "--branch NAME" in message


def test_a_reviewers_commit_on_our_branch_is_not_pushed_over(world: Sea) -> None:
    sent = send(world)["sent"]["commit"]
    theirs = world.fork("commit-tree", "b^{tree}", "-p", "b", "-m", "a reviewer's")
    world.fork("update-ref", "refs/heads/b", theirs)
    edit(world)
    message = refused(world, code=1)
    assert theirs[:12] in message
    assert f"then put the branch back to {sent[:12]}" in message
    assert world.tip() == theirs
    world.fork("update-ref", "refs/heads/b", sent)
    assert send(world)["sent"]["action"] == "updated"


def test_a_pull_request_that_is_done_or_not_ours(world: Sea) -> None:
    send(world)
    before = dict(world.api.pulls[0])
    merged = {"state": "closed", "merged_at": "2026-11-24T00:00:00Z"}
    for change, message in (
        ({"state": "closed"}, f"{PULL} was closed | choose another branch"),
        (merged, f"{PULL} was merged | fixtool upstream --status"),
        ({"body": "by hand"}, f"{PULL} was not opened by fixtool, so its text is left alone"),
        ({"body": "x\n<!-- fixtool upstream 1 head=a -->"}, "was not opened by fixtool"),
    ):
        world.api.pulls[0].update({**before, **change})
        assert message in refused(world, code=1)
    assert send(world, "--branch", "again")["sent"]["number"] == 2


def test_a_fork_that_is_behind(world: Sea, tmp_path: Path) -> None:
    """From a shallow store, over the network, to a fork that lacks what the store begins with."""
    git = world.land.upstream
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
    about = world.land.file("b").with_name("upstream.toml")
    about.write_text(about.read_text().replace(base, tip))
    world.land.save()
    githttp.publish(git.path, tmp_path / "theirs" / "sglang.git")
    with githttp.serve(tmp_path / "theirs") as theirs:
        words = world.land.words("b", "--send", "--yes", "--source", f"{theirs.url}/sglang.git")
        ran = call(*words)
        assert ran.status == 4
        assert f"octocat/sglang lacks upstream's {tip[:12]}" in ran.err
        assert "  try: bring the fork up to date: gh repo sync octocat/sglang" in ran.err
        assert (world.tip(), world.api.pulls) == (None, [])
        world.fork("fetch", "--quiet", str(git.path), "+main:upstream")
        ran = call(*words)
        assert ran.status == 0, ran.err
    assert world.fork("rev-parse", "b~1") == tip


# -- bad days --------------------------------------------------------------------------------


def test_rate_limits(world: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    world.api.fail("GET /user", 403, "API rate limit exceeded", headers={"Retry-After": "2460"})
    assert "rate limit is used up for 41 minutes" in refused(world, code=4)
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    world.api.fail("POST .*/pulls$", 429, "slow down", headers={"Retry-After": "7"})
    assert send(world)["sent"]["action"] == "created"
    assert 7.0 in slept


@pytest.mark.parametrize(
    ("where", "after"),
    [("GET .*/pulls$", False), ("push", False), ("push", True)]
    + [(f"{request}$", after) for request in ("POST .*/pulls", "POST .*/comments", r"PATCH .*/pulls/\d+")
       for after in (False, True)],
)  # fmt: skip
def test_cut_off_anywhere_the_next_run_finishes(world: Sea, where: str, after: bool) -> None:
    """No answer for as long as the first run tries, whether or not it was carried out there."""
    second = "PATCH" in where or "comments" in where
    if second:
        send(world)
        edit(world)
    if where == "push" and not after:
        world.fork("config", "receive.denyUpdates", "true")
        world.fork("config", "http.receivepack", "false")
    elif where == "push":
        world.server.swallow = 1
    else:
        world.api.fail(where, None, after=after, times=9)
    first = send(world)
    assert first["exit_code"] in (0, 4), first
    if first["exit_code"] == 0:  # what was made without an answer is result at once
        assert after
    world.api.faults.clear()
    world.fork("config", "http.receivepack", "true")
    result = send(world)
    (pull,) = world.api.pulls
    assert world.tip() == result["commits"][-1]["commit"]
    marker = read_marker(pull["body"], "upstream")
    assert marker and marker["head"] == world.tip()
    assert result["body"].strip() in pull["body"]
    assert len(world.api.comments.get(1, [])) == (1 if second else 0)
    assert f"Forwarded: {PULL}" in world.land.file("b").read_text()
    world.api.log.clear()
    assert send(world)["sent"]["action"] == "unchanged"
    assert world.api.writes == []


def test_edited_after_a_push_of_which_no_pull_request_tells(world: Sea) -> None:
    world.api.fail("POST .*/pulls$", None, times=9)
    assert send(world)["exit_code"] == 4
    pushed = world.tip()
    world.api.faults.clear()
    edit(world)
    result = send(world)["sent"]
    assert (result["action"], result["replaced"]) == ("created", pushed)
    assert world.api.comments == {}


def test_cut_off_before_the_address_is_written(world: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as here:
        here.setattr(trailers, "record", cut)
        assert call(*world.land.words("b", "--send", "--yes")).status == 130
    assert "Forwarded: no" in world.land.file("b").read_text()
    result = send(world)["sent"]
    assert (result["action"], bool(result["recorded"])) == ("unchanged", True)
    assert f"Forwarded: {PULL}" in world.land.file("b").read_text()


def test_a_lease_that_was_lost(world: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pushes between our look and our push."""
    send(world)
    edit(world)
    push = PushRemote.push
    theirs = world.fork("commit-tree", "b^{tree}", "-p", "b", "-m", "late")

    def late(self: PushRemote, commit: str, expected: str | None) -> None:
        world.fork("update-ref", "refs/heads/b", theirs)
        push(self, commit, expected)

    monkeypatch.setattr(PushRemote, "push", late)
    before = world.api.pulls[0]["body"]
    result = send(world)
    assert (result["exit_code"], "somebody else pushed to b just now" in result["error"]["message"]) == (4, True)  # fmt: skip
    assert (world.tip(), world.api.pulls[0]["body"], world.api.comments) == (theirs, before, {})


def test_two_runs_at_once(world: Sea) -> None:
    """As processes."""
    command = [sys.executable, "-m", "fixtool", *map(str, world.land.words("b", "--send", "--yes"))]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 4]), outputs
    assert all("Traceback" not in err for _, err in outputs)
    if codes == [0, 4]:
        assert any("is in use by process" in err for _, err in outputs), outputs
    assert len(world.api.pulls) == 1
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"unchanged {PULL}" in last.stdout


def test_the_token_is_in_no_argument_file_or_message(
    world: Sea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = next(p for p in os.environ["PATH"].split(":") if (Path(p) / "git").is_file())
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "git").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/argv\nexec {real}/git "$@"\n')  # fmt: skip
    (spy / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy}:{os.environ['PATH']}")
    ran = call(*world.land.words("b", "--send", "--yes"))
    assert ran.status == 0
    secret = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    argv = (tmp_path / "argv").read_text()
    assert " push " in argv
    folders = (world.land.settings.state, world.land.settings.cache, world.land.team.path)
    left = b"".join(path.read_bytes() for f in folders for path in f.rglob("*") if path.is_file())
    for text in (ran.out, ran.err, argv, left.decode("latin-1")):
        assert TOKEN not in text
        assert secret not in text
