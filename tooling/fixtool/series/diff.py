"""Reads a git diff: which files it touches, and its hunks.

``git apply`` is what applies a patch, so this reader takes a part of the language that git reads,
and gives it the same meaning. It refuses the rest, above all what git would read in another way
than a person does: a ``rename to`` that names another file than the ``diff --git`` line, or a diff
between two others that has no ``diff --git`` line at all.

It takes one pass, in time and memory that grow with the size of the diff.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fixtool.errors import Refused
from fixtool.series.lines import lines_of
from fixtool.series.texts import Text
from fixtool.text import argument, late_pattern

MODES = ("100644", "100755", "120000", "160000")
"""The modes of what a tree holds: a file, an executable file, a symlink, and a submodule."""

_HEADERS = (
    "old mode ", "new mode ", "deleted file mode ", "new file mode ", "copy from ", "copy to ",
    "rename from ", "rename to ", "similarity index ", "dissimilarity index ", "index ",
)  # fmt: skip
_ALIASES = ("rename old ", "rename new ")  # git reads them, and writes them no more
_STARTS = ("--- ", "+++ ", "@@ -")
_HUNK = late_pattern(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_INDEX = late_pattern(r"([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})(?: (\d{6}))?")
_PERCENT = late_pattern(r"\d{1,3}%")
_BINARY = late_pattern(r"(literal|delta) \d{1,12}")
_BASE85 = late_pattern(r"[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]+")
_QUOTED = late_pattern(r'"((?:[^"\\]|\\.)*)"')
_NO_NEWLINE = b"\n\\"  # begins what a hunk says of the line above
_AT, _BACKSLASH, _BLANK, _MINUS, _NEWLINE, _PLUS = b"@\\ -\n+"  # as numbers
# What git writes before the hunks of most files: those whose names need no quotes.
_USUAL_HEAD = late_pattern(
    rb'diff --git a/([^\n\t"\\]+) b/\1\n'
    rb"(?:index (?P<changed>BLOBS) (?:MODE)\n--- a/\1\n\+\+\+ b/\1\n"
    rb"|new file mode (?P<mode>MODE)\nindex (?P<new>BLOBS)\n--- /dev/null\n\+\+\+ b/\1\n"
    rb"|deleted file mode (?:MODE)\nindex (?P<deleted>BLOBS)\n--- a/\1\n\+\+\+ /dev/null\n"
    rb")(?=@@ -)"
    .replace(b"BLOBS", rb"[0-9a-f]{4,64}\.\.[0-9a-f]{4,64}")
    .replace(b"MODE", "|".join(MODES).encode())
)  # fmt: skip
_USUAL_HUNK = late_pattern(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@.*\n")
_ESCAPE = late_pattern(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f",
            b"r": b"\r", b'"': b'"', b"\\": b"\\"}  # fmt: skip
_CONFLICT = b"\n<<<<<<< "


@dataclass(frozen=True, slots=True)
class Hunk:
    """A hunk: where its old and new side start (from 1), and which bytes of ``diff`` are its
    lines. ``to_end`` says that no context follows its last change: it fits at the end of a file
    only. Its sides are made when they are asked for: those of a long series would take several
    times the memory of its patches."""

    number: int
    old_start: int
    new_start: int
    to_end: bool
    diff: Text = field(repr=False)
    begin: int
    end: int
    backwards: bool = False  # it undoes what the diff does

    @property
    def text(self) -> bytes:
        """Its lines, as they stand in the diff."""
        return self.diff.part(self.begin, self.end)

    @property
    def head(self) -> bytes:
        """The line above them, with its end, which begins with ``@@``."""
        diff = self.diff.read()
        return diff[diff.rfind(b"\n", 0, self.begin - 1) + 1 : self.begin]

    @property
    def before(self) -> tuple[str, ...]:
        """The lines of the old side, with line ends."""
        return self._lines(self._kinds[0])

    @property
    def after(self) -> tuple[str, ...]:
        """The lines of the new side, with line ends."""
        return self._lines(self._kinds[1])

    @property
    def added_runs(self) -> tuple[tuple[str, ...], ...]:
        """The lines that it adds, with line ends: those that follow each other together."""
        sign = self._kinds[1][1:]
        runs: list[list[str]] = [[]]
        for line in self.text.split(b"\n")[:-1]:
            if line[:1] == sign:
                runs[-1].append(line[1:].decode("utf-8", "surrogateescape") + "\n")
            elif runs[-1] and line[:1] != b"\\":
                runs.append([])
        return tuple(tuple(run) for run in runs if run)

    def undoing(self) -> Hunk:
        """The hunk that undoes this one."""
        return replace(self, old_start=self.new_start, new_start=self.old_start,
                       backwards=not self.backwards)  # fmt: skip

    @property
    def old_text(self) -> bytes:
        return b"".join(self._side(self._kinds[0]))

    @property
    def new_text(self) -> bytes:
        return b"".join(self._side(self._kinds[1]))

    @property
    def sides(self) -> tuple[bytes, bytes] | None:
        """The texts of both sides; None if it says of a line that it has no newline. To ask for
        each of them takes twice as long."""
        text = self.text
        if _NO_NEWLINE in text:
            return None
        lines = text.split(b"\n")
        return _without(lines, self._kinds[1][1:]), _without(lines, self._kinds[0][1:])

    @property
    def names_no_newline(self) -> bool:
        """Whether it says of a line that it has no newline."""
        return _NO_NEWLINE in self.text

    @property
    def _kinds(self) -> tuple[bytes, bytes]:
        """The first bytes of the lines of the old side, and of those of the new one."""
        return (b" +", b" -") if self.backwards else (b" -", b" +")

    def _lines(self, kinds: bytes) -> tuple[str, ...]:
        side = self._side(kinds)
        if len(side) > 1:
            return tuple(line.decode("utf-8", "surrogateescape") for line in side)
        return tuple(lines_of(b"".join(side).decode("utf-8", "surrogateescape")))

    def _side(self, kinds: bytes) -> list[bytes]:
        """The lines of one side, or all of them as one text."""
        text = self.text
        lines = text.split(b"\n")
        if _NO_NEWLINE not in text:
            return [_without(lines, b"+" if kinds == b" -" else b"-")]
        side: list[bytes] = []
        for line, next_line in zip(lines[:-1], [*lines[1:-1], b""], strict=True):
            # An empty line is one of context whose blank was lost; it is in ``kinds`` too.
            if line[:1] in kinds:
                side.append(line[1:] + (b"" if next_line.startswith(b"\\") else b"\n"))
        return side


def _without(lines: Sequence[bytes], sign: bytes) -> bytes:
    """The text of ``lines`` of a hunk, each without its first byte, but of those with ``sign``."""
    return b"\n".join([line[1:] for line in lines if line[:1] != sign])


@dataclass(frozen=True, slots=True)
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
    new_blob: str | None = None  # as in the index line, perhaps abbreviated

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.old_path, self.new_path) if path)

    @property
    def left_path(self) -> str | None:
        """The path at which the patch leaves no file: it removes it, or puts it elsewhere."""
        return self.old_path if self.old_path != self.new_path else None


class _Damaged(Exception):
    """What is wrong with a diff, and in which of its lines, from 0; and the line that has to be
    written anew, with its text, where that is known."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.what, self.index = what, index
        self.instead: tuple[int, str] | None = None


def read_diff(diff: bytes | Text, *, where: str, first_line: int = 1) -> tuple[FilePatch, ...]:
    """The files and hunks of a git diff. ``where`` is the file that it stands in, and
    ``first_line`` the number of its first line there.

    Raises Refused, naming the line, if the diff is damaged or is not read by git as it looks.
    """
    try:
        text = diff if isinstance(diff, Text) else Text(diff, owned=True)
        return tuple(_Reader(text, first_line).files())
    except _Damaged as error:
        hint = None
        if error.instead:
            number, head = first_line + error.instead[0], error.instead[1]
            script = argument(f"{number}s/^@@ [^@]* @@/{head}/")
            hint = f"write the right numbers into its head: sed -i {script} {argument(where)}"
        raise Refused(
            f"the diff is not well formed: {error.what}",
            where=f"{where}:{first_line + error.index}",
            hint=hint,
        ) from error


class _Reader:
    """Reads the lines of a diff from the first to the last. The next one begins at byte ``begin``
    and is line ``at`` (from 0)."""

    def __init__(self, text: Text, first_line: int) -> None:
        self.text = text
        self.diff = diff = text.read()
        self.cut = not diff.endswith(b"\n")  # the last line has no end
        self.begin = 0
        self.at = 0
        self.first_line = first_line
        self._next_hunk = self._next_file = -1  # the newline before each of them

    @property
    def more(self) -> bool:
        """Whether a line follows."""
        return self.begin < len(self.diff)

    def _peek(self) -> str:
        """The next line, without its end; empty if none follows."""
        return self.diff[self.begin : self._end()].decode("utf-8", "surrogateescape")

    def _end(self) -> int:
        """Where the end of the next line stands."""
        end = self.diff.find(b"\n", self.begin)
        return len(self.diff) if end < 0 else end

    def _skip(self) -> None:
        """Go on to the line after the next one."""
        self.begin = self._end() + 1
        self.at += 1

    def files(self) -> list[FilePatch]:
        marker = self.diff.find(_CONFLICT)
        if marker >= 0:  # git would skip it, and take what both sides have
            at = self.diff.count(b"\n", 0, marker) + 1
            raise _Damaged("a conflict marker of a merge is left", at)
        files = []
        while self.more:
            line = self._peek()
            if line.startswith("diff --git "):
                files.append(self._file())
                if self.cut and not self.more:
                    raise _Damaged("its last line is cut off", self.at - 1)
            elif line.startswith((*_STARTS, *_HEADERS, *_ALIASES)):
                raise _Damaged(f"{line[:40]!r} belongs to no `diff --git` line", self.at)
            else:
                self._skip()  # git skips it too: the signature of a mail, a blank line
        return files

    def _usual_file(self) -> FilePatch | None:
        """The next file, if its head is as git writes most of them. None if it has to be read line
        by line, which takes several times as long."""
        match = _USUAL_HEAD.match(self.diff, self.begin)
        if match is None:
            return None
        path, start = match[1].decode("utf-8", "surrogateescape"), self.at
        self.begin = match.end()
        self.at += match[0].count(b"\n")
        mode = match["mode"].decode() if match["mode"] else None
        blobs = match["changed"] or match["new"] or match["deleted"]
        blob, _, new_blob = blobs.decode().partition("..")
        return FilePatch(
            path, None if match["new"] else path, None if match["deleted"] else path, blob, mode,
            False, self._hunks(), self.first_line + start, new_blob,
        )  # fmt: skip

    def _file(self) -> FilePatch:
        if usual := self._usual_file():
            return usual
        start, names = self.at, self._peek()[len("diff --git ") :]
        self._skip()
        headers = self._headers()
        old, new = _names(names, headers, start)
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
            self.first_line + start, _new_blob(index),
        )  # fmt: skip

    def _headers(self) -> dict[str, str]:
        """The lines between ``diff --git`` and the changes: key, with its blank -> value."""
        headers: dict[str, str] = {}
        while self.more:
            line = self._peek()
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
            self._skip()
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
            self._skip()

    def _hunks(self) -> tuple[Hunk, ...]:
        hunks: list[Hunk] = []
        while self.diff.startswith(b"@@ -", self.begin):
            number = len(hunks) + 1
            hunks.append(self._usual_hunk(number) or self._checked_hunk(number))
        if not hunks:
            raise _Damaged("no hunk follows the names of the file", self.at)
        return tuple(hunks)

    def _usual_hunk(self, number: int) -> Hunk | None:
        """The next hunk, if each of its lines begins with a blank, a minus or a plus, and they are
        as many as its head says. None if it has to be read line by line: it may be damaged."""
        diff = self.diff
        match = _USUAL_HUNK.match(diff, self.begin)
        if match is None or self.cut:
            return None
        begin = match.end()
        before = begin - 1  # the newline before each line tells where it begins
        end = self._end_of_hunk(before)
        blank = diff.count(b"\n ", before, end)
        minus = diff.count(b"\n-", before, end)
        plus = diff.count(b"\n+", before, end)
        lines = diff.count(b"\n", begin, end)
        old_start, old, new_start, new = match.groups(b"1")
        if (blank + minus, blank + plus, blank + minus + plus) != (int(old), int(new), lines):
            return None
        if not minus + plus:
            return None
        to_end = diff[diff.rfind(b"\n", before, end - 1) + 1] != _BLANK
        self.begin = end
        self.at += 1 + lines
        return Hunk(number, int(old_start), int(new_start), to_end, self.text, begin, end)

    def _end_of_hunk(self, start: int) -> int:
        """Where the next hunk or file begins after byte ``start``, or the diff ends. Each byte is
        looked at once, whatever the number of hunks."""
        if self._next_hunk < start:
            found = self.diff.find(b"\n@@ -", start)
            self._next_hunk = found if found >= 0 else len(self.diff) - 1
        if self._next_file < start:
            found = self.diff.find(b"\ndiff --git ", start)
            self._next_file = found if found >= 0 else len(self.diff) - 1
        return 1 + min(self._next_hunk, self._next_file)

    def _checked_hunk(self, number: int) -> Hunk:
        """The next hunk, read line by line. If its head has wrong numbers, as after an edit by
        hand, the error says the right ones."""
        begin, header = self.begin, self.at
        try:
            return self._hunk(number)
        except _Damaged as error:
            if error.what.startswith("the hunk has") and (head := _right_head(self.diff, begin)):
                error.instead = (header, head)
            raise

    def _hunk(self, number: int) -> Hunk:
        header, line = self.at, self._peek()
        match = _HUNK.match(line)
        if not match:
            raise _Damaged(f"{line[:60]!r} is not the head of a hunk", header)
        self._skip()
        begin, changes, to_end = self.begin, 0, False
        old_left = 1 if match[2] is None else int(match[2])
        new_left = 1 if match[4] is None else int(match[4])
        diff, at, kind = self.diff, self.begin, _AT
        while old_left or new_left:
            end = diff.find(b"\n", at)
            if end < 0:
                raise _Damaged("it ends within a hunk", self.at - (at >= len(diff)))
            before, kind = kind, diff[at]
            if kind in (_BLANK, _NEWLINE):  # a line of context, perhaps without its blank
                old_left -= 1
                new_left -= 1
                to_end = False
            elif kind in (_MINUS, _PLUS):
                old_left -= kind == _MINUS
                new_left -= kind == _PLUS
                changes += 1
                to_end = True
            elif kind == _BACKSLASH:
                self._check_no_newline(before)
            else:
                line = diff[at:end].decode("utf-8", "surrogateescape")
                what = f"the hunk has fewer lines than its head says: {line[:40]!r} is none"
                raise _Damaged(what, self.at)
            if old_left < 0 or new_left < 0:
                raise _Damaged("the hunk has another number of lines than its head says", self.at)
            at = end + 1
            self.at += 1
        self.begin = at
        if diff.startswith(b"\\ ", at):
            self._check_no_newline(kind)
            self._skip()
        if not changes:
            raise _Damaged("the hunk changes nothing", header)
        line = self._peek()
        if line[:1] in ("+", "-", " ") and not _ends_hunk(line):
            raise _Damaged("the hunk has more lines than its head says", self.at)
        end = min(self.begin, len(diff))
        return Hunk(number, int(match[1]), int(match[3]), to_end, self.text, begin, end)

    def _check_no_newline(self, kind: int) -> None:
        r"""``\ No newline at end of file`` is about the line above, which is of this ``kind``."""
        if kind not in (_BLANK, _NEWLINE, _MINUS, _PLUS):
            raise _Damaged("`\\ No newline` follows no line", self.at)

    def _binary(self) -> None:
        self._skip()
        if not _BINARY.fullmatch(self._peek()):
            raise _Damaged("`GIT binary patch` is not followed by its data", self.at)
        for _ in range(2):  # the new content, and the old one
            if not _BINARY.fullmatch(self._peek()):
                break
            self._skip()
            while _BASE85.fullmatch(self._peek()):
                self._skip()
            if self._peek() or not self.more:
                what = f"{self._peek()[:40]!r} is no line of binary data, nor the blank line after"
                raise _Damaged(what, self.at)
            self._skip()


_FORMS = {"index ": _INDEX, "similarity index ": _PERCENT, "dissimilarity index ": _PERCENT}


def _new_blob(index: str | None) -> str | None:
    match = _INDEX.fullmatch(index) if index else None
    return match[2] if match else None


def _ends_hunk(line: str) -> bool:
    """Whether a line after a hunk is the mail's signature (``-- ``), not a line too many."""
    return line in ("-- ", "--", "---") or not line.strip()


def _right_head(diff: bytes, begin: int) -> str | None:
    """The head of the hunk at byte ``begin`` with the numbers of the lines that follow it, up to
    the next hunk or file; None if one of these lines is of no hunk."""
    end = diff.find(b"\n@@ -", begin)
    following = [at for at in (end, diff.find(b"\ndiff --git ", begin)) if at >= 0]
    head, *lines = diff[begin : min(following, default=len(diff))].rstrip(b"\n").split(b"\n")
    match = _HUNK.match(head.decode("utf-8", "replace"))
    while lines and _ends_hunk(lines[-1].decode("utf-8", "replace")):
        lines.pop()
    kinds = [chr(line[0]) if line else " " for line in lines]
    if match is None or not set(kinds) <= set(" +-\\"):
        return None
    old, new = (sum(kind in kinds_of for kind in kinds) for kinds_of in (" -", " +"))
    return f"@@ -{match[1]},{old} +{match[3]},{new} @@"


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
