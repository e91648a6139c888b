"""Builds an installable wheel of a patched tree, straight from the object database.

Nothing is checked out and nothing is compiled: the Python files come from git, metadata and native
code from the release's own wheel (or metadata from pyproject.toml where the base is a git commit).
The bytes depend on the tree, its manifest, the base version and that wheel alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from packaging.version import Version

from fixtool import documents
from fixtool.errors import Refused, UsageError
from fixtool.files import private_folder, require_private, write_atomically
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.interpreter import install as install
from fixtool.interpreter import interpreter_tags as interpreter_tags
from fixtool.judgement.manifest import Manifest
from fixtool.progress import Progress, Silence
from fixtool.settings import Settings
from fixtool.sources import index
from fixtool.sources.release import Release, open_wheel, wheel_for, wheel_path
from fixtool.wheel._archive import (
    FORMAT,
    PURE_TAG,
    File,
    WheelPlan,
    add_version_file,
    is_native_member,
    missing_note,
    module_name,
    read_info,
    root_of,
    split_members,
    staging_folder,
    tracked,
    wheel_text,
    write,
)
from fixtool.wheel._manifest import add_manifest
from fixtool.wheel._metadata import plan_from_tree
from fixtool.wheel._native import compiled_plan


@dataclass(frozen=True)
class BuildRequest:
    """What to build. ``base_version`` is the version of the release, or of the newest release
    before a git base. ``tags`` are those of ``python``, the target interpreter, best first
    (``interpreter_tags``). ``native`` compiles the native code of a git base with it. ``manifest``
    says which patches are in the tree; None if that is not known.
    """

    base_version: str
    tags: tuple[str, ...] = ()
    release: Release | None = None
    native: bool = False
    python: str | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel on this disk. ``size`` is in bytes; ``natives_kept`` are paths in the wheel,
    ``natives_missing`` are module names; ``notes`` are sentences for the user; ``reused`` says that
    it was built before. ``manifest`` is the one of the request."""

    path: Path
    version: str
    sha256: str
    size: int
    reused: bool
    natives_kept: tuple[str, ...]
    natives_missing: tuple[str, ...]
    metadata_source: str
    notes: tuple[str, ...]
    manifest: Manifest | None


def local_version(base_version: str, tree: str, manifest: Manifest | None = None) -> str:
    """``0.5.23+fixtool.<12 digits of the tree id>``; a local part of the base stays in front.

    With a manifest, 8 digits of its digest follow, so that two wheels of one version say the same
    of their patches, and ``without2`` if two patches were left out by hand.
    """
    base = index.parse_version(base_version)
    parts = [base.local, "fixtool", _begin(tree, 12)]
    if manifest is not None:
        by_hand = len(manifest.left_out_by_hand)
        parts += [_begin(manifest.digest, 8), f"without{by_hand}" if by_hand else None]
    return str(Version(f"{base.public}+{'.'.join(filter(None, parts))}"))


def _begin(digest: str, length: int) -> str:
    """The first ``length`` digits of ``digest``, and more if no letter is among them: a version
    takes a part without letters for a number and drops its leading zeros."""
    letter = re.search("[a-f]", digest)
    return digest[: max(length, letter.end() if letter else 0)]


def build(
    repo: Repo,
    commit: str,
    request: BuildRequest,
    settings: Settings,
    progress: Progress | None = None,
) -> BuiltWheel:
    """The wheel of ``commit``'s tree, from the cache if the same wheel was built before.

    The blobs must be in ``repo``, as they are once a work tree was made from it: git would fetch
    missing ones one by one. Raises UsageError if ``native`` does not fit the request, CannotRun if
    the disk is full or the native build fails, Refused if the metadata cannot be read.
    """
    tree = repo.tree_id(commit)
    version = local_version(request.base_version, tree, request.manifest)
    release = request.release
    fits = wheel_for(release, request.tags) if release else None
    _check_native(request)
    basis = fits or (release.wheel if release else None)
    parts = [str(FORMAT), tree, version, str(basis and basis.sha256), str(bool(fits))]
    parts += ["native", request.tags[0]] if request.native else []
    parts += ["manifest", request.manifest.digest] if request.manifest else []
    folder = settings.cache / "wheels" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    if known := _reusable(folder, request.manifest):
        return known
    progress = progress or Silence()
    with staging_folder(private_folder(settings.cache) / "wheels") as staging:
        with _plan(repo, commit, request, version, settings, progress) as plan:
            path = staging / f"{plan.stem}-{plan.tag}.whl"
            write(path, plan, repo, progress)
        built = _built(plan, path, folder / path.name, request.manifest)
        record = asdict(built) | {"path": path.name, "manifest": None}  # the request has that
        (staging / "wheel.json").write_text(json.dumps(record, indent=1), "utf-8")
        if not (first := _reusable(folder, request.manifest)):  # otherwise another run was first
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
    return first or built


def install_editable(
    repo: Repo,
    commit: str,
    request: BuildRequest,
    settings: Settings,
    worktree: Path,
    progress: Progress | None = None,
) -> BuiltWheel:
    """Make ``request.python`` import the files of ``worktree`` as they are. The small wheel that
    does it is thrown away. The release's native modules are copied beside their packages, where git
    ignores them (``*.so`` in info/exclude); nothing else is written there.

    Raises UsageError if ``request`` names no interpreter or its ``native`` does not fit, CannotRun
    if the installation fails.
    """
    if not request.python:
        raise UsageError("an editable install needs an interpreter", hint="add --python PY")
    _check_native(request)
    version = local_version(request.base_version, repo.tree_id(commit), request.manifest)
    progress = progress or Silence()
    root = root_of(list_tree(repo, commit))
    with (
        staging_folder(private_folder(settings.cache) / "wheels") as staging,
        _plan(repo, commit, request, version, settings, progress) as plan,
    ):
        for native in (file for file in plan.files if file.path in plan.kept):
            _put_native(worktree / root, native)
        folder = str((worktree / root).absolute())
        link = File(f"_fixtool_{plan.stem.split('-')[0]}.pth", lambda: f"{folder}\n".encode())
        plan.files, plan.tag = [link], PURE_TAG
        plan.info["WHEEL"] = wheel_text(PURE_TAG)
        path = staging / f"{plan.stem}-{PURE_TAG}.whl"
        write(path, plan, repo, Silence())
        install(request.python, path)
        return _built(plan, path, Path(folder), request.manifest)


def _check_native(request: BuildRequest) -> None:
    """Raise UsageError if ``native`` does not fit the rest of the request."""
    if request.native and (request.release or not request.python):
        raise UsageError(
            "--native compiles a git base for one interpreter; a release brings its native code",
            hint="leave --native out, or use --source git with --python PY",
        )


def _built(plan: WheelPlan, file: Path, path: Path, manifest: Manifest | None) -> BuiltWheel:
    """The result for the wheel in ``file``, whose final place is ``path``."""
    return BuiltWheel(
        path, plan.version, index.sha256_of(file), file.stat().st_size, False,
        tuple(plan.kept), tuple(plan.missing), plan.source, tuple(plan.notes), manifest,
    )  # fmt: skip


@contextmanager
def _plan(
    repo: Repo,
    commit: str,
    request: BuildRequest,
    version: str,
    settings: Settings,
    progress: Progress,
) -> Iterator[WheelPlan]:
    """The plan of a wheel. It is usable inside the block only: it may read from another wheel."""
    with ExitStack() as stack:
        if request.native and request.python:
            plan = stack.enter_context(
                compiled_plan(repo, commit, version, request.python, progress)
            )
        elif release := request.release:
            fits = wheel_for(release, request.tags)
            path = wheel_path(release, fits or release.wheel, settings, progress)
            archive = stack.enter_context(open_wheel(path))
            plan = _plan_from_release(repo, commit, release, archive, version, fits=bool(fits))
        else:
            plan = plan_from_tree(repo, commit, version)
        if request.manifest:
            add_manifest(plan, request.manifest, repo.tree_id(commit))
        yield plan


def _plan_from_release(
    repo: Repo, commit: str, release: Release, archive: zipfile.ZipFile, version: str, *, fits: bool
) -> WheelPlan:
    """The plan of a wheel with the tree's Python files and everything else of the release's wheel
    ``archive``. Native code is kept if the wheel ``fits`` the interpreter."""
    file_name = Path(str(archive.filename)).name
    info, content = split_members(archive)
    name = info.split("-")[0]
    tag = Path(file_name).stem.split("-", 2)[2] if fits else PURE_TAG
    plan = WheelPlan(name, version, tag, f"the release's wheel {file_name}")
    plan.info = read_info(archive, info, version)
    entries = list_tree(repo, commit)
    root = root_of(entries)
    tops = {member.filename.split("/")[0] for member in content}
    executable = {member.filename for member in content if member.external_attr >> 16 & 0o111}
    plan.files = [
        replace(file, executable=file.executable or file.path in executable)
        for file in tracked(
            repo, entries, root, lambda path: path.split("/")[0] in tops, plan.notes
        )
    ]
    version_file = f"{name}/_version.py"
    if root + version_file in entries:
        add_version_file(plan, version_file)
    if fits:
        # The import of the release checked the files of its tree: none of them is native.
        new = [member for member in content if root + member.filename not in entries]
        natives = [member for member in new if is_native_member(archive, member)]
        plan.kept = [native.filename for native in natives]
        plan.files += [
            File(native.filename, partial(archive.read, native), native.filename in executable)
            for native in natives
        ]
    else:
        plan.info["WHEEL"] = wheel_text(PURE_TAG)
        for module in (module_name(native.path) for native in release.natives):
            plan.missing.append(module)
            why = f"and release {release.version} has no wheel for this interpreter"
            plan.notes.append(missing_note(module, why))
    return plan


def _reusable(folder: Path, manifest: Manifest | None) -> BuiltWheel | None:
    """The wheel that was built into ``folder`` before, with this manifest; None if there is none or
    it is damaged."""
    require_private(folder.parent)
    built = documents.read_own(folder / "wheel.json", documents.written(BuiltWheel))
    if built is None:
        return None
    path = folder / built.path.name
    try:
        right = index.sha256_of(path) == built.sha256
    except OSError:
        return None
    return replace(built, path=path, reused=True, manifest=manifest) if right else None


def _put_native(root: Path, native: File) -> None:
    """Copy one native module into the project's folder of the work tree, but not through a symlink
    that a patch made."""
    assert not isinstance(native.source, str)
    target = root / native.path
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise Refused("the way to a native module leads out of the worktree", where=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, native.source())
    target.chmod(0o755 if native.executable else 0o644)
