"""The recorded facts of a patch: trailers that tell which upstream commits matter to it.

    Fixes: 4c0ce0345b1f... (#25284), none
    Applied-Upstream: 89ff2bc1115c..., #26026, 0.5.13
    Superseded-By: 5ae8d286d0f3..., #26502, 0.5.16

``Fixes`` is the Linux kernel's trailer for the commit that brought the bug, ``Applied-Upstream`` is
DEP-3's for the commit that took the patch. ``Superseded-By`` names a commit that cures the bug in
another way. Each gives the commit, the pull request, and the first release that holds the commit,
or ``none`` if no release holds it. Only the commit or the release is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import InvalidVersion, Version

from fixtool.series.patch import Patch

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_PULL = re.compile(r"#(\d+)|https?://\S+/pull/(\d+)/?")
_RELEASE = re.compile(r"v?\d+(\.\d+)+\S*")
_NO_RELEASE = "none"


class FactKind(StrEnum):
    """What an upstream commit means to a patch. The value is the key of the trailer."""

    FIXES = "Fixes"  # the commit brought the bug
    APPLIED = "Applied-Upstream"  # the commit holds the patch
    SUPERSEDED = "Superseded-By"  # the commit cures the bug in another way


@dataclass(frozen=True)
class RecordedFact:
    """One trailer. ``commit`` is an id of 7 to 40 digits, ``release`` the first release that holds
    it. Each part is None if the trailer does not give it. ``in_no_release`` is True if the trailer
    says that no release holds the commit."""

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
        if self.kind is FactKind.FIXES and self.commit and pull:
            return ", ".join(filter(None, (f"{self.commit} ({pull})", release)))
        return ", ".join(filter(None, (self.commit, pull, release)))

    def in_release(self, version: str) -> bool | None:
        """Whether the release ``version`` holds the commit; None if the trailer does not tell."""
        if self.in_no_release:
            return False
        return Version(version) >= Version(self.release) if self.release else None


def facts_of(patch: Patch) -> tuple[RecordedFact, ...]:
    """The recorded facts of a patch, in the order of its trailers. A trailer that gives neither a
    commit nor a release, such as ``Fixes: #12``, is none."""
    kinds = {kind.lower(): kind for kind in FactKind}
    facts = (
        read_fact(kinds[key.lower()], value)
        for key, value in patch.trailers
        if key.lower() in kinds
    )
    return tuple(fact for fact in facts if fact.commit or fact.release or fact.in_no_release)


def read_fact(kind: FactKind, value: str) -> RecordedFact:
    """The fact that the value of a trailer states. Words that are no commit, pull request or
    release, such as the subject in a ``Fixes`` of the Linux kernel, are passed over."""
    commit = pull = release = None
    none = False
    for word in re.sub(r'\("[^"]*"\)|[(),]', " ", value).split():
        if _COMMIT.fullmatch(word):
            commit = commit or word
        elif match := _PULL.fullmatch(word):
            pull = pull or int(match[1] or match[2])
        elif word.lower() == _NO_RELEASE:
            none = True
        elif _RELEASE.fullmatch(word):
            release = release or _version(word)
    return RecordedFact(kind, commit, pull, release, none and release is None)


def _version(word: str) -> str | None:
    try:
        return str(Version(word))
    except InvalidVersion:
        return None
