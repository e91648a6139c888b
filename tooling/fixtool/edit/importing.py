"""Puts the changes that ``incoming`` has read into a line, in normal form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from fixtool.apply.identity import free_slug
from fixtool.edit.change import FileAction
from fixtool.edit.parts import By, group_paths, shown
from fixtool.errors import Refused, UsageError
from fixtool.files import holds
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.incoming.advice import Advice
from fixtool.incoming.change import Incoming
from fixtool.incoming.fit import Base, Conflict, FindBlobs, FitOptions, Fitted, Fitter
from fixtool.series.commit import open_to_write, rewrite_and_commit
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import errors_in_patch
from fixtool.series.message import mailable
from fixtool.series.patch import (
    LARGEST,
    Patch,
    apply_diff,
    export_all,
    export_with,
    parse,
    read_trailers,
)
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.strict import LeftToGit, apply_in_memory, commits_on
from fixtool.series.write import series_text, writing
from fixtool.text import argument, count

_EXCLUDED = "Excluded"
FindCommits = Callable[[ObjectDatabase, Line, Oid], Sequence[Oid]]
"""Gives the commits of the first patches of a line on its base that were made before."""


@dataclass(frozen=True)
class ImportOptions:
    """``replacing`` puts a change in the place of the patch with its subject, and ``skip_empty``
    leaves out what changes nothing. ``fit`` says how the changes fit. ``find_blobs`` finds older
    contents for a three-way merge, ``find_commits`` the commits of the line's own patches that are
    known, and ``advice`` the releases that fit. ``split`` makes each file or folder of a change a
    patch of its own. ``resolved`` are the results that a person has made, by the number of the
    change. ``commit`` commits the import in the patch repository."""

    replacing: bool = False
    skip_empty: bool = False
    fit: FitOptions = field(default_factory=FitOptions)
    find_blobs: FindBlobs | None = None
    find_commits: FindCommits | None = None
    advice: Advice | None = None
    split: By | None = None
    resolved: Mapping[int, Fitted] = field(default_factory=dict)
    commit: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class ImportedPatch:
    """One patch that was imported. ``notes`` say how it differs from what came in, and what to look
    at in it."""

    slug: str
    subject: str
    change: FileAction
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A change that was left out, and why. ``where`` is its file and line, or its commit."""

    where: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Imported:
    """``committed`` is the commit in the patch repository, None if there is none."""

    line: str
    folder: Path
    patches: tuple[ImportedPatch, ...]
    skipped: tuple[Skipped, ...]
    committed: Oid | None = None


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
    subject of a patch of the line while not replacing, or if the line has uncommitted changes;
    Conflict if a person has to merge it.
    """
    git = open_to_import(repository, line, options)
    base = bring_base()
    with nullcontext() if options.dry_run else writing(repository):
        made = prepare(repository.line(line.name), repo, base, changes, options)
        committed = None if options.dry_run else made.write(git)
    return replace(made.imported, committed=committed)


def open_to_import(repository: PatchRepository, line: Line, options: ImportOptions) -> Repo | None:
    """The git repository in which the import is committed; None if it is not to be. Raises Refused
    if the line has uncommitted changes."""
    if options.dry_run:
        return None
    return open_to_write(repository.root, line.folder, commit=options.commit)


@dataclass(frozen=True)
class Prepared:
    """An import that can be written: the line, and its new files by name."""

    line: Line
    files: Mapping[str, bytes]
    patches: tuple[ImportedPatch, ...]
    skipped: tuple[Skipped, ...]

    def write(self, git: Repo | None) -> Oid | None:
        """Write the files, and commit them in ``git``, whose commit is returned."""
        return rewrite_and_commit(git, self.line.folder, self.files, (), self._message)

    @property
    def _message(self) -> str:
        slugs = [patch.slug for patch in self.patches]
        what = slugs[0] if len(slugs) == 1 else count(len(slugs), "patch")
        listed = "".join(f"- {patch.slug}: {patch.subject}\n" for patch in self.patches)
        return f"{self.line.name}: import {what}\n\n{listed}"

    @property
    def imported(self) -> Imported:
        return Imported(self.line.name, self.line.folder, self.patches, self.skipped)


def prepare(
    line: Line,
    repo: Repo,
    base: Oid,
    changes: Sequence[Incoming],
    options: ImportOptions,
    objects: ObjectDatabase | None = None,
) -> Prepared:
    """Make the new files of a line, and write nothing; in ``objects``, if they have to last.

    Raises Conflict if a person has to merge a change, and Refused as ``import_changes`` does.
    """
    if objects is None:
        with passing_objects(repo) as passing:
            return prepare(line, repo, base, changes, options, passing)
    queue, skipped = _queue(line, changes, options)
    about = Base(line.name, base, line.upstream.release)
    fitter = Fitter(objects, about, options.fit, options.find_blobs, options.advice)
    taken = {place.patch.slug for place in queue}
    own = _own_commits(objects, line, base, queue, options)
    committed = _Commits(objects, fitter, base, options, taken, own)
    for place in queue:
        committed.add(place)
    objects.flush()
    committed.export()
    committed.require_used(options.fit.exclude)
    slugs = [slug for place in queue for slug in committed.slugs[place.patch.slug]]
    committed.files["series"] = series_text(line, slugs)
    came_in = [
        (place, slug)
        for place in queue
        if place.change
        for slug in committed.slugs[place.patch.slug]
    ]
    patches = tuple(
        ImportedPatch(slug, committed.subjects[slug], _change(line, place, slug, committed.files),
                      tuple(committed.notes[slug]))
        for place, slug in came_in
    )  # fmt: skip
    return Prepared(line, committed.files, patches, (*skipped, *committed.skipped))


def _own_commits(
    objects: ObjectDatabase, line: Line, base: Oid, queue: Sequence[_Place], options: ImportOptions
) -> dict[str, Oid]:
    """The commits of the patches before the first one that comes in, which stay as they are: those
    that are known are not applied again. A patch that does not apply has no commit, and neither
    have those after it."""
    patches = [place.patch for place in takewhile(lambda place: place.incoming is None, queue)]
    known = options.find_commits(objects, line, base) if options.find_commits else ()
    commits = list(known[: len(patches)])
    made, _ = commits_on(objects, patches[len(commits) :], [base, *commits][-1])
    return {patch.slug: commit
            for patch, commit in zip(patches, [*commits, *made], strict=False)}  # fmt: skip


def _change(line: Line, place: _Place, slug: str, files: Mapping[str, bytes]) -> FileAction:
    """What happens to the file of a patch that comes in."""
    path = line.folder / f"{slug}.patch"
    assert place.change is not None
    return FileAction.UNCHANGED if holds(path, files[path.name]) else place.change


@dataclass(frozen=True)
class _Place:
    """A place in the new series. A patch that comes in has its change beside it, and what happens
    to its file; and the files of its diff, if they were read."""

    patch: Patch
    incoming: Incoming | None = None
    change: FileAction | None = None
    number: int = -1  # of the incoming change
    files: tuple[FilePatch, ...] | None = None


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
    for number, incoming in enumerate(changes):
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
        files = None
        if incoming.diff.startswith(b"diff --git a/"):  # others are judged by what they do
            files = read_diff(incoming.diff, where=incoming.where)
            _require_safe(files, incoming.where)
        same = at_subject.get(incoming.subject, [])
        if same and not options.replacing:
            raise Refused(
                f"line {line.name} has a patch with this subject: {queue[same[0]].patch.slug}",
                where=incoming.where,
                hint=_ways_beside(len(changes)),
            )
        place = same.pop(0) if same else len(queue)
        change = FileAction.REWRITTEN if place < len(queue) else FileAction.ADDED
        slug = (
            queue[place].patch.slug
            if change is FileAction.REWRITTEN
            else free_slug(incoming.subject, names)
        )
        names.add(slug)
        patch = Patch(slug, b"", incoming.subject, incoming.body, incoming.author, incoming.diff)
        queue[place : place + 1] = [_Place(patch, incoming, change, number, files)]
    return queue, skipped


def _ways_beside(number: int) -> str:
    """What to do with one of ``number`` changes whose subject a patch of the line has."""
    if number > 1:
        return "to replace the patch of the line: --replace; or name the files without this one"
    return "to replace the patch of the line: --replace; or to have both: --subject TEXT"


def _changes_nothing(subject: str, where: str, reason: str) -> Refused:
    if (subject, where) == ("stdin", "/dev/stdin"):
        return Refused(
            "nothing came on the standard input",
            where=where,
            hint="give a patch to it: fixtool import - < FILE",
        )
    if Path(where).is_file() and not Path(where).stat().st_size:
        return Refused(
            f"{subject!r} changes nothing: the file is empty",
            where=where,
            hint="name a file that holds a diff: the same command with FILE instead of "
            f"{argument(where)}; or leave out what changes nothing: the same command with "
            "--skip-empty",
        )
    return Refused(
        f"{subject!r} changes nothing: {reason}",
        where=where,
        hint="leave out what changes nothing: the same command with --skip-empty",
    )


def _require_safe(files: Sequence[FilePatch], where: str) -> None:
    for _, path, why in unsafe_paths(files):
        raise Refused(f"{path!r:.200}: {why}", where=where)


@dataclass(frozen=True)
class _Made:
    """The commit of a patch that came in. ``same`` means that it changes a tree from and to those
    of the commit that came in, so its diff is the same."""

    commit: Oid
    patch: Patch
    incoming: Incoming
    fitted: Fitted
    files: tuple[FilePatch, ...] | None
    same: bool


class _Commits:
    """The new series as commits on the base of its line, made one after the other. ``own`` are
    those of the line's first patches, by slug.

    ``slugs`` are those of the patches that each place of the queue becomes: none if it changes
    nothing, which ``skipped`` describes. ``files`` are the files of the patches that came in, by
    name, and ``subjects`` and ``notes`` are theirs, by slug.
    """

    def __init__(
        self,
        objects: ObjectDatabase,
        fitter: Fitter,
        base: Oid,
        options: ImportOptions,
        taken: set[str],
        own: Mapping[str, Oid],
    ) -> None:
        self._own_commits = own
        self._objects, self._fitter, self._options = objects, fitter, options
        self._tip, self._tree = base, objects.tree_of(base)
        self._taken = taken
        self._came_in: list[_Made] = []
        self.slugs: dict[str, list[str]] = {}
        self.files: dict[str, bytes] = {}
        self.subjects: dict[str, str] = {}
        self.notes: dict[str, list[str]] = {}
        self.skipped: list[Skipped] = []

    def add(self, place: _Place) -> None:
        """Commit one patch of the series. Raises Refused if it does not apply, or changes nothing
        and may not be skipped, and Conflict, which names the place, if a person has to merge it."""
        patch, incoming = place.patch, place.incoming
        where = incoming.where if incoming else str(patch.path)
        fitted = self._fit(place, incoming) if incoming else self._own(patch)
        self.slugs[patch.slug] = []
        if fitted.tree == self._tree:
            by_hand = place.number in self._options.resolved
            self._skip(patch, where, own=incoming is None, allowed=by_hand)
            return
        patch = replace(patch, body=_with_excluded(patch.body, fitted.recorded))
        for part, tree in self._parts(patch, fitted.tree, split=incoming is not None):
            self._tip = self._objects.add_commit(part.commit(tree, self._tip))
            before, self._tree = self._tree, tree
            self.slugs[patch.slug].append(part.slug)
            self.subjects[part.slug] = part.subject
            if incoming is not None:
                same = incoming.trees == (before, tree)
                self._came_in.append(_Made(self._tip, part, incoming, fitted, place.files, same))

    def _fit(self, place: _Place, incoming: Incoming) -> Fitted:
        if fitted := self._options.resolved.get(place.number):
            return fitted
        try:
            return self._fitter.fit(incoming, self._tip)
        except Conflict as conflict:
            conflict.number, conflict.parent = place.number, self._tip
            raise

    def _parts(self, patch: Patch, tree: Oid, *, split: bool) -> list[tuple[Patch, Oid]]:
        """The patch, or its parts if it has to be split, each with the tree after it."""
        if self._options.split is None or not split:
            return [(patch, tree)]
        groups = group_paths(self._objects.changed_paths(self._tree, tree), self._options.split)
        if len(groups) < 2:
            return [(patch, tree)]
        parts = []
        before = self._tree
        for label, paths in groups.items():
            entries = {path: self._objects.entry(tree, path) for path in paths}
            before = self._objects.with_files(before, entries)
            slug = free_slug(f"{patch.slug} {label}", self._taken)
            self._taken.add(slug)
            subject, _, _ = mailable(f"{patch.subject}: {shown(label)}", "")
            parts.append((replace(patch, slug=slug, subject=subject), before))
        if before != tree:
            raise Refused(
                f"{patch.subject!r} cannot be split: a file and a folder change places",
                where=patch.slug,
                hint="import it without --split",
            )
        return parts

    def export(self) -> None:
        """Make the files of the patches that came in. What git did is read and judged: an incoming
        diff may have any form. Raises Refused if it is not safe."""
        for made, data in zip(self._came_in, self._exported(), strict=True):
            patch, incoming, fitted = made.patch, made.incoming, made.fitted
            exported = parse(data, patch.slug)
            if made.files is not None and exported.diff == incoming.diff:
                exported.know_files(made.files)
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

    def _exported(self) -> list[bytes]:
        """What git makes of each patch that came in."""
        repo = self._objects.repo
        same = {made.commit: made.incoming.diff for made in self._came_in if made.same}
        other = [made.commit for made in self._came_in if not made.same]
        mails = dict(zip(same, export_with(repo, same), strict=True))
        mails.update(zip(other, export_all(repo, other), strict=True))
        return [mails[made.commit] for made in self._came_in]

    def require_used(self, patterns: Sequence[str]) -> None:
        """Raise UsageError if one of the patterns has left nothing out: it may be misspelled."""
        used = {pattern for made in self._came_in for pattern in made.fitted.excluded}
        for pattern in patterns:
            if pattern not in used and self._came_in:
                raise UsageError(
                    f"--exclude {pattern!r} leaves nothing out: no patch changes such a path",
                    hint="the same command without it, or with the path as it is in the tree",
                )

    def _own(self, patch: Patch) -> Fitted:
        """A patch that the line has, which may need one that is replaced."""
        if commit := self._own_commits.get(patch.slug):
            return Fitted(self._objects.tree_of(commit))
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

    def _skip(self, patch: Patch, where: str, *, own: bool, allowed: bool) -> None:
        reason = "the line's base or an earlier patch has it"
        if own:
            raise Refused(
                f"{patch.subject!r} would change nothing any more: {reason}",
                where=where,
                hint=f"take it out first: fixtool drop {patch.slug} --reason WHY",
            )
        if not self._options.skip_empty and not allowed:
            raise _changes_nothing(patch.subject, where, reason)
        self.skipped.append(Skipped(where, patch.subject, reason))


def _with_excluded(body: str, patterns: Sequence[str]) -> str:
    """A message that also says, in trailers, which part of the patch was left out."""
    if not patterns:
        return body
    trailers = "\n".join(f"{_EXCLUDED}: {pattern}" for pattern in patterns)
    gap = "\n" if read_trailers(body) else "\n\n" if body else ""
    return f"{body}{gap}{trailers}"
