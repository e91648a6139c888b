"""Finds the patches among the mails of a mailbox, their order, and the trailers of the answers.

A thread of a mailing list holds cover letters, answers, and several versions of a series. Which
mails are the series, and which trailers were meant for a patch, is decided as ``b4`` does it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fixtool.incoming._mail import Mail
from fixtool.series.mail import split_address

_REPLY = re.compile(r"\s*(re|aw|antw|sv|vs|fwd?)\s*:", re.IGNORECASE)
_TAG = re.compile(r"\[([^\]]*\b(?:PATCH|RFC)\b[^\]]*)\]", re.IGNORECASE)
_NUMBER = re.compile(r"\b(\d{1,4})/(\d{1,4})\b")
_VERSION = re.compile(r"\bv(\d{1,4})\b", re.IGNORECASE)
_ID = re.compile(r"<([^<>\s]+)>")
_TRAILER = re.compile(r"([A-Z][A-Za-z-]*-[Bb]y):\s*(\S.*<\S+@\S+>)\s*$")
_LINK = re.compile(r"<mailto:[^<>]*>")  # what mailers make of an address in HTML
_HOPS = 100  # answers to answers


@dataclass(frozen=True)
class Letter:
    """A mail of a mailbox. ``ids`` are the mails that it answers, the nearest first. ``number`` and
    ``total`` are those in ``[PATCH v3 2/7]``, 1 of 1 where there are none."""

    mail: Mail
    has_diff: bool
    id: str = ""
    ids: tuple[str, ...] = ()
    reply: bool = False
    tagged: bool = False
    version: int = 1
    number: int = 1
    total: int = 1

    @property
    def name(self) -> str:
        return f"{self.mail.where} ({self.mail.title.strip():.60})"


@dataclass
class Chosen:
    """A patch of the series, what the user should know of it, and the trailers that answers give
    it, as ``(key, value)``."""

    letter: Letter
    notes: list[str] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)


def read_letter(mail: Mail, has_diff: bool) -> Letter:
    """What the subject and the headers of a mail say of its place in a thread."""
    title = mail.title
    tag = _TAG.search(title)
    words = tag[1] if tag else ""
    number, version = _NUMBER.search(words), _VERSION.search(words)
    answered = mail.header("in-reply-to") + " " + " ".join(reversed(_found(mail, "references")))
    return Letter(
        mail,
        has_diff,
        next(iter(_found(mail, "message-id")), ""),
        tuple(dict.fromkeys(re.findall(r"[^<>\s]+", answered.replace("<", " <")))),
        bool(_REPLY.match(title)),
        tag is not None,
        int(version[1]) if version else 1,
        int(number[1]) if number else 1,
        int(number[2]) if number else 1,
    )


def _found(mail: Mail, header: str) -> list[str]:
    return _ID.findall(mail.header(header))


def find_series(letters: Sequence[Letter], *, whole: bool = True) -> list[Chosen]:
    """The patches of a mailbox in the order in which they apply; empty if it has none. If it should
    hold a ``whole`` series, notes tell which of its numbers are missing."""
    known = {letter.id for letter in letters if letter.id}
    left_out: list[str] = []
    patches: list[Letter] = []
    seen = set[str]()
    for letter in letters:
        if letter.id and letter.id in seen and letter.has_diff:
            left_out.append(f"{letter.name} is there twice")
        elif letter.has_diff and letter.reply and known.intersection(letter.ids):
            left_out.append(f"{letter.name} is an answer with a diff, and was left out")
        elif letter.has_diff:
            patches.append(letter)
        seen.add(letter.id)
    newest, older = _newest(patches)
    left_out += [f"{letter.name} is of an older version" for letter in older]
    series = [Chosen(letter) for letter in _ordered(newest)]
    if not series:
        return []
    _tell_missing(series, whole=whole)
    if [chosen.letter for chosen in series] != newest:
        left_out.append("the mails were put into the order of their numbers")
    for letter in letters:
        if not letter.has_diff:
            left_out += _answer(letter, letters, series)
    series[0].notes += left_out
    return series


def _newest(patches: Sequence[Letter]) -> tuple[list[Letter], list[Letter]]:
    """The patches of the newest version of a series, and the older ones. A patch that the newest
    version does not send again is that of the version before. What are no versions of one series
    are all new."""
    versions = sorted({patch.version for patch in patches}, reverse=True)
    if len(versions) < 2 or not all(patch.tagged for patch in patches):
        return list(patches), []
    if not _one_thread(patches):
        return list(patches), []
    taken: dict[int, Letter] = {}
    newest = [patch for patch in patches if patch.version == versions[0]]
    totals = {patch.total for patch in newest}
    for version in versions:
        for patch in patches:
            if patch.version == version and (version == versions[0] or {patch.total} == totals):
                taken.setdefault(patch.number, patch)
    chosen = set(map(id, taken.values())) | set(map(id, newest))
    return (
        [patch for patch in patches if id(patch) in chosen],
        [patch for patch in patches if id(patch) not in chosen],
    )


def _one_thread(patches: Sequence[Letter]) -> bool:
    """Whether patches of several versions belong to one series: one has the subject of another
    version, or answers it."""
    subjects: dict[str, set[int]] = {}
    versions: dict[str, int] = {}
    for patch in patches:
        subjects.setdefault(patch.mail.subject, set()).add(patch.version)
        versions[patch.id] = patch.version
    return any(len(found) > 1 for found in subjects.values()) or any(
        versions.get(answered, patch.version) != patch.version
        for patch in patches
        for answered in patch.ids
    )


def _ordered(patches: Sequence[Letter]) -> list[Letter]:
    """The patches by their numbers, if these are the numbers of one series."""
    numbers = Counter(patch.number for patch in patches)
    if len({patch.total for patch in patches}) != 1 or max(numbers.values(), default=0) > 1:
        return list(patches)
    return sorted(patches, key=lambda patch: patch.number)


def _tell_missing(series: Sequence[Chosen], *, whole: bool) -> None:
    numbers = [chosen.letter.number for chosen in series]
    totals = {chosen.letter.total for chosen in series}
    if len(totals) != 1 or len(set(numbers)) != len(numbers):
        return
    (total,) = totals
    versions = [chosen.letter.version for chosen in series]
    for chosen in series:
        if chosen.letter.version < max(versions):
            chosen.notes.append(f"v{max(versions)} lacks it, so that of v{chosen.letter.version}")
    present = set(numbers)
    missing = (
        [number for number in range(1, min(total, 10_000) + 1) if number not in present]
        if whole
        else []
    )
    for first, last in _ranges(missing):
        after = next((each for each in series if each.letter.number > last), series[-1])
        what = f"patch {first}/{total} of the series is"
        if first != last:
            what = f"patches {first} to {last} of {total} of the series are"
        after.notes.append(f"{what} not in the mailbox")


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """The first and last of each run of numbers without a gap."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _answer(letter: Letter, letters: Sequence[Letter], series: Sequence[Chosen]) -> list[str]:
    """Give the trailers of an answer to the patches that it is about: all, if it answers the cover
    letter. Returns notes on the whole series."""
    trailers, strange = _trailers(letter) if letter.reply or letter.ids else ([], [])
    about = _about(letter, letters, series)
    notes = [] if about and trailers else [f"{letter.name} has no diff and is no patch"]
    for chosen in about:
        chosen.trailers += [each for each in trailers if each not in chosen.trailers]
        chosen.notes += [f"an answer says {line}, which is not its sender's" for line in strange]
    return notes


def _about(letter: Letter, letters: Sequence[Letter], series: Sequence[Chosen]) -> list[Chosen]:
    """The patches that a mail is about; none if it answers none of them."""
    by_id = {each.id: each for each in letters if each.id}
    waiting, hops = list(letter.ids), 0
    while waiting and hops < _HOPS:
        above = by_id.get(waiting.pop(0))
        hops += 1
        if above is None:
            continue
        found = [chosen for chosen in series if chosen.letter is above]
        if found:
            return found
        if above.has_diff:
            return []  # a version that is left out
        if above.tagged and not above.reply:
            versions = {chosen.letter.version for chosen in series}
            return list(series) if above.version in versions else []
        waiting[:0] = [each for each in above.ids if each not in waiting]
    return []


def _trailers(letter: Letter) -> tuple[list[tuple[str, str]], list[str]]:
    """The trailers in a mail that name its sender, and the lines of those that do not."""
    own: list[tuple[str, str]] = []
    strange: list[str] = []
    mail = letter.mail
    for line in mail.body.split("\n"):
        line = _LINK.sub("", line)
        if match := _TRAILER.fullmatch(line.strip()):
            name, address = split_address(match[2])
            same = address.lower() == mail.address.lower() or (name and name == mail.author)
            (own.append((match[1], match[2])) if same else strange.append(line.strip()))
    return own, strange
