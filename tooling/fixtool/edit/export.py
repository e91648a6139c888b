"""Turns the commits of a work tree back into patch files.

Only what changed is written, and all of it or nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fixtool.apply.worktree import Record, require_clean, write_record
from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.judgement.manifest import Manifest, ManifestPatch
from fixtool.replay.verdict import Verdict
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import export as export_patch
from fixtool.series.patch import slugify
from fixtool.series.write import rewrite, series_text, writing
from fixtool.text import argument, split_lines


class Change(StrEnum):
    UNCHANGED = "unchanged"
    REWRITTEN = "rewritten"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class WrittenFile:
    """What an export does to one patch file. ``commit`` is None if the patch was removed."""

    slug: str
    change: Change
    commit: Oid | None


class Form(StrEnum):
    """The forms, beside the line itself, in which patches are written."""

    MBOX = "mbox"
    COMBINED = "combined"
    SERIES = "series"


@dataclass(frozen=True)
class Output:
    """A form, and the file or folder that it goes to."""

    form: Form
    path: Path


@dataclass(frozen=True)
class Exported:
    """``folder`` is where the files went, or would go on a dry run. ``written`` are the files and
    folders in other forms that were written instead, ``written_anew`` says whether their bytes
    changed, and the notes are about them."""

    line: str
    folder: Path
    patches: tuple[WrittenFile, ...]
    series_changed: bool
    written: tuple[Output, ...] = ()
    written_anew: bool = False
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return (
            self.series_changed
            or self.written_anew
            or any(file.change is not Change.UNCHANGED for file in self.patches)
        )


def export(
    repository: PatchRepository,
    tree: Repo,
    record: Record,
    *,
    output: Path | None = None,
    remove_missing: bool = False,
    dry_run: bool = False,
    only: str | None = None,
) -> Exported:
    """Write the commits of a work tree, from its base to HEAD, to their line, or to ``output``.

    A patch whose commit is the one that ``apply`` made keeps its exact bytes. ``only`` writes the
    file of that patch and no other. ``remove_missing`` removes the patches that have no commit any
    more.

    Raises Refused if the work tree is not clean (the change would be lost), if its history is not
    one straight line, if a patch has no commit any more, or if the work tree is not on the base of
    the line and there is no ``output``.
    """
    if record.proposal:
        raise Refused(
            f"this work tree holds {record.proposal} as upstream would get it",
            where=str(tree.work_tree),
            hint="make the change in a work tree of the line: fixtool apply --worktree DIR",
        )
    require_clean(tree)
    with nullcontext() if dry_run else writing(repository):
        line = repository.line(record.line)
        base = line.upstream.base
        if output is None and not _at_base(tree, record, line):
            raise Refused(
                f"this work tree is on {record.onto[:12]}, but line {line.name} is written against "
                f"{base[:12]}",
                where=str(tree.work_tree),
                hint="write the patches elsewhere: fixtool export --output DIR",
            )
        commits = commits_by_slug(tree, record, line)
        slug = line.find(only).slug if only else None
        applied = {*record.commits, slug} - commits.keys()
        missing = [entry.slug for entry in line.entries if entry.slug in applied]
        if missing and not remove_missing:
            raise Refused(
                f"no commit in the work tree holds {', '.join(missing)} any more",
                where=str(tree.work_tree),
                hint="bring it back, or say that it may go: fixtool export --remove-missing",
            )
        if slug:
            return _export_one(line, tree, record, slug, commits[slug], dry_run=dry_run)
        return _export_all(line, tree, record, commits, missing, output, dry_run=dry_run)


def _export_one(
    line: Line, tree: Repo, record: Record, slug: str, commit: Oid, *, dry_run: bool
) -> Exported:
    files, changes = _patch_files(line, tree, record, {slug: commit})
    if not dry_run:
        rewrite(line.folder, files)
        series = [entry.slug for entry in line.entries]
        manifest = _manifest(tree, record, series, files, {slug: commit})
        commits = {**record.commits, slug: commit}
        write_record(tree, replace(record, commits=commits, manifest=manifest))
    return Exported(line.name, line.folder, tuple(changes), False)


def _export_all(
    line: Line,
    tree: Repo,
    record: Record,
    commits: Mapping[str, Oid],
    missing: Sequence[str],
    output: Path | None,
    *,
    dry_run: bool,
) -> Exported:
    files, changes = _patch_files(line, tree, record, commits)
    changes += [WrittenFile(slug, Change.REMOVED, None) for slug in missing]
    # A patch that was not applied here was absorbed by this work tree's base: it stays.
    present = {*record.commits, *commits}
    absent = [entry.slug for entry in line.entries if entry.slug not in present]
    series = [*commits, *absent]
    files["series"] = series_text(line, series)
    series_changed = files["series"] != (line.folder / "series").read_bytes()
    folder = output or line.folder
    if not dry_run:
        rewrite(folder, files, frozenset(f"{slug}.patch" for slug in missing))
        if output is None and commits:  # saved: the next apply may move this work tree on
            tip = list(commits.values())[-1]
            manifest = _manifest(tree, record, series, files, commits)
            write_record(tree, replace(record, commit=tip, commits=commits, manifest=manifest))
    return Exported(line.name, folder, tuple(changes), series_changed)


def _manifest(
    tree: Repo,
    record: Record,
    series: Sequence[str],
    files: Mapping[str, bytes],
    commits: Mapping[str, Oid],
) -> Manifest | None:
    """The work tree's manifest once the patches of ``commits``, slug -> commit, are written as
    ``files`` and the line's order is ``series``."""
    if record.manifest is None:
        return None
    written = {
        slug: ManifestPatch(
            slug, tree.read_commit(commit).subject,
            hashlib.sha256(files[f"{slug}.patch"]).hexdigest(), Verdict.CLEAN, commit,
        )
        for slug, commit in commits.items()
    }  # fmt: skip
    return record.manifest.after_export(series, written)


def _at_base(tree: Repo, record: Record, line: Line) -> bool:
    """Whether the work tree is on the base of the line, or on another commit with the same files:
    patches are written against files."""
    upstream = line.upstream
    return record.onto == upstream.base or tree.tree_id(record.onto) == upstream.tree


def _patch_files(
    line: Line, tree: Repo, record: Record, commits: Mapping[str, Oid]
) -> tuple[dict[str, bytes], list[WrittenFile]]:
    """The patch files of ``commits``, slug -> commit, by file name, and how each one changes."""
    at_base = _at_base(tree, record, line)
    files: dict[str, bytes] = {}
    changes = []
    for slug, commit in commits.items():
        path = line.folder / f"{slug}.patch"
        before = path.read_bytes() if path.is_file() else None
        if before is None:
            data, change = export_patch(tree, commit), Change.ADDED
        elif at_base and record.commits.get(slug) == commit:
            data, change = before, Change.UNCHANGED
        else:
            data = export_patch(tree, commit)
            change = Change.UNCHANGED if data == before else Change.REWRITTEN
        files[path.name] = data
        changes.append(WrittenFile(slug, change, commit))
    return files, changes


def free_slug(subject: str, taken: Collection[str]) -> str:
    """A slug for ``subject`` that is not ``taken`` (two subjects once overwrote one file)."""
    slug = slugify(subject)
    number = 2
    while slug in taken:
        slug = f"{re.sub(r'-[0-9]+$', '', slug)}-{number}"
        number += 1
    return slug


def _commits_after_base(tree: Repo, onto: str) -> list[Oid]:
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


def commits_by_slug(tree: Repo, record: Record, line: Line) -> dict[str, Oid]:
    """The commits of the work tree in order, each under the slug of its patch.

    A commit belongs to the patch that ``apply`` recorded for it, else to the next patch with its
    subject, else to the only patch with its author and date, which outlive a new subject. Any other
    commit is a new patch, whose slug is made of the subject.
    """
    recorded = {commit: slug for slug, commit in record.commits.items()}
    commits = {oid: tree.read_commit(oid) for oid in _commits_after_base(tree, record.onto)}
    known = {oid: recorded.get(oid) for oid in commits}
    subjects: dict[str, list[str]] = {}
    for patch in line.patches:
        subjects.setdefault(patch.subject, []).append(patch.slug)
    free = {
        subject: [slug for slug in slugs if slug not in known.values()]
        for subject, slugs in subjects.items()
    }
    for oid, commit in commits.items():
        if known[oid] is None and free.get(commit.subject):
            known[oid] = free[commit.subject].pop(0)
    authored = Counter(commit.author for commit in commits.values())
    authored.update(patch.author for patch in line.patches)
    reworded = {
        patch.author: patch.slug
        for patch in line.patches
        if patch.slug not in known.values() and authored[patch.author] == 2  # one patch, one commit
    }
    slugs: dict[str, Oid] = {}
    for oid, commit in commits.items():
        slug = known[oid] or reworded.get(commit.author)
        twin = slug is None and commit.subject in subjects
        if slug is None:
            slug = free_slug(commit.subject, {*slugs, *(patch.slug for patch in line.patches)})
        if twin or slug in slugs:
            raise Refused(
                f"two commits have the subject {commit.subject!r}, and one patch: export cannot "
                "tell whose it is",
                where=str(tree.work_tree),
                hint=f"git -C {argument(tree.work_tree)} rebase --interactive {record.onto[:12]}",
            )
        slugs[slug] = oid
    return slugs
