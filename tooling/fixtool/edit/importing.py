"""Puts the changes that ``incoming`` has read into a line, in normal form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.edit.export import Change, free_slug
from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import merge_three_way
from fixtool.incoming.change import Incoming
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import LARGEST, Patch, apply_diff, export, parse
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.write import rewrite, series_text, writing


@dataclass(frozen=True)
class ImportedPatch:
    """One patch that was imported. ``notes`` say how it differs from what came in, and what to look
    at in it."""

    slug: str
    subject: str
    change: Change
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    line: str
    folder: Path
    patches: tuple[ImportedPatch, ...]


def import_changes(
    repository: PatchRepository,
    line: Line,
    repo: Repo,
    bring_base: Callable[[], Oid],
    changes: Sequence[Incoming],
    *,
    replacing: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Put ``changes`` at the end of the line or, if ``replacing``, in the place of the patches that
    have the same subject. All are imported or none is. ``bring_base`` makes the base of the line
    readable in ``repo`` and returns it.

    Raises Refused if a change writes outside the tree, does not apply, changes nothing, or has the
    subject of a patch of the line while not ``replacing``.
    """
    base = bring_base()
    with nullcontext() if dry_run else writing(repository):
        line = repository.line(line.name)
        queue, changed = _queue(line, changes, replacing=replacing)
        files, notes = _commit_all(repo, base, queue)
        files["series"] = series_text(line, [patch.slug for patch, _ in queue])
        rewritten = [] if dry_run else rewrite(line.folder, files)
    subjects = {patch.slug: patch.subject for patch, _ in queue}
    imported = tuple(
        ImportedPatch(
            slug,
            subjects[slug],
            change if dry_run or f"{slug}.patch" in rewritten else Change.UNCHANGED,
            tuple(notes.get(slug, ())),
        )
        for slug, change in changed
    )
    return Imported(line.name, line.folder, imported)


_Queue = list[tuple[Patch, Incoming | None]]
"""The new series in order; a patch that comes in has its change beside it."""


def _queue(
    line: Line, changes: Sequence[Incoming], *, replacing: bool
) -> tuple[_Queue, list[tuple[str, Change]]]:
    """The new series of the line, and what happens to each patch that comes in, by slug."""
    queue: _Queue = [(patch, None) for patch in line.patches]
    changed: list[tuple[str, Change]] = []
    names = {entry.slug for entry in line.entries}
    at_subject = {patch.subject: at for at, (patch, _) in reversed(list(enumerate(queue)))}
    for incoming in changes:
        if len(incoming.diff) > LARGEST:
            raise Refused(
                f"a patch has at most {LARGEST} bytes, and this one has {len(incoming.diff)}",
                where=incoming.where,
                hint="split it; large data does not belong in a series",
            )
        if incoming.diff.startswith(b"diff --git "):  # the other forms are judged by what they do
            _require_safe(read_diff(incoming.diff, where=incoming.where), incoming.where)
        at = at_subject.setdefault(incoming.subject, len(queue))
        same = [patch.slug for patch, _ in queue[at : at + 1]]
        if same and not replacing:
            raise Refused(
                f"line {line.name} has a patch with this subject: {same[0]}",
                where=incoming.where,
                hint="take its place with --replace, or give another --subject",
            )
        slug = same[0] if same else free_slug(incoming.subject, names)
        names.add(slug)
        patch = Patch(slug, b"", incoming.subject, incoming.body, incoming.author, incoming.diff)
        queue[at : at + 1] = [(patch, incoming)]
        changed.append((slug, Change.REWRITTEN if same else Change.ADDED))
    return queue, changed


def _require_safe(files: Sequence[FilePatch], where: str) -> None:
    for _, path, why in unsafe_paths(files):
        raise Refused(f"{path!r}: {why}", where=where)


def _commit_all(
    repo: Repo, base: Oid, queue: _Queue
) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    """Commit the series on ``base``. Returns the files of the patches that come in, by name, and
    notes on them, by slug."""
    files: dict[str, bytes] = {}
    notes: dict[str, list[str]] = {}
    tip = base
    for patch, incoming in queue:
        if incoming is not None:
            notes[patch.slug] = list(incoming.notes)
        where = incoming.where if incoming else str(patch.path)
        # What git did is exported, and then read and judged: an incoming diff may have any form.
        tree, complaint = apply_diff(repo, patch.diff, tip)
        if tree is None and incoming is not None and incoming.commit is not None:
            parent = repo.read_commit(incoming.commit).parents[0]
            merge = merge_three_way(repo, parent, tip, incoming.commit)
            if not merge.conflicts:
                tree = merge.tree
                notes.setdefault(patch.slug, []).append("merged three-way onto the line's base")
        if tree is None:
            raise Refused(
                f"{patch.subject!r} does not apply on line's series: {complaint}",
                where=where,
                hint="rebase it onto the line's base first",
            )
        if tree == repo.tree_id(tip):
            raise Refused(
                f"{patch.subject!r} changes nothing: the line's base or an earlier patch has it",
                where=where,
            )
        tip = repo.write_commit(patch.commit(tree, tip))
        if incoming is not None:
            files[f"{patch.slug}.patch"] = data = export(repo, tip)
            exported = parse(data, patch.slug)
            _require_safe(exported.files, where)
            touched = filter(None, map(rules_touched, exported.files))
            notes.setdefault(patch.slug, []).extend(touched)
            if replace(exported, raw=b"", path=None, diff=b"") != replace(patch, diff=b""):
                notes.setdefault(patch.slug, []).append("the message was normalised")
    return files, notes
