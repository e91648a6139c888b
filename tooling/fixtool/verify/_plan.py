"""A plan: which scripts run on which trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fixtool import __version__
from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.replay.run import Decisions
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base, python_folder
from fixtool.verify._trees import NoTree, Tree, Trees, needs, touched
from fixtool.verify.answer import DOES_NOT_APPLY, NOT_PRESENT, PASSED, PRESENT
from fixtool.verify.request import RunKind
from fixtool.verify.result import StepKind
from fixtool.verify.suite import (
    BASE,
    PROBE_TIMEOUT,
    SERIES,
    Check,
    Mutant,
    Probe,
    Suite,
    alone,
    undone,
)


@dataclass(frozen=True)
class Step:
    """One script that runs on one tree.

    ``slug`` names the patch of a probe, and is None for a check. ``want`` holds the right exit
    codes. It is None in a proof, which judges each answer by the answers on all other trees.
    Steps of one ``wave`` run side by side; the waves run one after another. ``timeout`` is in
    seconds. ``needs`` is None or "gpu". ``model`` says that the script takes the options for a
    real model. A ``parallel`` step runs only with --tp or --pp.
    """

    name: str
    kind: StepKind
    tree: str
    slug: str | None
    script: str
    args: tuple[str, ...]
    want: tuple[int, ...] | None
    wave: str
    timeout: int
    needs: str | None = None
    model: bool = False
    parallel: bool = False


@dataclass(frozen=True)
class Plan:
    """The trees of a run, and the steps to run on them.

    ``about`` describes the run: the line, the target, the patches. The result repeats it. The
    first of ``trees`` is the base. ``missing`` are the trees that could not be made. ``touched``
    are the paths in python/ that any patch or tree changes.
    """

    about: Mapping[str, Any]
    trees: tuple[Tree, ...]
    missing: tuple[NoTree, ...]
    steps: tuple[Step, ...]
    touched: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, the store that holds its trees, and the suite that holds its scripts."""

    plan: Plan
    repo: Repo
    suite: Suite


def plan_line(
    context: Context,
    line: Line,
    source: Source,
    target: Target,
    suite: Suite,
    probes: Sequence[Probe],
    kinds: Sequence[RunKind],
    decisions: Decisions | None = None,
) -> Planned:
    """Plan the steps that verify ``line`` on ``target`` for each kind of run in ``kinds``. Make the
    trees in the store of ``source``. ``decisions`` are those of the line's judgement there, so that
    the tree of the series is the one that ``apply`` makes. Raises Refused if checks or mutants need
    a tree that cannot be made, if a mutant has no killer, or if there is no step.
    """
    folder = python_folder(source.repo, target.commit)
    source.bring(target.commit, [folder] if folder else [])
    trees = Trees(
        source.repo, line, target.commit, suite,
        lambda: bring_base(source, line.upstream, context.settings, context.progress), decisions,
    )  # fmt: skip
    planner = _Planner(trees, suite, probes)
    with context.progress.task("making trees"):
        for kind in RunKind:
            if kind in kinds:
                planner.add(kind)
    if not planner.steps:
        raise Refused(f"line {line.name} has nothing to verify: no probe and no check is for it")
    whole = trees.whole if trees.whole and trees.whole.ok else None
    used = {BASE, *(step.tree for step in planner.steps.values())}
    laid_out = tuple(
        tree for tree in planner.trees.values() if isinstance(tree, Tree) and tree.name in used
    )
    missing = tuple(tree for tree in planner.trees.values() if isinstance(tree, NoTree))
    about = {
        "line": line.name,
        "base": line.upstream.base,
        "onto": target.commit,
        "ref": target.ref,
        "source": target.source,
        "commit": whole.commit if whole else None,
        "tree": whole.tree if whole else None,
        "patches": [
            {
                "slug": patch.slug,
                "sha256": patch.digest,
                "diff": patch.diff_digest,
                "needs": list(needs(line, patch.slug)),
            }
            for patch in line.patches
        ],
        "kinds": list(kinds),
        "fixtool": __version__,
        "missing": [{"name": tree.name, "why": tree.why} for tree in missing],
    }
    steps = tuple(planner.steps.values())
    plan = Plan(about, laid_out, missing, steps, tuple(touched(line, laid_out, folder)))
    return Planned(plan, source.repo, suite)


class _Planner:
    """Collects the steps, by name, and makes each tree that they need once."""

    def __init__(self, trees: Trees, suite: Suite, probes: Sequence[Probe]) -> None:
        self._maker, self._suite, self._probes = trees, suite, probes
        self._own = [entry.slug for entry in trees.line.entries]
        self.trees: dict[str, Tree | NoTree] = {BASE: trees.base}
        self.steps: dict[str, Step] = {}

    def add(self, kind: RunKind) -> None:
        {
            RunKind.CHECKS: self._check,
            RunKind.ASK: self._ask,
            RunKind.PROVE: self._prove,
            RunKind.MUTANTS: self._kill_mutants,
            RunKind.FLIP: self._flip,
        }[kind]()

    def _prove(self) -> None:
        """Add every probe on the base, on the base with each patch alone, and on the series.

        If the base already has the fix of a patch, the base without that fix takes the place of
        the base with the patch. (The line's own base has no fix of the line's own patches.) That
        an undo fits does not show it: the undo may be of what the patch improves. So a patch that
        is put in on the base has both trees, and the probe's answer on the base decides which of
        them counts.
        """
        at_home = self._maker.onto == self._maker.line.upstream.base
        slugs = [probe.slug for probe in self._probes]
        foreign = [slug for slug in slugs if not (at_home and slug in self._own)]
        taken_out = [slug for slug in foreign if self._has(undone(slug))]
        replayed = self._maker.whole
        put_in = {patch.slug for patch in replayed.patches if patch.commit} if replayed else set()
        with_patch = [
            alone(slug)
            for slug in self._own
            if (slug in put_in or slug not in taken_out) and self._has(alone(slug))
        ]
        whole = [SERIES] if self._has(SERIES) else []
        for tree in (BASE, *with_patch, *whole):
            for probe in self._probes:
                self._probe(probe, tree)
        for probe in self._probes:
            if probe.slug in taken_out:
                self._probe(probe, undone(probe.slug))

    def _ask(self) -> None:
        """Add every probe of the line on the base: it answers whether its patch is needed there."""
        for probe in self._probes:
            if probe.slug in self._own:
                self._probe(probe, BASE)

    def _flip(self) -> None:
        """Add every probe on the base and on the series."""
        for probe in self._probes:
            self._probe(probe, BASE)
            if self._has(SERIES):
                self._probe(probe, SERIES)

    def _check(self) -> None:
        """Add every probe of the line on the series, and every check that is for this line."""
        self._need(SERIES)
        for probe in self._probes:
            if probe.slug in self._own:
                self._probe(probe, SERIES, (NOT_PRESENT, DOES_NOT_APPLY))
        for check in self._suite.checks:
            if check.is_for(self._maker.line, self._maker.onto):
                self._need(check.tree)
                self._step(f"check {check.name}", StepKind.CHECK, check.tree, check, (PASSED,))

    def _kill_mutants(self) -> None:
        """Add each mutant that fits the series, and a control for each killer.

        The control runs the killer on the unbroken series. If the killer fails there, its failure
        on a mutant shows nothing.
        """
        series = self._need(SERIES)
        fitting = []
        for mutant in self._suite.mutants:
            tree = self.trees[mutant.name] = self._maker.mutant(mutant, series, mutant.name)
            if isinstance(tree, Tree):
                fitting.append((mutant, self._killer(mutant)))
        for mutant, killer in fitting:
            name = f"control {mutant.killer} {mutant.patch}"
            self._step(name, StepKind.CONTROL, SERIES, killer, (PASSED,))
        for mutant, killer in fitting:
            name = f"mutant {mutant.name}"
            self._step(name, StepKind.MUTANT, mutant.name, killer, (PRESENT,))

    def _killer(self, mutant: Mutant) -> Probe | Check:
        if mutant.killer.endswith(".py"):
            return Probe(mutant.patch, mutant.killer)
        if check := self._suite.check(mutant.killer):
            return replace(check, args=(*check.args, "--fail-fast"))
        for probe in self._probes:
            if probe.slug == mutant.patch:
                return probe
        raise Refused(f"mutant {mutant.name}: no line carries a patch {mutant.patch!r}")

    # -- parts -----------------------------------------------------------------------------

    def _tree(self, name: str) -> Tree | NoTree:
        if name not in self.trees:
            slug = name[1:]
            if name == SERIES:
                self.trees[name] = self._maker.series
            elif name == alone(slug):
                self.trees[name] = self._maker.alone(slug)
            else:
                self.trees[name] = self._maker.undone(slug)
        return self.trees[name]

    def _has(self, name: str) -> bool:
        return isinstance(self._tree(name), Tree)

    def _need(self, name: str) -> Tree:
        tree = self._tree(name)
        if isinstance(tree, NoTree):
            raise Refused(
                f"the tree {name} cannot be made on {self._maker.onto[:12]}: {tree.why}",
                hint="fixtool apply --dry-run says more; fixtool verify --prove says which patches "
                "are still needed there",
            )
        return tree

    def _probe(self, probe: Probe, tree: str, want: tuple[int, ...] | None = None) -> None:
        self._step(f"probe {probe.slug} on {tree}", StepKind.PROBE, tree, probe, want)

    def _step(
        self,
        name: str,
        kind: StepKind,
        tree: str,
        script: Probe | Check,
        want: tuple[int, ...] | None,
    ) -> None:
        """Add a step, unless there is one of this name."""
        if name in self.steps:
            return
        if isinstance(script, Probe):
            step = Step(
                name, kind, tree, script.slug, script.script, script.args, want, f"{kind}s",
                PROBE_TIMEOUT,
            )  # fmt: skip
        else:
            wave = script.wave if kind is StepKind.CHECK else f"{kind}s"
            step = Step(
                name, kind, tree, None, script.script, script.args, want, wave, script.timeout,
                script.needs, script.model, script.parallel,
            )  # fmt: skip
        self.steps[name] = step
