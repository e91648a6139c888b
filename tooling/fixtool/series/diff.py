"""Reads a git diff: which files it touches, and its hunks.

``git apply`` is what applies a patch, so this reader takes a part of the language that git reads,
and gives it the same meaning. It refuses the rest, above all what git would read in another way
than a person does: a ``rename to`` that names another file than the ``diff --git`` line, or a diff
between two others that has no ``diff --git`` line at all.

It takes one pass, in time and memory that grow with the size of the diff.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field

from fixtool.errors import Refused

MODES = ("100644", "100755", "120000", "160000")
"""The modes of what a tree holds: a file, an executable file, a symlink, and a submodule."""

_HEADERS = (
    "old mode ", "new mode ", "deleted file mode ", "new file mode ", "copy from ", "copy to ",
    "rename from ", "rename to ", "similarity index ", "dissimilarity index ", "index ",
)  # fmt: skip
_ALIASES = ("rename old ", "rename new ")  # git reads them, and writes them no more
_STARTS = ("--- ", "+++ ", "@@ -")
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_INDEX = re.compile(r"([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})(?: (\d{6}))?")
_PERCENT = re.compile(r"\d{1,3}%")
_BINARY = re.compile(r"(literal|delta) \d{1,12}")
_BASE85 = re.compile(r"[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f",
            b"r": b"\r", b'"': b'"', b"\\": b"\\"}  # fmt: skip


@dataclass(frozen=True)
class Hunk:
    """A hunk: the lines of its old and new side, with line ends, and where they start (from 1).
    ``to_end`` says that no context follows its last change: it fits at the end of a file only."""

    number: int
    old_start: int
    new_start: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    to_end: bool


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one path. ``hunks`` is empty for a binary file, and for a change of mode
    or name alone."""

    path: str
    old_path: str | None  # None: the file is new
    new_path: str | None  # None: the file is deleted
    old_blob: str | None  # as in the index line, perhaps abbreviated
    mode: str | None  # the new mode, if it changes: 100644, or 120000 for a symlink
    binary: bool
    hunks: tuple[Hunk, ...] = field(repr=False)
    line_number: int = 0  # of its `diff --git` line

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.old_path, self.new_path) if path)


class _Damaged(Exception):
    """What is wrong with a diff, and in which of its lines, from 0."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.what, self.index = what, index


def read_diff(diff: bytes, *, where: str, first_line: int = 1) -> tuple[FilePatch, ...]:
    """The files and hunks of a git diff. ``where`` is the file that it stands in, and
    ``first_line`` the number of its first line there.

    Raises Refused, naming the line, if the diff is damaged or is not read by git as it looks.
    """
    text = diff.decode("utf-8", "surrogateescape")
    try:
        return tuple(_Reader(text, first_line).files())
    except _Damaged as error:
        raise Refused(
            f"the diff is not well formed: {error.what}",
            where=f"{where}:{first_line + error.index}",
        ) from error


class _Lines:
    """The lines of a text without their ends. Each is cut out when it is asked for: a list of a
    million short ones would take many times the memory of the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = array("Q", [0])
        self._starts.extend(end.end() for end in re.finditer("\n", text))
        self.cut = self._starts[-1] < len(text)  # the last one has no end
        self._count = len(self._starts) if self.cut else len(self._starts) - 1
        self._starts.append(len(text) + 1)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> str:
        return self._text[self._starts[index] : self._starts[index + 1] - 1]


class _Reader:
    """Reads the lines of a diff from the first to the last; ``at`` is the index of the next."""

    def __init__(self, text: str, first_line: int) -> None:
        self.lines = _Lines(text)
        self.cut = self.lines.cut
        self.at = 0
        self.first_line = first_line

    def files(self) -> list[FilePatch]:
        files = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith("diff --git "):
                files.append(self._file())
                if self.cut and self.at >= len(self.lines):
                    raise _Damaged("its last line is cut off", len(self.lines) - 1)
            elif line.startswith((*_STARTS, *_HEADERS, *_ALIASES)):
                raise _Damaged(f"{line[:40]!r} belongs to no `diff --git` line", self.at)
            else:
                self.at += 1  # git skips it too: the signature of a mail, a blank line
        return files

    def _file(self) -> FilePatch:
        start = self.at
        self.at += 1
        headers = self._headers()
        old, new = _names(self.lines[start][len("diff --git ") :], headers, start)
        mode = _check_modes(headers, start)
        old_path = None if "new file mode " in headers else old
        new_path = None if "deleted file mode " in headers else new
        binary = False
        hunks: tuple[Hunk, ...] = ()
        line = self._peek()
        if line.startswith("--- "):
            self._check_names(old_path, new_path)
            hunks = self._hunks()
        elif line == "GIT binary patch":
            binary = True
            self._binary()
        elif line.startswith("Binary files "):
            raise _Damaged(
                "it says that a binary file differs, and not how: the diff has to be made with "
                "`git diff --binary`", self.at,
            )  # fmt: skip
        index = headers.get("index ")
        return FilePatch(
            new_path or old_path or new, old_path, new_path,
            index.partition("..")[0] if index else None, mode, binary, hunks,
            self.first_line + start,
        )  # fmt: skip

    def _peek(self) -> str:
        return self.lines[self.at] if self.at < len(self.lines) else ""

    def _headers(self) -> dict[str, str]:
        """The lines between ``diff --git`` and the changes: key, with its blank -> value."""
        headers: dict[str, str] = {}
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith(_ALIASES):
                raise _Damaged(f"{line[:11]!r} is written `rename from` and `rename to`", self.at)
            key = next((key for key in _HEADERS if line.startswith(key)), None)
            if key is None:
                break
            if key in headers:
                raise _Damaged(f"there are two lines {key.strip()!r}", self.at)
            value = headers[key] = line[len(key) :]
            form = _FORMS.get(key)
            if form and not form.fullmatch(value):
                raise _Damaged(f"{line[:60]!r} is not of the form that git writes", self.at)
            if key.endswith("mode ") and value not in MODES:
                raise _Damaged(
                    f"{value[:20]!r} is no mode of a file, an executable file, a symlink or a "
                    f"submodule: {', '.join(MODES)}", self.at,
                )  # fmt: skip
            self.at += 1
        return headers

    def _check_names(self, old: str | None, new: str | None) -> None:
        """Check that ``--- `` and ``+++ `` name the files of the ``diff --git`` line."""
        for mark, path in (("--- ", old), ("+++ ", new)):
            line = self._peek()
            if not line.startswith(mark):
                raise _Damaged(f"a line that begins with {mark!r} is missing", self.at)
            name = _marked_name(line[len(mark) :], self.at)
            if name != path:
                raise _Damaged(
                    f"{line[:80]!r} does not name the file of the `diff --git` line: "
                    f"{path or '/dev/null'!r}", self.at,
                )  # fmt: skip
            self.at += 1

    def _hunks(self) -> tuple[Hunk, ...]:
        hunks: list[Hunk] = []
        while self._peek().startswith("@@ -"):
            hunks.append(self._hunk(len(hunks) + 1))
        if not hunks:
            raise _Damaged("no hunk follows the names of the file", self.at)
        return tuple(hunks)

    def _hunk(self, number: int) -> Hunk:
        header = self.at
        match = _HUNK.match(self.lines[header])
        if not match:
            raise _Damaged(f"{self.lines[header][:60]!r} is not the head of a hunk", header)
        old_left = 1 if match[2] is None else int(match[2])
        new_left = 1 if match[4] is None else int(match[4])
        before: list[str] = []
        after: list[str] = []
        changes = 0
        to_end = False
        lines, at = self.lines, self.at + 1
        last = len(lines) - 1
        while old_left or new_left:
            if at > last or (at == last and self.cut):
                raise _Damaged("it ends within a hunk", min(at, last))
            line = lines[at]
            kind, text = line[:1] or " ", line[1:] + "\n"
            if kind in " -":
                before.append(text)
                old_left -= 1
            if kind in " +":
                after.append(text)
                new_left -= 1
            if kind in "-+":
                changes += 1
                to_end = True
            elif kind == " ":
                to_end = False
            elif kind != "\\":
                raise _Damaged(f"{line[:40]!r} is no line of a hunk, which has more of them", at)
            if old_left < 0 or new_left < 0:
                raise _Damaged("the hunk has another number of lines than its head says", at)
            if kind == "\\":
                _end_without_newline(lines[at - 1][:1] or " ", before, after, at)
            at += 1
        if at <= last and lines[at].startswith("\\ "):
            _end_without_newline(lines[at - 1][:1] or " ", before, after, at)
            at += 1
        if not changes:
            raise _Damaged("the hunk changes nothing", header)
        if at <= last and lines[at][:1] in ("+", "-", " ") and not _ends_hunk(lines[at]):
            raise _Damaged("the hunk has more lines than its head says", at)
        self.at = at
        return Hunk(number, int(match[1]), int(match[3]), tuple(before), tuple(after), to_end)

    def _binary(self) -> None:
        self.at += 1
        if not _BINARY.fullmatch(self._peek()):
            raise _Damaged("`GIT binary patch` is not followed by its data", self.at)
        for _ in range(2):  # the new content, and the old one
            if not _BINARY.fullmatch(self._peek()):
                break
            self.at += 1
            while _BASE85.fullmatch(self._peek()):
                self.at += 1
            if self._peek() or self.at >= len(self.lines):
                what = f"{self._peek()[:40]!r} is no line of binary data, nor the blank line after"
                raise _Damaged(what, self.at)
            self.at += 1


_FORMS = {"index ": _INDEX, "similarity index ": _PERCENT, "dissimilarity index ": _PERCENT}


def _ends_hunk(line: str) -> bool:
    """Whether a line after a hunk is the mail's signature (``-- ``), not a line too many."""
    return line in ("-- ", "--", "---") or not line.strip()


def _end_without_newline(kind: str, before: list[str], after: list[str], index: int) -> None:
    r"""``\ No newline at end of file`` is about the line above it, which is of this ``kind``."""
    sides = [side for side, kinds in ((before, " -"), (after, " +")) if kind in kinds]
    if not sides or not all(sides):
        raise _Damaged("`\\ No newline` follows no line", index)
    for side in sides:
        side[-1] = side[-1].removesuffix("\n")


def _check_modes(headers: dict[str, str], index: int) -> str | None:
    """The new mode of the file, None if it does not change. Raises _Damaged if the headers
    contradict each other."""
    new, deleted = headers.get("new file mode "), headers.get("deleted file mode ")
    before, after = headers.get("old mode "), headers.get("new mode ")
    moved = any(key.startswith(("rename", "copy")) for key in headers)
    if sum((new is not None, deleted is not None, before is not None or after is not None)) > 1:
        raise _Damaged("a file is new, deleted or changed, and only one of these", index)
    if moved and (new or deleted):
        raise _Damaged("a file that is new or deleted is neither a copy nor renamed", index)
    if (before is None) != (after is None) or (before and after and before[:2] != after[:2]):
        raise _Damaged("`old mode` and `new mode` do not fit together", index)
    inline = headers.get("index ", "").partition(" ")[2]
    if inline and (inline not in MODES or before or new or deleted):
        raise _Damaged("the mode in the `index` line does not fit", index)
    return new or after


def _names(text: str, headers: dict[str, str], index: int) -> tuple[str, str]:
    """The old and the new path in ``a/x b/x``, the rest of a ``diff --git`` line. They differ only
    if the ``headers`` say that the file was renamed or copied, and then those must agree."""
    kinds = [kind for kind in ("rename", "copy")
             if f"{kind} from " in headers or f"{kind} to " in headers]  # fmt: skip
    moved: tuple[str, str] | None = None
    if kinds:
        old, new = (headers.get(f"{kinds[0]} {way} ") for way in ("from", "to"))
        if len(kinds) > 1 or old is None or new is None:
            raise _Damaged("a rename or copy has one `from` and one `to`", index)
        moved = _plain_name(old, index), _plain_name(new, index)
    names = _split(text, moved, index)
    if names is None:
        raise _Damaged(f"the `diff --git` line does not name one file: {text[:80]!r}", index)
    if moved and names != moved:
        raise _Damaged(
            f"it says {kinds[0]} from {moved[0]!r} to {moved[1]!r}, which git would do, and its "
            f"`diff --git` line says {names[0]!r} and {names[1]!r}", index,
        )  # fmt: skip
    if not moved and names[0] != names[1]:
        raise _Damaged(
            f"its `diff --git` line names two files, {names[0]!r} and {names[1]!r}, and no line "
            "says that the file was renamed or copied", index,
        )  # fmt: skip
    return names


def _split(text: str, moved: tuple[str, str] | None, index: int) -> tuple[str, str] | None:
    """The two paths, without their first folders (``a/`` and ``b/``); None if there are none."""
    if text.startswith('"'):
        match = _QUOTED.match(text)
        if not match or text[match.end() : match.end() + 1] != " ":
            return None
        first, second = match[0], text[match.end() + 1 :]
    elif text.endswith('"'):
        first, _, second = text.partition(' "')
        second = f'"{second}'
    elif moved:
        # Blanks may be in the names: the headers say where the first one ends.
        folder = text.partition("/")[0]
        first = f"{folder}/{moved[0]}"
        if not text.startswith(f"{first} "):
            first = text.partition(" ")[0]
        second = text[len(first) + 1 :]
    else:
        half = len(text) // 2  # both names are the same, after their first folders
        first, second = text[:half], text[half + 1 :]
        if text[half : half + 1] != " ":
            return None
    names = [_plain_name(name, index).partition("/") for name in (first, second)]
    if not all(slash and path for _, slash, path in names):
        return None
    (_, _, old), (_, _, new) = names
    return old, new


def _marked_name(text: str, index: int) -> str | None:
    """The path in a ``--- `` or ``+++ `` line; None for /dev/null. git ends it at a tab, which it
    writes after each name with a blank in it, also after a quoted one."""
    quoted = _QUOTED.match(text)
    if quoted and text[quoted.end() : quoted.end() + 1] == "\t":
        text = quoted[0]
    name = _plain_name(text if text.startswith('"') else text.partition("\t")[0], index)
    return None if name == "/dev/null" else name.partition("/")[2]


def _plain_name(text: str, index: int) -> str:
    """A name as git writes it: plain, or quoted as in C."""
    if not text.startswith('"'):
        return text
    match = _QUOTED.fullmatch(text)
    if not match:
        raise _Damaged(f"a quoted name does not end: {text[:80]!r}", index)

    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        if len(code) == 3:
            return bytes([int(code, 8)])
        if code not in _ESCAPES:
            raise _Damaged(f"a quoted name has an escape that git does not know: {text[:80]!r}",
                           index)  # fmt: skip
        return _ESCAPES[code]

    raw = _ESCAPE.sub(plain, match[1].encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
