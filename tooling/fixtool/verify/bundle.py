"""A plan in one file, with the wheels that a bare GPU host lacks: no network, another Python.

``[bundle]`` in verify/checks.toml says for which host: ``python`` ("3.12"), ``arch`` ("x86_64"),
``requirements`` (below verify/; every package by name, since none is resolved there) and ``drop``,
globs of what these checks never load (a CUDA library for another GPU weighs 100 MB).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.errors import CannotRun, Refused
from fixtool.files import lock, private_folder
from fixtool.interpreter import last_line, run
from fixtool.progress import Progress
from fixtool.settings import Settings
from fixtool.verify._folder import add_file, write_folder
from fixtool.verify._plan import Planned
from fixtool.verify.suite import Suite

TOP = "fixtool-verify"
"""The one folder that a bundle unpacks to."""

_NEWEST_GLIBC = 39  # pip matches a manylinux_2_N tag exactly, so every N is named


@dataclass(frozen=True)
class HostPackages:
    """What the bundle is for, as checks.toml says."""

    python: str
    arch: str
    requirements: str
    drop: tuple[str, ...]


@dataclass(frozen=True)
class Bundle:
    """``size`` and ``site_size`` in bytes; ``command`` runs it on the host."""

    path: Path
    size: int
    site_size: int
    steps: int
    trees: int
    python: str | None

    @property
    def command(self) -> str:
        return f"tar xf {self.path.name} && python3 {TOP}/run.py"


def read_host(suite: Suite) -> HostPackages | None:
    """None where checks.toml asks for no wheels: the host has what the checks need."""
    path = suite.folder / "checks.toml"
    table = tomllib.loads(path.read_text("utf-8")).get("bundle") if path.is_file() else None
    if table is None:
        return None
    host = HostPackages(
        str(table.get("python", "")), str(table.get("arch", "x86_64")),
        str(table.get("requirements", "")), tuple(map(str, table.get("drop", ()))),
    )  # fmt: skip
    if not host.python or not (suite.folder / host.requirements).is_file():
        raise Refused(
            '[bundle] wants python = "3.x" and requirements = a file below verify/',
            where=str(path),
        )
    return host


def bundle(planned: Planned, path: Path, settings: Settings, progress: Progress) -> Bundle:
    """Write the bundle to ``path``, whole or not at all."""
    host = read_host(planned.suite)
    site = _site(planned.suite, host, settings, progress) if host else None
    path = path.absolute()
    if not path.parent.is_dir():
        raise CannotRun(f"there is no folder {path.parent}", where=str(path.parent))
    with tempfile.TemporaryDirectory(prefix=".fixtool-bundle-", dir=path.parent) as at:
        folder, staged = Path(at) / TOP, Path(at) / path.name
        folder.mkdir()
        write_folder(planned, folder, progress, xz=True)
        if site is not None:
            shutil.copyfile(site, folder / "site.tar.xz")
        with tarfile.open(staged, "w") as tar:
            for file in _files(folder):
                add_file(tar, f"{TOP}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        staged.replace(path)
    return Bundle(
        path, path.stat().st_size, site.stat().st_size if site else 0,
        len(planned.plan.steps), len(planned.plan.trees), host.python if host else None,
    )  # fmt: skip


def _site(suite: Suite, host: HostPackages, settings: Settings, progress: Progress) -> Path:
    """The host's packages as one archive, kept by what they are made from."""
    wanted = (suite.folder / host.requirements).read_text("utf-8")
    key = "\n".join([host.python, host.arch, *host.drop, wanted])
    folder = private_folder(settings.cache / "sites")
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.tar.xz"
    with lock(folder / "lock", f"the folder of host packages {folder}"):
        if path.is_file():
            return path
        with tempfile.TemporaryDirectory(prefix=".site-", dir=folder) as at:
            site = Path(at) / "site"
            with progress.task(f"fetching packages for Python {host.python}"):
                _install(suite.folder / host.requirements, host, site)
            staged = Path(at) / path.name
            with (
                progress.task("packing them") as task,
                tarfile.open(staged, "w:xz", preset=6) as tar,
            ):
                for file in _files(site):
                    name = file.relative_to(site).as_posix()
                    if not _dropped(name, host.drop):
                        executable = "100755" if os.access(file, os.X_OK) else "100644"
                        add_file(tar, name, file.read_bytes(), executable)
                        task.advance(1)
            staged.replace(path)
    return path


def _install(requirements: Path, host: HostPackages, site: Path) -> None:
    platforms = [f"manylinux_2_{n}_{host.arch}" for n in range(_NEWEST_GLIBC, 4, -1)]
    platforms += [f"manylinux2014_{host.arch}", f"linux_{host.arch}"]
    done = run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps",
         "--disable-pip-version-check", "--no-compile", "--only-binary=:all:",
         "--python-version", host.python, "--implementation", "cp",
         *(word for one in platforms for word in ("--platform", one)),
         "--target", str(site), "--requirement", str(requirements)]
    )  # fmt: skip
    if done.returncode != 0:
        hint = f"see pip's whole message: {sys.executable} -m pip download -r {requirements}"
        if "No module named pip" in done.stderr:
            hint = f"{sys.executable} -m ensurepip"
        raise CannotRun(
            f"cannot bring the packages of {requirements.name} for Python {host.python}: "
            f"{last_line(done)}",
            where=str(requirements), hint=hint,
        )  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    return (one for one in sorted(folder.rglob("*")) if one.is_file())


def _dropped(name: str, patterns: Sequence[str]) -> bool:
    return (
        name.startswith("bin/")
        or "__pycache__/" in name
        or any(fnmatch.fnmatchcase(name, one) for one in patterns)
    )
