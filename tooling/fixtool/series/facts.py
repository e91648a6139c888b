"""The recorded facts of a patch: trailers that tell which upstream commits matter to it.

    Fixes: 4c0ce0345d0d... (#25284), none
    Applied-Upstream: 89ff2bc1115c..., #26026, 0.5.13
    Superseded-By: 5ae8d286d2b8..., #26502, 0.5.13

``Fixes`` is the Linux kernel's trailer for the commit that brought the bug, ``Applied-Upstream`` is
DEP-3's for the commit that took the patch. ``Superseded-By`` names a commit that cures the bug in
another way. Each gives the commit, the pull request, and a release: the first one with the bug, or
the first one that holds the commit. ``none`` says that there is no such release. Only the commit
or the release is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

from fixtool.series.patch import Patch
from fixtool.text import late_pattern

_SUBJECT = late_pattern(
    r'\("(.*?)("\)|$)'
)  # the subject of a commit, as the Linux kernel quotes it
_SUBJECTS_PULL = late_pattern(r"\(#([1-9][0-9]{0,8})\)$")
_COMMIT = late_pattern(r"[0-9a-f]{7,40}")
_PREFIX = late_pattern(r"commit:(.*)", re.IGNORECASE)
_COMMIT_URL = late_pattern(r"https?://\S+/commit/(?:\?(?:\S*&)?id=)?([^/?#.&]*)")
_PULL = late_pattern(r"#([1-9][0-9]{0,8})")
_PULL_URL = late_pattern(r"https?://\S+/(?:pull|merge_requests)/([1-9][0-9]{0,8})(?![^/?#])")
_RELEASE = late_pattern(r"v?[0-9]+(\.[0-9]+)+\S*")
_MEANT_AS_RELEASE = late_pattern(r"v?[0-9]+\.[0-9]+\.\S*|v[0-9]+\.\S*")
_LONGEST_RELEASE = 60  # characters
_NO_RELEASE = "none"


class FactKind(StrEnum):
    """What an upstream commit means to a patch. The value is the key of the trailer."""

    FIXES = "Fixes"  # the commit brought the bug
    APPLIED = "Applied-Upstream"  # the commit holds the patch
    SUPERSEDED = "Superseded-By"  # the commit cures the bug in another way


_KINDS = {kind.lower(): kind for kind in FactKind}


@dataclass(frozen=True)
class RecordedFact:
    """What one trailer states. ``commit`` is an id of 7 to 40 digits. ``release`` is the first
    release that holds the commit, or for ``Fixes`` the first one with the bug. Each part is None if
    the trailer does not give it. ``in_no_release`` is True if the trailer says that there is no
    such release."""

    kind: FactKind
    commit: str | None
    pull: int | None
    release: str | None
    in_no_release: bool = False

    @property
    def value(self) -> str:
        """The value of the trailer."""
        pull = f"#{self.pull}" if self.pull else None
        release = _NO_RELEASE if self.in_no_release else self.release
        commit = self.commit
        if commit and not re.search("[0-9]", commit):
            commit = f"commit:{commit}"  # without the prefix, it would be read as a word
        if self.kind is FactKind.FIXES and commit and pull:
            return ", ".join(filter(None, (f"{commit} ({pull})", release)))
        return ", ".join(filter(None, (commit, pull, release)))

    @property
    def usable(self) -> bool:
        """Whether it tells anything of a commit or a release. A pull request alone does not, nor
        does ``none`` alone, which may mean that there is no fact to record."""
        return bool(self.commit or self.release)

    def in_release(self, version: str) -> bool | None:
        """Whether the release ``version`` holds the commit; None if the trailer does not tell."""
        if self.in_no_release:
            return False
        return Version(version) >= Version(self.release) if self.release else None

    def names(self, commit: str) -> bool:
        """Whether it names the commit ``commit``. Each of the two ids may be short."""
        if self.commit is None:
            return False
        return self.commit.startswith(commit) or commit.startswith(self.commit)


@dataclass(frozen=True)
class FactTrailer:
    """A trailer of a patch that is there to record a fact. It begins at line ``line_number`` of the
    patch file. ``problems`` say what in it is malformed or contradicts the rest of it. The fact
    leaves such parts out."""

    fact: RecordedFact
    value: str
    line_number: int
    problems: tuple[str, ...]


def facts_of(patch: Patch) -> tuple[RecordedFact, ...]:
    """The recorded facts of a patch, in the order of its trailers. A trailer that gives neither a
    commit nor a release, such as ``Fixes: #12``, is none."""
    facts = (trailer.fact for trailer in fact_trailers(patch))
    return tuple(fact for fact in facts if fact.usable)


def fact_trailers(patch: Patch) -> tuple[FactTrailer, ...]:
    """Every trailer with the key of a recorded fact, in any case, whether or not it states one."""
    if not any(key.lower() in _KINDS for key, _ in patch.trailers):
        return ()  # most patches record none, and the text need not be read for line numbers
    trailers = []
    for (key, value), number in zip(patch.trailers, patch.trailer_lines, strict=True):
        if kind := _KINDS.get(key.lower()):
            fact, problems = _read(kind, value)
            trailers.append(FactTrailer(fact, value, number, problems))
    return tuple(trailers)


def read_fact(kind: FactKind, value: str) -> RecordedFact:
    """The fact that the value of a trailer states. Words that are no commit, pull request or
    release, such as the subject in a ``Fixes`` of the Linux kernel, are passed over."""
    return _read(kind, value)[0]


def _read(kind: FactKind, value: str) -> tuple[RecordedFact, tuple[str, ...]]:
    """The fact that a trailer states, and what is wrong with the trailer. If it gives two different
    commits, pull requests or releases, which of them counts is not guessed: the part is None."""
    commits: list[str] = []
    pulls: list[int] = []
    releases: list[str] = []
    problems: list[str] = []
    none = False
    for word in _words(value):
        commit = _commit_in(word)
        if commit is not None and _COMMIT.fullmatch(commit):
            commits.append(commit)
        elif match := _PULL.fullmatch(word) or _PULL_URL.match(word):
            pulls.append(int(match[1]))
        elif word.lower() == _NO_RELEASE:
            none = True
        elif _RELEASE.fullmatch(word) and (release := _version(word)):
            releases.append(release)
        elif commit is not None or _almost_commit(word):
            problems.append(f"{word:.60} is not a commit id, which has 7 to 40 hexadecimal digits")
        elif _MEANT_AS_RELEASE.fullmatch(word):
            problems.append(f"{word:.60} is not a release, such as 0.5.13")
    longest = max(commits, key=len, default="")
    shorts = [commit for commit in commits if not longest.startswith(commit)]
    if shorts:
        problems.append(f"it names two commits, {longest[:12]} and {shorts[0][:12]}")
    if len(set(pulls)) > 1 and commits:
        problems.append(f"it names two pull requests, #{pulls[0]} and #{pulls[-1]}")
    names = list(dict.fromkeys([*releases, *([_NO_RELEASE] if none else [])]))
    if len(names) > 1:
        problems.append(f"it names two first releases, {names[0]} and {names[1]}")
    fact = RecordedFact(
        kind,
        commit=longest if commits and not shorts else None,
        pull=pulls[0] if len(set(pulls)) == 1 else None,
        release=releases[0] if len(names) == 1 and releases else None,
        in_no_release=names == [_NO_RELEASE],
    )
    return fact, tuple(problems)


def _words(value: str) -> Sequence[str]:
    """The words of a value, without brackets and the punctuation around them. Of a commit's subject
    only the pull request that it ends with is left, as GitHub's squash merge writes it."""

    def pull_of(subject: re.Match[str]) -> str:
        pull = _SUBJECTS_PULL.search(subject[1])
        return f" #{pull[1]} " if pull else " "

    words = re.split(r"[\s(),<>\[\]{}\"'`]+", _SUBJECT.sub(pull_of, value))
    return [word for word in (word.rstrip(".:;!?…") for word in words) if word]


def _commit_in(word: str) -> str | None:
    """What stands at the place of a commit's id in ``commit:ID`` or the address of a commit, or a
    word that is such an id; None if ``word`` is none of these."""
    match = _PREFIX.fullmatch(word) or _COMMIT_URL.match(word)
    if match and not _PULL_URL.match(word):
        return match[1].lower()
    # A word without a digit, such as `defaced`, is hardly an id.
    plain = _COMMIT.fullmatch(word.lower()) and re.search("[0-9]", word)
    return word.lower() if plain else None


def _almost_commit(word: str) -> bool:
    """Whether ``word`` is a commit id with too many digits, or with one or two wrong ones."""
    wrong = re.sub("[0-9a-f]", "", word.lower())
    if not wrong:
        return len(word) > 40
    return len(word) >= 12 and word.isalnum() and len(wrong) <= 2 and bool(re.search("[0-9]", word))


def _version(word: str) -> str | None:
    try:
        return str(Version(word)) if len(word) <= _LONGEST_RELEASE else None
    except ValueError:
        return None
