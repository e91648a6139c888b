"""Asks probes about the trees of commits, however these were made: is each bug in the tree?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.sources.resolve import Target
from fixtool.sources.target import profile_of_tree
from fixtool.verify._execute import execute
from fixtool.verify._plan import Plan, Planned, Step
from fixtool.verify._trees import tree_of
from fixtool.verify.request import RunOptions
from fixtool.verify.result import StepKind, StepOutcome
from fixtool.verify.run import find_python
from fixtool.verify.suite import BASE, PROBE_TIMEOUT, Probe, read_suite


@dataclass(frozen=True)
class Question:
    """A commit, a name for its tree, and the probes to run on that tree."""

    tree: str
    commit: Oid
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Reply:
    """The answer of one probe on one tree: 1 if the bug is there, 0 if it is not, 77 if the tree
    lacks what the probe is about, and None if the probe broke. ``said`` is the last line that it
    printed."""

    tree: str
    probe: Probe
    answer: int | None
    said: str
    seconds: float


def ask_probes(
    context: Context,
    repo: Repo,
    target: Target,
    questions: Sequence[Question],
    folder: Path,
    options: RunOptions,
) -> tuple[Reply, ...]:
    """Run the probes of every question, and return their answers in the order of the questions.

    ``repo`` holds the commits of the questions and that of ``target``, from which each of them
    differs in some files. ``folder`` gets logs and result.json. Raises CannotRun if no Python here
    can run the probes.
    """
    suite = read_suite(context.repository)
    commits = {BASE: target.commit, **{question.tree: question.commit for question in questions}}
    trees = tuple(
        tree_of(repo, target.commit, name, f"commit {commit[:12]}", commit)
        for name, commit in commits.items()
    )
    pairs = [(question.tree, probe) for question in questions for probe in question.probes]
    steps = tuple(
        Step(
            _name(tree, probe), StepKind.PROBE, tree, probe.slug, probe.script, probe.args, None,
            "probes", PROBE_TIMEOUT,
        )
        for tree, probe in pairs
    )  # fmt: skip
    about = {
        "line": "", "base": target.commit, "onto": target.commit, "ref": target.ref,
        "source": target.source, "patches": [], "kinds": [], "missing": [],
    }  # fmt: skip
    touched = tuple(sorted({path for tree in trees for path in tree.changes}))
    planned = Planned(Plan(about, trees, (), steps, touched), repo, suite)
    profile = profile_of_tree(repo, target.commit)
    wanted = options.python or context.settings.python
    python = find_python(context.repository, wanted, torch=profile.torch)
    result = execute(planned, folder, python, options, context.progress)
    steps_by_name = {step.name: step for step in result.steps}
    replies = []
    for tree, probe in pairs:
        step = steps_by_name[_name(tree, probe)]
        answer = step.answer if step.outcome is StepOutcome.SEEN else None
        replies.append(Reply(tree, probe, answer, step.said, step.seconds))
    return tuple(replies)


def _name(tree: str, probe: Probe) -> str:
    return f"{' '.join([probe.script, *probe.args])} on {tree}"
