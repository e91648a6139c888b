"""Sending a proposal: its branch to the user's fork, and a pull request to upstream.

What was sent is in the pull request itself, in the first line of its body, so that a run that was
cut off anywhere is finished by the next one, and nothing is ever opened twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import lock, private_folder, write_atomically
from fixtool.git.names import check_ref, public_url
from fixtool.git.objects import Oid
from fixtool.github.client import GitHub, NotFound
from fixtool.github.model import GitHubRepository, PullRequest, check_repository, find_repository
from fixtool.github.push import PushRemote, RemoteHeads
from fixtool.markdown import Marker, code_block, read_marker, same_text
from fixtool.progress import Progress
from fixtool.series import trailers
from fixtool.series.line import Line, PatchRepository
from fixtool.settings import Settings
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._commits import ProposedBranch

_KIND = "upstream"


@dataclass(frozen=True)
class SendResult:
    """What came of it: ``action`` is created, updated or unchanged; ``replaced`` the commit that
    the fork's branch held before; ``kept_title`` and ``kept_body`` where somebody wrote another on
    GitHub; ``recorded`` the patch file that says so now."""

    action: str
    number: int
    url: str
    fork: str
    branch: str
    commit: str
    replaced: str | None
    commented: bool = False
    kept_title: bool = False
    kept_body: bool = False
    recorded: str | None = None


@dataclass(frozen=True)
class Destination:
    """Where a proposal is to go: upstream, and the user's fork of it."""

    upstream: GitHub
    fork: GitHubRepository

    @classmethod
    def find(
        cls,
        repository: PatchRepository,
        settings: Settings,
        line: Line,
        environment: Mapping[str, str],
        fork: str | None,
    ) -> Destination:
        """Ask what can be asked before there is a proposal, which takes a minute: the token, the
        fork, and whether the address of a pull request can be written into the patch."""
        trailers.require_recordable(repository, line)
        at = upstream_place(settings.url or line.upstream.url, environment)
        if at.token is None:
            raise CannotRun(
                "sending needs a token, and GITHUB_TOKEN has none",
                where=at.full_name,
                hint="GITHUB_TOKEN=$(gh auth token) fixtool upstream … --send",
            )
        github = GitHub(at)
        owner, _, name = (fork or "").partition("/")
        owner = owner if fork else github.login()
        name = name or at.full_name.partition("/")[2]
        theirs = replace(at, full_name=check_repository(f"{owner}/{name}"))
        return cls(github, replace(theirs, full_name=_require_fork(GitHub(theirs), at)))


class Submission:
    """One proposal, its fork and its pull request, if there is one already."""

    def __init__(
        self,
        repository: PatchRepository,
        settings: Settings,
        proposal: ProposedBranch,
        description: PullRequestText,
        to: Destination,
        branch: str | None,
    ) -> None:
        """Look at what is there and what was sent before; nothing is written there yet."""
        self.repository, self.settings = repository, settings
        self.proposal, self.description = proposal, description
        self.upstream, self.fork = to.upstream, to.fork
        self.branch = check_ref(branch or proposal.slug)
        url = f"{self.fork.server}/{self.fork.full_name}.git"
        self.remote = PushRemote(proposal.repo, url, self.branch, self.fork)
        name = f"{self.fork.server} {self.fork.full_name} {self.branch}"
        name = hashlib.sha256(name.encode()).hexdigest()[:24]
        self._note = private_folder(settings.state / "upstream") / f"sent-{name}.json"
        self.heads: RemoteHeads = self.remote.heads()
        self.pull = self._find()
        self._require_ours()

    def plan(self) -> str:
        """What sending would do, in words."""
        tip = self.proposal.tip[:12]
        to = f"{self.fork.full_name}:{self.branch}"
        moves = f"push {tip} to {to}"
        if self.heads.tip == self.proposal.tip:
            moves = f"{to} holds {tip} already"
        elif self.heads.tip:
            moves += f", in the place of {self.heads.tip[:12]}"
        if self.pull:
            return f"{moves}; update {self.pull.url}"
        where = self.upstream.repository.full_name
        return f"{moves}; open a pull request at {where}: {self.description.title}"

    def send(self, progress: Progress) -> SendResult:
        """Push, then open or update the pull request, then write its address into the patch."""
        with (
            lock(self._note.with_suffix(".lock"), f"sending to {self.fork.full_name}"),
            progress.task(f"sending to {self.fork.full_name}"),
        ):
            self.heads, self.pull = self.remote.heads(), self._find()
            self._require_ours()
            replaced = self.heads.tip
            if replaced != self.proposal.tip:
                if replaced and not self.proposal.repo.has(replaced):
                    self.remote.fetch_tips((self.branch, replaced))
                self._remember(self.proposal.tip, *([replaced] if replaced else []))
                self._push()
            pull = self.pull
            sent = self._open(replaced) if pull is None else self._update(pull, replaced)
        recorded = None
        if sent.url != (self.proposal.patches[-1].trailer("Forwarded") or ""):
            recorded = trailers.record(
                self.repository, self.proposal.line, self.proposal.slug, {"Forwarded": sent.url},
                f"SendResult as pull request {sent.number}.",
            )  # fmt: skip
        return replace(sent, recorded=recorded)

    # -- parts -----------------------------------------------------------------------------

    def _find(self) -> PullRequest | None:
        """The pull request of the branch: the open one, else the newest."""
        found = self.upstream.pull_requests(f"{self.fork.owner}:{self.branch}", "all")
        found.sort(key=lambda one: (one.state == "open", one.number), reverse=True)
        return found[0] if found else None

    def _require_ours(self) -> None:
        """Refuse to touch a pull request or a branch that somebody else made, or that is done."""
        other = "choose another branch: --branch NAME"
        if self.pull:
            if self.pull.merged:
                raise Refused(
                    f"{self.pull.url} was merged",
                    where=self.pull.url,
                    hint="fixtool upstream --status writes that into the patch",
                )
            if self.pull.state != "open":
                raise Refused(f"{self.pull.url} was closed", where=self.pull.url, hint=other)
            if read_marker(self.pull.body, _KIND) is None:
                raise Refused(
                    f"{self.pull.url} was not opened by fixtool, so its text is left alone",
                    where=self.pull.url,
                    hint=other,
                )
        tip = self.heads.tip
        marker = read_marker(self.pull.body, _KIND) if self.pull else None
        told = [marker["head"]] if marker else []
        if tip and tip not in (self.proposal.tip, *told, *self._sent()):
            raise Refused(
                f"{self.fork.full_name} has {tip[:12]} on its branch {self.branch}, which fixtool "
                "did not push from here",
                where=f"{self.fork.full_name}:{self.branch}",
                hint=f"take it into the patch, then put the branch back to {told[0][:12]}"
                if told
                else other,
            )

    def _push(self) -> None:
        try:
            self.remote.push(Oid(self.proposal.tip), self.heads.tip)
        except CannotRun as error:
            if "shallow" not in error.message and "did not receive" not in error.message:
                raise
            raise CannotRun(
                f"{self.fork.full_name} lacks upstream's {self.proposal.target.commit[:12]}",
                where=self.fork.full_name,
                hint=f"bring the fork up to date: gh repo sync {self.fork.full_name}",
            ) from error

    def _open(self, replaced: str | None) -> SendResult:
        base = self.upstream.default_branch()
        title, text = self.description.title, self.description.body.strip()
        pull = self.upstream.create_pull_request(
            f"{self.fork.owner}:{self.branch}", base, title,
            f"{self._marker(_digest(title), _digest(text))}\n{text}\n",
        )  # fmt: skip
        return self._sent_as(pull, "created", replaced)

    def _update(self, pull: PullRequest, replaced: str | None) -> SendResult:
        """The comment first, the body last: the body says what was told, so that a run which is
        cut off between the two tells it again, and GitHub is asked whether it was."""
        marker = read_marker(pull.body, _KIND)
        assert marker is not None
        told = marker["head"]
        commented = False
        if told and told != self.proposal.tip:
            about = Marker("range-diff", {"from": told[:12], "to": self.proposal.tip[:12]})
            commented = self.upstream.comment(pull.number, self._range_diff(told), str(about))
        written = pull.body.replace("\r\n", "\n").partition("\n")[2].strip()
        # What somebody wrote on GitHub is kept, and so is the digest by which that is known.
        kept_title = _digest(pull.title) != marker["title"]
        kept_body = _digest(written) != marker["text"]
        title = pull.title if kept_title else self.description.title
        text = written if kept_body else self.description.body.strip()
        mark = self._marker(
            marker["title"] if kept_title else _digest(title),
            marker["text"] if kept_body else _digest(text),
        )
        fields: dict[str, Any] = {} if title == pull.title else {"title": title}
        if not same_text(body := f"{mark}\n{text}\n", pull.body):
            fields["body"] = body
        if fields:
            self.upstream.update_pull_request(pull.number, **fields)
        changed = bool(fields) or commented or replaced != self.proposal.tip
        action = "updated" if changed else "unchanged"
        sent = self._sent_as(pull, action, replaced)
        return replace(sent, commented=commented, kept_title=kept_title, kept_body=kept_body)

    def _sent_as(self, pull: PullRequest, action: str, replaced: str | None) -> SendResult:
        before = replaced if replaced != self.proposal.tip else None
        return SendResult(
            action, pull.number, pull.url, self.fork.full_name, self.branch, self.proposal.tip,
            before,
        )  # fmt: skip

    def _marker(self, title: str, text: str) -> Marker:
        """The version that was told of, and the digests of our own words."""
        return Marker(_KIND, {"head": self.proposal.tip, "title": title, "text": text})

    def _range_diff(self, old: str) -> str:
        """What changed between two versions, as a comment."""
        repo, new = self.proposal.repo, self.proposal.tip
        head = f"Updated: `{old[:12]}` to `{new[:12]}`."
        base = repo.run("merge-base", old, self.proposal.target.commit, accept=None)
        if base.status != 0:
            return f"{head}\n\nThe version before is not at hand, so the two were not compared."
        out = repo.run(
            "range-diff", "--no-color", "--creation-factor=90", f"{base.text}..{old}",
            f"{self.proposal.target.commit}..{new}", accept=None,
        )  # fmt: skip
        said = out.stdout.decode("utf-8", "replace") if out.status == 0 else out.complaint
        return f"{head} The range-diff:\n\n{code_block(said, 'diff')}"

    def _sent(self) -> list[str]:
        """The commits that this machine pushed to that branch."""
        try:
            return [str(one) for one in json.loads(self._note.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def _remember(self, *commits: str) -> None:
        known = self._sent()
        write_atomically(
            self._note, json.dumps([*known, *(one for one in commits if one not in known)])
        )


def upstream_place(url: str, environment: Mapping[str, str]) -> GitHubRepository:
    """Upstream on GitHub; GITHUB_REPOSITORY, in Actions the patch repository, is not asked."""
    mine = {key: one for key, one in environment.items() if key != "GITHUB_REPOSITORY"}
    try:
        return find_repository(mine, url)
    except UsageError as error:
        if "which repository" not in error.message:
            raise
        raise UsageError(
            f"upstream is {public_url(url)}, which is not on GitHub as GITHUB_API_URL says it",
            hint="--mail DIR makes a series for a mailing list",
        ) from error


def _require_fork(fork: GitHub, upstream: GitHubRepository) -> str:
    """The fork's name as GitHub writes it; Refused where it is none, or takes nothing."""
    name = fork.repository.full_name
    try:
        about = fork.info()
    except NotFound as error:
        raise CannotRun(
            f"there is no fork {name}, or the token may not see it",
            where=name,
            hint=f"gh repo fork {upstream.full_name}, or --fork OWNER/NAME",
        ) from error
    if about.archived:
        raise Refused(f"the fork {name} is archived: nothing can be pushed", where=name,
                      hint="--fork OWNER/NAME")  # fmt: skip
    if (about.fork_of or "").lower() != upstream.full_name.lower():
        raise Refused(
            f"{name} is no fork of {upstream.full_name}", where=name, hint="--fork OWNER/NAME"
        )
    return about.full_name


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
