"""Where an edit of a series begins: at the line, its git repository, and the commits of its patches
on their base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fixtool.apply.waiting import require_nothing_waits
from fixtool.edit._cache import SeriesCache
from fixtool.edit.sequence import Made, OwnSeries, own_series, series_of
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.commit import open_to_write
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.patch import Patch


@dataclass(frozen=True)
class Place:
    """Where a line's objects are: ``repo`` holds its ``base``, ``source`` is the name of the source
    whose store that is, and ``bring`` brings the files of the base at some paths, or all files if
    there are none."""

    repo: Repo
    base: Oid
    source: str
    bring: Callable[[Sequence[str]], None]


def open_line(
    context: Context, line: Line, *, commit: bool, dry_run: bool
) -> tuple[Repo | None, Line]:
    """The git repository in which an edit of ``line`` is committed, None if it is not to be, and
    the line as it is now. Raises Refused if a command waits for a person in the line, or if the
    line has uncommitted changes and the edit is to be committed."""
    git = None
    if not dry_run:
        require_nothing_waits(context, line.name)
        git = open_to_write(context.repository.root, line.folder, commit=commit)
    context.repository.read_anew()
    return git, context.repository.line(line.name)


def series_at(context: Context, objects: ObjectDatabase, line: Line, place: Place) -> OwnSeries:
    """The commits of the patches of ``line`` on the base that ``place`` holds: from the cache, or
    made. Only what has to be applied is brought. Raises Refused if a patch does not apply."""
    cache, base = _cache(context), place.base
    known = cache.load(objects, line.name, base, line.patches)
    if len(known) == len(line.patches):
        return series_of(objects, line, base, known)
    place.bring(sorted({path for patch in line.patches[len(known) :] for path in patch.paths}))
    own = own_series(objects, line, base, known)
    if objects.scratch is None:
        objects.flush()
        cache.store(line.name, base, line.patches, list(own.commits.values()))
    return own


def known_commits(
    context: Context, objects: ObjectDatabase, line: Line, base: Oid
) -> Sequence[Oid]:
    """The commits of the first patches of ``line`` on its ``base`` that the cache knows."""
    return _cache(context).load(objects, line.name, base, line.patches)


def keep_series(context: Context, made: Made) -> None:
    """Keep in the cache the commits of the series of ``made``, which are in the store."""
    base, commits = made.line.upstream.base, list(made.commits.values())
    keep_commits(context, made.line.name, base, made.series, commits)


def keep_commits(
    context: Context, name: str, base: Oid, patches: Sequence[Patch], commits: Sequence[Oid]
) -> None:
    """Keep in the cache the ``commits`` of the line ``name``, which are in the store: those that
    ``patches`` make on its ``base``."""
    _cache(context).store(name, base, patches, commits)


def _cache(context: Context) -> SeriesCache:
    return SeriesCache(context.settings.cache / "series")
