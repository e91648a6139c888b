"""Plans a change of files: what comes, what is kept of what was there, and the lines of RECORD.

Each change starts from the files as they were before fixtool put anything in. So a series takes the
place of an older one in one step, and to take a series out is a change that wants nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fixtool.errors import Refused
from fixtool.files import link_or_copy
from fixtool.install import record
from fixtool.install._ask import Facts, ToCompile, compile_files
from fixtool.install._transaction import Step
from fixtool.install.bytecode import cached, read_as
from fixtool.install.state import (
    BEFORE,
    FILE,
    NEW,
    ChangedFile,
    Installation,
    Place,
    digest_of,
    own_files,
    text_of,
)
from fixtool.text import argument

_RECORD = "RECORD"  # the name of the file that keeps the old one


class Wanted(NamedTuple):
    """The content that a file is to have, None if it is to go, and its mode in git."""

    data: bytes | None
    mode: str


@dataclass
class PackageChange:
    """A change that is being staged in ``folder``. ``previous`` is what was put in before;
    ``steps`` and ``files`` grow as files are added."""

    facts: Facts
    place: Place
    previous: Installation | None
    folder: Path
    steps: list[Step] = field(default_factory=list)
    files: list[ChangedFile] = field(default_factory=list)
    _staged: int = 0
    _compile: list[ToCompile] = field(default_factory=list)
    _compiled: list[tuple[ChangedFile, Step, Path]] = field(default_factory=list)

    def add(self, wanted: Mapping[str, Wanted]) -> None:
        """Stage the files ``wanted``, by path, and those of the previous series that are not wanted
        as they were before it, each with its bytecode."""
        known = {file.path: file for file in self.previous.files} if self.previous else {}
        sources = {path for path, file in known.items() if not file.bytecode}
        for path in sorted({*wanted, *sources}):
            self._add_source(path, wanted.get(path), known)
        compile_files(self.facts.python, self._compile, self.folder / "compile.json")
        for file, step, staged in self._compiled:
            digest = digest_of(staged)
            self.files.append(replace(file, new=digest))
            self.steps.append(replace(step, new=digest))

    def add_record(self, installation: Installation | None) -> None:
        """Stage RECORD and the state, which keeps ``installation``; None if nothing stays in."""
        text = text_of(installation) if installation else None
        if text is not None:
            (self.folder / FILE).write_bytes(text)
            (self.folder / FILE).chmod(0o644)  # others may ask for the status
        if self.place.record is None:
            return
        current = self.place.root / self.place.record
        before = original_record(self.place, self.previous)
        if text is None:
            raw = before.read_bytes()
        else:
            link_or_copy(before, self._kept_folder / _RECORD)
            contents = {file.path: self._content(file) for file in self.files}
            raw = record_text(self.place, before, contents, self.folder)
        if raw == before.read_bytes():
            staged = self._link(before)
        else:
            staged = self._put(raw, [current], "100644")
        digest = digest_of(self.folder / NEW / staged)
        self.steps.append(Step(self.place.record, digest_of(current), digest, staged, False))

    # -- one file --------------------------------------------------------------------------

    def _add_source(
        self, path: str, wanted: Wanted | None, known: Mapping[str, ChangedFile]
    ) -> None:
        current = self.place.root / path
        before = self._before(path, known)
        staged = None
        if wanted is None:
            staged = self._link(before) if before else None
        elif wanted.data is not None:
            likes = [file for file in (current, before) if file and file.exists()]
            staged = self._put(wanted.data, likes, wanted.mode)
        new = digest_of(self.folder / NEW / staged) if staged else None
        self.steps.append(Step(path, digest_of(current), new, staged, False))
        if wanted is not None:
            kept = self._keep(before)
            old = digest_of(before) if before else None
            self.files.append(ChangedFile(path, old, new, kept, wanted.mode, False))
        here = {self._relative(file.path) for file in cached(current)}
        stem = current.parent / "__pycache__" / f"{current.stem}."
        mine = {name for name, file in known.items()
                if file.bytecode and name.startswith(self._relative(stem))}  # fmt: skip
        for name in sorted({*here, *mine}):
            source = self.folder / NEW / staged if staged and wanted else None
            self._add_bytecode(name, path, wanted, known, source)

    def _add_bytecode(
        self,
        name: str,
        path: str,
        wanted: Wanted | None,
        known: Mapping[str, ChangedFile],
        source: Path | None,
    ) -> None:
        """Stage what becomes of the bytecode ``name`` of the file ``path``."""
        foreign = path in known and name not in known  # Python has made it of a series' file
        before = None if foreign else self._before(name, known)
        old = digest_of(before) if before else None
        step = Step(name, digest_of(self.place.root / name), None, None, True)
        if wanted is None:
            staged = self._link(before) if before else None
            self.steps.append(replace(step, new=old, staged=staged))
            return
        file = ChangedFile(name, old, None, self._keep(before), "100644", True)
        read = read_as(before, name) if before else None
        if before is None or source is None or not read or read.tag != self.facts.cache_tag:
            self.steps.append(step)
            if before:
                self.files.append(file)
            return
        staged = self._next()
        target = self.folder / NEW / staged
        shown = self.place.root / path
        self._compile.append(ToCompile(source, target, shown, read.level, read.mode))
        self._compiled.append((file, replace(step, staged=staged), target))

    def _before(self, path: str, known: Mapping[str, ChangedFile]) -> Path | None:
        """Where the file lies that was at ``path`` before any series; None if there was none."""
        if (file := known.get(path)) is not None:
            return self.place.state / BEFORE / file.kept if file.kept else None
        current = self.place.root / path
        return current if os.path.lexists(current) else None

    # -- what is staged --------------------------------------------------------------------

    @property
    def _kept_folder(self) -> Path:
        folder = self.folder / BEFORE
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)
        return folder

    def _next(self) -> str:
        self._staged += 1
        return str(self._staged)

    def _keep(self, before: Path | None) -> str | None:
        if before is None:
            return None
        name = self._next()
        link_or_copy(before, self._kept_folder / name)
        return name

    def _link(self, source: Path) -> str:
        name = self._next()
        link_or_copy(source, self.folder / NEW / name)
        return name

    def _put(self, data: bytes, likes: Iterable[Path], mode: str) -> str:
        """Stage a file with the owner and the permissions of the first of ``likes``, and at another
        second than all of them: by time and size, Python tells whether bytecode is still right."""
        name = self._next()
        path = self.folder / NEW / name
        path.write_bytes(data)
        permissions = 0o755 if mode == "100755" else 0o644
        statuses = [like.stat() for like in likes]
        for status in statuses[:1]:
            permissions = status.st_mode & 0o777 | (0o111 if mode == "100755" else 0)
            with suppress(PermissionError):
                os.chown(path, status.st_uid, status.st_gid)
        path.chmod(permissions)
        seconds = {int(status.st_mtime) for status in statuses}
        now = int(path.stat().st_mtime)
        if now in seconds:
            while now in seconds:
                now += 1
            os.utime(path, (now, now))
        return name

    def _content(self, file: ChangedFile) -> bytes | None:
        """The bytes that come to the path of ``file``."""
        step = next(step for step in self.steps if step.path == file.path)
        return (self.folder / NEW / step.staged).read_bytes() if step.staged else None

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.place.root).as_posix()


def original_record(place: Place, previous: Installation | None) -> Path:
    """Where the RECORD lies that was there before any series."""
    assert place.record is not None
    return place.state / BEFORE / _RECORD if previous else place.root / place.record


def record_text(
    place: Place, before: Path, contents: Mapping[str, bytes | None], folder: Path
) -> bytes:
    """RECORD as it is once the files have these ``contents`` and ``folder`` is the state folder.
    ``before`` is the file as it was."""
    assert place.record is not None
    names = [FILE, *sorted(f"{BEFORE}/{path.name}" for path in (folder / BEFORE).iterdir())]
    own = zip(own_files(place, names), names, strict=True)
    state: dict[str, bytes | None] = {path: (folder / name).read_bytes() for path, name in own}
    raw, where = before.read_bytes(), str(place.root / place.record)
    listed = {row.path for row in record.parse(raw, where)}
    # Bytecode that Python has made is not listed, and pip removes it all the same.
    files = {path: data for path, data in contents.items()
             if path in listed or not path.endswith(".pyc")}  # fmt: skip
    return record.changed(raw, where, {**files, **state}, place.record)


def require_writable(place: Place, paths: Iterable[str]) -> None:
    """Raise Refused if this user may not change the folders of ``paths``, or if the way to one
    leads out of the package through a link."""
    top = place.root.resolve()
    for folder in sorted({(place.root / path).parent for path in paths} | {place.state.parent}):
        nearest = next(part for part in (folder, *folder.parents) if part.is_dir())
        if folder != place.state.parent and not nearest.resolve().is_relative_to(top):
            raise Refused(f"{folder} leads out of {place.root} through a link", where=str(folder))
        if not os.access(nearest, os.W_OK | os.X_OK):
            if os.statvfs(nearest).f_flag & os.ST_RDONLY:
                raise Refused(
                    f"{nearest} is on a file system that is mounted read-only",
                    where=str(nearest),
                    hint=f"see which one it is: findmnt --target {argument(nearest)}",
                )
            raise Refused(
                f"{nearest} cannot be written to by this user",
                where=str(nearest),
                hint=f"run the same command as the owner: stat -c %U {argument(nearest)}",
            )
