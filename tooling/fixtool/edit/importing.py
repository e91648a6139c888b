"""Puts the changes that ``incoming`` has read into a line, in normal form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from fixtool.edit.export import Change, free_slug
from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming
from fixtool.incoming.fit import Base, FindBlobs, FitOptions, Fitted, Fitter
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import errors_in_patch
from fixtool.series.patch import LARGEST, Patch, apply_diff, export_all, parse, read_trailers
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.strict import LeftToGit, apply_in_memory
from fixtool.series.write import rewrite, series_text, writing

_EXCLUDED = "Excluded"


@dataclass(frozen=True)
class ImportOptions:
    """``replacing`` puts a change in the place of the patch with its subject, and ``skip_empty``
    leaves out what changes nothing. ``fit`` says how the changes fit. ``find_blobs`` finds older
    contents for a three-way merge."""

    replacing: bool = False
    skip_empty: bool = False
    fit: FitOptions = field(default_factory=FitOptions)
    find_blobs: FindBlobs | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class ImportedPatch:
    """One patch that was imported. ``notes`` say how it differs from what came in, and what to look
    at in it."""

    slug: str
    subject: str
    change: Change
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A change that was left out, and why. ``where`` is its file and line, or its commit."""

    where: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Imported:
    line: str
    folder: Path
    patches: tuple[ImportedPatch, ...]
    skipped: tuple[Skipped, ...]


def import_changes(
    repository: PatchRepository,
    line: Line,
    repo: Repo,
    bring_base: Callable[[], Oid],
    changes: Sequence[Incoming],
    options: ImportOptions,
) -> Imported:
    """Put ``changes`` at the end of the line or, if ``options.replacing``, in the place of the
    patches that have the same subject. All are imported or none is. ``bring_base`` makes the base
    of the line readable in ``repo`` and returns it.

    Raises Refused if a change writes outside the tree, does not apply, changes nothing, or has the
    subject of a patch of the line while not replacing.
    """
    base = bring_base()
    with nullcontext() if options.dry_run else writing(repository):
        line = repository.line(line.name)
        queue, skipped = _queue(line, changes, options)
        about = Base(line.name, base, line.upstream.release)
        with passing_objects(repo) as objects:
            fitter = Fitter(objects, about, options.fit, options.find_blobs)
            committed = _Commits(objects, fitter, base, skip_empty=options.skip_empty)
            for place in queue:
                committed.add(place)
            objects.flush()
            committed.export()
        committed.require_used(options.fit.exclude)
        slugs = [place.patch.slug for place in queue if place.patch.slug not in committed.empty]
        committed.files["series"] = series_text(line, slugs)
        rewritten = [] if options.dry_run else rewrite(line.folder, committed.files)
    return Imported(
        line.name,
        line.folder,
        tuple(
            ImportedPatch(
                slug,
                place.patch.subject,
                place.change if options.dry_run or f"{slug}.patch" in rewritten
                else Change.UNCHANGED,
                tuple(committed.notes[slug]),
            )
            for place in queue
            if place.change is not None and (slug := place.patch.slug) in slugs
        ),
        (*skipped, *committed.skipped),
    )  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """A place in the new series. A patch that comes in has its change beside it, and what happens
    to its file."""

    patch: Patch
    incoming: Incoming | None = None
    change: Change | None = None


def _queue(
    line: Line, changes: Sequence[Incoming], options: ImportOptions
) -> tuple[list[_Place], list[Skipped]]:
    """The new series of the line, and the changes that are empty and so have no place in it."""
    queue = [_Place(patch) for patch in line.patches]
    names = {entry.slug for entry in line.entries}
    at_subject: dict[str, list[int]] = {}
    for number, patch in enumerate(line.patches):
        at_subject.setdefault(patch.subject, []).append(number)
    skipped = []
    for incoming in changes:
        if not incoming.diff.strip():
            reason = "it changes no file"
            if not options.skip_empty:
                raise _changes_nothing(incoming.subject, incoming.where, reason)
            skipped.append(Skipped(incoming.where, incoming.subject, reason))
            continue
        if len(incoming.diff) > LARGEST:
            raise Refused(
                f"a patch has at most {LARGEST} bytes, and this one has {len(incoming.diff)}",
                where=incoming.where,
                hint="split it; large data does not belong in a series",
            )
        if incoming.diff.startswith(b"diff --git a/"):  # others are judged by what they do
            _require_safe(read_diff(incoming.diff, where=incoming.where), incoming.where)
        same = at_subject.get(incoming.subject, [])
        if same and not options.replacing:
            raise Refused(
                f"line {line.name} has a patch with this subject: {queue[same[0]].patch.slug}",
                where=incoming.where,
                hint="take its place with --replace, or give another --subject",
            )
        place = same.pop(0) if same else len(queue)
        change = Change.REWRITTEN if place < len(queue) else Change.ADDED
        slug = (
            queue[place].patch.slug
            if change is Change.REWRITTEN
            else free_slug(incoming.subject, names)
        )
        names.add(slug)
        patch = Patch(slug, b"", incoming.subject, incoming.body, incoming.author, incoming.diff)
        queue[place : place + 1] = [_Place(patch, incoming, change)]
    return queue, skipped


def _changes_nothing(subject: str, where: str, reason: str) -> Refused:
    return Refused(
        f"{subject!r} changes nothing: {reason}",
        where=where,
        hint="leave out what changes nothing: the same command with --skip-empty",
    )


def _require_safe(files: Sequence[FilePatch], where: str) -> None:
    for _, path, why in unsafe_paths(files):
        raise Refused(f"{path!r:.200}: {why}", where=where)


class _Commits:
    """The new series as commits on the base of its line, made one after the other.

    ``files`` are the files of the patches that came in, by name, and ``notes`` are on them, by
    slug. ``empty`` are the slugs of those that change nothing, which ``skipped`` describes.
    """

    def __init__(
        self, objects: ObjectDatabase, fitter: Fitter, base: Oid, *, skip_empty: bool
    ) -> None:
        self._objects, self._fitter, self._skip_empty = objects, fitter, skip_empty
        self._tip, self._tree = base, objects.tree_of(base)
        self._came_in: list[tuple[Oid, Patch, Incoming, Fitted]] = []
        self.files: dict[str, bytes] = {}
        self.notes: dict[str, list[str]] = {}
        self.empty: set[str] = set()
        self.skipped: list[Skipped] = []

    def add(self, place: _Place) -> None:
        """Commit one patch of the series. Raises Refused if it does not apply, or changes nothing
        and may not be skipped."""
        patch, incoming = place.patch, place.incoming
        where = incoming.where if incoming else str(patch.path)
        fitted = self._fitter.fit(incoming, self._tip) if incoming else self._own(patch)
        if fitted.tree == self._tree:
            self._skip(patch, where, own=incoming is None)
            return
        patch = replace(patch, body=_with_excluded(patch.body, fitted.excluded))
        self._tip = self._objects.add_commit(patch.commit(fitted.tree, self._tip))
        self._tree = fitted.tree
        if incoming is not None:
            self._came_in.append((self._tip, patch, incoming, fitted))

    def export(self) -> None:
        """Make the files of the patches that came in. What git did is read and judged: an incoming
        diff may have any form. Raises Refused if it is not safe."""
        raw = export_all(self._objects.repo, [commit for commit, *_ in self._came_in])
        for (_, patch, incoming, fitted), data in zip(self._came_in, raw, strict=True):
            exported = parse(data, patch.slug)
            _require_safe(exported.files, incoming.where)
            for error in errors_in_patch(exported):
                raise Refused(
                    f"{patch.subject!r}: {error.message}", where=incoming.where, hint=error.fix
                )
            touched = filter(None, map(rules_touched, exported.files))
            notes = [*incoming.notes, *fitted.notes, *touched]
            if replace(exported, head=b"", path=None, diff=b"") != replace(patch, diff=b""):
                notes.append("the message was normalised")
            self.files[f"{patch.slug}.patch"] = data
            self.notes[patch.slug] = notes

    def require_used(self, patterns: Sequence[str]) -> None:
        """Raise UsageError if one of the patterns has left nothing out: it may be misspelled."""
        used = {pattern for *_, fitted in self._came_in for pattern in fitted.excluded}
        for pattern in patterns:
            if pattern not in used and self._came_in:
                raise UsageError(
                    f"--exclude {pattern!r} leaves nothing out: no patch changes such a path",
                    hint="the same command without it, or with the path as it is in the tree",
                )

    def _own(self, patch: Patch) -> Fitted:
        """A patch that the line has, which may need one that is replaced."""
        try:
            tree = apply_in_memory(self._objects, patch.files, self._tree)
        except LeftToGit:
            tree = None
        complaint = ""
        if tree is None:
            self._objects.flush()
            tree, complaint = apply_diff(self._objects.repo, patch.diff, self._tip)
        if tree is None:
            raise Refused(
                f"{patch.subject!r} does not apply on line's series: {complaint}",
                where=str(patch.path),
                hint=f"see why: fixtool lint --line {self._fitter.base.line} --drift",
            )
        return Fitted(tree)

    def _skip(self, patch: Patch, where: str, *, own: bool) -> None:
        reason = "the line's base or an earlier patch has it"
        if own:
            raise Refused(
                f"{patch.subject!r} would change nothing any more: {reason}",
                where=where,
                hint=f"take it out first: fixtool drop {patch.slug} --reason WHY",
            )
        if not self._skip_empty:
            raise _changes_nothing(patch.subject, where, reason)
        self.empty.add(patch.slug)
        self.skipped.append(Skipped(where, patch.subject, reason))


def _with_excluded(body: str, patterns: Sequence[str]) -> str:
    """A message that also says, in trailers, which part of the patch was left out."""
    if not patterns:
        return body
    trailers = "\n".join(f"{_EXCLUDED}: {pattern}" for pattern in patterns)
    gap = "\n" if read_trailers(body) else "\n\n" if body else ""
    return f"{body}{gap}{trailers}"
