"""Proof: is each patch needed, does routing match, does a server boot? A run is planned here, run
in the target's Python, and judged here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.errors import CannotRun, ExitCode, UsageError
from fixtool.interpreter import absolute, run
from fixtool.judgement.line import choose_line
from fixtool.replay.run import Decisions
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import require_well_formed
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import find_target, profile_of_tree
from fixtool.verify import _render
from fixtool.verify._execute import execute
from fixtool.verify._plan import Planned, plan_line
from fixtool.verify.proof import Matrix, exit_code, prove
from fixtool.verify.request import RunKind, RunOptions, VerifyRequest
from fixtool.verify.result import Result, read_result
from fixtool.verify.suite import probes, read_suite


@dataclass(frozen=True)
class Verified:
    """A result, judged. ``matrix`` is None if the probes ran on the series alone. ``current`` says
    whether the result is of the series as it is now. ``folder`` holds result.json and logs/; it is
    None for a result of another host."""

    result: Result
    matrix: Matrix | None
    current: bool
    folder: Path | None

    def exit_code(self, *, require_gpu: bool) -> ExitCode:
        return exit_code(self.result, self.matrix, require_gpu=require_gpu)

    def junit(self) -> str:
        """The result as JUnit XML."""
        return _render.junit(self.result, self.matrix)

    def markdown(self) -> str:
        """The result as a page for a pull request or a job summary."""
        return _render.markdown(self.result, self.matrix)


def verify(context: Context, request: VerifyRequest, options: RunOptions) -> Verified:
    """Plan what ``request`` asks for, run it here, and judge it. Nothing is written outside
    fixtool's own folders.

    Raises UsageError if an option does not fit, Refused if the suite is not well formed or a needed
    tree cannot be made, and CannotRun if the ref, its files or a Python cannot be had.
    """
    repository, settings = context.repository, context.settings
    wanted = options.python or settings.python
    python = absolute(wanted) if wanted else None
    for folder in filter(None, (options.model, options.assistant)):
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"{folder} is no checkpoint: it holds no config.json"
                if folder.is_dir()
                else f"there is no folder {folder}",
                where=str(folder),
                hint="--model DIR of a downloaded checkpoint, --assistant DIR of its MTP assistant",
            )
    planned = make_plan(context, request)
    about = planned.plan.about
    if python is None:
        profile = profile_of_tree(planned.repo, about["onto"])
        python = find_python(repository, None, torch=profile.torch)
    name = "-".join([about["line"], about["onto"][:12], *about["kinds"]])
    result = execute(planned, settings.state / "verify" / name, python, options, context.progress)
    return _judged(result, repository, settings.state / "verify" / name)


def read_verified(repository: PatchRepository, path: Path) -> Verified:
    """Judge a result.json that came back from another host. Raises as ``read_result`` does."""
    return _judged(read_result(path), repository, None)


def make_plan(context: Context, request: VerifyRequest) -> Planned:
    """The steps for ``request``, and the trees that they need, made in the object database. Raises
    as ``verify`` does."""
    suite = read_suite(context.repository)
    source, target = find_target(context, request)
    wanted = request.line or context.settings.line
    line, decisions = _judged_line(context, source, target, wanted, request.kinds)
    own = probes(context.repository, line)
    return plan_line(context, line, source, target, suite, own, request.kinds, decisions)


def _judged_line(
    context: Context, source: Source, target: Target, wanted: str | None, kinds: Sequence[RunKind]
) -> tuple[Line, Decisions]:
    """The line to verify, and the decisions of its judgement. There are none if only its probes
    are asked, which a judgement may be waiting for, or if its base cannot be had: then the trees
    that need it are missing, and the result says so."""
    if wanted:
        line = context.repository.line(wanted)
        require_well_formed(line)
        if set(kinds) == {RunKind.ASK}:
            return line, Decisions()
    try:
        choice = choose_line(context, source, target, wanted)
    except CannotRun:
        if not wanted:
            raise
        return line, Decisions()
    return choice.line, choice.judgement.decisions


def find_python(repository: PatchRepository, wanted: str | None, *, torch: bool = True) -> str:
    """The Python that has the dependencies of the patched project: the one ``wanted``, or else the
    one that runs fixtool, or python3, whichever has torch. Without ``torch``, any will do. Raises
    UsageError if the one wanted does not exist, CannotRun if none has torch."""
    if wanted:
        return absolute(wanted)
    question = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
    for python in dict.fromkeys(filter(None, (sys.executable, shutil.which("python3")))):
        if not torch or run([python, "-c", question]).returncode == 0:
            return python
    packages = repository.root / "verify" / "requirements" / "cpu.txt"
    hint = "name the Python that has upstream's dependencies: --python PY, or set FIXTOOL_PYTHON"
    if packages.is_file():
        hint += (
            "; to make one for a CPU: python3 -m venv target && "
            f"target/bin/pip install -r {packages}"
        )
    raise CannotRun("no Python here has torch, which probes and checks need", hint=hint)


def _judged(result: Result, repository: PatchRepository, folder: Path | None) -> Verified:
    name = result.about["line"]
    current = name in repository.line_names and (
        [(patch.slug, patch.digest) for patch in repository.line(name).patches]
        == [(patch["slug"], patch["sha256"]) for patch in result.about["patches"]]
    )
    return Verified(result, prove(result), current, folder)
