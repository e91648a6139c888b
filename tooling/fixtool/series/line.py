"""Reads lines and their series: ``patches/<line>/`` holds ``series``, ``upstream.toml`` and patch
files.

``series`` has the format of quilt, which can use it too: file names in order, and ``#`` comments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from packaging.version import InvalidVersion, Version

from fixtool.documents import LARGEST_TEXT, parse_toml, place_of_key
from fixtool.errors import CannotRun, Mistyped, Refused, UsageError
from fixtool.files import lock, read_plain
from fixtool.git.committed import restored, restoring
from fixtool.git.objects import Oid
from fixtool.profile import PROFILES, profile_of_url
from fixtool.series.patch import LARGEST, Patch, is_slug, parse
from fixtool.settings import Settings, check_project, read_profile
from fixtool.text import argument, split_lines

_SUFFIX = ".patch"
_LINES = "[!.]*/series"  # a folder with a dot is a line that is being written
_OLD = ".*.old/series"  # what `files.swap` calls a line while the new one takes its place
_FIRST_DAY = date(1970, 1, 1)  # commits are dated in seconds since then
# The name of a line stands in commands that a person is told to type, in branches, and in Markdown.
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_KNOWN = {"url", "base", "tree", "release", "version", "date", "why", "profile", "project"}


def is_line_name(text: str) -> bool:
    """Whether a line can have this name."""
    return bool(_NAME.fullmatch(text)) and ".." not in text


@dataclass(frozen=True)
class Upstream:
    """What a line is based on: a commit (``base`` and its ``tree``) or a PyPI ``release``.

    For a release, ``base`` and ``tree`` are those of the commit that its wheel becomes. ``version``
    is the newest release at or before the base: wheels of the line are named after it.
    ``profile`` and ``project`` are set if they are not those of the patch repository.
    """

    url: str
    base: Oid
    tree: Oid
    release: str | None
    version: str
    date: str
    profile: str | None = None
    project: str | None = None

    def settings(self, settings: Settings) -> Settings:
        """The settings of the patch repository, as they are for this line."""
        own = PROFILES[self.profile] if self.profile else None
        profile = own or settings.profile or profile_of_url(self.url)
        # The repository's project is that of its own profile.
        project = self.project or (None if own and own != settings.profile else settings.project)
        return replace(settings, profile=profile, project=project)


@dataclass(frozen=True)
class Entry:
    """One line of a series file."""

    slug: str
    line_number: int
    folder: str = ""  # within the line's folder: `shelf/` for a patch that comes back from there

    @property
    def file_name(self) -> str:
        return f"{self.folder}{self.slug}{_SUFFIX}"


@dataclass(frozen=True)
class Line:
    """One maintained base with its series."""

    name: str
    folder: Path
    upstream: Upstream
    entries: tuple[Entry, ...]
    _parsed: dict[str, Patch] = field(default_factory=dict, repr=False, compare=False)
    _known: Mapping[str, Patch] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def patches(self) -> tuple[Patch, ...]:
        """The parsed patches, in order. Raises Refused if a file is missing or not well formed."""
        return tuple(self.patch(entry) for entry in self.entries)

    @property
    def paths(self) -> list[str]:
        """Every path that the series reads or writes, sorted."""
        return sorted({path for patch in self.patches for path in patch.paths})

    def patch(self, entry: Entry) -> Patch:
        """The patch of one entry, whose file is read once. Raises Refused if the file is missing or
        not well formed."""
        if entry.file_name not in self._parsed:
            self._parsed[entry.file_name] = self._read(entry)
        return self._parsed[entry.file_name]

    @property
    def unread(self) -> list[str]:
        """The names of the files in the folder itself that were not read yet."""
        names = dict.fromkeys(entry.file_name for entry in self.entries if not entry.folder)
        return [name for name in names if name not in self._parsed]

    def know(self, patches: Mapping[str, Patch]) -> None:
        """Take ``patches``, by the names of their files, as what these hold."""
        for name, patch in patches.items():
            self._parsed.setdefault(name, patch)

    def _read(self, entry: Entry) -> Patch:
        path = self.folder / entry.file_name
        try:
            raw = read_plain(self.folder, entry.file_name, LARGEST)
        except FileNotFoundError as error:
            command = restoring(path)
            restore = f"restore the file: {command}" if command else "restore the file"
            raise Refused(
                f"the series names {entry.file_name}, and there is no such file",
                where=f"{self.folder / 'series'}:{entry.line_number}",
                hint=f"{restore}; or take that line out: sed -i {entry.line_number}d "
                f"{argument(self.folder / 'series')}",
            ) from error
        known = self._known.get(entry.file_name)
        if known and known.has_text(raw):
            return known
        try:
            return parse(raw, entry.slug, path)
        except Refused as error:
            error.hint = "; or ".join(filter(None, (error.hint, restored(path))))
            raise

    def find(self, slug: str) -> Patch:
        """The patch with this slug or file name. Raises UsageError if the line has none."""
        for entry in self.entries:
            if entry.slug == slug.removesuffix(_SUFFIX):
                return self.patch(entry)
        from fixtool.series import shelf  # which imports this module

        shelf.refuse_shelved(self, slug)
        known = tuple(entry.slug for entry in self.entries)
        raise UsageError(
            f"line {self.name} has no patch {slug!r}; it has: {', '.join(known) or 'none'}",
            where=str(self.folder / "series"),
            hint="fixtool list",
            mistyped=Mistyped(slug, known),
        )


@dataclass(frozen=True)
class PatchRepository:
    """A folder that holds ``patches/``."""

    root: Path
    _lines: dict[str, Line] = field(default_factory=dict, repr=False, compare=False)
    _known: dict[str, dict[str, Patch]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        return self.root / "patches"

    @classmethod
    def find(cls, start: Path) -> PatchRepository:
        """The nearest folder at or above ``start`` that holds ``patches/<line>/series``. Raises
        UsageError if there is none."""
        for folder in (start, *start.parents):
            put_back(folder / "patches")
            if any((folder / "patches").glob(_LINES)):
                return cls(folder)
        raise UsageError(
            f"no patch repository at or above {start} (no patches/<line>/series)",
            hint="name one: -C DIR, or start one: fixtool init DIR --upstream URL --base REF",
        )

    @cached_property
    def line_names(self) -> tuple[str, ...]:
        """The names of all lines. Raises Refused if one is not made of letters, digits and a few
        signs that mean nothing to a shell."""
        names = sorted(path.parent.name for path in self.folder.glob(_LINES))
        for name in names:
            if not is_line_name(name):
                raise Refused(
                    f"{name!r} cannot be the name of a line",
                    where=str(self.folder),
                    hint="give the folder a name of letters, digits, '.', '_', '-' and '+'",
                )
        return tuple(names)

    def line(self, name: str) -> Line:
        """The line of this name. Raises UsageError if there is none, and Refused if its series is
        gone."""
        if name not in self.line_names:
            folder = self.folder / name
            if is_slug(name) and (folder / "upstream.toml").is_file():
                raise Refused(
                    f"line {name} has no series file, which lists its patches in order",
                    where=str(folder / "series"),
                    hint=restored(folder / "series"),
                )
            raise UsageError(
                f"no line {name!r}; there are: {', '.join(self.line_names)}",
                where=str(self.folder),
                hint="fixtool list",
                mistyped=Mistyped(name, self.line_names),
            )
        if self.folder.is_symlink():
            raise Refused("patches/ is a link; name the repository itself", where=str(self.folder))
        if name not in self._lines:
            line = read_line(self.folder / name)
            self._lines[name] = replace(line, _known=self._known.get(name, {}))
        return self._lines[name]

    def pick(self, wanted: str | None) -> Line:
        """The line ``wanted``, or the only one. Raises UsageError if there are several to choose
        from."""
        if wanted:
            return self.line(wanted)
        if len(self.line_names) == 1:
            return self.line(self.line_names[0])
        raise UsageError(
            f"no line is named, and there are {len(self.line_names)}: {', '.join(self.line_names)}",
            where=str(self.folder),
            hint=", or ".join(f"--line {name}" for name in self.line_names),
        )

    @property
    def digest(self) -> str:
        """An id that distinguishes this folder from others of the same name."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()

    def read_anew(self) -> None:
        """Forget the lines that were read: another run may have changed them. Each file is read
        again, and parsed again if its bytes are others."""
        for name, line in self._lines.items():
            self._known.setdefault(name, {}).update(line._parsed)
        self.__dict__.pop("line_names", None)
        self._lines.clear()

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(self.line(name) for name in self.line_names)


def put_back(patches: Path) -> None:
    """Give the lines in ``patches`` back their names. A rewrite that was killed between its two
    renames has left one without: not even its repository would be found. While another run
    rewrites a line, this one leaves it alone."""

    def nameless() -> list[tuple[Path, Path]]:
        old = [path.parent for path in patches.glob(_OLD)]
        named = ((path, path.with_name(path.name[1 : -len(".old")])) for path in old)
        return [(path, line) for path, line in named if not line.exists()]

    if not patches.is_symlink() and nameless():
        with suppress(CannotRun, OSError), lock(patches / ".lock", f"{patches}", patience=1):
            for path, line in nameless():
                path.rename(line)


def read_line(folder: Path) -> Line:
    """Read ``series`` and ``upstream.toml`` of a line. The patch files are read when they are
    needed. Raises Refused if one of the two is not well formed."""
    entries = read_series(read_plain(folder, "series", LARGEST_TEXT), str(folder / "series"))
    try:
        raw = read_plain(folder, "upstream.toml", LARGEST_TEXT)
    except FileNotFoundError as error:
        path = folder / "upstream.toml"
        command = restoring(path)
        raise Refused(
            "the line has no upstream.toml, which names its upstream and its base",
            where=str(path),
            hint=f"restore it: {command}"
            if command
            else f"make the line anew: mv {argument(folder)} DIR; fixtool init "
            f"{argument(folder.parent.parent)} --upstream URL --base REF --line {folder.name}; "
            f"fixtool import DIR --line {folder.name}",
        ) from error
    return Line(folder.name, folder, read_upstream(raw, str(folder / "upstream.toml")), entries)


def read_series(raw: bytes, where: str) -> tuple[Entry, ...]:
    """The entries of a series file. Raises Refused, naming the line, if one is not well formed."""
    entries = []
    for number, text in enumerate(split_lines(raw.decode("utf-8", "surrogateescape")), 1):
        if name := re.sub(r"(^|\s)#.*", "", text).strip():
            entries.append(_entry(name, f"{where}:{number}", number))
    return tuple(entries)


def _entry(name: str, where: str, number: int) -> Entry:
    if re.match(r"(?:<{7}|={7}|>{7}|\|{7})(?: |$)", name):
        raise Refused(
            "a conflict marker of a merge is left",
            where=where,
            hint="edit the file: keep the lines of both sides that are meant; then: fixtool lint",
        )
    name, *options = name.split()
    if options not in ([], ["-p1"]):
        raise Refused(
            f"series option {' '.join(options)!r}: only -p1 is known",
            where=where,
            hint="take the line out of the series, and import that patch, which makes it -p1: "
            "fixtool import FILE",
        )
    slug = name.removesuffix(_SUFFIX)
    if not name.endswith(_SUFFIX) or not is_slug(slug):
        if is_slug(name):
            raise Refused(
                f"{name!r} is not the name of a patch file, which ends in {_SUFFIX}",
                where=where,
                hint=f"write {name}{_SUFFIX}; then: fixtool lint",
            )
        raise Refused(
            f"{name!r} is not a safe patch file name",
            where=where,
            hint="use letters, digits, '.', '_', '-' and the ending .patch",
        )
    return Entry(slug, number)


_FORMS = {
    "url": (r"\S+", "an address"),
    "base": (r"[0-9a-f]{40}", "the full id of a commit, as git -C CLONE rev-parse REF prints it"),
    "tree": (r"[0-9a-f]{40}", "the full id of the tree of the base, 40 digits"),
}
"""The values that each upstream.toml has, and what each of them is."""


def _wrong_value(what: str, raw: bytes, key: str, where: str) -> Refused:
    """The error for the value of ``key`` in the upstream.toml ``raw``, which lies at ``where``."""
    command = restoring(Path(where))
    restore = f"; or restore it: {command}" if command else ""
    hint = f"correct that line of the file, then: fixtool lint{restore}"
    return Refused(what, where=place_of_key(raw, key, where), hint=hint)


def read_upstream(raw: bytes, where: str) -> Upstream:
    """What an ``upstream.toml`` says. Raises Refused if it is not well formed."""
    data = parse_toml(raw, where)
    if unknown := sorted(set(data) - _KNOWN):
        known = tuple(sorted(_KNOWN))
        raise Refused(
            f"unknown key {unknown[0]!r}; the keys are: {', '.join(known)}",
            where=place_of_key(raw, unknown[0], where),
            mistyped=Mistyped(unknown[0], known),
        )
    if wrong := sorted(key for key, value in data.items() if not isinstance(value, str)):
        raise _wrong_value(f"{wrong[0]!r} is not a string in quotes", raw, wrong[0], where)
    for key, (form, what) in _FORMS.items():
        if not re.fullmatch(form, data.get(key, "")):
            wrong_text = f"{key} = {data[key]!r} is not" if key in data else f"{key!r} is missing:"
            raise _wrong_value(f"{wrong_text} {what}", raw, key, where)
    if not _is_date(data.get("date", "")):
        raise _wrong_value("'date' is missing or not a day such as 2026-05-23", raw, "date", where)
    for key in ("release", "version"):
        if key in data and not _is_version(data[key]):
            raise _wrong_value(f"{key!r} is no version such as 0.5.23", raw, key, where)
    if "profile" in data:
        read_profile(data["profile"], where)
    if "project" in data:
        check_project(data["project"], where)
    return Upstream(
        url=data["url"],
        base=Oid(data["base"]),
        tree=Oid(data["tree"]),
        release=data.get("release"),
        version=data.get("version") or data.get("release") or "0.0.0",
        date=data["date"],
        profile=data.get("profile"),
        project=data.get("project"),
    )


def _is_date(text: str) -> bool:
    try:
        day = date.fromisoformat(text)
        return day.isoformat() == text and day >= _FIRST_DAY
    except ValueError:
        return False


def _is_version(text: str) -> bool:
    try:
        return len(text) <= 100 and bool(Version(text))
    except InvalidVersion:
        return False
