"""A draft: a proposal with all that could be asked of it here, and why it may not be sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, FixtoolError, Refused
from fixtool.git.objects import Signature
from fixtool.progress import Progress
from fixtool.series.commit import committer, open_git
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding, Level
from fixtool.settings import Settings
from fixtool.sources.target import TargetRequest, find_target
from fixtool.upstream import _checks as preflight
from fixtool.upstream._body import PullRequestText, describe
from fixtool.upstream._checks import CheckResults
from fixtool.upstream._commits import DoesNotApply, ProposedBranch, propose
from fixtool.verify import flip as need
from fixtool.verify.flip import Need
from fixtool.verify.run import target_python


@dataclass(frozen=True)
class PreparedPullRequest:
    """``need`` is None where there is no Python to ask the probe with, as ``no_python`` says."""

    proposal: ProposedBranch
    need: Need | None
    preflight: CheckResults
    description: PullRequestText
    no_python: CannotRun | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was read in the patches, and in the pull request where that says more."""
        known = {(one.rule, one.message) for one in self.preflight.findings}
        more = (one for one in self.description.findings if (one.rule, one.message) not in known)
        return (*self.preflight.findings, *more)

    @property
    def refusal(self) -> FixtoolError | None:
        """Why it may not be sent; None where it may. What said no comes before what is open."""
        return self._no() or self._unknown()

    def _no(self) -> FixtoolError | None:
        proposal, ran, onto = self.proposal, self.preflight, self.proposal.target.commit
        if self.need and self.need.script and not self.need.shown:
            return Refused(
                f"the probe of {proposal.slug} does not flip on {onto[:12]}: {self.need.said}",
                where=self.need.script,
                hint=f"fixtool verify --prove --line {proposal.line.name} --sglang-ref {onto[:12]}",
            )
        bad = [one.id for one in ran.hooks if one.outcome == "failed"]
        bad += [one.path for one in ran.tests if one.outcome == "failed"]
        errors = [one for one in self.findings if one.level is Level.ERROR]
        bad += [f"{one.rule} at {one.where}" for one in errors]
        if bad:
            more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
            return Refused(
                f"the preflight says no: {'; '.join(bad[:4])}{more}",
                where=proposal.slug,
                hint=errors[0].fix
                if len(errors) == len(bad)
                else "mend the patch, then fixtool export, and the same command again",
            )
        return None

    def _unknown(self) -> FixtoolError | None:
        if self.need is None:
            assert self.no_python is not None
            return CannotRun(
                f"nobody asked the probe, and no test was run: {self.no_python.message}",
                where=self.proposal.target.commit,
                hint=self.no_python.hint,
            )
        if open_ := self.preflight.not_run:
            return CannotRun(
                f"not all of the preflight could run: {'; '.join(open_[:3])}",
                where=self.proposal.slug,
                hint="pip install 'fixtool[upstream]', and a network for the package index",
            )
        return None


def draft(
    repository: PatchRepository,
    settings: Settings,
    wanted: TargetRequest,
    slug: str,
    python: str | None,
    title: str | None,
    progress: Progress,
    *,
    fresh: bool = False,
) -> PreparedPullRequest:
    """Propose ``slug``, and ask everything of that. ``python`` is the target's, if one was named.

    Raises Refused where upstream has no need of it, DoesNotApply where it does not apply.
    """
    no_python: CannotRun | None = None
    try:
        python = target_python(python or settings.python, repository)
    except CannotRun as error:
        python, no_python = None, error
    try:
        made = propose(repository, settings, wanted, slug, _sender(repository), progress, title)
    except DoesNotApply:
        if python:
            _require_needed(repository, settings, wanted, slug, python, progress)
        raise
    asked = None
    if python:
        asked = need.ask(
            repository, settings, made.line, made.slug, made.source, made.target, python, progress
        )
    looked = preflight.look(repository, settings, made, python, progress, fresh=fresh)
    return PreparedPullRequest(
        made, asked, looked, describe(repository, made, looked, asked), no_python
    )


def _sender(repository: PatchRepository) -> Signature | None:
    """Who signs off: the user of the patch repository's git; None where git does not know."""
    try:
        own = open_git(repository.root)
        return committer(own) if own else None
    except CannotRun:
        return None


def _require_needed(
    repository: PatchRepository,
    settings: Settings,
    wanted: TargetRequest,
    slug: str,
    python: str,
    progress: Progress,
) -> None:
    """Raise Refused where a patch that does not apply mends what is mended: its probe says so. A
    probe that cannot answer is no news: the conflict is."""
    line = repository.pick(wanted.line or settings.line)
    source, target = find_target(
        Context(repository, settings, progress), replace(wanted, line=line.name)
    )
    try:
        said = need.ask(repository, settings, line, slug, source, target, python, progress)
    except FixtoolError:
        return
    if said.without == 0:
        raise Refused(
            f"{slug} is superseded: it does not apply to {target.commit[:12]}, and its probe says "
            "that the bug is not there",
            where=target.commit,
            hint=f"let it go: fixtool rebase --line {line.name} --onto {target.commit[:12]}",
        )
