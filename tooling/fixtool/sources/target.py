"""The commit that a command works on, and the base of a line beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from fixtool.errors import CannotRun, Mistyped, UsageError
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.profile import PLAIN, SGLANG, Profile, repository_key
from fixtool.progress import Progress
from fixtool.series.context import Context
from fixtool.series.line import Line, Upstream
from fixtool.settings import Settings
from fixtool.sources.resolve import Target, UnknownRef, version_of
from fixtool.sources.source import Local, Releases, Source, open_source, remotes
from fixtool.text import public_url

_NEWEST = ("main", "master")


@dataclass(frozen=True)
class TargetRequest:
    """The commit that a user asked for. ``ref`` None means the line's own base, or with ``newest``
    upstream's newest commit; ``source`` None the one of the settings, or else the line's; ``line``
    None any line."""

    ref: str | None = None
    source: str | None = None
    line: str | None = None
    newest: bool = field(default=False, kw_only=True)

    @property
    def named(self) -> str | None:
        """The ref as messages call it."""
        return self.ref or (_NEWEST[0] if self.newest else None)


def find_target(context: Context, request: TargetRequest) -> tuple[Source, Target]:
    """The source that ``request`` names, and what its ref means there. The target says of which
    lines its upstream is, if the repository has lines of several upstreams.

    Raises UsageError if there is no ref and the repository has several lines, or if several
    upstreams have the ref and no line is named.
    """
    settings = context.settings
    wanted = request.line or settings.line
    lines = [context.repository.line(wanted)] if wanted else list(context.repository.lines)
    if request.named is None and len(lines) != 1:
        names = ", or ".join(f"--line {line.name}" for line in lines)
        raise UsageError(
            f"neither a commit nor a line is named, and there are {len(lines)} lines: "
            + ", ".join(line.name for line in lines),
            where=str(context.repository.folder),
            hint=f"choose a line: {names}; or name a commit: --ref REF",
        )
    groups = _by_upstream(settings, lines)
    if len(groups) > 1 and (name := request.source or settings.source) and name != "git":
        groups = _of_source(context, name, groups) or [lines]
    if len(groups) == 1:
        return _resolve(context, request, groups[0], whole=len(groups[0]) == len(lines))
    return _only_one(context, request, groups)


def _by_upstream(settings: Settings, lines: Sequence[Line]) -> list[list[Line]]:
    """The lines, those of one upstream together. An address in the settings is that of all."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        key = repository_key(public_url(settings.url or line.upstream.url))
        groups.setdefault(key, []).append(line)
    return list(groups.values())


def _of_source(context: Context, name: str, groups: Sequence[list[Line]]) -> list[list[Line]]:
    """Those of ``groups`` whose upstream is the source called ``name``, as its address says, or the
    addresses of a clone's remotes, or last the bases of lines that a clone holds. For the package
    index, those that have a release."""
    if name == "pypi":
        return [group for group in groups if any(line.upstream.release for line in group)]
    source = open_source(name, context.settings, "", context.progress)
    if isinstance(source, Local):
        return _of_clone(source, groups)
    key = repository_key(source.name)
    return [group for group in groups if repository_key(group[0].upstream.url) == key]


def _of_clone(source: Local, groups: Sequence[list[Line]]) -> list[list[Line]]:
    urls = (*remotes(source.clone).values(), source.name)
    keys = {repository_key(public_url(url)) for url in urls}
    named = [group for group in groups if repository_key(group[0].upstream.url) in keys]
    held = source.clone
    return named or [
        group for group in groups if any(held.commit_id(line.upstream.base) for line in group)
    ]


def lines_of_clone(context: Context, source: Local) -> tuple[str, ...]:
    """The names of the lines whose upstream the clone is of; none if all lines are, or if that
    cannot be told."""
    groups = _by_upstream(context.settings, context.repository.lines)
    of_clone = _of_clone(source, groups) if len(groups) > 1 else []
    return tuple(line.name for line in of_clone[0]) if len(of_clone) == 1 else ()


def _resolve(
    context: Context, request: TargetRequest, lines: Sequence[Line], *, whole: bool
) -> tuple[Source, Target]:
    """What the ref means in the upstream of ``lines``; ``whole`` if these are all lines."""
    upstreams = [line.upstream for line in lines]
    first = upstreams[0]
    name = request.source or source_name(context.settings, upstreams, request.named)
    known = [upstream.base for upstream in upstreams if not upstream.release]
    settings = first.settings(context.settings)
    source = open_source(name, settings, settings.url or first.url, context.progress, known)
    if request.newest and request.ref is None:
        target = newest_commit(source)
    else:
        target = source.resolve(request.ref or first.release or first.base)
    return source, target if whole else replace(target, lines=tuple(line.name for line in lines))


def _only_one(
    context: Context, request: TargetRequest, groups: Sequence[Sequence[Line]]
) -> tuple[Source, Target]:
    """What the ref means in the only one of several upstreams that has it."""
    ref = request.named or ""
    found: list[tuple[Sequence[Line], tuple[Source, Target]]] = []
    missing: list[CannotRun] = []
    for lines in groups:
        try:
            found.append((lines, _resolve(context, request, lines, whole=False)))
        except UnknownRef as error:
            missing.append(error)
        except CannotRun as error:
            if not is_full_sha(ref):  # this upstream may have another commit of that name
                others = (line for group in groups if group is not lines for line in group)
                hint = (
                    f"name a line of another upstream: {context.again('--line', next(others).name)}"
                )
                raise CannotRun(error.message, where=error.where, hint=hint) from error
            missing.append(error)
    if not found:
        reasons = "; ".join(dict.fromkeys(error.message for error in missing))
        known = [name for error in missing if error.mistyped for name in error.mistyped.names]
        raise CannotRun(
            f"no upstream of this repository has {ref!r}: {reasons}",
            where=str(context.repository.folder),
            hint="fixtool list",
            mistyped=Mistyped(ref, tuple(known)),
        )
    if len({target.commit for _, (_, target) in found}) == 1:
        source, target = found[0][1]
        return source, replace(
            target, lines=tuple(name for _, (_, same) in found for name in same.lines)
        )
    places = " and ".join(
        f"{target.commit[:12]} of {lines[0].upstream.url}" for lines, (_, target) in found
    )
    commands = "; or ".join(context.again("--line", lines[0].name) for lines, _ in found)
    raise UsageError(f"{ref!r} is in {len(found)} upstreams: {places}", hint=commands)


def newest_commit(source: Source) -> Target:
    """Upstream's newest commit: that of its branch main, or of master if it has no main. Raises
    UnknownRef if it has neither."""
    main, master = _NEWEST
    try:
        return source.resolve(main)
    except UnknownRef:
        with suppress(UnknownRef):
            return source.resolve(master)
        raise


def line_source(settings: Settings, upstream: Upstream) -> str:
    """Where the base of a line comes from if the user names no source: a release from the package
    index, a commit from the source of the settings, or else from git."""
    return "pypi" if upstream.release else settings.source or "git"


def source_name(settings: Settings, upstreams: Iterable[Upstream], ref: str | None) -> str:
    """The source of ``ref`` if the user names none: that of the settings, or else the lines' own. A
    release comes from the package index if a line is for it, or if all lines are for releases."""
    releases = [upstream.release for upstream in upstreams]
    version = None if ref is None else version_of(ref)
    wanted = version in releases if version else False
    release = wanted or (all(releases) and (ref is None or version is not None))
    return settings.source or ("pypi" if release else "git")


def commit_source(settings: Settings) -> str:
    """The source of commits if the user names none. The package index has none."""
    return "git" if settings.source in (None, "pypi") else settings.source


def upstream_url(context: Context, line: str | None) -> str:
    """The address of upstream: the one of the settings, or else of ``line``, or else of any line.
    It is empty if there is no line."""
    settings = context.settings
    name = line or settings.line
    lines = [context.repository.line(name)] if name else context.repository.lines
    return settings.url or next((line.upstream.url for line in lines), "")


def profile_of(settings: Settings, upstream: Upstream, repo: Repo, commit: str) -> Profile:
    """The profile of a line's upstream: the one that the line or the settings name, or that its
    address tells, or else that of the tree of ``commit``."""
    return upstream.settings(settings).profile or profile_of_tree(repo, commit)


def profile_of_tree(repo: Repo, commit: str) -> Profile:
    """SGLang's profile if the tree of ``commit`` holds SGLang's package, else the plain one."""
    with suppress(CannotRun):
        if SGLANG.package and list_tree(repo, commit, SGLANG.package):
            return SGLANG
    return PLAIN


def python_folder(repo: Repo, commit: str) -> str:
    """The folder of a tree from which Python imports, and of which alone trees are laid out:
    ``python`` if the tree of ``commit`` has it, else nothing, which is the whole tree."""
    kind = repo.run("cat-file", "-t", f"{commit}:python", accept=None).text
    return "python" if kind == "tree" else ""


def bring_base(source: Source, upstream: Upstream, settings: Settings, progress: Progress) -> Oid:
    """Make the base of a line readable from the store of ``source``, and return it.

    If the base is a release, it comes from the package index wherever the target comes from.
    Raises CannotRun if it cannot be had, or is not the commit that the line was written against.
    """
    if source.repo.has(upstream.base):
        return upstream.base
    if upstream.release is None:
        return source.ensure(upstream.base)
    releases = Releases(upstream.settings(settings), progress)
    release = releases.release(upstream.release)
    if release.commit != upstream.base:
        raise CannotRun(
            f"release {upstream.release} is commit {release.commit[:12]} here, but the line was "
            f"written against {upstream.base[:12]}",
            hint="the release's files changed, or upstream.toml was edited: look before you go on",
        )
    source.repo.borrow(releases.repo)
    return upstream.base
