"""GitHub's API, behind one door: PyGithub speaks to it, and whatever goes wrong is one message.

The token comes from the environment alone. It is in no argument, no file and no message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from fixtool.errors import CannotRun
from fixtool.github.model import (
    GitHubRepository,
    Issue,
    PullRequest,
    PullRequestStatus,
    RepositoryInfo,
    check_login,
)

try:
    from github import Auth, BadAttributeException, Github, GithubException
    from github.Issue import Issue as _Issue
    from github.PullRequest import PullRequest as _Pull
except ImportError as error:
    raise CannotRun(
        "GitHub's API needs PyGithub, which is not installed here",
        hint="pip install 'fixtool[github]'",
    ) from error

Answer = TypeVar("Answer")

_PATIENCE = 60.0  # seconds: how long one wait for a rate limit may be; a longer one is told instead
_PAUSES = (1.0, 4.0, 10.0)  # after a lost connection or a 5xx
_NOT_GITHUBS = (  # PyGithub's, of redirections to elsewhere and of answers in another form
    BadAttributeException, RuntimeError, AssertionError, AttributeError, LookupError, TypeError,
    ValueError,
)  # fmt: skip


class AnswerLost(CannotRun):
    """No answer came: nobody knows whether the request was carried out."""


class InvalidValues(CannotRun):
    """GitHub understood, and the values do not fit (422)."""


class NotFound(CannotRun):
    """There is no such thing, or this token may not know of it (404)."""


class GitHub:
    """The few things that fixtool asks of one repository.

    Reading and changing may be repeated; making may not, so whoever makes something says how to
    find it: after a lost answer it is looked for before it is made again.
    """

    def __init__(self, place: GitHubRepository, pauses: Sequence[float] = _PAUSES) -> None:
        self.place = place
        self._pauses = pauses
        self._github = Github(
            base_url=place.api,
            auth=Auth.Token(place.token) if place.token else None,
            user_agent="fixtool",
            per_page=100,
            timeout=30,
            retry=None,  # its own waits for as long as GitHub says, and makes things twice
            seconds_between_requests=None,  # a run asks a dozen times and writes three
            seconds_between_writes=None,
            lazy=True,
        )
        self._repository = self._github.get_repo(place.repository)

    # -- reading ---------------------------------------------------------------------------

    def default_branch(self) -> str:
        return self._ask("read the repository", lambda: self._repository.default_branch)

    def user(self, login: str) -> str:
        """The name of ``login`` as GitHub spells it."""
        check_login(login)
        return self._ask(f"find the user {login}", lambda: self._github.get_user(login).login)

    def login(self) -> str:
        """Whose the token is."""
        return self._ask("ask whose the token is", lambda: self._github.get_user().login)

    def about(self) -> RepositoryInfo:
        """The repository itself."""

        def call() -> RepositoryInfo:
            one = self._github.get_repo(self.place.repository)
            root = one.source if one.fork else None
            return RepositoryInfo(one.full_name, root.full_name if root else None, one.archived)

        return self._ask(f"read the repository {self.place.repository}", call)

    def review(self, number: int) -> PullRequestStatus:
        """Where the pull request ``number`` stands, and who said what last."""

        def call() -> PullRequestStatus:
            one = self._github.get_repo(self.place.repository).get_pull(number)
            mine = one.user.login if one.user else None  # who answers a reviewer reviews, to GitHub
            said = [
                each
                for each in one.get_reviews()
                if each.submitted_at and (each.user is None or each.user.login != mine)
            ]
            last = max(said, key=lambda each: each.submitted_at) if said else None
            state = "merged" if one.merged_at else one.state
            return PullRequestStatus(
                number, one.html_url, state, one.created_at.isoformat(),
                last.submitted_at.isoformat() if last else None,
                last.state.lower() if last else None,
                one.merge_commit_sha if one.merged_at else None,
            )  # fmt: skip

        return self._ask(f"read #{number}", call)

    def pulls(self, head: str, state: str = "open") -> list[PullRequest]:
        """PullRequest requests from ``head`` (``owner:branch``, or a branch of this repository)."""
        wanted = head if ":" in head else f"{self.place.owner}:{head}"
        return self._ask(
            "list pull requests",
            lambda: [_pull(one) for one in self._repository.get_pulls(state=state, head=wanted)],
        )

    def issues(self, label: str, state: str = "all") -> list[Issue]:
        """Issues with ``label``, the oldest first; pull requests, which GitHub lists too, not."""
        found = self._ask(
            "list issues",
            lambda: [
                _issue(one)
                for one in self._repository.get_issues(state=state, labels=[label])
                if not re.search(r"/pull/\d+$", one.html_url)
            ],
        )
        return sorted(found, key=lambda one: one.number)

    def comments(self, number: int) -> list[str]:
        thread = self._repository.get_issue(number)
        return self._ask(
            f"read the comments of #{number}",
            lambda: [one.body or "" for one in thread.get_comments()],
        )

    # -- making ----------------------------------------------------------------------------

    def create_pull(self, head: str, base: str, title: str, body: str) -> PullRequest:
        return self._make(
            f"open a pull request from {head}",
            lambda: _pull(self._repository.create_pull(base, head, title=title, body=body)),
            lambda: next(iter(self.pulls(head)), None),
        )

    def create_issue(
        self, title: str, body: str, labels: Sequence[str], find: Callable[[], Issue | None]
    ) -> Issue:
        return self._make(
            "open an issue",
            lambda: _issue(self._repository.create_issue(title, body, labels=list(labels))),
            find,
        )

    def comment(self, number: int, body: str, marker: str) -> bool:
        """Say ``body``, which begins with ``marker``; False where somebody has said it before."""

        def said() -> bool | None:
            return True if any(one.startswith(marker) for one in self.comments(number)) else None

        if said():
            return False
        thread = self._repository.get_issue(number)
        self._make(
            f"comment on #{number}",
            lambda: bool(thread.create_comment(f"{marker}\n{body}")),
            said,
        )
        return True

    # -- changing --------------------------------------------------------------------------

    def update_pull(self, number: int, **fields: Any) -> None:
        """Set ``title``, ``body`` or ``state``."""
        pull = self._repository.get_pull(number)
        self._ask(f"change #{number}", lambda: pull.edit(**fields))

    def update_issue(self, number: int, **fields: Any) -> None:
        """Set ``title``, ``body``, ``state`` or ``state_reason``."""
        issue = self._repository.get_issue(number)
        self._ask(f"change #{number}", lambda: issue.edit(**fields))

    def add_labels(self, number: int, labels: Iterable[str]) -> None:
        """On an issue or a pull request; GitHub makes a label that it does not know."""
        issue = self._repository.get_issue(number)
        self._ask(f"label #{number}", lambda: issue.add_to_labels(*labels))

    def assign(self, number: int, logins: Sequence[str]) -> list[str]:
        """Assign an issue or a pull request; return those whom GitHub passed over in silence, as
        it does with everybody who may not be assigned here."""
        issue = self._repository.get_issue(number)

        def call() -> set[str]:
            issue.add_to_assignees(*logins)
            return {one.login.lower() for one in issue.assignees}

        taken = self._ask(f"assign #{number}", call)
        return [one for one in logins if one.lower() not in taken]

    def request_reviews(self, number: int, logins: Sequence[str]) -> None:
        pull = self._repository.get_pull(number)
        self._ask(f"ask for reviews of #{number}", lambda: pull.create_review_request(list(logins)))

    # -- when it does not work -------------------------------------------------------------

    def _make(
        self, what: str, make: Callable[[], Answer], find: Callable[[], Answer | None]
    ) -> Answer:
        """``make`` it, once: where no answer came, or it is there already, ``find`` it."""
        last: CannotRun | None = None
        for pause in (*self._pauses, None):
            try:
                return self._ask(what, make, again=False)
            except AnswerLost as error:
                last = error
            except InvalidValues as error:
                if "already exists" not in error.message:
                    raise
                last = error
            time.sleep(pause or 0.0)  # what was just made shows in a list a moment later
            if (found := find()) is not None:
                return found
        assert last is not None
        raise last

    def _ask(self, what: str, call: Callable[[], Answer], *, again: bool = True) -> Answer:
        """The answer to ``call``, with the few repeats that are sure to be harmless."""
        pauses = list(self._pauses)
        waited = False
        while True:
            try:
                return call()
            except GithubException as error:
                wait = _rate_limit(error)
                if wait is not None and not waited and wait <= _PATIENCE:
                    waited = True
                    time.sleep(wait)  # a request that met a limit was not carried out
                    continue
                told = self._explain(error, what, wait)
            except OSError as error:  # requests' errors are all of this kind
                told = self._lost(what, self.redact(_reason(error)))
            except _NOT_GITHUBS as error:
                raise CannotRun(
                    f"cannot {what}: {self.place.api} does not answer as GitHub does "
                    f"({self.redact(str(error))[:200]})",
                    where=self.place.repository,
                    hint="check GITHUB_API_URL",
                ) from error
            if not (again and pauses and isinstance(told, AnswerLost)):
                raise told
            time.sleep(pauses.pop(0))

    def redact(self, text: str) -> str:
        return text.replace(self.place.token, "***") if self.place.token else text

    def _lost(self, what: str, why: str) -> AnswerLost:
        return AnswerLost(
            f"cannot {what}: {self.place.api} gives no answer ({why})",
            where=self.place.repository,
            hint="run the same command again: nothing is made twice",
        )

    def _explain(self, error: GithubException, what: str, wait: float | None) -> CannotRun:
        said = self.redact(_said(error))
        where = self.place.repository
        if wait is not None:
            return CannotRun(
                f"cannot {what}: GitHub's rate limit is used up for {_in_words(wait)} ({said})",
                where=where,
                hint=f"run the same command again in {_in_words(wait)}: nothing is made twice",
            )
        if error.status >= 500 or error.status == 408:
            return self._lost(what, f"HTTP {error.status} {said}".strip())
        if error.status == 401:
            return CannotRun(
                f"cannot {what}: GitHub does not take the token ({said})",
                where=where,
                hint="put a token that is valid into GITHUB_TOKEN; in Actions: ${{ github.token }}",
            )
        if error.status == 403 and "not permitted to create or approve" in said:
            return CannotRun(
                f"cannot {what}: {said}",
                where=where,
                hint="Settings, Actions, General, Workflow permissions: tick 'Allow GitHub Actions "
                "to create and approve pull requests'",
            )
        if error.status == 403:
            needs = (error.headers or {}).get("x-accepted-github-permissions")
            return CannotRun(
                f"cannot {what}: the token may not ({said})",
                where=where,
                hint=f"give it {needs or 'contents, issues and pull-requests: write'}",
            )
        if error.status in (404, 410):
            return NotFound(
                f"cannot {what}: it is not there, or the token may not see it ({said})",
                where=where,
                hint="check GITHUB_REPOSITORY, and what the token may do"
                if self.place.token
                else "put a token into GITHUB_TOKEN",
            )
        if error.status == 422:
            return InvalidValues(f"cannot {what}: GitHub refuses the values: {said}", where=where)
        return CannotRun(f"cannot {what}: HTTP {error.status} {said}", where=where)


def _rate_limit(error: GithubException) -> float | None:
    """How many seconds the limit that was met still holds; None where none was met."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status not in (403, 429):
        return None
    if headers.get("retry-after", "").isdigit():
        return float(headers["retry-after"])
    if (
        headers.get("x-ratelimit-remaining") == "0"
        and headers.get("x-ratelimit-reset", "").isdigit()
    ):
        return max(0.0, float(headers["x-ratelimit-reset"]) - time.time()) + 1
    limited = error.status == 429 or "rate limit" in _said(error).lower()
    return _PATIENCE if limited else None  # GitHub's advice where it gives no time: a minute


def _said(error: GithubException) -> str:
    """What GitHub wrote, in one short line; a proxy's HTML page is not worth showing."""
    data = error.data if isinstance(error.data, dict) else {}
    words = [str(data.get("message") or "")]
    for one in data.get("errors") or ():
        about = one if isinstance(one, dict) else {"message": one}
        words.append(str(about.get("message") or f"{about.get('field')}: {about.get('code')}"))
    text = "; ".join(word for word in words if word)
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:300]


def _reason(error: OSError) -> str:
    """A lost connection in a few words: the innermost of the errors that it is wrapped in."""
    inner: BaseException = error
    for _ in range(8):
        args = [one for one in inner.args if isinstance(one, BaseException)]
        reason = getattr(inner, "reason", None)
        if isinstance(reason, BaseException):
            args.insert(0, reason)
        if not args:
            break
        inner = args[-1]
    text = str(inner).rpartition(": ")[2]
    return re.sub(r"^\[Errno \d+\] ", "", text) or type(inner).__name__


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{round(seconds)} seconds" if seconds < 120 else f"{minutes} minutes"


def _pull(one: _Pull) -> PullRequest:
    return PullRequest(head=one.head.sha, merged=one.merged_at is not None, **_common(one))


def _issue(one: _Issue) -> Issue:
    return Issue(**_common(one))


def _common(one: _Issue | _Pull) -> dict[str, Any]:
    return {
        "number": one.number,
        "url": one.html_url,
        "title": one.title,
        "body": one.body or "",
        "state": one.state,
        "labels": tuple(label.name for label in one.labels),
        "assignees": tuple(user.login for user in one.assignees),
    }
