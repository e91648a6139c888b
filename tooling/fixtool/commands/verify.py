"""fixtool verify"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import CannotRun, ExitCode, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.series.context import Context
    from fixtool.verify.proof import Matrix
    from fixtool.verify.request import RunKind, VerifyRequest
    from fixtool.verify.result import Result
    from fixtool.verify.run import Verified

Prove = Annotated[
    bool, Option("--prove", help="Is each patch needed? Run probes with and without it.")
]
Mutants = Annotated[
    bool, Option("--mutants", help="Break the series on purpose: a check must notice each.")
]
Checks = Annotated[
    bool, Option("--checks", help="Run the series' own checks. This is the default.")
]
Jobs = Annotated[int, Option("--jobs", min=0, help="How many steps run at once; 0: one per core.")]
Only = Annotated[
    list[str] | None, Option("--only", metavar="NAME", help="Run steps of this name alone.")
]
Model = Annotated[
    Path | None, Option("--model", metavar="DIR", help="Serve a real checkpoint, not a tiny one.")
]
Assistant = Annotated[
    Path | None, Option("--assistant", metavar="DIR", help="The MTP assistant of --model.")
]
Port = Annotated[
    int | None, Option("--port", min=1, max=65535, help="The port of the servers that it starts.")
]
TensorParallel = Annotated[
    int | None,
    Option("--tp", metavar="N", min=1, help="Start a server on N GPUs that share layers, too."),
]
PipelineParallel = Annotated[
    int | None,
    Option("--pp", metavar="M", min=1, help="Start a server on M GPUs in a pipeline, too."),
]
RequireGpu = Annotated[
    bool, Option("--require-gpu", help="Exit 4 if a step was skipped for want of a GPU.")
]
BundleFile = Annotated[
    Path | None,
    Option("--bundle", metavar="FILE", help="Pack the steps for another host; run nothing."),
]
ResultFile = Annotated[
    Path | None, Option("--import", metavar="FILE", help="Read the result.json that a bundle left.")
]
Save = Annotated[bool, Option("--save", help="Keep the result in verify/results/.")]
Junit = Annotated[Path | None, Option("--junit", metavar="FILE", help="Write JUnit XML as well.")]
Markdown = Annotated[
    Path | None, Option("--markdown", metavar="FILE", help="Write Markdown as well.")
]
KeepTrees = Annotated[
    bool, Option("--keep-trees", help="Keep the patched trees beside the result.")
]


def verify(
    ctx: typer.Context,
    ref: options.Ref = None,
    source: options.Source = None,
    line: options.LineName = None,
    prove: Prove = False,
    mutants: Mutants = False,
    checks: Checks = False,
    python: options.Python = None,
    jobs: Jobs = 0,
    only: Only = None,
    model: Model = None,
    assistant: Assistant = None,
    port: Port = None,
    tp: TensorParallel = None,
    pp: PipelineParallel = None,
    require_gpu: RequireGpu = False,
    bundle: BundleFile = None,
    import_: ResultFile = None,
    save: Save = False,
    junit: Junit = None,
    markdown: Markdown = None,
    keep_trees: KeepTrees = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Prove in the target's Python that each patch is needed, and run the checks of the series.

    Example: fixtool verify --prove --line b0ce16d0c --source ../upstream --python target/bin/python
    """
    from fixtool.files import require_file, require_folder
    from fixtool.verify import run
    from fixtool.verify.request import RunOptions, VerifyRequest

    context = options.start(ctx, directory)
    results = context.repository.root / "verify" / "results"
    for option, path in (("--bundle", bundle), ("--junit", junit), ("--markdown", markdown)):
        require_file(path, option)
    if save:
        require_folder(results)
    request = VerifyRequest(ref, source, line, _kinds(checks, prove, mutants))
    if import_ is not None:
        _refuse_with_import(bundle, ref, source, only, tp, pp, checks, prove, mutants)
        verified = run.read_verified(context.repository, import_)
    elif bundle is not None:
        _refuse_with_bundle(only, model, assistant, port, python, tp, pp, save, junit, markdown)
        _pack(context, request, bundle, json=json)
    else:
        options.warn_of_credentials()
        verified = run.verify(context, request, RunOptions(
            python, jobs, tuple(only or ()), model, assistant, port, require_gpu, keep_trees, tp, pp
        ))  # fmt: skip
    kept = _save(verified, results) if save else None
    _write({junit: verified.junit, markdown: verified.markdown})
    exit_code = verified.exit_code(require_gpu=require_gpu)
    _answer(verified, kept, exit_code, json=json, verbose=verbose)


def _kinds(checks: bool, prove: bool, mutants: bool) -> tuple[RunKind, ...]:
    """The kinds of steps that were asked for, else the checks."""
    from fixtool.verify.request import RunKind

    chosen = {RunKind.CHECKS: checks, RunKind.PROVE: prove, RunKind.MUTANTS: mutants}
    return tuple(kind for kind, wanted in chosen.items() if wanted) or (RunKind.CHECKS,)


def _answer(
    verified: Verified, kept: Path | None, exit_code: ExitCode, *, json: bool, verbose: bool
) -> NoReturn:
    if json:
        terminal.print_document("verify", exit_code, _body(verified, kept))
    else:
        _show(verified, kept, verbose=verbose)
    raise typer.Exit(int(exit_code))


def _refuse_with_import(*others: object) -> None:
    if any(others):
        raise UsageError("--import reads what has run: it takes no ref and no choice of steps")


def _refuse_with_bundle(*others: object) -> None:
    if any(others):
        raise UsageError(
            "--bundle only packs: give these options to its run.py on the host",
            hint="python3 fixtool-verify/run.py --help",
        )


def _body(verified: Verified, kept: Path | None) -> dict[str, Any]:
    from fixtool.verify.result import StepOutcome

    result = verified.result
    about = ("line", "base", "onto", "ref", "source", "commit", "tree", "patches", "kinds")
    return {
        "bundle": None,
        **{key: result.about.get(key) for key in about},
        "current": verified.current,
        **terminal.fields(result, "environment", "trees"),
        "missing": [{"tree": tree, "why": why} for tree, why in result.missing.items()],
        "matrix": verified.matrix and {
            "columns": verified.matrix.columns,
            "rows": [{"tree": tree, "answers": cells} for tree, cells in verified.matrix.rows],
        },
        "proofs": verified.matrix.proofs if verified.matrix else (),
        "steps": result.steps,
        "counts": {outcome: result.count(outcome) for outcome in StepOutcome},
        **terminal.fields(result, "started", "ended", "prepare_seconds"),
        "folder": verified.folder,
        "saved": kept,
    }  # fmt: skip


def _show(verified: Verified, kept: Path | None, *, verbose: bool) -> None:
    result, about = verified.result, verified.result.about
    changed = "" if verified.current else ", whose patches have changed since"
    terminal.say(f"line      {about['line']}{changed}")
    terminal.say(f"onto      {about['onto'][:12]} ({about['ref']})")
    terminal.say(f"on        {result.host}")
    terminal.say()
    if verified.matrix:
        _show_matrix(verified.matrix)
    _show_steps(result, verbose=verbose)
    peak = max((step.memory_bytes or 0 for step in result.steps), default=0)
    terminal.say(
        f"steps     {result.tally}; {result.prepare_seconds:.0f} s to prepare, the "
        f"largest process {peak / 2**20:.0f} MiB"
    )
    for step in result.steps:
        if step.outcome == "skipped":
            terminal.say(f"skipped   {step.name}: {step.said[:160]}")
    if not result.finished:
        terminal.say("unfinished: the run was stopped before its last step")
    if verified.folder is not None:
        terminal.say(f"evidence  {verified.folder}/result.json, logs beside it")
    if kept is not None:
        terminal.say(f"saved     {kept}")


def _show_matrix(matrix: Matrix) -> None:
    from fixtool.verify.proof import answer_text

    rows = [(tree, *map(answer_text, answers)) for tree, answers in matrix.rows]
    terminal.table(("tree", *matrix.columns), rows)
    terminal.say()
    proofs = [(proof.slug, proof.proof.value, proof.why) for proof in matrix.proofs]
    terminal.table(("patch", "proof", "why"), proofs)
    terminal.say()


def _show_steps(result: Result, *, verbose: bool) -> None:
    """Checks, and steps that did not go well; of the others, the matrix and a count say enough."""
    mutants = [step for step in result.steps if step.kind == "mutant"]
    if mutants:
        killed = sum(step.outcome == "passed" for step in mutants)
        terminal.say(f"mutants   {killed} of {len(mutants)} killed")
    rows = [
        (
            step.name,
            step.outcome,
            f"{step.seconds:.1f}",
            step.mebibytes,
            step.said[:160],
        )
        for step in result.steps
        if verbose or step.kind == "check" or step.outcome not in ("seen", "passed")
    ]  # fmt: skip
    if rows:
        terminal.table(("step", "outcome", "s", "MiB", "output"), rows)
        terminal.say()
    for tree, why in result.missing.items() if verbose else ():
        terminal.say(f"no tree   {tree}: {why}")


def _pack(context: Context, request: VerifyRequest, path: Path, *, json: bool) -> NoReturn:
    """Write the bundle of what ``request`` asks for, and say what it holds."""
    from fixtool.verify.bundle import write_bundle
    from fixtool.verify.run import make_plan

    packed = write_bundle(context, make_plan(context, request), path)
    if json:
        names = ("path", "size", "site_size", "steps", "trees", "python")
        body = {**terminal.fields(packed, *names), "run": packed.command}
        terminal.print_document("verify", ExitCode.OK, {"bundle": body})
        raise typer.Exit
    packages = "no packages: the host has them"
    if packed.python:
        packages = f"packages for Python {packed.python} ({packed.site_size / 2**20:.1f} MiB)"
    terminal.say(f"bundle    {packed.path} ({packed.size / 2**20:.1f} MiB)")
    holds = f"{count(packed.steps, 'step')}, {count(packed.trees, 'tree')}"
    terminal.say(f"holds     {holds}, {packages}")
    terminal.say(f"there     {packed.command}")
    options.say_next("fixtool verify --import result.json", context.typed, label="then")
    raise typer.Exit


def _save(verified: Verified, folder: Path) -> Path:
    """Keep the result in ``folder``, named by date, device, line and what ran, such as
    2026-11-23-h100-b0ce16d0c.json. Another result of that name gets a number."""
    from fixtool.files import write_atomically

    result = verified.result
    gpus = [str(gpu["name"]) for gpu in result.environment.get("gpus", ())]
    device = gpus[0].removeprefix("NVIDIA ") if gpus else "cpu"
    words = [result.started[:10], device.split()[0], str(result.about["line"])]
    words += [kind for kind in result.ran if kind != "checks"]
    words += _spread(result.environment.get("spread"))
    name = re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.")
    text = terminal.document("verify", verified.exit_code(require_gpu=False), _body(verified, None))
    document = loads(text)
    document.pop("folder")  # a path on the host that ran it
    text = dumps(document, indent=1) + "\n"
    folder.mkdir(exist_ok=True, parents=True)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    paths = (folder / f"{name}.json" for name in names)
    path = next(path for path in paths if not path.exists() or path.read_text("utf-8") == text)
    write_atomically(path, text)
    return path


def _spread(spread: Any) -> list[str]:
    """``tp2`` and ``pp2`` from the environment of another host, which may hold anything."""
    counts = [(name, spread.get(name)) for name in ("tp", "pp")] if isinstance(spread, dict) else []
    return [f"{name}{n}" for name, n in counts if isinstance(n, int) and n > 1]


def _write(renderers: Mapping[Path | None, Callable[[], str]]) -> None:
    """Write the files that were asked for."""
    for path, render in renderers.items():
        try:
            if path is not None:
                path.write_text(render(), "utf-8")
        except OSError as error:
            raise CannotRun(f"cannot write {path}: {error.strerror}", where=str(path)) from error
