"""The suite of a patch repository: what its ``verify/`` holds, as data. fixtool imports none of it.

``verify/checks.toml`` names the checks, ``verify/mutants/*.toml`` the breakages that they and the
probes must notice, and each patch's ``Probe:`` trailer its own probe. docs/probes.md describes the
format.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from fixtool.documents import LARGEST_TEXT, parse_toml
from fixtool.errors import Mistyped, Refused
from fixtool.files import read_at_most
from fixtool.series.line import Line, PatchRepository

BASE, SERIES = "base", "series"
PROBE_TIMEOUT = 300
_LONGEST = 250  # characters of a script's path


def alone(slug: str) -> str:
    """The name of the tree that is the base and one patch, with those that it depends on."""
    return f"+{slug}"


def undone(slug: str) -> str:
    """The name of the tree that is the base with the fix of ``slug`` taken out."""
    return f"-{slug}"


@dataclass(frozen=True)
class Probe:
    """The script that says whether a patch's bug is in a tree; a path below verify/."""

    slug: str
    script: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A script that runs besides the probes, on the tree called ``tree``. It is for the ``lines``
    and for lines that carry the ``patches``; empty means all. ``needs`` is None or "gpu". A
    ``parallel`` check runs only with --tp or --pp, and takes both. ``timeout`` is in seconds."""

    name: str
    script: str
    args: tuple[str, ...] = ()
    tree: str = SERIES
    patches: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    needs: str | None = None
    model: bool = False
    parallel: bool = False
    timeout: int = 900
    wave: str = "checks"

    def is_for(self, line: Line, onto: str) -> bool:
        """Whether the check is for ``line`` on commit ``onto``. A check of another tree than the
        series runs only on the line's own base: on other commits its right answer is not known."""
        carried = {entry.slug for entry in line.entries}
        return (
            (not self.lines or line.name in self.lines)
            and carried >= set(self.patches)
            and (self.tree == SERIES or onto == line.upstream.base)
        )


@dataclass(frozen=True)
class Edit:
    """One regular expression that must match exactly once over those of ``files`` that exist."""

    files: tuple[str, ...]
    find: str
    replace: str


@dataclass(frozen=True)
class Mutant:
    """A small breakage of what ``patch`` does, and the ``killer`` that must notice it: a check's
    name, "probe" for the patch's own, or the path of a script. With ``undo``, it leaves the tree as
    though the fix had never been made."""

    name: str
    patch: str
    what: str
    killer: str
    edits: tuple[Edit, ...]
    undo: bool = False


@dataclass(frozen=True)
class Suite:
    """What verify/ holds besides the probes."""

    folder: Path
    checks: tuple[Check, ...]
    mutants: tuple[Mutant, ...]

    def check(self, name: str) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)

    def undo(self, slug: str) -> tuple[Mutant, ...]:
        return tuple(mutant for mutant in self.mutants if mutant.undo and mutant.patch == slug)


def read_suite(repository: PatchRepository) -> Suite:
    """Read verify/. Raises Refused, naming the file, if it does not follow the format."""
    folder = repository.root / "verify"
    if not folder.is_dir():
        raise Refused(
            f"{repository.root} has no verify/ folder, so there is nothing to prove a patch with",
            where=str(repository.root),
            hint="write a probe verify/probes/NAME.py, which ends with 1 if the bug is there and "
            "else with 0; then name it in the patch's message, as `Probe: probes/NAME.py`: "
            "fixtool reword SLUG",
        )
    file, mutant_folder = folder / "checks.toml", folder / "mutants"
    checks = tuple(_check(table, file) for table in _tables(file, "check"))
    mutants = tuple(
        _mutant(table, path)
        for path in sorted(mutant_folder.glob("*.toml"))
        for table in _tables(path, "mutant")
    )
    _require_different("check", [check.name for check in checks], folder)
    _require_different("mutant", [mutant.name for mutant in mutants], folder)
    for check in checks:
        _require_script(folder, check.script, f"{file}: check {check.name!r}")
    killers = {"probe", *(check.name for check in checks)}
    for mutant in mutants:
        if mutant.killer.endswith(".py"):
            _require_script(folder, mutant.killer, f"{mutant_folder}: mutant {mutant.name!r}")
        elif mutant.killer not in killers:
            raise Refused(
                f"mutant {mutant.name!r} names a killer that is no check: {mutant.killer!r}",
                where=str(mutant_folder),
                hint=f"one of: {', '.join(sorted(killers))}",
                mistyped=Mistyped(mutant.killer, tuple(sorted(killers))),
            )
    return Suite(folder, checks, mutants)


def _require_different(kind: str, names: list[str], folder: Path) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refused(f"two {kind}s are named {twice[0]!r}", where=str(folder))


def probes(repository: PatchRepository, line: Line) -> tuple[Probe, ...]:
    """The probes of the patches of ``line``, in order, then those of patches that only other lines
    carry: did their bug come, or go, on this base? Raises Refused if a patch of ``line`` has none.
    """
    by_slug = {
        patch.slug: _probe(patch.trailer("Probe"), patch.slug, line) for patch in line.patches
    }
    for other in repository.lines:
        for patch in other.patches:
            if patch.slug not in by_slug and patch.trailer("Probe"):
                by_slug[patch.slug] = _probe(patch.trailer("Probe"), patch.slug, other)
    return tuple(by_slug.values())


def _probe(trailer: str | None, slug: str, line: Line) -> Probe:
    where = f"{line.folder / slug}.patch"
    if not trailer:
        raise Refused(
            f"{slug} has no Probe: trailer, so nobody can prove that it is needed",
            where=where,
            hint=f"write verify/probes/{slug}.py, then name it in the patch's message, as `Probe: "
            f"probes/{slug}.py`: fixtool reword {slug} --line {line.name}",
        )
    try:
        script, *args = shlex.split(trailer)
    except ValueError as error:
        raise Refused(f"its Probe: trailer cannot be read: {error}", where=where) from error
    _require_script(line.folder.parents[1] / "verify", script, where)
    return Probe(slug, script, tuple(args))


def _require_script(folder: Path, script: str, where: str) -> None:
    path = PurePosixPath(script)
    if len(script) > _LONGEST or "\0" in script:
        raise Refused(f"{script[:60]!r}… is no path below verify/", where=where)
    if path.is_absolute() or ".." in path.parts:
        raise Refused(f"{script!r} leads out of verify/", where=where)
    if not (folder / path).is_file():
        raise Refused(
            f"there is no verify/{script}", where=where, hint="write it, or mend the name"
        )


def _tables(path: Path, kind: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    tables = parse_toml(read_at_most(path, LARGEST_TEXT), str(path)).get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise Refused(f"wanted [[{kind}]] tables", where=str(path))
    return tables


def _check(table: Mapping[str, Any], path: Path) -> Check:
    check = Check(**_known(table, Check, path, ("name", "script")))
    if check.needs not in (None, "gpu"):
        raise Refused(f"check {check.name!r}: only gpu can be needed", where=str(path))
    if check.tree not in (BASE, SERIES) and not check.tree.startswith("+"):
        raise Refused(f"check {check.name!r}: no tree is called {check.tree!r}", where=str(path))
    return check


def _mutant(table: Mapping[str, Any], path: Path) -> Mutant:
    tables = table.get("edit", [])
    if not isinstance(tables, list) or not all(isinstance(edit, dict) for edit in tables):
        raise Refused("wanted [[mutant.edit]] tables", where=str(path))
    edits = tuple(Edit(**_known(edit, Edit, path, ("files", "find", "replace"))) for edit in tables)
    rest = {key: value for key, value in table.items() if key != "edit"}
    mutant = Mutant(
        **_known({**rest, "edits": edits}, Mutant, path, ("name", "patch", "what", "killer"))
    )
    if not edits:
        raise Refused(f"mutant {mutant.name!r} edits nothing", where=str(path))
    for edit in edits:
        try:
            re.compile(edit.find)
        except (re.error, OverflowError, RecursionError) as error:
            raise Refused(f"mutant {mutant.name!r}: find: {error}", where=str(path)) from error
    return mutant


def _known(
    table: Mapping[str, Any], kind: type[Any], path: Path, needed: tuple[str, ...]
) -> dict[str, Any]:
    """``table`` with lists as tuples. Raises Refused if a key is unknown, missing or mistyped."""
    what = f"{kind.__name__.lower()} {table.get('name', '')!r}"
    types = {field.name: str(field.type) for field in fields(kind)}
    if missing := [key for key in needed if key not in table]:
        raise Refused(f"{what} has no {missing[0]!r}", where=str(path))
    values = {}
    for key, raw in table.items():
        value = tuple(raw) if isinstance(raw, list) else raw
        if key not in types:
            raise Refused(f"{what}: unknown key {key!r}", where=str(path))
        texts = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        fits = {
            "str": isinstance(value, str), "str | None": isinstance(value, str),
            "bool": isinstance(value, bool), "int": type(value) is int,
            "tuple[str, ...]": texts, "tuple[Edit, ...]": True,
        }  # fmt: skip
        if not fits[types[key]]:
            raise Refused(f"{what}: {key} is not a {types[key]}", where=str(path))
        values[key] = value
    return values
