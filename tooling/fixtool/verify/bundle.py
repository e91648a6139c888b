"""A plan in one file, for a bare GPU host: it has no network, another Python, and few packages.

``[bundle]`` in verify/checks.toml says for which host: ``python`` ("3.12"), ``arch`` ("x86_64"),
``requirements`` (below verify/; every package by name, since none is resolved there), ``drop``,
globs of what these checks never load (a CUDA library for another GPU weighs 100 MB), and
``capability`` ("9.0"): the GPU's, if the libraries are to lose the code of all others. A line whose
release pins other packages has keys of its own in ``[bundle.lines.LINE]``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from fixtool.documents import LARGEST_TEXT, Field, FieldError, parse_toml
from fixtool.errors import CannotRun, Refused
from fixtool.files import (
    lock,
    private_folder,
    read_at_most,
    require_file,
    temporary_folder,
    write_atomically,
)
from fixtool.interpreter import last_line, run
from fixtool.series.context import Context
from fixtool.sources.index import sha256_of
from fixtool.text import split_lines
from fixtool.verify._device_code import keep_code_for
from fixtool.verify._folder import add_file, write_folder
from fixtool.verify._plan import Planned
from fixtool.verify.suite import Suite

TOP = "fixtool-verify"
"""The one folder that a bundle unpacks to."""

_LONGEST = 250  # characters of a path
_HASH = re.compile(r"(?:^|(?<=\s))--hash=sha256:[0-9a-f]{64}(?=\s|$)")
_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
_PRESET: Final = 3  # of xz: 6 takes twice as long, for a tenth less
_NEWEST_GLIBC = 39  # pip matches a manylinux_2_N tag exactly, so every N is named


@dataclass(frozen=True)
class HostPackages:
    """The packages that a bundle carries for its host, as checks.toml says: for which Python and
    machine, the file that lists them, and globs of the files to leave out. ``capability`` is the
    GPU's (90 for 9.0): libraries lose the code of all others. None: they keep it."""

    python: str
    arch: str
    requirements: Path
    drop: tuple[str, ...]
    capability: int | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written. ``size`` and ``site_size`` are in bytes; ``command`` runs it on
    the host; ``python`` is None if it carries no packages."""

    path: Path
    size: int
    site_size: int
    steps: int
    trees: int
    python: str | None

    @property
    def command(self) -> str:
        return f"tar xf {self.path.name} && python3 {TOP}/run.py"


def read_host_packages(suite: Suite, line: str) -> HostPackages | None:
    """The packages for the host of a bundle of ``line``. None if checks.toml asks for none: the
    host has what the checks need. Raises Refused if the table is not complete."""
    path = suite.folder / "checks.toml"
    raw = read_at_most(path, LARGEST_TEXT) if path.is_file() else b""
    table = Field(parse_toml(raw, str(path)), "")["bundle"]
    if table.value is None:
        return None
    try:
        packages = _read_table(suite, table, line)
    except FieldError as error:
        raise Refused(f"{error}", where=str(path)) from error
    inside = packages.requirements.resolve().is_relative_to(suite.folder.resolve())
    if not packages.python or not inside or not packages.requirements.is_file():
        raise Refused(
            '[bundle] wants python = "3.x" and requirements = a file below verify/',
            where=str(path),
        )
    return packages


def _read_table(suite: Suite, table: Field, line: str) -> HostPackages:
    """A key of the line's own table takes the place of the general one."""
    lines = table["lines"]
    own = lines if lines.value is None else lines[line]

    def value(name: str) -> Field:
        return own[name] if own.value is not None and name in own.table() else table[name]

    requirements = value("requirements").text()
    if len(requirements) > _LONGEST or "\0" in requirements:
        raise value("requirements").wrong("a path below verify/")
    capability = value("capability").optional(Field.text)
    if capability is not None and not _CAPABILITY.fullmatch(capability):
        raise value("capability").wrong("a compute capability such as 9.0")
    return HostPackages(
        value("python").text(),
        value("arch").optional(Field.text) or "x86_64",
        suite.folder / requirements,
        value("drop").optional(Field.texts) or (),
        int(capability.replace(".", "")) if capability else None,
    )


def write_bundle(context: Context, planned: Planned, path: Path) -> Bundle:
    """Write the bundle to ``path``, whole or not at all. Raises CannotRun if there is no such
    folder, or if pip cannot bring the packages."""
    path = path.absolute()
    require_file(path, "--bundle")
    packages = read_host_packages(planned.suite, planned.plan.about["line"])
    site = _site(context, packages) if packages else None
    with temporary_folder(".fixtool-bundle-", path.parent) as scratch:
        folder, staged = scratch / TOP, scratch / path.name
        folder.mkdir()
        write_folder(planned, folder, context.progress, xz=True)
        if site is not None:
            shutil.copyfile(site, folder / "site.tar.xz")
        with tarfile.open(staged, "w") as tar:
            for file in _files(folder):
                add_file(tar, f"{TOP}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        staged.replace(path)
    return Bundle(
        path, path.stat().st_size, site.stat().st_size if site else 0,
        len(planned.plan.steps), len(planned.plan.trees), packages.python if packages else None,
    )  # fmt: skip


def read_requirements(wanted: str, where: str) -> list[str]:
    """The releases that a requirements file names, as pip is then given them. Raises Refused if it
    holds anything else: pip would build a folder, a repository or an archive, which runs its
    setup.py here, and its options can put a variable of the environment into an address."""
    releases: list[str] = []
    for number, line in enumerate(split_lines(wanted), 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip().removesuffix("\\")
        name = _HASH.sub("", text).strip()
        try:
            if name:
                if (requirement := Requirement(name)).url:
                    raise InvalidRequirement(name)
                releases.append(str(requirement))
            if hashes := _HASH.findall(text):
                releases[-1] = " ".join([releases[-1], *hashes])
        except (InvalidRequirement, IndexError) as error:
            raise Refused(
                f"{name[:80]!r} is not the name of a package with a version",
                where=f"{where}:{number}",
                hint="name another index with PIP_INDEX_URL or PIP_EXTRA_INDEX_URL",
            ) from error
    return releases


def _site(context: Context, packages: HostPackages) -> Path:
    """The packages as one archive, cached by what they are made from."""
    wanted = read_at_most(packages.requirements, LARGEST_TEXT).decode("utf-8", "surrogateescape")
    releases = read_requirements(wanted, str(packages.requirements))
    capability = [] if packages.capability is None else [f"capability {packages.capability}"]
    key = "\n".join([packages.python, packages.arch, *packages.drop, *capability, wanted])
    folder = private_folder(context.settings.cache / "sites")
    path = (
        folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.tar.xz"
    )
    note = path.with_suffix(".sha256")
    with lock(folder / "lock", f"the folder of host packages {folder}"):
        if path.is_file() and note.is_file() and note.read_bytes() == sha256_of(path).encode():
            return path
        with temporary_folder(".site-", folder) as scratch:
            site, staged = scratch / "site", scratch / path.name
            with context.progress.task(f"fetching packages for Python {packages.python}"):
                checked = scratch / "requirements.txt"
                checked.write_text("".join(f"{release}\n" for release in releases), "utf-8")
                _install(packages, checked, site)
            with (
                context.progress.task("packing them") as task,
                tarfile.open(staged, "w:xz", preset=_PRESET) as tar,
            ):
                for file in _files(site):
                    name = file.relative_to(site).as_posix()
                    if not _dropped(name, packages.drop):
                        if packages.capability is not None:
                            keep_code_for(file, packages.capability)
                        mode = "100755" if os.access(file, os.X_OK) else "100644"
                        add_file(tar, name, file.read_bytes(), mode)
                        task.advance(1)
            write_atomically(note, sha256_of(staged))
            staged.replace(path)
    return path


def _install(packages: HostPackages, checked: Path, site: Path) -> None:
    arch, requirements = packages.arch, packages.requirements
    platforms = [f"manylinux_2_{minor}_{arch}" for minor in range(_NEWEST_GLIBC, 4, -1)]
    platforms += [f"manylinux2014_{arch}", f"linux_{arch}"]
    process = run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps",
         "--disable-pip-version-check", "--no-compile", "--only-binary=:all:",
         "--python-version", packages.python, "--implementation", "cp",
         *(word for platform in platforms for word in ("--platform", platform)),
         "--target", str(site), "--requirement", str(checked)],
        credentials=True,
    )  # fmt: skip
    if process.returncode != 0:
        hint = f"see pip's whole message: {sys.executable} -m pip download -r {requirements}"
        if "No module named pip" in process.stderr:
            hint = f"{sys.executable} -m ensurepip"
        raise CannotRun(
            f"cannot bring the packages of {requirements.name} for Python {packages.python}: "
            f"{last_line(process)}",
            where=str(requirements), hint=hint,
        )  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _dropped(name: str, patterns: Sequence[str]) -> bool:
    return (
        name.startswith("bin/")
        or "__pycache__/" in name
        or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    )
