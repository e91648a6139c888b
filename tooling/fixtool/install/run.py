"""Puts a line of patches into what is installed for an interpreter, and takes it out again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.apply.run import left_out_by_hand, require_without
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.objects import FileChange
from fixtool.git.trees import changed_files, list_tree
from fixtool.install import contents
from fixtool.install._change import PackageChange, Wanted, require_writable
from fixtool.install._transaction import Recovered, alone, commit, recover, staging
from fixtool.install.find import Found
from fixtool.install.project import Project, find_project, projects
from fixtool.install.state import Installation, digest_of, read_installation
from fixtool.judgement.line import Choice, choose_line
from fixtool.judgement.manifest import manifest_of
from fixtool.judgement.run import JudgeRequest
from fixtool.series.context import Context
from fixtool.sources.resolve import Target, UnknownRef
from fixtool.sources.source import Local, Releases, Source, open_source
from fixtool.sources.target import upstream_url
from fixtool.text import argument, public_url


@dataclass(frozen=True)
class Installed:
    """The result of ``install``. ``installation`` is None if a patch needs a person; ``changed``
    says whether a file has changed, or would on a dry run. ``replaced`` is the line that was there
    before, and ``recovered`` what became of a run that was killed. ``notes`` are for the user."""

    found: Found
    target: Target
    choice: Choice
    installation: Installation | None
    changed: bool
    replaced: str | None
    recovered: Recovered | None
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nobody is needed."""
        return self.choice.ok


@dataclass(frozen=True)
class Uninstalled:
    """The result of ``uninstall``. ``installation`` is what was there, None if nothing was;
    ``recovered`` says what became of a run that was killed."""

    found: Found
    installation: Installation | None
    recovered: Recovered | None


def install(
    context: Context,
    python: str,
    line: str | None = None,
    without: Sequence[str] = (),
    *,
    source: str | None = None,
    dry_run: bool = False,
) -> Installed:
    """Put the line that fits best into what ``python`` has installed: the package of a release, or
    the checkout of an editable install. An older series is taken out in the same step. ``without``
    are the slugs of patches that the user leaves out. ``source`` is where upstream's commits come
    from, if the checkout is not to be read alone.

    Nothing is changed if a patch needs a person. Raises Refused if a file is not the one of the
    release or of the commit, or cannot be written, UsageError if the line lacks a patch of
    ``without`` or has another that needs it, or if ``source`` cannot have what is installed, and
    the errors of ``find``.
    """
    decisions = left_out_by_hand(without)
    wanted_line = line or context.settings.line
    candidates = projects(context.settings, context.repository, wanted_line)
    project, found = find_project(python, candidates)
    with _recovered(found, dry_run=dry_run) as recovered:
        opened, target = _target(context, found, project, source)
        choice = choose_line(context, opened, target, wanted_line, JudgeRequest(decisions))
        require_without(choice.line, decisions)
        unread = choice.judgement.unread
        more = (f"upstream's history was not read: {unread}",) if unread else ()
        notes = (*choice.notes, *more)
        if not choice.ok:
            return Installed(found, target, choice, None, False, None, recovered, notes)
        previous = read_installation(found.place)
        wanted, left_out = _wanted(found, opened, target, choice)
        notes += _require_unchanged(found, opened, target, previous, wanted)
        wanted_now = _installation(found, opened, target, choice, left_out)
        replaced = previous.manifest.line if previous else None
        if previous and _is_there(previous, wanted_now, wanted):
            return Installed(found, target, choice, previous, False, None, recovered, notes)
        if not dry_run:
            _put_in(found, previous, wanted, wanted_now)
        done = wanted_now if dry_run else read_installation(found.place)
        return Installed(found, target, choice, done, True, replaced, recovered, notes)


def uninstall(candidates: Sequence[Project], python: str, *, dry_run: bool = False) -> Uninstalled:
    """Take out what ``install`` has put into the one of ``candidates`` that ``python`` has: every
    byte is as it was, that of RECORD too. Raises Refused if a file was changed since, and the
    errors of ``find``."""
    _, found = find_project(python, candidates)
    with _recovered(found, dry_run=dry_run) as recovered:
        previous = read_installation(found.place)
        if previous is None:
            return Uninstalled(found, None, recovered)
        _require_own(found, previous)
        if not dry_run:
            _put_in(found, previous, {}, None)
        return Uninstalled(found, previous, recovered)


@contextmanager
def _recovered(found: Found, *, dry_run: bool) -> Iterator[Recovered | None]:
    """Be alone in the place of ``found`` during the block, after what a killed run left was
    ended."""
    if dry_run:
        yield None
        return
    with alone(found.place):
        yield recover(found.place)


def _target(
    context: Context, found: Found, project: Project, name: str | None
) -> tuple[Source, Target]:
    """The release or the commit that is installed, for the lines of its project, in the source
    ``name``: None is the package index for a release, and the checkout itself for a commit."""
    source: Source
    if found.checkout is None:
        if name not in (None, "pypi"):
            raise UsageError(
                f"{found.project} {found.version} is installed as a release, which only a package "
                f"index has, not --source {public_url(name)}",
                hint="leave --source out; for a folder of wheels, set PIP_FIND_LINKS=DIR",
            )
        source = Releases(project.settings, context.progress)
        target = source.resolve(found.version)
    else:
        assert found.checkout.work_tree is not None
        url = upstream_url(context, project.lines[0] if project.lines else None)
        source = Local(found.checkout.work_tree, project.settings, url, context.progress)
        target = source.resolve("HEAD")
        if name == "pypi":
            raise UsageError(
                f"{found.checkout.work_tree} is a checkout, and the package index has no commits",
                hint="leave --source out; or name a clone of upstream: --source CLONE",
            )
        if name is not None:
            source = open_source(name, project.settings, url, context.progress)
            try:
                target = source.resolve(target.commit)
            except UnknownRef as error:
                if Path(source.name).is_dir():
                    there = str(found.checkout.work_tree)
                    fetch = shlex.join(("git", "-C", source.name, "fetch", there, "HEAD"))
                    error.hint = f"{fetch}, then the same command again"
                raise
    whole = len(project.lines) == len(context.repository.lines)
    return source, target if whole else replace(target, lines=project.lines)


def _wanted(
    found: Found, source: Source, target: Target, choice: Choice
) -> tuple[dict[str, Wanted], tuple[str, ...]]:
    """The files that the series changes, by their path below the place, and the paths of those that
    have no place there."""
    repo, replay = source.repo, choice.judgement.replay
    changes = changed_files(repo, target.commit, replay.tree)
    tops = contents.tops(found)
    here: list[FileChange] = []
    left_out: list[FileChange] = []
    for change in changes:
        inside = change.path.removeprefix(found.place.prefix)
        known = tops is None or (
            change.path.startswith(found.place.prefix) and inside.split("/")[0] in tops
        )
        (here if known else left_out).append(change)
    entries = list_tree(repo, replay.tree, *(change.path for change in here)) if here else {}
    if odd := [path for path, entry in entries.items() if not entry.mode.startswith("100")]:
        raise Refused(
            "the series makes a link or a submodule, which fixtool does not install",
            where=odd[0],
            hint="fixtool apply --into DIR",
        )
    blobs = [entry.blob for entry in entries.values()]
    texts = dict(zip(entries, repo.read_blobs(blobs), strict=True))
    wanted = {}
    for change in here:
        entry = entries.get(change.path)
        wanted[change.path.removeprefix(found.place.prefix)] = Wanted(
            texts[change.path] if entry else None, entry.mode if entry else "100644"
        )
    return wanted, tuple(change.path for change in left_out)


def _require_unchanged(
    found: Found,
    source: Source,
    target: Target,
    previous: Installation | None,
    wanted: Mapping[str, Wanted],
) -> tuple[str, ...]:
    """Raise Refused if a file is not the one of the release or of the commit: somebody has edited
    it. In a checkout, that counts for the files of the series alone. Returns notes for the user."""
    if previous:
        _require_own(found, previous)
    prefix = found.place.prefix
    if found.checkout:
        listed = list_tree(source.repo, target.commit, *sorted(wanted)) if wanted else {}
    else:
        listed = list_tree(source.repo, target.commit, *filter(None, [prefix.rstrip("/")]))
    entries = {path.removeprefix(prefix): entry.blob for path, entry in listed.items()}
    before = contents.blobs_before(found, previous, {*entries, *wanted})
    edited = [path for path, blob in entries.items() if before.get(path) != blob]
    in_way = [path for path in wanted if path not in entries and path in before]
    if found.checkout is None:
        edited += contents.damaged_natives(found, entries)
    if edited:
        more = f" and {len(edited) - 5} more" if len(edited) > 5 else ""
        raise Refused(
            f"{len(edited)} of the files are not those of {target.ref}: "
            f"{', '.join(sorted(edited)[:5])}{more}",
            where=str(found.place.root),
            hint=_as_released(found),
        )
    if in_way:
        raise Refused(
            f"{in_way[0]} is in the way: the series adds it, and it is not of {target.ref}",
            where=str(found.place.root / in_way[0]),
            hint="move it away, then run the same command again",
        )
    return contents.notes(found, previous)


def _as_released(found: Found) -> str:
    if found.checkout is not None:
        at = f"git -C {argument(found.place.root)}"
        return f"commit them: {at} commit --all; or stash them: {at} stash"
    return (
        f"keep a copy of the edits, then: {found.facts.python} -m pip install --force-reinstall "
        f"--no-deps {found.project}=={found.version}"
    )


def _require_own(found: Found, previous: Installation) -> None:
    """Raise Refused if a file that fixtool has put in was changed since."""
    place = found.place
    edited = [file.path for file in previous.sources
              if digest_of(place.root / file.path) != file.new]  # fmt: skip
    if not edited and place.record and not contents.record_is_right(place, previous):
        edited = [place.record]
    lost = [file.path for file in previous.files
            if file.kept and digest_of(place.state / "before" / file.kept) != file.old]  # fmt: skip
    if lost:
        raise CannotRun(
            f"what was there before {lost[0]} is lost or damaged",
            where=str(place.state),
            hint=_as_released(found),
        )
    if edited:
        raise Refused(
            f"{', '.join(edited[:5])} was changed after fixtool had put it in",
            where=str(place.root / edited[0]),
            hint=f"look at it, keep a copy of the edits, and then: {_as_released(found)}",
        )


def _installation(
    found: Found,
    source: Source,
    target: Target,
    choice: Choice,
    left_out: tuple[str, ...],
) -> Installation:
    judgement = choice.judgement
    manifest = manifest_of(
        choice.line, target.commit, (patch.result for patch in judgement.patches),
        {patch.slug: patch.culprit for patch in judgement.patches if patch.culprit},
    )  # fmt: skip
    tree = judgement.replay.tree
    package = found.package_in_git
    package_tree = contents.tree_of(list_tree(source.repo, tree, package), package)
    return Installation(
        found.project, found.version, package, package_tree, tree, left_out, (), manifest
    )


def _is_there(
    previous: Installation, wanted_now: Installation, wanted: Mapping[str, Wanted]
) -> bool:
    """Whether the previous installation is the one that is wanted."""
    same = previous.manifest == wanted_now.manifest and previous.tree == wanted_now.tree
    return same and {file.path for file in previous.sources} == set(wanted)


def _put_in(
    found: Found,
    previous: Installation | None,
    wanted: Mapping[str, Wanted],
    installation: Installation | None,
) -> None:
    place = found.place
    require_writable(place, ())
    with staging(place) as folder:
        change = PackageChange(found.facts, place, previous, folder)
        change.add(wanted)
        files = tuple(change.files)
        change.add_record(replace(installation, files=files) if installation else None)
        paths = [step.path for step in change.steps]
        require_writable(place, paths)
        new_first = sorted(
            change.steps, key=lambda step: (step.path == place.record, step.old is not None)
        )
        commit(place, "install" if installation else "uninstall", new_first)
