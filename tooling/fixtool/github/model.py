"""Data classes for what GitHub holds: a repository with its token, pull requests and issues.

This module makes no requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from fixtool.errors import UsageError
from fixtool.text import public_url

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LOGIN = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}")
_FULL_NAME = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class GitHubRepository:
    """A repository on GitHub or on an Enterprise server, and the token for it, if there is one.

    ``api`` and ``server`` are URLs without a final slash; ``full_name`` is ``owner/name``.
    """

    api: str
    server: str
    full_name: str
    token: str | None = field(default=None, repr=False)

    @property
    def owner(self) -> str:
        return self.full_name.partition("/")[0]

    def is_at(self, url: str) -> bool:
        """Whether a git ``url`` is on this server. The token must not be sent to any other."""
        ours = urlsplit(self.server)
        try:
            theirs = urlsplit(url)
        except ValueError:  # such as a bracket without its end
            return False
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc.rpartition("@")[2])


@dataclass(frozen=True)
class RepositoryInfo:
    """What GitHub says of a repository. ``fork_of`` is the full name of the repository from which
    all its forks come; None if this is no fork."""

    full_name: str
    fork_of: str | None
    archived: bool


@dataclass(frozen=True)
class Issue:
    number: int
    url: str
    title: str
    body: str
    state: str  # open, closed
    labels: tuple[str, ...]
    assignees: tuple[str, ...]


@dataclass(frozen=True)
class PullRequest(Issue):
    """GitHub treats a pull request as an issue that can be merged."""

    merged: bool


@dataclass(frozen=True)
class PullRequestStatus:
    """What became of a pull request. Times are ISO 8601.

    ``reviewed`` is the time and ``said`` the verdict of the newest review: approved,
    changes_requested or commented; both are None if there is no review. ``commit`` is the merge
    commit.
    """

    number: int
    url: str
    state: str  # open, closed or merged
    opened: str
    reviewed: str | None
    said: str | None
    commit: str | None


def find_repository(environment: Mapping[str, str], remote: str | None = None) -> GitHubRepository:
    """Find the repository and its token from the variables that GitHub Actions sets.

    GITHUB_REPOSITORY gives the name; without it, the URL ``remote`` does. GITHUB_API_URL and
    GITHUB_SERVER_URL give the server (default: github.com), and GITHUB_TOKEN or GH_TOKEN the token.
    Raises UsageError if nothing names a repository, if the token is malformed, or if a URL would
    send it unencrypted.
    """
    api = environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
    parts = _safe_parts("GITHUB_API_URL", api)
    server = environment.get("GITHUB_SERVER_URL", "").rstrip("/")
    if not server and parts.hostname == "api.github.com":
        server = "https://github.com"
    elif not server:
        server = f"{parts.scheme}://{parts.netloc}"
    _safe_parts("GITHUB_SERVER_URL", server)
    token = (environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN") or "").strip()
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageError("the token in GITHUB_TOKEN has spaces or other characters no token has")
    full_name = environment.get("GITHUB_REPOSITORY") or _name_in_url(remote or "", server)
    if not _FULL_NAME.fullmatch(full_name):
        raise UsageError(
            "neither GITHUB_REPOSITORY nor the remote's address says which repository of GitHub "
            "this is for",
            hint="say it, then run the same command again: export GITHUB_REPOSITORY=OWNER/NAME",
        )
    return GitHubRepository(api, server, full_name, token or None)


def _safe_parts(name: str, url: str) -> SplitResult:
    """The parts of the ``url`` of a server, which the variable ``name`` gives. Raises UsageError if
    it is none, or would send a token unencrypted."""
    try:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    except ValueError:  # such as a bracket without its end
        safe = False
    if not safe or parts.username is not None:
        raise UsageError(
            f"{name} is {public_url(url)!r}: a token goes only over https://",
            hint=f"{name}=https://…, and the same command again",
        )
    return parts


def _name_in_url(url: str, server: str) -> str:
    host = re.escape(urlsplit(server).netloc)
    form = rf"(?:https?://(?:[^@/]*@)?|ssh://(?:[^@/]*@)?|[^@/:]+@){host}[:/](.+?)(?:\.git)?/?"
    match = re.fullmatch(form, url)
    return match[1] if match else ""


def check_repository(text: str) -> str:
    """Return ``text`` if it can be ``owner/name`` on GitHub; else raise UsageError."""
    owner, _, name = text.partition("/")
    if not (_LOGIN.fullmatch(owner) and _FULL_NAME.fullmatch(text)) or name in (".", ".."):
        raise UsageError(f"{text!r} is no repository's name on GitHub: OWNER/NAME")
    return text


def check_login(text: str) -> str:
    """Return ``text`` if it can be a user's name on GitHub; else raise UsageError."""
    if not _LOGIN.fullmatch(text):
        raise UsageError(f"{text!r} is not a user's name on GitHub")
    return text
