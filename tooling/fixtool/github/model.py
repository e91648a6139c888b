"""What GitHub has: a repository and the token for it, pull requests, issues. No requests here.

The token comes from the environment alone. It is in no argument, no file and no message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fixtool.errors import UsageError
from fixtool.git.names import public_url

_PUBLIC = "https://github.com"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LOGIN = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}")
_NAME = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class GitHubRepository:
    """A repository on GitHub or on an Enterprise server, and the token for it."""

    api: str
    server: str
    repository: str
    token: str | None = field(default=None, repr=False)

    @property
    def owner(self) -> str:
        return self.repository.partition("/")[0]

    def is_at(self, url: str) -> bool:
        """Whether a git ``url`` is on this server: no other may be given the token."""
        ours, theirs = urlsplit(self.server), urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc.rpartition("@")[2])


@dataclass(frozen=True)
class PullRequest:
    number: int
    url: str
    title: str
    body: str
    state: str  # open, closed
    merged: bool
    head: str  # the commit
    labels: tuple[str, ...]
    assignees: tuple[str, ...]


@dataclass(frozen=True)
class RepositoryInfo:
    """``fork_of`` is the repository at the root of its network, None where it is no fork."""

    name: str
    fork_of: str | None
    archived: bool


@dataclass(frozen=True)
class PullRequestStatus:
    """Where a pull request stands. Times are ISO 8601; ``said`` is the newest word of a reviewer:
    approved, changes_requested or commented, None where nobody has said one; ``commit`` is what a
    merge made."""

    number: int
    url: str
    state: str  # open, closed or merged
    opened: str
    reviewed: str | None
    said: str | None
    commit: str | None


@dataclass(frozen=True)
class Issue:
    number: int
    url: str
    title: str
    body: str
    state: str  # open, closed
    labels: tuple[str, ...]
    assignees: tuple[str, ...]


def find_repository(environment: Mapping[str, str], remote: str | None = None) -> GitHubRepository:
    """Where to speak to, as GitHub Actions says it: GITHUB_API_URL, GITHUB_SERVER_URL,
    GITHUB_REPOSITORY and GITHUB_TOKEN or GH_TOKEN; elsewhere the repository is ``remote``'s."""
    api = environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
    parts = urlsplit(api)
    server = environment.get("GITHUB_SERVER_URL", "").rstrip("/")
    if not server:
        server = (
            _PUBLIC if parts.hostname == "api.github.com" else f"{parts.scheme}://{parts.netloc}"
        )
    for name, url in (("GITHUB_API_URL", api), ("GITHUB_SERVER_URL", server)):
        about = urlsplit(url)
        safe = about.scheme == "https" or (about.scheme == "http" and about.hostname in _LOOPBACK)
        if not safe or about.username is not None:
            raise UsageError(
                f"{name} is {public_url(url)!r}: a token goes only over https://",
                hint=f"{name}=https://…, and the same command again",
            )
    token = (environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN") or "").strip()
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageError("the token in GITHUB_TOKEN has spaces or other characters no token has")
    repository = environment.get("GITHUB_REPOSITORY") or _repository_of(remote or "", server)
    if not repository or not _NAME.fullmatch(repository):
        raise UsageError(
            "which repository on GitHub? neither GITHUB_REPOSITORY nor the remote's address says",
            hint="GITHUB_REPOSITORY=owner/name, and the same command again",
        )
    return GitHubRepository(api, server, repository, token or None)


def _repository_of(url: str, server: str) -> str:
    host = re.escape(urlsplit(server).netloc)
    form = rf"(?:https?://(?:[^@/]*@)?|ssh://(?:[^@/]*@)?|[^@/:]+@){host}[:/](.+?)(?:\.git)?/?"
    match = re.fullmatch(form, url)
    return match[1] if match else ""


def check_repository(text: str) -> str:
    """Return ``text`` if it can be ``owner/name`` on GitHub; else raise UsageError."""
    owner, _, name = text.partition("/")
    if not (_LOGIN.fullmatch(owner) and _NAME.fullmatch(text)) or name in (".", ".."):
        raise UsageError(f"{text!r} is no repository's name on GitHub: OWNER/NAME")
    return text


def check_login(text: str) -> str:
    """Return ``text`` if it can be a user's name on GitHub; else raise UsageError."""
    if not _LOGIN.fullmatch(text):
        raise UsageError(f"{text!r} is not a user's name on GitHub")
    return text
