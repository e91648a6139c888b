"""Finds the release that changes fit best, by trying their files on each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt

from fixtool.errors import CannotRun, FixtoolError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.history.tags import release_tags, tag_version
from fixtool.incoming.change import Incoming
from fixtool.incoming.files import Fit, TriedFile, try_files
from fixtool.incoming.places import USUAL, find_places
from fixtool.incoming.sections import read_sections
from fixtool.progress import Progress
from fixtool.settings import Settings
from fixtool.sources import release
from fixtool.sources.source import Local, Releases, Remote, Source
from fixtool.text import split_lines

_ENOUGH = 3  # releases in a row that fit worse than the best: older ones will not fit better
_RELEASES = "refs/fixtool/releases/"


@dataclass(frozen=True)
class Known:
    """The releases of a source, the oldest first. ``names`` are what `--base` takes, and ``commit``
    brings the commit of one here. ``at_hand`` are those that are here already."""

    names: tuple[str, ...]
    at_hand: frozenset[str]
    commit: Callable[[str], Oid]


@dataclass(frozen=True)
class ReleaseFit:
    """How the files of changes fit a release: ``fits`` of ``of`` files. Those that it lacks are
    among the files, and do not count if no release that was tried has them. ``as_written`` counts
    the files that are the very ones which the changes were made on."""

    release: str
    commit: Oid
    fits: int
    of: int
    as_written: int
    files: tuple[TriedFile, ...]

    @property
    def whole(self) -> bool:
        return self.fits == self.of

    @property
    def exact(self) -> bool:
        """Whether all files that the release has are the ones that the changes were made on."""
        return self.as_written > 0 and all(
            file.as_written or (file.new and file.fit is Fit.FITS)
            for file in self.files if file.fit is not Fit.MISSING
        )  # fmt: skip


@dataclass(frozen=True)
class BestBase:
    """The release that fits best; ``tried`` are all, oldest first, of ``known`` ones. ``exclude``
    is what has to be left out, since that release lacks it."""

    best: ReleaseFit
    tried: tuple[ReleaseFit, ...]
    known: int
    exclude: tuple[str, ...]


def known_releases(source: Source, settings: Settings) -> Known:
    """The releases of a source. Raises CannotRun if it cannot be asked, or has none."""
    if isinstance(source, Releases):
        return _of_index(source, settings)
    if isinstance(source, Local):
        tags = release_tags(source)
        names = tuple(tags.names.values()) if tags else ()
        commit = _of_clone(source.clone)
    else:
        assert isinstance(source, Remote)
        refs = source.repo.remote_refs(source.url, "refs/tags/*")
        by_name = {ref.removeprefix("refs/tags/"): oid for ref, oid in refs.items()}
        names = _in_order(by_name)
        commit = _fetched(source, by_name)
    if not names:
        raise CannotRun(
            f"{source.name} has no tag of a release",
            where=source.name,
            hint="name another source: --source pypi, or --source PATH, a clone with its tags",
        )
    here = frozenset(names) if isinstance(source, Local) else frozenset()
    return Known(names, here, commit)


def _fetched(source: Remote, by_name: Mapping[str, Oid]) -> Callable[[str], Oid]:
    return lambda name: source.ensure(by_name[name])


def at_hand(source: Source, settings: Settings) -> Known | None:
    """The releases that are on this machine already; None if there are none."""
    if isinstance(source, Releases):
        names = _imported(source.repo)
        known = Known(names, frozenset(names), lambda name: source.release(name).commit)
        return known if names else None
    if isinstance(source, Local):
        try:
            return known_releases(source, settings)
        except FixtoolError:
            return None
    return None


def _of_index(source: Releases, settings: Settings) -> Known:
    from fixtool.sources import index

    here = _imported(source.repo)
    try:
        offered = index.versions(settings.indexed)
    except CannotRun:
        if not here:
            raise
        offered = here
    names = _in_order({*offered, *here})
    return Known(names, frozenset(here), lambda name: source.release(name).commit)


def _imported(repo: Repo) -> tuple[str, ...]:
    """The releases of the package index that were imported before, oldest first."""
    out = repo.run("for-each-ref", "--format=%(refname)", _RELEASES)
    names = [name.removeprefix(_RELEASES) for name in split_lines(out.text)]
    return _in_order(name for name in names if release.recorded(name, repo))


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that are releases, and no pre-releases, oldest first."""
    versions = {name: version for name in names if (version := tag_version(name))}
    return tuple(sorted(versions, key=lambda name: versions[name]))


def _of_clone(clone: Repo) -> Callable[[str], Oid]:
    def commit(name: str) -> Oid:
        found = clone.commit_id(f"refs/tags/{name}")
        if found is None:
            raise CannotRun(f"the tag {name} is gone", where=str(clone.git_dir))
        return found

    return commit


def find_best(
    source: Source, known: Known, changes: Sequence[Incoming], progress: Progress
) -> BestBase:
    """The release that ``changes``, in order, fit best. If there are many, those between two that
    were tried are tried only where the best ones are, for each may have to be fetched."""
    tried: dict[str, ReleaseFit] = {}
    with passing_objects(source.repo) as objects, progress.task("trying releases") as task:
        for names in _rounds(known, lambda name: _rank(known, tried, name)):
            fits: list[int] = []
            for name in names:
                if name not in known.at_hand and _gets_worse(fits):
                    break
                commit = known.commit(name)
                if isinstance(source, Remote):
                    source.bring(commit, sorted(_paths(changes)))
                tried[name] = _measure(objects, changes, name, commit)
                fits.append(tried[name].fits)
                task.advance(1)
                if tried[name].exact:
                    return _best(objects, known, tried)
        return _best(objects, known, tried)


def _gets_worse(fits: Sequence[int]) -> bool:
    """Whether the last releases, of a row that goes back in time, fit worse than one before."""
    last = fits[-_ENOUGH:]
    return len(last) == _ENOUGH and max(last) < max(fits)


def _rounds(known: Known, rank: Callable[[str], tuple[int, int, int]]) -> Iterator[Sequence[str]]:
    """The names of the releases to try, round by round. ``rank`` says how those that were tried
    fit."""
    names = known.names
    done = {number for number, name in enumerate(names) if name in known.at_hand}
    yield [names[number] for number in sorted(done, reverse=True)]
    if len(done) == len(names):
        return
    step = 1 << isqrt(len(names)).bit_length() - 1  # as many steps as there are releases in one
    first = set(range(len(names) - 1, -1, -step)) - done
    yield [names[number] for number in sorted(first, reverse=True)]
    done |= first
    while step := step // 2:
        ranked = sorted(done, key=lambda number: rank(names[number]), reverse=True)
        near = {number + way for number in ranked[:2] for way in (-step, step)}
        following = {number for number in near if 0 <= number < len(names)} - done
        yield [names[number] for number in sorted(following, reverse=True)]
        done |= following


def _rank(known: Known, tried: Mapping[str, ReleaseFit], name: str) -> tuple[int, int, int]:
    """How well a release fits; one that was not tried fits worst."""
    fit = tried.get(name)
    return (fit.fits, fit.as_written, known.names.index(name)) if fit else (-1, 0, 0)


def _measure(
    objects: ObjectDatabase, changes: Sequence[Incoming], name: str, commit: Oid
) -> ReleaseFit:
    files: list[TriedFile] = []
    tree = objects.tree_of(commit)
    for change in changes:
        lines = change.diff.split(b"\n")
        sections = read_sections(lines)
        if change.reverse:
            sections = [section.reversed() for section in sections]
        places = [USUAL]
        if not all(section.git and not section.bare for section in sections):
            listed = list_tree(objects.repo, commit)
            places = find_places(sections, listed, change.strip, None) or [USUAL]
        tried, tree = try_files(objects, change, lines, sections, places[0], tree)
        files += tried
    fits = sum(file.fit is Fit.FITS for file in files)
    written = sum(file.as_written for file in files)
    return ReleaseFit(name, commit, fits, len(files), written, tuple(files))


def _best(objects: ObjectDatabase, known: Known, by_name: Mapping[str, ReleaseFit]) -> BestBase:
    tried = [by_name[name] for name in known.names if name in by_name]
    if not tried:
        raise CannotRun("no release could be tried")
    per_file = zip(*(fit.files for fit in tried), strict=True)
    nowhere = [
        number for number, files in enumerate(per_file)
        if all(file.fit is Fit.MISSING for file in files)
    ]  # fmt: skip
    of = len(tried[0].files) - len(nowhere)
    counted = tuple(replace(fit, of=of) for fit in tried)
    best = max(reversed(counted), key=lambda fit: (fit.fits, fit.as_written))
    missing = [file.path for file in best.files if file.fit is Fit.MISSING]
    tops = objects.tree(objects.tree_of(best.commit)).keys()
    return BestBase(best, counted, len(known.names), tuple(patterns_of(missing, tops)))


def _paths(changes: Sequence[Incoming]) -> set[str]:
    """The paths that the files of the changes have in most trees."""
    sections = (part for change in changes for part in read_sections(change.diff.split(b"\n")))
    return {path for section in sections if (path := USUAL.source(section))}


def patterns_of(missing: Sequence[str], tops: Collection[str]) -> list[str]:
    """What `--exclude` takes to leave the ``missing`` files out: whole folders if the tree, whose
    root holds ``tops``, has nothing of them."""
    return sorted({
        path if (top := path.partition("/")[0]) in tops else f"{top}/*" for path in missing
    })  # fmt: skip
