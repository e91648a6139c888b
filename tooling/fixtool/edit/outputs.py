"""Writes patches in the forms that other tools take: an mbox, one diff, or a folder for quilt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.apply.identity import identify
from fixtool.apply.worktree import Record, require_clean
from fixtool.edit.change import FileAction, WrittenFile
from fixtool.edit.export import Exported, Form, Output
from fixtool.edit.place import Place, series_at
from fixtool.errors import NAMED_HINTS, CannotRun, Refused, UsageError
from fixtool.files import holds, require_file, require_folder, write_atomically
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository, read_series
from fixtool.series.patch import diff_between, export_all, parse
from fixtool.series.write import rewrite
from fixtool.text import count

_MARK = "# `fixtool export --series` wrote this folder, and replaces what is in it."

_BINARY = b"\nGIT binary patch\n"


@dataclass(frozen=True)
class PatchSet:
    """Patches as commits, by their slugs and in order, on ``base``. ``folder`` is that of their
    line, and ``files`` are the patch files of which the commits were made, if they were."""

    repo: Repo
    line: str
    folder: Path
    base: Oid
    commits: Mapping[str, Oid]
    files: tuple[bytes, ...] = ()

    @property
    def tip(self) -> Oid:
        return [self.base, *self.commits.values()][-1]


def of_worktree(repository: PatchRepository, tree: Repo, record: Record) -> PatchSet:
    """The commits of a work tree. Raises Refused if it is not clean, or its history is not one
    straight line."""
    require_clean(tree)
    line = repository.line(record.line)
    commits = identify(tree, record, line).commits
    return PatchSet(tree, line.name, line.folder, record.onto, commits)


def of_line(context: Context, line: Line, place: Place) -> PatchSet:
    """The patches of a line on its base, which ``place`` holds. Raises Refused if one does not
    apply."""
    with ObjectDatabase(place.repo) as objects:
        own = series_at(context, objects, line, place)
        objects.flush()
    files = tuple(patch.raw for patch in line.patches)
    return PatchSet(place.repo, line.name, line.folder, place.base, own.commits, files)


def require_places(outputs: Sequence[Output]) -> None:
    """Raise CannotRun if one of ``outputs`` cannot be written, Refused if a folder holds something
    that fixtool did not write, and UsageError if one is to be the standard output."""
    for output in outputs:
        if str(output.path) == "-":
            form = f"--{output.form.value}"
            raise UsageError(
                f"{form} writes a file, and - is the name of none",
                hint=f"name a file: {form} FILE",
            )
        if output.form is Form.SERIES:
            require_folder(output.path, "--series")
            _patches_of(output.path)
        else:
            require_file(output.path, f"--{output.form.value}")


def write(patches: PatchSet, outputs: Sequence[Output], *, dry_run: bool = False) -> Exported:
    """Write ``patches`` to ``outputs``. The same patches give the same bytes each time.

    Raises Refused if there is no patch, or a folder holds something that fixtool did not write;
    CannotRun if a file cannot be written.
    """
    if not patches.commits:
        raise Refused("there is no patch to write", where=str(patches.folder))
    forms = {output.form for output in outputs}
    # One diff of all is made of the two trees alone.
    raw = patches.files if forms == {Form.COMBINED} else ()
    raw = raw or tuple(export_all(patches.repo, list(patches.commits.values())))
    mails = dict(zip(patches.commits, raw, strict=True))
    changed = False
    for output in outputs:
        if output.form is Form.SERIES:
            changed |= _write_folder(output.path, mails, dry_run=dry_run)
        elif output.form is Form.MBOX:
            changed |= _write_file(output.path, b"".join(mails.values()), dry_run=dry_run)
        else:
            diff = diff_between(patches.repo, patches.base, patches.tip)
            changed |= _write_file(output.path, diff, dry_run=dry_run)
    only_git = [path for slug, mail in mails.items() for path in _binary_files(mail, slug)]
    notes = []
    if only_git and forms != {Form.MBOX}:
        notes.append(
            f"{count(len(only_git), 'file')} with binary data: git apply takes them, quilt and "
            f"patch do not: {', '.join(only_git[:3])}"
        )
    crlf = [slug for slug, mail in mails.items() if b"\r\n" in mail]
    if crlf and Form.MBOX in forms:  # git am takes the ends of lines for those of a mailer
        notes.append(
            f"{count(len(crlf), 'patch')} with lines that end in CRLF, which git am takes with "
            f"--keep-cr only: {', '.join(crlf[:3])}"
        )
    return Exported(
        patches.line, patches.folder,
        tuple(WrittenFile(slug, FileAction.UNCHANGED, commit)
              for slug, commit in patches.commits.items()),
        False, tuple(outputs), changed, tuple(notes),
    )  # fmt: skip


def _binary_files(mail: bytes, slug: str) -> list[str]:
    """The files of a patch that have binary data."""
    if _BINARY not in mail:  # to read a diff takes far longer
        return []
    return [file.path for file in parse(mail, slug).files if file.binary]


def _write_file(path: Path, data: bytes, *, dry_run: bool) -> bool:
    """Write a file, and return whether that changes it."""
    try:
        if holds(path, data):
            return False
        if not dry_run:
            write_atomically(path, data)
    except OSError as error:
        hint = NAMED_HINTS.get(error.errno or 0)
        raise CannotRun(
            f"cannot write {path}: {error.strerror}", where=str(path), hint=hint
        ) from error
    return True


def _write_folder(folder: Path, mails: Mapping[str, bytes], *, dry_run: bool) -> bool:
    """Write a folder that quilt takes, and return whether that changes it."""
    old = _patches_of(folder)
    files = {f"{slug}.patch": mail for slug, mail in mails.items()}
    files["series"] = "".join(f"{line}\n" for line in (_MARK, *files)).encode()
    gone = frozenset(old - files.keys())
    if dry_run:
        before = {name: (folder / name).read_bytes() for name in old}
        return before != files
    return bool(rewrite(folder.absolute(), files, gone))


def _patches_of(folder: Path) -> set[str]:
    """The names in a folder that fixtool wrote; none if there is no folder, or nothing in it.
    Raises Refused if it is any other folder."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return set()
    series = folder / "series"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if series.is_file() and not series.is_symlink():
        raw = series.read_bytes()
        listed = {f"{entry.slug}.patch" for entry in read_series(raw, str(series))}
        if raw.startswith(f"{_MARK}\n".encode()) and names <= {"series", *listed}:
            return names
    raise Refused(
        f"{folder} is there already, and fixtool did not write all that is in it",
        where=str(folder),
        hint="name a new folder: --series DIR",
    )
