"""What a nightly rebase has to say, in Markdown and in annotations; sent by ``announce``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fixtool.announce.outcome import NightlyOutcome
from fixtool.errors import ExitCode
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import History
from fixtool.markdown import LIMIT, Marker, code, code_block, join_sections, table
from fixtool.report.todo import ToDo
from fixtool.text import visible

_ROWS = 100
_SUMMARY_LIMIT = 200_000  # of the mebibyte that a step's summary may have
_COULD_NOT_RUN = (ExitCode.CANNOT_RUN, ExitCode.INTERNAL)
_ANNOTATIONS = 10  # of a level and step, says GitHub
_DONE = {
    "kept": "kept as it is",
    "rewritten": "written anew",
    "dropped": "on the shelf: upstream has it",
    "shelved": "put on the shelf by a person",
    "restored": "back from the shelf",
    "asked": "**needs a person**",
}


@dataclass(frozen=True)
class NightlyTexts:
    """An outcome with what is needed to tell of it: its history, whom it is for, and where
    upstream's commits can be looked at."""

    outcome: NightlyOutcome
    history: History | None = None
    owners: tuple[str, ...] = ()
    upstream: str = ""  # its URL
    run: str | None = None  # the URL of the job that tells

    # -- titles ----------------------------------------------------------------------------

    @property
    def pull_title(self) -> str:
        return f"Rebase line {self.outcome.line} onto {self._onto[:12]}"

    @property
    def issue_title(self) -> str:
        return f"Nightly rebase: line {self.outcome.line} needs a person"

    @property
    def headline(self) -> str:
        line, rebase = self.outcome.line, self.outcome.rebase
        if rebase is None:
            what = "could not run" if self.outcome.exit_code in _COULD_NOT_RUN else "was refused"
            return f"The nightly rebase of line `{line}` {what}."
        onto = f"{code(rebase.ref, 80)} (`{rebase.onto[:12]}`)"
        if self.outcome.exit_code:
            return f"The nightly rebase of line `{line}` onto {onto} stopped: it needs a person."
        moved = "moved to" if rebase.moved else "is at"
        return f"Line `{line}` {moved} {onto}{', and a person should look' * self.outcome.asks}."

    @property
    def _onto(self) -> str:
        return self.outcome.rebase.onto if self.outcome.rebase else ""

    # -- bodies ----------------------------------------------------------------------------

    def pull(self, marker: Marker) -> str:
        ending = (
            f"Nothing but {' and '.join(f'`{one}/`' for one in self.outcome.folders)} changes. "
            "The nightly job makes this branch anew, unless somebody else has pushed to it: then "
            "it is left alone."
        )
        parts = [self.headline, self._todos(), self._patches(), self._history(), ending]
        return join_sections(marker, [*parts, self._range_diff()])

    def issue(self, marker: Marker) -> str:
        owners = " ".join(f"@{one}" for one in self.owners)  # a mention that is meant
        ending = (
            "This issue follows the nightly job: it changes as the need does, and is closed when "
            "none is left. Its label and the hidden first line of its text are how it is found."
        )
        parts = [self.headline, owners, self._todos(), self._next(), self._patches()]
        return join_sections(marker, [*parts, self._history(), ending])

    def comment(self) -> str:
        """What changed about the need, for whoever gets mail of it."""
        return join_sections(None, [self.headline, self._todos(), self._run()], LIMIT - 500)

    def green(self) -> str:
        text = f"{self.headline} Nothing is left for a person to do."
        return join_sections(None, [text, self._run()], LIMIT - 500)

    def summary(self) -> str:
        parts = [f"## {self.headline}", self._todos(), self._patches(), self._history()]
        return join_sections(None, [*parts, self._range_diff(100_000)], _SUMMARY_LIMIT)

    # -- sections: empty ones are left out -------------------------------------------------

    def _run(self) -> str:
        return f"[The job]({self.run})" if self.run else ""

    def _todos(self) -> str:
        lines = [self._todo(one) for one in self.outcome.todos[:_ROWS]]
        more = len(self.outcome.todos) - len(lines)
        return "\n".join([*lines, *([f"- … and {more} more"] if more > 0 else [])])

    def _todo(self, one: ToDo) -> str:
        lines = [f"- {'**To do:** ' if one.act else 'To look at: '}{code(one.what)}"]
        lines += [f"  {code(one.why, 600)}"] if one.why else []
        lines += [f"  since {self._commit(one.culprit)}"] if one.culprit else []
        return "  \n".join(lines)

    def _next(self) -> str:
        if self.outcome.exit_code == 0 or not self._onto:
            return ""
        return code_block(
            f"fixtool rebase --line {self.outcome.line} --onto {self._onto}", "console"
        )

    def _patches(self) -> str:
        rows = [
            (f"`{one.result.slug}`", code(one.result.subject, 120), one.result.verdict.value,
             _DONE[one.action])
            for one in self.outcome.patches[:_ROWS]
        ]  # fmt: skip
        more = len(self.outcome.patches) - len(rows)
        shown = table(("patch", "subject", "verdict", "what was done"), rows) if rows else ""
        return f"{shown}\n\n… and {more} more" if more else shown

    def _history(self) -> str:
        lines = []
        for one in self.history.patches[:_ROWS] if self.history else ():
            if len(one.intervals) > 1:
                steps = [
                    f"{each.verdict.value} for {each.count}"
                    + (f" from {self._commit(each.culprit)}" if each.culprit else "")
                    for each in one.intervals[-6:]
                ]
                lines.append(f"- {code(one.slug)}: {'; '.join(steps)}")
        heading = ["**Upstream's commits that changed a verdict:**", ""]
        return "\n".join([*heading, *lines]) if lines else ""

    def _range_diff(self, limit: int = 20_000) -> str:
        text = self.outcome.rebase.range_diff if self.outcome.rebase else ""
        if not text.strip():
            return ""
        shown = code_block(text, limit=limit)
        return f"<details><summary>range-diff</summary>\n\n{shown}\n\n</details>"

    def _commit(self, one: UpstreamCommit) -> str:
        """The commit and its pull request, linked so that upstream's own pages do not fill with
        references from here: that is what redirect.github.com is for."""
        form = r"https://github\.com/([A-Za-z0-9._-]+/[A-Za-z0-9._-]+?)(\.git)?/?"
        found = re.fullmatch(form, self.upstream)
        sha, number = f"`{one.sha[:12]}`", f"PR {one.pr}" if one.pr else ""
        if found:
            home = f"https://redirect.github.com/{found[1]}"
            sha = f"[{sha}]({home}/commit/{one.sha})"
            number = f"[{number}]({home}/pull/{one.pr})" if number else ""
        about = ", ".join(part for part in (number, one.day) if part)
        return f"{sha} {code(one.subject, 120)} ({about})"


def annotate(outcome: NightlyOutcome) -> list[str]:
    """Workflow commands that mark the patch files a person has to look at."""
    found = []
    slugs = {one.result.slug for one in outcome.patches}
    for one in outcome.todos[:_ANNOTATIONS]:
        since = f", since {one.culprit.sha[:12]} {one.culprit.subject}" if one.culprit else ""
        path = f"patches/{outcome.line}/{one.patch}.patch" if one.patch in slugs else None
        text = f"{one.what}{since}: {one.why}"
        found.append(_command("error" if one.act else "warning", text, path))
    return found


def notice(text: str) -> str:
    return _command("notice", text, None)


def _command(level: str, message: str, path: str | None) -> str:
    pairs = {"title": "nightly rebase", **({"file": path} if path else {})}
    said = ",".join(
        f"{name}={_escaped(visible(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in pairs.items()
    )
    return f"::{level} {said}::{_escaped(visible(message)[:1000])}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
