"""One patch: a mail in `git format-patch` form, read and written byte for byte.

The headers are mail, so the standard library reads them; the message ends at the first line that
begins with ``diff --git``; what follows is the diff, which git applies and unidiff explains.

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
from collections.abc import Iterable
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

# Everything that shapes a byte of an exported patch, against any configuration.
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
    """A hunk: where its old and new sides start (1-based) and their lines, endings included."""

    number: int
    old_start: int
    new_start: int
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one path; ``hunks`` is empty for binary, mode-only and rename-only."""

    path: str
    old_path: str | None  # None: the file is new
    new_path: str | None  # None: the file goes
    old_blob: str | None  # as the index line names it, perhaps abbreviated
    mode: str | None  # the mode a new file gets, e.g. 100644, 120000 for a symlink
    binary: bool
    hunks: tuple[Hunk, ...] = field(repr=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.old_path, self.new_path) if path)


@dataclass(frozen=True)
class Patch:
    """A patch file: ``slug`` is its name without ``.patch``, ``raw`` its bytes as they lie."""

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
        return trailers(self.body)

    @cached_property
    def files(self) -> tuple[FilePatch, ...]:
        return read_diff(self.diff, where=str(self.path or self.slug))

    @property
    def paths(self) -> frozenset[str]:
        """Every path that it reads or writes."""
        return frozenset(path for one in self.files for path in one.paths)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @cached_property
    def diff_digest(self) -> str:
        """Of what it changes alone: a new message or trailer leaves it as it is."""
        return hashlib.sha256(self.diff).hexdigest()

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The slugs in its ``Depends-On:`` trailers."""
        values = [value for key, value in self.trailers if key.lower() == "depends-on"]
        return tuple(slug for value in values for slug in value.replace(",", " ").split())

    def trailer(self, key: str) -> str | None:
        return next((value for name, value in self.trailers if name.lower() == key.lower()), None)

    def commit(self, tree: str, parent: str) -> Commit:
        """This patch as a commit. The committer's date is the author's: the same patch on the
        same parent is the same commit on every machine."""
        machine = Signature("fixtool", "fixtool@localhost", self.author.date)
        return Commit(Oid(tree), (Oid(parent),), self.author, machine, self.message)


def parse(raw: bytes, slug: str, path: Path | None = None) -> Patch:
    """Read a patch file. Raises Refused, naming the line, where it is not a mail with a diff."""
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
    # Taken apart before it is decoded: a name may decode to `)` or `:`, which mean things in mail.
    name, address = email.utils.parseaddr(_unfold(mail["From"]))
    if not address:
        raise Refused("the From: header names no mail address", where=where)
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    body = payload.decode(mail.get_content_charset() or "utf-8", "surrogateescape")
    return Patch(
        slug=slug,
        raw=raw,
        subject=subject.removeprefix(_TAG).lstrip(" "),  # a fold may follow the tag
        body=body.strip("\n"),
        author=Signature(_text(name), address, _raw_date(mail["Date"], where)),
        diff=diff,
        path=path,
    )


def trailers(body: str) -> tuple[tuple[str, str], ...]:
    """The trailer block of a message: its last paragraph, when every line is ``Key: value`` (a
    line that begins with a blank continues the one before), as git interpret-trailers reads it."""
    found: list[tuple[str, str]] = []
    for line in body.rsplit("\n\n", 1)[-1].split("\n"):
        if line[:1] in " \t" and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        elif match := _TRAILER.fullmatch(line):
            found.append((match[1], match[2]))
        else:
            return ()
    return tuple(found)


def read_diff(diff: bytes, *, where: str) -> tuple[FilePatch, ...]:
    """The files and hunks of a git diff. Raises Refused where hunk counts or headers are wrong."""
    text = diff.decode("utf-8", "surrogateescape")
    try:
        parsed = PatchSet.from_string(text)
    except (UnidiffParseError, IndexError, ValueError) as error:
        raise Refused(f"the diff is not well formed: {error}", where=where) from error
    return tuple(_file_patch(one) for one in parsed)


def apply_on(repo: Repo, patch: Patch, commit: str) -> tuple[Oid | None, str]:
    """The tree of ``commit`` with ``patch`` strictly applied; else None, and git's complaint."""
    with scratch_index(repo, commit) as index:
        out = apply_to_index(repo, index, patch.diff)
        return (write_tree(repo, index), "") if out.status == 0 else (None, out.complaint)


def patch_id(repo: Repo, diff: bytes) -> str:
    """git's id of a diff: the same wherever its lines stand, and whatever its blanks are."""
    return repo.run("patch-id", "--stable", stdin=diff).text.split(" ")[0]


def export(repo: Repo, commit: str) -> bytes:
    """The normal form of a commit: what ``patches/`` holds, the same under any configuration."""
    return repo.run(*FORMAT, commit).stdout


def slugify(subject: str) -> str:
    """A file name for a subject: ``gemma4: give X its Y`` becomes ``gemma4-give-x-its-y``."""
    words = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")
    return words[:60].rstrip("-") or "patch"


def is_slug(text: str) -> bool:
    """Whether ``text`` is safe as a file name; subjects and series lines have escaped before
    (CVE-2026-47712)."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text)) and ".." not in text


def unsafe_paths(files: Iterable[FilePatch]) -> list[tuple[str, str]]:
    """``(path, why)`` for every path that may not be written, in any patch from anyone."""
    found = []
    links = set[str]()
    for one in files:
        for path in {one.old_path, one.new_path} - {None}:
            assert path is not None
            if why := _unsafe(path, links):
                found.append((path, why))
        if one.mode == "120000" and one.new_path:
            links.add(one.new_path)
    return found


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


def _file_patch(one: PatchedFile) -> FilePatch:
    info = "".join(one.patch_info or ())
    index = re.search(r"^index ([0-9a-f]+)\.\.", info, re.MULTILINE)
    mode = re.search(r"^(?:new file mode|new mode) (\d+)", info, re.MULTILINE)
    old = None if one.is_added_file else _path(one.source_file)
    new = None if one.is_removed_file else _path(one.target_file)
    return FilePatch(
        path=new or old or one.path,
        old_path=old,
        new_path=new,
        old_blob=index[1] if index else None,
        mode=mode[1] if mode else None,
        binary=one.is_binary_file or "GIT binary patch" in info,
        hunks=tuple(_hunk(number, hunk) for number, hunk in enumerate(one, start=1)),
    )


def _hunk(number: int, hunk: DiffHunk) -> Hunk:
    before: list[str] = []
    after: list[str] = []
    sides: list[list[str]] = []
    for line in hunk:
        if line.line_type == "\\":  # "\ No newline at end of file" speaks of the line above it
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
