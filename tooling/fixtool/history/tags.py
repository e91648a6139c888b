"""The releases that hold a commit, by the tags of a clone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import Version

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.source import Local, Source, open_source
from fixtool.sources.target import line_source
from fixtool.text import split_lines


@dataclass(frozen=True)
class ReleaseTags:
    """The release tags of a clone with a whole history: release -> name of the tag, the oldest
    release first. A tag of a pre-release, or of another product of the repository, is none."""

    clone: Repo
    names: Mapping[Version, str]

    def holding(self, commit: Oid) -> tuple[Version, ...]:
        """The releases whose tags descend from ``commit``, the oldest first."""
        out = self.clone.run(
            "for-each-ref", "--format=%(refname:strip=2)", f"--contains={commit}", "refs/tags",
            accept=None,
        )  # fmt: skip
        held = set(split_lines(out.text)) if out.status == 0 else set()
        return tuple(version for version, name in self.names.items() if name in held)

    def first(self, commit: Oid) -> str | None:
        """The first release that holds ``commit``; None if no tag descends from it."""
        return next(map(str, self.holding(commit)), None)


def release_tags(source: Source) -> ReleaseTags | None:
    """The release tags of a clone on this machine. None for any other source, and for a clone that
    has no such tag, or whose history is cut off: its tags would not tell the first release."""
    if not isinstance(source, Local):
        return None
    shallow = source.clone.run("rev-parse", "--is-shallow-repository").text == "true"
    out = source.clone.run("for-each-ref", "--format=%(refname:strip=2)", "refs/tags")
    versions = {name: version for name in split_lines(out.text) if (version := tag_version(name))}
    if shallow or not versions:
        return None
    oldest_first = sorted(versions, key=lambda name: versions[name])
    return ReleaseTags(source.clone, {versions[name]: name for name in oldest_first})


def tags_at(context: Context, line: Line, source: str | None) -> ReleaseTags | None:
    """The release tags of the source called ``source``, or of the one of the settings."""
    name = source or line_source(context.settings, line.upstream)
    if name == "pypi":
        return None
    url = context.settings.url or line.upstream.url
    return release_tags(open_source(name, context.settings, url, context.progress))


def tag_version(name: str) -> Version | None:
    """The release that a tag names, as in ``v0.5.13``; None for any other tag."""
    if not re.match(r"v?[0-9]+\.[0-9]", name):
        return None
    try:
        version = Version(name)
    except ValueError:  # no version, or a number of thousands of digits
        return None
    return None if version.is_prerelease or version.local else version
