"""Writing a line: its folder as a whole, its series file, its upstream.toml."""

from __future__ import annotations

import re
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fixtool.documents import LARGEST_TEXT, parse_toml
from fixtool.errors import Refused
from fixtool.files import (
    holds,
    link_or_copy,
    lock,
    read_plain,
    require_plain,
    swap,
    sync_folder,
    temporary_folder,
    write_durably,
)
from fixtool.series.line import Line, PatchRepository, Upstream, read_series, read_upstream
from fixtool.text import late_pattern

_MOST_KEYS = 100  # lines that look like a key of the base: each is checked by reading what is above
# The start of a line that gives one key a text in one line, the key, the text, and what follows.
_TOML_LINE = late_pattern(
    r"""(\s*["']?(\w+)["']?\s*=\s*)("(?:\\.|[^"\\])*"|'[^']*')(\s*(?:#.*)?)$"""
)


def toml_string(value: str) -> str:
    """``value`` as a TOML string. What cannot be printed, a line break too, becomes a blank."""
    plain = "".join(letter if letter.isprintable() else " " for letter in value)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def upstream_toml(upstream: Upstream, why: str) -> str:
    """The text of a new ``upstream.toml``. Raises Refused if ``upstream`` has a value that no line
    can have."""
    own = {"profile": upstream.profile, "project": upstream.project}
    values = {"why": why, "url": upstream.url, **own, **_base_values(upstream)}
    text = "".join(f"{key} = {toml_string(value)}\n" for key, value in values.items() if value)
    if read_upstream(text.encode(), "upstream.toml") != upstream:
        raise Refused("upstream.toml cannot hold this base", where="upstream.toml")
    return text


def moved_toml(raw: bytes, upstream: Upstream, where: str) -> bytes:
    """The ``upstream.toml`` in ``raw`` with the values of its base replaced by those of
    ``upstream``. Comments and all other lines stay.

    The lines are edited as text, so the result is read back: Refused is raised, and names
    ``where``, if it does not say exactly what it should.
    """
    before = parse_toml(raw, where)
    values = _base_values(upstream)
    wanted = {key: value for key, value in {**before, **values}.items() if value is not None}
    old = raw.decode("utf-8").split("\n")
    written: list[str] = []
    tried = 0
    for number, line in enumerate(old):
        match = _TOML_LINE.match(line)
        key = match[2] if match else None
        # In a text of several lines, a line may look like a key.
        tried += key in values
        fits = key in values and tried <= _MOST_KEYS and _is_toml("\n".join(old[:number]))
        if match is None or key is None or not fits:
            written.append(line)
        elif (value := values.pop(key)) is not None:
            written.append(f"{match[1]}{toml_string(value)}{match[4]}")
    if written and not written[-1]:
        written.pop()
    written += [f"{key} = {toml_string(value)}" for key, value in values.items() if value]
    text = "".join(f"{line}\n" for line in written).encode()
    if not _is_toml(text.decode()) or parse_toml(text, where) != wanted:
        raise Refused(
            "upstream.toml cannot be edited as text: the result would say something else",
            where=where,
            hint='write each of release, base, tree, version and date as a line: base = "…"',
        )
    return text


def _is_toml(text: str) -> bool:
    try:
        parse_toml(text.encode(), "")
    except Refused:
        return False
    return True


def _base_values(upstream: Upstream) -> dict[str, str | None]:
    return {
        "release": upstream.release, "base": upstream.base, "tree": upstream.tree,
        "version": upstream.version, "date": upstream.date,
    }  # fmt: skip


def series_text(line: Line, slugs: Sequence[str]) -> bytes:
    """The text of the series file with ``slugs`` as its entries. Comments stay where they are,
    entries keep their places if the order allows it, and new entries come last.

    The result is read back: Refused is raised if it does not list exactly ``slugs``.
    """
    where = str(line.folder / "series")
    try:
        raw = read_plain(line.folder, "series", LARGEST_TEXT)
    except FileNotFoundError:
        raw = b""
    slug_at = {entry.line_number - 1: entry.slug for entry in line.entries}
    before = [slug_at[number] for number in sorted(slug_at)]
    if before == list(slugs):
        return raw
    old_lines = raw.decode("utf-8", "surrogateescape").split("\n")
    if not old_lines[-1]:
        old_lines.pop()
    kept = [slug for slug in before if slug in slugs]
    if kept and kept == list(slugs)[: len(kept)]:  # the kept ones stay in place with their comments
        gone = {number for number, slug in slug_at.items() if slug not in kept}
        lines = [text for number, text in enumerate(old_lines) if number not in gone]
        added = iter(slugs[len(kept) :])
    else:
        added = iter(slugs)
        lines = []
        for number, text in enumerate(old_lines):
            if number not in slug_at:
                lines.append(text)
            elif (slug := next(added, None)) is not None:
                lines.append(text if slug == slug_at[number] else f"{slug}.patch")
    lines += [f"{slug}.patch" for slug in added]
    written = "".join(f"{text}\n" for text in lines).encode("utf-8", "surrogateescape")
    if [entry.slug for entry in read_series(written, where)] != list(slugs):
        raise _not_as_text(where)
    return written


def series_with(line: Line, slug: str, slugs: Sequence[str]) -> bytes:
    """The text of the series file in which the entry ``slug`` is replaced by ``slugs``. All other
    lines stay as they are.

    The result is read back: Refused is raised if it does not list exactly what it should.
    """
    where = str(line.folder / "series")
    raw = read_plain(line.folder, "series", LARGEST_TEXT)
    wanted: list[str] = []
    lines = raw.split(b"\n")
    for entry in reversed(line.entries):
        wanted[:0] = slugs if entry.slug == slug else [entry.slug]
        if entry.slug == slug:
            at = entry.line_number - 1
            comment = re.search(rb"\s+#.*", lines[at])
            lines[at : at + 1] = [f"{name}.patch".encode() for name in slugs]
            lines[at] += comment[0] if comment else b""
    written = b"\n".join(lines)
    if [entry.slug for entry in read_series(written, where)] != wanted:
        raise _not_as_text(where)
    return written


def series_in_order(line: Line, slugs: Sequence[str], was: Mapping[str, str | None]) -> bytes:
    """The text of the series file with ``slugs`` as its entries. ``was`` gives the entry that each
    of them goes on, None for a new one: it keeps the text of its line, such as a comment behind it.
    As many entries as possible stay where they are, and so do the comments in lines of their own;
    an entry that is new or moves goes behind the one that it follows.

    The result is read back: Refused is raised if it does not list exactly ``slugs``.
    """
    where = str(line.folder / "series")
    raw = read_plain(line.folder, "series", LARGEST_TEXT)
    lines = raw.split(b"\n")
    tail = lines.pop()
    place = {entry.slug: entry.line_number - 1 for entry in line.entries}
    if tail:  # the last line has no line break
        lines.append(tail)
    texts: list[bytes] = []
    taken: set[str] = set()
    for slug in slugs:
        old = was.get(slug)
        if old is None or old in taken or old not in place:
            texts.append(f"{slug}.patch".encode())
        else:
            taken.add(old)
            name = f"{old}.patch".encode()
            texts.append(lines[place[old]].replace(name, f"{slug}.patch".encode(), 1))
    follows = [place.get(was.get(slug) or "", -1) for slug in slugs]
    staying = _longest_rise(follows)
    written: list[list[bytes]] = [[text] for text in lines]
    for number in place.values():
        written[number] = []
    first = min((follows[number] for number in staying), default=len(lines))
    before: list[bytes] = []
    at: list[bytes] | None = None
    for number, text in enumerate(texts):
        if number in staying:
            at = written[follows[number]]
        (before if at is None else at).append(text)
    parts = [*written[:first], before, *written[first:]]
    after = b"".join(text + b"\n" for part in parts for text in part)
    if [entry.slug for entry in read_series(after, where)] != list(slugs):
        raise _not_as_text(where)
    return after


def _longest_rise(places: Sequence[int]) -> set[int]:
    """The numbers of as many ``places`` as possible that rise from one to the next. One that is
    negative is never among them."""
    ends: list[int] = []  # the number at which the best rise of each length ends
    before: dict[int, int | None] = {}
    for number, place in enumerate(places):
        if place < 0:
            continue
        size = bisect_left([places[end] for end in ends], place)
        before[number] = ends[size - 1] if size else None
        ends[size : size + 1] = [number]
    found: set[int] = set()
    at = ends[-1] if ends else None
    while at is not None:
        found.add(at)
        at = before[at]
    return found


def _not_as_text(where: str) -> Refused:
    return Refused(
        "the series file cannot be edited as text: the result would list other patches",
        where=where,
        hint="write each patch as a line of its own, without a comment: NAME.patch",
    )


def rewrite(
    folder: Path, files: Mapping[str, bytes], remove: frozenset[str] = frozenset()
) -> list[str]:
    """Write ``files`` into the line at ``folder``, delete the files ``remove``, and return the
    names that changed, sorted. A name may lie in a folder of the line, as ``shelf/a.patch`` does.

    The new folder is built beside the old one and swapped in, so a killed run leaves the old line
    or the new one. Files whose bytes are the same keep their inode and time. Raises Refused if the
    line holds a link or a device: its target would be copied into the line, or written to.
    """
    require_plain(folder)
    changed = [name for name, data in files.items() if not holds(folder / name, data)]
    gone = [name for name in remove if (folder / name).exists()]
    if not changed and not gone:
        return []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{folder.name}.new-", folder.parent) as staging:
        staging.chmod(0o755)
        for old in sorted(folder.iterdir()) if folder.exists() else []:
            if old.name not in changed and old.name not in gone:
                if old.is_file() and not old.is_symlink():
                    link_or_copy(old, staging / old.name)
                else:
                    shutil.copytree(old, staging / old.name, copy_function=link_or_copy)
        for name in gone:
            (staging / name).unlink(missing_ok=True)
            if "/" in name:
                with suppress(OSError):  # other files are in it
                    (staging / name).parent.rmdir()
        for name in changed:
            (staging / name).parent.mkdir(exist_ok=True, parents=True)
            (staging / name).unlink(missing_ok=True)  # it may be a link to the old file
            write_durably(staging / name, files[name])
        for place in {staging, *((staging / name).parent for name in changed)}:
            sync_folder(place)
        if folder.exists():
            swap(staging, folder)
        else:
            staging.rename(folder)
        sync_folder(folder.parent)
    return sorted([*changed, *gone])


def repair(repository: PatchRepository) -> None:
    """Undo or finish the rewrite of a killed run: each line is then fully old or fully new."""
    for retired in repository.folder.glob(".*.old"):
        line = retired.with_name(retired.name[1 : -len(".old")])
        if line.exists():
            shutil.rmtree(retired, ignore_errors=True)
        else:
            retired.rename(line)
    for staging in repository.folder.glob(".*.new-*"):
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def writing(repository: PatchRepository) -> Iterator[None]:
    """Be the only writer of ``patches/`` until the end of the block, which reads the line anew: if
    two runs read before either wrote, one would undo the other's change. The rewrite of a killed
    run is repaired first. Raises CannotRun if another run holds the lock."""
    with lock(repository.folder / ".lock", f"the patch repository {repository.root}"):
        repair(repository)
        repository.read_anew()
        yield
