"""The shelf of a line: patches that are not applied, kept with the reason.

``patches/<line>/shelf/<slug>.patch`` are the patch files, ``patches/<line>/shelf.toml`` gives the
reasons. A rebase thus loses nothing, and restores a patch whose change upstream reverts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from fixtool.errors import Refused
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.series.patch import Patch, is_slug, parse
from fixtool.series.write import toml_string

FILE = "shelf.toml"
FOLDER = "shelf"


class Reason(StrEnum):
    """Why fixtool put a patch on the shelf."""

    ABSORBED = "absorbed"
    SUPERSEDED = "superseded"
    NOT_NEEDED = "not-needed"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Shelved:
    """A patch on the shelf. ``base`` is the commit that it was written against; ``verdict`` is the
    reason, None if a person dropped it; ``upstream`` is the commit that made it unnecessary."""

    slug: str
    why: str
    base: Oid
    verdict: Reason | None = None
    upstream: str | None = None


def read(folder: Path) -> tuple[Shelved, ...]:
    """The shelf of the line at ``folder``. Raises Refused if shelf.toml is not well formed."""
    path = folder / FILE
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not valid TOML: {error}", where=str(path)) from error
    shelved = []
    for entry in data.get("patch", []):
        try:
            verdict = Reason(entry["verdict"]) if "verdict" in entry else None
            patch = Shelved(**{**entry, "verdict": verdict})
        except (TypeError, ValueError, KeyError) as error:
            raise Refused(f"an entry is not well formed: {error}", where=str(path)) from error
        if not is_slug(patch.slug):
            raise Refused(f"{patch.slug!r} is not a safe patch file name", where=str(path))
        if not is_full_sha(str(patch.base)):
            raise Refused(f"the base of {patch.slug} is not a commit id", where=str(path))
        shelved.append(patch)
    return tuple(shelved)


def patch(folder: Path, slug: str) -> Patch:
    """The patch file of a patch on the shelf. Raises Refused if it is missing or not well
    formed."""
    path = folder / FOLDER / f"{slug}.patch"
    try:
        return parse(path.read_bytes(), slug, path)
    except FileNotFoundError as error:
        raise Refused(
            f"{FILE} names {slug}, and there is no such file",
            where=str(path),
            hint=f"restore the file, or take the entry out of {folder / FILE}",
        ) from error


def text(shelved: Iterable[Shelved]) -> bytes:
    """The text of a ``shelf.toml``."""
    lines = ["# Patches that are not applied, and why. Their files are in shelf/.\n"]
    for patch in shelved:
        lines.append("\n[[patch]]\n")
        for field in fields(patch):
            if (value := getattr(patch, field.name)) is not None:
                lines.append(f"{field.name} = {toml_string(str(value))}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
