"""Proof: which patches are needed, that routing matches, that a server boots. Planned here, run in
the target's Python, judged here."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool import __version__
from fixtool.errors import CannotRun, ExitCode, Refused, UsageError
from fixtool.files import lock, private_folder
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.interpreter import absolute, run
from fixtool.judgement.line import choose_line
from fixtool.progress import Progress
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import require_well_formed
from fixtool.settings import Settings
from fixtool.sources.target import TargetRequest, bring_base, find_target
from fixtool.verify import result as evidence
from fixtool.verify._plan import Plan, Planner, write
from fixtool.verify._trees import Trees
from fixtool.verify.result import Matrix, Result, read_result
from fixtool.verify.suite import Suite, probes, read_suite

CHECKS, PROVE, MUTANTS, ASK = "checks", "prove", "mutants", "ask"
_PATIENCE = 30  # seconds that a runner has to stop its servers


@dataclass(frozen=True)
class Request:
    """What the user asked for; ``kinds`` of CHECKS, PROVE, MUTANTS; ASK asks the probes on the
    base alone."""

    ref: str | None = None
    source: str | None = None
    line: str | None = None
    kinds: tuple[str, ...] = (CHECKS,)


@dataclass(frozen=True)
class Where:
    """Where and how the plan is run: ``python`` is the target's; ``jobs`` 0 is one a core; ``tp``
    and ``pp`` spread the checks that take them over GPUs, which without either do not run."""

    python: str | None = None
    jobs: int = 0
    only: tuple[str, ...] = ()
    model: Path | None = None
    assistant: Path | None = None
    port: int | None = None
    require_gpu: bool = False
    keep_trees: bool = False
    tp: int | None = None
    pp: int | None = None

    def runs(self, plan: Plan) -> int:
        """How many of its steps do."""
        return sum(not one.parallel or bool(self.tp or self.pp) for one in plan.steps)


@dataclass(frozen=True)
class Verified:
    """``folder`` holds result.json and logs/; ``current``: whether the series at hand is the one
    that the result is of."""

    result: Result
    matrix: Matrix | None
    current: bool
    folder: Path | None

    def exit_code(self, *, require_gpu: bool) -> ExitCode:
        return evidence.exit_code(self.result, self.matrix, require_gpu=require_gpu)


@dataclass(frozen=True)
class Planned:
    """A plan, and the store that holds its trees."""

    plan: Plan
    repo: Repo
    suite: Suite


def verify(
    repository: PatchRepository,
    settings: Settings,
    request: Request,
    where: Where,
    progress: Progress,
) -> Verified:
    """Plan, run here, judge. Nothing outside fixtool's own folders is written."""
    chosen = where.python or settings.python
    python = absolute(chosen) if chosen else None
    for given in (where.model, where.assistant):
        if given is not None and not (given / "config.json").is_file():
            raise UsageError(
                f"{given} is no checkpoint: it holds no config.json"
                if given.is_dir()
                else f"there is no folder {given}",
                where=str(given),
                hint="--model DIR of a downloaded checkpoint, --assistant DIR of its MTP assistant",
            )
    planned = make_plan(repository, settings, request, progress)
    about = planned.plan.about
    if python is None:
        torch = bool(list_tree(planned.repo, about["onto"], "python/sglang"))
        python = target_python(None, repository, torch=torch)
    name = "-".join([about["line"], about["onto"][:12], *about["kinds"]])
    folder = settings.state / "verify" / name
    private_folder(folder)
    with lock(folder / "lock", f"the evidence folder {folder}"), scratch(folder) as place:
        write(planned.plan, place, planned.repo, planned.suite, progress, xz=False)
        run_plan(python, place, folder, where, where.runs(planned.plan), progress)
    return _judged(read_result(folder / "result.json"), repository, folder)


def read(repository: PatchRepository, path: Path) -> Verified:
    """A result that came back from another host."""
    return _judged(read_result(path), repository, None)


def make_plan(
    repository: PatchRepository, settings: Settings, request: Request, progress: Progress
) -> Planned:
    """The steps for what was asked, and the trees that they need, made in the object database."""
    suite = read_suite(repository)
    source, target = find_target(
        Context(repository, settings, progress),
        TargetRequest(request.ref, request.source, request.line),
    )
    choice = choose_line(repository, target, source.repo, request.line or settings.line)
    line = choice.line
    require_well_formed(line)
    source.bring(target.commit, ["python"])
    trees = Trees(
        source.repo, line, target.commit, suite,
        lambda: bring_base(source, line.upstream, settings, progress),
    )  # fmt: skip
    planner = Planner(trees, suite, probes(repository, line))
    with progress.task("making trees"):
        if CHECKS in request.kinds:
            planner.check()
        if ASK in request.kinds:
            planner.ask()
        if PROVE in request.kinds:
            planner.prove()
        if MUTANTS in request.kinds:
            planner.mutants()
    whole = trees.whole
    about = {
        "line": line.name,
        "base": line.upstream.base,
        "onto": target.commit,
        "ref": target.ref,
        "source": target.source,
        "commit": whole.commit if whole and whole.ok else None,
        "tree": whole.tree if whole and whole.ok else None,
        "patches": _digests(line),
        "kinds": list(request.kinds),
        "fixtool": __version__,
    }
    plan = planner.plan(about)
    about["missing"] = [{"name": one.name, "why": one.why} for one in plan.missing]
    if not plan.steps:
        raise Refused(f"line {line.name} has nothing to verify: no probe and no check is for it")
    return Planned(plan, source.repo, suite)


def target_python(wanted: str | None, repository: PatchRepository, *, torch: bool = True) -> str:
    """The interpreter that has the dependencies of the patched project: the one named, else the one
    that runs fixtool or python3, the first that has torch. Without ``torch``, any will do. Raises
    CannotRun if none has it."""
    if wanted:
        return absolute(wanted)
    question = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
    for python in dict.fromkeys(filter(None, (sys.executable, shutil.which("python3")))):
        if not torch or run([python, "-c", question]).returncode == 0:
            return python
    packages = repository.root / "verify" / "requirements" / "cpu.txt"
    hint = "name the Python that has SGLang's dependencies: --python PY, or set FIXTOOL_PYTHON"
    if packages.is_file():
        hint += (
            "; to make one for a CPU: python3 -m venv target && "
            f"target/bin/pip install -r {packages}"
        )
    raise CannotRun("no Python here has torch, which probes and checks need", hint=hint)


def _digests(line: Line) -> list[dict[str, Any]]:
    return [
        {"slug": one.slug, "sha256": one.digest, "diff": one.diff_digest} for one in line.patches
    ]


def _judged(result: Result, repository: PatchRepository, folder: Path | None) -> Verified:
    name = result.about["line"]
    current = name in repository.line_names and (
        [(one.slug, one.digest) for one in repository.line(name).patches]
        == [(one["slug"], one["sha256"]) for one in result.about["patches"]]
    )
    return Verified(result, evidence.matrix(result), current, folder)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    for stale in folder.glob("plan-*"):  # of a run that was killed; the lock says it is not at work
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=folder, ignore_cleanup_errors=True) as at:
        yield Path(at)


def run_plan(
    python: str, place: Path, folder: Path, where: Where, steps: int, progress: Progress
) -> None:
    """Run the plan in ``place`` with ``python``. The runner has a session of its own: Ctrl-C
    reaches it from here alone, once, and is waited for, so that no server outlives it."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [
        python, "-E", "-s", str(place / "run.py"), "--folder", str(place), "--work", str(folder),
        "--result", str(result), "--with-parent",
    ]  # fmt: skip
    command += ["--jobs", str(where.jobs)] if where.jobs else []
    for name in ("model", "assistant", "port", "tp", "pp"):
        value = getattr(where, name)
        if value is not None:
            given = str(value.resolve()) if isinstance(value, Path) else str(value)
            command += [f"--{name}", given]
    command += [word for one in where.only for word in ("--only", one)]
    command += ["--keep-trees"] if where.keep_trees else []
    with (
        progress.task(f"verifying with {python}", steps) as task,
        tempfile.TemporaryFile("w+", dir=folder) as complaints,
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for _ in process.stdout:
                task.advance(1)
            process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        complaints.seek(0)
        said = complaints.read().strip().splitlines()
    if process.returncode == 130:
        raise KeyboardInterrupt
    if not result.is_file() or (said and said[-1].startswith("error: ")):
        why = said[-1].removeprefix("error: ") if said else f"exit {process.returncode}"
        error = UsageError if process.returncode == 2 else CannotRun
        raise error(f"{python} could not run the plan: {why}", where=str(folder))
