"""Proves what is installed for an interpreter, or names the files that differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fixtool.git.objects import Oid
from fixtool.install import contents
from fixtool.install._ask import Imported, stale_bytecode
from fixtool.install._transaction import unfinished
from fixtool.install.bytecode import cached
from fixtool.install.find import Found, first_on_path
from fixtool.install.project import Project, find_project
from fixtool.install.state import Installation, digest_of, read_installation
from fixtool.series.line import Line, PatchRepository


class Fault(StrEnum):
    """What can be wrong with what is installed."""

    NOT_INSTALLED = "not-installed"  # no series was put in
    UNFINISHED = "unfinished"  # a run was killed, and the next one will finish it
    EDITED = "edited"
    MISSING = "missing"
    RECORD = "record"  # RECORD is not what it should be
    STALE_BYTECODE = "stale-bytecode"
    SHADOWED = "shadowed"  # a copy that comes earlier is loaded instead
    ELSEWHERE = "elsewhere"  # an import loads another file
    MOVED = "moved"  # the checkout is at another commit
    TREE = "tree"  # the files do not give the tree of the series
    OUTDATED = "outdated"  # the line has changed since it was put in


@dataclass(frozen=True)
class Problem:
    """A ``fault``, the file that has it, and a sentence about it."""

    fault: Fault
    path: str
    message: str


@dataclass(frozen=True)
class Status:
    """What is installed. ``installation`` is what ``install`` put in, None if nothing; ``tree`` is
    the id that git gives to the package's files as they are now."""

    found: Found
    installation: Installation | None
    tree: Oid
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether exactly the installed line is there, and an import loads it."""
        return not self.problems


def read_status(
    candidates: Sequence[Project],
    python: str,
    here: Path,
    repository: PatchRepository | None = None,
) -> Status:
    """What ``python`` has installed of ``candidates``, and what is not as it should be. ``here`` is
    the folder of the user, in which Python looks first. With a ``repository``, the line that was
    put in is compared with the one there. Nothing is changed, and no network is needed. Raises the
    errors of ``find``."""
    _, found = find_project(python, candidates, first_on_path(os.environ, here))
    installation = read_installation(found.place)
    tree = contents.package_tree(found, installation)
    problems = [*_unfinished(found, installation), *_files(found, installation)]
    problems += _record(found, installation, {problem.path for problem in problems})
    problems += _bytecode(found, installation)
    problems += _imports(found)
    own = found.checkout is not None and bool(contents.notes(found, installation))
    if installation and not problems and tree != installation.package_tree and not own:
        message = f"the files give the tree {tree[:12]}, not {installation.package_tree[:12]}"
        problems.append(Problem(Fault.TREE, found.package, message))
    notes = contents.notes(found, installation)
    if installation and repository:
        if installation.manifest.line in repository.line_names:
            problems += _outdated(repository.line(installation.manifest.line), installation)
        else:
            name = installation.manifest.line
            notes += (f"{repository.folder} has no line {name}, so it was not compared with it",)
    return Status(found, installation, tree, tuple(problems), notes)


def _outdated(line: Line, installation: Installation) -> Iterator[Problem]:
    """How the line has changed since it was put in."""
    now = {patch.slug: patch.digest for patch in line.patches}
    then = {patch.slug: patch.sha256 for patch in installation.manifest.patches}
    if list(now.items()) == list(then.items()):
        return
    changes = {
        "changed": [slug for slug in now if slug in then and now[slug] != then[slug]],
        "new": [slug for slug in now if slug not in then],
        "gone": [slug for slug in then if slug not in now],
    }
    told = [f"{', '.join(slugs)} {'is' if len(slugs) == 1 else 'are'} {how}"
            for how, slugs in changes.items() if slugs]  # fmt: skip
    what = "; ".join(told) or "the patches are in another order"
    message = f"the line has changed since it was put in: {what}"
    yield Problem(Fault.OUTDATED, str(line.folder), f"{message}; fixtool install puts it in")


def _unfinished(found: Found, installation: Installation | None) -> Iterator[Problem]:
    if unfinished(found.place):
        yield Problem(
            Fault.UNFINISHED, str(found.place.coming),
            "a run of fixtool was killed here; the next install or uninstall finishes it",
        )  # fmt: skip
    elif installation is None:
        what = f"{found.project} {found.version}"
        yield Problem(Fault.NOT_INSTALLED, found.package, f"no series is in {what}")


def _files(found: Found, installation: Installation | None) -> Iterator[Problem]:
    """The files of the series that are not as it made them, and whether HEAD has moved."""
    if installation is None or unfinished(found.place):
        return
    if found.version != installation.version:
        yield Problem(
            Fault.MOVED, found.package,
            f"the series was put onto {installation.version[:12]}, and this is "
            f"{found.version[:12]}",
        )  # fmt: skip
    for file in installation.sources:
        digest = digest_of(found.place.root / file.path)
        if digest == file.new:
            continue
        if digest is None:
            yield Problem(Fault.MISSING, file.path, "the series has put it in, and it is gone")
        else:
            message = "it was changed after the series had been put in"
            yield Problem(Fault.EDITED, file.path, message)


def _record(found: Found, installation: Installation | None, known: set[str]) -> Iterator[Problem]:
    """The files that are not as RECORD says, and RECORD itself."""
    if found.place.record is None or unfinished(found.place):
        return
    for path, message in contents.wrong_rows(found):
        if path not in known:
            fault = Fault.MISSING if message == "is missing" else Fault.EDITED
            yield Problem(fault, path, f"it {message}")
    if installation and not known and not contents.record_is_right(found.place, installation):
        message = "its lines are not those that fixtool wrote"
        yield Problem(Fault.RECORD, found.place.record, message)
    for path in contents.shadowing(found, contents.strangers(found)):
        message = "Python loads it instead of the module of that name, and RECORD does not list it"
        yield Problem(Fault.SHADOWED, path, message)


def _bytecode(found: Found, installation: Installation | None) -> Iterator[Problem]:
    """Bytecode of the series' files that Python would take although another source gave it."""
    if installation is None:
        return
    believed = [
        (found.place.root / file.path, cache.path, cache.level)
        for file in installation.sources
        if (found.place.root / file.path).is_file()
        for cache in cached(found.place.root / file.path)
        if cache.tag == found.facts.cache_tag and cache.believed(found.place.root / file.path)
    ]
    for path in stale_bytecode(found.facts.python, believed):
        name = Path(path).relative_to(found.place.root).as_posix()
        message = "Python takes it for the file's bytecode, and it comes from another text"
        yield Problem(Fault.STALE_BYTECODE, name, message)


def _imports(found: Found) -> Iterator[Problem]:
    """Copies of the package that an import loads instead."""
    for imported in found.facts.imports:
        expected = _expected(found, imported)
        if imported.first and not _same(imported.first[1], expected):
            yield Problem(
                Fault.SHADOWED, imported.first[1],
                f"{imported.first[0]} comes first on the path, so an import of {imported.name} "
                "from here loads this file",
            )  # fmt: skip
        if imported.origin is None:
            message = f"an import of {imported.name} finds nothing"
            yield Problem(Fault.ELSEWHERE, str(expected), message)
        elif not _same(imported.origin, expected):
            yield Problem(
                Fault.ELSEWHERE, imported.origin,
                f"an import of {imported.name} loads this file, not that of {found.project} "
                f"{found.version} in {found.place.root}",
            )  # fmt: skip


def _expected(found: Found, imported: Imported) -> Path:
    """The file that an import is to load."""
    top = found.folder.parent / imported.name
    return top / "__init__.py" if top.is_dir() else top.with_suffix(".py")


def _same(path: str, other: Path) -> bool:
    try:
        return Path(path).samefile(other)
    except OSError:
        return False
