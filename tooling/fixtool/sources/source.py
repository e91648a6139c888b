"""Where upstream comes from: a git remote, a repository on this machine, or a PyPI release.

Each source keeps what it fetches in its store, a bare repository under the state folder to which
only fixtool writes. A local repository is read through git's alternates and never written to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fixtool.errors import CannotRun, FixtoolError, Mistyped, UsageError
from fixtool.files import beside, lock, private_folder, write_atomically
from fixtool.git.names import check_ref, check_url, is_full_sha, is_short_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import NoRepository, Output, Repo
from fixtool.git.store import CommitStore, Store
from fixtool.git.trees import missing_files
from fixtool.profile import SGLANG
from fixtool.progress import Progress, Silence, Task
from fixtool.settings import Settings
from fixtool.sources.resolve import (
    Target,
    UnknownRef,
    named_commit,
    only_commit,
    resolve_local,
    unknown_ref,
    version_of,
)
from fixtool.text import argument, public_url, redact

if TYPE_CHECKING:
    from fixtool.sources.release import Release


KEPT_REFS = "fixtool.refs"
"""The file of a store that names the refs of its remote, for completion."""
_PATIENCE = 600  # seconds that a run waits for another one which fetches


class Source(Protocol):
    """A place that upstream comes from. ``repo`` is its store. Every method raises CannotRun if the
    source cannot give what is asked for, with the command that would work instead."""

    name: str
    repo: Store

    def resolve(self, ref: str) -> Target:
        """The commit that ``ref`` means, now in the store. Raises UsageError if it is no ref."""
        ...

    def ensure(self, commit: Oid) -> Oid:
        """Make sure that the store has ``commit``, and return it."""
        ...

    def bring(self, commit: str, paths: Iterable[str]) -> None:
        """Make the files of ``commit`` at or below ``paths`` (none: all files) readable, with at
        most one request."""
        ...

    def bring_history(self, start: Oid, end: Oid, since: str) -> None:
        """Make the commits from ``start``, which was made on the day ``since``, to ``end``
        readable."""
        ...

    def bring_past(self, commit: Oid, since: str) -> None:
        """Make the commits before ``commit`` that are not older than the day ``since`` readable,
        with their trees, as far as the source has them."""
        ...

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        """Make these blobs readable."""
        ...

    def has_history(self, start: Oid, end: Oid) -> bool:
        """Whether the commits from ``start`` to ``end`` can be judged without a fetch of them;
        False too if ``end`` does not descend from ``start``."""
        ...

    def commits(self, commit: Oid) -> Store | None:
        """A repository that holds ``commit`` and all its ancestors, but perhaps none of their
        files; None if the source has no commits. Its ``received`` says how many bytes this source
        has fetched for it."""
        ...


def open_source(
    name: str, settings: Settings, url: str, progress: Progress, known: Sequence[Oid] = ()
) -> Source:
    """The source that ``name`` means: ``git`` (the repository at ``url``), ``pypi``, a URL or a
    path. ``known`` are commits, such as the lines' bases, that a short sha may mean where there is
    no history to look it up in. Raises UsageError if ``name`` is none of these."""
    private_folder(settings.stores)
    if name == "git":
        return Remote("git", url, settings, progress, known)
    if name == "pypi":
        return Releases(settings, progress)
    if "://" in name or re.match(r"[\w.-]+@[\w.-]+:", name) or "::" in name or name.startswith("-"):
        return Remote(public_url(name), name, settings, progress, known)
    if (path := Path(name).expanduser()).exists():
        return Local(path.resolve(), settings, url, progress)
    raise UsageError(
        f"the source {public_url(name)!r} is not git, pypi, a URL, or a path that exists",
        hint="for example --source git, or --source pypi, or --source CLONE",
        mistyped=Mistyped(name, ("git", "pypi", *beside(path))),
    )


class Local:
    """A repository on this machine, ``clone``. The store borrows its objects. Upstream's ``url`` is
    asked only for the ancestors that a shallow clone lacks."""

    def __init__(
        self, path: Path, settings: Settings, url: str = "", progress: Progress | None = None
    ) -> None:
        self.name = str(path)
        self._settings = settings
        self._url = url
        self._progress = progress or Silence()
        try:
            self.clone = Repo.open(path, bare=True)
        except NoRepository as error:
            error.hint = "name a clone of upstream: --source CLONE"
            raise
        self.repo = Store.create(_store(settings, f"local-{path.name}", str(self.clone.git_dir)))
        self.repo.borrow(self.clone)

    def resolve(self, ref: str) -> Target:
        commit = resolve_local(self.clone, ref, self.name)
        return Target(ref, commit, self.clone.tree_id(commit), self.name, version_of(ref))

    def ensure(self, commit: Oid) -> Oid:
        if not self.repo.has(commit):
            raise CannotRun(
                f"{self.name} does not hold the base commit {commit[:12]}, which a three-way merge "
                "needs",
                where=self.name,
                hint=f"git -C {argument(self.name)} fetch <upstream> {commit}, or use --source git",
            )
        return commit

    def bring(self, commit: str, paths: Iterable[str]) -> None:
        """Only check: a partial clone may lack files."""
        packs = self.clone.objects_folder / "pack"
        if any(packs.glob("*.promisor")) and missing_files(self.clone, commit, *paths):
            raise CannotRun(
                f"{self.name} is a partial clone and lacks files of {commit[:12]}",
                where=self.name,
                hint=f"fill it: git -C {argument(self.name)} fetch --refetch --no-filter origin "
                f"{commit}; or use --source git",
            )

    def bring_history(self, start: Oid, end: Oid, since: str) -> None:
        """Do nothing: the clone's history is in the store."""

    def bring_past(self, commit: Oid, since: str) -> None:
        """Do nothing: the clone's history is in the store."""

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        if self.repo.lacks(blobs):
            raise CannotRun(
                f"{self.name} is a partial clone and lacks files of upstream's history",
                where=self.name,
                hint="use --source git, or a full clone",
            )

    def has_history(self, start: Oid, end: Oid) -> bool:
        return self.repo.descends(end, start)

    def commits(self, commit: Oid) -> Store:
        if not self.repo.has(commit):
            raise CannotRun(f"{self.name} does not hold the commit {commit}", where=self.name)
        if self.repo.history_is_whole(commit):
            return self.repo
        reason = ""
        if self._url:
            try:
                return Remote("git", self._url, self._settings, self._progress).commits(commit)
            except FixtoolError as error:
                reason = f"; and {error.message}"
        remote = _remote_of(self.clone, self._url)
        unshallow = (
            f"git -C {argument(self.name)} fetch --unshallow --filter=blob:none {argument(remote)}"
        )
        other = "name a whole clone: --source CLONE" if reason else "use --source git"
        raise CannotRun(
            f"{self.name} is a shallow clone, so fixtool cannot tell which upstream commits "
            f"{commit[:12]} holds{reason}",
            where=self.name,
            hint=f"{unshallow}; or {other}" if remote else other,
        )


class Remote:
    """A repository that git reaches over a URL. Only the wanted commits are fetched, one deep and
    without blobs; a checkout or merge then fetches the blobs it needs in one batch."""

    def __init__(
        self, name: str, url: str, settings: Settings, progress: Progress, known: Sequence[Oid] = ()
    ) -> None:
        self.name = name
        self.url = public_url(url)
        self._address = check_url(url)  # it may hold a login
        self._timeout = settings.timeout
        self._has_index = (settings.project or (settings.profile or SGLANG).project) is not None
        place = remote_store(settings, url)
        self.repo = Store.create(place, online=True, timeout=self._timeout)
        self.repo.log_in(url)
        self._progress = progress
        self._known = known

    def resolve(self, ref: str) -> Target:
        check_ref(ref)
        commit = self.ensure(Oid(ref) if is_full_sha(ref) else self._look_up(ref))
        return Target(ref, commit, self.repo.tree_id(commit), self.name, version_of(ref))

    def ensure(self, commit: Oid) -> Oid:
        if not self.repo.has(commit):
            with self._fetching(f"{commit[:12]} from {self.url}") as task:
                if self.repo.has(commit):
                    return commit  # another run has fetched it meanwhile
                out = self.repo.fetch(self.url, [commit], advance=task.advance)
            if out.status != 0 or not self.repo.has(commit):
                raise self._fetch_error(commit[:12], out, self._other(commit))
        return commit

    def bring(self, commit: str, paths: Iterable[str]) -> None:
        with self._fetching(f"files of {commit[:12]} from {self.url}"):
            out = self.repo.fetch_files(commit, *sorted(set(paths)))
        if out.status != 0:
            raise self._fetch_error(f"files of {commit[:12]}", out, self._other(commit))

    def bring_history(self, start: Oid, end: Oid, since: str) -> None:
        if self.repo.descends(end, start):
            return
        day = date.fromisoformat(since) - timedelta(days=2)  # time zones, and clocks that were off
        with self._fetching(f"upstream's history since {day}"):
            if self.repo.descends(end, start):
                return
            out = self.repo.fetch_history(self.url, [start, end], day.isoformat())
        if out.status != 0:
            raise self._fetch_error(f"the history of {end[:12]}", out, self._other(end))

    def bring_past(self, commit: Oid, since: str) -> None:
        with self._progress.task(f"fetching upstream's history since {since}"):
            out = self.repo.fetch_history(self.url, [commit], since)
        if out.status != 0:
            raise self._fetch_error(f"the history of {commit[:12]}", out, self._other(commit))

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        with self._fetching(f"files of {self.url}'s history"):
            out = self.repo.fetch_blobs(self.repo.lacks(blobs))
        if out.status != 0:
            raise self._fetch_error("files", out, None)

    @contextmanager
    def _fetching(self, what: str) -> Iterator[Task]:
        """Be the only run that fetches into the store: git gives up if two want to change which
        commits are shallow. What another run fetched meanwhile is to be looked for in the block."""
        place = self.repo.git_dir / "fixtool.lock"
        with (
            self._progress.task(f"fetching {what}") as task,
            lock(place, f"the store of {self.url}", _PATIENCE),
        ):
            yield task

    def has_history(self, start: Oid, end: Oid) -> bool:
        return self.repo.descends(end, start)

    def commits(self, commit: Oid) -> CommitStore:
        store = self._commit_store
        if store.has(commit):
            return store
        what = f"the commits of {self.url}"
        with (
            self._progress.task(f"fetching {what}") as task,
            lock(store.git_dir / "fixtool.lock", what, _PATIENCE),
        ):
            if not store.has(commit):  # another run may have fetched it meanwhile
                try:
                    out = store.fetch_commit(self.url, commit, lambda _: task.advance(1))
                except CannotRun as error:
                    clone = f"git clone --bare {argument(self.url)} CLONE"
                    hint = f"{clone}, then the same command with --source CLONE"
                    raise CannotRun(error.message, where=self.url, hint=hint) from error
                if out.status != 0 or not store.has(commit):
                    what = f"the commits before {commit[:12]}"
                    raise self._fetch_error(what, out, self._other(commit))
        return store

    @cached_property
    def _commit_store(self) -> CommitStore:
        path = self.repo.git_dir.with_name(f"{self.repo.git_dir.stem}-commits.git")
        store = CommitStore.create(path, online=True, timeout=self._timeout)
        store.log_in(self._address)
        return store

    def _other(self, ref: str) -> str:
        """What to try where ``ref`` cannot be fetched. A plain project may be on no index."""
        return _other_source(ref, has_index=self._has_index)

    def _fetch_error(self, what: str, out: Output, hint: str | None) -> CannotRun:
        message = f"cannot fetch {what} from {self.url}: {redact(out.complaint)}"
        if "not our ref" in out.complaint and re.fullmatch("[0-9a-f]{12}", what):
            message = f"{self.url} has no commit {what}: {redact(out.complaint)}"
        return CannotRun(message, where=self.url, hint=hint)

    def _look_up(self, ref: str) -> Oid:
        """The commit of a ref that is not a full sha: only the remote's branches and tags, and the
        known commits, can be searched."""
        matches = [commit for commit in self._known if commit.startswith(ref)]
        if is_short_sha(ref) and matches:
            return only_commit(ref, matches, self.url)
        try:
            refs = self.repo.remote_refs(self.url)
        except CannotRun as error:
            raise CannotRun(error.message, where=self.url, hint=self._other(ref)) from error
        with suppress(OSError):
            write_atomically(self.repo.git_dir / KEPT_REFS, "\n".join(refs))
        if commit := named_commit(ref, refs):
            return commit
        if is_short_sha(ref):
            if tips := sorted({tip for tip in refs.values() if tip.startswith(ref)}):
                return only_commit(ref, tips, self.url)
            raise UnknownRef(
                f"{ref} is a short commit id, and {self.url} can only be asked for all 40 digits",
                where=self.url,
                hint="give the full id, or --source PATH, a clone that has the history",
            )
        raise unknown_ref(
            f"{self.url} has no tag or branch {ref!r}", ref, list(refs), where=self.url,
            hint=f"git ls-remote {argument(self.url)} {argument(f'*{ref}*')}",
        )  # fmt: skip


class Releases:
    """The project's releases on the package index. Each is imported as a commit whose id depends on
    its content alone."""

    name = "pypi"

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        layout = "" if settings.release_root else "-top"  # the same wheel makes two commits
        self.repo = Store.create(settings.stores / f"pypi-{settings.indexed}{layout}.git")

    def resolve(self, ref: str) -> Target:
        version = version_of(check_ref(ref))
        if version is None:
            raise UsageError(
                f"{ref!r} is not a release, and --source pypi has nothing else",
                hint="the same command with --source git",
            )
        release = self.release(version)
        return Target(ref, release.commit, release.tree, self.name, version, release)

    def release(self, version: str) -> Release:
        """The release as a commit in the store, downloaded if it was never imported."""
        # Imported here because it loads zip and index code that only releases need.
        from fixtool.sources.release import import_release

        return import_release(version, self.repo, self._settings, self._progress)

    def ensure(self, commit: Oid) -> Oid:
        if not self.repo.has(commit):
            raise CannotRun(
                f"{commit[:12]} is not a release commit",
                hint="use --source git, or --source PATH, a clone",
            )
        return commit

    def bring(self, commit: str, paths: Iterable[str]) -> None:
        """Do nothing: an imported release is whole."""

    def bring_history(self, start: Oid, end: Oid, since: str) -> None:  # noqa: ARG002
        raise UsageError("releases on the package index have no history between them")

    def bring_past(self, commit: Oid, since: str) -> None:
        """Do nothing: a release has no commits before it."""

    def bring_blobs(self, blobs: Sequence[Oid]) -> None:
        """Do nothing: an imported release is whole."""

    def has_history(self, start: Oid, end: Oid) -> bool:  # noqa: ARG002
        """Return False: releases have no commits between them."""
        return False

    def commits(self, commit: Oid) -> None:
        """Return None: a release has no commits."""


def _other_source(ref: str, *, has_index: bool = False) -> str:
    """The hint for a ref that cannot be fetched, which fits any command with a --source."""
    clone = "the same command with --source PATH, a clone on this machine"
    indexed = has_index and version_of(ref)
    return f"{clone}; or --source pypi, where a release will do" if indexed else clone


def remotes(clone: Repo) -> dict[str, str]:
    """The name and the address of each remote of a clone. The address may hold a login."""
    out = clone.run("config", "--null", "--get-regexp", r"^remote\..*\.url$", accept=None)
    entries = (entry.partition("\n") for entry in out.text.split("\0") if entry)
    return {key[len("remote.") : -len(".url")]: address for key, _, address in entries}


def _remote_of(clone: Repo, url: str) -> str:
    """What `git fetch` in ``clone`` has to be given to reach upstream: the name of the remote with
    this ``url``, else origin, else any other remote, else the URL."""
    urls = remotes(clone)
    names = [name for name, address in urls.items() if public_url(address) == public_url(url)]
    names += ["origin"] if "origin" in urls else [*urls]
    return names[0] if names else public_url(url)


def remote_store(settings: Settings, url: str) -> Path:
    """The store of the remote at ``url``."""
    shown = public_url(url)
    return _store(settings, _folder_name(shown), shown)


def _store(settings: Settings, name: str, identity: str) -> Path:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return settings.stores / f"{name}-{digest}.git"


def _folder_name(url: str) -> str:
    words = url.split("://")[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")[:60]
