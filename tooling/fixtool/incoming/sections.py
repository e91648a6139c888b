"""Finds the parts of a diff that change one file each, in any form that ``git apply`` reads.

A part is only located here, so that it can be left out, or its line ends changed. What it does is
judged by what git makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_HUNK = re.compile(rb"@@ -\d{1,18}(?:,(\d{1,18}))? \+\d{1,18}(?:,(\d{1,18}))? @@")
_LONGEST_NAME = 5000  # characters; the search for a time in a longer line would take long
_TIME = re.compile(r"(?<!\s)\s+(?:\d{4}-\d\d-\d\d \d\d:\d\d.*|\([^()]*\))$")
_EPOCH = re.compile(r"\t(1970-01-01 0|1969-12-31 )")  # what `diff -N` writes for a file that is new
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f",
            b"r": b"\r"}  # fmt: skip
_INDEX = re.compile(rb"index ([0-9a-f]{4,40})\.\.")


@dataclass(frozen=True)
class Section:
    """The part of a diff from the line ``first`` up to the line ``end``, counted from 0.

    ``old`` and ``new`` are the names as they are written, with their leading folders; None where
    there is no such file. ``moved`` has the names of a rename or copy, which have no ``a/``.
    ``blob`` is the id of the old content, as far as the diff gives it. ``hunks`` are the lines
    below each ``@@``, from the first up to the one after the last. ``bare`` says whether both names
    are written alike, so that there is no ``a/`` and ``b/`` to take off; None if there is one name.
    """

    first: int
    end: int
    old: str | None
    new: str | None
    moved: tuple[str, str] | None = None
    blob: str | None = None
    git: bool = False
    bare: bool | None = None
    hunks: tuple[tuple[int, int], ...] = ()

    def reversed(self) -> Section:
        """The section of the diff that undoes this one."""
        moved = (self.moved[1], self.moved[0]) if self.moved else None
        return replace(self, old=self.new, new=self.old, moved=moved, blob=None)

    def path(self, strip: int) -> str | None:
        """The path without its ``strip`` leading folders; None if it has not so many."""
        if self.moved:
            return _stripped(self.moved[1], max(strip - 1, 0))
        name = self.new if self.new is not None else self.old
        if not self.git and self.old and self.new and self.new.startswith(self.old):
            name = self.old  # git takes `x` where the names are `x` and `x.orig`
        return _stripped(name or "", strip)

    def source(self, strip: int) -> str | None:
        """The path of the file that must be there before; None if none must."""
        if self.old is None:
            return None
        return _stripped(self.moved[0], max(strip - 1, 0)) if self.moved else self.path(strip)


def _stripped(name: str, strip: int) -> str | None:
    parts = name.split("/", strip)
    return parts[-1] if len(parts) > strip and parts[-1] else None


def read_sections(lines: Sequence[bytes]) -> list[Section]:
    """The sections of a diff, given its lines, in order."""
    sections: list[Section] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(b"diff --git "):
            section = _git_section(lines, at)
        elif line.startswith(b"--- ") and _next(lines, at + 1).startswith(b"+++ "):
            section = _plain_section(lines, at)
        else:
            at += 1
            continue
        sections.append(section)
        at = section.end
    return sections


def _next(lines: Sequence[bytes], at: int) -> bytes:
    return lines[at] if at < len(lines) else b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape").removesuffix("\r")


def _git_section(lines: Sequence[bytes], first: int) -> Section:
    names = _header_names(_text(lines[first])[len("diff --git ") :])
    old: str | None
    new: str | None
    old, new = names
    moved_from = moved_to = blob = None
    at = first + 1
    while at < len(lines):
        line = lines[at]
        if line.startswith((b"rename from ", b"copy from ")):
            moved_from = _name(line.split(b" ", 2)[2])
        elif line.startswith((b"rename to ", b"copy to ")):
            moved_to = _name(line.split(b" ", 2)[2])
        elif line.startswith(b"new file mode "):
            old = None
        elif line.startswith(b"deleted file mode "):
            new = None
        elif line.startswith(b"index "):
            match = _INDEX.match(line)
            blob = match[1].decode() if match else None
        elif not line.startswith((b"old mode ", b"new mode ", b"similarity ", b"dissimilarity ")):
            break
        at += 1
    hunks: tuple[tuple[int, int], ...] = ()
    if _next(lines, at).startswith(b"--- ") and _next(lines, at + 1).startswith(b"+++ "):
        marked_old, marked_new = _marked(lines[at]), _marked(lines[at + 1])
        old, new = marked_old if old is not None else None, marked_new if new is not None else None
        hunks, at = _hunks(lines, at + 2)
    else:  # the data of a binary file
        while at < len(lines) and not lines[at].startswith((b"diff --git ", b"--- ")):
            at += 1
    moved = (moved_from, moved_to) if moved_from and moved_to else None
    if blob and not blob.strip("0"):
        blob = None
    bare = names in (moved, (names[0], names[0]))
    return Section(first, at, old, new, moved, blob, True, bare, hunks)


def _plain_section(lines: Sequence[bytes], first: int) -> Section:
    old, new = _marked(lines[first]), _marked(lines[first + 1])
    hunks, end = _hunks(lines, first + 2)
    bare = old == new if old and new else None
    return Section(first, end, old, new, bare=bare, hunks=hunks)


def _marked(line: bytes) -> str | None:
    """The name in a ``--- `` or ``+++ `` line; None if there is no such file."""
    text = _text(line)[4:]
    if _EPOCH.search(text):
        return None
    name = text.partition("\t")[0]
    if text.startswith('"'):
        name = _unquoted(text)
    elif len(name) < _LONGEST_NAME:
        name = _TIME.sub("", name)
    return None if name == "/dev/null" else name


def _name(raw: bytes) -> str:
    text = _text(raw)
    return _unquoted(text) if text.startswith('"') else text


def _unquoted(text: str) -> str:
    """A name that git has quoted as in C. One that is not well formed stays as it is: git refuses
    it when it applies the diff."""

    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else _ESCAPES.get(code, code)

    raw = text.rstrip()[1:-1].encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(plain, raw).decode("utf-8", "surrogateescape")


def _header_names(text: str) -> tuple[str, str]:
    """The two names of a ``diff --git`` line. Names with blanks are told apart by being the same
    after their first folder."""
    if text.startswith('"'):
        end = re.match(r'"(?:[^"\\]|\\.)*"', text)
        if end:
            return _unquoted(end[0]), _name(
                text[end.end() :].strip().encode("utf-8", "surrogateescape")
            )
    if text.endswith('"') and ' "' in text:
        first, _, second = text.partition(' "')
        return first, _unquoted(f'"{second}')
    half = len(text) // 2
    first, second = text[:half], text[half + 1 :]
    same = first == second or first.partition("/")[2] == second.partition("/")[2] != ""
    if text[half : half + 1] != " " or not same:
        first, _, second = text.partition(" ")
    return first, second


def _hunks(lines: Sequence[bytes], at: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """The hunks that begin at the line ``at``, and the line after the last."""
    hunks = []
    while match := _HUNK.match(_next(lines, at)):
        old, new = (1 if count is None else int(count) for count in match.groups())
        at += 1
        first = at
        while (old > 0 or new > 0) and at < len(lines):
            kind = lines[at][:1]
            old -= kind in (b" ", b"-", b"", b"\r")
            new -= kind in (b" ", b"+", b"", b"\r")
            if kind not in (b" ", b"-", b"+", b"\\", b"", b"\r"):
                break
            at += 1
        if _next(lines, at).startswith(b"\\ "):
            at += 1
        hunks.append((first, at))
    return tuple(hunks), at
