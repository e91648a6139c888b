"""Takes a patch out of a line by hand: its file goes to the shelf, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fixtool.edit.place import Place, keep_series, open_line, series_at
from fixtool.edit.sequence import Conflict, EditAction, OwnSeries, Plan, make
from fixtool.errors import Refused
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.shelf import Shelved
from fixtool.text import argument


@dataclass(frozen=True)
class Dropped:
    """``file`` is where the patch is now; ``rewritten`` are the patches whose line numbers moved;
    ``committed`` is the commit in the patch repository, None if nothing was committed. After a
    ``dry_run``, all this is what would happen."""

    line: str
    slug: str
    file: Path
    rewritten: tuple[str, ...]
    committed: Oid | None
    dry_run: bool = False


def drop(
    context: Context,
    line: Line,
    place: Place,
    slug: str,
    reason: str,
    *,
    dry_run: bool = False,
    commit: bool = True,
) -> Dropped:
    """Move ``slug`` to the shelf, or find out what that would do (``dry_run``), and ``commit`` it.
    If the newest commit is that of the same drop, which a killed run began, it is the result.

    Raises Refused if a later patch needs it, if the line has uncommitted changes, or if a command
    waits for a person in the line."""
    git, line = open_line(context, line, commit=commit, dry_run=dry_run)
    head = git.head() if git and _is_dropped(line, slug) else None
    if git and head and git.read_commit(head).message == _message(line, slug, reason):
        return Dropped(line.name, slug, _shelved_file(line, slug), (), head)
    slug = line.find(slug).slug
    if named := [patch.slug for patch in line.patches if slug in patch.depends_on]:
        raise _needed(line, slug, named[-1], f"{', '.join(named)} would not work", reason)
    database = passing_objects if dry_run else ObjectDatabase
    with database(place.repo) as objects:
        own = series_at(context, objects, line, place)
        try:
            made = make(objects, own, _without(own, slug, reason))
            objects.flush()
        except Conflict as conflict:
            what = f"{conflict.slug} would not apply"
            raise _needed(line, slug, conflict.slug, what, reason) from conflict
    rewritten = [patch.slug for patch in made.patches if patch.change is EditAction.REWRITTEN]
    committed = None
    if not dry_run:
        committed = made.write(context.repository, git)
        keep_series(context, made)
    file = _shelved_file(line, slug)
    return Dropped(line.name, slug, file, tuple(rewritten), committed, dry_run)


def _without(own: OwnSeries, slug: str, reason: str) -> Plan:
    """The series without ``slug``, which goes to the shelf."""
    line = own.line
    entries = (*shelf.read(line.folder), Shelved(slug, reason, own.base))
    files = {f"{shelf.FOLDER}/{slug}.patch": line.find(slug).raw, shelf.FILE: shelf.text(entries)}
    wanted = tuple(wanted for wanted in own.wanted if wanted.slug != slug)
    return Plan(wanted, f"drop {slug}", reason, files=files)


def _needed(line: Line, slug: str, other: str, what: str, reason: str) -> Refused:
    return Refused(
        f"{what} without {slug}",
        where=str(line.folder / f"{other}.patch"),
        hint=f"drop that first: fixtool drop {other} --reason {argument(reason)}; or see what "
        "needs what: fixtool deps",
    )


def _is_dropped(line: Line, slug: str) -> bool:
    shelved = {entry.slug for entry in shelf.read(line.folder)}
    return slug in shelved and slug not in {entry.slug for entry in line.entries}


def _message(line: Line, slug: str, reason: str) -> str:
    return f"{line.name}: drop {slug}\n\n{reason}\n"


def _shelved_file(line: Line, slug: str) -> Path:
    return line.folder / shelf.FOLDER / f"{slug}.patch"
