"""Preparing a pull request: its commits, its checks, its text, and why it may not be sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, FixtoolError, Refused
from fixtool.git.objects import Signature
from fixtool.profile import Profile
from fixtool.series.commit import committer, open_git
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding, Level
from fixtool.sources.target import TargetRequest, find_target, profile_of
from fixtool.upstream._body import PullRequestText, write_text
from fixtool.upstream._checks import CheckResults, run_checks
from fixtool.upstream._commits import DoesNotApply, ProposedBranch, propose
from fixtool.upstream._hooks import UNKNOWN
from fixtool.verify.flip import ProbeFlip, flip_probe
from fixtool.verify.run import find_python


@dataclass(frozen=True)
class PreparedPullRequest:
    """``flip`` is what the patch's probe says without and with it; None if there is no Python to
    run the probe with, for the reason ``no_python``."""

    branch: ProposedBranch
    flip: ProbeFlip | None
    checks: CheckResults
    text: PullRequestText
    no_python: CannotRun | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings in the commits, and those that only the pull request's text has."""
        known = {(finding.rule, finding.message) for finding in self.checks.findings}
        more = (item for item in self.text.findings if (item.rule, item.message) not in known)
        return (*self.checks.findings, *more)

    @property
    def refusal(self) -> FixtoolError | None:
        """Why it may not be sent; None if it may. A failed check comes before an open one."""
        return self._failed() or self._open()

    def _failed(self) -> FixtoolError | None:
        branch, onto = self.branch, self.branch.target.commit[:12]
        if self.flip and self.flip.script and not self.flip.shown:
            return Refused(
                f"the probe of {branch.slug} does not flip on {onto}: {self.flip.said}",
                where=self.flip.script,
                hint=f"fixtool verify --prove --line {branch.line.name} --ref {onto}",
            )
        bad = [hook.id for hook in self.checks.hooks if hook.outcome == "failed"]
        bad += [test.path for test in self.checks.tests if test.outcome == "failed"]
        errors = [finding for finding in self.findings if finding.level is Level.ERROR]
        bad += [f"{finding.rule} at {finding.where}" for finding in errors]
        if not bad:
            return None
        more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
        hint = "mend the patch, then fixtool export, and the same command again"
        if len(errors) == len(bad):
            hint = errors[0].fix
        return Refused(
            f"the preflight says no: {'; '.join(bad[:4])}{more}", where=branch.slug, hint=hint
        )

    def _open(self) -> FixtoolError | None:
        if self.no_python:
            return CannotRun(
                f"the probe and the tests were not run: {self.no_python.message}",
                where=self.branch.target.commit,
                hint=self.no_python.hint,
            )
        if not_run := self.checks.not_run:
            hint = "pip install 'sglang-fixtool[upstream]', and a network for the package index"
            if all(UNKNOWN in why for why in not_run):  # nothing that is installed would help
                hint = "run upstream's own checks by hand in the branch that --worktree DIR makes"
            return CannotRun(
                f"not all of the preflight could run: {'; '.join(not_run[:3])}",
                where=self.branch.slug,
                hint=hint,
            )
        return None


def prepare(
    context: Context,
    wanted: TargetRequest,
    slug: str,
    python: str | None,
    title: str | None,
    *,
    fresh: bool = False,
) -> PreparedPullRequest:
    """Build the commits for ``slug`` on ``wanted.ref``, check them and write the text. ``python``
    is the target's interpreter, if the user named one; ``fresh`` repeats hooks and tests.

    Raises Refused if upstream has the patch or does not need it, and DoesNotApply if it does not
    apply.
    """
    repository = context.repository
    named = python or context.settings.python
    if named:
        named = find_python(repository, named)
    try:
        branch = propose(context, wanted, slug, _sender(repository), title)
    except DoesNotApply:
        _require_needed(context, wanted, slug, named)
        raise
    python, no_python = _find_python(repository, named, branch.profile)
    probe = None
    if python:
        probe = flip_probe(
            context, branch.line, branch.slug, branch.source, branch.target, python,
            branch.decisions,
        )  # fmt: skip
    for_tests = python if branch.profile.torch else named
    checks = run_checks(context, branch, for_tests, fresh=fresh)
    text = write_text(repository, branch, checks, probe)
    return PreparedPullRequest(branch, probe, checks, text, no_python)


def _find_python(
    repository: PatchRepository, named: str | None, profile: Profile
) -> tuple[str | None, CannotRun | None]:
    """The Python that probes run with: the one that the user ``named``, or else one that has what
    upstream needs. None, and the reason, if there is none here."""
    try:
        return find_python(repository, named, torch=profile.torch), None
    except CannotRun as error:
        return None, error


def _sender(repository: PatchRepository) -> Signature | None:
    """Who signs off: the user of the patch repository's git; None if git does not know."""
    try:
        own = open_git(repository.root)
        return committer(own) if own else None
    except CannotRun:
        return None


def _require_needed(context: Context, wanted: TargetRequest, slug: str, named: str | None) -> None:
    """Raise Refused if the patch does not apply because its bug is fixed already, as its probe
    says. If the probe gives no answer, the conflict is what is reported."""
    line = context.repository.pick(wanted.line or context.settings.line)
    own = replace(wanted, line=line.name, source=wanted.source or context.settings.source or "git")
    source, target = find_target(context, own)
    profile = profile_of(context.settings, line.upstream, source.repo, target.commit)
    python, _ = _find_python(context.repository, named, profile)
    if python is None:
        return
    try:
        probe = flip_probe(context, line, slug, source, target, python)
    except FixtoolError:
        return
    if probe.without == 0:
        raise Refused(
            f"{slug} is superseded: it does not apply to {target.commit[:12]}, and its probe says "
            "that the bug is not there",
            where=target.commit,
            hint=f"let it go: fixtool rebase --line {line.name} --onto {target.commit[:12]}",
        )
