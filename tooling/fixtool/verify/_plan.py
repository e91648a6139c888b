"""A plan: which scripts run against which trees, and the folder from which a runner runs it.

The same folder serves a local run and, packed with a site of wheels, a GPU host without a network.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.progress import Progress
from fixtool.series.line import Line
from fixtool.verify._trees import NoTree, Tree, Trees, touched
from fixtool.verify.kit import lay_kit
from fixtool.verify.runner.run import SCHEMA
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

PRESENT, ABSENT, DOES_NOT_APPLY = 1, 0, 77
_BATCH = 512  # blobs read at a time
_START = "import sys\n\nfrom fixtool.verify.runner.run import main\n\nsys.exit(main())\n"
_OLD = 315532800  # 1980: an archive's bytes depend on its files alone


@dataclass(frozen=True)
class Step:
    """One script on one tree. ``want`` are the answers that are right, None where only the whole
    matrix can tell; steps of one ``wave`` run side by side."""

    name: str
    kind: str  # probe, check, mutant, control
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
    """``about`` says what the evidence is of; ``missing`` are the trees that could not be made."""

    about: Mapping[str, Any]
    trees: tuple[Tree, ...]
    missing: tuple[NoTree, ...]
    steps: tuple[Step, ...]
    touched: tuple[str, ...]


class Planner:
    """Collects steps, and the trees that they need, each made once."""

    def __init__(self, trees: Trees, suite: Suite, probes: Sequence[Probe]) -> None:
        self._trees, self._suite, self._probes = trees, suite, probes
        self._made: dict[str, Tree | NoTree] = {BASE: trees.base}
        self._steps: dict[str, Step] = {}
        self.line: Line = trees.line

    def prove(self) -> None:
        """Every probe on the base, on the base and each patch, and on the series. Where the base is
        another than the line's own, a fix that is there already is taken out instead."""
        slugs = [one.slug for one in self._probes]
        own = [entry.slug for entry in self.line.entries]
        at_home = self._trees.onto == self.line.upstream.base
        rows: list[tuple[str, Sequence[str]]] = [(BASE, slugs)]
        undoing = [slug for slug in slugs if not (at_home and slug in own)]
        undone_here = {slug for slug in undoing if self._has(undone(slug))}
        for slug in own:
            if slug not in undone_here and self._has(alone(slug)):
                rows.append((alone(slug), slugs))
        if self._has(SERIES):
            rows.append((SERIES, slugs))
        rows += [(undone(slug), [slug]) for slug in slugs if slug in undone_here]
        for tree, columns in rows:
            for probe in self._probes:
                if probe.slug in columns:
                    self._probe(probe, tree, None)

    def ask(self) -> None:
        """Every probe of the line on the base alone: which patches are needed there?"""
        own = {entry.slug for entry in self.line.entries}
        for probe in self._probes:
            if probe.slug in own:
                self._probe(probe, BASE, None)

    def flip(self) -> None:
        """Every probe on the base and on the series: does it say what the series changes?"""
        for probe in self._probes:
            self._probe(probe, BASE, None)
            if self._has(SERIES):
                self._probe(probe, SERIES, None)

    def check(self) -> None:
        """Every probe of the line on the series, and every check that is for this line."""
        own = {entry.slug for entry in self.line.entries}
        self._need(SERIES)
        for probe in self._probes:
            if probe.slug in own:
                self._probe(probe, SERIES, (ABSENT, DOES_NOT_APPLY))
        for check in self._suite.checks:
            if check.is_for(self.line, self._trees.onto):
                self._need(check.tree)
                self._add(_check_step(check, f"check {check.name}", "check", check.tree, (ABSENT,)))

    def mutants(self) -> None:
        """Every mutant that fits the series, after a control: a killer that does not pass the
        series itself kills nothing by saying no."""
        series = self._need(SERIES)
        fitting = [(one, self._mutated(one, series)) for one in self._suite.mutants]
        for mutant in (one for one, tree in fitting if isinstance(tree, Tree)):
            self._kill(mutant, SERIES, f"control {mutant.killer} {mutant.patch}", "control", (0,))
        for mutant in (one for one, tree in fitting if isinstance(tree, Tree)):
            self._kill(mutant, mutant.name, f"mutant {mutant.name}", "mutant", (PRESENT,))

    def plan(self, about: Mapping[str, Any]) -> Plan:
        used = {step.tree for step in self._steps.values()} | {BASE}
        made = [one for one in self._made.values() if isinstance(one, Tree)]
        trees = tuple(one for one in made if one.name in used)
        missing = tuple(one for one in self._made.values() if isinstance(one, NoTree))
        steps = tuple(self._steps.values())
        return Plan(about, trees, missing, steps, tuple(touched(self.line, trees)))

    # -- parts -----------------------------------------------------------------------------

    def _tree(self, name: str) -> Tree | NoTree:
        if name not in self._made:
            slug = name[1:]
            if name == SERIES:
                self._made[name] = self._trees.series
            elif name.startswith("+"):
                self._made[name] = self._trees.alone(slug)
            else:
                self._made[name] = self._trees.undone(slug)
        return self._made[name]

    def _has(self, name: str) -> bool:
        return isinstance(self._tree(name), Tree)

    def _need(self, name: str) -> Tree:
        tree = self._tree(name)
        if isinstance(tree, NoTree):
            raise Refused(
                f"the tree {name} cannot be made on {self._trees.onto[:12]}: {tree.why}",
                hint="fixtool apply --dry-run says more; fixtool verify --prove says which patches "
                "are still needed there",
            )
        return tree

    def _mutated(self, mutant: Mutant, series: Tree) -> Tree | NoTree:
        tree = self._made[mutant.name] = self._trees.mutant(mutant, series, mutant.name)
        return tree

    def _kill(self, mutant: Mutant, tree: str, name: str, kind: str, want: tuple[int, ...]) -> None:
        check = self._suite.check(mutant.killer)
        if mutant.killer.endswith(".py"):
            self._add(_probe_step(Probe(mutant.patch, mutant.killer), name, kind, tree, want))
        elif check is None:
            probe = next((one for one in self._probes if one.slug == mutant.patch), None)
            if probe is None:
                raise Refused(f"mutant {mutant.name}: no line carries a patch {mutant.patch!r}")
            self._add(_probe_step(probe, name, kind, tree, want))
        else:
            quick = replace(check, args=(*check.args, "--fail-fast"))
            self._add(_check_step(quick, name, kind, tree, want))

    def _probe(self, probe: Probe, tree: str, want: tuple[int, ...] | None) -> None:
        self._add(_probe_step(probe, f"probe {probe.slug} on {tree}", "probe", tree, want))

    def _add(self, step: Step) -> None:
        self._steps.setdefault(step.name, step)


def _probe_step(
    probe: Probe, name: str, kind: str, tree: str, want: tuple[int, ...] | None
) -> Step:
    return Step(
        name, kind, tree, probe.slug, probe.script, probe.args, want, f"{kind}s", PROBE_TIMEOUT
    )


def _check_step(check: Check, name: str, kind: str, tree: str, want: tuple[int, ...]) -> Step:
    wave = check.wave if kind == "check" else f"{kind}s"
    return Step(
        name, kind, tree, None, check.script, check.args, want, wave, check.timeout,
        check.needs, check.model, check.parallel,
    )  # fmt: skip


# -- the folder ----------------------------------------------------------------------------


def write(
    plan: Plan, folder: Path, repo: Repo, suite: Suite, progress: Progress, *, xz: bool
) -> None:
    """Make ``folder`` what `runner` runs. ``xz`` packs it small, for a journey."""
    base = next(one for one in plan.trees if one.name == BASE)
    files = list_tree(repo, plan.about["onto"], "python")
    document = {
        "schema": SCHEMA,
        "about": plan.about,
        "trees": {
            one.name: {
                "folder": one.name, "how": one.how, "python_tree": one.python_tree,
                "changes": one.changes, "touched": plan.touched,
            }
            for one in (base, *(one for one in plan.trees if one is not base))
        },
        "missing": [asdict(one) for one in plan.missing],
        "steps": [asdict(one) for one in plan.steps],
    }  # fmt: skip
    (folder / "blobs").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(document, indent=1), "utf-8")
    lay_kit(folder)
    (folder / "run.py").write_text(_START, "utf-8")
    shutil.copytree(
        suite.folder, folder / "verify",
        ignore=shutil.ignore_patterns("results", "__pycache__", "*.pyc"),
    )  # fmt: skip
    made = {sha: data for tree in plan.trees for sha, data in tree.made.items()}
    wanted = {entry[1] for tree in plan.trees for entry in tree.changes.values() if entry}
    stored = sorted(wanted - set(made))
    for sha, data in (*zip(stored, repo.read_blobs(stored), strict=True), *made.items()):
        (folder / "blobs" / sha).write_bytes(data)
    name, mode = ("base.tar.xz", "w:xz") if xz else ("base.tar", "w")
    with (
        progress.task("packing the base", len(files)) as task,
        tarfile.open(folder / name, mode) as tar,  # type: ignore[call-overload]
    ):
        for path, kind, data in _contents(repo, files):
            add_file(tar, path, data, kind)
            task.advance(1)


def add_file(tar: tarfile.TarFile, path: str, data: bytes, mode: str = "100644") -> None:
    """A file of git's ``mode``, with nothing in its header that differs from machine to machine."""
    info = tarfile.TarInfo(path)
    info.mtime = _OLD
    if mode == "120000":
        info.type, info.linkname = tarfile.SYMTYPE, data.decode("utf-8", "surrogateescape")
        tar.addfile(info)
        return
    info.size, info.mode = len(data), 0o755 if mode == "100755" else 0o644
    tar.addfile(info, io.BytesIO(data))


def _contents(repo: Repo, files: Mapping[str, tuple[str, str]]) -> Iterable[tuple[str, str, bytes]]:
    items = [(path, *entry) for path, entry in sorted(files.items()) if entry[0] != "160000"]
    for start in range(0, len(items), _BATCH):
        some = items[start : start + _BATCH]
        blobs = repo.read_blobs([sha for _, _, sha in some])
        for (path, mode, _), data in zip(some, blobs, strict=True):
            yield path, mode, data
