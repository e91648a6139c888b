"""The rolling branch: a commit of the patch repository, checked, and pushed with a lease.

The commit may have been made by a job that ran upstream's code: it may change the folders of its
line, and nothing else of the patch repository.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.names import check_ref, check_url, is_full_sha, public_url, redact
from fixtool.git.repo import Output, Repo
from fixtool.git.store import Store
from fixtool.git.trees import changed_files, list_tree
from fixtool.github.model import GitHubRepository
from fixtool.markdown import CALLS

_COMMITS = 50
_PAUSES = (1.0, 4.0)


@dataclass(frozen=True)
class RemoteHeads:
    """What the remote has: the name and tip of its default branch, and the rolling branch's tip."""

    default: str
    default_tip: str
    tip: str | None


class PushRemote(Store):
    """The patch repository, as one who pushes: its objects, the user's network settings, and the
    token for its own server alone, given to git by the environment."""

    def __init__(self, repository: Repo, remote: str, branch: str, place: GitHubRepository) -> None:
        super().__init__(repository.git_dir, online=True)
        self.url = address(repository, remote)
        self.branch = check_ref(branch)
        self.place = place
        self._carry([("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60")])
        if place.token and place.is_at(self.url):
            login = base64.b64encode(f"x-access-token:{place.token}".encode()).decode()
            key = f"http.{place.server}/.extraHeader"
            # The empty value takes away what is there, as actions/checkout leaves it; two headers
            # of a kind are refused. A redirection would carry the token elsewhere.
            self._carry([(key, ""), (key, f"Authorization: Basic {login}")])
            self._carry([("http.followRedirects", "false"), ("credential.helper", "")])
            self._environment["GIT_ASKPASS"] = "true"

    def heads(self) -> RemoteHeads:
        out = self._at_remote("ls-remote", "--symref", "--end-of-options", self.url, "HEAD",
                              f"refs/heads/{self.branch}")  # fmt: skip
        default = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", out.text, re.MULTILINE)
        tips = dict(line.split("\t")[::-1] for line in out.text.splitlines() if "ref:" not in line)
        if default is None or not is_full_sha(tips.get("HEAD", "")):
            raise CannotRun(f"{self.shown} has no default branch yet", where=self.shown)
        if self.branch == default[1]:
            raise UsageError(
                f"{self.branch} is the default branch, which fixtool never pushes to",
                hint="give another --branch, such as fixtool/nightly/main",
            )
        return RemoteHeads(default[1], tips["HEAD"], tips.get(f"refs/heads/{self.branch}"))

    def take_bundle(self, bundle: Path, commit: str) -> None:
        """Bring the objects of ``commit`` from ``bundle``, each of them checked."""
        if not self.has(commit):
            out = self.run("-c", "transfer.fsckObjects=true", "fetch", "--quiet", "--no-tags",
                           "--no-write-fetch-head", "--no-auto-maintenance", "--end-of-options",
                           str(bundle.resolve()), "HEAD", accept=None)  # fmt: skip
            if out.status != 0:
                raise Refused(f"the bundle cannot be read: {out.complaint}", where=str(bundle))
        if self.commit_id(commit) != commit:
            raise Refused(f"the bundle does not hold the commit {commit}", where=str(bundle))

    def bring(self, *wants: tuple[str, str | None]) -> None:
        """Have the commits of ``(branch, tip)`` here, with their history up to what is here."""
        missing = [branch for branch, tip in wants if tip and not self.has(tip)]
        if missing:
            self._at_remote("fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
                            "--no-auto-maintenance", "--end-of-options", self.url,
                            *(f"refs/heads/{one}" for one in missing))  # fmt: skip

    def base_of(self, commit: str, tip: str) -> str:
        """Where ``commit`` left the default branch."""
        out = self.run("merge-base", tip, commit, accept=(0, 1))
        if out.status != 0:
            raise Refused(
                f"{commit[:12]} has no commit in common with the default branch of {self.shown}",
                where=self.shown,
            )
        return out.text

    def check(self, commit: str, base: str, folders: Sequence[str]) -> None:
        """Refuse a ``commit`` that does more than a rebase does: every commit since ``base``
        changes regular files under ``folders`` only, and its message calls nobody."""
        out = self.run("rev-list", "--parents", f"--max-count={_COMMITS + 1}", f"{base}..{commit}")
        rows = [line.split(" ") for line in out.text.splitlines()]
        if len(rows) > _COMMITS or any(len(row) != 2 for row in rows):
            raise Refused(f"{commit[:12]} is not a short row of plain commits", where=commit)
        for sha, parent in rows:
            paths = [one.path for one in changed_files(self, parent, sha)]
            outside = [one for one in paths if not one.startswith(tuple(f"{f}/" for f in folders))]
            if outside:
                raise Refused(
                    f"commit {sha[:12]} changes {outside[0]}, which is not in "
                    f"{' or '.join(folders)}: it is not pushed",
                    where=sha,
                )
            there = list_tree(self, sha, *folders)
            if any(there[one][0] != "100644" for one in paths if one in there):
                raise Refused(f"commit {sha[:12]} holds more than plain files", where=sha)
            if CALLS.search(self.read_commit(sha).message):
                raise Refused(
                    f"the message of commit {sha[:12]} mentions somebody or closes an issue: it is "
                    "not pushed",
                    where=sha,
                )

    def content(self, commit: str, base: str, folders: Sequence[str]) -> str:
        """What ``commit`` proposes, as a short id: the folders' files before and after."""
        found = []
        for one in (base, commit):
            ids = [self.run("rev-parse", "--verify", "--quiet", f"{one}:{folder}", accept=None)
                   for folder in folders]  # fmt: skip
            found.append("-".join(id.text[:12] if id.status == 0 else "none" for id in ids))
        return "..".join(found)

    def push(self, commit: str, expected: str | None) -> None:
        """Move the rolling branch from ``expected`` (None: it is not there) to ``commit``."""
        ref = f"refs/heads/{self.branch}"
        complaint = ""
        for pause in (*_PAUSES, None):
            lease = f"--force-with-lease={ref}:{expected or ''}"
            out = self.run("push", "--quiet", "--porcelain", "--no-verify", "--no-follow-tags",
                           "--recurse-submodules=no", lease, "--end-of-options", self.url,
                           f"{commit}:{ref}", accept=None)  # fmt: skip
            if out.status == 0:
                return
            tip = self.heads().tip  # the answer may be what was lost
            if tip == commit:
                return
            if tip != expected:
                raise CannotRun(
                    f"somebody else pushed to {self.branch} just now: it is left as it is",
                    where=self.shown,
                    hint="run the same command again",
                )
            complaint = self._why(out)
            if re.search(r"^!", out.text, re.MULTILINE) or pause is None:
                break  # refused, and not lost
            time.sleep(pause)
        raise self._cannot(f"cannot push to {self.branch}", complaint)

    def _at_remote(self, *args: str) -> Output:
        complaint = ""
        for pause in (*_PAUSES, None):
            out = self.run(*args, accept=None)
            if out.status == 0:
                return out
            complaint = self._why(out)
            if pause is None or re.search("Authentication|40[134]|not found", complaint):
                break
            time.sleep(pause)
        raise self._cannot("cannot read", complaint)

    def _cannot(self, what: str, complaint: str) -> CannotRun:
        hint = "run the same command again: nothing is pushed twice"
        if re.search(r"Authentication|could not read|40[134]|not found|denied", complaint):
            hint = "put a token that may write contents into GITHUB_TOKEN"
            if self.place.token and not self.place.is_at(self.url):
                hint = f"the token is for {self.place.server} alone; push to a repository there"
        return CannotRun(f"{what}: {complaint}", where=self.shown, hint=hint)

    def _why(self, out: Output) -> str:
        """What git said: the server's reason where it refused the ref, else the complaint."""
        refused = re.search(r"^!\t\S+\t(.*)$", out.text, re.MULTILINE)
        said = [line for line in out.stderr.splitlines() if line.startswith("remote: error:")]
        text = refused[1] if refused else out.complaint
        text = f"{text}; {said[0].removeprefix('remote: error:').strip()}" if said else text
        return redact(text, self.place.token)

    @property
    def shown(self) -> str:
        return public_url(self.url)


def address(repository: Repo, remote: str) -> str:
    """The URL that ``remote``, a name or an address, stands for."""
    if "/" not in remote and ":" not in remote:
        found = repository.run("config", "--get", f"remote.{check_ref(remote)}.url", accept=None)
        if found.status != 0:
            raise UsageError(f"the patch repository has no remote {remote!r}")
        remote = found.text
    if not re.match(r"(https?|ssh|file)://|[^/:]+@[^/:]+:|/", remote):
        raise UsageError(f"{public_url(remote)!r} is not an address to push to")
    return check_url(remote)
