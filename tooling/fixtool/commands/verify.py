"""fixtool verify"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.build import Python
from fixtool.errors import CannotRun, UsageError
from fixtool.text import count, printable

if TYPE_CHECKING:
    from fixtool.verify.bundle import Bundle
    from fixtool.verify.run import Verified


def verify(
    ctx: typer.Context,
    sglang_ref: options.SglangRef = None,
    source: options.Source = None,
    line: options.LineName = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Is each patch needed? Every probe, with and without.")
    ] = False,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Would the suite notice? Every mutant must be killed.")
    ] = False,
    checks: Annotated[
        bool, typer.Option("--checks", help="The series' own checks (the default without others).")
    ] = False,
    python: Python = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=0, help="Steps side by side; 0: one a core.")
    ] = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Steps of this name alone.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="A real checkpoint to serve.")
    ] = None,
    assistant: Annotated[
        Path | None, typer.Option("--assistant", metavar="DIR", help="The model's MTP assistant.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The servers' port.")
    ] = None,
    tp: Annotated[
        int | None,
        typer.Option("--tp", metavar="N", min=1, help="Also a server on N GPUs that share layers."),
    ] = None,
    pp: Annotated[
        int | None,
        typer.Option("--pp", metavar="M", min=1, help="Also a server on M GPUs in a pipeline."),
    ] = None,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="A step skipped for want of a GPU is exit 4.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE", help="Pack it for another host.")
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Read that host's result.json.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the result in verify/results/.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML as well.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown as well.")
    ] = None,
    keep_trees: Annotated[
        bool, typer.Option("--keep-trees", help="Leave the trees beside the result, to look at.")
    ] = False,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Prove it: each patch is needed, routing matches, the server boots.

    Probes and checks run in the target's Python (--python), the one with SGLang's dependencies.

    Example: fixtool verify --prove --line b0ce16d0c --source ../sglang --python target/bin/python
    """
    from fixtool.verify import run as core
    from fixtool.verify.request import RunKind, RunOptions, VerifyRequest

    context = options.start(ctx, directory)
    repository, settings, progress = context.repository, context.settings, context.progress
    if import_ is not None:
        if bundle or prove or mutants or checks or sglang_ref or source or only or tp or pp:
            raise UsageError("--import reads what has run: it takes no ref and no choice of steps")
        verified = core.read_verified(repository, import_)
    else:
        chosen = {RunKind.CHECKS: checks, RunKind.PROVE: prove, RunKind.MUTANTS: mutants}
        kinds = tuple(kind for kind, wanted in chosen.items() if wanted) or (RunKind.CHECKS,)
        request = VerifyRequest(sglang_ref, source, line, kinds)
        if bundle is not None:
            there = (only, model, assistant, port, python, tp, pp)
            if save or junit or markdown or any(there):
                raise UsageError(
                    "--bundle only packs: what runs there is told to its run.py",
                    hint="python3 fixtool-verify/run.py --help",
                )
            from fixtool.verify.bundle import bundle as pack

            planned = core.make_plan(context, request)
            _tell_bundle(pack(planned, bundle, settings, progress), as_json=json)
            raise typer.Exit(0)
        run_options = RunOptions(
            python, jobs, tuple(only or ()), model, assistant, port, require_gpu, keep_trees, tp, pp
        )
        verified = core.verify(context, request, run_options)
    kept = _save(verified, repository.root) if save else None
    _write(verified, junit, markdown)
    exit_code = verified.exit_code(require_gpu=require_gpu)
    if json:
        terminal.print_document("verify", exit_code, _body(verified, kept))
    else:
        _tell(verified, kept, verbose=verbose)
    raise typer.Exit(int(exit_code))


def _body(verified: Verified, kept: Path | None) -> dict[str, Any]:
    from fixtool.verify.result import StepOutcome

    result = verified.result
    about = {key: result.about.get(key) for key in (
        "line", "base", "onto", "ref", "source", "commit", "tree", "patches", "kinds",
    )}  # fmt: skip
    return {
        "bundle": None,
        **about,
        "current": verified.current,
        "environment": result.environment,
        "trees": result.trees,
        "missing": [{"tree": tree, "why": why} for tree, why in result.missing.items()],
        "matrix": verified.matrix and {
            "columns": verified.matrix.columns,
            "rows": [{"tree": tree, "answers": cells} for tree, cells in verified.matrix.rows],
        },
        "proofs": verified.matrix.proofs if verified.matrix else (),
        "steps": result.steps,
        "counts": {outcome: result.count(outcome) for outcome in StepOutcome},
        "started": result.started,
        "ended": result.ended,
        "prepare_seconds": result.prepare_seconds,
        "folder": verified.folder,
        "saved": kept,
    }  # fmt: skip


def _tell(verified: Verified, kept: Path | None, *, verbose: bool) -> None:
    from fixtool.verify.proof import answer_text

    result, about = verified.result, verified.result.about
    stands = "" if verified.current else ", not as it stands here now"
    terminal.say(f"line      {printable(about['line'])}{stands}")
    terminal.say(f"onto      {about['onto'][:12]} ({printable(about['ref'])})")
    terminal.say(f"on        {printable(result.host)}")
    terminal.say()
    if verified.matrix:
        rows = [(tree, *map(answer_text, cells)) for tree, cells in verified.matrix.rows]
        terminal.table(("tree", *verified.matrix.columns), rows)
        terminal.say()
        proofs = [(one.slug, one.proof.value, one.why) for one in verified.matrix.proofs]
        terminal.table(("patch", "proof", "why"), proofs)
        terminal.say()
    told = {"seen", "passed"}  # of these, the matrix and the count of mutants have told
    shown = [
        one for one in result.steps if verbose or one.kind == "check" or one.outcome not in told
    ]
    killed = [one for one in result.steps if one.kind == "mutant" and one.outcome == "passed"]
    mutants = sum(one.kind == "mutant" for one in result.steps)
    if mutants:
        terminal.say(f"mutants   {len(killed)} of {mutants} killed")
    if shown:
        cells = [
            (one.name, one.outcome, f"{one.seconds:.1f}", one.mebibytes,
             one.said[:160])
            for one in shown
        ]  # fmt: skip
        terminal.table(("step", "outcome", "s", "MiB", "said"), cells)
        terminal.say()
    for tree, why in result.missing.items() if verbose else ():
        terminal.say(f"no tree   {tree}: {printable(why)}")
    peak = max((one.memory_bytes or 0 for one in result.steps), default=0)
    terminal.say(
        f"steps     {result.tally}; {result.prepare_seconds:.0f} s to prepare, the "
        f"largest process {peak / 2**20:.0f} MiB"
    )
    skipped = [one for one in result.steps if one.outcome == "skipped"]
    for one in skipped:
        terminal.say(f"skipped   {one.name}: {printable(one.said)[:160]}")
    if not result.finished:
        terminal.say("unfinished: the run was stopped before its last step")
    if verified.folder is not None:
        terminal.say(f"evidence  {verified.folder}/result.json, logs beside it")
    if kept is not None:
        terminal.say(f"saved     {kept}")


def _tell_bundle(packed: Bundle, *, as_json: bool) -> None:
    from fixtool.errors import ExitCode

    if as_json:
        body = {
            "path": packed.path, "size": packed.size, "site_size": packed.site_size,
            "steps": packed.steps, "trees": packed.trees, "python": packed.python,
            "run": packed.command,
        }  # fmt: skip
        terminal.print_document("verify", ExitCode.OK, {"bundle": body})
        return
    terminal.say(f"bundle    {packed.path} ({packed.size / 2**20:.1f} MiB)")
    terminal.say(
        f"holds     {count(packed.steps, 'step')}, {count(packed.trees, 'tree')}, "
        + (f"packages for Python {packed.python} ({packed.site_size / 2**20:.1f} MiB)"
           if packed.python else "no packages: the host has them")
    )  # fmt: skip
    terminal.say(f"there     {packed.command}")
    terminal.say("then      fixtool verify --import result.json")


def _save(verified: Verified, root: Path) -> Path:
    """Evidence, by date, device, line and what ran: verify/results/2026-11-23-h100-b0ce16d0c.json;
    a second one of the same day stands beside the first."""
    import json as json_module
    import re

    from fixtool.files import write_atomically

    result = verified.result
    gpus = [str(one["name"]) for one in result.environment.get("gpus", ())]
    device = gpus[0].removeprefix("NVIDIA ") if gpus else "cpu"
    words = [result.started[:10], device.split()[0], str(result.about["line"])]
    words += [one for one in result.ran if one != "checks"]
    words += _spread(result.environment.get("spread"))
    name = re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.")
    text = terminal.document("verify", verified.exit_code(require_gpu=False), _body(verified, None))
    document = json_module.loads(text)
    document.pop("folder")  # of the host it ran on
    text = json_module.dumps(document, indent=1) + "\n"
    folder = root / "verify" / "results"
    folder.mkdir(exist_ok=True)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    paths = (folder / f"{one}.json" for one in names)
    path = next(one for one in paths if not one.exists() or one.read_text("utf-8") == text)
    write_atomically(path, text)
    return path


def _spread(of: Any) -> list[str]:
    """``tp2``, ``pp2``: of the file of another host, which may hold anything."""
    counts = [(name, of.get(name)) for name in ("tp", "pp")] if isinstance(of, dict) else []
    return [f"{name}{n}" for name, n in counts if isinstance(n, int) and n > 1]


def _write(verified: Verified, junit: Path | None, markdown: Path | None) -> None:
    for path, render in ((junit, verified.junit), (markdown, verified.markdown)):
        if path is None:
            continue
        try:
            path.write_text(render(), "utf-8")
        except OSError as error:
            raise CannotRun(f"cannot write {path}: {error.strerror}", where=str(path)) from error
