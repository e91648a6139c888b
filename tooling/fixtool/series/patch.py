"""A patch: a mail in the form of ``git format-patch``, read and written byte for byte.

The message ends at the first line that begins with ``diff --git``; ``series.mail`` reads it. The
diff follows, which git applies and ``series.diff`` reads.

    From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
    From: A Maintainer <a@example.org>
    Date: Mon, 23 Nov 2026 12:00:00 +0000
    Subject: [PATCH] gemma4: give the MTP assistant its pp_group

    Why this exists, when it can go.

    Drop-When: upstream sets it
    diff --git a/x b/x
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fixtool.errors import Refused
from fixtool.files import read_plain
from fixtool.git.committed import restored
from fixtool.git.objects import MACHINE, Commit, Oid, Signature
from fixtool.git.repo import Output, Repo, reading_answer
from fixtool.git.trees import apply_to_index, changed_files, scratch_index, write_tree
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.mail import read_mail
from fixtool.series.message import join_message
from fixtool.series.texts import Text
from fixtool.text import argument, split_lines

LARGEST = 8 << 20
"""The most bytes of a patch file: large data does not belong in a series."""

_TOGETHER = 100  # commits that one process exports
_HEADS_TOGETHER = 1000  # the same, without their diffs
_DAY = b"Mon Sep 17 00:00:00 2001"  # in the first line of every patch file
_TAG = "[PATCH] "
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DIFF_START = re.compile(rb"^diff --git ", re.MULTILINE)
_TREE_LINE = re.compile(rb"tree ([0-9a-f]{40})\n")
_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): (.*)")

# What a diff and a patch file are like. Neither a setting nor an attribute can say otherwise: git
# reads none of them here.
_DIFF_FORM = (
    "--full-index", "-p", "--no-renames", "--diff-algorithm=myers", "--unified=3",
    "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/", "--no-color", "--no-ext-diff",
    "--no-textconv", "--binary", "--no-indent-heuristic",
)  # fmt: skip
_FIRST_LINE = b"From " + b"0" * 40 + b" " + _DAY + b"\n"
_FORM = (
    "--stdout", "--no-signature", "--no-stat", *_DIFF_FORM,
    "--subject-prefix=PATCH", "--no-numbered", "--no-thread", "--no-attach",
    "--encode-email-headers", "--no-to", "--no-cc", "--no-notes", "--no-base",
)  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """A patch file: ``slug`` is its name without ``.patch``. ``head`` is the mail before the diff:
    its headers and the message. ``diff`` is a `Text`, so that not all diffs of a long series are in
    memory at once."""

    slug: str
    head: bytes = field(repr=False)
    subject: str
    body: str
    author: Signature
    diff: bytes = field(repr=False)
    path: Path | None = None

    @classmethod
    def unread(
        cls, path: Path, digest: str, subject: str, body: str, author: Signature, size_of_head: int
    ) -> Patch:
        """A patch whose file is known, and is read only when its text is asked for. ``digest`` is
        that of the file, and the others are what ``parse`` gave when it was read before."""
        patch = cls(path.stem, b"", subject, body, author, b"", path)
        del patch.__dict__["head"], patch.__dict__["_text"]
        patch.__dict__.update(digest=digest, _size_of_head=size_of_head)
        return patch

    def __post_init__(self) -> None:
        self.__dict__["_text"] = Text(self.__dict__.pop("diff"))

    def __getattr__(self, name: str) -> bytes:
        """The diff, and the head of an ``unread`` patch. Raises Refused if its file was changed
        meanwhile."""
        if name not in ("head", "diff"):
            raise AttributeError(name)
        text = self._whole_diff
        return text.read() if name == "diff" else self.head

    @property
    def _whole_diff(self) -> Text:
        if "_text" not in self.__dict__:
            self._read()
        text: Text = self.__dict__["_text"]
        return text

    def _read(self) -> None:
        """Read the file of an ``unread`` patch."""
        size = self.__dict__.get("_size_of_head")
        if size is None or self.path is None:
            raise AttributeError("diff")
        try:
            raw = read_plain(self.path.parent, self.path.name, LARGEST)
        except FileNotFoundError:
            raw = b""
        if hashlib.sha256(raw).hexdigest() != self.digest:
            raise Refused(
                "the patch was changed while fixtool was at work",
                where=str(self.path),
                hint="run the same command again",
            )
        self.__dict__.update(head=raw[:size], _text=Text(raw[size:]))

    def has_text(self, raw: bytes) -> bool:
        """Whether ``raw`` are the bytes of the file."""
        text: Text | None = self.__dict__.get("_text")
        if text is None:
            return hashlib.sha256(raw).hexdigest() == self.digest
        return len(raw) == len(self.head) + text.size and raw == self.raw

    @property
    def message(self) -> str:
        return join_message(self.subject, self.body)

    @cached_property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        return read_trailers(self.body)

    @property
    def raw(self) -> bytes:
        """The bytes of the file."""
        return self.head + self.diff

    @cached_property
    def trailer_lines(self) -> tuple[int, ...]:
        """The line of the patch file at which each of ``trailers`` begins."""
        paragraph = self.body.rsplit("\n\n", 1)[-1].split("\n")
        first = self.head.rstrip(b"\n").count(b"\n") + 2 - len(paragraph)
        return tuple(first + offset for offset, _, _ in _trailers(paragraph))

    @cached_property
    def files(self) -> tuple[FilePatch, ...]:
        where = str(self.path or self.slug)
        first = self.head.count(b"\n") + 1
        try:
            return read_diff(self._whole_diff, where=where, first_line=first)
        except Refused as error:
            if error.hint is None and self.path:
                error.hint = restored(self.path)
            raise

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every path that it reads or writes."""
        return frozenset(path for file in self.files for path in file.paths)

    def know_paths(self, paths: frozenset[str]) -> None:
        """Take ``paths`` as its paths, which its diff gave when it was read before."""
        self.__dict__["paths"] = paths

    def know_files(self, files: tuple[FilePatch, ...]) -> None:
        """Take ``files`` as what its diff gave when it was read before. Their lines are counted
        from the first line of the diff then."""
        self.__dict__["files"] = files

    @cached_property
    def digest(self) -> str:
        digest = hashlib.sha256(self.head)
        digest.update(self.diff)
        return digest.hexdigest()

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
        machine = replace(MACHINE, date=self.author.date)
        return Commit(tree, (parent,), self.author, machine, self.message)

    def makes(self, raw: bytes, parent: Oid) -> bool:
        """Whether ``raw``, the bytes of a commit, is what this patch makes on ``parent``, with
        whatever tree: what a cache says of a commit is believed only then."""
        match = _TREE_LINE.match(raw)
        return match is not None and raw == self.commit(Oid(match[1].decode()), parent).raw


def parse(raw: bytes, slug: str, path: Path | None = None) -> Patch:
    """Read a patch file. Raises Refused, naming the line, if it is not a mail with a diff."""
    where = str(path or slug)
    if not raw.strip():
        raise Refused("the file is empty", where=f"{where}:1")
    if raw.startswith(_BYTE_ORDER_MARK):
        raise Refused(
            "a byte order mark stands before the first line: an editor has put it there",
            where=f"{where}:1",
            hint=f"take it out: sed -i '1s/^\\xef\\xbb\\xbf//' {argument(where)}",
        )
    split = _DIFF_START.search(raw)
    if b"\0" in raw[: split.start() if split else 4096]:
        raise Refused("this is binary data, not a patch", where=f"{where}:1")
    if not split:
        raise Refused(
            "no `diff --git` line: the file holds no git diff",
            where=f"{where}:1",
            hint="bring a plain diff in with: fixtool import FILE",
        )
    head, diff = raw[: split.start()], raw[split.start() :]
    mail = read_mail(head, where)
    if not mail.subject.startswith(_TAG):
        number = 1 + head[: head.lower().find(b"\nsubject:") + 1].count(b"\n")
        raise Refused(
            f"the subject does not begin with {_TAG.strip()}",
            where=f"{where}:{number}",
            hint=f"put that in: sed -i '{number}s/: */: {_TAG}/' {argument(where)}",
        )
    return Patch(
        slug=slug,
        head=head,
        subject=mail.subject.removeprefix(_TAG).lstrip(" "),  # it may be folded after the tag
        body=mail.body,
        author=mail.author,
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
    trailers: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(paragraph):
        if line[:1] in " \t" and trailers:
            trailers[-1][2].append(line.strip())
        elif match := _TRAILER.fullmatch(line):
            trailers.append((number, match[1], [match[2]]))
        else:
            return []
    return [(number, key, " ".join(values)) for number, key, values in trailers]


def apply_on(repo: Repo, patch: Patch, commit: str) -> tuple[Oid | None, str]:
    """The tree of ``commit`` with ``patch`` applied; if it does not apply exactly, None and git's
    message. Raises Refused if git changed another path than the patch names."""
    tree, complaint = apply_diff(repo, patch.diff, commit)
    if tree is not None:
        require_named(patch, (change.path for change in changed_files(repo, commit, tree)))
    return tree, complaint


def apply_diff(repo: Repo, diff: bytes, commit: str) -> tuple[Oid | None, str]:
    """The tree of ``commit`` with ``diff`` applied, which may be in any form that git reads; None
    and git's message if it does not apply."""
    with scratch_index(repo, commit) as index:
        out = apply_to_index(repo, index, diff)
        return (write_tree(repo, index), "") if out.status == 0 else (None, out.complaint)


def require_named(patch: Patch, changed: Iterable[str]) -> None:
    """Raise Refused unless ``patch`` names every path in ``changed``, which git changed when it
    applied the patch. What a person reads must be what git does."""
    if other := sorted(set(changed) - patch.paths):
        raise Refused(
            f"{patch.slug} changes {other[0]}, which its diff does not name",
            where=str(patch.path or patch.slug),
            hint="do not use this patch; ask where it came from",
        )


@reading_answer("patch-id")
def patch_ids(repo: Repo, diffs: Sequence[bytes]) -> list[str]:
    """git's stable ids of diffs, which depend neither on line numbers nor on white space, from one
    process. That of an empty diff is empty."""
    mails = (b"From %040d\n%s\n" % pair for pair in enumerate(diffs))
    ids = [""] * len(diffs)
    for line in split_lines(repo.run("patch-id", "--stable", stdin=b"".join(mails)).text):
        stable, number = line.split(" ")
        ids[int(number)] = stable
    return ids


def patch_id(repo: Repo, diff: bytes) -> str:
    """git's stable id of one diff."""
    return patch_ids(repo, [diff])[0]


def export(repo: Repo, commit: str) -> bytes:
    """The patch file of a commit in normal form. No configuration and no attribute changes a byte
    of it: not those of the user, of the repository or of the tree. Empty if the commit changes
    nothing."""
    mail = format_patch(repo, ("--zero-commit", *_FORM), "-1", commit).stdout
    if not mail.startswith(_FIRST_LINE):
        with reading_answer("format-patch"):
            if mail or repo.tree_id(commit) != repo.tree_id(f"{commit}^"):
                raise ValueError(mail[:100])
    return mail


def export_all(repo: Repo, commits: Sequence[str]) -> list[bytes]:
    """The patch files of ``commits``, full ids in the order of their history, as ``export`` gives
    each of them; from few processes."""
    mails: list[bytes] = []
    for at in range(0, len(commits), _TOGETHER):
        batch = commits[at : at + _TOGETHER]
        mails += _export_together(repo, batch) or [export(repo, commit) for commit in batch]
    return mails


def export_with(repo: Repo, diffs: Mapping[Oid, bytes]) -> list[bytes]:
    """The patch files of commits, full ids in the order of their history, as ``export`` gives them,
    where ``diffs`` has what git has made of the same two trees before. To compare the files takes
    most of the time of an export, so that is not done again."""
    mails: list[bytes] = []
    commits = list(diffs)
    for at in range(0, len(commits), _HEADS_TOGETHER):
        batch = commits[at : at + _HEADS_TOGETHER]
        # No change is of type X, so git writes the heads alone.
        heads = _export_together(repo, batch, "--always", "--diff-filter=X")
        if heads:
            mails += [head + b"\n" + diffs[oid] for head, oid in zip(heads, batch, strict=True)]
        else:
            mails += export_all(repo, batch)
    return mails


def _export_together(repo: Repo, commits: Sequence[str], *options: str) -> list[bytes]:
    """The patch files of full ids, from one process; none if git does not give one for each. The
    ids in their first lines tell them apart: no message can hold the id of a later commit."""
    if len(commits) < 2:
        return []
    ids = "".join(f"{commit}\n" for commit in reversed(commits)).encode()  # git reverses them
    words = ("format-patch", *_FORM, *options, "--no-walk=unsorted", "--stdin")
    text = repo.run_on_objects(*words, stdin=ids, accept=None).stdout
    found = _starts(text)
    starts = [found.get(commit.encode(), -1) for commit in commits]
    if starts[0] != 0 or starts != sorted(set(starts)):
        return []
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    return [
        _FIRST_LINE + text[start + len(_FIRST_LINE) : end]
        for start, end in zip(starts, ends, strict=True)
    ]


def _starts(text: bytes) -> dict[bytes, int]:
    """Where the mails of ``text`` may begin: after a blank line, with the id of a commit. The first
    place counts."""
    starts: dict[bytes, int] = {}
    at = 0
    while text.startswith(b"From ", at):
        if text.startswith(_DAY + b"\n", at + 46):
            starts.setdefault(text[at + 5 : at + 45], at)
        at = text.find(b"\n\nFrom ", at) + 2
    return starts


def diff_between(repo: Repo, old: str, new: str, context: int = 3) -> bytes:
    """The diff between two commits or trees, in the form that it has in a patch file, with
    ``context`` lines around each change."""
    words = ("diff-tree", *_DIFF_FORM, f"--unified={context}", old, new)
    out = repo.run_on_objects(*words, accept=None)
    if out.status != 0:  # a partial clone lacks files, which this fetches
        repo.run(*words)
        out = repo.run_on_objects(*words)
    return out.stdout


def format_patch(
    repo: Repo, options: Sequence[str], *revisions: str, settings: Sequence[str] = ()
) -> Output:
    """Run ``git format-patch`` where no setting of a user or a repository counts but those in
    ``settings``, and no attribute of a tree or a repository."""
    out = repo.run_on_objects(*settings, "format-patch", *options, *revisions, accept=None)
    if out.status == 0:
        return out
    # A partial clone lacks files, which this fetches.
    repo.run("log", "-p", "--binary", "--no-ext-diff", "--no-textconv", "--format=", *revisions)
    return repo.run_on_objects(*settings, "format-patch", *options, *revisions)


def slugify(subject: str) -> str:
    """The slug for a subject: ``gemma4: give X its Y`` becomes ``gemma4-give-x-its-y``, and an
    accented letter the letter without its accent."""
    if not subject.isascii():
        import unicodedata  # few subjects need it

        letters = unicodedata.normalize("NFKD", subject.casefold())
        subject = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")
    return words[:60].rstrip("-") or "patch"


def is_slug(text: str) -> bool:
    """Whether ``text`` is safe as a file name. In other tools, subjects and series lines have
    escaped from their folder (CVE-2026-47712)."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text)) and ".." not in text
