"""Sending a prepared pull request: its branch to the user's fork, and a pull request to upstream.

The first line of the pull request's body records what was sent. So the next run finishes one that
was interrupted anywhere, and nothing is opened twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from fixtool import documents
from fixtool.apply.waiting import require_nothing_waits
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import lock, private_folder, write_atomically
from fixtool.git.names import check_ref
from fixtool.git.objects import Oid, read_oid
from fixtool.github.client import GitHub, NotFound
from fixtool.github.model import (
    GitHubRepository,
    PullRequest,
    check_repository,
    find_repository,
)
from fixtool.github.push import PushRemote, RemoteHeads
from fixtool.markdown import Marker, code_block, read_marker, same_text
from fixtool.profile import SGLANG, repository_key
from fixtool.series import trailers
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.target import profile_of_tree
from fixtool.text import public_url
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._commits import ProposedBranch

_KIND = "upstream"
_SGLANG = repository_key(SGLANG.url or "")


class SendAction(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class SendResult:
    """What was sent. ``replaced`` is the commit that the fork's branch held before; ``kept_title``
    and ``kept_body`` tell that somebody wrote another one on GitHub, which stays; ``recorded`` is
    the patch file into which the pull request's address was written."""

    action: SendAction
    number: int
    url: str
    fork: str
    branch: str
    commit: Oid
    replaced: Oid | None
    commented: bool = False
    kept_title: bool = False
    kept_body: bool = False
    recorded: str | None = None


@dataclass(frozen=True)
class Destination:
    """Where a pull request goes: upstream, and the user's fork of it."""

    upstream: GitHub
    fork: GitHubRepository


def find_destination(
    context: Context, line: Line, environment: Mapping[str, str], fork: str | None
) -> Destination:
    """Check the token, the fork (``OWNER`` or ``OWNER/NAME``, None: the token owner's) and whether
    the pull request's address can be written into the patch. All that takes seconds; preparing the
    pull request takes a minute."""
    require_nothing_waits(context, line.name)
    trailers.require_recordable(context.repository, line)
    repository = _upstream_of(context, line, environment)
    if repository.token is None:
        raise CannotRun(
            "sending needs a token, and GITHUB_TOKEN has none",
            where=repository.full_name,
            hint="set it, then the same command again: export GITHUB_TOKEN=$(gh auth token)",
        )
    upstream = GitHub(repository)
    owner, _, name = (fork or upstream.login()).partition("/")
    name = name or repository.full_name.partition("/")[2]
    theirs = replace(repository, full_name=check_repository(f"{owner}/{name}"))
    return Destination(upstream, replace(theirs, full_name=_require_fork(theirs, repository)))


def _upstream_of(context: Context, line: Line, environment: Mapping[str, str]) -> GitHubRepository:
    """The repository that the line's own address names. The settings may name another server.
    Raises Refused if they name another repository: another project must not get this patch."""
    own, other = line.upstream.url, context.settings.url
    if other and _path(other) != _path(own):
        raise Refused(
            f"line {line.name} is for {public_url(own)}, and the settings name "
            f"{public_url(other)} as upstream",
            where=str(line.folder / "upstream.toml"),
            hint="take url out of [tool.fixtool], or FIXTOOL_URL out of the environment",
        )
    return find_upstream(other or own, environment)


def _path(url: str) -> str:
    """The owner and the name of the repository at ``url``."""
    return repository_key(public_url(url)).partition("/")[2].lower()


def find_upstream(url: str, environment: Mapping[str, str]) -> GitHubRepository:
    """Upstream's repository on GitHub. GITHUB_REPOSITORY is ignored: in GitHub Actions, it is the
    patch repository. Raises UsageError if upstream is not on GitHub."""
    others = {key: value for key, value in environment.items() if key != "GITHUB_REPOSITORY"}
    try:
        return find_repository(others, url)
    except UsageError as error:
        if "which repository" not in error.message:
            raise
        raise UsageError(
            f"upstream is {public_url(url)}, which is not on GitHub: there are no pull requests",
            where=public_url(url),
            hint="make a series for a mailing list: the same command without --send --mail DIR",
        ) from error


def _require_fork(fork: GitHubRepository, upstream: GitHubRepository) -> str:
    """The fork's name as GitHub writes it. Raises Refused if it is no fork, or cannot be pushed
    to."""
    name = fork.full_name
    try:
        info = GitHub(fork).info()
    except NotFound as error:
        raise CannotRun(
            f"there is no fork {name}, or the token may not see it",
            where=name,
            hint=f"gh repo fork {upstream.full_name}, or --fork OWNER/NAME",
        ) from error
    why = ""
    if info.archived:
        why = f"the fork {name} is archived: nothing can be pushed"
    elif (info.fork_of or "").lower() != upstream.full_name.lower():
        why = f"{name} is no fork of {upstream.full_name}"
    if why:
        raise Refused(why, where=name, hint="--fork OWNER/NAME")
    return info.full_name


@dataclass(frozen=True)
class SendPlan:
    """A pull request to send, and what fork and upstream hold now. ``pull`` is the pull request of
    the branch, None if there is none; ``note`` is the file that lists the commits which this
    machine pushed to that branch."""

    context: Context
    branch: ProposedBranch
    text: PullRequestText
    to: Destination
    remote: PushRemote
    note: Path
    heads: RemoteHeads
    pull: PullRequest | None

    @property
    def head(self) -> str:
        return f"{self.to.fork.owner}:{self.remote.branch}"

    def describe(self) -> str:
        """What ``send`` would do, in words."""
        tip, fork = self.branch.tip[:12], f"{self.to.fork.full_name}:{self.remote.branch}"
        push = f"push {tip} to {fork}"
        if self.heads.tip == self.branch.tip:
            push = f"{fork} holds {tip} already"
        elif self.heads.tip:
            push += f", in the place of {self.heads.tip[:12]}"
        if self.pull:
            return f"{push}; update {self.pull.url}"
        upstream = self.to.upstream.repository.full_name
        return f"{push}; open a pull request at {upstream}: {self.text.title}"


def plan_send(
    context: Context,
    branch: ProposedBranch,
    text: PullRequestText,
    to: Destination,
    name: str | None,
) -> SendPlan:
    """Look at the fork's branch ``name`` (None: the patch's slug) and its pull request. Nothing is
    written. Raises Refused if somebody else made them, or if the pull request is closed."""
    _require_same_project(branch)
    name = check_ref(name or branch.slug)
    remote = PushRemote(branch.repo, f"{to.fork.server}/{to.fork.full_name}.git", name, to.fork)
    key = hashlib.sha256(f"{to.fork.server} {to.fork.full_name} {name}".encode()).hexdigest()[:24]
    note = private_folder(context.settings.state / "upstream") / f"sent-{key}.json"
    heads = remote.heads()
    pull = _find(to, name)
    plan = SendPlan(context, branch, text, to, remote, note, heads, pull)
    _require_ours(plan)
    return plan


def _require_same_project(branch: ProposedBranch) -> None:
    """Raise Refused if the line says that it is for SGLang, and the tree is another project's. An
    earlier ``init`` wrote SGLang's address into each line that was made from a clone."""
    line = branch.line
    url = line.upstream.url
    if (
        repository_key(url) == _SGLANG
        and profile_of_tree(branch.repo, branch.target.commit) is not SGLANG
    ):
        raise Refused(
            f"line {line.name} names {public_url(url)}, and {branch.target.commit[:12]} holds no "
            f"{SGLANG.package}/: it is the tree of another project",
            where=str(line.folder / "upstream.toml"),
            hint="write the address of that project as url",
        )


def send(plan: SendPlan) -> SendResult:
    """Push, then open or update the pull request, then write its address into the patch."""
    to, branch, remote = plan.to, plan.branch, plan.remote
    what = f"sending to {to.fork.full_name}"
    with (
        lock(plan.note.with_suffix(".lock"), what),
        plan.context.progress.task(what),
    ):
        plan = replace(plan, heads=remote.heads(), pull=_find(to, remote.branch))
        _require_ours(plan)
        replaced = plan.heads.tip
        if replaced != branch.tip:
            if replaced and not branch.repo.has(replaced):
                remote.fetch_tips((remote.branch, replaced))
            _remember(plan.note, branch.tip, *([replaced] if replaced else []))
            _push(plan)
        pull = plan.pull
        result = _update(plan, pull) if pull else _open(plan)
    recorded = None
    if result.url != (branch.patches[-1].trailer("Forwarded") or ""):
        recorded = trailers.record(
            plan.context.repository, branch.line, branch.slug, {"Forwarded": result.url},
            f"Sent as pull request {result.number}.",
        )  # fmt: skip
    return replace(result, recorded=recorded)


def _find(to: Destination, branch: str) -> PullRequest | None:
    """The pull request of the fork's branch: the open one, else the newest."""
    pulls = to.upstream.pull_requests(f"{to.fork.owner}:{branch}", "all")
    return max(pulls, key=lambda pull: (pull.state == "open", pull.number), default=None)


def _require_ours(plan: SendPlan) -> None:
    """Raise Refused if the pull request is merged, closed, or somebody else's, or if somebody else
    pushed to the branch."""
    other = "choose another branch: --branch NAME"
    pull = plan.pull
    marker = read_marker(pull.body, _KIND) if pull else None
    if pull:
        why, hint = "", other
        if pull.merged:
            why, hint = "was merged", "write that into the patch: fixtool upstream --status"
        elif pull.state != "open":
            why = "was closed"
        elif marker is None:
            why = "was not opened by fixtool, so its text is left alone"
        if why:
            raise Refused(f"{pull.url} {why}", where=pull.url, hint=hint)
    tip, sent = plan.heads.tip, marker["head"] if marker else None
    if tip and tip not in (plan.branch.tip, sent, *_pushed(plan.note)):
        fork, branch = plan.to.fork.full_name, plan.remote.branch
        raise Refused(
            f"{fork} has {tip[:12]} on its branch {branch}, which fixtool did not push from here",
            where=f"{fork}:{branch}",
            hint=f"take it into the patch, then put the branch back to {sent[:12]}"
            if sent is not None
            else other,
        )


def _push(plan: SendPlan) -> None:
    try:
        plan.remote.push(plan.branch.tip, plan.heads.tip)
    except CannotRun as error:
        if "shallow" not in error.message and "did not receive" not in error.message:
            raise
        fork = plan.to.fork.full_name
        raise CannotRun(
            f"{fork} lacks upstream's {plan.branch.target.commit[:12]}",
            where=fork,
            hint=f"bring the fork up to date: gh repo sync {fork}",
        ) from error


def _open(plan: SendPlan) -> SendResult:
    upstream = plan.to.upstream
    title, text = plan.text.title, plan.text.body.strip()
    marker = _marker(plan, _digest(title), _digest(text))
    pull = upstream.create_pull_request(
        plan.head, upstream.default_branch(), title, f"{marker}\n{text}\n"
    )
    return _result(plan, pull, SendAction.CREATED)


def _update(plan: SendPlan, pull: PullRequest) -> SendResult:
    """Post the comment first and change the body last. The body records which version was
    announced, so a run that is interrupted in between is repeated, and GitHub is asked whether it
    has the comment."""
    upstream, branch = plan.to.upstream, plan.branch
    marker = read_marker(pull.body, _KIND)
    assert marker is not None
    announced = marker["head"]
    commented = False
    if announced and announced != branch.tip:
        comment_marker = Marker("range-diff", {"from": announced[:12], "to": branch.tip[:12]})
        commented = upstream.comment(
            pull.number, _range_diff(branch, announced), str(comment_marker)
        )
    written = pull.body.replace("\r\n", "\n").partition("\n")[2].strip()
    # What somebody wrote on GitHub stays, and so does the digest that shows that they did.
    kept_title = _digest(pull.title) != marker["title"]
    kept_body = _digest(written) != marker["text"]
    title = pull.title if kept_title else plan.text.title
    text = written if kept_body else plan.text.body.strip()
    new_marker = _marker(
        plan,
        marker["title"] if kept_title else _digest(title),
        marker["text"] if kept_body else _digest(text),
    )
    fields: dict[str, Any] = {} if title == pull.title else {"title": title}
    if not same_text(body := f"{new_marker}\n{text}\n", pull.body):
        fields["body"] = body
    if fields:
        upstream.update_pull_request(pull.number, **fields)
    changed = fields or commented or plan.heads.tip != branch.tip
    result = _result(plan, pull, SendAction.UPDATED if changed else SendAction.UNCHANGED)
    return replace(result, commented=commented, kept_title=kept_title, kept_body=kept_body)


def _result(plan: SendPlan, pull: PullRequest, action: SendAction) -> SendResult:
    tip, before = plan.branch.tip, plan.heads.tip
    return SendResult(
        action, pull.number, pull.url, plan.to.fork.full_name, plan.remote.branch, tip,
        before if before != tip else None,
    )  # fmt: skip


def _marker(plan: SendPlan, title: str, text: str) -> Marker:
    """The version that is announced, and the digests of our own title and text."""
    return Marker(_KIND, {"head": plan.branch.tip, "title": title, "text": text})


def _range_diff(branch: ProposedBranch, old: str) -> str:
    """A comment about what changed between the version ``old`` and this one."""
    repo, onto, new = branch.repo, branch.target.commit, branch.tip
    first = f"Updated: `{old[:12]}` to `{new[:12]}`."
    base = repo.run("merge-base", old, onto, accept=None)
    if base.status != 0:
        return f"{first}\n\nThe version before is not at hand, so the two were not compared."
    out = repo.run(
        "range-diff", "--no-color", "--creation-factor=90", f"{base.text}..{old}",
        f"{onto}..{new}", accept=None,
    )  # fmt: skip
    text = out.stdout.decode("utf-8", "replace") if out.status == 0 else out.complaint
    return f"{first} The range-diff:\n\n{code_block(text, 'diff')}"


def _pushed(note: Path) -> list[Oid]:
    """The commits that this machine pushed to the branch before."""
    return list(documents.read_own(note, lambda commits: commits.each(read_oid)) or ())


def _remember(note: Path, *commits: Oid) -> None:
    write_atomically(
        note, json.dumps(list(dict.fromkeys([*_pushed(note), *commits]))), durable=True
    )


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
