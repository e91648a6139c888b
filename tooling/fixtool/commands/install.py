"""fixtool install, status and uninstall"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.commands.apply import Without
from fixtool.commands.retype import complete
from fixtool.errors import CannotRun, ExitCode, FixtoolError, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.apply.sides import WorktreeState
    from fixtool.install.find import Found
    from fixtool.install.project import Project
    from fixtool.install.run import Installed, Uninstalled
    from fixtool.install.state import Installation
    from fixtool.install.status import Status
    from fixtool.series.line import PatchRepository

StatusOf = Annotated[
    str | None,
    Option("--python", metavar="PY", help="The interpreter that has the package installed."),
]
Target = Annotated[
    str, Option("--python", metavar="PY", help="The interpreter that has the package installed.")
]

UpstreamOf = Annotated[
    str | None,
    Option(
        "--source", metavar="git|pypi|URL|PATH",
        help="Where upstream's commits come from (default: the checkout; for a release: pypi).",
    ),
]  # fmt: skip


def install(
    ctx: typer.Context,
    python: Target,
    line: options.LineName = None,
    source: UpstreamOf = None,
    without: Without = None,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Put the series into the package that an interpreter has installed.

    The line that fits the installed release best is chosen and named. RECORD stays right, what was
    there is kept, and an older series is taken out first. Nothing changes if a patch needs a
    person, or if somebody has edited the package. An editable install is changed in its checkout.

    Example: fixtool install --python /opt/venv/bin/python
    """
    from fixtool.install.run import install as run

    context = options.start(ctx, directory)
    installed = run(context, python, line, without or (), source=source, dry_run=dry_run)
    exit_code = ExitCode.OK if installed.ok else ExitCode.CONFLICT
    if json:
        terminal.print_document("install", exit_code, _body_of_install(installed))
    else:
        _show_installed(installed, context.typed, dry_run=dry_run)
    raise typer.Exit(int(exit_code))


def status(
    ctx: typer.Context,
    python: StatusOf = None,
    worktree: options.Worktree = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Prove what is installed for an interpreter, or name the files that differ.

    Without --python, it is about a work tree: which patches are newer there, and which in the line.

    Exit 0 says: exactly this line on this release is there, and an import loads it. Exit 1 names
    what is not so: an edited file, stale bytecode, a copy that comes earlier on the path, an import
    that leads elsewhere, a RECORD that does not match.

    Example: fixtool status --python /opt/venv/bin/python
    """
    from fixtool.install.status import read_status

    if python is None:
        _worktree_status(ctx, worktree, directory, json=json)
    if worktree is not None:
        raise UsageError("--python and --worktree exclude each other")
    candidates, repository = _projects(ctx, directory)
    found = read_status(candidates, python, Path.cwd(), repository)
    exit_code = ExitCode.OK if found.ok else ExitCode.REFUSED
    if json:
        terminal.print_document("status", exit_code, _body_of_status(found))
    else:
        _show_status(found)
    raise typer.Exit(int(exit_code))


def _worktree_status(
    ctx: typer.Context, worktree: Path | None, directory: Path | None, *, json: bool
) -> NoReturn:
    """Say what is newer in a work tree, and what in its line. Exit 1 if anything is."""
    from fixtool.apply.sides import state_of
    from fixtool.apply.waiting import waiting_verb
    from fixtool.apply.worktree import open_worktree

    try:
        tree, record = open_worktree(worktree or Path.cwd())
    except CannotRun as error:
        if worktree is not None:
            raise
        raise UsageError(
            "name an interpreter or a work tree: this folder is no work tree that fixtool made",
            hint="fixtool status --python PY, or fixtool status --worktree DIR",
        ) from error
    context = options.start_of(ctx, directory, record)
    waiting = waiting_verb(context, record.line)
    state = state_of(tree, record, context.repository.line(record.line), waiting)
    exit_code = ExitCode.OK if state.ok else ExitCode.REFUSED
    if json:
        body = terminal.fields(state, "line", "place", "onto", "at_base", "uncommitted", "patches",
                               "reordered", "notes")  # fmt: skip
        body["next"] = state.next and complete(state.next, context.typed)
        terminal.print_document("status", exit_code, body)
    else:
        _show_worktree(state, context.typed)
    raise typer.Exit(int(exit_code))


def _show_worktree(state: WorktreeState, typed: Sequence[str]) -> None:
    terminal.say(f"line      {state.line}")
    terminal.say(f"worktree  {state.place}")
    rows = [(patch.slug, patch.here.value, patch.there.value) for patch in state.patches]
    terminal.table(("patch", "work tree", "line"), rows)
    for side in state.reordered:
        terminal.say(f"moved     the patches stand in another order in {side}")
    for note in state.notes:
        terminal.say(f"note      {note}")
    if state.uncommitted:
        shown = ", ".join(state.uncommitted[:3]) + ", ..." * (len(state.uncommitted) > 3)
        terminal.say(f"edited    {shown}: not committed")
    if not state.at_base:
        terminal.say(f"note      the line has another base than {state.onto[:12]}, where this is")
    if state.next:
        options.say_next(state.next, typed)
    else:
        terminal.say("nothing differs")


def uninstall(
    ctx: typer.Context,
    python: Target,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Take the series out of the package again: every byte is as it was, that of RECORD too.

    Nothing changes if somebody has edited a file that the series had put in.

    Example: fixtool uninstall --python /opt/venv/bin/python
    """
    from fixtool.install.run import uninstall as run

    candidates, _ = _projects(ctx, directory)
    done = run(candidates, python, dry_run=dry_run)
    if json:
        terminal.print_document("uninstall", ExitCode.OK, _body_of_uninstall(done))
    else:
        _show_uninstalled(done, dry_run=dry_run)


def _projects(
    ctx: typer.Context, directory: Path | None
) -> tuple[list[Project], PatchRepository | None]:
    """The projects of the patch repository, and the repository. Where there is none, as in an image
    that holds only the package, the project of the environment's settings."""
    from fixtool.install.project import projects
    from fixtool.settings import load

    try:
        context = options.start(ctx, directory)
    except FixtoolError:
        if directory or ctx.obj:
            raise
        return projects(load(None)), None
    return projects(context.settings, context.repository), context.repository


def _body_of_place(found: Found) -> dict[str, Any]:
    return {
        "python": found.facts.python,
        "project": found.project,
        "version": found.version,
        "place": found.place.root,
        "checkout": found.checkout is not None,
    }


def _body_of_line(installation: Installation | None) -> dict[str, Any]:
    if installation is None:
        return {"line": None, "package": None, "package_tree": None, "tree": None, "files": [],
                "left_out_files": [], "manifest": None}  # fmt: skip
    return {
        "line": installation.manifest.line,
        "package": installation.package,
        "package_tree": installation.package_tree,
        "tree": installation.tree,
        "files": [file.path for file in installation.sources],
        "left_out_files": installation.left_out,
        "manifest": installation.manifest,
    }


def _body_of_install(installed: Installed) -> dict[str, Any]:
    judgement = installed.choice.judgement
    return {
        **_body_of_place(installed.found),
        **_body_of_line(installed.installation),
        "line": judgement.replay.line,
        "line_reason": installed.choice.why,
        "patches": [
            {
                **terminal.fields(
                    patch.result, "slug", "subject", "verdict", "commit", "files", "evidence"
                ),
                "culprit": patch.culprit,
            }
            for patch in judgement.patches
        ],
        "changed": installed.changed,
        "replaced": installed.replaced,
        "recovered": installed.recovered,
        "notes": installed.notes,
    }


def _body_of_status(found: Status) -> dict[str, Any]:
    return {
        **_body_of_place(found.found),
        **_body_of_line(found.installation),
        "tree_now": found.tree,
        "problems": found.problems,
        "notes": found.notes,
    }


def _body_of_uninstall(done: Uninstalled) -> dict[str, Any]:
    return {
        **_body_of_place(done.found),
        **_body_of_line(done.installation),
        "changed": done.installation is not None,
        "recovered": done.recovered,
    }


def _show_place(found: Found) -> None:
    terminal.say(f"python    {found.facts.python}")
    what = f"{found.project} {found.version}"
    if found.checkout is not None:
        what = f"{found.project} at {found.version[:12]}, a checkout"
    terminal.say(f"package   {what} in {found.place.root}")


def _show_installed(installed: Installed, typed: Sequence[str], *, dry_run: bool) -> None:
    _show_place(installed.found)
    if installed.recovered:
        terminal.say(f"recovered an earlier run was killed, and was {installed.recovered.value}")
    judgement = installed.choice.judgement
    terminal.say(f"line      {judgement.replay.line} ({installed.choice.why})")
    for note in installed.notes:
        terminal.say(f"note      {note}")
    terminal.say()
    rows = [
        (patch.slug, patch.result.verdict.value, patch.result.subject)
        for patch in judgement.patches
    ]
    terminal.table(("patch", "verdict", "subject"), rows)
    terminal.say()
    for patch in judgement.left_out:
        terminal.say(f"left out  {patch.slug}: {'; '.join(patch.result.evidence[:1])}")
    if not installed.ok or installed.installation is None:
        _show_asking(installed, typed)
        return
    _show_files(installed.installation)
    if installed.replaced:
        terminal.say(f"replaced  line {installed.replaced}, which was there before")
    if dry_run and installed.changed:
        terminal.say("dry run   nothing was written")
    elif not installed.changed:
        terminal.say("installed as it was")
    else:
        total = len(installed.installation.sources)
        terminal.say(f"installed {count(total, 'file')} changed; fixtool uninstall takes it out")


def _show_files(installation: Installation) -> None:
    """Name the files that the series changes, those that have no place here, and the tree."""
    for file in installation.sources:
        what = "removed" if file.new is None else "added" if file.old is None else "changed"
        terminal.say(f"file      {file.path} ({what})")
    for path in installation.left_out:
        terminal.say(f"left out  {path}: the package has no such folder")
    terminal.say(f"tree      {installation.package_tree} {installation.package}")


def _show_asking(installed: Installed, typed: Sequence[str]) -> None:
    """Say that a person is needed, and the command with which to go on."""
    patches = installed.choice.judgement.patches
    asking = [patch for patch in patches if patch.needs_person]
    if asking:
        terminal.say(f"{len(asking)} of {len(patches)} patches do not apply; nothing was changed")
    for slug in installed.choice.lacks:
        terminal.say(f"{slug} is needed here, and no line has it; nothing was changed")
    name, found = installed.choice.judgement.replay.line, installed.found
    onto, source = found.version, "pypi"
    if found.checkout is not None:
        source = shlex.quote(str(found.place.root))
    options.say_next(
        f"fixtool rebase --line {name} --onto {onto} --source {source} --new-line NAME", typed
    )
    if asking and len(asking) < len(patches):
        options.say_without([patch.slug for patch in asking], name, typed)


def _show_status(found: Status) -> None:
    _show_place(found.found)
    installation = found.installation
    if installation is not None:
        manifest = installation.manifest
        words = f"{count(len(manifest.carried), 'patch')}, {len(manifest.left_out)} left out"
        terminal.say(f"line      {manifest.line} ({words})")
        for patch in manifest.carried:
            terminal.say(f"patch     {patch.slug}: {patch.subject}")
    terminal.say(f"tree      {found.tree} {found.found.package_in_git}")
    for note in found.notes:
        terminal.say(f"note      {note}")
    for problem in found.problems:
        terminal.say(f"{problem.fault.value}  {problem.path}: {problem.message}")
    if not found.problems:
        terminal.say("status    exactly this line is there, and an import loads it")


def _show_uninstalled(done: Uninstalled, *, dry_run: bool) -> None:
    _show_place(done.found)
    if done.recovered:
        terminal.say(f"recovered an earlier run was killed, and was {done.recovered.value}")
    if done.installation is None:
        terminal.say("restored  no series was there, and nothing has changed")
        return
    terminal.say(f"line      {done.installation.manifest.line}")
    for file in done.installation.sources:
        terminal.say(f"file      {file.path} ({'removed' if file.old is None else 'as it was'})")
    if dry_run:
        terminal.say("dry run   nothing was written")
    else:
        terminal.say("restored  every file is as it was")
