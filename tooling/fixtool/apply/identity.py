"""Tells which commit of a work tree is which patch of its line.

A person may reword, amend, split, reorder and squash commits with plain git, and rename patch files
by hand. A patch keeps its slug through all that. The evidence, strongest first: what the person
says, the record of the commits that fixtool made, the same change (git's stable patch-id), the same
author, date or subject where only one commit has it, and the changed lines, as `git range-diff`
matches. Of several commits with parts of one patch, the first keeps its slug. A note says each
match that is not obvious. What cannot be told is left open.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fixtool.apply.worktree import Record
from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import Oid, Signature, parse_commit
from fixtool.git.repo import Repo
from fixtool.series.line import Line
from fixtool.series.message import split_message
from fixtool.series.patch import Patch, export_all, patch_ids, slugify
from fixtool.text import argument, split_lines

_SIMILAR = 0.4  # of the changed lines of two changes: then they may be one patch
_CLEARLY = 0.75  # another candidate has at most this share of the similarity of the best one
_HALF = 0.5  # of the lines of a part, and more, stand in the whole
_TELLING = 3  # characters and more: such a changed line tells one change from another
_PLACES = re.compile(rb"^(?:index|@@) .*\n?", re.MULTILINE)
_DIFF = re.compile(rb"^diff --git ", re.MULTILINE)


@dataclass(frozen=True)
class Identified:
    """Which commit is which patch. ``commits`` maps slugs to commits, in the order of the work
    tree. ``squashed`` names, for a patch without a commit of its own, the patch whose commit holds
    its change. ``renamed`` maps the slug that a patch had when the work tree was made to the one
    that it has now. ``alike`` are, for a patch without a commit, the new commits that have some of
    its lines. The notes say each match that is not obvious."""

    commits: Mapping[str, Oid]
    squashed: Mapping[str, str]
    renamed: Mapping[str, str]
    alike: Mapping[str, tuple[Oid, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MessageAndDiff:
    """What a commit or a patch file does: its diff, and what it says of that."""

    subject: str
    body: str
    author: Signature
    diff: bytes = field(repr=False)

    @property
    def essence(self) -> tuple[str, str, Signature, bytes]:
        """The message, who wrote it, and the changed lines with those around them, wherever they
        stand. (git's patch-id takes two changes for one that differ in blanks.)"""
        return self.subject, self.body, self.author, _PLACES.sub(b"", self.diff)

    @cached_property
    def lines(self) -> Counter[bytes]:
        """The lines that it takes away and adds."""
        return _changed_lines(self.diff)

    @cached_property
    def telling(self) -> Counter[bytes]:
        """Those of its lines that tell it from another change: a brace does not."""
        return Counter({line: number for line, number in self.lines.items()
                        if len(line) > _TELLING})  # fmt: skip


@dataclass(frozen=True)
class _Known:
    """A patch that has no commit yet, as it was when the work tree was made and as its file is."""

    slug: str
    sides: tuple[MessageAndDiff, ...]


def identify(
    tree: Repo,
    record: Record,
    line: Line,
    pairs: Mapping[str, str] | None = None,
    new: Mapping[str, Oid] | None = None,
) -> Identified:
    """Tell which commit of the work tree ``tree`` is which patch of ``line``. ``pairs`` are the
    names of commits that a person has given, by slug, and ``new`` are commits that become new
    patches, likewise.

    Raises Refused if the commits are no straight line, UsageError if ``pairs`` names what is not
    there.
    """
    renamed = renames(tree, record, line)
    record = with_renames(record, renamed)
    matching = _Matching(tree, record, line)
    matching.take(pairs or {})
    matching.found |= {commit: slug for slug, commit in (new or {}).items()}
    matching.match()
    return matching.result(renamed)


def commits_after_base(tree: Repo, onto: str) -> list[Oid]:
    """The commits after ``onto``, oldest first. Raises Refused if they are no straight line."""
    commits: list[Oid] = []
    out = tree.run("rev-list", "--reverse", "--parents", f"{onto}..HEAD")
    for commit, *parents in (entry.split() for entry in split_lines(out.text)):
        expected = commits[-1] if commits else onto
        if parents != [expected]:
            raise Refused(
                f"{commit[:12]} does not follow {expected[:12]}: a series is one straight line",
                where=str(tree.work_tree),
                hint=f"git -C {argument(tree.work_tree)} rebase {onto[:12]}",
            )
        commits.append(Oid(commit))
    return commits


def free_slug(subject: str, taken: Collection[str]) -> str:
    """A slug for ``subject`` that is not ``taken`` (two subjects once overwrote one file)."""
    slug = slugify(subject)
    number = 2
    while slug in taken:
        slug = f"{re.sub(r'-[0-9]+$', '', slug)}-{number}"
        number += 1
    return slug


# -- a patch file that was renamed by hand ---------------------------------------------------


def renames(tree: Repo, record: Record, line: Line) -> dict[str, str]:
    """The new slugs of patches whose files were renamed since the work tree was made, by their old
    slugs: by the bytes of the file, or by its change, or by its author, date and subject."""
    now = {entry.slug for entry in line.entries}
    recorded = record.manifest.patches if record.manifest else ()
    digests = {patch.slug: patch.sha256 for patch in recorded}
    gone = [slug for slug in (digests or record.commits) if slug not in now]
    known = {*digests, *record.commits}
    new = [patch for patch in line.patches if patch.slug not in known] if gone else []
    if not new:
        return {}
    sides = _recorded_sides(tree, record, gone)
    diffs = [*(side.diff if side else b"" for side in sides), *(patch.diff for patch in new)]
    ids = [identifier or None for identifier in patch_ids(tree, diffs)]
    evidence: tuple[tuple[Sequence[Hashable], Sequence[Hashable]], ...] = (
        ([digests.get(slug) for slug in gone], [patch.digest for patch in new]),
        (ids[: len(gone)], ids[len(gone) :]),
        ([(side.author, side.subject) if side else None for side in sides],
         [(patch.author, patch.subject) for patch in new]),
    )  # fmt: skip
    found: dict[str, str] = {}
    for old_keys, new_keys in evidence:
        before = dict(zip(gone, old_keys, strict=True))
        after = dict(zip((patch.slug for patch in new), new_keys, strict=True))
        found |= _one_to_one(
            {slug: key for slug, key in before.items() if slug not in found},
            {slug: key for slug, key in after.items() if slug not in found.values()},
        )
    return found


def with_renames(record: Record, renamed: Mapping[str, str]) -> Record:
    """The record of a work tree with the slugs that its patches have now."""
    if not renamed:
        return record
    commits = {renamed.get(slug, slug): commit for slug, commit in record.commits.items()}
    manifest = record.manifest
    if manifest:
        patches = (replace(patch, slug=renamed.get(patch.slug, patch.slug))
                   for patch in manifest.patches)  # fmt: skip
        manifest = replace(manifest, patches=tuple(patches))
    return replace(record, commits=commits, manifest=manifest)


def _recorded_sides(
    tree: Repo, record: Record, slugs: Sequence[str]
) -> list[MessageAndDiff | None]:
    """The change of each of ``slugs`` as the work tree got it; None if its commit is not here."""
    sides = sides_of(tree, [record.commits[slug] for slug in slugs if slug in record.commits])
    return [sides.get(record.commits.get(slug, Oid(""))) for slug in slugs]


def sides_of(tree: Repo, commits: Sequence[Oid]) -> dict[Oid, MessageAndDiff]:
    """The changes of those of ``commits`` that are here."""
    found = {oid: parse_commit(raw) for oid, raw in tree.commits_here(commits).items()}
    sides = {}
    for (oid, commit), mail in zip(found.items(), export_all(tree, list(found)), strict=True):
        start = _DIFF.search(mail)
        subject, body = split_message(commit.message)
        sides[oid] = MessageAndDiff(
            subject, body, commit.author, mail[start.start() :] if start else b""
        )
    return sides


def change_of(patch: Patch) -> MessageAndDiff:
    """What a patch file does."""
    return MessageAndDiff(patch.subject, patch.body, patch.author, patch.diff)


def _one_to_one(before: Mapping[str, Hashable], after: Mapping[str, Hashable]) -> dict[str, str]:
    """The pairs of keys whose value no other key has on either side. None is no value."""
    numbers = Counter(before.values()), Counter(after.values())
    by_value = {value: key for key, value in after.items()}
    return {
        key: by_value[value]
        for key, value in before.items()
        if value is not None and numbers[0][value] == numbers[1][value] == 1
    }


# -- matching ---------------------------------------------------------------------------------


class _Matching:
    """The patches and the commits that are not matched yet, and the matches that were found."""

    def __init__(self, tree: Repo, record: Record, line: Line) -> None:
        self.tree, self.record, self.line = tree, record, line
        self.commits = commits_after_base(tree, record.onto)
        self.found: dict[Oid, str] = {}
        self.notes: list[str] = []
        recorded = {commit: slug for slug, commit in record.commits.items()}
        self.unchanged = {oid for oid in self.commits if oid in recorded}
        self.recorded = recorded
        slugs = {patch.slug for patch in record.manifest.patches} if record.manifest else None
        self.made_of = slugs or {*record.commits, *(entry.slug for entry in line.entries)}
        self.patches: dict[str, _Known] = {}
        self.sides: dict[Oid, MessageAndDiff] = {}

    def take(self, pairs: Mapping[str, str]) -> None:
        """Match what a person has named. Raises UsageError if it is not there."""
        known = {*self.record.commits, *(entry.slug for entry in self.line.entries)}
        for slug, name in pairs.items():
            commit = Oid(name) if name in self.commits else self.tree.commit_id(name)
            if commit not in self.commits:
                raise UsageError(
                    f"{name!r} is no commit of this work tree's series",
                    where=str(self.tree.work_tree),
                    hint=f"git -C {argument(self.tree.work_tree)} log {self.record.onto[:12]}..",
                )
            if slug not in known:
                raise UsageError(
                    f"line {self.line.name} has no patch {slug!r}; it has: {', '.join(known)}"
                )
            self.found[commit] = slug

    def match(self) -> None:
        for oid in self.commits:
            slug = self.recorded.get(oid)
            if slug and oid not in self.found and slug not in self.found.values():
                self.found[oid] = slug
        open_commits = [oid for oid in self.commits if oid not in self.found]
        if not open_commits:
            return
        self.sides = sides_of(self.tree, open_commits)
        self.patches = {patch.slug: patch for patch in self._open_patches()}
        self._by_change()
        self._by_message()
        self._by_lines()
        self._by_parts()

    def _open_patches(self) -> list[_Known]:
        taken = set(self.found.values())
        ours = [slug for slug in self.record.commits if slug not in taken]
        files = {patch.slug: change_of(patch)
                 for patch in self.line.patches if patch.slug not in taken}  # fmt: skip
        recorded = dict(zip(ours, _recorded_sides(self.tree, self.record, ours), strict=True))
        order = [*ours, *(slug for slug in files if slug not in recorded)]
        return [
            _Known(slug, tuple(side for side in (recorded.get(slug), files.get(slug)) if side))
            for slug in order
        ]

    def _pair(self, slug: str, oid: Oid, why: str = "") -> None:
        """Match a patch and a commit. ``why`` is a note's reason, if the match is not obvious."""
        side = self.sides.pop(oid)
        patch = self.patches.pop(slug)
        self.found[oid] = slug
        if why and side.subject not in (known.subject for known in patch.sides):
            self.notes.append(f"{oid[:12]} {side.subject!r} is {slug}: {why}")

    def _by_change(self) -> None:
        """The same change. Of several that are the same, each has its subject, or its place."""
        known = [(slug, side) for slug, patch in self.patches.items() for side in patch.sides]
        diffs = [*(side.diff for side in self.sides.values()), *(side.diff for _, side in known)]
        ids = patch_ids(self.tree, diffs)
        id_of = dict(zip(self.sides, ids, strict=False))
        by_id: dict[str, list[str]] = {}
        for (slug, _), identifier in zip(known, ids[len(id_of) :], strict=True):
            if slug not in by_id.setdefault(identifier, []):
                by_id[identifier].append(slug)
        for oid, side in list(self.sides.items()):
            same = [slug for slug in by_id.get(id_of[oid], ()) if slug in self.patches]
            titled = [slug for slug in same if side.subject in self._subjects(slug)]
            if side.diff and same:
                self._pair((titled or same)[0], oid, "the same change under a new subject")

    def _subjects(self, slug: str) -> list[str]:
        return [side.subject for side in self.patches[slug].sides]

    def _by_message(self) -> None:
        """The same author, date and subject, the same author and date, or the same subject, if only
        one patch and one commit have it, and no other patch has far more of the commit's lines."""
        keys: tuple[tuple[Callable[[MessageAndDiff], Hashable], str], ...] = (
            (lambda side: (side.author, side.subject), ""),
            (lambda side: side.author, "the same author and date"),
            (lambda side: side.subject, ""),
        )
        for number, (key, why) in enumerate(keys):
            if number:  # what was added to the line since is another patch, unless all is the same
                self.patches = {slug: patch for slug, patch in self.patches.items()
                                if slug in self.made_of}  # fmt: skip
            patches = {
                slug: {key(side) for side in patch.sides} for slug, patch in self.patches.items()
            }
            numbers = Counter(value for values in patches.values() for value in values)
            commits = Counter(key(side) for side in self.sides.values())
            for oid, side in list(self.sides.items()):
                value = key(side)
                if numbers[value] == commits[value] == 1:
                    slug = next(slug for slug, values in patches.items() if value in values)
                    if slug in self.patches and not self._is_another(slug, oid):
                        self._pair(slug, oid, why)

    def _is_another(self, slug: str, oid: Oid) -> bool:
        """Whether a commit has lines of another patch, and none of this one. That it only takes
        away the same line tells nothing: two patches may have changed it one after the other."""
        if self._likeness(slug, oid) > 0:
            return False
        commit = self.sides[oid]
        added = {line for line in commit.telling or commit.lines if line.startswith(b"+")}
        return any(
            self._likeness(other, oid) >= _SIMILAR
            and (not added or any(not added.isdisjoint(side.lines) for side in patch.sides))
            for other, patch in self.patches.items()
            if other != slug
        )

    def _likeness(self, slug: str, oid: Oid) -> float:
        """Which part of the changed lines of a patch and of a commit is the same, from 0 to 1."""
        pairs = [_to_compare(side, self.sides[oid]) for side in self.patches[slug].sides]
        return max(
            (2 * _common(some, others) / max(some.total() + others.total(), 1)
             for some, others in pairs), default=0,
        )  # fmt: skip

    def _by_lines(self) -> None:
        """Similar changes, if neither has another that is nearly as similar."""
        likeness = {
            (slug, oid): self._likeness(slug, oid) for slug in self.patches for oid in self.sides
        }
        for (slug, oid), best in sorted(likeness.items(), key=lambda item: -item[1]):
            if best < _SIMILAR or slug not in self.patches or oid not in self.sides:
                continue
            rivals = [
                value for (other, commit), value in likeness.items()
                if (other == slug) != (commit == oid)
                and other in self.patches and commit in self.sides
            ]  # fmt: skip
            if max(rivals, default=0) <= _CLEARLY * best:
                self._pair(slug, oid, f"{best:.0%} of their changed lines are the same")

    def _by_parts(self) -> None:
        """A commit into which patches were squashed is the first of them. Of the parts of a patch,
        the first with its subject keeps the slug, or else the first."""
        for oid in list(self.sides):
            wholes = [slug for slug in self.patches if self._is_part(self.sides[oid], slug)]
            if wholes:
                self._pair(wholes[0], oid, f"it holds most of {', '.join(wholes)}")
        for slug in list(self.patches):
            parts = [oid for oid in self.sides if self._is_part(self.sides[oid], slug, inner=True)]
            titled = [oid for oid in parts if self.sides[oid].subject in self._subjects(slug)]
            if parts:
                why = "it holds a part of it" + ", and is the first that does" * (len(parts) > 1)
                self._pair(slug, (titled or parts)[0], why)

    def _is_part(self, commit: MessageAndDiff, slug: str, *, inner: bool = False) -> bool:
        """Whether most lines of a patch are in a commit, or most of a commit in a patch
        (``inner``)."""
        for side in self.patches[slug].sides:
            whole, lines = _to_compare(side, commit)
            part = (lines if inner else whole).total()
            if part and _common(whole, lines) > _HALF * part:
                return True
        return False

    # -- what is left -----------------------------------------------------------------------

    def result(self, renamed: Mapping[str, str]) -> Identified:
        slugs = {entry.slug for entry in self.line.entries} | set(self.record.commits)
        subjects = {patch.subject: patch.slug for patch in self.line.patches}
        commits: dict[str, Oid] = {}
        for oid in self.commits:
            slug = self.found.get(oid)
            if slug is None:
                subject = self.sides[oid].subject
                slug = free_slug(subject, slugs)
                slugs.add(slug)
                if subject in subjects:
                    twin = subjects[subject]
                    self.notes.append(f"{oid[:12]} has the subject of {twin}, and is a new patch")
            commits[slug] = oid
        missing = [slug for slug in self.record.commits if slug not in commits]
        squashed = self._squashed(missing, commits)
        alike = {
            slug: tuple(oid for oid in self.sides if self._likeness(slug, oid) > 0)
            for slug in missing
            if slug not in squashed and slug in self.patches
        }
        self.notes += [f"{old}.patch is {new}.patch in the line now"
                       for old, new in renamed.items()]  # fmt: skip
        return Identified(commits, squashed, renamed, alike, tuple(self.notes))

    def _squashed(self, missing: Sequence[str], commits: Mapping[str, Oid]) -> dict[str, str]:
        """For those of ``missing`` whose whole change is in a commit that a person made: the patch
        that this commit is."""
        lost = self.tree.lacks([self.record.commits[slug] for slug in missing])
        changes = {slug: self.record.commits[slug] for slug in missing
                   if self.record.commits[slug] not in lost}  # fmt: skip
        made = {slug: oid for slug, oid in commits.items() if oid not in self.unchanged}
        if not changes or not made:
            return {}
        with passing_objects(self.tree) as objects:
            found = holders_of(objects, changes, made)
        self.notes += [f"{slug} is in {made[holder][:12]} now, squashed into {holder}"
                       for slug, holder in found.items()]  # fmt: skip
        return found


def holders_of(
    objects: ObjectDatabase, changes: Mapping[str, Oid], made: Mapping[str, Oid]
) -> dict[str, str]:
    """For each of the commits ``changes`` whose whole change came with one of the commits ``made``:
    that one's slug. Both map slugs to commits."""
    questions = [(slug, holder) for slug in changes for holder in made]
    asked = []
    for slug, holder in questions:
        change, made_by = objects.commit(changes[slug]), objects.commit(made[holder])
        base = objects.tree_of(change.parents[0])
        for tree in (made_by.tree, objects.tree_of(made_by.parents[0])):
            asked.append(Question(base, tree, change.tree))
    pairs = [question.commits(objects) for question in asked]
    objects.flush()
    merges = merge_many(objects.repo, pairs, keep=False) if pairs else []
    holds = [not merge.conflicts and merge.tree == question.ours
             for merge, question in zip(merges, asked, strict=True)]  # fmt: skip
    found: dict[str, str] = {}
    for at, (slug, holder) in enumerate(questions):
        if holds[2 * at] and not holds[2 * at + 1]:
            found.setdefault(slug, holder)
    return found


def _changed_lines(diff: bytes) -> Counter[bytes]:
    """The lines that a diff takes away and adds."""
    lines: Counter[bytes] = Counter()
    in_hunk = False
    for line in diff.split(b"\n"):
        if line.startswith(b"diff --git "):
            in_hunk = False
        elif line.startswith((b"@@ ", b"GIT binary patch")):
            in_hunk = True
        elif in_hunk and line[:1] not in (b" ", b"\\", b""):
            lines[line[:1] + line[1:].strip()] += 1
    return lines


def _to_compare(
    some: MessageAndDiff, other: MessageAndDiff
) -> tuple[Counter[bytes], Counter[bytes]]:
    """The lines of two changes by which they are compared: the telling ones if both have some, or
    else all. (A file of numbers has none, and a commit that also holds another change has some.)"""
    if some.telling and other.telling:
        return some.telling, other.telling
    return some.lines, other.lines


def _common(some: Counter[bytes], others: Counter[bytes]) -> int:
    return (some & others).total()
