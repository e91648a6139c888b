"""A release from the package index as a commit that is the same on every machine.

The commit holds the wheel's files where the git repository has them (SGLang: ``python/``), without
``*.dist-info/`` and without native code, so that every wheel of one release (there is one for each
CPython and platform) gives the same tree. Two facts of real releases shape the rules:

- The x86_64 wheels of 0.5.23 mark 16 files executable that the aarch64 wheels do not: modes come
  from the disk of whoever built them. Every file is 100644 here; a build gives the bits back.
- 0.5.23 ships an ELF file for an AMD GPU (``….co``), the same in every wheel. Native code is what
  runs on the CPU; code for a GPU is data and stays in the tree.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from packaging.tags import sys_tags

from fixtool import documents
from fixtool.errors import CannotRun, Refused
from fixtool.files import private_folder, write_atomically
from fixtool.git.objects import MACHINE, ZERO, Oid
from fixtool.git.repo import Repo
from fixtool.progress import Progress, Silence
from fixtool.series.diff import FilePatch
from fixtool.series.paths import unsafe_paths
from fixtool.settings import Settings
from fixtool.sources import index
from fixtool.sources.index import WheelFile
from fixtool.text import redact

MAX_FILES = 100_000
MAX_FILE = 256 << 20  # bytes; the largest file of 0.5.23 has 24 MB
MAX_TOTAL = 1 << 30  # bytes; 0.5.23 unpacks to 123 MB

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
            NotImplementedError, UnicodeDecodeError, OverflowError)  # fmt: skip
_GPU_MACHINES = {190, 224}  # EM_CUDA, EM_AMDGPU
_MACH_O = {0xFEEDFACE, 0xFEEDFACF, 0xCEFAEDFE, 0xCFFAEDFE}
_FAT = {0xCAFEBABE, 0xCAFEBABF}


@dataclass(frozen=True)
class Native:
    """A file of native code. ``path`` is its path in the wheel, ``size`` is in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """An imported release. ``natives`` are the native files of ``wheel``, from which the release
    was imported; ``wheels`` are all that the index had; ``files`` counts the files of the tree.
    ``published`` is the day on which its first wheel was uploaded, such as 2026-05-23; or the day
    on which ``wheel`` was built, if the index does not give the upload."""

    version: str
    commit: Oid
    tree: Oid
    files: int
    natives: tuple[Native, ...]
    wheel: WheelFile
    wheels: tuple[WheelFile, ...]
    published: str


def ref_name(version: str) -> str:
    return f"refs/fixtool/releases/{version}"


def import_release(
    version: str,
    repo: Repo,
    settings: Settings,
    progress: Progress | None = None,
    tags: Sequence[str] | None = None,
) -> Release:
    """The release as a commit in ``repo``. A release that was imported before needs no network.

    ``tags`` (best first; default: this interpreter's) say which wheel to download, so that a build
    needs no second one; the commit is the same with any. Raises CannotRun if the release cannot be
    had, Refused if its wheel must not be unpacked.
    """
    version = str(index.parse_version(version))
    if release := recorded(version, repo):
        return release
    progress = progress or Silence()
    with progress.task(f"look up {settings.indexed} {version}"):
        wheels = index.find(settings.indexed, version)
    wheel = index.choose(wheels, tags if tags is not None else own_tags())
    path = index.fetch(wheel, _downloads(settings), progress)
    with open_wheel(path) as archive:
        commit, files, natives = _write_commit(repo, settings, version, archive, progress)
        uploads = [offered.uploaded for offered in wheels if offered.uploaded]
        published = min(uploads, default=None) or _day_of_build(archive)
    release = Release(
        version, commit, repo.tree_id(commit), files, natives, _public(wheel),
        tuple(map(_public, wheels)), published,
    )  # fmt: skip
    _point(repo, version, commit)
    _write_record(_record_path(version, repo), release)
    return release


def recorded(version: str, repo: Repo) -> Release | None:
    """The release of an earlier import, if its commit is still in ``repo``."""
    release = documents.read_own(_record_path(version, repo), documents.written(Release))
    if release is None or not all(map(_is_plain, (release.wheel, *release.wheels))):
        return None
    if release.commit == repo.ref(ref_name(version)) and repo.has(release.commit):
        return release
    return None


def _is_plain(wheel: WheelFile) -> bool:
    """Whether the name and hash of a wheel, which become parts of a path, have their form."""
    return index.is_file_name(wheel.filename) and bool(
        wheel.sha256 is None or re.fullmatch("[0-9a-f]{64}", wheel.sha256)
    )


def wheel_for(release: Release, tags: Sequence[str]) -> WheelFile | None:
    """The release's wheel that an interpreter with these tags (best first) would install."""
    return index.fitting(release.wheels, tags)


def wheel_path(
    release: Release, wheel: WheelFile, settings: Settings, progress: Progress | None = None
) -> Path:
    """``wheel`` on this disk, verified, and downloaded if it is no longer in the cache. Raises
    CannotRun if the index does not have it any more."""
    assert wheel.sha256 is not None
    with suppress(OSError):
        path = _downloads(settings) / wheel.sha256 / wheel.filename
        if index.sha256_of(path) == wheel.sha256:
            return path
    # The record holds no address that can be used: it may have been a mirror's, with a password.
    for offered in index.find(settings.indexed, release.version):
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
    """Open a wheel. Raises Refused if it is damaged, in the block too."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        raise Refused(f"not a readable wheel: {error}", where=str(path)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a seek to before the beginning gives
            raise
        raise Refused(f"not a readable wheel: {error.strerror}", where=str(path)) from error


def safe_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of a wheel, by name. Raises Refused if one must not be unpacked: it leaves the
    tree, is in git's folder, is a link, is there twice, or is absurdly large."""
    where = str(archive.filename)
    members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    sizes = [member.file_size for member in members]
    total = sum(sizes)
    if len(members) > MAX_FILES or total > MAX_TOTAL or max(sizes, default=0) > MAX_FILE:
        raise Refused(
            f"the wheel would unpack to {len(members)} files and {total} bytes; that is no "
            "release but a zip bomb",
            where=where,
        )
    packed = Path(where).stat().st_size
    names = set[str]()
    for member in members:
        name = member.filename
        if member.compress_size > packed:  # reading it would ask for that much memory
            raise Refused(f"{name!r} in the wheel is larger than the wheel itself", where=where)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refused(f"{name!r} in the wheel is a link or a device", where=where)
        if name in names or member.orig_filename != name or member.flag_bits & 1:
            raise Refused(
                f"{name!r} in the wheel is there twice, encrypted or misnamed", where=where
            )
        names.add(name)
    as_patch = (FilePatch(name, None, name, None, None, False, ()) for name in sorted(names))
    for _, path, why in unsafe_paths(as_patch):
        raise Refused(f"{path!r} in the wheel is {why}", where=where)
    for name in names:
        parts = name.split("/")
        if any("/".join(parts[:depth]) in names for depth in range(1, len(parts))):
            raise Refused(f"{name!r} in the wheel is inside another file", where=where)
    return sorted(members, key=lambda member: member.filename)


def is_native(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is native code for a CPU: ELF, Mach-O or PE by their
    magic numbers, not by its name. 64 bytes are enough, for Windows 1024."""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        order = ">" if head[5] == 2 else "<"
        return struct.unpack_from(f"{order}H", head, 18)[0] not in _GPU_MACHINES
    if head[:2] == b"MZ" and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        return head[at : at + 4] == b"PE\0\0"
    if len(head) < 8:
        return False
    magic, count = struct.unpack_from(">II", head)
    # A Java class file begins like a fat Mach-O file, but with its version, 45 or more, as count.
    return magic in _MACH_O or (magic in _FAT and 0 < count < 45)


def _write_commit(
    repo: Repo, settings: Settings, version: str, archive: zipfile.ZipFile, progress: Progress
) -> tuple[Oid, int, tuple[Native, ...]]:
    """Store the commit with one git process. Returns its id, the number of its files, and the
    native files that it lacks. No ref points to it yet: a killed run leaves a pack that git prunes.
    """
    project = settings.indexed
    message = (
        f"{project} {version}, as released\n\nThe wheel's files without metadata and native code.\n"
    )
    branch = f"refs/fixtool/importing/{version}"  # lives inside that process only
    stream = [
        f"commit {branch}\nmark :1\nauthor {MACHINE}\ncommitter {MACHINE}\n"
        f"data {len(message.encode())}\n{message}\n".encode()
    ]
    natives = []
    members = [
        member
        for member in safe_members(archive)
        if not member.filename.split("/", 1)[0].endswith(".dist-info")
    ]
    with progress.task(f"import {project} {version}", len(members)) as task:
        for member in members:
            data = archive.read(member)
            task.advance(1)
            if is_native(data[:1024]):
                digest = hashlib.sha256(data).hexdigest()
                natives.append(Native(member.filename, digest, len(data)))
                continue
            # safe_members refuses backslashes, so quotes are all that needs one here.
            path = f"{settings.release_root}{member.filename}".replace('"', '\\"')
            stream += [f'M 100644 inline "{path}"\ndata {len(data)}\n'.encode(), data, b"\n"]
        stream.append(f"get-mark :1\nreset {branch}\nfrom {ZERO}\n\ndone\n".encode())
        # The files are unrelated: deltas between them take 2 s and save nothing.
        out = repo.run(
            "-c", "pack.compression=1", "-c", "core.compression=1",
            "fast-import", "--quiet", "--done", "--depth=0", stdin=b"".join(stream),
        )  # fmt: skip
    return Oid(out.text), len(members) - len(natives), tuple(natives)


def _day_of_build(archive: zipfile.ZipFile) -> str:
    """The newest day that a file of a wheel bears. The format of zip begins with 1980."""
    days = [date(1980, 1, 1)]
    for member in archive.infolist():
        with suppress(ValueError):  # a damaged date, such as month 0
            days.append(date(*member.date_time[:3]))
    return max(days).isoformat()


def _point(repo: Repo, version: str, commit: Oid) -> None:
    """Point the release's ref to ``commit``. Another run may hold git's lock for a moment."""
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
        write_atomically(path, json.dumps(asdict(release), indent=1))
    except OSError as error:
        raise CannotRun(
            f"cannot write the release's record: {error.strerror}", where=str(path)
        ) from error


def _public(wheel: WheelFile) -> WheelFile:
    return WheelFile(**asdict(wheel) | {"url": redact(wheel.url)})
