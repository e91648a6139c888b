"""From commits back to patch files: only what changed is written, and all of it or nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fixtool.apply.worktree import Record, require_clean, write_record
from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.series import patch as patches
from fixtool.series.line import Line, PatchRepository
from fixtool.series.write import rewrite, series_text, writing


class Change(StrEnum):
    UNCHANGED = "unchanged"
    REWRITTEN = "rewritten"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class FileChange:
    slug: str
    change: Change
    commit: str | None


@dataclass(frozen=True)
class Exported:
    """``folder`` is where the files went (or would go, on a dry run)."""

    line: str
    folder: Path
    patches: tuple[FileChange, ...]
    series_changed: bool

    @property
    def changed(self) -> bool:
        return self.series_changed or any(
            one.change is not Change.UNCHANGED for one in self.patches
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

    A patch whose commit is the one that `apply` made keeps its exact bytes. ``only`` writes that
    patch's file and no other. Raises Refused where
    the tree is dirty (the change would be lost), where a patch of the series has no commit any
    more, and where the work tree is on another base than the line.
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
        return _export(
            line, tree, record, output=output, remove_missing=remove_missing, dry_run=dry_run,
            only=only and line.find(only).slug,
        )  # fmt: skip


def _export(
    line: Line,
    tree: Repo,
    record: Record,
    *,
    output: Path | None,
    remove_missing: bool,
    dry_run: bool,
    only: str | None,
) -> Exported:
    at_base = record.onto == line.upstream.base
    if output is None and not at_base:
        raise Refused(
            f"this work tree is on {record.onto[:12]}, but line {line.name} is written against "
            f"{line.upstream.base[:12]}",
            where=str(tree.work_tree),
            hint="write the patches elsewhere: fixtool export --output DIR",
        )
    commits = _commits(tree, record.onto)
    slugs = _name_commits(tree, commits, record, line)
    files: dict[str, bytes] = {}
    changes: list[FileChange] = []
    kept = {commit: slug for slug, commit in record.commits.items()} if at_base else {}
    folder = output or line.folder
    for commit, slug in zip(commits, slugs, strict=True):
        path = line.folder / f"{slug}.patch"
        before = path.read_bytes() if path.is_file() else None
        if before is None or kept.get(commit) != slug:
            data = patches.export(tree, commit)
            files[f"{slug}.patch"] = data
        else:
            data = files[f"{slug}.patch"] = before
        change = Change.ADDED if before is None else Change.REWRITTEN
        changes.append(FileChange(slug, Change.UNCHANGED if data == before else change, commit))
    applied = set(record.commits)
    missing = [e.slug for e in line.entries if e.slug in applied and e.slug not in slugs]
    if missing and not remove_missing:
        raise Refused(
            f"no commit in the work tree holds {', '.join(missing)} any more",
            where=str(tree.work_tree),
            hint="bring it back, or say that it may go: fixtool export --remove-missing",
        )
    changes += [FileChange(slug, Change.REMOVED, None) for slug in missing]
    # Absorbed by this work tree's base, which is no reason to lose it.
    still = [e.slug for e in line.entries if e.slug not in applied and e.slug not in slugs]
    series = series_text(line, [*slugs, *still])
    files["series"] = series
    series_changed = series != (line.folder / "series").read_bytes()
    if only:
        commit = next(c for c, slug in zip(commits, slugs, strict=True) if slug == only)
        if not dry_run:
            rewrite(folder, {f"{only}.patch": files[f"{only}.patch"]})
            write_record(tree, replace(record, commits={**record.commits, only: commit}))
        chosen = tuple(one for one in changes if one.slug == only)
        return Exported(line.name, folder, chosen, False)
    if not dry_run:
        rewrite(folder, files, frozenset(f"{slug}.patch" for slug in missing))
        if output is None and commits:  # saved: the next apply may move this work tree on
            named = dict(zip(slugs, commits, strict=True))
            write_record(tree, replace(record, commit=commits[-1], commits=named))
    return Exported(line.name, folder, tuple(changes), series_changed)


def free_slug(subject: str, taken: Collection[str]) -> str:
    """A slug for ``subject`` that no other patch has (two subjects once overwrote one file)."""
    slug = patches.slugify(subject)
    number = 2
    while slug in taken:
        slug = f"{re.sub(r'-[0-9]+$', '', slug)}-{number}"
        number += 1
    return slug


def _commits(tree: Repo, onto: str) -> list[str]:
    """The commits after ``onto``, oldest first; Refused where they are not one straight line."""
    listed = tree.run("rev-list", "--reverse", "--parents", f"{onto}..HEAD").text.splitlines()
    expected = onto
    for entry in listed:
        commit, *parents = entry.split()
        if parents != [expected]:
            raise Refused(
                f"{commit[:12]} does not follow {expected[:12]}: a series is one straight line",
                where=str(tree.work_tree),
                hint=f"git -C {tree.work_tree} rebase {onto[:12]}",
            )
        expected = commit
    return [entry.split()[0] for entry in listed]


def _name_commits(tree: Repo, commits: Sequence[str], record: Record, line: Line) -> list[str]:
    """The slug of each commit: the one that `apply` recorded, else of the patch with its subject,
    else with its author and his date, which outlive a new subject, else one made of the subject."""
    recorded = {commit: slug for slug, commit in record.commits.items()}
    subjects = {one.subject: one.slug for one in line.patches}
    read = [tree.read_commit(commit) for commit in commits]
    first = [
        recorded.get(commit) or subjects.get(of.subject)
        for commit, of in zip(commits, read, strict=True)
    ]
    authored = Counter(of.author for of in read) + Counter(one.author for one in line.patches)
    reworded = {
        one.author: one.slug
        for one in line.patches
        if one.slug not in first and authored[one.author] == 2  # one patch and one commit
    }
    slugs: list[str] = []
    for of, known in zip(read, first, strict=True):
        slug = known or reworded.get(of.author)
        if slug is None:
            slug = free_slug(of.subject, {*slugs, *subjects.values()})
        if slug in slugs:
            raise Refused(
                f"two commits have the subject {of.subject!r}, by which patches are told apart",
                where=str(tree.work_tree),
                hint=f"git -C {tree.work_tree} rebase --interactive {record.onto[:12]}",
            )
        slugs.append(slug)
    return slugs
