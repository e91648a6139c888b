"""Announcing a nightly rebase on GitHub: one branch and pull request for what changed in
``patches/``, and one issue for what needs a person.

fixtool looks everything up before it creates it. The first line of each body records the last
announcement, so announcing the same document again, even after a lost connection, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fixtool.announce.outcome import NightlyOutcome
from fixtool.announce.text import NightlyTexts
from fixtool.errors import FixtoolError, Refused
from fixtool.git.objects import Oid
from fixtool.github.model import Issue, PullRequest
from fixtool.github.push import PushRemote, RemoteHeads
from fixtool.markdown import Marker, read_marker, same_text

if TYPE_CHECKING:  # PyGithub is an extra, and only GitHub needs it
    from fixtool.github.client import GitHub

_PULL, _ISSUE, _COMMENT = "rebase-pull", "rebase-issue", "rebase-comment"


class ThreadAction(StrEnum):
    """What was done to a pull request, issue or branch. It is left if a person has decided about
    it: closed it, or pushed to it."""

    CREATED = "created"
    UPDATED = "updated"
    REOPENED = "reopened"
    CLOSED = "closed"
    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    LEFT = "left"


@dataclass(frozen=True)
class ThreadChange:
    """A pull request or an issue, and what was done to it. ``number`` and ``url`` are None if a dry
    run would create it."""

    number: int | None
    url: str | None
    action: ThreadAction


@dataclass(frozen=True)
class BranchChange:
    branch: str
    commit: str
    action: ThreadAction


@dataclass(frozen=True)
class Announcement:
    """What was announced. ``asks`` tells whether a person is needed, ``moved`` whether ``patches/``
    changed; ``notes`` say what was not done, and why."""

    line: str
    asks: bool
    moved: bool
    push: BranchChange | None = None
    pull: ThreadChange | None = None
    issue: ThreadChange | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Announcer:
    """What an announcement needs. The first of ``labels`` finds the issue again; ``dry_run`` writes
    nothing; ``notes`` grows while the announcement is made."""

    github: GitHub
    texts: NightlyTexts
    labels: Sequence[str]
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> NightlyOutcome:
        return self.texts.outcome


def announce_outcome(
    announcer: Announcer, remote: PushRemote | None, bundle: Path | None
) -> Announcement:
    """Announce everything. ``remote`` is where a changed line is pushed to, and ``bundle`` a git
    bundle that holds its commit. If the pull request fails, the issue is still announced, and the
    first failure is raised at the end."""
    outcome = announcer.outcome
    announcement = Announcement(outcome.line, outcome.needs_person, outcome.moved)
    failures: list[FixtoolError] = []
    try:
        if remote and outcome.moved:
            push, pull = _announce_move(announcer, remote, bundle)
            announcement = replace(announcement, push=push, pull=pull)
    except FixtoolError as error:
        failures.append(error)
    try:
        announcement = replace(announcement, issue=_announce_todos(announcer))
    except FixtoolError as error:
        failures.append(error)
    if failures:
        raise failures[0]
    return replace(announcement, notes=tuple(announcer.notes))


# -- the pull request ------------------------------------------------------------------------


def _announce_move(
    announcer: Announcer, remote: PushRemote, bundle: Path | None
) -> tuple[BranchChange, ThreadChange]:
    outcome, folders = announcer.outcome, announcer.outcome.folders
    commit = outcome.committed
    if commit is None:
        raise Refused(
            f"line {outcome.line} moved, and the document names no commit to push",
            hint="rebase in a git repository: what it writes is committed there",
        )
    heads = remote.heads()
    if bundle:
        remote.take_bundle(bundle, commit)
    remote.fetch_tips((heads.default, heads.default_tip), (remote.branch, heads.tip))
    base = remote.fork_point(commit, heads.default_tip)
    remote.check(commit, base, folders)
    content = remote.content_id(commit, base, folders)
    if heads.tip:
        old_base = remote.fork_point(heads.tip, heads.default_tip)
        if remote.content_id(heads.tip, old_base, folders) == content:
            commit = heads.tip  # the same files under another commit id are not worth a push
    pulls = announcer.github.pull_requests(remote.branch, "all")
    pull = next((pull for pull in pulls if pull.state == "open"), None)
    if pull is None:
        return _open_pull(announcer, remote, heads, commit, content, pulls)
    pushed = _pushed(pull)
    if heads.tip not in (None, commit, *pushed):
        note = f"somebody else pushed to {remote.branch}: it and #{pull.number} are left alone"
        return _leave(announcer, note, remote.branch, heads.tip or "", pull)
    # The text is written first, with both commits in its marker. Wherever a run is interrupted,
    # the next one then knows that the branch's tip is fixtool's own.
    if commit not in pushed:
        pushed = [commit, *([heads.tip] if heads.tip else [])]
    text = announcer.texts.pull_request(_pull_marker(outcome, content, pushed))
    title = announcer.texts.pull_title
    action = _update(announcer, announcer.github.update_pull_request, pull, title, text)
    return _push(announcer, remote, commit, heads.tip), ThreadChange(pull.number, pull.url, action)


def _open_pull(
    announcer: Announcer,
    remote: PushRemote,
    heads: RemoteHeads,
    commit: Oid,
    content: str,
    earlier: Sequence[PullRequest],
) -> tuple[BranchChange, ThreadChange]:
    """Open a pull request, unless a person closed an ``earlier`` one with the same content."""
    ours: set[str | None] = {None, commit}
    for pull in sorted(earlier, key=lambda pull: -pull.number):
        marker = read_marker(pull.body, _PULL)
        ours.update(_pushed(pull))
        if not pull.merged and marker and marker["content"] == content:
            note = f"#{pull.number} proposed the same and was closed: it is left so"
            return _leave(announcer, note, remote.branch, commit, pull)
    if heads.tip not in ours:
        raise Refused(
            f"{remote.branch} is there, and no pull request says that fixtool pushed it",
            where=remote.shown,
            hint=f"to give it up: git push {remote.shown} --delete {remote.branch}",
        )
    push = _push(announcer, remote, commit, heads.tip)
    if announcer.dry_run:
        return push, ThreadChange(None, None, ThreadAction.CREATED)
    texts = announcer.texts
    text = texts.pull_request(_pull_marker(texts.outcome, content, [commit]))
    pull = announcer.github.create_pull_request(
        remote.branch, heads.default, texts.pull_title, text
    )
    _label_and_assign(announcer, pull)
    return push, ThreadChange(pull.number, pull.url, ThreadAction.CREATED)


def _push(announcer: Announcer, remote: PushRemote, commit: Oid, tip: Oid | None) -> BranchChange:
    if commit == tip:
        return BranchChange(remote.branch, commit, ThreadAction.UNCHANGED)
    if not announcer.dry_run:
        remote.push(commit, tip)
    return BranchChange(remote.branch, commit, ThreadAction.PUSHED)


def _leave(
    announcer: Announcer, note: str, branch: str, commit: str, pull: PullRequest
) -> tuple[BranchChange, ThreadChange]:
    announcer.notes.append(note)
    left = ThreadAction.LEFT
    return BranchChange(branch, commit, left), ThreadChange(pull.number, pull.url, left)


def _pushed(pull: PullRequest) -> list[str]:
    """The commits that fixtool pushed for this pull request, as its marker records."""
    marker = read_marker(pull.body, _PULL)
    return marker["pushed"].split(",") if marker else []


def _pull_marker(outcome: NightlyOutcome, content: str, pushed: Sequence[str]) -> Marker:
    values = {"line": outcome.line, "content": content, "pushed": ",".join(pushed)}
    return Marker(_PULL, values)


# -- the issue -------------------------------------------------------------------------------


def _announce_todos(announcer: Announcer) -> ThreadChange | None:
    outcome, github = announcer.outcome, announcer.github
    issues = _our_issues(announcer)
    issue = next((issue for issue in issues if issue.state == "open"), next(iter(issues), None))
    if issue is None:
        return _open_issue(announcer) if outcome.needs_person else None
    for double in issues:
        if double.state == "open" and double.number != issue.number and not announcer.dry_run:
            github.update_issue(double.number, state="closed", state_reason="not_planned")
            announcer.notes.append(f"#{double.number} said the same as #{issue.number}: closed")
    marker = read_marker(issue.body, _ISSUE) or Marker(_ISSUE)
    if not outcome.needs_person:
        return _close_issue(announcer, issue, marker) if issue.state == "open" else None
    if marker["state"] != outcome.state:
        return _change_issue(announcer, issue, marker)
    if issue.state == "closed":
        announcer.notes.append(f"#{issue.number} asks for the same and was closed: it is left so")
        return ThreadChange(issue.number, issue.url, ThreadAction.LEFT)
    text, title = announcer.texts.issue(marker), announcer.texts.issue_title
    action = _update(announcer, github.update_issue, issue, title, text)
    return ThreadChange(issue.number, issue.url, action)


def _our_issues(announcer: Announcer) -> list[Issue]:
    """The issues about this line that fixtool opened, the oldest first."""
    issues = announcer.github.issues(announcer.labels[0])
    markers = [(issue, read_marker(issue.body, _ISSUE)) for issue in issues]
    line = announcer.outcome.line
    return [issue for issue, marker in markers if marker and marker["line"] == line]


def _open_issue(announcer: Announcer) -> ThreadChange:
    if announcer.dry_run:
        return ThreadChange(None, None, ThreadAction.CREATED)
    issue = announcer.github.create_issue(
        announcer.texts.issue_title,
        announcer.texts.issue(_issue_marker(announcer.outcome, 1)),
        announcer.labels,
        lambda: next(iter(_our_issues(announcer)), None),
    )
    _label_and_assign(announcer, issue)
    return ThreadChange(issue.number, issue.url, ThreadAction.CREATED)


def _change_issue(announcer: Announcer, issue: Issue, marker: Marker) -> ThreadChange:
    """The to-dos have changed: comment on it, and open the issue again if it is closed."""
    texts = announcer.texts
    if not announcer.dry_run:
        new_marker = _comment(announcer, issue, marker, texts.comment())
        announcer.github.update_issue(
            issue.number, title=texts.issue_title, body=texts.issue(new_marker), state="open"
        )
        _label_and_assign(announcer, issue)
    action = ThreadAction.UPDATED if issue.state == "open" else ThreadAction.REOPENED
    return ThreadChange(issue.number, issue.url, action)


def _close_issue(announcer: Announcer, issue: Issue, marker: Marker) -> ThreadChange:
    if not announcer.dry_run:
        new_marker = _comment(announcer, issue, marker, announcer.texts.done())
        rest = issue.body.partition("\n")[2]
        announcer.github.update_issue(
            issue.number, body=f"{new_marker}\n{rest}", state="closed", state_reason="completed"
        )
    return ThreadChange(issue.number, issue.url, ThreadAction.CLOSED)


def _comment(announcer: Announcer, issue: Issue, marker: Marker, text: str) -> Marker:
    """Comment once on this change. Returns the issue's next marker, whose turn number tells
    whether the comment exists already."""
    turn = int(marker["turn"]) + 1 if re.fullmatch(r"[0-9]{1,6}", marker["turn"]) else 1
    new_marker = _issue_marker(announcer.outcome, turn)
    comment_marker = Marker(_COMMENT, {"turn": str(turn), "state": announcer.outcome.state})
    announcer.github.comment(issue.number, text, str(comment_marker))
    return new_marker


def _issue_marker(outcome: NightlyOutcome, turn: int) -> Marker:
    return Marker(_ISSUE, {"line": outcome.line, "turn": str(turn), "state": outcome.state})


# -- both ------------------------------------------------------------------------------------


def _update(
    announcer: Announcer,
    update: Callable[..., None],
    thread: PullRequest | Issue,
    title: str,
    body: str,
) -> ThreadAction:
    changed = thread.title != title or not same_text(thread.body, body)
    if changed and not announcer.dry_run:
        update(thread.number, title=title, body=body)
    changed = _label_and_assign(announcer, thread) or changed
    return ThreadAction.UPDATED if changed else ThreadAction.UNCHANGED


def _label_and_assign(announcer: Announcer, thread: PullRequest | Issue) -> bool:
    """Add the missing labels. Assign the owners if no one is assigned; if an owner has passed the
    thread on to another person, that stays. Returns whether a label was missing."""
    missing = [label for label in announcer.labels if label not in thread.labels]
    if announcer.dry_run:
        return bool(missing)
    if missing:
        announcer.github.add_labels(thread.number, missing)
    owners = announcer.texts.owners
    if owners and not thread.assignees:
        refused = announcer.github.assign(thread.number, owners)
        announcer.notes.extend(
            f"{login} cannot be assigned to #{thread.number}" for login in refused
        )
    return bool(missing)
