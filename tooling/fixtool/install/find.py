"""Finds where a project is installed for an interpreter: as a package, or from a checkout."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fixtool.errors import CannotRun, Refused
from fixtool.git.repo import Repo
from fixtool.install._ask import Distribution, Facts, ask
from fixtool.install.state import Place
from fixtool.sources.resolve import version_of
from fixtool.text import argument


@dataclass(frozen=True)
class Found:
    """An installed project. ``version`` is its release, or the commit of its ``checkout``, which is
    None for a package. ``name`` is what is imported, and ``package`` its path below the place."""

    project: str
    version: str
    name: str
    package: str
    place: Place
    facts: Facts
    checkout: Repo | None

    @property
    def folder(self) -> Path:
        """The folder, or the file, that an import is to load."""
        return self.place.root / self.package

    @property
    def package_in_git(self) -> str:
        """The path of the package in the tree of git."""
        return f"{self.place.prefix}{self.package}"


def first_on_path(environment: Mapping[str, str], here: Path) -> list[str]:
    """The folders in which an interpreter looks before all others when the user runs it in the
    folder ``here``."""
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [str(here), *(str(here / entry) for entry in entries if entry)]


def find(python: str, project: str, root: str, first: Sequence[str] = ()) -> Found:
    """Where ``project`` is installed for ``python``. ``root`` is the folder that holds its files in
    the commit of a release; ``first`` as in ``first_on_path``.

    Raises UsageError if there is no such interpreter, CannotRun if the project is not installed,
    and Refused if it cannot be said which files of which release are there: there are two
    distributions, there is no RECORD, or it was installed from a commit.
    """
    facts = ask(python, project, first)
    whole = [item for item in facts.distributions if item.path.endswith(".dist-info")]
    # A checkout that is installed as editable has an .egg-info too, which the build left there.
    known = whole or list(facts.distributions)
    if not known:
        raise CannotRun(
            f"{project} is not installed for {python}",
            where=facts.python,
            hint=f"install it: {argument(python)} -m pip install {project}; or see what is there: "
            f"{argument(python)} -m pip list",
        )
    if len(known) > 1:
        raise Refused(
            f"there are {len(known)} distributions of {project}: "
            + ", ".join(f"{item.version} in {Path(item.path).parent}" for item in known),
            where=facts.python,
            hint=f"{argument(python)} -m pip uninstall {project}, until it says that there is none;"
            " then install one",
        )
    (distribution,) = known
    if (folder := _editable(distribution)) is not None:
        return _checkout(facts, project, folder)
    return _package(facts, project, distribution, root)


def _editable(distribution: Distribution) -> Path | None:
    """The folder of a project that is installed as editable; None if it is not."""
    if not distribution.path.endswith(".dist-info"):
        return Path(distribution.path).parent
    with_url = _direct_url(distribution)
    info = with_url.get("dir_info")
    if not isinstance(info, dict) or not info.get("editable"):
        return None
    try:
        return Path(unquote(urlsplit(str(with_url.get("url"))).path))
    except ValueError as error:
        raise Refused(
            f"direct_url.json has no address that can be read: {error}", where=distribution.path
        ) from error


def _direct_url(distribution: Distribution) -> dict[str, object]:
    try:
        value = json.loads(distribution.direct_url or "{}")
    except (ValueError, RecursionError):
        value = {}
    return value if isinstance(value, dict) else {}


def _package(facts: Facts, project: str, distribution: Distribution, prefix: str) -> Found:
    info = Path(distribution.path)
    with_url, version = _direct_url(distribution), version_of(distribution.version)
    if not distribution.record:
        raise Refused(
            f"{project} has no RECORD, so nobody can say which files are its own",
            where=str(info),
            hint=f"install it with pip: {argument(facts.python)} -m pip install --force-reinstall "
            f"--no-deps {project}",
        )
    if version is None:
        raise Refused(f"{distribution.version!r} is the version of no release", where=str(info))
    if "vcs_info" in with_url:
        raise Refused(
            f"{project} {distribution.version} was built from a commit, so it is no release",
            where=str(info),
            hint="apply the series to that commit, and install the wheel: fixtool apply --help",
        )
    if re.search(r"\+(.*\.)?fixtool\b", version):
        raise Refused(
            f"{project} {version} is a wheel that fixtool built: the series is in it already",
            where=str(info),
            hint=f"install the release to change that: {argument(facts.python)} -m pip install "
            f"--no-deps {project}=={version.partition('+')[0]}",
        )
    name = facts.imports[0].name
    root = info.parent
    package = name if (root / name).is_dir() else f"{name}.py"
    place = Place(root, info / "fixtool", f"{info.name}/RECORD", prefix)
    return Found(project, version, name, package, place, facts, None)


def _checkout(facts: Facts, project: str, folder: Path) -> Found:
    try:
        repo = Repo.open(folder)
    except CannotRun as error:
        raise CannotRun(
            f"{project} is installed from {folder}, and that is in no git repository: {error}",
            where=str(folder),
            hint=error.hint or f"{argument(facts.python)} -m pip install {project}",
        ) from error
    head = repo.head()
    if repo.work_tree is None or head is None:
        raise CannotRun(f"{folder} has no commit", where=str(folder))
    imported = facts.imports[0]
    candidates = [folder / imported.name, folder / "src" / imported.name]
    if imported.origin:
        candidates.insert(0, Path(imported.origin).parent)
    top = repo.work_tree.resolve()
    package = next((path.resolve() for path in candidates
                    if path.is_dir() and path.resolve().is_relative_to(top)), None)  # fmt: skip
    if package is None:
        raise CannotRun(f"{folder} has no folder {imported.name}", where=str(folder))
    place = Place(top, repo.git_dir / "fixtool-install", None, "")
    path = package.relative_to(top).as_posix()
    return Found(project, head, imported.name, path, place, facts, repo)
