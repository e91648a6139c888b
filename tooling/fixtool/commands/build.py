"""fixtool build"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import CannotRun, ExitCode, FixtoolError, UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from fixtool.apply.worktree import Record
    from fixtool.judgement.manifest import Manifest
    from fixtool.progress import Progress
    from fixtool.settings import Settings
    from fixtool.wheel.build import BuiltWheel

Editable = Annotated[
    bool, Option("--editable", help="Install the work tree into --python instead.")
]
Native = Annotated[
    bool, Option("--native", help="Build native extensions too (needs Rust, protoc).")
]


def build(
    worktree: options.Worktree = None,
    python: options.Python = None,
    editable: Editable = False,
    native: Native = False,
    json: options.Json = False,
) -> None:
    """Build a wheel of a patched work tree, as committed.

    The same tree is not built twice. Without --native, nothing is compiled.

    Example: fixtool build --worktree ~/patched --python /opt/venv/bin/python
    """
    from fixtool.settings import load

    built = build_worktree(
        worktree or Path.cwd(), load(None), terminal.progress(quiet=json),
        python=python, editable=editable, native=native,
    )  # fmt: skip
    if json:
        terminal.print_document("build", ExitCode.OK, {"build": built})
    else:
        show_built(built)
        if built.manifest is not None:
            show_left_out(built.manifest)


def require_python(python: str | None, *, editable: bool) -> None:
    """Raise UsageError if there is no interpreter for an editable install."""
    if editable and python is None:
        raise UsageError("--editable needs an interpreter to install into", hint="add --python PY")


def build_worktree(
    path: Path,
    settings: Settings,
    progress: Progress,
    *,
    python: str | None,
    editable: bool,
    native: bool,
) -> BuiltWheel:
    """Build HEAD of a work tree that `apply` made. Raises Refused if the work tree is not clean,
    because the wheel would lack what is not committed."""
    from fixtool.apply.worktree import open_worktree, require_clean
    from fixtool.judgement.manifest import manifest_at
    from fixtool.sources.release import own_tags, recorded
    from fixtool.sources.source import Releases
    from fixtool.wheel import build as wheel_builder

    require_python(python, editable=editable)
    tree, record = open_worktree(path)
    require_clean(tree)
    release = None
    if record.release is not None:
        release = recorded(record.release, Releases(_settings_of(record, settings), progress).repo)
        if release is None:
            raise CannotRun(
                f"release {record.release}, of which this work tree was made, is not here any more",
                where=str(path),
                hint=record.again(tree),
            )
    head = tree.head() or record.commit
    manifest = record.manifest and manifest_at(record.manifest, tree, head)
    request = wheel_builder.BuildRequest(
        base_version=record.version,
        tags=wheel_builder.interpreter_tags(python) if python else own_tags(),
        release=release,
        native=native,
        python=python,
        manifest=manifest,
    )
    if native:
        options.warn_of_credentials()
    if editable:
        place = path.absolute()
        built = wheel_builder.install_editable(tree, head, request, settings, place, progress)
    else:
        built = wheel_builder.build(tree, head, request, settings, progress)
    if manifest is None:
        built = replace(built, notes=(*built.notes, _without_manifest(record)))
    return built


def _settings_of(record: Record, settings: Settings) -> Settings:
    """The settings of the line that the work tree was made of, which name its project; ``settings``
    if the line is gone."""
    from fixtool.series.line import PatchRepository
    from fixtool.settings import load

    with suppress(FixtoolError):
        root = Path(record.patches)
        return PatchRepository(root).line(record.line).upstream.settings(load(root))
    return settings


def _without_manifest(record: Record) -> str:
    """The note on a wheel that does not say which patches it holds."""
    note = "the wheel does not say which patches it holds: "
    if record.manifest is None:
        return note + "fixtool apply had not recorded them; it does so when you run it again"
    return note + f"HEAD does not descend from {record.onto[:12]}, to which they were applied"


def show_left_out(manifest: Manifest) -> None:
    """Name each patch that is left out, and say why."""
    for patch in manifest.left_out:
        terminal.say(f"left out  {patch.slug}: {patch.why}")


def show_built(built: BuiltWheel) -> None:
    """Say what was built, and what it lacks."""
    if built.path.suffix != ".whl":
        terminal.say(f"editable  {built.version}, imported from {built.path}")
    else:
        again = ", as built before" if built.reused else ""
        terminal.say(f"wheel     {built.path} ({built.size / 1e6:.1f} MB{again})")
    if built.natives_kept:
        terminal.say(f"native    {len(built.natives_kept)} extension modules kept from the release")
    for note in built.notes:
        terminal.say(f"note      {note}")
    if built.path.suffix == ".whl":
        terminal.say(f"next      pip install --no-deps {argument(built.path)}")
