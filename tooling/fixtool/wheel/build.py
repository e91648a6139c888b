"""An installable wheel of a patched tree, straight from the object database.

Nothing is checked out and nothing is compiled: the Python files come from git, metadata and native
code from the release's own wheel (or metadata from pyproject.toml where the base is a git commit).
The bytes depend on the tree, the base version and that wheel alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from packaging.version import Version

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import private_folder
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, scratch_index
from fixtool.interpreter import absolute, last_line, run
from fixtool.interpreter import install as install
from fixtool.interpreter import interpreter_tags as interpreter_tags
from fixtool.progress import Progress, Silence
from fixtool.settings import Settings
from fixtool.sources import index
from fixtool.sources.release import (
    Release,
    is_native,
    open_wheel,
    safe_members,
    wheel_for,
    wheel_path,
)
from fixtool.wheel._archive import (
    FORMAT,
    PURE_TAG,
    ROOT,
    File,
    Plan,
    add_version_file,
    missing_note,
    module_name,
    staging_folder,
    tracked,
    wheel_text,
    write,
)
from fixtool.wheel._metadata import plan_from_tree


@dataclass(frozen=True)
class Request:
    """What to build. ``base_version`` is that of the release, or the newest one before a git base;
    ``tags`` are the target interpreter's (``interpreter_tags``), best first.

    ``native`` compiles a git base with ``python``, the target interpreter.
    """

    base_version: str
    tags: tuple[str, ...] = ()
    release: Release | None = None
    native: bool = False
    python: str | None = None


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel on this disk. ``size`` is in bytes; ``natives_kept`` are paths in the wheel,
    ``natives_missing`` module names; ``notes`` say in plain words what a user should know."""

    path: Path
    version: str
    sha256: str
    size: int
    reused: bool
    natives_kept: tuple[str, ...]
    natives_missing: tuple[str, ...]
    metadata_source: str
    notes: tuple[str, ...]


def local_version(base_version: str, tree: str) -> str:
    """``0.5.23+fixtool.<12 digits of the tree id>``; a local part of the base stays in front."""
    base = index.parse_version(base_version)
    local = ".".join(part for part in (base.local, "fixtool", tree[:12]) if part)
    return str(Version(f"{base.public}+{local}"))


def build(
    repo: Repo,
    commit: str,
    request: Request,
    settings: Settings,
    progress: Progress | None = None,
) -> BuiltWheel:
    """The wheel of ``commit``'s tree, from the cache where the same one was built before.

    The blobs must be in ``repo`` (a worktree was made from it): git would fetch missing ones one by
    one. Raises CannotRun (full disk, no compiler), Refused (metadata that cannot be read).
    """
    tree = repo.tree_id(commit)
    version = local_version(request.base_version, tree)
    release = request.release
    fits = wheel_for(release, request.tags) if release else None
    if request.native and (release or not request.python):
        raise UsageError(
            "--native compiles a git base for one interpreter; a release brings its native code",
            hint="leave --native out, or use --source git with --python PY",
        )
    basis = fits or (release.wheel if release else None)
    parts = [str(FORMAT), tree, version, str(basis and basis.sha256), str(bool(fits))]
    parts += ["native", request.tags[0]] if request.native else []
    folder = settings.cache / "wheels" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    if known := _reusable(folder):
        return known
    progress = progress or Silence()
    with staging_folder(private_folder(settings.cache) / "wheels") as staging:
        if request.native:
            plan, path = _compile(repo, commit, request, version, staging, progress)
        else:
            with _plan(repo, commit, request, version, settings, progress) as plan:
                path = staging / f"{plan.stem}-{plan.tag}.whl"
                write(path, plan, repo, progress)
        built = BuiltWheel(
            folder / path.name, version, index.sha256_of(path), path.stat().st_size, False,
            tuple(plan.kept), tuple(plan.missing), plan.source, tuple(plan.notes),
        )  # fmt: skip
        record = asdict(built) | {"path": path.name}
        (staging / "wheel.json").write_text(json.dumps(record, indent=1), "utf-8")
        if not (first := _reusable(folder)):  # else another run was first
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
    return first or built


def install_editable(
    repo: Repo,
    commit: str,
    request: Request,
    settings: Settings,
    worktree: Path,
    progress: Progress | None = None,
) -> BuiltWheel:
    """Make ``request.python`` import ``worktree``'s files as they are; the small wheel that does it
    is thrown away. The release's natives are copied beside their packages, where git ignores them
    (``*.so`` in info/exclude); nothing else is written there."""
    if not request.python:
        raise UsageError("an editable install needs an interpreter", hint="add --python PY")
    version = local_version(request.base_version, repo.tree_id(commit))
    progress = progress or Silence()
    with (
        staging_folder(private_folder(settings.cache) / "wheels") as staging,
        _plan(repo, commit, request, version, settings, progress) as plan,
    ):
        natives = {one.path: one for one in plan.files if one.path in plan.kept}
        for one in natives.values():
            _put_native(worktree, one)
        folder = str((worktree / ROOT).absolute())
        link = File(f"_fixtool_{plan.stem.split('-')[0]}.pth", lambda: f"{folder}\n".encode())
        plan.files, plan.tag = [link], PURE_TAG
        plan.info["WHEEL"] = wheel_text(PURE_TAG)
        path = staging / f"{plan.stem}-{PURE_TAG}.whl"
        write(path, plan, repo, Silence())
        install(request.python, path)
        return BuiltWheel(
            Path(folder), version, index.sha256_of(path), path.stat().st_size, False,
            tuple(plan.kept), tuple(plan.missing), plan.source, tuple(plan.notes),
        )  # fmt: skip


@contextmanager
def _plan(
    repo: Repo,
    commit: str,
    request: Request,
    version: str,
    settings: Settings,
    progress: Progress,
) -> Iterator[Plan]:
    """The plan of a wheel; good while open, for it may read from the release's wheel."""
    if (release := request.release) is None:
        yield plan_from_tree(repo, commit, version)
        return
    fits = wheel_for(release, request.tags)
    path = wheel_path(release, fits or release.wheel, settings, progress)
    with open_wheel(path) as archive:
        yield _plan_from_release(repo, commit, release, archive, version, fits=bool(fits))


def _plan_from_release(
    repo: Repo, commit: str, release: Release, archive: zipfile.ZipFile, version: str, *, fits: bool
) -> Plan:
    members = safe_members(archive)
    info = next(
        (one.filename.split("/")[0] for one in members if one.filename.endswith("/METADATA")), None
    )
    if info is None:
        raise Refused("the wheel has no METADATA", where=str(archive.filename))
    name = info.split("-")[0]
    tag = Path(str(archive.filename)).stem.split("-", 2)[2] if fits else PURE_TAG
    plan = Plan(name, version, tag, f"the release's wheel {Path(str(archive.filename)).name}")
    tops, executable = set[str](), set[str]()
    natives = []
    entries = list_tree(repo, commit)
    for one in members:
        top, _, rest = one.filename.partition("/")
        if top == info:
            if rest not in ("RECORD", "RECORD.jws", "RECORD.p7s"):
                plan.info[rest] = archive.read(one)
            continue
        tops.add(top)
        if one.external_attr >> 16 & 0o111:
            executable.add(one.filename)
        # Every file of the release's tree was found not to be native when it was imported.
        if ROOT + one.filename not in entries:
            with archive.open(one) as file:
                if is_native(file.read(1024)):
                    natives.append(one)
    plan.files = [
        replace(one, executable=one.executable or one.path in executable)
        for one in tracked(repo, entries, lambda path: path.split("/")[0] in tops, plan.notes)
    ]
    plan.info["METADATA"] = re.sub(
        rb"(?m)^Version: .*?(\r?)$", b"Version: " + version.encode() + rb"\1",
        plan.info["METADATA"], count=1,
    )  # fmt: skip
    version_file = f"{name}/_version.py"
    if ROOT + version_file in entries:
        add_version_file(plan, version_file)
    if fits:
        plan.kept = [one.filename for one in natives]
        plan.files += [
            File(one.filename, lambda one=one: archive.read(one), one.filename in executable)  # type: ignore[misc]
            for one in natives
        ]
    else:
        plan.info["WHEEL"] = wheel_text(PURE_TAG)
        for native in release.natives:
            plan.missing.append(module_name(native.path))
            why = f"and release {release.version} has no wheel for this interpreter"
            plan.notes.append(missing_note(plan.missing[-1], why))
    return plan


def _reusable(folder: Path) -> BuiltWheel | None:
    """The wheel in ``folder``, if it is whole."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        data = json.loads((folder / "wheel.json").read_text("utf-8"))
        for key in ("natives_kept", "natives_missing", "notes"):
            data[key] = tuple(data[key])
        data |= {"path": folder / Path(data["path"]).name, "reused": True}
        if index.sha256_of(data["path"]) == data["sha256"]:
            return BuiltWheel(**data)
    return None


def _put_native(worktree: Path, native: File) -> None:
    """Copy one native into the worktree, never through a link that a patch may have made."""
    assert not isinstance(native.source, str)
    target = worktree / ROOT / native.path
    if not target.parent.resolve().is_relative_to((worktree / ROOT).resolve()):
        raise Refused("the way to a native module leads out of the worktree", where=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".so")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(native.source())
        Path(name).chmod(0o755 if native.executable else 0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _compile(
    repo: Repo, commit: str, request: Request, version: str, staging: Path, progress: Progress
) -> tuple[Plan, Path]:
    """The project's own build, in a checkout of its own."""
    for program in ("cargo", "protoc"):
        if not shutil.which(program):
            raise CannotRun(
                f"--native compiles Rust, and there is no {program} on PATH",
                hint=f"install {program}, or leave --native out: Python-only patches need no "
                "compiler",
            )
    assert request.python is not None
    plan = plan_from_tree(repo, commit, version)
    with (
        progress.task(f"compile {plan.name} {version}"),
        tempfile.TemporaryDirectory(prefix="fixtool-native-") as folder,
        scratch_index(repo, commit) as scratch,
    ):
        tree = Path(folder)
        repo.with_work_tree(tree).run("checkout-index", "--all", index=scratch)
        for name in ("README.md", "LICENSE"):  # as upstream's release script does
            if (tree / name).is_file() and not (tree / ROOT / name).exists():
                shutil.copy(tree / name, tree / ROOT / name)
        process = run(
            [absolute(request.python), "-m", "pip", "wheel", "--no-deps", "--no-input",
             "--wheel-dir", str(staging), str(tree / ROOT)],
            {"SETUPTOOLS_SCM_PRETEND_VERSION": version},
        )  # fmt: skip
    wheels = list(staging.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise CannotRun(
            f"the native build failed: {last_line(process)}",
            hint="crates come from the network: see that cargo can reach its registry, or leave "
            "--native out",
        )
    with open_wheel(wheels[0]) as archive:
        plan.kept = [
            one.filename for one in safe_members(archive) if is_native(archive.open(one).read(1024))
        ]
    built = {module_name(path) for path in plan.kept}
    plan.missing = [module for module in plan.missing if module not in built]
    plan.notes = [note for note in plan.notes if note.split(" ")[0] not in built]
    return plan, wheels[0]
