"""Brings a patch back from the shelf of its line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fixtool.edit.plans import At
from fixtool.edit.sequence import OwnSeries, Plan, Wanted
from fixtool.errors import Mistyped, Refused, UsageError
from fixtool.git.database import ObjectDatabase
from fixtool.git.repo import Repo
from fixtool.replay.changes import commit_of
from fixtool.series import shelf
from fixtool.series.line import Line, read_series
from fixtool.series.shelf import Shelved
from fixtool.series.strict import apply_patch
from fixtool.text import argument


def find_shelved(line: Line, slug: str) -> Shelved:
    """The patch ``slug`` on the shelf. Raises UsageError if it is not there."""
    entries = {entry.slug: entry for entry in shelf.read(line.folder)}
    slug = slug.removesuffix(".patch")
    if slug in (entry.slug for entry in line.entries):
        shelved = ", ".join(entries) or "nothing"
        raise UsageError(
            f"{slug} is in the series of line {line.name}, so there is nothing to restore; its "
            f"shelf, where dropped patches are, has: {shelved}",
            where=str(line.folder / "series"),
            hint="restore another: fixtool restore SLUG"
            if entries
            else f"see that patch: fixtool show {slug}",
        )
    if slug not in entries:
        raise UsageError(
            f"the shelf of line {line.name} has no patch {slug!r}; it has: "
            f"{', '.join(entries) or 'none'}",
            where=str(line.folder / shelf.FOLDER),
            hint="fixtool list",
            mistyped=Mistyped(slug, tuple(entries)),
        )
    return entries[slug]


def restored(objects: ObjectDatabase, own: OwnSeries, slug: str, at: At) -> Plan:
    """The series with a patch of the shelf. It is merged three-way if the files that it was written
    for are in the store. Raises Refused if they are not, and it does not fit either."""
    line, shelved = own.line, find_shelved(own.line, slug)
    patch = shelf.patch(line.folder, shelved.slug)
    number = at.number(line, list(own.commits))
    parent = [own.base, *own.commits.values()][number]
    objects.flush()
    wanted = own.wanted
    if commit := commit_of(objects, patch, parent):
        added = Wanted(patch.slug, commit)
    elif tree := apply_patch(objects, patch, objects.tree_of(parent)):
        added = Wanted(patch.slug, None, message=patch.message, author=patch.author, tree=tree)
    else:
        raise Refused(
            f"{patch.slug} does not fit here, and the files that it was written for are not there",
            where=str(patch.path),
            hint=f"fixtool import {argument(patch.path)} --line {line.name}",
        )
    wanted.insert(number, added)
    rest = [entry for entry in shelf.read(line.folder) if entry.slug != patch.slug]
    remove = [f"{shelf.FOLDER}/{patch.slug}.patch", *([] if rest else [shelf.FILE])]
    files = {shelf.FILE: shelf.text(rest)} if rest else {}
    return Plan(tuple(wanted), f"restore {patch.slug}", files=files, remove=tuple(remove))


def old_place(git: Repo | None, line: Line, slug: str) -> At:
    """Where the patch ``slug`` stood before it went to the shelf, as the history of the patch
    repository tells it; the end if it does not."""
    if git is None or git.work_tree is None or git.head() is None:
        return At()
    path = (line.folder / "series").resolve().relative_to(git.work_tree)
    order = _committed_order(git, "HEAD", path)  # it is there if the drop is not committed yet
    names = {slug}
    while slug not in order and (former := _former_name(git, line, slug)) not in (None, *names):
        slug = former or slug  # it was renamed on the shelf
        names.add(slug)
        order = _committed_order(git, "HEAD", path)
    if slug not in order:
        pattern = f"^{re.escape(slug)}[.]patch"
        log = git.run("log", "-1", "--format=%H", "-E", f"-G{pattern}", "HEAD", "--", str(path),
                      accept=None)  # fmt: skip
        order = _committed_order(git, f"{log.text}^", path)
    if slug not in order:
        return At()
    here = {entry.slug for entry in line.entries}
    number = order.index(slug)
    if earlier := [other for other in order[:number] if other in here]:
        return At(earlier[-1])
    later = [other for other in order[number:] if other in here]
    return At(later[0], before=True) if later else At()


def _former_name(git: Repo, line: Line, slug: str) -> str | None:
    """The name that a patch of the shelf had before it was renamed there, as the history of the
    patch repository tells it: the entry that went when this one came, and says the same."""
    path = (line.folder / shelf.FILE).resolve().relative_to(git.work_tree or Path("/"))
    log = git.run("log", "--format=%H", "-E", f'-G^slug = "{re.escape(slug)}"', "HEAD", "--",
                  str(path), accept=None)  # fmt: skip
    steps = [(shelf.read(line.folder), _committed_shelf(git, "HEAD", path))]
    steps += [(_committed_shelf(git, commit, path), _committed_shelf(git, f"{commit}^", path))
              for commit in log.text.split()]  # fmt: skip
    for now, before in steps:
        came = [entry for entry in now if entry.slug == slug]
        if came and slug not in (entry.slug for entry in before):
            stay = {entry.slug for entry in now}
            gone = [entry.slug for entry in before
                    if entry.slug not in stay and [replace(entry, slug=slug)] == came]  # fmt: skip
            return gone[0] if len(gone) == 1 else None
    return None


def _committed_shelf(git: Repo, commit: str, path: Path) -> tuple[Shelved, ...]:
    """The shelf in the file ``path`` of a commit; empty if it is not there."""
    content = git.run("cat-file", "blob", f"{commit}:{path}", accept=None)
    try:
        return () if content.status else shelf.parse_shelf(content.stdout, str(path))
    except Refused:
        return ()


def _committed_order(git: Repo, commit: str, path: Path) -> list[str]:
    """The slugs of the series file at ``path`` in a commit; none if it is not there."""
    content = git.run("cat-file", "blob", f"{commit}:{path}", accept=None)
    if content.status:
        return []
    try:
        return [entry.slug for entry in read_series(content.stdout, str(path))]
    except Refused:
        return []
