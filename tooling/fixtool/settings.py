"""Where fixtool keeps its files, and the defaults of a patch repository.

Settings come from ``[tool.fixtool]`` in the patch repository's pyproject.toml, then from the
variables ``FIXTOOL_*``, then from flags. The later one wins.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fixtool.documents import LARGEST_TEXT, parse_toml, place_of_key
from fixtool.errors import Mistyped, Refused, UsageError
from fixtool.files import read_at_most
from fixtool.profile import PROFILES, SGLANG, Profile
from fixtool.text import argument, closest

_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


def place_of(root: Path, key: str, environment: Mapping[str, str] = os.environ) -> str:
    """Where the setting ``key`` of the patch repository at ``root`` is written: a variable, or a
    line of its pyproject.toml."""
    if environment.get(variable := f"FIXTOOL_{key.upper()}"):
        return f"the variable {variable}"
    where = f"{root}/pyproject.toml"
    with suppress(OSError):
        return place_of_key(read_at_most(Path(where), LARGEST_TEXT), key, where)
    return where


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default.

    The folder ``state`` holds object stores and work trees; ``cache`` holds downloads, wheels and
    verdicts, and is safe to delete. ``source`` None is the line's own: the package index for a
    line of a release, git for all others. ``profile`` None is recognised from the line.
    """

    state: Path
    cache: Path
    source: str | None = None
    line: str | None = None
    url: str | None = None  # of upstream, if it is not the one in upstream.toml
    profile: Profile | None = None
    project: str | None = None  # its name on the package index, if it is not the profile's
    python: str | None = None  # the target interpreter, which has upstream's dependencies
    timeout: float = 60.0  # seconds to wait for a byte of a server, and for another run

    @property
    def indexed(self) -> str:
        """The project's name on the package index. Before there were profiles, it was SGLang's
        where nothing else was said. Raises UsageError if the profile has none."""
        name = self.project or (self.profile or SGLANG).project
        if name is None:
            raise UsageError(
                "this needs releases of upstream, and it is not said what upstream's project is "
                "called on the package index",
                where="[tool.fixtool] in pyproject.toml",
                hint='add this to [tool.fixtool] in pyproject.toml: project = "NAME"',
            )
        return name

    @property
    def release_root(self) -> str:
        """The folder in which the tree of a release holds the files of its wheel: the one where the
        git repository has them."""
        return (self.profile or SGLANG).root

    @property
    def stores(self) -> Path:
        return self.state / "repos"

    @property
    def worktrees(self) -> Path:
        return self.state / "worktrees"


_NAMES = {field.name for field in fields(Settings)} - {"state", "cache"}
# What the checks, the tests, the nightly job and the webhook read.
_READ_ELSEWHERE = {"DETAILS", "LINES", "LIVE", "MODEL", "OWNERS", "RUN", "SGLANG_REPO", "SHARED",
                   "TARGET_PYTHON", "TREE", "TREE_BLOBS", "WEBHOOK"}  # fmt: skip


def load(root: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the patch repository at ``root``; only the defaults and variables if it is
    None. Raises Refused if its pyproject.toml is not valid or has an unknown key."""
    settings = Settings(
        state=state_folder(environment),
        cache=_folder(environment, "CACHE", ".cache"),
    )
    chosen: dict[str, Any] = {}

    def place(key: str) -> str:
        return where if root is None else place_of(root, key, environment)

    where = f"{root}/pyproject.toml"
    if root is not None and (project := root / "pyproject.toml").is_file():
        chosen |= _table(project)
        # Every repository that `init` made before lines had a source says this.
        if chosen.get("source") == "git":
            del chosen["source"]
    for name in _NAMES:
        if value := environment.get(f"FIXTOOL_{name.upper()}"):
            chosen[name] = value
    if unknown := sorted(set(chosen) - _NAMES):
        known = tuple(sorted(_NAMES))
        raise Refused(
            f"[tool.fixtool] has an unknown key {unknown[0]!r}; the keys are: {', '.join(known)}",
            where=place(unknown[0]),
            mistyped=Mistyped(unknown[0], known),
        )
    if "project" in chosen:
        check_project(chosen["project"], where)
    if "profile" in chosen:
        chosen["profile"] = read_profile(chosen["profile"], place("profile"))
    if "timeout" in chosen:
        chosen["timeout"] = _seconds(chosen["timeout"], place("timeout"))
    return replace(settings, **chosen)


def misspelt(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables ``FIXTOOL_*`` that nothing reads, each with the one that was probably meant."""
    known = {"STATE_DIR", "CACHE_DIR", *(name.upper() for name in _NAMES)}
    names = {name.removeprefix("FIXTOOL_") for name in environment if name.startswith("FIXTOOL_")}
    found = [(name, closest(name, known)) for name in sorted(names - known - _READ_ELSEWHERE)]
    return [(f"FIXTOOL_{name}", f"FIXTOOL_{meant}") for name, meant in found if meant]


def check_project(name: str, where: str) -> None:
    """Raise Refused if ``name``, which ``where`` gives, is no name on a package index. It becomes a
    part of a path and of an address."""
    if not _PROJECT.fullmatch(name):
        raise Refused(f"project = {name!r} is not a name on a package index", where=where)


def read_profile(name: str, where: str) -> Profile:
    """The profile of this name, which ``where`` gives. Raises Refused if there is none."""
    if name not in PROFILES:
        known = " or ".join(PROFILES)
        raise Refused(
            f"profile = {name!r} is no profile: it is {known}",
            where=where,
            hint="write one of them in that line, such as: profile = 'plain'",
            mistyped=Mistyped(name, tuple(PROFILES)),
        )
    return PROFILES[name]


def _seconds(text: str, where: str) -> float:
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)) and seconds > 0:
            return seconds
    raise Refused(
        f"the timeout {text!r} is no number of seconds",
        where=where,
        hint="write a number of seconds above 0 there, such as 600",
    )


def state_folder(environment: Mapping[str, str]) -> Path:
    """The folder of object stores, work trees and tracebacks."""
    return _folder(environment, "STATE", ".local/state")


def _folder(environment: Mapping[str, str], kind: str, default: str) -> Path:
    if chosen := environment.get(f"FIXTOOL_{kind}_DIR"):
        return Path(chosen).absolute()
    if xdg := environment.get(f"XDG_{kind}_HOME"):
        return Path(xdg).absolute() / "fixtool"
    return Path(environment.get("HOME") or Path.home()) / default / "fixtool"


def _table(path: Path) -> dict[str, str]:
    raw = read_at_most(path, LARGEST_TEXT)
    table = parse_toml(raw, str(path)).get("tool", {})
    chosen = table.get("fixtool", {}) if isinstance(table, dict) else table
    if not isinstance(chosen, dict):
        raise Refused(
            "[tool.fixtool] is not a table",
            where=place_of_key(raw, "fixtool", str(path)),
            hint="begin it with the line [tool.fixtool]; each setting has a line of its own",
        )
    if type(chosen.get("timeout")) in (int, float):
        chosen = chosen | {"timeout": str(chosen["timeout"])}
    for key, value in chosen.items():
        if not isinstance(value, str):
            raise Refused(
                f"[tool.fixtool] {key} is not a string in quotes",
                where=place_of_key(raw, key, str(path)),
                hint=f'write it so in that line: {key} = "VALUE"',
            )
        if not value:
            place = place_of_key(raw, key, str(path))
            raise Refused(
                f"[tool.fixtool] {key} is empty",
                where=place,
                hint="give it a value, or take that line out: "
                f"sed -i {place.rpartition(':')[2]}d {argument(path)}",
            )
    return chosen
