"""GitHub's API through PyGithub: the requests, the messages about failures, and no duplicates."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from fixtool.errors import CannotRun, UsageError
from fixtool.github import client
from fixtool.github.client import GitHub, InvalidValues, NotFound
from fixtool.github.model import Issue, find_repository
from support import github_api as githubapi
from support.github_api import TOKEN, Api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(client, "_PAUSES", (0, 0))
    with githubapi.serve() as api:
        yield api


def connect(api: Api, token: str | None = TOKEN) -> GitHub:
    env = {"GITHUB_API_URL": api.url, "GITHUB_REPOSITORY": api.repository}
    return GitHub(find_repository({**env, "GITHUB_TOKEN": token or ""}))


# -- where, and with which token -------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "remote", "said"),
    [
        ({}, "https://github.com/acme/fork.git", ("https://github.com", "acme/fork", None)),
        ({}, "git@github.com:acme/fork.git", ("https://github.com", "acme/fork", None)),
        ({}, "ssh://git@github.com/acme/fork", ("https://github.com", "acme/fork", None)),
        ({"GH_TOKEN": "t"}, "https://u:p@github.com/a/b/", ("https://github.com", "a/b", "t")),
        (
            {"GITHUB_API_URL": "https://git.corp/api/v3", "GITHUB_TOKEN": "t\n"},
            "https://git.corp/a/b",
            ("https://git.corp", "a/b", "t"),
        ),
        ({"GITHUB_REPOSITORY": "x/y"}, None, ("https://github.com", "x/y", None)),
    ],
)
def test_places(environment: dict[str, str], remote: str | None, said: tuple[object, ...]) -> None:
    repository = find_repository(environment, remote)
    assert (repository.server, repository.full_name, repository.token) == said


@pytest.mark.parametrize(
    ("environment", "remote", "message"),
    [
        ({}, None, "which repository"),
        ({}, "https://evil.example/acme/fork.git", "which repository"),
        ({}, "https://github.com/acme/fork/more", "which repository"),
        ({"GITHUB_REPOSITORY": "../../user"}, None, "which repository"),
        ({"GITHUB_API_URL": "http://api.corp"}, None, "only over https"),
        ({"GITHUB_SERVER_URL": "https://me:s3cret@git.corp"}, None, "only over https"),
        ({"GITHUB_TOKEN": "a b", "GITHUB_REPOSITORY": "a/b"}, None, "characters no token has"),
    ],
)
def test_bad_places(environment: dict[str, str], remote: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_repository(environment, remote)
    assert "s3cret" not in caught.value.message


def test_the_token_is_not_shown_and_goes_to_its_own_server() -> None:
    repository = find_repository({"GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": TOKEN})
    assert TOKEN not in repr(repository)
    assert repository.is_at("https://github.com/a/b.git")
    assert repository.is_at("https://someone@github.com/a/b.git")
    for url in ("https://github.com.evil/a", "http://github.com/a/b", "https://github.com@evil/a",
                "https://github.com:444/a/b", "ssh://github.com/a/b"):  # fmt: skip
        assert not repository.is_at(url), url


def test_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['github'] = None\nimport fixtool.github.client"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "CannotRun: GitHub's API needs PyGithub" in ran.stderr


# -- what it does ----------------------------------------------------------------------------


def test_pull_requests_and_issues(api: Api) -> None:
    hub = connect(api)
    assert hub.default_branch() == "main"
    assert hub.login() == "octocat"
    pull = hub.create_pull_request("topic", "main", "a title", "a body")
    assert [(pull.number, pull.body, pull.merged) for pull in hub.pull_requests("topic")] == [
        (pull.number, "a body", False)
    ]
    assert hub.pull_requests("acme:topic") == hub.pull_requests("topic")
    assert hub.pull_requests("other") == []
    hub.add_labels(pull.number, ["x"])
    issue = hub.create_issue("a title", "its body", ["x"], lambda: None)
    assert [listed.number for listed in hub.issues("x")] == [issue.number]  # not the pull request
    assert hub.assign(issue.number, ["octocat", "nobody"]) == ["nobody"]
    hub.update_issue(issue.number, state="closed")
    hub.update_pull_request(pull.number, title="another")
    assert hub.issues("x", "open") == []
    assert hub.pull_requests("topic")[0].title == "another"


def test_every_page_is_read(api: Api) -> None:
    api.per_page = 3
    for number in range(8):
        api.add_issue(f"issue {number}", "", ["x"])
    api.comments[1] = [f"comment {number}" for number in range(7)]
    hub = connect(api)
    assert [issue.number for issue in hub.issues("x")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(hub.comments(1)) == 7
    assert hub.comment(1, "more", "comment 6") is False
    assert hub.comment(1, "more", "<!-- 7 -->") is True


# -- when it goes wrong ----------------------------------------------------------------------

SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)


@pytest.mark.parametrize(
    ("status", "message", "headers", "said", "hint"),
    [
        (401, "Bad credentials", {}, "does not take the token (Bad credentials)", "GITHUB_TOKEN"),
        (403, "Resource not accessible by integration",
         {"X-Accepted-GitHub-Permissions": "issues=write"}, "the token may not", "issues=write"),
        (403, "GitHub Actions is not permitted to create or approve pull requests.", {},
         "not permitted to create", "tick 'Allow GitHub Actions"),
        (403, SECONDARY, {"Retry-After": "2460"}, "used up for 41 minutes", "again in 41 minutes"),
        (429, "API rate limit exceeded", {"Retry-After": "90"}, "90 seconds", "in 90 seconds"),
        (403, "API rate limit exceeded for installation ID 1.",
         {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+3000"},
         "rate limit is used up for 50 minutes", "nothing is made twice"),
        (404, "Not Found", {}, "it is not there, or the token may not see it", "GITHUB_REPOSITORY"),
        (410, "Issues are disabled for this repo", {}, "Issues are disabled", "GITHUB_REPOSITORY"),
        (422, "Validation Failed", {}, "refuses the values: Validation Failed", ""),
        (418, f"tea\x1b[31m for {TOKEN}", {}, "HTTP 418 tea for ***", ""),
        (502, "", {}, "gives no answer (HTTP 502)", "run the same command again"),
        (None, "", {}, "gives no answer (", "run the same command again"),
    ],
)  # fmt: skip
def test_refusals(
    api: Api, status: int | None, message: str, headers: dict[str, str], said: str, hint: str
) -> None:
    if reset := headers.get("X-RateLimit-Reset"):
        headers = {**headers, "X-RateLimit-Reset": str(int(time.time()) + int(reset))}
    api.fail("GET .*/issues", status, message, headers=headers, times=9)
    with pytest.raises(CannotRun) as caught:
        connect(api).issues("x")
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 4
    assert TOKEN not in f"{caught.value.message}{caught.value.hint}"
    assert len(api.log) == (3 if status in (502, None) else 1)


@pytest.mark.parametrize("status", [None, 502, 503])
def test_a_passing_fault_is_passed_over(api: Api, status: int | None) -> None:
    api.add_issue("one", "", ["x"])
    api.fail("GET", status, times=2)
    assert len(connect(api).issues("x")) == 1


def test_a_short_wait_is_waited_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    api.fail("POST", 403, SECONDARY, headers={"Retry-After": "7"})
    connect(api).create_issue("a", "b", ["x"], lambda: None)
    assert (slept, len(api.issues)) == ([7.0], 1)
    api.fail("GET", 429, "slow down", times=2)
    with pytest.raises(CannotRun, match="used up for 60 seconds"):
        connect(api).issues("x")
    assert slept == [7.0, 60.0]


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("status", [None, 502])
@pytest.mark.parametrize("what", ["pull", "issue", "comment"])
def test_nothing_is_made_twice(api: Api, what: str, status: int | None, after: bool) -> None:
    """The connection is lost before or after GitHub carried the request out."""
    hub = connect(api)
    api.add_issue("first", "", [])
    api.fail("POST", status, after=after)
    if what == "pull":
        assert hub.create_pull_request("topic", "main", "t", "b").title == "t"
        assert len(api.pulls) == 1
    elif what == "issue":
        find: Callable[[], Issue | None] = lambda: next(iter(hub.issues("x")), None)  # noqa: E731
        assert hub.create_issue("t", "b", ["x"], find).title == "t"
        assert len(api.issues) == 2
    else:
        assert hub.comment(1, "words", "<!-- m -->")
        assert api.comments[1] == ["<!-- m -->\nwords"]


def test_a_pull_request_that_is_there_already_is_taken(api: Api) -> None:
    api.add_pull("topic", "main", "theirs", "")
    assert connect(api).create_pull_request("topic", "main", "ours", "").title == "theirs"


def test_a_body_that_is_too_long(api: Api) -> None:
    with pytest.raises(InvalidValues, match=r"body is too long \(maximum is 65536 characters\)"):
        connect(api).create_issue("t", "x" * 70_000, ["x"], lambda: None)


def test_without_a_token_reading_goes_and_writing_says_what_to_do(api: Api) -> None:
    hub = connect(api, token=None)
    assert hub.issues("x") == []
    with pytest.raises(CannotRun, match="does not take the token"):
        hub.create_issue("t", "b", ["x"], lambda: None)
    with pytest.raises(NotFound) as caught:
        hub.comments(99)
    assert "put a token" in (caught.value.hint or "")


def test_an_address_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(client, "_PAUSES", ())
    repository = find_repository(
        {"GITHUB_API_URL": "http://127.0.0.1:9", "GITHUB_REPOSITORY": "a/b"}
    )
    with pytest.raises(CannotRun, match=r"127\.0\.0\.1:9 gives no answer \(Connection refused\)"):
        GitHub(repository).issues("x")


def test_an_answer_that_is_not_githubs(api: Api) -> None:
    api.fail("GET", 200, "x", headers={"Content-Type": "text/html"})
    with pytest.raises(CannotRun, match="does not answer as GitHub does"):
        connect(api).pull_requests("topic")
