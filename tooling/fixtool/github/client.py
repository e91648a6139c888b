"""GitHub's API. This is the only module that imports PyGithub.

The token comes from the environment alone. It is in no argument, no file and no message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from fixtool.errors import CannotRun
from fixtool.github.model import (
    GitHubRepository,
    Issue,
    PullRequest,
    PullRequestStatus,
    RepositoryInfo,
)
from fixtool.text import count, redact, shortened, visible

try:
    from github import Auth, BadAttributeException, Github, GithubException
    from github.Issue import Issue as _Issue
    from github.PullRequest import PullRequest as _PullRequest
    from github.Repository import Repository as _Repository
except ImportError as error:
    raise CannotRun(
        "GitHub's API needs PyGithub, which is not installed here",
        hint="pip install 'sglang-fixtool[github]'",
    ) from error

Answer = TypeVar("Answer")

_LONGEST_WAIT = 60.0  # seconds for a rate limit; a longer limit is reported, not waited for
_PAUSES: Sequence[float] = (1.0, 4.0, 10.0)  # seconds after a lost connection or a 5xx
_SECONDS = re.compile(r"[0-9]{1,12}")
_UNEXPECTED = (  # what PyGithub raises for redirects to other hosts and for malformed answers
    BadAttributeException, RuntimeError, AssertionError, AttributeError, LookupError, TypeError,
    ValueError,
)  # fmt: skip


class AnswerLost(CannotRun):
    """No answer came, so it is unknown whether GitHub carried the request out."""


class InvalidValues(CannotRun):
    """GitHub understood the request and refuses its values (HTTP 422)."""


class NotFound(CannotRun):
    """The resource does not exist, or the token may not see it (HTTP 404 or 410)."""


@dataclass(frozen=True)
class GitHub:
    """The requests that fixtool makes about one repository. All raise CannotRun if they fail.

    Reads and changes are repeated after a lost connection. Creating is not repeated blindly: after
    a lost answer, the new item is looked for first.
    """

    repository: GitHubRepository

    @cached_property
    def _github(self) -> Github:
        return Github(
            base_url=self.repository.api,
            auth=Auth.Token(self.repository.token) if self.repository.token else None,
            user_agent="fixtool",
            per_page=100,
            timeout=30,
            retry=None,  # PyGithub would wait for as long as GitHub says, and create things twice
            seconds_between_requests=None,  # one run makes a dozen requests, three of them writes
            seconds_between_writes=None,
            lazy=True,
        )

    @cached_property
    def _remote(self) -> _Repository:
        return self._github.get_repo(self.repository.full_name)

    def _ask(self, what: str, call: Callable[[], Answer]) -> Answer:
        return _ask(self.repository, what, call)

    # -- reading ---------------------------------------------------------------------------

    def default_branch(self) -> str:
        return self._ask("read the repository", lambda: self._remote.default_branch)

    def login(self) -> str:
        """The user that the token belongs to."""
        return self._ask("ask whose the token is", lambda: self._github.get_user().login)

    def info(self) -> RepositoryInfo:
        def call() -> RepositoryInfo:
            root = self._remote.source if self._remote.fork else None
            fork_of = root.full_name if root else None
            return RepositoryInfo(self._remote.full_name, fork_of, self._remote.archived)

        return self._ask(f"read the repository {self.repository.full_name}", call)

    def pull_request_status(self, number: int) -> PullRequestStatus:
        return self._ask(f"read #{number}", lambda: _status(self._remote.get_pull(number)))

    def pull_requests(self, head: str, state: str = "open") -> list[PullRequest]:
        """Pull requests from ``head`` (``owner:branch``, or a branch of this repository)."""
        head = head if ":" in head else f"{self.repository.owner}:{head}"
        return self._ask(
            "list pull requests",
            lambda: [_pull_request(pull) for pull in self._remote.get_pulls(state, head=head)],
        )

    def issues(self, label: str, state: str = "all") -> list[Issue]:
        """Issues with ``label``, the oldest first, without the pull requests among them."""
        issues = self._ask(
            "list issues",
            lambda: [
                Issue(**_fields(issue))
                for issue in self._remote.get_issues(state=state, labels=[label])
                if not re.search(r"/pull/\d+$", issue.html_url)
            ],
        )
        return sorted(issues, key=lambda issue: issue.number)

    def comments(self, number: int) -> list[str]:
        thread = self._remote.get_issue(number)
        return self._ask(
            f"read the comments of #{number}",
            lambda: [comment.body or "" for comment in thread.get_comments()],
        )

    # -- creating --------------------------------------------------------------------------

    def create_pull_request(self, head: str, base: str, title: str, body: str) -> PullRequest:
        """Open a pull request, or return the open one that ``head`` has already."""
        return _create(
            self.repository,
            f"open a pull request from {head}",
            lambda: _pull_request(self._remote.create_pull(base, head, title=title, body=body)),
            lambda: next(iter(self.pull_requests(head)), None),
        )

    def create_issue(
        self, title: str, body: str, labels: Sequence[str], find: Callable[[], Issue | None]
    ) -> Issue:
        """Open an issue. ``find`` looks for it if no answer came."""
        return _create(
            self.repository,
            "open an issue",
            lambda: Issue(**_fields(self._remote.create_issue(title, body, labels=list(labels)))),
            find,
        )

    def comment(self, number: int, body: str, marker: str) -> bool:
        """Post ``marker`` and ``body`` as a comment; False if a comment with ``marker`` exists."""

        def find() -> bool | None:
            bodies = self.comments(number)
            return True if any(text.startswith(marker) for text in bodies) else None

        if find():
            return False
        thread = self._remote.get_issue(number)
        return _create(
            self.repository,
            f"comment on #{number}",
            lambda: bool(thread.create_comment(f"{marker}\n{body}")),
            find,
        )

    # -- changing --------------------------------------------------------------------------

    def update_pull_request(self, number: int, **fields: Any) -> None:
        """Set ``title``, ``body`` or ``state``."""
        pull = self._remote.get_pull(number)
        self._ask(f"change #{number}", lambda: pull.edit(**fields))

    def update_issue(self, number: int, **fields: Any) -> None:
        """Set ``title``, ``body``, ``state`` or ``state_reason``."""
        issue = self._remote.get_issue(number)
        self._ask(f"change #{number}", lambda: issue.edit(**fields))

    def add_labels(self, number: int, labels: Iterable[str]) -> None:
        """Label an issue or a pull request. GitHub creates a label that it does not know."""
        issue = self._remote.get_issue(number)
        self._ask(f"label #{number}", lambda: issue.add_to_labels(*labels))

    def assign(self, number: int, logins: Sequence[str]) -> list[str]:
        """Assign an issue or a pull request. Returns the logins that may not be assigned here:
        GitHub ignores them without an error."""
        issue = self._remote.get_issue(number)

        def call() -> set[str]:
            issue.add_to_assignees(*logins)
            return {user.login.lower() for user in issue.assignees}

        assigned = self._ask(f"assign #{number}", call)
        return [login for login in logins if login.lower() not in assigned]


# -- PyGithub's objects as values ------------------------------------------------------------


def _pull_request(pull: _PullRequest) -> PullRequest:
    return PullRequest(merged=pull.merged_at is not None, **_fields(pull))


def _fields(thread: _Issue | _PullRequest) -> dict[str, Any]:
    return {
        "number": thread.number,
        "url": thread.html_url,
        "title": thread.title,
        "body": thread.body or "",
        "state": thread.state,
        "labels": tuple(label.name for label in thread.labels),
        "assignees": tuple(user.login for user in thread.assignees),
    }


def _status(pull: _PullRequest) -> PullRequestStatus:
    author = pull.user.login if pull.user else None
    reviews = [
        review
        for review in pull.get_reviews()  # the author's answers to reviewers are reviews as well
        if review.submitted_at and (review.user is None or review.user.login != author)
    ]
    last = max(reviews, key=lambda review: review.submitted_at) if reviews else None
    return PullRequestStatus(
        pull.number,
        pull.html_url,
        "merged" if pull.merged_at else pull.state,
        pull.created_at.isoformat(),
        last.submitted_at.isoformat() if last else None,
        last.state.lower() if last else None,
        pull.merge_commit_sha if pull.merged_at else None,
    )


# -- repeating, and explaining failures ------------------------------------------------------


def _create(
    repository: GitHubRepository,
    what: str,
    create: Callable[[], Answer],
    find: Callable[[], Answer | None],
) -> Answer:
    """Call ``create``. If no answer came, or the item exists already, ``find`` it before the next
    attempt."""
    failure: CannotRun | None = None
    for pause in (*_PAUSES, None):
        try:
            return _ask(repository, what, create, repeat=False)
        except AnswerLost as error:
            failure = error
        except InvalidValues as error:
            if "already exists" not in error.message:
                raise
            failure = error
        time.sleep(pause or 0.0)  # a new item appears in GitHub's lists a moment later
        if (item := find()) is not None:
            return item
    assert failure is not None
    raise failure


def _ask(
    repository: GitHubRepository, what: str, call: Callable[[], Answer], *, repeat: bool = True
) -> Answer:
    """The answer to ``call``. A short rate limit is waited for once; with ``repeat``, a lost
    connection is tried again."""
    pauses = list(_PAUSES) if repeat else []
    waited = False
    while True:
        try:
            return call()
        except GithubException as error:
            wait = _rate_limit(error)
            if wait is not None and not waited and wait <= _LONGEST_WAIT:
                waited = True
                time.sleep(wait)  # a request that met a limit was not carried out
                continue
            failure = _explain(repository, what, error, wait)
        except OSError as error:  # the errors of requests are of this class
            failure = _lost(repository, what, redact(_reason(error), repository.token))
        except _UNEXPECTED as error:
            raise CannotRun(
                f"cannot {what}: {repository.api} does not answer as GitHub does "
                f"({shortened(redact(str(error), repository.token), 200)})",
                where=repository.full_name,
                hint="check GITHUB_API_URL",
            ) from error
        if not (pauses and isinstance(failure, AnswerLost)):
            raise failure
        time.sleep(pauses.pop(0))


def _lost(repository: GitHubRepository, what: str, why: str) -> AnswerLost:
    return AnswerLost(
        f"cannot {what}: {repository.api} gives no answer ({why})",
        where=repository.full_name,
        hint="run the same command again: nothing is made twice",
    )


def _explain(
    repository: GitHubRepository, what: str, error: GithubException, wait: float | None
) -> CannotRun:
    """The error to raise; ``wait`` is how long a rate limit still holds, in seconds."""
    reply, status = redact(_reply(error), repository.token), error.status
    kind: type[CannotRun] = CannotRun
    why, hint = f"HTTP {status} {reply}".strip(), None
    if wait is not None:
        why = f"GitHub's rate limit is used up for {_duration(wait)} ({reply})"
        hint = f"run the same command again in {_duration(wait)}: nothing is made twice"
    elif status >= 500 or status == 408:
        return _lost(repository, what, why)
    elif status == 401:
        why = f"GitHub does not take the token ({reply})"
        hint = "put a token that is valid into GITHUB_TOKEN; in Actions: ${{ github.token }}"
    elif status == 403 and "not permitted to create or approve" in reply:
        why = reply
        hint = (
            "Settings, Actions, General, Workflow permissions: tick 'Allow GitHub Actions to "
            "create and approve pull requests'"
        )
    elif status == 403:
        needs = (error.headers or {}).get("x-accepted-github-permissions")
        why = f"the token may not ({reply})"
        hint = f"give it {needs or 'contents, issues and pull-requests: write'}"
    elif status in (404, 410):
        kind, why = NotFound, f"it is not there, or the token may not see it ({reply})"
        hint = "put a token into GITHUB_TOKEN"
        if repository.token:
            hint = "check GITHUB_REPOSITORY, and what the token may do"
    elif status == 422:
        kind, why = InvalidValues, f"GitHub refuses the values: {reply}"
    return kind(f"cannot {what}: {why}", where=repository.full_name, hint=hint)


def _rate_limit(error: GithubException) -> float | None:
    """How many seconds the rate limit still holds; None if the error is no rate limit."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status not in (403, 429):
        return None
    if _SECONDS.fullmatch(after := headers.get("retry-after", "")):
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and _SECONDS.fullmatch(reset):
        return max(0.0, float(reset) - time.time()) + 1
    limited = error.status == 429 or "rate limit" in _reply(error).lower()
    return 60.0 if limited else None  # GitHub advises one minute if it names no time


def _reply(error: GithubException) -> str:
    """GitHub's explanation in one short line. The HTML page of a proxy is left out."""
    data = error.data if isinstance(error.data, dict) else {}
    words = [str(data.get("message") or "")]
    errors = data.get("errors")
    for item in errors if isinstance(errors, list) else ():
        item = item if isinstance(item, dict) else {"message": item}
        words.append(str(item.get("message") or f"{item.get('field')}: {item.get('code')}"))
    text = "; ".join(word for word in words if word)
    return visible(text)[:300]


def _reason(error: OSError) -> str:
    """A lost connection in a few words: the innermost of the nested errors."""
    inner: BaseException = error
    for _ in range(8):
        causes = [cause for cause in inner.args if isinstance(cause, BaseException)]
        reason = getattr(inner, "reason", None)
        if isinstance(reason, BaseException):
            causes.insert(0, reason)
        if not causes:
            break
        inner = causes[-1]
    text = str(inner).rpartition(": ")[2]
    return re.sub(r"^\[Errno \d+\] ", "", text) or type(inner).__name__


def _duration(seconds: float) -> str:
    return count(round(seconds), "second") if seconds < 120 else f"{round(seconds / 60)} minutes"
