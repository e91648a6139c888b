"""The commit that a command works on, and the base of a line beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fixtool.errors import CannotRun, UsageError
from fixtool.git.objects import Oid
from fixtool.progress import Progress
from fixtool.series.context import Context
from fixtool.series.line import Upstream
from fixtool.settings import Settings
from fixtool.sources.resolve import Target
from fixtool.sources.source import Releases, Source, open_source


@dataclass(frozen=True)
class TargetRequest:
    """The commit that a user asked for. ``ref`` None means the line's own base; ``source`` None the
    one of the settings; ``line`` None any line."""

    ref: str | None = None
    source: str | None = None
    line: str | None = None


def find_target(context: Context, request: TargetRequest) -> tuple[Source, Target]:
    """The source that ``request`` names, and what its ref means there. Raises UsageError if there
    is no ref and the repository has several lines."""
    settings = context.settings
    line = request.line or settings.line
    lines = [context.repository.line(line)] if line else context.repository.lines
    upstreams = {line.name: line.upstream for line in lines}
    url = upstream_url(context, request.line)
    known = [upstream.base for upstream in upstreams.values() if not upstream.release]
    name = request.source or settings.source
    source = open_source(name, settings, url, context.progress, known)
    return source, source.resolve(request.ref or _only_base(upstreams, name))


def upstream_url(context: Context, line: str | None) -> str:
    """The address of upstream: the one of the settings, or else of ``line``, or else of any line.
    It is empty if there is no line."""
    settings = context.settings
    name = line or settings.line
    lines = [context.repository.line(name)] if name else context.repository.lines
    return settings.url or next((line.upstream.url for line in lines), "")


def bring_base(source: Source, upstream: Upstream, settings: Settings, progress: Progress) -> Oid:
    """Make the base of a line readable from the store of ``source``, and return it.

    If the base is a release, it comes from the package index wherever the target comes from.
    Raises CannotRun if it cannot be had, or is not the commit that the line was written against.
    """
    if source.repo.has(upstream.base):
        return upstream.base
    if upstream.release is None:
        return source.ensure(upstream.base)
    releases = Releases(settings, progress)
    release = releases.release(upstream.release)
    if release.commit != upstream.base:
        raise CannotRun(
            f"release {upstream.release} is commit {release.commit[:12]} here, but the line was "
            f"written against {upstream.base[:12]}",
            hint="the release's files changed, or upstream.toml was edited: look before you go on",
        )
    source.repo.borrow(releases.repo)
    return upstream.base


def _only_base(upstreams: Mapping[str, Upstream], source: str) -> str:
    """The base of the only line, which is the target of a command that names no ref."""
    if len(upstreams) != 1:
        raise UsageError(
            "which commit? there is more than one line",
            hint=f"--sglang-ref SHA|TAG|RELEASE, or --line with one of: {', '.join(upstreams)}",
        )
    (upstream,) = upstreams.values()
    return upstream.release if upstream.release and source == "pypi" else upstream.base
