"""Telling GitHub what became of a nightly rebase: one rolling branch and pull request for what
moved, one rolling issue for what needs a person.

Everything is looked up before it is made, and says by its marker what it said last, so the same
document told twice, or told again after a lost connection, changes nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fixtool.announce.outcome import NightlyOutcome
from fixtool.announce.text import NightlyTexts
from fixtool.errors import FixtoolError, Refused
from fixtool.git.objects import Oid
from fixtool.github.client import GitHub
from fixtool.github.model import Issue, PullRequest
from fixtool.github.push import PushRemote
from fixtool.markdown import Marker, read_marker, same_text

_PULL, _ISSUE, _COMMENT = "rebase-pull", "rebase-issue", "rebase-comment"


@dataclass(frozen=True)
class ThreadChange:
    """A pull request or an issue, and what was done to it: created, updated, reopened, closed,
    unchanged, or left (a person has decided). ``number`` is None where a dry run would make it."""

    number: int | None
    url: str | None
    action: str


@dataclass(frozen=True)
class BranchChange:
    branch: str
    commit: str
    action: str  # pushed, unchanged, left


@dataclass(frozen=True)
class Announcement:
    line: str
    asks: bool
    moved: bool
    push: BranchChange | None = None
    pull: ThreadChange | None = None
    issue: ThreadChange | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Announcer:
    """Carries one outcome to GitHub; ``dry`` only looks."""

    github: GitHub
    words: NightlyTexts
    labels: Sequence[str]
    dry: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> NightlyOutcome:
        return self.words.outcome

    def announce(self, rolling: PushRemote | None, bundle: Path | None) -> Announcement:
        """Tell everything; what one half cannot tell does not keep the other from it. Raises the
        first failure at the end."""
        told = Announcement(self.outcome.line, self.outcome.asks, self.outcome.moved)
        failed: list[FixtoolError] = []
        try:
            if rolling and self._has_commit():
                push, pull = self._tell_move(rolling, bundle)
                told = replace(told, push=push, pull=pull)
        except FixtoolError as error:
            failed.append(error)
        try:
            told = replace(told, issue=self._tell_need())
        except FixtoolError as error:
            failed.append(error)
        if failed:
            raise failed[0]
        return replace(told, notes=tuple(self.notes))

    # -- the pull request ------------------------------------------------------------------

    def _has_commit(self) -> bool:
        if self.outcome.moved and self.outcome.committed is None:
            raise Refused(
                f"line {self.outcome.line} moved, and the document names no commit to push",
                hint="rebase in a git repository: what it writes is committed there",
            )
        return self.outcome.moved

    def _tell_move(
        self, rolling: PushRemote, bundle: Path | None
    ) -> tuple[BranchChange, ThreadChange]:
        commit, folders = Oid(self.outcome.committed or ""), self.outcome.folders
        heads = rolling.heads()
        if bundle:
            rolling.take_bundle(bundle, commit)
        rolling.fetch_tips((heads.default, heads.default_tip), (rolling.branch, heads.tip))
        base = rolling.fork_point(commit, heads.default_tip)
        rolling.check(commit, base, folders)
        content = rolling.content_id(commit, base, folders)
        if heads.tip:
            old_base = rolling.fork_point(heads.tip, heads.default_tip)
            if rolling.content_id(heads.tip, old_base, folders) == content:
                commit = heads.tip  # it proposes this already: its id is not worth a push
        pulls = self.github.pull_requests(rolling.branch, "all")
        pull = next((one for one in pulls if one.state == "open"), None)
        if pull is None:
            return self._open_pull(rolling, heads.tip, heads.default, commit, content, pulls)
        marker = read_marker(pull.body, _PULL)
        ours = marker["pushed"].split(",") if marker else []
        if heads.tip not in (None, commit, *ours):
            self.notes.append(
                f"somebody else pushed to {rolling.branch}: it and #{pull.number} are left alone"
            )
            return (
                BranchChange(rolling.branch, heads.tip or "", "left"),
                ThreadChange(pull.number, pull.url, "left"),
            )
        # The text goes first, with both commits in its marker: wherever a run is cut off, the next
        # one knows that the branch's tip is fixtool's own.
        pushed = ours if commit in ours else [commit, *([heads.tip] if heads.tip else [])]
        changed = self._update_pull(pull, self._pull_marker(content, pushed))
        push = self._push(rolling, commit, heads.tip)
        return push, ThreadChange(pull.number, pull.url, "updated" if changed else "unchanged")

    def _open_pull(
        self, rolling: PushRemote, tip: Oid | None, base: str, commit: Oid, content: str,
        before: Sequence[PullRequest],
    ) -> tuple[BranchChange, ThreadChange]:  # fmt: skip
        ours: set[str | None] = {None, commit}
        for one in sorted(before, key=lambda one: -one.number):
            marker = read_marker(one.body, _PULL)
            ours.update(marker["pushed"].split(",") if marker else ())
            if not one.merged and marker and marker["content"] == content:
                self.notes.append(f"#{one.number} proposed the same and was closed: it is left so")
                return BranchChange(rolling.branch, commit, "left"), ThreadChange(
                    one.number, one.url, "left"
                )
        if tip not in ours:
            raise Refused(
                f"{rolling.branch} is there, and no pull request says that fixtool pushed it",
                where=rolling.shown,
                hint=f"to give it up: git push {rolling.shown} --delete {rolling.branch}",
            )
        push = self._push(rolling, commit, tip)
        if self.dry:
            return push, ThreadChange(None, None, "created")
        text = self.words.pull(self._pull_marker(content, [commit]))
        pull = self.github.create_pull_request(rolling.branch, base, self.words.pull_title, text)
        self._mark(pull)
        return push, ThreadChange(pull.number, pull.url, "created")

    def _update_pull(self, pull: PullRequest, marker: Marker) -> bool:
        text = self.words.pull(marker)
        changed = pull.title != self.words.pull_title or not same_text(pull.body, text)
        if changed and not self.dry:
            self.github.update_pull_request(pull.number, title=self.words.pull_title, body=text)
        return self._mark(pull) or changed

    def _push(self, rolling: PushRemote, commit: Oid, tip: Oid | None) -> BranchChange:
        if commit == tip:
            return BranchChange(rolling.branch, commit, "unchanged")
        if not self.dry:
            rolling.push(commit, tip)
        return BranchChange(rolling.branch, commit, "pushed")

    def _pull_marker(self, content: str, pushed: Sequence[str]) -> Marker:
        values = {"line": self.outcome.line, "content": content, "pushed": ",".join(pushed)}
        return Marker(_PULL, values)

    # -- the issue -------------------------------------------------------------------------

    def _tell_need(self) -> ThreadChange | None:
        found = [one for one in self._issues() if self._is_ours(one)]
        issue = next((one for one in found if one.state == "open"), next(iter(found), None))
        if issue is None:
            return self._open_issue() if self.outcome.asks else None
        for double in found:
            if double.state == "open" and double.number != issue.number and not self.dry:
                self.github.update_issue(double.number, state="closed", state_reason="not_planned")
                self.notes.append(f"#{double.number} said the same as #{issue.number}: closed")
        marker = read_marker(issue.body, _ISSUE) or Marker(_ISSUE)
        if not self.outcome.asks:
            return self._close_issue(issue, marker) if issue.state == "open" else None
        if marker["state"] != self.outcome.state:
            return self._change_issue(issue, marker)
        if issue.state == "closed":
            self.notes.append(f"#{issue.number} asks for the same and was closed: it is left so")
            return ThreadChange(issue.number, issue.url, "left")
        text = self.words.issue(marker)
        changed = issue.title != self.words.issue_title or not same_text(issue.body, text)
        if changed and not self.dry:
            self.github.update_issue(issue.number, title=self.words.issue_title, body=text)
        marked = self._mark(issue)
        return ThreadChange(
            issue.number, issue.url, "updated" if changed or marked else "unchanged"
        )

    def _issues(self) -> list[Issue]:
        return self.github.issues(self.labels[0])

    def _is_ours(self, issue: Issue) -> bool:
        marker = read_marker(issue.body, _ISSUE)
        return marker is not None and marker["line"] == self.outcome.line

    def _open_issue(self) -> ThreadChange:
        if self.dry:
            return ThreadChange(None, None, "created")
        text = self.words.issue(self._issue_marker(1))
        issue = self.github.create_issue(
            self.words.issue_title, text, self.labels,
            lambda: next((one for one in self._issues() if self._is_ours(one)), None),
        )  # fmt: skip
        self._mark(issue)
        return ThreadChange(issue.number, issue.url, "created")

    def _change_issue(self, issue: Issue, marker: Marker) -> ThreadChange:
        action = "updated" if issue.state == "open" else "reopened"
        if not self.dry:
            new = self._next_marker(marker)
            self._comment(issue, new, self.words.comment())
            text, title = self.words.issue(new), self.words.issue_title
            self.github.update_issue(issue.number, title=title, body=text, state="open")
            self._mark(issue)
        return ThreadChange(issue.number, issue.url, action)

    def _close_issue(self, issue: Issue, marker: Marker) -> ThreadChange:
        if not self.dry:
            new = self._next_marker(marker)
            self._comment(issue, new, self.words.green())
            rest = issue.body.partition("\n")[2]
            self.github.update_issue(
                issue.number, body=f"{new}\n{rest}", state="closed", state_reason="completed"
            )
        return ThreadChange(issue.number, issue.url, "closed")

    def _comment(self, issue: Issue, marker: Marker, text: str) -> None:
        """Each turn of the need is told once; the turn's number finds it again."""
        turn = Marker(_COMMENT, {"turn": marker["turn"], "state": marker["state"]})
        self.github.comment(issue.number, text, str(turn))

    def _next_marker(self, marker: Marker) -> Marker:
        turn = marker["turn"]
        return self._issue_marker(int(turn) + 1 if turn.isdigit() else 1)

    def _issue_marker(self, turn: int) -> Marker:
        values = {"line": self.outcome.line, "turn": str(turn), "state": self.outcome.state}
        return Marker(_ISSUE, values)

    # -- both ------------------------------------------------------------------------------

    def _mark(self, thread: PullRequest | Issue) -> bool:
        """Labels where one lacks, owners where nobody is assigned: who hands it on is not put
        back."""
        missing = [one for one in self.labels if one not in thread.labels]
        owners = [] if thread.assignees else self.words.owners
        if self.dry:
            return bool(missing)
        if missing:
            self.github.add_labels(thread.number, missing)
        if owners:
            passed = self.github.assign(thread.number, owners)
            self.notes += [f"{one} cannot be assigned to #{thread.number}" for one in passed]
        return bool(missing)
