"""The editing engine: the new files of a line whose series is to be another sequence of patches.

Every verb that edits a series says which patches it wants, in order: ``Wanted`` names the patch and
the commit whose change it makes. ``make`` computes them all on the line's base, in the object
database, and gives the files that change. ``Made.write`` writes these at once and commits them. A
verb that writes a line uses it like this:

    with passing_objects(store) as objects:
        own = own_series(objects, line, base)
        wanted = ...  # own.wanted, in another order, with other messages, trees or commits
        made = make(objects, own, Plan(tuple(wanted), "move a before b"))
    made.write(repository, git)

``make`` raises ``Conflict`` if a person has to merge a patch. ``edit.waiting`` then keeps the plan
with a work tree, so that `--continue` goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from fixtool.edit.texts import dependencies_in, with_dependencies
from fixtool.errors import ExitCode, FixtoolError, Refused, UsageError
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid, Signature
from fixtool.git.repo import Repo
from fixtool.replay.changes import CommitChange, put_changes
from fixtool.series import shelf
from fixtool.series.commit import digest_of_files, files_of, rewrite_and_commit
from fixtool.series.line import Line, PatchRepository, read_series
from fixtool.series.lint import errors_in_patch
from fixtool.series.message import join_message, split_message
from fixtool.series.patch import Patch, export_all, is_slug, parse, slugify
from fixtool.series.shelf import Shelved
from fixtool.series.strict import commits_on
from fixtool.series.write import series_in_order, writing
from fixtool.text import argument


class EditAction(StrEnum):
    """What an edit does to a patch file."""

    ADDED = "added"
    REWRITTEN = "rewritten"
    RENAMED = "renamed"
    REMOVED = "removed"
    SHELVED = "shelved"  # moved to the shelf: it would change nothing any more


@dataclass(frozen=True)
class Wanted:
    """One patch of the series that is wanted. Its change is that of ``commit`` against its parent;
    with a ``tree``, whatever leads to that tree. The changes of the commits ``then`` follow in the
    same patch, in order. ``old`` is the patch of the line that it goes on, None for a new one.
    ``message`` and ``author`` take the place of those of ``commit``.

    If the last change conflicts, and the series must have the tree ``ends_in`` after it, the patch
    becomes what leads there: two patches change places, and a person resolved the first of them."""

    slug: str
    commit: Oid | None
    old: str | None = None
    message: str | None = None
    author: Signature | None = None
    tree: Oid | None = None
    ends_in: Oid | None = None
    then: tuple[Oid, ...] = ()

    def resolved(self, step: int, tree: Oid) -> Wanted:
        """The same once a person has made ``tree`` of its change number ``step`` (from 0)."""
        return replace(self, tree=tree, then=self.then[step:])


@dataclass(frozen=True)
class Plan:
    """A series that is wanted, and what else changes with it. ``subject`` and ``body`` are the
    message of the commit in the patch repository, without the name of the line. ``names`` say for a
    slug that goes which ones a `Depends-On:` of it names instead. With ``same_tree``, the series
    must make the tree that it makes now. ``emptied`` is the reason with which a patch that would
    change nothing any more goes to the shelf; None refuses the edit. ``files`` and ``remove`` are
    further files of the line, by name."""

    wanted: tuple[Wanted, ...]
    subject: str
    body: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same_tree: bool = False
    emptied: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Conflict(FixtoolError):
    """The patch ``slug``, number ``number`` (from 0) of the ``of`` wanted, does not fit the commit
    ``parent``: the commit ``theirs``, which is its change number ``step`` (from 0), conflicts in
    ``paths``."""

    exit_code = ExitCode.CONFLICT

    def __init__(
        self,
        plan: Plan,
        number: int,
        step: int,
        parent: Oid,
        paths: Sequence[str],
        where: Path,
    ) -> None:
        wanted = plan.wanted[number]
        super().__init__(
            f"{wanted.slug} conflicts in {', '.join(paths)}",
            where=str(where),
            hint="resolve it in a work tree: the same command without --dry-run",
        )
        theirs = wanted.then[step - 1] if step else wanted.commit
        assert theirs is not None
        self.slug, self.number, self.step, self.parent = wanted.slug, number, step, parent
        self.theirs, self.paths, self.of = theirs, tuple(paths), len(plan.wanted)


@dataclass(frozen=True)
class OwnSeries:
    """A line, and the commits that its patches make on its base."""

    line: Line
    base: Oid
    commits: Mapping[str, Oid]
    tree: Oid

    @property
    def tip(self) -> Oid:
        return [self.base, *self.commits.values()][-1]

    @property
    def wanted(self) -> list[Wanted]:
        """The series as it is."""
        return [Wanted(slug, commit, slug) for slug, commit in self.commits.items()]


@dataclass(frozen=True)
class EditedPatch:
    """A patch whose file changes. ``was`` is its old slug, if it had another one."""

    slug: str
    subject: str
    change: EditAction
    was: str | None = None


@dataclass(frozen=True)
class Made:
    """A series that can be written: its files by name, and the names of those that go. ``series``
    are its patches, and ``commits`` these by slug, in order, as commits on the base of the line.
    ``patches`` says what happens to the files."""

    line: Line
    plan: Plan
    digest: str
    files: Mapping[str, bytes]
    remove: frozenset[str]
    commits: Mapping[str, Oid]
    patches: tuple[EditedPatch, ...]
    series: tuple[Patch, ...]
    tree: Oid
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be written."""
        return self.digest_after != self.digest

    @property
    def digest_after(self) -> str:
        """The digest of the line once this is written."""
        return digest_of(self.line, self.files, self.remove)

    @property
    def message(self) -> str:
        text = f"{self.line.name}: {self.plan.subject}\n"
        return f"{text}\n{self.plan.body}\n" if self.plan.body else text

    def write(self, repository: PatchRepository, git: Repo | None) -> Oid | None:
        """Write the line, and commit it to ``git`` if that is given. Returns the commit; None if
        nothing changed. Raises Refused if another run has changed the line meanwhile."""
        with writing(repository):
            if digest_of(repository.line(self.line.name)) != self.digest:
                raise _changed(self.line)
            return rewrite_and_commit(git, self.line.folder, self.files, self.remove, self.message)


def _changed(line: Line) -> Refused:
    return Refused(
        f"line {line.name} was changed meanwhile",
        where=str(line.folder),
        hint="run the same command again",
    )


def own_series(
    objects: ObjectDatabase, line: Line, base: Oid, known: Sequence[Oid] = ()
) -> OwnSeries:
    """The commits of the patches of ``line`` on its ``base``. Those of the first patches may be
    ``known``. Raises Refused if one does not apply."""
    rest = line.patches[len(known) :]
    made, complaint = commits_on(objects, rest, [base, *known][-1])
    if complaint:
        patch = rest[len(made)]
        raise Refused(
            f"{patch.slug} does not apply on the line's own base: {complaint}",
            where=str(patch.path),
            hint=f"fixtool lint --line {line.name} --drift",
        )
    return series_of(objects, line, base, [*known, *made])


def series_of(objects: ObjectDatabase, line: Line, base: Oid, commits: Sequence[Oid]) -> OwnSeries:
    """The same, with the commits that are known."""
    by_slug = dict(zip((patch.slug for patch in line.patches), commits, strict=True))
    return OwnSeries(line, base, by_slug, objects.tree_of([base, *commits][-1]))


def require_free(line: Line, *slugs: str) -> None:
    """Raise UsageError if one of ``slugs`` cannot be the name of a new patch of ``line``."""
    shelved = {entry.slug for entry in shelf.read(line.folder)}
    for slug in slugs:
        if not is_slug(slug):
            raise UsageError(
                f"{slug!r} cannot be the name of a patch",
                hint="use letters, digits, '.', '_', '+' and '-': the same command with "
                f"{slugify(slug)} instead of {argument(slug)}",
            )
        if slug in (entry.slug for entry in line.entries):
            raise UsageError(
                f"line {line.name} has a patch {slug!r} already",
                where=str(line.folder / f"{slug}.patch"),
                hint=f"choose another name: the same command with OTHER-NAME instead of {slug}; or "
                f"change that patch: fixtool edit {slug} --line {line.name}",
            )
        if slug in shelved:
            raise UsageError(
                f"the shelf of line {line.name} has a patch {slug!r}",
                hint=f"choose another name: the same command with OTHER-NAME instead of {slug}; or "
                f"bring that back: fixtool restore {slug} --line {line.name}",
            )


def digest_of(
    line: Line, files: Mapping[str, bytes] | None = None, remove: frozenset[str] = frozenset()
) -> str:
    """A digest of all files of the line: as they are, or with ``files`` written and ``remove``
    taken away."""
    contents = {**files_of(line.folder), **(files or {})}
    return digest_of_files({name: data for name, data in contents.items() if name not in remove})


def make(objects: ObjectDatabase, own: OwnSeries, plan: Plan) -> Made:
    """The files of the line with the series of ``plan``. A patch keeps its exact bytes if its
    message, its author and the files that it changes are as before.

    Raises Conflict if a person has to merge a patch; Refused if one would change nothing any more,
    if the tree at its end should be the same and is not, or if a `Depends-On:` would not be true
    any more.
    """
    return _Maker(objects, own, plan).make()


class _Maker:
    def __init__(self, objects: ObjectDatabase, own: OwnSeries, plan: Plan) -> None:
        self.objects, self.own, self.plan = objects, own, plan
        self.line = own.line
        self.old = {patch.slug: patch for patch in self.line.patches}
        self.notes = list(plan.notes)
        self.emptied: list[Wanted] = []
        self.aside: frozenset[int] = frozenset()  # patches that do to every file what they did

    def make(self) -> Made:
        """Whatever another run does to the line meanwhile, it is one error, which says so."""
        contents = files_of(self.line.folder)
        self._require_as_read(contents)
        digest = digest_of_files(contents)
        try:
            return self._make(digest)
        except Exception as error:
            if digest_of(self.line) != digest:
                raise _changed(self.line) from error
            raise

    def _require_as_read(self, contents: Mapping[str, bytes]) -> None:
        """Raise Refused if the files of the line are not those any more of which the plan was made:
        what another run has written since would be written over."""
        place = str(self.line.folder / "series")
        entries = [entry.slug for entry in read_series(contents.get("series", b""), place)]
        read = {f"{patch.slug}.patch": patch for patch in self.line.patches}
        there = all(name in contents and patch.has_text(contents[name])
                    for name, patch in read.items())  # fmt: skip
        if entries != [entry.slug for entry in self.line.entries] or not there:
            raise _changed(self.line)

    def _make(self, digest: str) -> Made:
        self._require_dependencies()
        trees = self._trees()
        commits = self._commits(trees)
        tree = trees[-1] if trees else self.objects.tree_of(self.own.base)
        if self.plan.same_tree and tree != self.own.tree:
            raise Refused(
                f"the series would make tree {tree[:12]}, and it makes {self.own.tree[:12]} now",
                where=str(self.line.folder),
                hint=f"see what needs what: fixtool deps --line {self.line.name}",
            )
        patches = self._patches(commits)
        files, remove, edited = self._files(patches)
        by_slug = dict(zip((patch.slug for patch in patches), commits.values(), strict=True))
        return Made(self.line, self.plan, digest, files, remove, by_slug, edited, tuple(patches),
                    tree, tuple(self.notes))  # fmt: skip

    def _require_dependencies(self) -> None:
        """Raise Refused if a patch would depend on one that does not come before it any more."""
        line, wanted = self.line, self.plan.wanted
        broken = {
            (patch.slug, name)
            for number, patch in enumerate(line.patches)
            for needed in patch.depends_on
            if needed not in (earlier.slug for earlier in line.patches[:number])
            for name in self.plan.names.get(needed, (needed,))
        }
        slugs = [each.slug for each in wanted]
        for number, each in enumerate(wanted):
            for needed in self._depends_on(each):
                if needed in slugs[:number] or (each.old, needed) in broken:
                    continue
                later = needed in slugs
                what = "which would come after it" if later else "which the line would not have"
                raise Refused(
                    f"{each.slug} depends on {needed}, {what}",
                    where=str(line.folder),
                    hint=f"see what needs what: fixtool deps --line {line.name}",
                )

    def _depends_on(self, wanted: Wanted) -> list[str]:
        """The slugs in the `Depends-On:` trailers that a patch will have."""
        old = self.old.get(wanted.old or "")
        if old is not None and not self.plan.names and wanted.message is None:
            return list(old.depends_on)
        if wanted.message is None and wanted.commit is None:
            return []  # a person is to write it
        message, _ = self._text(wanted)
        return dependencies_in(split_message(message)[1])

    def _trees(self) -> list[Oid]:
        """The tree after each patch that is wanted."""
        wanted = self.plan.wanted
        by_commit = {self.own.commits[slug]: patch for slug, patch in self.old.items()}
        changes: list[CommitChange] = []
        steps: list[tuple[int, int]] = []  # the number of the patch, and that of the change in it
        for number, each in enumerate(wanted):
            for step, commit in enumerate((each.commit, *each.then)):
                tree = None if step else each.tree
                ends_in = each.ends_in if step == len(each.then) else None
                changes.append(
                    CommitChange(commit, tree, by_commit.get(commit or Oid("")), ends_in)
                )
                steps.append((number, step))
        put = put_changes(self.objects, changes, self.objects.tree_of(self.own.base))
        after = dict(zip(steps, put.trees, strict=False))
        if put.conflicts:
            number, step = steps[len(put.trees)]
            before = [after[at, len(wanted[at].then)] for at in range(number)]
            if step:
                before.append(after[number, step - 1])
            commits = self._commits(before, complete=False)
            parent = [self.own.base, *commits.values()][-1]
            raise Conflict(self.plan, number, step, parent, put.conflicts, self.line.folder)
        for forced in put.forced:
            self.notes.append(
                f"{wanted[steps[forced][0]].slug} conflicted, and became what leads to the tree "
                "that is wanted after it: look at it"
            )
        self.aside = frozenset(steps[put_aside][0] for put_aside in put.aside)
        return [after[number, len(each.then)] for number, each in enumerate(wanted)]

    def _commits(self, trees: Sequence[Oid], *, complete: bool = True) -> dict[int, Oid]:
        """The commits of the patches, by their number. One that would change nothing makes none. If
        the trees are not ``complete``, no patch is set aside: another tree of it may follow."""
        commits: dict[int, Oid] = {}
        tip, tree = self.own.base, self.objects.tree_of(self.own.base)
        for number, after in enumerate(trees):
            wanted = self.plan.wanted[number]
            if after == tree:
                if complete:
                    self._set_aside(wanted)
                continue
            message, author = self._text(wanted)
            machine = replace(MACHINE, date=author.date)
            tip = self.objects.add_commit(Commit(after, (tip,), author, machine, message))
            tree = after
            commits[number] = tip
        return commits

    def _set_aside(self, wanted: Wanted) -> None:
        """A patch that would change nothing goes to the shelf, if the plan allows it."""
        if self.plan.emptied is None or wanted.old is None:
            hint = f"see what the line has: fixtool list --line {self.line.name}"
            if wanted.old:
                hint = f"take it out first: fixtool drop {wanted.old} --reason WHY"
            raise Refused(
                f"{wanted.slug} would change nothing: the base or an earlier patch has all of it",
                where=str(self.line.folder),
                hint=hint,
            )
        self.emptied.append(wanted)

    def _text(self, wanted: Wanted) -> tuple[str, Signature]:
        """The message and the author of a patch."""
        old = self.old.get(wanted.old or "")
        if old is not None and wanted.commit == self.own.commits[old.slug]:
            message, author = old.message, old.author
        elif wanted.commit is not None:
            commit = self.objects.commit(wanted.commit)
            message, author = commit.message, commit.author
        else:
            assert wanted.message is not None
            assert wanted.author is not None
            message, author = wanted.message, wanted.author
        message, author = wanted.message or message, wanted.author or author
        if self.plan.names:
            subject, body = split_message(message)
            changed = with_dependencies(body, self.plan.names, wanted.slug)
            if changed != body:
                message = join_message(subject, changed)
        return message, author

    def _patches(self, commits: Mapping[int, Oid]) -> list[Patch]:
        """The patches of ``commits``. Raises Refused if lint would find an error in one."""
        self.objects.flush()
        kept: dict[int, Patch] = {}
        for number, commit in commits.items():
            wanted = self.plan.wanted[number]
            old = self.old.get(wanted.old or "")
            if old is not None and self._is_as_before(old, number, commit):
                kept[number] = old if old.slug == wanted.slug else replace(old, slug=wanted.slug)
        new = [number for number in commits if number not in kept]
        exported = export_all(self.objects.repo, [commits[number] for number in new])
        made = {
            number: parse(raw, self.plan.wanted[number].slug)
            for number, raw in zip(new, exported, strict=True)
        }
        for number, patch in made.items():
            old = self.old.get(self.plan.wanted[number].old or "")
            known = {(error.rule, error.message) for error in errors_in_patch(old)} if old else ()
            for error in errors_in_patch(patch):
                if (error.rule, error.message) in known:
                    continue  # it was there before, and the edit is not about it
                raise Refused(f"{patch.slug}: {error.message}", where=str(self.line.folder),
                              hint=error.fix)  # fmt: skip
        return [kept.get(number) or made[number] for number in commits]

    def _is_as_before(self, old: Patch, number: int, commit: Oid) -> bool:
        """Whether the patch ``old`` says what ``commit`` is, the patch ``number``: its message, its
        author, and what becomes of each file."""
        before = self.own.commits[old.slug]
        if commit == before:
            return True
        now, then = self.objects.commit(commit), self.objects.commit(before)
        if (now.message, now.author) != (then.message, then.author):
            return False
        wanted = self.plan.wanted[number]
        if number in self.aside and wanted.commit == before and not wanted.then:
            return True
        return self._changes(now) == self._changes(then)

    def _changes(self, commit: Commit) -> object:
        parent = self.objects.tree_of(commit.parents[0])
        paths = self.objects.changed_paths(parent, commit.tree)
        return {
            path: (self.objects.entry(parent, path), self.objects.entry(commit.tree, path))
            for path in paths
        }

    def _files(
        self, patches: Sequence[Patch]
    ) -> tuple[dict[str, bytes], frozenset[str], tuple[EditedPatch, ...]]:
        """The files that change, the names of those that go, and what happens to each patch."""
        was = {wanted.slug: wanted.old for wanted in self.plan.wanted}
        slugs = [patch.slug for patch in patches]
        files = {
            f"{patch.slug}.patch": patch.raw
            for patch in patches
            if patch.slug not in self.old or self.old[patch.slug].raw != patch.raw
        }
        files["series"] = series_in_order(self.line, slugs, was)
        gone = {f"{slug}.patch" for slug in self.old.keys() - set(slugs)}
        edited = [_edited(patch, was[patch.slug], slugs, self.old) for patch in patches]
        if self.emptied:
            files |= self._shelved()
        shelved = {wanted.old for wanted in self.emptied}
        goes_on = {*was.values()} - shelved
        for slug, patch in self.old.items():
            if slug not in goes_on:
                change = EditAction.SHELVED if slug in shelved else EditAction.REMOVED
                edited.append(EditedPatch(slug, patch.subject, change))
        remove = frozenset({*gone, *self.plan.remove} - self.plan.files.keys())
        return ({**files, **self.plan.files}, remove, tuple(filter(None, edited)))

    def _shelved(self) -> dict[str, bytes]:
        """The files of the shelf with the patches that would change nothing."""
        reason = self.plan.emptied or ""
        old = [self.old[wanted.old or ""] for wanted in self.emptied]
        entries = (*shelf.read(self.line.folder),
                   *(Shelved(patch.slug, reason, self.own.base) for patch in old))  # fmt: skip
        files = {f"{shelf.FOLDER}/{patch.slug}.patch": patch.raw for patch in old}
        return {**files, shelf.FILE: shelf.text(entries)}


def _edited(
    patch: Patch, was: str | None, slugs: Sequence[str], old: Mapping[str, Patch]
) -> EditedPatch | None:
    """What happens to a patch of the new series, whose patches are ``slugs``; None if its file
    stays as it is."""
    before = old.get(was or "")
    if before is None or (before.slug != patch.slug and before.slug in slugs):
        return EditedPatch(patch.slug, patch.subject, EditAction.ADDED)
    if before.slug != patch.slug:
        return EditedPatch(patch.slug, patch.subject, EditAction.RENAMED, before.slug)
    if before.raw != patch.raw:
        return EditedPatch(patch.slug, patch.subject, EditAction.REWRITTEN)
    return None
