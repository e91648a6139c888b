"""What changed of the patches of a line between two of their texts, as `git range-diff` shows it.

A patch file says all that its diff needs: the lines around each change, and their numbers. From
these, two commits are made whose diffs are the two texts, so neither the base nor a network is
needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fixtool.apply.identity import identify
from fixtool.apply.worktree import Record
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.series.diff import FilePatch
from fixtool.series.line import Line, read_series
from fixtool.series.patch import Patch, export_all, parse
from fixtool.text import split_lines

_HEADING = re.compile(rb"^@@ [^@]* @@ *(.*)", re.DOTALL)
_TREE = Oid("")


class Difference(StrEnum):
    """What is true of a patch in the newer of two series."""

    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"  # it may have changed too


@dataclass(frozen=True)
class ChangedPatch:
    """A patch that differs. ``was`` is its old slug. ``text`` is the range-diff, empty if only the
    name differs, or if one side has no such patch."""

    slug: str
    was: str | None
    subject: str
    difference: Difference
    text: str


@dataclass(frozen=True)
class Compared:
    """The patches that differ between ``old`` and ``new``, which say in words what was compared.
    If nothing differs, ``last`` is the newest commit of the patch repository that changed what was
    asked for; None if that is the first of all."""

    line: str
    old: str
    new: str
    patches: tuple[ChangedPatch, ...]
    reordered: bool
    last: Oid | None = None


def since(git: Repo | None, line: Line, ref: str | None, slug: str | None) -> Compared:
    """What changed of a patch of ``line``, or of all (``slug`` is None), since the commit ``ref``
    of the patch repository ``git``: the newest one, if it is None.

    Raises CannotRun if the patch repository is not in git, or has no commit; UsageError if there is
    no such commit or patch.
    """
    commit = git.commit_id(ref or "HEAD") if git else None
    if git is None or (commit is None and ref is None):
        raise CannotRun(
            "the patch repository has no commit to compare with",
            where=str(line.folder.parent.parent),
            hint="compare with a work tree: --worktree DIR",
        )
    if commit is None:
        raise UsageError(f"the patch repository has no commit {ref!r}", where=str(git.work_tree))
    before = _series_at(git, line, commit)
    after = {patch.slug: patch for patch in line.patches}
    patches, reordered = _compare(git, before, after, slug, line)
    last = None
    if not patches and not reordered:
        path = str(line.folder / f"{slug}.patch") if slug else str(line.folder)
        text = git.run("log", "-1", "--format=%H %P", commit, "--", path).text
        last = Oid(text[:40]) if text[41:] else None
    return Compared(line.name, f"commit {commit[:12]}", "the files", patches, reordered, last)


def with_worktree(tree: Repo, record: Record, line: Line, slug: str | None) -> Compared:
    """What the commits of a work tree change of the patches of its line, or of ``slug`` alone."""
    commits = identify(tree, record, line).commits
    mails = export_all(tree, list(commits.values()))
    after = {name: parse(mail, name) for name, mail in zip(commits, mails, strict=True) if mail}
    left_out = [patch for patch in line.patches if patch.slug not in record.commits]
    after |= {patch.slug: patch for patch in left_out if patch.slug not in after}
    before = {patch.slug: patch for patch in line.patches}
    patches, reordered = _compare(tree, before, after, slug, line)
    return Compared(line.name, "the files", "the work tree", patches, reordered)


def _series_at(git: Repo, line: Line, commit: Oid) -> dict[str, Patch]:
    """The patches of the line in a commit of the patch repository."""
    assert git.work_tree is not None
    folder = str(line.folder.resolve().relative_to(git.work_tree.resolve()))
    files = list_tree(git, commit, folder)
    series = files.get(f"{folder}/series")
    if series is None:
        return {}
    where = f"{commit[:12]}:{folder}"
    entries = read_series(git.read_blob(series.blob), f"{where}/series")
    blobs = []
    for entry in entries:
        file = files.get(f"{folder}/{entry.file_name}")
        if file is None:
            raise Refused(f"the series names {entry.file_name}, and there is no such file",
                          where=f"{where}/series:{entry.line_number}")  # fmt: skip
        blobs.append(file.blob)
    texts = git.read_blobs(blobs)
    return {
        entry.slug: parse(text, entry.slug, Path(f"{where}/{entry.file_name}"))
        for entry, text in zip(entries, texts, strict=True)
    }


def _compare(
    repo: Repo,
    before: Mapping[str, Patch],
    after: Mapping[str, Patch],
    slug: str | None,
    line: Line,
) -> tuple[tuple[ChangedPatch, ...], bool]:
    """The patches that differ, and whether those that both sides have stand in another order."""
    was = _old_names(before, after)
    changed = []
    for name, patch in after.items():
        old = before.get(was.get(name, ""))
        if old is None:
            changed.append(ChangedPatch(name, None, patch.subject, Difference.ADDED, ""))
        elif old.raw != patch.raw or old.slug != name:
            text = range_diff(repo, old, patch) if old.raw != patch.raw else ""
            kind = Difference.RENAMED if old.slug != name else Difference.CHANGED
            changed.append(ChangedPatch(name, old.slug, patch.subject, kind, text))
    changed += [
        ChangedPatch(name, name, patch.subject, Difference.REMOVED, "")
        for name, patch in before.items()
        if name not in was.values()
    ]
    known = [name for name in after if name in was]
    order = [name for old in before for name in known if was[name] == old]
    if slug is None:
        return tuple(changed), known != order
    if slug not in {*before, *after}:
        line.find(slug)  # raises UsageError, which names the patches that there are
    return tuple(patch for patch in changed if slug in (patch.slug, patch.was)), False


def _old_names(before: Mapping[str, Patch], after: Mapping[str, Patch]) -> dict[str, str]:
    """The slug that each patch of ``after`` has in ``before``: the same, or else that of the patch
    with the same bytes, or with the same author, date and subject."""
    was = {slug: slug for slug in after if slug in before}
    gone = [patch for slug, patch in before.items() if slug not in after]
    for slug, patch in after.items():
        if slug in was:
            continue
        same = [old for old in gone if old.raw == patch.raw] or [
            old for old in gone if (old.author, old.subject) == (patch.author, patch.subject)
        ]
        if same:
            was[slug] = same[0].slug
            gone.remove(same[0])
    return was


# -- the two commits --------------------------------------------------------------------------


def range_diff(repo: Repo, old: Patch, new: Patch) -> str:
    """The difference between two texts of a patch, as `git range-diff` shows it without the line
    that names the two commits. ``repo`` lends git a place for objects, and keeps none."""
    with passing_objects(repo) as objects:
        ranges = []
        for patch in (old, new):
            before, after = (_tree(objects, patch.files, new=side) for side in (False, True))
            parent = objects.add_commit(Commit(before, (), MACHINE, MACHINE, "before\n"))
            commit = objects.add_commit(patch.commit(after, parent))
            ranges.append(f"{parent}..{commit}")
        objects.flush()
        out = objects.repo.run("range-diff", "--no-color", "--creation-factor=999", *ranges)
    lines = split_lines(out.stdout.decode("utf-8", "replace"))[1:]
    return "".join(f"{line.removeprefix('    ')}\n" for line in lines)


def _tree(objects: ObjectDatabase, files: Sequence[FilePatch], *, new: bool) -> Oid:
    """A tree with one side of what a diff says of its files."""
    entries: dict[str, TreeEntry | None] = {}
    for file in files:
        path = file.new_path if new else file.old_path
        if path is None:
            continue
        text = _content(file, new=new)
        if file.binary:  # its bytes are not in the diff, or not as text: the ids tell it apart
            text = f"binary, {file.old_blob} {'after' if new else 'before'}\n".encode()
        mode = file.mode if new and file.mode else "100644"
        if not new and file.mode and file.old_path:
            mode = "100755" if file.mode == "100644" else "100644"
        mode = "120000" if mode == "120000" else mode if mode != "160000" else "100644"
        entries[path] = TreeEntry(mode, objects.add("blob", text))
    return objects.with_files(_TREE, entries)


def _content(file: FilePatch, *, new: bool) -> bytes:
    """One side of a file, as far as its diff shows it. The lines between are empty, but the one
    before a hunk is the heading that the hunk names, so that git names it again."""
    lines: list[bytes] = []
    for hunk in file.hunks:
        start = hunk.new_start if new else hunk.old_start
        text = hunk.new_text if new else hunk.old_text
        at = start - 1 if text else start
        lines += [b"\n"] * (at - len(lines))
        heading = _HEADING.match(hunk.head)
        if lines and heading and heading[1].strip() and lines[-1] == b"\n":
            lines[-1] = heading[1].strip() + b"\n"
        lines += [line + b"\n" for line in text.split(b"\n")[:-1]]
        if not text.endswith(b"\n") and text:
            lines.append(text.rpartition(b"\n")[2])
    return b"".join(lines)
