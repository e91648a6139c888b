"""Announcing a nightly rebase: one pull request, one issue, no duplicates, nothing hostile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fixtool import markdown
from fixtool.announce.outcome import load_history, read_outcome
from fixtool.announce.run import Announcement, Announcer, announce_outcome
from fixtool.announce.text import NightlyTexts, annotate
from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError
from fixtool.github import client, push
from fixtool.github.client import GitHub
from fixtool.github.model import find_repository
from fixtool.github.push import PushRemote
from fixtool.markdown import Marker, code, code_block, join_sections, read_marker
from support.github_api import TOKEN, assert_token_unseen, record_git, visible_to_github
from support.json_documents import validate
from support.nightly import (
    BRANCH,
    CULPRIT,
    UPSTREAM,
    World,
    conflict,
    document,
    failure,
    history,
    patch,
    template,
    world,
    write,
)
from support.repositories import Git, Ran

LABEL = "fixtool-nightly"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("made"))


@pytest.fixture
def night(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for module in (client, push):
        monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    with world(made, tmp_path) as night:
        for name, value in night.env.items():
            monkeypatch.setenv(name, value)
        yield night


def announce(
    night: World, doc: dict[str, Any], *, push: bool = True, dry: bool = False,
    owners: tuple[str, ...] = ("octocat",), bundle: Path | None = None, branch: str = BRANCH,
) -> Announcement:  # fmt: skip
    """Announce ``doc`` in this process, without waits."""
    outcome = read_outcome(write(night.root.parent / "rebase.json", doc), "main")
    where = find_repository(os.environ)
    words = NightlyTexts(outcome, owners=owners, upstream=UPSTREAM)
    target = PushRemote(night.git.repo, "origin", branch, where) if push else None
    hub = GitHub(where)
    return announce_outcome(Announcer(hub, words, [LABEL], dry), target, bundle)


def announce_again(night: World, doc: dict[str, Any]) -> Announcement:
    """Announce what was announced before: nothing is written."""
    night.api.log.clear()
    result = announce(night, doc)
    assert night.api.writes == []
    return result


# -- what moved ------------------------------------------------------------------------------


def test_a_move_is_pushed_and_proposed_once(night: World, tmp_path: Path) -> None:
    doc = document(moved=True, committed=night.moved(), range_diff="1:  abc = 1:  def fix\n")
    result = announce(night, doc)
    assert (result.asks, result.issue) == (False, None)
    assert (result.push.branch, result.push.action) == (BRANCH, "pushed")
    assert night.tip() == doc["committed"]
    (pull,) = night.api.pulls
    assert result.pull.number == pull["number"]
    assert pull["base"]["ref"] == "main"
    assert pull["title"] == "Rebase line main onto bbbbbbbbbbbb"
    assert pull["labels"][0]["name"] == LABEL
    assert pull["assignees"][0]["login"] == "octocat"
    assert "| `fix` | `mend fix` | clean | kept as it is |" in pull["body"]
    assert "range-diff" in pull["body"]
    before = json.dumps(night.api.pulls), night.refs()
    again = announce_again(night, doc)
    assert again.push
    assert (again.pull.action, again.push.action) == ("unchanged", "unchanged")
    assert (json.dumps(night.api.pulls), night.refs()) == before


def test_the_next_move_rolls_the_same_pull_request(night: World) -> None:
    announce(night, document(moved=True, committed=night.moved()))
    second = night.moved("# moved again\n")
    result = announce(night, document(moved=True, committed=second, onto="9" * 40))
    assert result.pull.action == "updated"
    assert len(night.api.pulls) == 1
    assert night.api.pulls[0]["title"].endswith("999999999999")
    assert night.tip() == second


def test_the_same_files_under_another_commit_id_are_not_pushed(night: World) -> None:
    first = night.moved()
    announce(night, document(moved=True, committed=first))
    night.git("commit", "--quiet", "--allow-empty", "--message", "main went on")
    other = night.moved()
    assert other != first
    night.git("push", "--quiet", str(night.served), "main")
    assert announce(night, document(moved=True, committed=other)).push.action == "unchanged"
    assert night.tip() == first


def test_somebody_elses_push_is_left_alone(night: World) -> None:
    announce(night, document(moved=True, committed=night.moved()))
    theirs = night.moved("# a person's\n")
    night.git("push", "--quiet", "--force", str(night.served), f"{theirs}:refs/heads/{BRANCH}")
    before = json.dumps(night.api.pulls)
    result = announce(night, document(moved=True, committed=night.moved("# tonight's\n")))
    assert result.push.action == "left"
    assert "somebody else pushed" in result.notes[0]
    assert night.tip() == theirs
    assert json.dumps(night.api.pulls) == before


def test_a_branch_that_no_pull_request_knows_is_not_overwritten(night: World) -> None:
    theirs = night.moved("# a person's\n")
    night.git("push", "--quiet", str(night.served), f"{theirs}:refs/heads/{BRANCH}")
    doc = document(moved=True, committed=night.moved())
    with pytest.raises(Refused, match="no pull request says that fixtool pushed it") as caught:
        announce(night, doc)
    assert f"--delete {BRANCH}" in (caught.value.hint or "")
    assert night.tip() == theirs


def test_after_a_merge_the_branch_rolls_on(night: World) -> None:
    announce(night, document(moved=True, committed=night.moved()))
    night.api.pulls[0].update(state="closed", merged_at="2026-11-24T08:00:00Z")
    second = night.moved("# second\n")
    result = announce(night, document(moved=True, committed=second))
    assert (result.pull.number, result.pull.action) == (2, "created")
    assert night.tip() == second


def test_a_pull_request_that_a_person_closed_is_not_opened_again(night: World) -> None:
    doc = document(moved=True, committed=night.moved())
    announce(night, doc)
    night.api.pulls[0]["state"] = "closed"
    result = announce(night, doc)
    assert (result.pull.number, result.pull.action) == (1, "left")
    result = announce(night, document(moved=True, committed=night.moved("# more\n")))
    assert (result.pull.number, result.pull.action) == (2, "created")


def test_the_commit_comes_in_a_bundle(night: World, tmp_path: Path) -> None:
    """As in the workflow: a shallow clone, and two files from the job that ran upstream's code."""
    commit = night.moved()
    bundle = night.bundle(commit, tmp_path / "commit.bundle")
    night.git("clone", "--quiet", "--depth=1", f"file://{night.served}", str(tmp_path / "shallow"))
    here = Git(tmp_path / "shallow")
    here("remote", "set-url", "origin", f"{night.server.url}/acme/fork.git")
    night.git = here
    with pytest.raises(CannotRun):
        announce(night, document(moved=True, committed=commit))
    assert announce(night, document(moved=True, committed=commit), bundle=bundle).push
    assert night.tip() == commit
    (tmp_path / "not.bundle").write_text("garbage")
    for file, wanted in (("not.bundle", "1" * 40), ("commit.bundle", "1" * 40)):
        with pytest.raises(Refused, match="the bundle"):
            announce(night, document(moved=True, committed=wanted), bundle=tmp_path / file)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (".github/workflows/x.yml", "on: push\n", "changes .github/workflows/x.yml"),
        ("patches/other/series", "", "changes patches/other/series"),
        ("patches/main-2/series", "", "changes patches/main-2/series"),
        ("README.md", "hi\n", "changes README.md"),
        ("patches/main/link", None, "more than plain files"),
    ],
)
def test_a_commit_that_touches_anything_else_is_refused(
    night: World, path: str, text: str | None, message: str
) -> None:
    if text is None:
        (night.root / path).symlink_to("/etc/passwd")
        text, path = "# x\n", "patches/main/series"
    commit = night.moved(text, path)
    hidden = night.git("commit-tree", f"{commit}^{{tree}}", "-p", commit, "-m", "quiet")
    before = night.refs()
    for sha in (commit, hidden):
        with pytest.raises(Refused, match=message):
            announce(night, document(moved=True, committed=sha))
    assert night.refs() == before
    assert night.api.pulls == []


@pytest.mark.parametrize(
    ("words", "refused"),
    [("Closes #1", True), ("fixes: acme/fork#12", True), ("for @octocat", True),
     ("resolved https://github.com/a/b/issues/3", True), ("fix (#12) a@b.example", False)],
)  # fmt: skip
def test_a_message_that_would_call_somebody(night: World, words: str, refused: bool) -> None:
    commit = night.moved()
    commit = night.git("commit-tree", f"{commit}^{{tree}}", "-p", "main", "-m", f"x\n\n{words}")
    if refused:
        with pytest.raises(Refused, match="mentions somebody or closes an issue"):
            announce(night, document(moved=True, committed=commit))
    else:
        assert announce(night, document(moved=True, committed=commit)).push


@pytest.mark.parametrize(
    "remote", ["ext::sh -c x", "--upload-pack=x", "a/b", "https://a b/c", "-o"]
)
def test_odd_addresses(night: World, remote: str) -> None:
    with pytest.raises(UsageError):
        push.remote_url(night.git.repo, remote)


def test_never_the_default_branch_nor_an_odd_one(night: World) -> None:
    doc = document(moved=True, committed=night.moved())
    before = night.refs()
    for branch in ("main", "--force", "a..b", "x y"):
        with pytest.raises(UsageError):
            announce(night, doc, branch=branch)
    assert night.refs() == before


def test_a_merge_or_a_stranger_is_refused(night: World) -> None:
    first, second = night.moved("# 1\n"), night.moved("# 2\n")
    merge = night.git("commit-tree", f"{first}^{{tree}}", "-p", first, "-p", second, "-m", "x")
    root = night.git("commit-tree", f"{first}^{{tree}}", "-m", "x")
    for commit, message in ((merge, "plain commits"), (root, "no commit in common")):
        with pytest.raises(Refused, match=message):
            announce(night, document(moved=True, committed=commit))


def test_no_push_without_a_commit_a_remote_or_in_a_dry_run(night: World) -> None:
    commit, before = night.moved(), night.refs()
    with pytest.raises(Refused, match="names no commit"):
        announce(night, document(moved=True))
    assert announce(night, document(moved=True, committed=commit), push=False).pull is None
    assert announce(night, document(moved=True, committed=commit, dry_run=True)).pull is None
    result = announce(night, document(moved=True, committed=commit), dry=True)
    assert (result.push.action, result.pull.action) == ("pushed", "created")
    assert (night.refs(), night.api.writes) == (before, [])


# -- when the connection is lost --------------------------------------------------------------


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("request_", ["POST .*/pulls$", "PATCH .*/pulls/", "POST .*/assignees"])  # fmt: skip
def test_a_run_cut_off_anywhere_is_made_good_by_the_next(
    night: World, request_: str, after: bool
) -> None:
    """The first run gets no answer at all; the same command runs again."""
    if "PATCH" in request_:
        announce(night, document(moved=True, committed=night.moved("# first\n")))
    doc = document(moved=True, committed=night.moved())
    night.api.fail(request_, None, after=after, times=9)
    with suppress(CannotRun):  # what was created without an answer may be found at once
        announce(night, doc)
        assert after
    night.api.faults.clear()
    announce(night, doc)
    (pull,) = night.api.pulls
    assert night.tip() == doc["committed"]
    assert [label["name"] for label in pull["labels"]] == [LABEL]
    assert [user["login"] for user in pull["assignees"]] == ["octocat"]
    announce_again(night, doc)


def test_a_push_without_an_answer(night: World) -> None:
    night.server.swallow = 1
    commit = night.moved()
    announce(night, document(moved=True, committed=commit))
    assert night.tip() == commit
    assert len(night.api.pulls) == 1


def test_cut_off_between_the_text_and_the_push(night: World) -> None:
    """The text is written first, so the next run recognises the branch's tip as its own."""
    announce(night, document(moved=True, committed=night.moved()))
    Git(night.served)("config", "receive.denyNonFastForwards", "true")
    second = night.moved("# second\n")
    with pytest.raises(CannotRun, match="cannot push to fixtool/nightly/main: .*non-fast-forward"):
        announce(night, document(moved=True, committed=second))
    Git(night.served)("config", "receive.denyNonFastForwards", "false")
    third = night.moved("# third\n")
    assert announce(night, document(moved=True, committed=third)).push.action == "pushed"
    assert night.tip() == third


def test_a_lease_that_was_lost(night: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pushes after the branch was read and before it is pushed."""
    theirs = night.moved("# theirs\n")
    push = PushRemote.push

    def late(self: PushRemote, commit: str, expected: str | None) -> None:
        night.git("push", "--quiet", str(night.served), f"{theirs}:refs/heads/{BRANCH}")
        push(self, commit, expected)

    monkeypatch.setattr(PushRemote, "push", late)
    with pytest.raises(CannotRun, match="somebody else pushed to fixtool/nightly/main just now"):
        announce(night, document(moved=True, committed=night.moved()))
    assert night.tip() == theirs


def test_a_token_that_git_does_not_take(night: World, monkeypatch: pytest.MonkeyPatch) -> None:
    night.server.login = "x-access-token:another"
    with pytest.raises(CannotRun, match="cannot read") as caught:
        announce(night, document(moved=True, committed=night.moved()))
    assert "put a token that may write contents" in (caught.value.hint or "")
    assert TOKEN not in f"{caught.value.message}{caught.value.where}"
    night.git(
        "remote", "set-url", "origin", f"http://localhost:{night.server.url[17:]}/acme/fork.git"
    )
    night.server.headers.clear()
    with pytest.raises(CannotRun) as caught:
        announce(night, document(moved=True, committed=night.moved()))
    assert "the token is for" in (caught.value.hint or "")
    assert {header.get("Authorization") for header in night.server.headers} == {None}


# -- what needs a person ----------------------------------------------------------------------


def test_a_conflict_has_one_issue_from_opened_to_closed(night: World) -> None:
    result = announce(night, conflict())
    assert result.asks and result.issue.action == "created"
    (issue,) = night.api.issues
    assert issue["title"] == "Nightly rebase: line main needs a person"
    assert "@octocat" in issue["body"]
    assert "fix does not apply to bbbbbbbbbbbb" in issue["body"]
    assert "https://redirect.github.com/sgl-project/sglang/pull/15238" in issue["body"]
    assert f"fixtool rebase --line main --onto {'b' * 40}" in issue["body"]
    assert [user["login"] for user in issue["assignees"]] == ["octocat"]
    night.api.log.clear()
    assert announce(night, conflict()).issue == type(result.issue)(
        1, issue["html_url"], "unchanged"
    )
    assert night.api.writes == []
    # The same conflict on another tip: the text changes, and nobody gets mail.
    assert announce(night, conflict(onto="7" * 40)).issue.action == "updated"
    assert "7" * 40 in issue["body"]
    assert night.api.comments == {}
    # Another to-do: a comment tells about it.
    assert announce(night, conflict(warnings=["fix: lost a line"])).issue.action == "updated"
    assert len(night.api.comments[1]) == 1
    # Nothing is left to do.
    result = announce(night, document())
    assert not result.asks and result.issue.action == "closed"
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    assert "Nothing is left for a person to do" in night.api.comments[1][1]
    assert announce_again(night, document()).issue is None
    # The conflict is back: the same issue is opened again.
    result = announce(night, conflict())
    assert (result.issue.number, result.issue.action) == (1, "reopened")
    assert (len(night.api.issues), len(night.api.comments[1]), issue["state"]) == (1, 3, "open")


@pytest.mark.parametrize(
    ("doc", "words"),
    [
        (failure(), "could not run"),
        (failure("patches/main/series:3: not a name", 1), "was refused"),
        (document(warnings=["fix: upstream had it and took it back"]), "and a person should look"),
        (document(patches=[patch("fix", "reverted", "restored")]), "took its own fix back"),
    ],
)
def test_other_needs(night: World, doc: dict[str, Any], words: str) -> None:
    result = announce(night, doc)
    assert result.asks and result.issue.action == "created"
    assert words in night.api.issues[0]["body"]
    announce_again(night, doc)


def test_numbers_in_a_failure_are_no_news(night: World) -> None:
    announce(night, failure("no answer from 10.0.0.7 after 31 s for 1234567"))
    announce(night, failure("no answer from 10.0.0.9 after 12 s for abcdef0"))
    assert night.api.comments == {}
    announce(night, failure("the disk is full"))
    assert len(night.api.comments[1]) == 1


def test_an_issue_that_a_person_closed_stays_closed_until_the_need_changes(night: World) -> None:
    announce(night, conflict())
    night.api.issues[0]["state"] = "closed"
    assert announce(night, conflict(onto="7" * 40)).issue.action == "left"
    assert night.api.issues[0]["state"] == "closed"
    assert announce(night, conflict(warnings=["another"])).issue.action == "reopened"


def test_an_issue_is_found_by_its_marker_and_label(night: World) -> None:
    night.api.add_issue("Nightly rebase: line main needs a person", "mine", [LABEL])
    marker = Marker("rebase-issue", {"line": "other", "turn": "1", "state": "x"})
    night.api.add_issue("other line", f"{marker}\nx", [LABEL])
    night.api.add_issue("a quote", f"> {marker}\n", [LABEL])
    announce(night, conflict())
    issue = night.api.issues[-1]
    issue["title"] = "renamed by a person"
    issue["body"] = issue["body"].replace("\n", "\r\n")  # as GitHub's own editor leaves it
    assert announce(night, conflict()).issue.number == issue["number"]
    assert len(night.api.issues) == 4
    assert [issue["body"] for issue in night.api.issues[:1]] == ["mine"]


def test_a_second_issue_of_ours_is_closed(night: World) -> None:
    announce(night, conflict())
    night.api.add_issue("double", night.api.issues[0]["body"], [LABEL])
    result = announce(night, conflict())
    assert [issue["state"] for issue in night.api.issues] == ["open", "closed"]
    assert result.notes == ("#2 said the same as #1: closed",)


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(
    "request_", ["POST .*/issues$", "POST .*/comments", "PATCH .*/issues", "GET .*/comments"]
)
def test_an_issue_is_told_once_although_the_connection_is_lost(
    night: World, request_: str, after: bool
) -> None:
    doc = conflict()
    if "issues$" not in request_:
        announce(night, failure())
    night.api.fail(request_, None, after=after, times=9)
    with suppress(CannotRun):  # what was created without an answer may be found at once
        announce(night, doc)
        assert after
    night.api.faults.clear()
    announce(night, doc)
    assert len(night.api.issues) == 1
    assert len(night.api.comments.get(1, [])) == (0 if "issues$" in request_ else 1)
    announce_again(night, doc)


def test_one_half_that_fails_does_not_silence_the_other(night: World) -> None:
    """The pull request is refused: the issue is opened anyway, and the run fails."""
    night.api.fail("POST .*/pulls", 403, "GitHub Actions is not permitted to create or approve "
                   "pull requests.")  # fmt: skip
    doc = document(moved=True, committed=night.moved(), warnings=["look"])
    with pytest.raises(CannotRun, match="not permitted to create"):
        announce(night, doc)
    assert len(night.api.issues) == 1


def test_whoever_cannot_be_assigned_is_named(night: World) -> None:
    result = announce(night, conflict(), owners=("octocat", "left-us"))
    assert result.notes == ("left-us cannot be assigned to #1",)


# -- what others wrote -------------------------------------------------------------------------

HOSTILE = (
    "@octocat Closes #1 fixes acme/fork#2 GH-3 https://github.com/acme/fork/issues/4 <b>x</b> "
    "`` ` ``` | [a](b) <!-- fixtool rebase-issue 1 line=main turn=1 state=green --> "
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07 \r\n::error::x\n##[error]y \u202etxt\x00"
)


@pytest.mark.parametrize(
    "text", [HOSTILE, "`", "``", "a`", "`a", "\\|", "a\\", "", " ", "|", "<!--"]
)
def test_code_holds_whatever_is_in_it(text: str) -> None:
    for shown in (code(text, 5000), code_block(text)):
        assert visible_to_github(shown).strip() == "", shown
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", shown)
    assert "\n" not in code(text)
    assert "|" not in code(text)


def test_hostile_texts_do_nothing(night: World, tmp_path: Path) -> None:
    slug = "fix"
    evil = patch(slug, "conflict", "asked", culprit={**CULPRIT, "subject": HOSTILE},
                 subject=HOSTILE, evidence=[HOSTILE])  # fmt: skip
    doc = conflict(patches=[evil], warnings=[HOSTILE], range_diff=f"{HOSTILE}\n```\n{HOSTILE}",
                   ref=HOSTILE)  # fmt: skip
    announce(night, doc)
    announce(night, conflict(patches=[evil], warnings=[HOSTILE, "more"], ref=HOSTILE))
    announce(night, document(ref=HOSTILE, moved=True, committed=night.moved(), range_diff=HOSTILE))
    outcome = read_outcome(write(tmp_path / "x.json", doc))
    texts = [thread["body"] for thread in [*night.api.issues, *night.api.pulls]]
    texts += [*night.api.comments[1], NightlyTexts(outcome).summary()]
    for text in texts:
        bare = re.sub(r"\A<!-- fixtool [\w-]+ 1[^<>]*-->\n", "", text).replace("@octocat\n", "")
        bare = re.sub(r"\A<!-- fixtool [\w-]+ 1[^<>]*-->\n", "", bare)
        bare = visible_to_github(bare).replace("<details><summary>range-diff</summary>", "")
        bare = bare.replace("</details>", "")
        bare = re.sub(r"\(https://redirect\.github\.com/sgl-project/sglang/\S+\)", "", bare)
        assert not re.search(r"[@#<]|GH-|https?:|\x1b", bare.replace("## ", "")), bare
    for mark in annotate(outcome):
        assert re.match(
            r"::(error|warning) title=nightly rebase(,file=patches/main/fix\.patch)?::", mark
        )
        assert not re.search(r"[\x00-\x1f]|##\[", mark)
        assert mark.count("\n") == 0


def test_bodies_stay_under_githubs_limit(night: World) -> None:
    long = [f"warning {number} {'`' * 50}{'x' * 600}" for number in range(300)]
    many = [patch(f"p{number}", "conflict", "asked", subject="é" * 400, evidence=["x" * 900])
            for number in range(300)]  # fmt: skip
    announce(night, conflict(warnings=long, patches=many))
    announce(night, conflict(warnings=long[1:], patches=many))
    announce(
        night, document(moved=True, committed=night.moved(), range_diff=f"{80 * 'x'}\n" * 9_000)
    )
    texts = [
        thread["body"] for thread in [*night.api.issues, *night.api.pulls]
    ] + night.api.comments[1]
    assert all(len(text) <= markdown.LIMIT for text in texts)
    assert "sections do not fit; the job's artifact holds them whole" in texts[0] + texts[2]
    assert re.search(r"… \d+ more lines", night.api.pulls[0]["body"])


def test_a_marker_is_the_first_line_alone() -> None:
    marker = Marker("rebase-issue", {"line": "v0.5.12.post1", "turn": "3", "state": "ab"})
    assert read_marker(join_sections(marker, ["words"]), "rebase-issue") == marker
    assert read_marker(f"{marker}", "rebase-pull") is None
    for text in (f" words\n{marker}", f"`{marker}`", str(marker).replace("turn", "<x>"), ""):
        assert read_marker(text, "rebase-issue") is None


# -- documents ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ({}, "not what `fixtool rebase --json` prints"),
        (document(schema=2), "not what"),
        (document(command="history"), "not what"),
        (document(base="a" * 39), "not an object id"),
        (document(line="../../x"), "is of line '../../x', not main"),
        (document(committed="--force"), "committed is '--force', not an object id"),
        (document(patches=[patch("../../x")]), "'../../x' is not a patch's name"),
        (document(new_line="a/../.git"), "is not the name of a line"),
        (document(patches=[patch("a", "fine")]), "not what"),
        (document(patches=[patch("a", action="rm")]), "not what"),
        (document() | {"ok": False}, "contradicts itself"),
        (document() | {"exit_code": 3}, "contradicts itself"),
        (failure(code=0), "contradicts itself"),
        (failure() | {"exit_code": "4"}, "contradicts itself"),
    ],
)
def test_documents_that_are_not_believed(tmp_path: Path, doc: Any, message: str) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        read_outcome(write(tmp_path / "x.json", doc), "main")


def test_whose_failure_it_is_has_to_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", failure())
    with pytest.raises(Refused, match="not of which line") as caught:
        read_outcome(path)
    assert "--line" in (caught.value.hint or "")
    for line in ("../x", "a b", "x.lock", "", "-x"):
        with pytest.raises(FixtoolError):
            read_outcome(path, line)


def test_history_is_told_where_a_verdict_changed(night: World, tmp_path: Path) -> None:
    outcome = read_outcome(write(tmp_path / "r.json", conflict()))
    loaded = load_history(write(tmp_path / "h.json", history()))
    text = NightlyTexts(outcome, loaded).summary()
    assert "- `fix`: clean for 312 commits; conflict for 5 commits from `cccccccccccc`" in text
    assert load_history(write(tmp_path / "h.json", {**failure(), "command": "history"})) is None


# -- the command -------------------------------------------------------------------------------


def test_the_command_in_actions(night: World, fixtool: Callable[..., Ran], tmp_path: Path) -> None:
    """As the workflow runs it; the token is in no argument of any process, and in no output."""
    doc = write(tmp_path / "rebase.json", document(
        moved=True, committed=night.moved(), warnings=["fix: look at it\n::error::x"],
    ))  # fmt: skip
    summary = tmp_path / "summary.md"
    words = ["announce", doc, "--push", "origin", "--owner", "octocat", "--history",
             write(tmp_path / "h.json", history()), "--json"]  # fmt: skip
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_RUN_ID": "77",
           "PATH": record_git(tmp_path)}  # fmt: skip
    ran = fixtool(*words, cwd=night.root, **env)
    assert ran.status == 3, ran.err
    answer = json.loads(ran.out)
    validate(answer)
    assert [answer[name]["action"] for name in ("push", "pull", "issue")] == [
        "pushed", "created", "created",
    ]  # fmt: skip
    assert ran.err.startswith(
        "::warning title=nightly rebase::The rebase warns: fix: look at it ::error"
    )
    assert "## Line `main` moved to `main`" in summary.read_text()
    again = fixtool(*words[:-1], cwd=night.root, **env)
    assert re.search(r"^pull +#1 unchanged https://", again.out, re.MULTILINE), again.err
    argv = (tmp_path / "argv").read_text()
    assert " push " in argv
    texts = (ran.out, ran.err, again.out, again.err, argv, summary.read_text())
    assert_token_unseen([night.root], *texts)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"GITHUB_TOKEN": "wrong", "GH_TOKEN": ""}, 4, "does not take the token (Bad credentials)"),
        ({"GITHUB_REPOSITORY": "acme/gone"}, 4, "it is not there, or the token may not see it"),
        ({"GITHUB_API_URL": "http://example.com"}, 2, "a token goes only over https://"),
        ({"GITHUB_REPOSITORY": "", "GITHUB_SERVER_URL": ""}, 2, "which repository of GitHub"),
    ],
)
def test_the_command_says_what_is_wrong(
    night: World, fixtool: Callable[..., Ran], tmp_path: Path, change: dict[str, str], status: int,
    message: str,
) -> None:  # fmt: skip
    """What needs no network is written before."""
    doc = write(tmp_path / "rebase.json", conflict())
    summary = tmp_path / "summary.md"
    ran = fixtool("announce", doc, cwd=night.root, GITHUB_STEP_SUMMARY=str(summary), **change)
    assert (ran.status, "Traceback" in ran.err) == (status, False)
    assert message in ran.err
    assert "  try: " in ran.err
    assert "wrong" not in ran.err
    assert "fix does not apply" in summary.read_text()


def test_bad_words(night: World, fixtool: Callable[..., Ran], tmp_path: Path) -> None:
    doc = write(tmp_path / "rebase.json", conflict())
    for words, status, message in (
        (["--push", "nowhere"], 2, "has no remote 'nowhere'"),
        (["--line", "other"], 1, "is of line 'main', not other"),
    ):
        ran = fixtool("announce", doc, *words, cwd=night.root)
        assert (ran.status, message in ran.err) == (status, True), ran.err
    assert night.api.writes == []
