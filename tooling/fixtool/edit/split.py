"""Splits one patch of a line into several, which stand at its place and do the same together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.identity import free_slug
from fixtool.edit.parts import (
    By,
    Part,
    Unit,
    parts_by,
    parts_into,
    shown,
    tree_with,
    trees_after,
    units_of,
)
from fixtool.edit.place import Place, keep_commits, open_line, series_at
from fixtool.edit.sequence import OwnSeries
from fixtool.edit.texts import named_outside, renamed_dependency
from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.commit import rewrite_and_commit
from fixtool.series.context import Context
from fixtool.series.diff import FilePatch
from fixtool.series.line import Line
from fixtool.series.lint import errors_in_patch
from fixtool.series.message import mailable
from fixtool.series.patch import Patch, export, export_all, parse, read_trailers
from fixtool.series.strict import apply_patch, commits_on
from fixtool.series.write import series_with, writing
from fixtool.text import count, split_lines


@dataclass(frozen=True)
class SplitRequest:
    """How a patch is split: one part for each file or folder (``by``, where ``depth`` is the number
    of folders that count), or the parts that ``into`` names, as `edit.parts` reads them. ``commit``
    commits it in the patch repository."""

    by: By | None = None
    depth: int | None = None
    into: tuple[str, ...] = ()
    dry_run: bool = False
    commit: bool = True


@dataclass(frozen=True)
class PartFile:
    """A file of a part. ``hunks`` are the numbers of its hunks in the patch that was split; empty
    if the part has the whole change of the file."""

    path: str
    hunks: tuple[int, ...] = ()


@dataclass(frozen=True)
class SplitPart:
    """One of the new patches. ``depends_on`` are the other parts without which it does not
    apply."""

    slug: str
    subject: str
    files: tuple[PartFile, ...]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """``rewritten`` are the patches whose `Depends-On:` now names the parts. ``tree`` is what the
    series makes, before and after. ``committed`` is the commit in the patch repository, None if
    nothing was committed."""

    line: str
    slug: str
    folder: Path
    parts: tuple[SplitPart, ...]
    rewritten: tuple[str, ...]
    tree: Oid
    notes: tuple[str, ...]
    committed: Oid | None


@dataclass(frozen=True)
class HunkText:
    """A unit of a patch, as a person is asked about it: its name for `--into`, and its text."""

    place: str
    text: str


def split(context: Context, line: Line, place: Place, slug: str, request: SplitRequest) -> Split:
    """Split ``slug`` as ``request`` says. If the newest commit is that of the same split, which a
    killed run began, it is the result.

    Raises Refused if there is only one part, if the series would make another tree, or if the line
    cannot be edited; UsageError if the request names what is not there.
    """
    git, line = open_line(context, line, commit=request.commit, dry_run=request.dry_run)
    repository, folder = context.repository, line.folder
    if git and (done := _done_before(context, git, line, place, slug)):
        return done
    database = passing_objects if request.dry_run else ObjectDatabase
    with database(place.repo) as objects:
        own = series_at(context, objects, line, place)
        objects.flush()
        made = _Splitter(objects, own, line.find(slug).slug, request).make()
        objects.flush()
    committed = None
    if not request.dry_run:
        with writing(repository):
            now = repository.line(line.name)
            read = {patch.slug: patch.digest for patch in own.line.patches}
            if (
                series_with(now, made.slug, made.slugs) != made.series
                or {patch.slug: patch.digest for patch in now.patches} != read
            ):
                raise Refused("another run has changed the line meanwhile", where=str(folder),
                              hint="run the same command again")  # fmt: skip
            gone = {f"{made.slug}.patch"} - made.files.keys()
            files = {**made.files, "series": made.series}
            committed = rewrite_and_commit(git, folder, files, gone, made.message)
        keep_commits(context, line.name, place.base, made.patches, made.commits)
    notes = tuple(_to_mend(repository.root, made))
    return Split(line.name, made.slug, folder, made.parts, made.rewritten, made.tree, notes,
                 committed)  # fmt: skip


def _to_mend(root: Path, made: _Splitter) -> Iterator[str]:
    """What names the patch outside of the line, and so has to be mended by a person."""
    if probe := made.patch.trailer("Probe"):
        yield (
            f"{count(len(made.slugs), 'part')} name {probe} now: give each a probe of its own, or "
            "take the trailer out of those that it does not prove"
        )
    if made.slug not in made.slugs:
        yield from named_outside(root, made.slug, "the part that it breaks")


def hunks_of(context: Context, line: Line, place: Place, slug: str) -> tuple[HunkText, ...]:
    """What `split` can put into parts, in order: each hunk, and each file that has no hunks to tell
    apart."""
    slug = line.find(slug).slug
    with passing_objects(place.repo) as objects:
        commit = series_at(context, objects, line, place).commits[slug]
        objects.flush()
        # The patch as its commit on the line's base gives it: its line numbers are exact.
        files = parse(export(objects.repo, commit), slug).files
    return tuple(hunk_text(file, unit) for file in files for unit in units_of(file))


def hunk_text(file: FilePatch, unit: Unit) -> HunkText:
    if not unit.number:
        kind = "new" if file.old_path is None else "removed" if file.new_path is None else "changed"
        text = "".join(hunk.text.decode("utf-8", "replace") for hunk in file.hunks)
        return HunkText(unit.path, f"{unit.path} ({kind}, as a whole)\n{text}")
    hunk = file.hunks[unit.number - 1]
    text = hunk.text.decode("utf-8", "replace")
    place = f"{unit.path}:{unit.number}"
    return HunkText(place, f"{place} (line {hunk.old_start})\n{text}")


class _Splitter:
    """The new files of a line in which one patch is split."""

    def __init__(
        self, objects: ObjectDatabase, own: OwnSeries, slug: str, request: SplitRequest
    ) -> None:
        self.objects, self.own, self.slug, self.request = objects, own, slug, request
        self.line = line = own.line
        self.patch = line.find(slug)
        self.slugs: list[str] = []
        self.files: dict[str, bytes] = {}

    def make(self) -> _Splitter:
        number = list(self.own.commits).index(self.slug)
        commits = list(self.own.commits.values())
        parent = commits[number - 1] if number else self.own.base
        whole = parse(export(self.objects.repo, commits[number]), self.slug)
        parts = self._parts(whole.files)
        before, after = self.objects.tree_of(parent), self.objects.tree_of(commits[number])
        trees = trees_after(self.objects, before, after, whole.files, parts)
        self._name(parts)
        made = self._export(parts, trees, parent, {})
        needs = self._needs(parts, made, before, after, whole.files)
        if needs:
            made = self._export(parts, trees, parent, needs)
        self.files |= {f"{patch.slug}.patch": patch.raw for patch in made}
        later = self._later(number)
        self.rewritten = tuple(patch.slug for patch in later if patch.slug + ".patch" in self.files)
        self.series = series_with(self.line, self.slug, self.slugs)
        self.tree = self.objects.tree_of(commits[-1])
        of_parts = self._commits_of_parts(made, parent, after)
        self.commits = [*commits[:number], *of_parts, *self._moved(later, of_parts[-1], commits)]
        self.patches = (*self.line.patches[:number], *made, *later)
        self.parts = tuple(
            SplitPart(patch.slug, patch.subject, tuple(_files(part, whole.files)),
                      tuple(needs.get(patch.slug, ())))
            for patch, part in zip(made, parts, strict=True)
        )  # fmt: skip
        return self

    @property
    def message(self) -> str:
        names = "".join(f"- {slug}\n" for slug in self.slugs)
        return f"{_subject(self.line, self.slug)}\n\nThe parts, in order:\n\n{names}"

    def _parts(self, files: Sequence[FilePatch]) -> list[Part]:
        request = self.request
        parts = (
            parts_by(files, request.by, request.depth) if request.by
            else parts_into(files, request.into)
        )  # fmt: skip
        if len(parts) < 2:
            what = f"it has one {request.by}" if request.by else "all of it would be in one part"
            raise Refused(
                f"{self.slug} cannot be split so: {what}",
                where=str(self.patch.path),
                hint=f"by hunk: fixtool split {self.slug} --line {self.line.name} --hunks",
            )
        return parts

    def _name(self, parts: Sequence[Part]) -> None:
        """Give each part its slug. Raises UsageError if the user gave one that is taken."""
        taken = {entry.slug for entry in self.line.entries} - {self.slug}
        named = {part.name for part in parts if part.name}
        if both := sorted(taken & named):
            raise UsageError(
                f"line {self.line.name} has a patch {both[0]!r} already",
                hint="give the part another name: --into NAME=PATH",
            )
        if "" in (part.label for part in parts) and self.slug in named:
            raise UsageError(
                f"{self.slug} is the name that the rest keeps",
                hint="give the part another name, or put everything into parts",
            )
        taken |= named | {self.slug}
        for part in parts:
            slug = part.name or (free_slug(f"{self.slug} {part.label}", taken) if part.label
                                 else self.slug)  # fmt: skip
            taken.add(slug)
            self.slugs.append(slug)

    def _export(
        self, parts: Sequence[Part], trees: Sequence[Oid], parent: Oid, needs: dict[str, list[str]]
    ) -> list[Patch]:
        """The patches of the parts, in normal form."""
        commits = []
        for slug, part, tree in zip(self.slugs, parts, trees, strict=True):
            label = shown(part.label)
            subject = f"{self.patch.subject}: {label}" if label else self.patch.subject
            subject, _, _ = mailable(subject, "")
            body = _with_trailers(self.patch.body, needs.get(slug, ()))
            patch = replace(self.patch, slug=slug, subject=subject, body=body)
            parent = self.objects.add_commit(patch.commit(tree, parent))
            commits.append(parent)
        self.objects.flush()
        exported = export_all(self.objects.repo, commits)
        made = [parse(raw, slug) for raw, slug in zip(exported, self.slugs, strict=True)]
        for patch in made:
            for error in errors_in_patch(patch):
                raise Refused(f"{patch.slug}: {error.message}", where=str(self.patch.path),
                              hint=error.fix)  # fmt: skip
        return made

    def _needs(
        self,
        parts: Sequence[Part],
        made: Sequence[Patch],
        before: Oid,
        after: Oid,
        files: Sequence[FilePatch],
    ) -> dict[str, list[str]]:
        """The earlier parts that a part needs: it does not apply without them, or would be put into
        a wrong place."""
        needs: dict[str, list[str]] = {}
        for at, (part, patch) in enumerate(zip(parts, made, strict=True)):
            shared = [
                self.slugs[number] for number in range(at) if parts[number].paths & part.paths
            ]
            if shared:
                alone = tree_with(self.objects, before, after, files, part)
                if apply_patch(self.objects, patch, before) != alone:
                    needs[patch.slug] = shared
        return needs

    def _later(self, number: int) -> list[Patch]:
        """The patches after the one that is split. A `Depends-On:` of it names the parts then."""
        later = []
        for patch in self.line.patches[number + 1 :]:
            if self.slug in patch.depends_on:
                raw = renamed_dependency(patch, self.slug, self.slugs)
                self.files[f"{patch.slug}.patch"] = raw
                renamed = parse(raw, patch.slug, patch.path)
                assert renamed.diff == patch.diff
                patch = renamed
            later.append(patch)
        return later

    def _commits_of_parts(self, made: Sequence[Patch], parent: Oid, after: Oid) -> list[Oid]:
        """The commits that the new patches make on ``parent``. Raises Refused unless they make the
        tree ``after``, which the patch makes: then all later patches apply to what they did."""
        commits, complaint = commits_on(self.objects, made, parent)
        tree = self.objects.tree_of([parent, *commits][-1])
        if complaint or tree != after:
            what = f"{made[len(commits)].slug} does not apply: {complaint}" if complaint else (
                f"the parts would make tree {tree[:12]}, and {self.slug} makes {after[:12]}"
            )  # fmt: skip
            raise Refused(
                what,
                where=str(self.patch.path),
                hint="split it in another way: --by file, --by folder or --into NAME=PATH",
            )
        return commits

    def _moved(self, later: Sequence[Patch], tip: Oid, commits: Sequence[Oid]) -> list[Oid]:
        """The commits of the patches ``later``, the last of the series, on ``tip``: each makes the
        tree that it made. ``commits`` are those of the series as it is."""
        moved = []
        for patch, commit in zip(later, commits[len(commits) - len(later) :], strict=True):
            tip = self.objects.add_commit(patch.commit(self.objects.tree_of(commit), tip))
            moved.append(tip)
        return moved


def _files(part: Part, files: Sequence[FilePatch]) -> list[PartFile]:
    own = set(part.units)
    found = []
    for file in files:
        units = [unit for unit in units_of(file) if unit in own]
        if units:
            whole = len(units) == len(units_of(file))
            found.append(PartFile(file.path, () if whole else tuple(u.number for u in units)))
    return found


def _with_trailers(body: str, needs: Sequence[str]) -> str:
    """A message that also says what the patch depends on: before the sign-off, if it ends in
    one."""
    if not needs:
        return body
    text = f"Depends-On: {', '.join(needs)}"
    if not read_trailers(body):
        return f"{body}\n\n{text}" if body else text
    lines = body.split("\n")
    at = len(lines)
    while at and lines[at - 1].lower().startswith("signed-off-by:"):
        at -= 1
    return "\n".join([*lines[:at], text, *lines[at:]])


# -- a run that was killed -------------------------------------------------------------------


def _subject(line: Line, slug: str) -> str:
    return f"{line.name}: split {slug}"


def _done_before(context: Context, git: Repo, line: Line, place: Place, slug: str) -> Split | None:
    """The result of the split whose commit is the newest one, if that is a split of ``slug``, which
    is therefore in the line no more."""
    head = git.head()
    if head is None or slug in (entry.slug for entry in line.entries):
        return None
    message = git.read_commit(head).message
    if split_lines(message)[:1] != [_subject(line, slug)]:
        return None
    names = [text[2:] for text in split_lines(message) if text.startswith("- ")]
    patches = [patch for patch in line.patches if patch.slug in names]
    with passing_objects(place.repo) as objects:
        tree = series_at(context, objects, line, place).tree
    parts = [
        SplitPart(patch.slug, patch.subject, tuple(PartFile(file.path) for file in patch.files))
        for patch in patches
    ]
    return Split(line.name, slug, line.folder, tuple(parts), (), tree, (), head)
