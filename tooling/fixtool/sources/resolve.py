"""What a ref means: the commit of a sha, tag, branch or release."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from fixtool.errors import CannotRun, Mistyped, UsageError
from fixtool.git.names import check_ref, is_full_sha, is_short_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.text import argument

if TYPE_CHECKING:
    from fixtool.sources.release import Release


class UnknownRef(CannotRun):
    """The source can be read, and has no commit of that name."""


@dataclass(frozen=True)
class Target:
    """What a ref means in a source. The commit lies in the source's store. ``version`` is the
    release that the ref names, if it names one; ``release`` is set if it was imported from the
    package index. ``lines`` are the lines of patches for the upstream of this commit; none if all
    lines are, or if that is not known."""

    ref: str
    commit: Oid
    tree: Oid
    source: str
    version: str | None = None
    release: Release | None = None
    lines: tuple[str, ...] = ()


def day_of(target: Target, repo: Repo) -> str:
    """The day of a target, such as 2026-05-23: that on which the release was published, or else
    that of the commit. The commit that a release becomes bears no day of its own. ``repo`` holds
    the commit."""
    if target.release:
        return target.release.published
    return repo.read_commit(target.commit).committer.day.isoformat()


def version_of(ref: str) -> str | None:
    """The release that a ref names: ``v0.5.23`` and ``0.5.23`` are both 0.5.23."""
    try:
        return str(Version(ref.removeprefix("v"))) if re.match(r"v?\d+\.\d", ref) else None
    except ValueError:  # no version, or a number of thousands of digits
        return None


def resolve_local(repo: Repo, ref: str, where: str) -> Oid:
    """The commit that ``ref`` names in a repository with history: a sha, an unambiguous short sha,
    a tag, a branch (local, then origin's) or a release.

    Raises UsageError if ``ref`` is ambiguous or not a ref at all, and CannotRun if the repository,
    which messages call ``where``, has no such commit.
    """
    check_ref(ref)
    if is_full_sha(ref):
        if commit := repo.commit_id(ref):
            return commit
        raise UnknownRef(f"{where} does not hold the commit {ref}", where=where)
    if is_short_sha(ref) and (commits := repo.candidates(ref)):
        return only_commit(ref, commits, where)
    if ref == "HEAD" and (commit := repo.head()):
        return commit
    commits_by_name = {name: repo.commit_id(name) for name in _full_names(ref)}
    refs = {name: commit for name, commit in commits_by_name.items() if commit}
    if commit := named_commit(ref, refs):
        return commit
    known = (*repo.ref_names("refs/tags", "refs/heads", "refs/remotes/origin"),)
    look = f"git -C {argument(where)} for-each-ref --count=20 --sort=-committerdate"
    raise unknown_ref(
        f"{where} has no commit, tag, branch or release {ref!r}", ref, known, where=where,
        hint=look, fetch=_fetch(repo, where), shallow=bool(repo.shallow),
    )  # fmt: skip


def _fetch(repo: Repo, where: str) -> str | None:
    """The command that brings what the upstream of a clone has; None if it has no remote."""
    if not repo.run("remote", accept=None).text.strip():
        return None
    deepen = " --unshallow" if repo.shallow else ""
    return f"git -C {argument(where)} fetch --tags{deepen}"


def unknown_ref(
    message: str,
    ref: str,
    known: Sequence[str],
    *,
    where: str,
    hint: str,
    fetch: str | None = None,
    shallow: bool = False,
) -> UnknownRef:
    """The error for a ``ref`` that is none of the ``known`` full names. A name that is like it is
    advised as a typing mistake. But a shallow clone may lack the ref, and so may a clone that is
    older than the release: then the command ``fetch`` brings it, and another release does not."""
    names = tuple(map(short_name, known))
    wanted = version_of(ref)
    releases = {name: Version(version) for name in names if (version := version_of(name))}
    newest = max(releases, key=lambda name: releases[name], default=None)
    newer = wanted is not None and newest is not None and Version(wanted) > releases[newest]
    if newer:
        message += f"; its newest release is {newest}"
    if shallow:
        message += "; it is a shallow clone"
    if fetch and (newer or shallow):
        hint = f"bring it: {fetch}; or see what is there: {hint}"
    elif newer:
        hint = f"take the newest: the same command with {argument(newest)} instead of " + (
            f"{argument(ref)}; or see what is there: {hint}"
        )
    else:
        hint = f"see what is there: {hint}"
    mistyped = None if newer or (shallow and fetch) else Mistyped(ref, names)
    return UnknownRef(message, where=where, hint=hint, mistyped=mistyped)


def named_commit(ref: str, refs: Mapping[str, Oid]) -> Oid | None:
    """The commit that ``ref`` means among ``refs``, which maps full names to commits; None if there
    is none. Raises UsageError if a tag and a branch of that name are different commits."""
    tag, branch = refs.get(f"refs/tags/{ref}"), refs.get(f"refs/heads/{ref}")
    if tag and branch and tag != branch:
        raise UsageError(
            f"{ref!r} is both a tag ({tag[:12]}) and a branch ({branch[:12]})",
            hint="choose one: " + _instead(ref, tag, branch),
        )
    return next((refs[name] for name in _full_names(ref) if name in refs), None)


def only_commit(ref: str, commits: Sequence[Oid], where: str) -> Oid:
    """The one commit that the short sha ``ref`` means. Raises UsageError if there are several."""
    if len(set(commits)) > 1:
        ids = ", ".join(commit[:16] for commit in commits)
        raise UsageError(
            f"{ref} is short for {len(set(commits))} commits: {ids}",
            where=where,
            hint="give more digits: " + _instead(ref, *dict.fromkeys(commits)),
        )
    return commits[0]


def _instead(ref: str, *commits: Oid) -> str:
    """The commands with one of ``commits`` in the place of ``ref``."""
    ways = (f"the same command with {commit} instead of {argument(ref)}" for commit in commits[:2])
    return ", or ".join(ways)


def _full_names(ref: str) -> list[str]:
    names = [f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/origin/{ref}"]
    if version := version_of(ref):
        names += [f"refs/tags/v{version}", f"refs/tags/{version}"]
    return names


def short_name(name: str) -> str:
    """What a person types for the ref with this full name: ``v1.0`` for ``refs/tags/v1.0``."""
    return re.sub(r"^refs/(?:tags|heads|remotes/origin)/", "", name)
