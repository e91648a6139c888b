"""Is a series well formed? Each finding says what, where, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fixtool.errors import FixtoolError
from fixtool.patch import Patch, export, unsafe_paths
from fixtool.replay import depends_on
from fixtool.repo import Repo
from fixtool.series import Entry, Line

_WANTED = ("Origin", "Forwarded", "Drop-When", "Signed-off-by")
_LONGEST_LINE = 10_000
_LARGEST = 8 * 1024 * 1024


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing to mend; ``where`` is file:line."""

    level: Level
    rule: str
    where: str
    message: str
    fix: str


def lint(line: Line) -> tuple[Finding, ...]:
    """Everything that can be seen without git: files, mail, message rules, trailers, paths."""
    return tuple(_findings(line))


def errors_in(line: Line) -> tuple[Finding, ...]:
    """What keeps a series from being applied at all."""
    return tuple(one for one in _findings(line) if one.level is Level.ERROR)


def drift(repo: Repo, line: Line, base: str) -> tuple[Finding, ...]:
    """Patches whose bytes are not what `export` writes, or that do not apply in order on the
    line's own base."""
    found = []
    tip = base
    for entry in line.entries:
        patch = line.patch(entry)
        with repo.scratch_index(tip) as index:
            out = repo.apply_to_index(index, patch.diff)
            if out.status != 0:
                found.append(
                    Finding(
                        Level.ERROR, "applies", f"{patch.path}:1",
                        f"does not apply on the line's own base: {out.complaint}",
                        "refresh it from the work tree: fixtool export",
                    )
                )  # fmt: skip
                break
            tip = repo.write_commit(patch.commit(repo.write_tree(index), tip))
        normal = export(repo, tip)
        if normal != patch.raw:
            number = _first_difference(patch.raw, normal)
            found.append(
                Finding(
                    Level.ERROR, "drift", f"{patch.path}:{number}",
                    "the bytes are not in normal form",
                    f"rewrite it: fixtool import {patch.path} --line {line.name} --replace",
                )
            )  # fmt: skip
    return tuple(found)


def _findings(line: Line) -> Iterator[Finding]:
    series = f"{line.folder / 'series'}"
    seen: dict[str, Entry] = {}
    subjects: dict[str, str] = {}
    for entry in line.entries:
        where = f"{series}:{entry.line_number}"
        if entry.slug in seen:
            yield Finding(
                Level.ERROR, "duplicate-entry", where,
                f"{entry.file_name} is listed twice (first in line {seen[entry.slug].line_number})",
                "take one of the two lines out",
            )  # fmt: skip
            continue
        try:
            patch = line.patch(entry)
            paths = unsafe_paths(patch.files)
        except FixtoolError as error:
            yield Finding(
                Level.ERROR, "form", error.where or where, error.message,
                error.hint or "restore the file from git, or import it again",
            )  # fmt: skip
            seen[entry.slug] = entry
            continue
        if _damaged(patch):
            yield Finding(
                Level.ERROR, "crlf", f"{patch.path}:1",
                "the file's own line ends are CRLF: a mailer or editor has damaged it",
                "restore it from git, and keep `patches/** -text` in .gitattributes",
            )  # fmt: skip
            paths = []  # all of them end in a carriage return
        for path, why in paths:
            yield Finding(
                Level.ERROR, "unsafe-path", _line_of(patch, path),
                f"{path!r}: {why}", "do not use this patch; ask where it came from",
            )  # fmt: skip
        if patch.subject in subjects:
            yield Finding(
                Level.ERROR, "duplicate-subject",
                f"{patch.path}:{_header_line(patch, b'Subject:')}",
                f"{subjects[patch.subject]} has the same subject, by which export tells them apart",
                "give one of the two another subject",
            )  # fmt: skip
        yield from _message(patch)
        yield from _diff(patch)
        yield from _trailers(patch, seen, line)
        subjects[patch.subject] = entry.file_name
        seen[entry.slug] = entry
    listed = {entry.file_name for entry in line.entries}
    for file in sorted(line.folder.glob("*.patch")):
        if file.name not in listed:
            yield Finding(
                Level.ERROR, "orphan", f"{file}:1", f"{file.name} is not in the series",
                f"add it to {series}, or delete it",
            )  # fmt: skip


def _message(patch: Patch) -> Iterator[Finding]:
    """Texts that `git am` or `git format-patch` would not carry faithfully."""
    where = f"{patch.path}:{_header_line(patch, b'Subject:')}"
    if re.match(r"\[[^]]*\]", patch.subject):
        yield Finding(
            Level.WARNING, "subject-tag", where,
            "git am drops a [tag] at the start of a subject", "begin with `area: …` instead",
        )  # fmt: skip
    if "  " in patch.subject or patch.subject != patch.subject.strip():
        yield Finding(
            Level.ERROR, "subject-blanks", where,
            "the subject has blanks that mail folding loses", "use single blanks",
        )  # fmt: skip
    if len(patch.subject) > 100:
        yield Finding(
            Level.WARNING, "subject-length", where,
            f"the subject is {len(patch.subject)} characters long", "use at most 72",
        )  # fmt: skip
    first = True
    start = patch.raw[: len(patch.raw) - len(patch.diff)].split(b"\n\n", 1)[0].count(b"\n") + 3
    for number, text in enumerate(patch.body.split("\n"), start):
        here = f"{patch.path}:{number}"
        if first and re.match(r"(From|Subject|Date): ", text):
            yield Finding(
                Level.ERROR, "in-body-header", here,
                "git am would take this line for a header of the mail", "reword the line",
            )  # fmt: skip
        if text == "---" or re.match(r"(Index: |diff -|--- a/|From [0-9a-f]{40}\b|-- *>8)", text):
            yield Finding(
                Level.ERROR, "ends-message", here,
                f"git am ends the message at {text[:20]!r}", "indent or reword the line",
            )  # fmt: skip
        if "\x1b" in text or re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text):
            yield Finding(
                Level.ERROR, "control-characters", here,
                "control or direction-changing characters in the message", "take them out",
            )  # fmt: skip
        first = first and not text.strip()


def _diff(patch: Patch) -> Iterator[Finding]:
    where = f"{patch.path}:{_diff_start(patch)}"
    if not patch.files:
        yield Finding(
            Level.ERROR, "empty", where, "the patch changes nothing", "delete it, or import it anew"
        )
    if len(patch.raw) > _LARGEST:
        yield Finding(
            Level.ERROR, "size", where, f"the patch is {len(patch.raw)} bytes long",
            "split it; large data does not belong in a series",
        )  # fmt: skip
    for number, text in enumerate(patch.diff.split(b"\n"), _diff_start(patch)):
        if len(text) > _LONGEST_LINE:
            yield Finding(
                Level.WARNING, "long-line", f"{patch.path}:{number}",
                f"a line of {len(text)} bytes", "is this generated data?",
            )  # fmt: skip
    for one in patch.files:
        name = one.path.rsplit("/", 1)[-1]
        if name in {".gitattributes", ".gitmodules"} or one.path.startswith(".github/workflows/"):
            yield Finding(
                Level.WARNING, "touches-rules", _line_of(patch, one.path),
                f"{one.path} changes how git or CI treats the tree", "make sure that this is meant",
            )  # fmt: skip


def _trailers(patch: Patch, seen: dict[str, Entry], line: Line) -> Iterator[Finding]:
    where = f"{patch.path}:{_diff_start(patch) - 1}"
    for key in _WANTED:
        if patch.trailer(key) is None:
            yield Finding(
                Level.WARNING, "trailer", where, f"no {key}: trailer",
                f"say it in the commit's message: git interpret-trailers --trailer '{key}: …'",
            )  # fmt: skip
    for slug in depends_on(patch):
        if slug not in seen:
            known = slug in {entry.slug for entry in line.entries}
            yield Finding(
                Level.ERROR, "depends-on", where,
                f"Depends-On: {slug}, which {'comes later' if known else 'is not'} in the series",
                "reorder the series or mend the trailer",
            )  # fmt: skip


def _damaged(patch: Patch) -> bool:
    return b"\r\n" in patch.raw[: len(patch.raw) - len(patch.diff)]


def _diff_start(patch: Patch) -> int:
    return patch.raw[: len(patch.raw) - len(patch.diff)].count(b"\n") + 1


def _header_line(patch: Patch, header: bytes) -> int:
    at = patch.raw.find(header)
    return patch.raw[: max(at, 0)].count(b"\n") + 1


def _line_of(patch: Patch, path: str) -> str:
    at = patch.diff.find(path.encode("utf-8", "surrogateescape"))
    number = _diff_start(patch) + patch.diff[: max(at, 0)].count(b"\n")
    return f"{patch.path}:{number}"


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one.split(b"\n"), other.split(b"\n"), strict=False), 1)
    return next((number for number, (a, b) in pairs if a != b), one.count(b"\n") + 1)
