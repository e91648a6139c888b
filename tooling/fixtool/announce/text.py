"""The texts about a nightly rebase: Markdown for pull request, issue and job summary, and GitHub
Actions' annotations."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fixtool.announce.outcome import NightlyOutcome
from fixtool.errors import ExitCode
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import History
from fixtool.markdown import LIMIT, Markdown, Marker, code, code_block, join_sections, table
from fixtool.rebase.result import Action
from fixtool.report.todo import ToDo
from fixtool.text import count, redact, shortened, visible

_ROWS = 100
_SUMMARY_LIMIT = 200_000  # characters; the summary of a step may have one MiB
_COMMENT_LIMIT = LIMIT - 500
_COULD_NOT_RUN = (ExitCode.CANNOT_RUN, ExitCode.INTERNAL)
_ANNOTATIONS = 10  # GitHub shows no more for each level and step
_ACTIONS = {
    Action.KEPT: "kept as it is",
    Action.REWRITTEN: "rewritten",
    Action.DROPPED: "on the shelf: upstream has it",
    Action.SHELVED: "put on the shelf by a person",
    Action.RESTORED: "back from the shelf",
    Action.ASKED: Markdown("**needs a person**"),
}


@dataclass(frozen=True)
class NightlyTexts:
    """The texts about one outcome. ``owners`` are the users to mention; ``upstream`` is upstream's
    URL, for links to its commits; ``job`` is the URL of the job that announces."""

    outcome: NightlyOutcome
    history: History | None = None
    owners: tuple[str, ...] = ()
    upstream: str = ""
    job: str | None = None

    # -- titles ----------------------------------------------------------------------------

    @property
    def pull_title(self) -> str:
        return visible(f"Rebase line {self.outcome.line} onto {self._onto[:12]}")

    @property
    def issue_title(self) -> str:
        return visible(f"Nightly rebase: line {self.outcome.line} needs a person")

    @property
    def headline(self) -> str:
        line, rebase = code(self.outcome.line), self.outcome.rebase
        if rebase is None:
            what = "could not run" if self.outcome.exit_code in _COULD_NOT_RUN else "was refused"
            return f"The nightly rebase of line {line} {what}."
        onto = f"{code(rebase.ref, 80)} ({code(rebase.onto[:12])})"
        if self.outcome.exit_code:
            return f"The nightly rebase of line {line} onto {onto} stopped: it needs a person."
        moved = "moved to" if rebase.moved else "is at"
        look = ", and a person should look" if self.outcome.needs_person else ""
        return f"Line {line} {moved} {onto}{look}."

    @property
    def again(self) -> str:
        """The command that makes the same rebase at home; empty if it is not known onto what."""
        return (
            f"fixtool rebase --line {self.outcome.line} --onto {self._onto}" if self._onto else ""
        )

    @property
    def _onto(self) -> str:
        return self.outcome.rebase.onto if self.outcome.rebase else ""

    # -- bodies ----------------------------------------------------------------------------

    def pull_request(self, marker: Marker | None) -> str:
        folders = " and ".join(code(f"{folder}/") for folder in self.outcome.folders)
        ending = (
            f"Nothing but {folders} changes. "
            "The nightly job makes this branch anew, unless somebody else has pushed to it: then "
            "it is left alone."
        )
        sections = [self.headline, self._todos(), self._patches(), self._history(), ending]
        return join_sections(marker, [*sections, self._range_diff()])

    def issue(self, marker: Marker | None) -> str:
        mentions = " ".join(f"@{owner}" for owner in self.owners)  # GitHub shall notify them
        ending = (
            "This issue follows the nightly job: it changes as the need does, and is closed when "
            "none is left. Its label and the hidden first line of its text are how it is found."
        )
        sections = [self.headline, mentions, self._todos(), self._next(), self._patches()]
        return join_sections(marker, [*sections, self._history(), ending])

    def comment(self) -> str:
        """The new to-dos, as a comment: GitHub sends mail about comments, not about edits."""
        return join_sections(None, [self.headline, self._todos(), self._job()], _COMMENT_LIMIT)

    def done(self) -> str:
        """The comment with which the issue is closed."""
        text = f"{self.headline} Nothing is left for a person to do."
        return join_sections(None, [text, self._job()], _COMMENT_LIMIT)

    def summary(self) -> str:
        """The summary of the job's step."""
        sections = [f"## {self.headline}", self._todos(), self._patches(), self._history()]
        return join_sections(None, [*sections, self._range_diff(100_000)], _SUMMARY_LIMIT)

    def section(self) -> str:
        """The line's part of the summary of a whole night."""
        parts = [f"### {self.headline}", self._todos(), self._next(), self._patches()]
        return "\n\n".join(part for part in (*parts, self._history()) if part)

    # -- sections, which may be empty ------------------------------------------------------

    def _job(self) -> str:
        return f"[The job]({self.job})" if self.job else ""

    def _todos(self) -> str:
        lines = [self._todo(todo) for todo in self.outcome.todos[:_ROWS]]
        more = len(self.outcome.todos) - len(lines)
        return "\n".join([*lines, *([f"- … and {more} more"] if more else [])])

    def _todo(self, todo: ToDo) -> str:
        lines = [f"- {'**To do:** ' if todo.act else 'To look at: '}{code(todo.what)}"]
        lines += [f"  {code(todo.why, 600)}"] if todo.why else []
        lines += [f"  since {self._commit(todo.culprit)}"] if todo.culprit else []
        return "  \n".join(lines)

    def _next(self) -> str:
        return code_block(self.again, "console") if self.outcome.exit_code and self.again else ""

    def _patches(self) -> str:
        rows = [
            (code(patch.result.slug), code(patch.result.subject, 120),
             patch.result.verdict.value, _ACTIONS[patch.action])
            for patch in self.outcome.patches[:_ROWS]
        ]  # fmt: skip
        if not rows:
            return ""
        more = len(self.outcome.patches) - len(rows)
        shown = table(("patch", "subject", "verdict", "action"), rows)
        return f"{shown}\n\n… and {more} more" if more else shown

    def _history(self) -> str:
        lines = []
        for patch in self.history.patches[:_ROWS] if self.history else ():
            if len(patch.intervals) > 1:
                steps = [
                    f"{interval.verdict.value} for {count(interval.count, 'commit')}"
                    + (f" from {self._commit(interval.culprit)}" if interval.culprit else "")
                    for interval in patch.intervals[-6:]
                ]
                lines.append(f"- {code(patch.slug)}: {'; '.join(steps)}")
        heading = ["**Upstream's commits that changed a verdict:**", ""]
        return "\n".join([*heading, *lines]) if lines else ""

    def _range_diff(self, limit: int = 20_000) -> str:
        text = self.outcome.rebase.range_diff if self.outcome.rebase else ""
        if not text.strip():
            return ""
        shown = code_block(text, limit=limit)
        return f"<details><summary>range-diff</summary>\n\n{shown}\n\n</details>"

    def _commit(self, commit: UpstreamCommit) -> str:
        """A commit and its pull request. Links go through redirect.github.com: a direct link would
        add a reference to upstream's own pages, every night."""
        form = r"https://github\.com/([A-Za-z0-9._-]+/[A-Za-z0-9._-]+?)(\.git)?/?"
        sha, number = code(commit.sha[:12]), f"PR {commit.pr}" if commit.pr else ""
        if match := re.fullmatch(form, self.upstream):
            home = f"https://redirect.github.com/{match[1]}"
            sha = Markdown(f"[{sha}]({home}/commit/{commit.sha})")
            number = f"[{number}]({home}/pull/{commit.pr})" if number else ""
        about = ", ".join(part for part in (number, commit.day) if part)
        return f"{sha} {code(commit.subject, 120)} ({about})"


def annotate(outcome: NightlyOutcome) -> list[str]:
    """GitHub Actions commands that annotate the patch files which a person has to look at."""
    slugs = {patch.result.slug for patch in outcome.patches}
    commands = []
    for todo in outcome.todos[:_ANNOTATIONS]:
        since = f", since {todo.culprit.sha[:12]} {todo.culprit.subject}" if todo.culprit else ""
        path = f"patches/{outcome.line}/{todo.patch}.patch" if todo.patch in slugs else None
        level = "error" if todo.act else "warning"
        commands.append(_command(level, f"{todo.what}{since}: {todo.why}", path))
    return commands


def notice(text: str) -> str:
    return _command("notice", text, None)


def _command(level: str, message: str, path: str | None) -> str:
    properties = {"title": "nightly rebase", **({"file": path} if path else {})}
    shown = ",".join(
        f"{name}={_escape(visible(redact(value))).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in properties.items()
    )
    return f"::{level} {shown}::{_escape(visible(shortened(message, 1000)))}"


def _escape(text: str) -> str:
    return text.replace("%", "%25")  # ``visible`` leaves no line breaks, which need it as well
