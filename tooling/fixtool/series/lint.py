"""Checks whether a series is well formed. Each finding says what is wrong, where, and the
remedy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fixtool.errors import FixtoolError, Refused
from fixtool.files import TooLarge
from fixtool.git.committed import restored
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.checked import CheckedPatches
from fixtool.series.facts import FactKind, FactTrailer, RecordedFact, fact_trailers
from fixtool.series.line import Line
from fixtool.series.message import ends_message, has_controls, is_header
from fixtool.series.patch import Patch, export_all
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.strict import commits_on
from fixtool.text import argument, count

_WANTED = ("Origin", "Forwarded", "Drop-When", "Signed-off-by")
_LONGEST_LINE = 10_000  # bytes
_TOGETHER = 100  # patch files that are made at a time
_COMPARED = 20  # facts of a patch that every later one is compared with
_FACT_FORM = "write it as COMMIT, #PULL-REQUEST, FIRST-RELEASE or none; the commit alone is enough"


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"  # something that could not be checked; it fails no check


# Every rule: its level, and how to mend what it finds.
_RULES = {
    "form": (Level.ERROR, "{restore}"),
    "orphan": (
        Level.ERROR,
        "add it to the series: echo {name} >> {series}; or delete it: {remove}",
    ),
    "duplicate-entry": (Level.ERROR, "take this line out: sed -i {number}d {path}"),
    "duplicate-subject": (Level.WARNING, "give one of the two another subject"),
    "depends-on": (Level.ERROR, "reorder the series or mend the trailer"),
    "fact-form": (Level.ERROR, _FACT_FORM),
    "unsafe-path": (Level.ERROR, "do not use this patch; ask where it came from"),
    "crlf": (Level.ERROR, "{restore}; and keep `patches/** -text` in .gitattributes"),
    "empty": (Level.ERROR, "delete it, or import it anew"),
    "size": (Level.ERROR, "split it; large data does not belong in a series"),
    "subject-blanks": (Level.ERROR, "use single blanks"),
    "in-body-header": (Level.ERROR, "reword the line"),
    "ends-message": (Level.ERROR, "indent or reword the line"),
    "control-characters": (Level.ERROR, "take them out of the message; or {restore}"),
    "applies": (Level.ERROR, "{restore}; or write it anew: fixtool export --worktree DIR"),
    "drift": (Level.ERROR, "rewrite it: fixtool import {file} --line {line} --replace"),
    "subject-tag": (Level.WARNING, "begin with `area: ...` instead"),
    "subject-length": (Level.WARNING, "use at most 72"),
    "long-line": (Level.WARNING, "if it is generated data, leave that file out of the patch"),
    "touches-rules": (Level.WARNING, "make sure that this is meant"),
    "fact-unused": (Level.WARNING, _FACT_FORM),
    "fact-doubtful": (Level.WARNING, "correct the trailer, or take it out"),
    "trailer": (Level.WARNING, "add it at the end of the commit's message, then fixtool export"),
}


@dataclass(frozen=True)
class Finding:
    """Something to mend. ``where`` is ``file:line``."""

    level: Level
    rule: str
    where: str
    message: str
    fix: str


class Trailers(StrEnum):
    """How often a line is told which trailers its patches lack."""

    ONCE = "once"
    EACH = "each"  # for each patch and trailer
    NEVER = "never"


def lint(line: Line, trailers: Trailers = Trailers.EACH) -> tuple[Finding, ...]:
    """Check everything that needs no git: files, mail headers, messages, trailers and paths."""
    found = tuple(_findings(line, CheckedPatches(None, line.folder)))
    if trailers is Trailers.EACH:
        return found
    missing = [finding for finding in found if finding.rule == "trailer"]
    others = tuple(finding for finding in found if finding.rule != "trailer")
    return (*others, _summed_up(line, missing)) if missing and trailers is Trailers.ONCE else others


def _summed_up(line: Line, missing: Sequence[Finding]) -> Finding:
    """One finding for all trailers that patches of ``line`` lack."""
    numbers = Counter(finding.message for finding in missing)
    of = count(len(line.entries), "patch")
    message = "; ".join(f"{what} in {number} of {of}" for what, number in numbers.items())
    fix = (
        f"see where: fixtool lint --line {line.name} --trailers each; or say nothing of it: "
        f"fixtool lint --line {line.name} --trailers never"
    )
    return _finding("trailer", f"{line.folder / 'series'}:1", message, fix)


def errors_in(line: Line, cache: Path | None = None) -> tuple[Finding, ...]:
    """The findings because of which a series must not be applied."""
    checked = CheckedPatches(cache, line.folder)
    checked.prepare(line)
    found = tuple(_findings(line, checked))
    checked.keep()
    return tuple(finding for finding in found if finding.level is Level.ERROR)


def errors_in_patch(patch: Patch) -> tuple[Finding, ...]:
    """The findings because of which a series with ``patch`` must not be applied, whatever the other
    patches are. Raises Refused if its diff cannot be read."""
    found = (*_diff(patch), *_message(patch), *_facts(patch))
    return tuple(finding for finding in found if finding.level is Level.ERROR)


def require_well_formed(line: Line, cache: Path | None = None) -> None:
    """Raise Refused with the first error of ``line``, if it has any. ``cache`` is a folder of what
    was found in order before."""
    for error in errors_in(line, cache):
        raise Refused(
            error.message,
            where=error.where,
            hint=f"{error.fix}; all findings: fixtool lint --line {line.name}",
        )


def drift(repo: Repo, line: Line, base: Oid) -> tuple[Finding, ...]:
    """Find patches whose bytes are not what ``export`` writes, or that do not apply in order on the
    line's own base. ``repo`` holds that base."""
    named = (file.new_blob for patch in line.patches for file in patch.files)
    with passing_objects(repo) as objects:
        here = repo.blobs_here(Oid(blob) for blob in named if blob and len(blob) == len(base))
        proved = _proved(objects, line.patches, base, here) if here else []
        patches = line.patches[len(proved) :]
        commits, complaint = commits_on(objects, patches, proved[-1] if proved else base)
        objects.flush()
        findings = list(_drift(objects.repo, line, patches, commits))
    if complaint:
        message = f"does not apply on the line's own base: {complaint}"
        where = f"{patches[len(commits)].path}:1"
        findings.append(_finding("applies", where, message))
    return tuple(findings)


def _proved(
    objects: ObjectDatabase, patches: Sequence[Patch], base: Oid, believed: Collection[Oid]
) -> list[Oid]:
    """The commits of the first patches on ``base``, as many as are exported to the bytes of their
    patches if these are ``believed`` (see ``commits_on``)."""
    commits, _ = commits_on(objects, patches, base, believed)
    objects.flush()
    for number, mail in enumerate(_exported(objects.repo, commits)):
        if mail != patches[number].raw:
            return commits[:number]
    return commits


def _drift(
    repo: Repo, line: Line, patches: Sequence[Patch], commits: Sequence[Oid]
) -> Iterator[Finding]:
    """Compare patches with the files that their commits are exported to."""
    for patch, normal in zip(patches, _exported(repo, commits), strict=False):
        if normal != patch.raw:
            where = f"{patch.path}:{_first_difference(patch.raw, normal)}"
            fix = _RULES["drift"][1].format(file=argument(patch.path), line=line.name)
            yield _finding("drift", where, "the bytes are not in normal form", fix)


def _exported(repo: Repo, commits: Sequence[Oid]) -> Iterator[bytes]:
    """The patch files that commits are exported to: few of a long series are in memory at once."""
    for at in range(0, len(commits), _TOGETHER):
        yield from export_all(repo, commits[at : at + _TOGETHER])


def _finding(rule: str, where: str, message: str, fix: str | None = None) -> Finding:
    level, usual = _RULES[rule]
    place = re.fullmatch(r"(.*?)(?::(\d+))?", where, re.DOTALL)
    assert place is not None
    path = Path(place[1])
    if fix is None and "{" in usual:
        fix = usual.format(
            restore=restored(path) if "{restore}" in usual else "",
            remove=f"rm {argument(path)}", name=argument(path.name), path=argument(path),
            series=argument(path.parent / "series"), number=place[2],
        )  # fmt: skip
    elif fix and rule == "form" and path.suffix == ".patch":
        restore = restored(path)
        fix = fix if restore in fix else f"{fix}; or {restore}"
    return Finding(level, rule, where, message, fix or usual)


def _findings(line: Line, checked: CheckedPatches) -> Iterator[Finding]:
    """What is found in ``line``. Patches that are ``checked`` have no errors by themselves, and are
    not read for warnings."""
    series = line.folder / "series"
    listed_at: dict[str, int] = {}
    subjects: dict[str, str] = {}
    for entry in line.entries:
        where = f"{series}:{entry.line_number}"
        if first := listed_at.get(entry.slug):
            message = f"{entry.file_name} is listed twice (first in line {first})"
            yield _finding("duplicate-entry", where, message)
            continue
        try:
            patch = line.patch(entry)
            checked.note_file(entry.file_name, patch)
            known = checked.holds(patch)
            own = () if known else tuple(_diff(patch))
        except FixtoolError as error:
            rule = "size" if isinstance(error, TooLarge) else "form"
            yield _finding(rule, error.where or where, error.message, error.hint)
        else:
            own = own if known else (*own, *_message(patch), *_wanted(patch), *_facts(patch))
            yield from own
            if not known and not any(finding.level is Level.ERROR for finding in own):
                checked.add(patch)
            if patch.subject in subjects:
                other = subjects[patch.subject]
                message = f"{other} has the same subject: only their order tells them apart"
                yield _finding("duplicate-subject", _subject(patch), message)
            subjects[patch.subject] = entry.file_name
            yield from _order(patch, listed_at, line)
        listed_at[entry.slug] = entry.line_number
    listed = {entry.file_name for entry in line.entries}
    for file in sorted(line.folder.glob("*.patch")):
        if file.name not in listed:
            yield _finding("orphan", f"{file}:1", f"{file.name} is not in the series")


def _message(patch: Patch) -> Iterator[Finding]:
    """Find texts that ``git am`` or ``git format-patch`` would change."""
    if b"\r\n" in patch.head:  # each line would have the one fault that ``_diff`` tells
        return
    where = _subject(patch)
    if re.match(r"\[[^]]*\]", patch.subject):
        yield _finding("subject-tag", where, "git am drops a [tag] at the start of a subject")
    if "  " in patch.subject or patch.subject != patch.subject.strip():
        yield _finding("subject-blanks", where, "the subject has blanks that mail folding loses")
    if len(patch.subject) > 100:
        message = f"the subject is {len(patch.subject)} characters long"
        yield _finding("subject-length", where, message)
    if has_controls(patch.subject):
        yield _finding("control-characters", where, "control characters in the subject")
    body_start = patch.head.split(b"\n\n", 1)[0].count(b"\n") + 3
    for number, text in enumerate(patch.body.split("\n"), body_start):
        where = f"{patch.path}:{number}"
        if number == body_start and is_header(text):
            yield _finding(
                "in-body-header", where, "git am takes this line for a header of the mail"
            )
        if ends_message(text):
            yield _finding("ends-message", where, f"git am ends the message at {text[:20]!r}")
        if has_controls(text):
            message = "control or direction-changing characters in the message"
            yield _finding("control-characters", where, message)


def _diff(patch: Patch) -> Iterator[Finding]:
    """Check the diff. Raises Refused if it cannot be read."""
    if b"\r\n" in patch.head:  # every path would end in a carriage return
        message = "the file's own line ends are CRLF: a mailer or editor has damaged it"
        yield _finding("crlf", f"{patch.path}:1", message)
        return
    start = patch.head.count(b"\n") + 1
    if not patch.files:
        yield _finding("empty", f"{patch.path}:{start}", "the patch changes nothing")
    for file, path, why in unsafe_paths(patch.files):
        yield _finding("unsafe-path", f"{patch.path}:{file.line_number}", f"{path!r:.200}: {why}")
    number, at = start, 0
    for begin, end in _long_lines(patch.diff):
        number += patch.diff.count(b"\n", at, begin)
        at = begin
        yield _finding("long-line", f"{patch.path}:{number}", f"a line of {end - begin} bytes")
    for file in patch.files:
        if touched := rules_touched(file):
            yield _finding("touches-rules", f"{patch.path}:{file.line_number}", touched)


def _long_lines(diff: bytes) -> Iterator[tuple[int, int]]:
    """Where each line that is too long begins and ends. A line end is looked for only in as many
    bytes as a line may have, and from their end: so few of the line ends are found."""
    begin = 0
    while begin + _LONGEST_LINE < len(diff):
        end = diff.rfind(b"\n", begin, begin + _LONGEST_LINE + 1)
        if end < 0:
            end = diff.find(b"\n", begin)
            end = end if end >= 0 else len(diff)
            yield begin, end
        begin = end + 1


def _wanted(patch: Patch) -> Iterator[Finding]:
    where = f"{patch.path}:{_last_line(patch)}"
    for key in _WANTED:
        if patch.trailer(key) is None:
            yield _finding("trailer", where, f"no {key}: trailer")


def _order(patch: Patch, earlier: Mapping[str, int], line: Line) -> Iterator[Finding]:
    """Compare the patches on which ``patch`` depends with those that are ``earlier``."""
    for slug in patch.depends_on:
        if slug not in earlier:
            later = any(entry.slug == slug for entry in line.entries)
            message = (
                f"Depends-On: {slug}, which {'comes later' if later else 'is not'} in the series"
            )
            where = f"{patch.path}:{_last_line(patch)}"
            yield _finding("depends-on", where, message)


def _facts(patch: Patch) -> Iterator[Finding]:
    """Check what the recorded facts of a patch state, as far as the patch itself tells."""
    earlier: list[FactTrailer] = []
    for trailer in fact_trailers(patch):
        fact, where = trailer.fact, f"{patch.path}:{trailer.line_number}"
        for problem in trailer.problems:
            yield _finding("fact-form", where, f"{fact.kind}: {problem}")
        if not trailer.problems and not fact.usable:
            message = f"{fact.kind}: {trailer.value:.60} names neither a commit nor a release"
            yield _finding("fact-unused", where, f"{message}, so fixtool cannot use it")
        for other in earlier[:_COMPARED]:
            yield from _contradictions(other, fact, where)
        earlier.append(trailer)


def _contradictions(earlier: FactTrailer, fact: RecordedFact, where: str) -> Iterator[Finding]:
    """Compare a recorded fact with an earlier one of the same patch."""
    other, place = earlier.fact, f"line {earlier.line_number}"
    same_commit = fact.commit is not None and other.names(fact.commit)
    if fact.kind is other.kind:
        if same_commit and fact.pull and other.pull and fact.pull != other.pull:
            message = f"{place} says that the same commit is #{other.pull}, not #{fact.pull}"
            yield _finding("fact-form", where, f"{fact.kind}: {message}")
        ours, theirs = (each.release or each.in_no_release for each in (fact, other))
        if ours and theirs and ours != theirs:
            rule = "fact-form" if same_commit else "fact-doubtful"
            of_what = " for the same commit" if same_commit else ""
            message = f"{place} names another first release{of_what}"
            yield _finding(rule, where, f"{fact.kind}: {message}")
    elif FactKind.FIXES in (fact.kind, other.kind):
        bug, cure = (fact, other) if fact.kind is FactKind.FIXES else (other, fact)
        if same_commit:
            message = (
                f"{other.kind} ({place}) names the same commit, which cannot bring and cure it"
            )
            yield _finding("fact-form", where, f"{fact.kind}: {message}")
        elif bug.release and cure.in_release(bug.release):
            message = f"release {bug.release} cannot be the first with the bug and hold its cure"
            yield _finding("fact-doubtful", where, f"{fact.kind}: {message} ({place})")


def _last_line(patch: Patch) -> int:
    """The number of the last line before the diff."""
    return patch.head.count(b"\n")


def _subject(patch: Patch) -> str:
    number = patch.head.partition(b"Subject:")[0].count(b"\n") + 1
    return f"{patch.path}:{number}"


def _first_difference(text: bytes, normal: bytes) -> int:
    pairs = enumerate(zip(text.split(b"\n"), normal.split(b"\n"), strict=False), 1)
    return next((number for number, (a, b) in pairs if a != b), text.count(b"\n") + 1)
