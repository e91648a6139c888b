"""The suite of a patch repository: what ``verify/`` holds, as data. Nothing of it is imported.

``verify/checks.toml`` names the checks, ``verify/mutants/*.toml`` the breakages that they and the
probes must notice, and each patch's ``Probe:`` trailer its own probe; verify/README.md is the
format.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from fixtool.errors import Refused
from fixtool.series.line import Line, PatchRepository

BASE, SERIES = "base", "series"
PROBE_TIMEOUT = 300


def alone(slug: str) -> str:
    """The name of the tree that is the base and one patch (with what it depends on)."""
    return f"+{slug}"


def undone(slug: str) -> str:
    """The name of the tree that is the base with a fix taken out again."""
    return f"-{slug}"


@dataclass(frozen=True)
class Probe:
    """A patch's own proof: is the bug in this tree? ``script`` is a path below verify/."""

    slug: str
    script: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """What runs besides the probes. ``tree`` names the tree it runs on; ``lines`` and ``patches``
    say for whom (empty: all); ``needs`` is None or "gpu"; ``parallel`` is one that runs only where
    --tp or --pp is asked for, and takes both; ``timeout`` is in seconds."""

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
        """Whether it is for ``line`` on commit ``onto``. What is to be seen without the series, or
        with a part of it, is known of the line's own base only."""
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
    """A small breakage of what ``patch`` does, and the ``killer`` that must notice: a check's name,
    "probe" for that patch's own, or a script's path. With ``undo``, it leaves the tree as though
    the fix had never been made."""

    name: str
    patch: str
    what: str
    killer: str
    edits: tuple[Edit, ...]
    undo: bool = False


@dataclass(frozen=True)
class Suite:
    folder: Path
    checks: tuple[Check, ...]
    mutants: tuple[Mutant, ...]

    def check(self, name: str) -> Check | None:
        return next((one for one in self.checks if one.name == name), None)

    def undo(self, slug: str) -> tuple[Mutant, ...]:
        return tuple(one for one in self.mutants if one.undo and one.patch == slug)


def read_suite(repository: PatchRepository) -> Suite:
    """Raises Refused, with the file, where something in it is not as the format wants it."""
    folder = repository.root / "verify"
    if not folder.is_dir():
        raise Refused(
            f"{repository.root} has no verify/ folder, so there is nothing to prove a patch with",
            where=str(repository.root),
            hint="write verify/probes/<slug>.py, and name it in the patch: Probe: probes/<slug>.py",
        )
    checks = tuple(
        _check(one, folder / "checks.toml") for one in _tables(folder / "checks.toml", "check")
    )
    mutants = tuple(
        _mutant(one, path)
        for path in sorted((folder / "mutants").glob("*.toml"))
        for one in _tables(path, "mutant")
    )
    for kind, names in (
        ("check", [one.name for one in checks]), ("mutant", [one.name for one in mutants]),
    ):  # fmt: skip
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Refused(f"two {kind}s are named {twice[0]!r}", where=str(folder))
    for check in checks:
        _script(folder, check.script, f"{folder / 'checks.toml'}: check {check.name!r}")
    known = {"probe", *(one.name for one in checks)}
    for mutant in mutants:
        if mutant.killer.endswith(".py"):
            _script(folder, mutant.killer, f"{folder / 'mutants'}: mutant {mutant.name!r}")
        elif mutant.killer not in known:
            raise Refused(
                f"mutant {mutant.name!r} names a killer that is no check: {mutant.killer!r}",
                where=str(folder / "mutants"),
                hint=f"one of: {', '.join(sorted(known))}",
            )
    return Suite(folder, checks, mutants)


def probes(repository: PatchRepository, line: Line) -> tuple[Probe, ...]:
    """The probes that tell of ``line``: its own patches', in order, then those of patches that only
    other lines carry (did the bug come, or go, on this base?)."""
    found = {patch.slug: _probe(patch.trailer("Probe"), patch.slug, line) for patch in line.patches}
    for other in repository.lines:
        for patch in other.patches:
            if patch.slug not in found and patch.trailer("Probe"):
                found[patch.slug] = _probe(patch.trailer("Probe"), patch.slug, other)
    return tuple(found.values())


def _probe(trailer: str | None, slug: str, line: Line) -> Probe:
    where = f"{line.folder / slug}.patch"
    if not trailer:
        raise Refused(
            f"{slug} has no Probe: trailer, so nobody can prove that it is needed",
            where=where,
            hint=f"write verify/probes/{slug}.py and add: Probe: probes/{slug}.py",
        )
    script, *args = shlex.split(trailer)
    _script(line.folder.parents[1] / "verify", script, where)
    return Probe(slug, script, tuple(args))


def _script(folder: Path, script: str, where: str) -> None:
    path = PurePosixPath(script)
    if path.is_absolute() or ".." in path.parts:
        raise Refused(f"{script!r} leads out of verify/", where=where)
    if not (folder / path).is_file():
        raise Refused(
            f"there is no verify/{script}", where=where, hint="write it, or mend the name"
        )


def _tables(path: Path, kind: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        tables = tomllib.loads(path.read_text("utf-8")).get(kind, [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not valid TOML: {error}", where=str(path)) from error
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise Refused(f"wanted [[{kind}]] tables", where=str(path))
    return tables


def _check(table: Mapping[str, Any], path: Path) -> Check:
    given = _known(table, Check, path, ("name", "script"))
    check = Check(**given)
    if check.needs not in (None, "gpu"):
        raise Refused(f"check {check.name!r}: only gpu can be needed", where=str(path))
    if check.tree not in (BASE, SERIES) and not check.tree.startswith("+"):
        raise Refused(f"check {check.name!r}: no tree is called {check.tree!r}", where=str(path))
    return check


def _mutant(table: Mapping[str, Any], path: Path) -> Mutant:
    tables = table.get("edit", [])
    edits = tuple(Edit(**_known(one, Edit, path, ("files", "find", "replace"))) for one in tables)
    rest = {key: value for key, value in table.items() if key != "edit"}
    mutant = Mutant(
        **_known({**rest, "edits": edits}, Mutant, path, ("name", "patch", "what", "killer"))
    )
    if not edits:
        raise Refused(f"mutant {mutant.name!r} edits nothing", where=str(path))
    for edit in edits:
        try:
            re.compile(edit.find)
        except re.error as error:
            raise Refused(f"mutant {mutant.name!r}: find: {error}", where=str(path)) from error
    return mutant


def _known(
    table: Mapping[str, Any], kind: type[Any], path: Path, needed: tuple[str, ...]
) -> dict[str, Any]:
    """``table`` with lists as tuples; Refused for a key that is unknown, missing or mistyped."""
    types = {one.name: str(one.type) for one in fields(kind)}
    name = table.get("name", "")
    if missing := [key for key in needed if key not in table]:
        raise Refused(f"{kind.__name__.lower()} {name!r} has no {missing[0]!r}", where=str(path))
    given = {}
    for key, value in table.items():
        plain = tuple(value) if isinstance(value, list) else value
        said = types.get(key)
        if said is None:
            raise Refused(f"{kind.__name__.lower()} {name!r}: unknown key {key!r}", where=str(path))
        texts = isinstance(plain, tuple) and all(isinstance(one, str) for one in plain)
        fits = {
            "str": isinstance(plain, str), "str | None": isinstance(plain, str),
            "bool": isinstance(plain, bool), "int": type(plain) is int,
            "tuple[str, ...]": texts, "tuple[Edit, ...]": True,
        }  # fmt: skip
        if not fits[said]:
            raise Refused(
                f"{kind.__name__.lower()} {name!r}: {key} is not a {said}", where=str(path)
            )
        given[key] = plain
    return given
