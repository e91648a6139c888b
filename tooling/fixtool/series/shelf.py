"""The shelf of a line: patches that are not applied, kept with the reason.

``patches/<line>/shelf/<slug>.patch`` are the patch files, ``patches/<line>/shelf.toml`` gives the
reasons. A rebase thus loses nothing, and restores a patch whose change upstream reverts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fixtool.documents import LARGEST_TEXT, Field, FieldError, parse_toml
from fixtool.errors import Refused, UsageError
from fixtool.files import read_plain
from fixtool.git.objects import Oid, read_oid
from fixtool.series.patch import LARGEST, Patch, is_slug, parse
from fixtool.series.write import toml_string
from fixtool.text import argument

if TYPE_CHECKING:
    from fixtool.series.line import Line

FILE = "shelf.toml"
FOLDER = "shelf"


class Reason(StrEnum):
    """Why fixtool put a patch on the shelf."""

    ABSORBED = "absorbed"
    SUPERSEDED = "superseded"
    NOT_NEEDED = "not-needed"
    BLOCKED = "blocked"  # what it depends on was skipped
    SKIPPED = "skipped"  # by a person, in a rebase


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
    try:
        raw = read_plain(folder, FILE, LARGEST_TEXT)
    except FileNotFoundError:
        return ()
    return parse_shelf(raw, str(folder / FILE))


def parse_shelf(raw: bytes, where: str) -> tuple[Shelved, ...]:
    """What a ``shelf.toml`` says. Raises Refused if it is not well formed."""
    data = parse_toml(raw, where)
    try:
        return Field(data.get("patch", []), "patch").each(_shelved)
    except FieldError as error:
        raise Refused(f"an entry is not well formed: {error}", where=where) from error


def _shelved(entry: Field) -> Shelved:
    slug = entry.only(Shelved)["slug"].text()
    if not is_slug(slug):
        raise entry["slug"].wrong("a safe patch file name")
    return Shelved(
        slug, entry["why"].text(), read_oid(entry["base"]),
        entry["verdict"].optional(lambda verdict: verdict.member(Reason)),
        entry["upstream"].optional(Field.text),
    )  # fmt: skip


def refuse_shelved(line: Line, slug: str) -> None:
    """Raise UsageError if the patch ``slug`` is on the shelf of ``line``: then it is no misspelt
    name of another patch."""
    slug = slug.removesuffix(".patch")
    found = next((entry for entry in read(line.folder) if entry.slug == slug), None)
    if found:
        path = line.folder / FOLDER / f"{slug}.patch"
        raise UsageError(
            f"{slug} is on the shelf of line {line.name}, where patches are that are not applied: "
            f"{found.why}",
            where=str(path),
            hint=f"bring it back: fixtool restore {slug} --line {line.name}; or read it: "
            f"cat {argument(path)}",
        )


def patch(folder: Path, slug: str) -> Patch:
    """The patch file of a patch on the shelf. Raises Refused if it is missing or not well
    formed."""
    path = folder / FOLDER / f"{slug}.patch"
    try:
        return parse(read_plain(folder, f"{FOLDER}/{slug}.patch", LARGEST), slug, path)
    except FileNotFoundError as error:
        raise Refused(
            f"{FILE} names {slug}, and there is no such file",
            where=str(path),
            hint=f"restore the file, or take the entry out of {folder / FILE}",
        ) from error


def text(shelved: Iterable[Shelved]) -> bytes:
    """The text of a ``shelf.toml``. Raises Refused if it would be read back as something else."""
    shelved = tuple(shelved)
    lines = ["# Patches that are not applied, and why. Their files are in shelf/.\n"]
    for patch in shelved:
        lines.append("\n[[patch]]\n")
        for field in fields(patch):
            if (value := getattr(patch, field.name)) is not None:
                lines.append(f"{field.name} = {toml_string(str(value))}\n")
    raw = "".join(lines).encode("utf-8", "replace")
    written = [(patch.slug, patch.base, patch.verdict) for patch in shelved]
    if [(patch.slug, patch.base, patch.verdict) for patch in parse_shelf(raw, FILE)] != written:
        raise Refused(f"{FILE} cannot hold these patches")
    return raw
