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

from fixtool.documents import LARGEST_TEXT, parse_toml
from fixtool.errors import Refused
from fixtool.files import read_at_most

_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default.

    The folder ``state`` holds object stores and work trees; ``cache`` holds downloads, wheels and
    verdicts, and is safe to delete.
    """

    state: Path
    cache: Path
    source: str = "git"
    line: str | None = None
    url: str | None = None  # of upstream, if it is not the one in upstream.toml
    project: str = "sglang"  # its name on the package index
    python: str | None = None  # the target interpreter, which has SGLang's dependencies
    timeout: float = 60.0  # seconds to wait for a byte of a server, and for another run

    @property
    def stores(self) -> Path:
        return self.state / "repos"

    @property
    def worktrees(self) -> Path:
        return self.state / "worktrees"


def load(root: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the patch repository at ``root``; only the defaults and variables if it is
    None. Raises Refused if its pyproject.toml is not valid or has an unknown key."""
    settings = Settings(
        state=state_folder(environment),
        cache=_folder(environment, "CACHE", ".cache"),
    )
    chosen: dict[str, Any] = {}
    where = f"{root}/pyproject.toml"
    if root is not None and (project := root / "pyproject.toml").is_file():
        chosen |= _table(project)
    names = {field.name for field in fields(Settings)} - {"state", "cache"}
    for name in names:
        if value := environment.get(f"FIXTOOL_{name.upper()}"):
            chosen[name] = value
    if unknown := sorted(set(chosen) - names):
        raise Refused(f"[tool.fixtool] has an unknown key {unknown[0]!r}", where=where)
    # The name of the project becomes a part of a path and of an address.
    if not _PROJECT.fullmatch(chosen.get("project", Settings.project)):
        raise Refused(
            f"project = {chosen['project']!r} is not a name on a package index", where=where
        )
    if "timeout" in chosen:
        chosen["timeout"] = _seconds(chosen["timeout"])
    return replace(settings, **chosen)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)) and seconds > 0:
            return seconds
    raise Refused(
        f"the timeout {text!r} is no number of seconds",
        where="FIXTOOL_TIMEOUT, or timeout in [tool.fixtool] of pyproject.toml",
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
    table = parse_toml(read_at_most(path, LARGEST_TEXT), str(path)).get("tool", {})
    chosen = table.get("fixtool", {}) if isinstance(table, dict) else table
    if not isinstance(chosen, dict):
        raise Refused("[tool.fixtool] is not a table", where=str(path))
    if type(chosen.get("timeout")) in (int, float):
        chosen = chosen | {"timeout": str(chosen["timeout"])}
    for key, value in chosen.items():
        if not isinstance(value, str):
            raise Refused(f"[tool.fixtool] {key} is not a string", where=str(path))
        if not value:
            raise Refused(
                f"[tool.fixtool] {key} is empty: set it, or leave it out", where=str(path)
            )
    return chosen
