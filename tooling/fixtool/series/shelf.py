"""The shelf of a line: patches that are not applied, kept with the reason why.

``patches/<line>/shelf/<slug>.patch`` are their bytes, ``patches/<line>/shelf.toml`` says why each
is there. Nothing is lost by a rebase, and what upstream takes back is noticed and put in again.
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
    """Why a patch is on the shelf, where no person put it there."""

    ABSORBED = "absorbed"
    SUPERSEDED = "superseded"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Shelved:
    """``verdict`` is the reason, or None where a person dropped it; ``base``
    the commit that its text was written against; ``upstream`` the one that made it unnecessary."""

    slug: str
    why: str
    base: Oid
    verdict: Reason | None = None
    upstream: str | None = None


def read(folder: Path) -> tuple[Shelved, ...]:
    """The shelf of the line at ``folder``; Refused where its file is not well formed."""
    path = folder / FILE
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not valid TOML: {error}", where=str(path)) from error
    found = []
    for entry in data.get("patch", []):
        try:
            verdict = Reason(entry["verdict"]) if "verdict" in entry else None
            one = Shelved(**{**entry, "verdict": verdict})
        except (TypeError, ValueError, KeyError) as error:
            raise Refused(f"an entry is not well formed: {error}", where=str(path)) from error
        if not is_slug(one.slug):
            raise Refused(f"{one.slug!r} is not a safe patch file name", where=str(path))
        if not is_full_sha(str(one.base)):
            raise Refused(f"the base of {one.slug} is not a commit id", where=str(path))
        found.append(one)
    return tuple(found)


def patch(folder: Path, slug: str) -> Patch:
    """A shelved patch; Refused where its file is gone or bad."""
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
    for one in shelved:
        lines.append("\n[[patch]]\n")
        for field in fields(one):
            if (value := getattr(one, field.name)) is not None:
                lines.append(f"{field.name} = {toml_string(str(value))}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
