"""The ways of telling people what became of a night: GitHub, a webhook, a mail, or a text.

Each of them is a ``Teller``. Only GitHub keeps state: its pull requests and issues roll from night
to night. The others say the same in one message for the whole night.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fixtool.announce.night import Night
from fixtool.announce.outcome import NightlyOutcome
from fixtool.announce.run import Announcement, Announcer, announce_outcome
from fixtool.announce.text import NightlyTexts
from fixtool.errors import FixtoolError
from fixtool.github.push import PushRemote
from fixtool.markdown import inline

if TYPE_CHECKING:  # PyGithub is an extra, and only GitHub needs it
    from fixtool.github.client import GitHub


@dataclass(frozen=True)
class Told:
    """What was told about each line. ``message`` is the text of a way that tells all lines at once,
    and ``to`` names its receiver. ``failures`` are the errors that kept a line from being told."""

    lines: tuple[Announcement, ...]
    message: str | None = None
    to: str | None = None
    failures: tuple[FixtoolError, ...] = ()


class Teller(Protocol):
    """A way of telling people what became of a night."""

    def tell(self, night: Night) -> Told:
        """Tell about every line of ``night``. Raises FixtoolError if nobody could be told; a
        failure that concerns one line alone is in the answer."""
        ...


@dataclass(frozen=True)
class OnGitHub:
    """One pull request and one issue for each line. ``labels`` are those of the issue, ``bundles``
    the git bundles by line, and ``remote`` makes the remote to which a line is pushed."""

    github: GitHub
    labels: Sequence[str]
    remote: Callable[[NightlyOutcome], PushRemote] | None = None
    bundles: Mapping[str, Path] | None = None
    dry_run: bool = False

    def tell(self, night: Night) -> Told:
        lines, failures = [], []
        for texts in night.texts:
            outcome = texts.outcome
            try:
                lines.append(self._tell_line(texts))
            except FixtoolError as error:  # the other lines are told all the same
                failures.append(error)
                note = f"telling failed: {error.message}"
                lines.append(replace(unsent(outcome), notes=(note,)))
        return Told(tuple(lines), failures=tuple(failures))

    def _tell_line(self, texts: NightlyTexts) -> Announcement:
        outcome = texts.outcome
        announcer = Announcer(self.github, texts, self.labels, self.dry_run, [])
        remote = self.remote(outcome) if self.remote else None
        return announce_outcome(announcer, remote, (self.bundles or {}).get(outcome.line))


@dataclass(frozen=True)
class AsText:
    """Everything that GitHub would be told, as one text. Nothing is sent."""

    def tell(self, night: Night) -> Told:
        parts = [night.summary()]
        for texts in night.texts:
            if texts.outcome.moved:
                parts.append(
                    f"# Pull request: {inline(texts.pull_title)}\n\n{texts.pull_request(None)}"
                )
            if texts.outcome.needs_person:
                parts.append(f"# Issue: {inline(texts.issue_title)}\n\n{texts.issue(None)}")
        return Told(unsent_lines(night), "\n".join(parts))


def unsent(outcome: NightlyOutcome) -> Announcement:
    """The announcement of a line about which GitHub was not told."""
    return Announcement(outcome.line, outcome.needs_person, outcome.moved)


def unsent_lines(night: Night) -> tuple[Announcement, ...]:
    """The announcements of all lines, if GitHub was not told about them."""
    return tuple(unsent(texts.outcome) for texts in night.texts)
