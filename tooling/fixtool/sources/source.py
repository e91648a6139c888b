"""Where the SGLang tree comes from: a git remote, a repository on this machine, or a PyPI release.

Each source keeps what it brings in a store of its own under the state folder, a bare repository
that nobody else writes. A local repository is borrowed from (git alternates), never written to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.version import InvalidVersion, Version

from fixtool.errors import CannotRun, UsageError
from fixtool.files import lock, private_folder
from fixtool.git.names import (
    check_ref,
    check_url,
    is_full_sha,
    is_short_sha,
    public_url,
    redact,
)
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import missing_files
from fixtool.progress import Progress
from fixtool.series.line import Upstream
from fixtool.settings import Settings

if TYPE_CHECKING:
    from fixtool.sources.release import Release


@dataclass(frozen=True)
class Target:
    """A ref, resolved: its commit lies in the source's store."""

    ref: str
    commit: str
    tree: str
    source: str
    version: str | None = None  # of the release, where the ref is one
    release: Release | None = None


class Source(Protocol):
    """``repo`` is the store; its methods raise CannotRun with the command that would work instead.
    ``bring`` makes files of a commit readable (no ``paths``: all), in one request at most;
    ``bring_history`` the commits that lead from ``start``, made on the day ``since``, to ``end``;
    ``bring_blobs`` files by their ids."""

    name: str
    repo: Store

    def resolve(self, ref: str) -> Target: ...

    def ensure(self, commit: str) -> str: ...

    def bring(self, commit: str, paths: Sequence[str]) -> None: ...

    def bring_history(self, start: str, end: str, since: str) -> None: ...

    def bring_blobs(self, blobs: Sequence[Oid]) -> None: ...


def version_of(ref: str) -> str | None:
    """The release that a ref names: ``v0.5.23`` and ``0.5.23`` are both 0.5.23."""
    try:
        return str(Version(ref.removeprefix("v"))) if re.match(r"v?\d+\.\d", ref) else None
    except InvalidVersion:
        return None


def open_source(
    name: str, settings: Settings, url: str, progress: Progress, known: Sequence[str] = ()
) -> Source:
    """The source that ``name`` means: git, pypi, a URL or a path. ``known`` are commits (the
    lines' bases) that a short sha may mean where there is no history to look it up in."""
    private_folder(settings.stores)
    if name == "git":
        return Remote("git", url, settings, progress, known)
    if name == "pypi":
        return Releases(settings, progress)
    if "://" in name or re.match(r"[\w.-]+@[\w.-]+:", name) or "::" in name or name.startswith("-"):
        return Remote(public_url(name), name, settings, progress, known)
    if (path := Path(name).expanduser()).exists():
        return Local(path.resolve(), settings)
    raise UsageError(
        f"--source {public_url(name)!r} is not git, pypi, a URL, or a path that exists",
        hint="for example --source git, --source pypi, --source ../sglang",
    )


class Local:
    """A repository on this machine."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.name = str(path)
        self.theirs = Repo.open(path)
        self.repo = Store.create(_store(settings, f"local-{path.name}", str(self.theirs.git_dir)))
        self.repo.borrow(self.theirs)

    def resolve(self, ref: str) -> Target:
        commit = resolve_local(self.theirs, ref, self.name)
        return Target(ref, commit, self.theirs.tree_id(commit), self.name, version_of(ref))

    def ensure(self, commit: str) -> str:
        if not self.repo.has(commit):
            raise CannotRun(
                f"{self.name} does not hold the base commit {commit[:12]}, which a three-way merge "
                "needs",
                where=self.name,
                hint=f"git -C {self.name} fetch <upstream> {commit}, or use --source git",
            )
        return commit

    def bring(self, commit: str, paths: Sequence[str]) -> None:
        """All that there is is here; in a partial clone, that may be too little."""
        if any((self.theirs.objects_folder / "pack").glob("*.promisor")) and (
            missing_files(self.theirs, commit, *paths)
        ):
            raise CannotRun(
                f"{self.name} is a partial clone and lacks files of {commit[:12]}",
                where=self.name,
                hint=f"fill it: git -C {self.name} fetch --refetch --no-filter origin {commit}; "
                "or use --source git",
            )

    def bring_history(self, start: str, end: str, since: str) -> None:
        """All that there is is here."""

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        if self.repo.lacks(blobs):
            raise CannotRun(
                f"{self.name} is a partial clone and lacks files of upstream's history",
                where=self.name,
                hint="use --source git, or a full clone",
            )


class Remote:
    """A repository that git reaches over a URL. Only the wanted commits are fetched, one deep and
    without blobs; a checkout or merge then fetches the blobs it needs in one batch."""

    def __init__(
        self, name: str, url: str, settings: Settings, progress: Progress, known: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.url = public_url(url)
        try:
            check_url(url)
        except UsageError as error:
            shown = error.message.replace(repr(url), repr(redact(self.url)))
            raise UsageError(shown, hint=error.hint) from None
        self.repo = Store.create(_store(settings, _words(self.url), self.url), online=True)
        self.repo.log_in(url)
        self._progress = progress
        self._known = known

    def resolve(self, ref: str) -> Target:
        check_ref(ref)
        commit = ref if is_full_sha(ref) else self._look_up(ref)
        self.ensure(commit)
        return Target(ref, commit, self.repo.tree_id(commit), self.name, version_of(ref))

    def ensure(self, commit: str) -> str:
        if self.repo.has(commit):
            return commit
        with (
            lock(self.repo.git_dir / "fixtool.lock", f"the store of {self.url}"),
            self._progress.task(f"fetching {commit[:12]} from {self.url}") as task,
        ):
            out = self.repo.fetch(self.url, [commit], hear=lambda _: task.advance(1))
        if out.status != 0 or not self.repo.has(commit):
            raise CannotRun(
                f"cannot fetch {commit[:12]} from {self.url}: {redact(out.complaint)}",
                where=self.url,
                hint=_elsewhere(commit),
            )
        return commit

    def bring(self, commit: str, paths: Sequence[str]) -> None:
        with self._progress.task(f"fetching files of {commit[:12]} from {self.url}"):
            out = self.repo.fetch_files(commit, *paths)
        if out.status != 0:
            raise CannotRun(
                f"cannot fetch files of {commit[:12]} from {self.url}: {redact(out.complaint)}",
                where=self.url,
                hint=_elsewhere(commit),
            )

    def bring_history(self, start: str, end: str, since: str) -> None:
        if self.repo.ahead_by(start, end) is not None:
            return
        day = date.fromisoformat(since) - timedelta(days=2)  # time zones, and clocks that were off
        with self._progress.task(f"fetching upstream's history since {day}"):
            out = self.repo.fetch_history(self.url, [start, end], day.isoformat())
        if out.status != 0:
            raise CannotRun(
                f"cannot fetch the history of {end[:12]} from {self.url}: {redact(out.complaint)}",
                where=self.url,
                hint=_elsewhere(end),
            )

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        with self._progress.task(f"fetching files of {self.url}'s history"):
            out = self.repo.fetch_blobs(self.repo.lacks(blobs))
        if out.status != 0:
            raise CannotRun(
                f"cannot fetch files from {self.url}: {redact(out.complaint)}",
                where=self.url,
            )

    def _look_up(self, ref: str) -> str:
        if is_short_sha(ref) and (known := [one for one in self._known if one.startswith(ref)]):
            return _only(ref, known, self.url)
        try:
            refs = self.repo.remote_refs(self.url)
        except CannotRun as error:
            raise CannotRun(error.message, where=self.url, hint=_elsewhere(ref)) from error
        if commit := _named(ref, refs):
            return commit
        if is_short_sha(ref):
            tips = sorted({sha for sha in refs.values() if sha.startswith(ref)})
            if tips:
                return _only(ref, tips, self.url)
            raise CannotRun(
                f"{ref} is a short commit id, and {self.url} can only be asked for all 40 digits",
                where=self.url,
                hint="give the full id, or --source PATH of a clone that has the history",
            )
        raise CannotRun(
            f"{self.url} has no tag or branch {ref!r}",
            where=self.url,
            hint=f"git ls-remote {self.url} '*{ref}*'",
        )


class Releases:
    """SGLang's releases on the package index, each as a commit that its content alone names."""

    name = "pypi"

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self.repo = Store.create(settings.stores / f"pypi-{settings.project}.git")

    def resolve(self, ref: str) -> Target:
        version = version_of(check_ref(ref))
        if version is None:
            raise UsageError(
                f"{ref!r} is not a release, and --source pypi has nothing else",
                hint=f"fixtool apply --sglang-ref {ref} --source git",
            )
        release = self.release(version)
        return Target(ref, release.commit, release.tree, self.name, version, release)

    def release(self, version: str) -> Release:
        # Zip and index code: only releases need it.
        from fixtool.sources.release import import_release

        return import_release(version, self.repo, self._settings, self._progress)

    def ensure(self, commit: str) -> str:
        if not self.repo.has(commit):
            raise CannotRun(
                f"{commit[:12]} is not a release commit",
                hint="use --source git, or --source PATH of a clone",
            )
        return commit

    def bring(self, commit: str, paths: Sequence[str]) -> None:
        """A release is here whole."""

    def bring_history(self, start: str, end: str, since: str) -> None:  # noqa: ARG002
        raise UsageError("releases on the package index have no history between them")

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        """A release is here whole."""


def bring_base(source: Source, upstream: Upstream, settings: Settings, progress: Progress) -> str:
    """Make the base of a line readable from ``source``'s store and return it. The base of a release
    line is a release, wherever the target comes from."""
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


def resolve_local(repo: Repo, ref: str, where: str) -> str:
    """The commit that ``ref`` names in a repository with history: sha, unambiguous short sha, tag,
    branch (local, then origin's), or release."""
    check_ref(ref)
    if is_full_sha(ref):
        if commit := repo.commit_id(ref):
            return commit
        raise CannotRun(f"{where} does not hold the commit {ref}", where=where)
    if is_short_sha(ref) and (found := repo.candidates(ref)):
        return _only(ref, found, where)
    if ref == "HEAD" and (commit := repo.head()):
        return commit
    named = {name: repo.commit_id(name) for name in _names(ref)}
    refs = {name: commit for name, commit in named.items() if commit}
    if commit := _named(ref, refs):
        return commit
    raise CannotRun(
        f"{where} has no commit, tag, branch or release {ref!r}",
        where=where,
        hint=f"git -C {where} for-each-ref --count=20 --sort=-committerdate",
    )


def _names(ref: str) -> list[str]:
    names = [f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/origin/{ref}"]
    if version := version_of(ref):
        names += [f"refs/tags/v{version}", f"refs/tags/{version}"]
    return names


def _named(ref: str, refs: Mapping[str, Oid]) -> Oid | None:
    """The commit of the first name that ``ref`` may stand for. A tag and a branch of one name that
    disagree are a question for the user."""
    tag, branch = refs.get(f"refs/tags/{ref}"), refs.get(f"refs/heads/{ref}")
    if tag and branch and tag != branch:
        raise UsageError(
            f"{ref!r} is both a tag ({tag[:12]}) and a branch ({branch[:12]})",
            hint=f"--sglang-ref {tag} or --sglang-ref {branch}",
        )
    return next((refs[name] for name in _names(ref) if name in refs), None)


def _only(ref: str, found: Sequence[str], where: str) -> str:
    if len(set(found)) > 1:
        raise UsageError(
            f"{ref} is short for {len(set(found))} commits: {', '.join(one[:16] for one in found)}",
            where=where,
            hint="give more digits",
        )
    return found[0]


def _elsewhere(ref: str) -> str:
    """What any command that takes a source can be told instead."""
    clone = "the same command with --source PATH, a clone on this machine"
    return f"{clone}; or --source pypi, where a release will do" if version_of(ref) else clone


def _store(settings: Settings, words: str, identity: str) -> Path:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return settings.stores / f"{words}-{digest}.git"


def _words(url: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", url.split("://")[-1].removesuffix(".git")).strip("-.")[
        :60
    ]
