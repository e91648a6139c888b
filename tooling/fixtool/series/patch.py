"""A patch: a mail in the form of ``git format-patch``, read and written byte for byte.

The headers are those of a mail, so the standard library reads them. The message ends at the first
line that begins with ``diff --git``. The diff follows, which git applies and unidiff parses.

    From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
    From: A Maintainer <a@example.org>
    Date: Mon, 23 Nov 2026 12:00:00 +0000
    Subject: [PATCH] gemma4: give the MTP assistant its pp_group

    Why this exists, when it can go.

    Drop-When: upstream sets it
    diff --git a/x b/x
"""

from __future__ import annotations

import email
import email.utils
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import decode_header, make_header
from functools import cached_property
from pathlib import Path

from unidiff.errors import UnidiffParseError
from unidiff.patch import Hunk as DiffHunk
from unidiff.patch import PatchedFile, PatchSet

from fixtool.errors import Refused
from fixtool.git.objects import Commit, Oid, Signature
from fixtool.git.repo import Repo
from fixtool.git.trees import apply_to_index, scratch_index, write_tree

_TAG = "[PATCH] "
_DIFF_START = re.compile(rb"^diff --git ", re.MULTILINE)
_ESCAPES = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_UNQUOTE = re.compile(r"\\([0-7]{3}|.)")
_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): (.*)")

# Every option that affects the bytes of an exported patch, so that no configuration can.
FORMAT = (
    "format-patch", "--stdout", "-1", "--zero-commit", "--full-index", "--no-signature",
    "--no-stat", "-p", "--no-renames", "--subject-prefix=PATCH", "--no-numbered", "--no-thread",
    "--no-attach", "--diff-algorithm=myers", "--unified=3", "--inter-hunk-context=0",
    "--src-prefix=a/", "--dst-prefix=b/", "--no-color", "--no-ext-diff", "--no-textconv",
    "--binary", "--encode-email-headers", "--no-to", "--no-cc", "--no-notes", "--no-base",
    "--no-indent-heuristic",
)  # fmt: skip


@dataclass(frozen=True)
class Hunk:
    """A hunk: the lines of its old and new side, with line ends, and where they start (from 1)."""

    number: int
    old_start: int
    new_start: int
    before: tuple[str, ...]
    after: tuple[str, ...]


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

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.old_path, self.new_path) if path)


@dataclass(frozen=True)
class Patch:
    """A patch file: ``slug`` is its name without ``.patch``, ``raw`` are its bytes."""

    slug: str
    raw: bytes = field(repr=False)
    subject: str
    body: str
    author: Signature
    diff: bytes = field(repr=False)
    path: Path | None = None

    @property
    def message(self) -> str:
        return f"{self.subject}\n\n{self.body}\n" if self.body else f"{self.subject}\n"

    @cached_property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        return read_trailers(self.body)

    @property
    def head(self) -> bytes:
        """The mail before the diff: its headers and the message."""
        return self.raw[: len(self.raw) - len(self.diff)]

    @cached_property
    def trailer_lines(self) -> tuple[int, ...]:
        """The line of the patch file at which each of ``trailers`` begins."""
        paragraph = self.body.rsplit("\n\n", 1)[-1].split("\n")
        first = self.head.rstrip(b"\n").count(b"\n") + 2 - len(paragraph)
        return tuple(first + offset for offset, _, _ in _trailers(paragraph))

    @cached_property
    def files(self) -> tuple[FilePatch, ...]:
        return read_diff(self.diff, where=str(self.path or self.slug))

    @property
    def paths(self) -> frozenset[str]:
        """Every path that it reads or writes."""
        return frozenset(path for file in self.files for path in file.paths)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @cached_property
    def diff_digest(self) -> str:
        """The digest of the diff, which does not depend on the message."""
        return hashlib.sha256(self.diff).hexdigest()

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The slugs in its ``Depends-On:`` trailers."""
        values = [value for key, value in self.trailers if key.lower() == "depends-on"]
        return tuple(slug for value in values for slug in value.replace(",", " ").split())

    def trailer(self, key: str) -> str | None:
        """The first trailer of this key, in any case; None if there is none."""
        return next((value for name, value in self.trailers if name.lower() == key.lower()), None)

    def commit(self, tree: Oid, parent: Oid) -> Commit:
        """This patch as a commit. The committer's date is the author's, so that the same patch on
        the same parent is the same commit on every machine."""
        machine = Signature("fixtool", "fixtool@localhost", self.author.date)
        return Commit(tree, (parent,), self.author, machine, self.message)


def parse(raw: bytes, slug: str, path: Path | None = None) -> Patch:
    """Read a patch file. Raises Refused, naming the line, if it is not a mail with a diff."""
    where = str(path or slug)
    split = _DIFF_START.search(raw)
    if b"\0" in raw[: split.start() if split else 4096]:
        raise Refused("this is binary data, not a patch", where=where)
    if not split:
        raise Refused(
            "no `diff --git` line: the file holds no git diff",
            where=where,
            hint="bring a plain diff in with: fixtool import FILE",
        )
    head, diff = raw[: split.start()], raw[split.start() :]
    mail = email.message_from_bytes(_without_envelope(head))
    missing = [name for name in ("From", "Date", "Subject") if name not in mail]
    if missing:
        raise Refused(
            f"no {missing[0]}: header before the diff",
            where=f"{where}:1",
            hint="bring a plain diff in with: fixtool import FILE",
        )
    subject = _text(mail["Subject"])
    if not subject.startswith(_TAG):
        raise Refused(f"the subject does not begin with {_TAG.strip()}", where=where)
    # Parsed before it is decoded: a name may decode to `)` or `:`, which have a meaning in mail.
    name, address = email.utils.parseaddr(_unfold(mail["From"]))
    if not address:
        raise Refused("the From: header names no mail address", where=where)
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    body = payload.decode(mail.get_content_charset() or "utf-8", "surrogateescape")
    return Patch(
        slug=slug,
        raw=raw,
        subject=subject.removeprefix(_TAG).lstrip(" "),  # the header may be folded after the tag
        body=body.strip("\n"),
        author=Signature(_text(name), address, _raw_date(mail["Date"], where)),
        diff=diff,
        path=path,
    )


def read_trailers(body: str) -> tuple[tuple[str, str], ...]:
    """The trailers of a message as ``git interpret-trailers`` reads them: its last paragraph, if
    every line is ``Key: value``. A line that begins with a blank continues the one before."""
    paragraph = body.rsplit("\n\n", 1)[-1].split("\n")
    return tuple((key, value) for _, key, value in _trailers(paragraph))


def _trailers(paragraph: Sequence[str]) -> list[tuple[int, str, str]]:
    """The trailers in the lines of a paragraph: the number of its first line (from 0), its key and
    its value. There are none unless every line belongs to one."""
    trailers: list[tuple[int, str, str]] = []
    for number, line in enumerate(paragraph):
        if line[:1] in " \t" and trailers:
            first, key, value = trailers[-1]
            trailers[-1] = (first, key, f"{value} {line.strip()}")
        elif match := _TRAILER.fullmatch(line):
            trailers.append((number, match[1], match[2]))
        else:
            return []
    return trailers


def read_diff(diff: bytes, *, where: str) -> tuple[FilePatch, ...]:
    """The files and hunks of a git diff. Raises Refused if headers or hunk counts are wrong."""
    text = diff.decode("utf-8", "surrogateescape")
    try:
        parsed = PatchSet.from_string(text)
    except (UnidiffParseError, IndexError, ValueError) as error:
        raise Refused(f"the diff is not well formed: {error}", where=where) from error
    return tuple(map(_file_patch, parsed))


def apply_on(repo: Repo, patch: Patch, commit: str) -> tuple[Oid | None, str]:
    """The tree of ``commit`` with ``patch`` applied; if it does not apply exactly, None and git's
    message."""
    with scratch_index(repo, commit) as index:
        out = apply_to_index(repo, index, patch.diff)
        return (write_tree(repo, index), "") if out.status == 0 else (None, out.complaint)


def patch_id(repo: Repo, diff: bytes) -> str:
    """git's stable id of a diff, which depends neither on line numbers nor on white space."""
    return repo.run("patch-id", "--stable", stdin=diff).text.split(" ")[0]


def export(repo: Repo, commit: str) -> bytes:
    """The patch file of a commit in normal form, the same under any configuration."""
    return repo.run(*FORMAT, commit).stdout


def slugify(subject: str) -> str:
    """The slug for a subject: ``gemma4: give X its Y`` becomes ``gemma4-give-x-its-y``."""
    words = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")
    return words[:60].rstrip("-") or "patch"


def is_slug(text: str) -> bool:
    """Whether ``text`` is safe as a file name. In other tools, subjects and series lines have
    escaped from their folder (CVE-2026-47712)."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text)) and ".." not in text


def unsafe_paths(files: Iterable[FilePatch]) -> list[tuple[str, str]]:
    """``(path, why)`` for every path that no patch may write."""
    unsafe = []
    links = set[str]()
    for file in files:
        for path in set(file.paths):
            if why := _unsafe(path, links):
                unsafe.append((path, why))
        if file.mode == "120000" and file.new_path:
            links.add(file.new_path)
    return unsafe


def _unsafe(path: str, links: set[str]) -> str | None:
    parts = path.split("/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "an absolute path"
    if ".." in parts or "." in parts or "" in parts:
        return "a path that leaves the tree or is not in plain form"
    if any(re.fullmatch(r"\.git[. ]*|git~\d+", _fold(part)) for part in parts):
        return "a path inside git's own folder"
    if "\\" in path or re.search(r"[\x00-\x1f\x7f]", path):
        return "a backslash or control character"
    if any("/".join(parts[:depth]) in links for depth in range(1, len(parts))):
        return "behind a symlink that this patch makes (CVE-2023-23946)"
    return None


def _fold(part: str) -> str:
    """Lower case without the code points that HFS+ ignores, so `.g\u200cit` is `.git`."""
    return re.sub("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]", "", part).lower()


def _without_envelope(head: bytes) -> bytes:
    """Drop the mbox line, ``From 0000… Mon Sep 17 00:00:00 2001``."""
    return head.split(b"\n", 1)[1] if head.startswith(b"From ") else head


def _unfold(header: str) -> str:
    return re.sub(r"\r?\n[ \t]", " ", str(header))


def _text(header: str) -> str:
    unfolded = _unfold(header)
    return str(make_header(decode_header(unfolded))) if "=?" in unfolded else unfolded


def _raw_date(header: str, where: str) -> str:
    parsed = email.utils.parsedate_tz(str(header))
    if parsed is None:
        raise Refused(f"the Date: header is not a date: {header!r}", where=where)
    offset = parsed[9] or 0
    seconds = int(datetime(*parsed[:6], tzinfo=UTC).timestamp()) - offset
    sign = "-" if offset < 0 else "+"
    return f"{seconds} {sign}{abs(offset) // 3600:02d}{abs(offset) // 60 % 60:02d}"


def _file_patch(file: PatchedFile) -> FilePatch:
    info = "".join(file.patch_info or ())
    index = re.search(r"^index ([0-9a-f]+)\.\.", info, re.MULTILINE)
    mode = re.search(r"^(?:new file mode|new mode) (\d+)", info, re.MULTILINE)
    old = None if file.is_added_file else _path(file.source_file)
    new = None if file.is_removed_file else _path(file.target_file)
    return FilePatch(
        path=new or old or file.path,
        old_path=old,
        new_path=new,
        old_blob=index[1] if index else None,
        mode=mode[1] if mode else None,
        binary=file.is_binary_file or "GIT binary patch" in info,
        hunks=tuple(_hunk(number, hunk) for number, hunk in enumerate(file, start=1)),
    )


def _hunk(number: int, hunk: DiffHunk) -> Hunk:
    before: list[str] = []
    after: list[str] = []
    sides: list[list[str]] = []
    for line in hunk:
        if line.line_type == "\\":  # "\ No newline at end of file" is about the line above it
            for side in sides:
                side[-1] = side[-1].removesuffix("\n")
            continue
        sides = [
            side for side, on in ((before, not line.is_added), (after, not line.is_removed)) if on
        ]
        for side in sides:
            side.append(line.value)
    return Hunk(number, hunk.source_start, hunk.target_start, tuple(before), tuple(after))


def _path(name: str) -> str | None:
    """A path as the diff header has it: ``a/x``, ``/dev/null``, or C-quoted by git."""
    if name.startswith('"'):
        name = _UNQUOTE.sub(_unescape, name[1:].rstrip('"'))
        name = name.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
    return None if name == "/dev/null" else re.sub(r"^[ab]/", "", name)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code, 8)) if code.isdigit() else _ESCAPES.get(code, code)
