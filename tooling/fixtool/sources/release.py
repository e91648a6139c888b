"""A release from the package index as a commit that is the same on every machine.

The commit holds the wheel's files under ``python/``, where the git repository has them, without
``*.dist-info/`` and without native code, so that every wheel of one release (there is one for each
CPython and platform) gives the same tree. Two facts of real releases shape the rules:

- The x86_64 wheels of 0.5.23 mark 16 files executable that the aarch64 wheels do not: modes come
  from the disk of whoever built them. Every file is 100644 here; a build gives the bits back.
- 0.5.23 ships an ELF file for an AMD GPU (``….co``), the same in every wheel. Native code is what
  runs on the CPU; code for a GPU is data and stays in the tree.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.tags import sys_tags

from fixtool.errors import CannotRun, Refused
from fixtool.files import private_folder
from fixtool.git.objects import MACHINE, ZERO, Oid
from fixtool.git.repo import Repo
from fixtool.progress import Progress, Silence
from fixtool.series.patch import FilePatch, unsafe_paths
from fixtool.settings import Settings
from fixtool.sources import index
from fixtool.sources.index import WheelFile

MAX_FILES = 100_000
MAX_FILE = 256 << 20  # bytes; the largest file of 0.5.23 has 24 MB
MAX_TOTAL = 1 << 30  # bytes; 0.5.23 unpacks to 123 MB

_GPU_MACHINES = {190, 224}  # EM_CUDA, EM_AMDGPU
_MACH_O = {0xFEEDFACE, 0xFEEDFACF, 0xCEFAEDFE, 0xCFFAEDFE}
_FAT = {0xCAFEBABE, 0xCAFEBABF}


@dataclass(frozen=True)
class Native:
    """A file of native code in a wheel. ``path`` is as in the wheel, ``size`` in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """An imported release. ``natives`` are those of ``wheel``, the one it was read from;
    ``wheels`` are all that the index had, ``files`` counts what the tree holds."""

    version: str
    commit: Oid
    tree: Oid
    files: int
    natives: tuple[Native, ...]
    wheel: WheelFile
    wheels: tuple[WheelFile, ...]


def ref_name(version: str) -> str:
    return f"refs/fixtool/releases/{version}"


def import_release(
    version: str,
    repo: Repo,
    settings: Settings,
    progress: Progress | None = None,
    tags: Sequence[str] | None = None,
) -> Release:
    """The release as a commit in ``repo``; without the network where it was imported before.

    ``tags`` (best first; default: this interpreter's) say which wheel is worth downloading, for a
    build then needs no second one; the commit is the same with any. Raises CannotRun where it
    cannot be had, Refused where the wheel is not one that may be unpacked.
    """
    version = str(index.parse_version(version))
    if known := recorded(version, repo):
        return known
    progress = progress or Silence()
    with progress.task(f"look up {settings.project} {version}"):
        wheels = index.find(settings.project, version)
    wheel = index.choose(wheels, tags if tags is not None else own_tags())
    path = index.fetch(wheel, _downloads(settings), progress)
    with open_wheel(path) as archive:
        commit, files, natives = _write_commit(repo, settings.project, version, archive, progress)
    release = Release(
        version, commit, repo.tree_id(commit), files, natives, _public(wheel),
        tuple(map(_public, wheels)),
    )  # fmt: skip
    _point(repo, version, commit)
    _write_record(_record_path(version, repo), release)
    return release


def recorded(version: str, repo: Repo) -> Release | None:
    """What an earlier import left, if its commit is still there."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        data = json.loads(_record_path(version, repo).read_text("utf-8"))
        data["natives"] = tuple(Native(**one) for one in data["natives"])
        data["wheels"] = tuple(_wheel(one) for one in data["wheels"])
        release = Release(**data | {"wheel": _wheel(data["wheel"])})
        if release.commit == repo.ref(ref_name(version)) and repo.has(release.commit):
            return release
    return None


def wheel_for(release: Release, tags: Sequence[str]) -> WheelFile | None:
    """The release's wheel that an interpreter with these tags (best first) would install."""
    return index.fitting(release.wheels, tags)


def wheel_path(
    release: Release, wheel: WheelFile, settings: Settings, progress: Progress | None = None
) -> Path:
    """``wheel`` on this disk, verified; downloaded where the cache has lost it."""
    assert wheel.sha256 is not None
    with suppress(OSError):
        path = _downloads(settings) / wheel.sha256 / wheel.filename
        if index.sha256_of(path) == wheel.sha256:
            return path
    # Asked anew, for the address may have been a mirror's of that day, with a password in it.
    for offered in index.find(settings.project, release.version):
        if offered.sha256 == wheel.sha256:
            return index.fetch(offered, _downloads(settings), progress)
    raise CannotRun(
        f"the index no longer has {wheel.filename} with sha256 {wheel.sha256}",
        hint=f"put that file in a folder and name it: PIP_FIND_LINKS=DIR, for {release.version}",
    )


def own_tags() -> tuple[str, ...]:
    """The wheel tags of the interpreter that runs fixtool, best first."""
    return tuple(map(str, sys_tags()))


@contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel; Refused, not a traceback, where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Refused(f"not a readable wheel: {error}", where=str(path)) from error


def safe_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of a wheel, by name. Refused where one may not be unpacked: it leaves the tree, is
    in git's folder, is a link, is there twice, or is absurdly large."""
    where = str(archive.filename)
    members = [one for one in archive.infolist() if not one.is_dir()]
    total = sum(one.file_size for one in members)
    largest = max(members, key=lambda one: one.file_size, default=None)
    if len(members) > MAX_FILES or total > MAX_TOTAL or (largest and largest.file_size > MAX_FILE):
        raise Refused(
            f"the wheel would unpack to {len(members)} files and {total} bytes; that is no "
            "release but a zip bomb",
            where=where,
        )
    names = set[str]()
    for one in members:
        kind = stat.S_IFMT(one.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refused(f"{one.filename!r} in the wheel is a link or a device", where=where)
        if one.filename in names or one.orig_filename != one.filename or one.flag_bits & 1:
            raise Refused(
                f"{one.filename!r} in the wheel is there twice, encrypted or misnamed", where=where
            )
        names.add(one.filename)
    as_patch = (FilePatch(name, None, name, None, None, False, ()) for name in sorted(names))
    for path, why in unsafe_paths(as_patch):
        raise Refused(f"{path!r} in the wheel is {why}", where=where)
    for name in names:
        parts = name.split("/")
        if any("/".join(parts[:depth]) in names for depth in range(1, len(parts))):
            raise Refused(f"{name!r} in the wheel is inside another file", where=where)
    return sorted(members, key=lambda one: one.filename)


def is_native(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (64 bytes do, 1024 for Windows) runs on a CPU:
    ELF, Mach-O or PE by their magic numbers, never by name."""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        order = ">" if head[5] == 2 else "<"
        return struct.unpack_from(f"{order}H", head, 18)[0] not in _GPU_MACHINES
    if head[:2] == b"MZ" and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        return head[at : at + 4] == b"PE\0\0"
    if len(head) < 8:
        return False
    magic, count = struct.unpack_from(">II", head)
    # A Java class file shares the fat magic; its version number, 45 or more, is in the count.
    return magic in _MACH_O or (magic in _FAT and 0 < count < 45)


def _native(path: str, data: bytes) -> Native:
    return Native(path, hashlib.sha256(data).hexdigest(), len(data))


def _is_info(one: zipfile.ZipInfo) -> bool:
    return one.filename.split("/", 1)[0].endswith(".dist-info")


def _write_commit(
    repo: Repo,
    project: str,
    version: str,
    archive: zipfile.ZipFile,
    progress: Progress,
) -> tuple[Oid, int, tuple[Native, ...]]:
    """Store the commit through one git process; return its id, how many files it has, and the
    natives it lacks. Nothing points to it yet: a killed run leaves a pack that git prunes."""
    message = (
        f"{project} {version}, as released\n\nThe wheel's files without metadata and native code.\n"
    )
    branch = f"refs/fixtool/importing/{version}"  # lives inside that process only
    stream = [
        f"commit {branch}\nmark :1\nauthor {MACHINE}\ncommitter {MACHINE}\n"
        f"data {len(message.encode())}\n{message}\n".encode()
    ]
    natives = []
    members = [one for one in safe_members(archive) if not _is_info(one)]
    with progress.task(f"import {project} {version}", len(members)) as task:
        for one in members:
            data = archive.read(one)
            task.advance(1)
            if is_native(data[:1024]):
                natives.append(_native(one.filename, data))
                continue
            path = f"python/{one.filename}".replace('"', '\\"')  # a backslash was refused above
            stream += [f'M 100644 inline "{path}"\ndata {len(data)}\n'.encode(), data, b"\n"]
        stream.append(f"get-mark :1\nreset {branch}\nfrom {ZERO}\n\ndone\n".encode())
        # Deltas against whatever came before cost 2 s and save nothing: the files are unrelated.
        out = repo.run(
            "-c", "pack.compression=1", "-c", "core.compression=1",
            "fast-import", "--quiet", "--done", "--depth=0", stdin=b"".join(stream),
        )  # fmt: skip
    return Oid(out.text), len(members) - len(natives), tuple(natives)


def _point(repo: Repo, version: str, commit: Oid) -> None:
    """Move the release's ref; another run that is doing the same holds git's lock for a moment."""
    name = ref_name(version)
    for wait in (0.1, 0.5, 2.0, None):
        if (old := repo.ref(name)) == commit:
            break
        try:
            repo.update_refs([(name, commit, old)], f"fixtool: import {version}")
        except CannotRun:
            if wait is None:
                raise
            time.sleep(wait)


def _downloads(settings: Settings) -> Path:
    return private_folder(settings.cache) / "releases"


def _record_path(version: str, repo: Repo) -> Path:
    return repo.git_dir / "fixtool" / "releases" / f"{version}.json"


def _write_record(path: Path, release: Release) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
        ) as file:
            json.dump(asdict(release), file, indent=1)
        os.replace(file.name, path)  # noqa: PTH105
    except OSError as error:
        raise CannotRun(
            f"cannot write the release's record: {error.strerror}", where=str(path)
        ) from error


def _public(wheel: WheelFile) -> WheelFile:
    return WheelFile(**asdict(wheel) | {"url": index.shown(wheel.url)})


def _wheel(data: dict[str, object]) -> WheelFile:
    return WheelFile(**data | {"tags": tuple(data["tags"])})  # type: ignore[arg-type]
