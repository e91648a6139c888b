"""Pushing commits of the patch repository to a branch that fixtool maintains, such as the nightly
branch: the commits are checked, and the push is refused if somebody else moved the branch.

The commits may come from a job that ran upstream's code. They may change the folders of their line
and nothing else of the patch repository.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.names import check_ref, check_url, is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Output, Repo, reading_answer
from fixtool.git.store import Store
from fixtool.git.trees import changed_files, list_tree
from fixtool.github.model import GitHubRepository
from fixtool.markdown import ACTIVE_TEXT
from fixtool.text import public_url, redact, split_lines

_MAX_COMMITS = 50
_PAUSES: Sequence[float] = (1.0, 4.0)  # seconds between the attempts to reach the remote
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance",
          "--end-of-options")  # fmt: skip


@dataclass(frozen=True)
class RemoteHeads:
    """The name and tip of the remote's default branch, and the tip of the branch to push, which is
    None if the branch does not exist there."""

    default: str
    default_tip: Oid
    tip: Oid | None


class PushRemote(Store):
    """A repository's objects, and one branch of a remote to push them to.

    It uses the user's network settings. The token is given to git through the environment, and
    only if the remote is on the token's own server.
    """

    def __init__(
        self, repository: Repo, remote: str, branch: str, github: GitHubRepository
    ) -> None:
        """``remote`` is a remote's name or an address. Raises UsageError if it is neither, or if
        ``branch`` cannot be a branch's name."""
        if isinstance(repository, Store):
            repository.restore_settings()  # hooks and tests of others may have run in a tree of it
        super().__init__(repository.git_dir, online=True)
        self.url = remote_url(repository, remote)
        self.branch = check_ref(branch)
        self.github = github
        if github.token and github.is_at(self.url):
            login = base64.b64encode(f"x-access-token:{github.token}".encode()).decode()
            key = f"http.{github.server}/.extraHeader"
            # The empty value removes the header that actions/checkout leaves behind: servers
            # refuse two of them. A redirection would carry the token to another server.
            self._carry([(key, ""), (key, f"Authorization: Basic {login}")])
            self._carry([("http.followRedirects", "false"), ("credential.helper", "")])
            self._environment["GIT_ASKPASS"] = "true"

    @property
    def shown(self) -> str:
        """The remote's URL without a login, for messages."""
        return public_url(self.url)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.branch}"

    def heads(self) -> RemoteHeads:
        """Ask the remote. Raises UsageError if the branch is the default branch."""
        out = self._ask_remote("ls-remote", "--symref", "--end-of-options", self.url, "HEAD",
                               self._ref)  # fmt: skip
        default = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", out.text, re.MULTILINE)
        rows = (line.split("\t") for line in split_lines(out.text) if "ref:" not in line)
        with reading_answer("ls-remote"):
            tips = {ref: Oid(tip) for tip, ref in rows}
        if default is None or not is_full_sha(tips.get("HEAD", "")):
            raise CannotRun(f"{self.shown} has no default branch yet", where=self.shown)
        if self.branch == default[1]:
            raise UsageError(
                f"{self.branch} is the default branch, which fixtool never pushes to",
                hint="give another --branch, such as fixtool/nightly/main",
            )
        return RemoteHeads(default[1], tips["HEAD"], tips.get(self._ref))

    def take_bundle(self, bundle: Path, commit: Oid) -> None:
        """Read the objects of ``commit`` from the git bundle, and check each of them."""
        if not self.has(commit):
            out = self.run("-c", "transfer.fsckObjects=true", *_FETCH, str(bundle.resolve()),
                           "HEAD", accept=None)  # fmt: skip
            if out.status != 0:
                raise Refused(f"the bundle cannot be read: {out.complaint}", where=str(bundle))
        if self.commit_id(commit) != commit:
            raise Refused(f"the bundle does not hold the commit {commit}", where=str(bundle))

    def fetch_tips(self, *tips: tuple[str, Oid | None]) -> None:
        """Fetch the branches whose ``(name, tip)`` is not in this repository yet."""
        missing = [f"refs/heads/{name}" for name, tip in tips if tip and not self.has(tip)]
        if missing:
            self._ask_remote(*_FETCH, self.url, *missing)

    def fork_point(self, commit: Oid, tip: Oid) -> Oid:
        """The commit at which ``commit`` left the default branch, whose tip is ``tip``."""
        out = self.run("merge-base", tip, commit, accept=(0, 1))
        if out.status != 0:
            raise Refused(
                f"{commit[:12]} has no commit in common with the default branch of {self.shown}",
                where=self.shown,
            )
        return Oid(out.text)

    def check(self, commit: Oid, base: Oid, folders: Sequence[str]) -> None:
        """Raise Refused unless each commit after ``base`` changes regular files under ``folders``
        only, and no message mentions a user or closes an issue."""
        out = self.run(
            "rev-list", "--parents", f"--max-count={_MAX_COMMITS + 1}", f"{base}..{commit}"
        )
        rows = [list(map(Oid, line.split(" "))) for line in split_lines(out.text)]
        if len(rows) > _MAX_COMMITS or any(len(row) != 2 for row in rows):
            raise Refused(f"{commit[:12]} is not a short row of plain commits", where=commit)
        for sha, parent in rows:
            paths = [change.path for change in changed_files(self, parent, sha)]
            allowed = tuple(f"{folder}/" for folder in folders)
            outside = [path for path in paths if not path.startswith(allowed)]
            if outside:
                raise Refused(
                    f"commit {sha[:12]} changes {outside[0]}, which is not in "
                    f"{' or '.join(folders)}: it is not pushed",
                    where=sha,
                )
            entries = list_tree(self, sha, *folders)
            if any(entries[path].mode != "100644" for path in paths if path in entries):
                raise Refused(f"commit {sha[:12]} holds more than plain files", where=sha)
            if ACTIVE_TEXT.search(self.read_commit(sha).message):
                raise Refused(
                    f"the message of commit {sha[:12]} mentions somebody or closes an issue: it is "
                    "not pushed",
                    where=sha,
                )

    def content_id(self, commit: Oid, base: Oid, folders: Sequence[str]) -> str:
        """A short id of what ``commit`` changes: the trees of the folders before and after it."""
        sides = []
        for side in (base, commit):
            trees = [self.ref(f"{side}:{folder}") for folder in folders]
            sides.append("-".join(tree[:12] if tree else "none" for tree in trees))
        return "..".join(sides)

    def push(self, commit: Oid, expected: Oid | None) -> None:
        """Move the branch from ``expected`` (None: it does not exist yet) to ``commit``. Raises
        CannotRun if the branch is elsewhere by now."""
        lease = f"--force-with-lease={self._ref}:{expected or ''}"
        complaint = ""
        for pause in (*_PAUSES, None):
            out = self.run("push", "--quiet", "--porcelain", "--no-verify", "--no-follow-tags",
                           "--recurse-submodules=no", lease, "--end-of-options", self.url,
                           f"{commit}:{self._ref}", accept=None)  # fmt: skip
            if out.status == 0:
                return
            tip = self.heads().tip  # the push may have worked although its answer was lost
            if tip == commit:
                return
            if tip != expected:
                raise CannotRun(
                    f"somebody else pushed to {self.branch} just now: it is left as it is",
                    where=self.shown,
                    hint="run the same command again",
                )
            complaint = self._complaint(out)
            if re.search(r"^!", out.text, re.MULTILINE) or pause is None:
                break  # the server refused the push: it was not lost on the way
            time.sleep(pause)
        raise self._cannot(f"cannot push to {self.branch}", complaint)

    def _ask_remote(self, *args: str) -> Output:
        complaint = ""
        for pause in (*_PAUSES, None):
            out = self.run(*args, accept=None)
            if out.status == 0:
                return out
            complaint = self._complaint(out)
            if pause is None or re.search("Authentication|40[134]|not found", complaint):
                break
            time.sleep(pause)
        raise self._cannot("cannot read", complaint)

    def _cannot(self, what: str, complaint: str) -> CannotRun:
        hint = "run the same command again: nothing is pushed twice"
        if re.search(r"Authentication|could not read|40[134]|not found|denied", complaint):
            hint = "put a token that may write contents into GITHUB_TOKEN"
            if self.github.token and not self.github.is_at(self.url):
                hint = f"the token is for {self.github.server} alone; push to a repository there"
        return CannotRun(f"{what}: {complaint}", where=self.shown, hint=hint)

    def _complaint(self, out: Output) -> str:
        """Why the remote refused the ref, if it says so; else git's own complaint."""
        refused = re.search(r"^!\t\S+\t(.*)$", out.text, re.MULTILINE)
        text = refused[1] if refused else out.complaint
        if reason := re.search(r"^remote: error:(.*)$", out.stderr, re.MULTILINE):
            text = f"{text}; {reason[1].strip()}"
        return redact(text, self.github.token)


def remote_url(repository: Repo, remote: str) -> str:
    """The URL of ``remote``, which is a remote's name or an address. Raises UsageError if it is
    neither, or an address that git may not be given."""
    if "/" not in remote and ":" not in remote:
        out = repository.run("config", "--get", f"remote.{check_ref(remote)}.url", accept=None)
        if out.status != 0:
            raise UsageError(f"the patch repository has no remote {remote!r}")
        remote = out.text
    if not re.match(r"(https?|ssh|file)://|[^/:]+@[^/:]+:|/", remote):
        raise UsageError(f"{public_url(remote)!r} is not an address to push to")
    return check_url(remote)
