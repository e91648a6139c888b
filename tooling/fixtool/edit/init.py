"""Starting a patch repository, or a line in one."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from fixtool.errors import UsageError
from fixtool.files import temporary_folder, write_atomically
from fixtool.git.names import check_url
from fixtool.profile import (
    PLAIN,
    SGLANG,
    Profile,
    profile_of_url,
    repository_key,
    repository_name,
)
from fixtool.progress import Progress
from fixtool.series.commit import advice_to_track
from fixtool.series.line import Line, Upstream, read_line
from fixtool.series.patch import is_slug, slugify
from fixtool.series.write import rewrite, upstream_toml
from fixtool.settings import Settings, check_project, load
from fixtool.sources.resolve import Target, day_of, version_of
from fixtool.sources.source import Local, Source, open_source, remotes
from fixtool.sources.target import profile_of_tree
from fixtool.text import public_url

_SERIES = "# One patch file a line, in the order in which they apply; quilt reads this file too.\n"
_FILES = {
    ".gitattributes": "# Patch files are data: no tool may touch their bytes.\npatches/** -text\n",
    ".gitignore": "patches/.lock\n",
}
_TEMPLATES = Path(__file__).with_name("templates")
_PROBES = {"README.md": "probes.md", "example.py": "example_probe.py"}


@dataclass(frozen=True)
class InitRequest:
    """What the user asked for. ``upstream`` is an address, the path of a clone, or ``pypi``;
    ``base`` a ref there. ``url`` is upstream's address if ``upstream`` does not give it, and
    ``project`` its name on the package index. ``line`` None is named after the base."""

    folder: Path
    upstream: str
    base: str
    line: str | None = None
    why: str = ""
    url: str | None = None
    project: str | None = None
    wheel_version: str | None = None


@dataclass(frozen=True)
class NewLine:
    """The line that was made. ``recognised`` says by what its profile was recognised; ``notes``
    are what the user should know of the line, one sentence each."""

    line: Line
    profile: Profile
    recognised: str
    notes: tuple[str, ...] = ()


def init(request: InitRequest, progress: Progress, typed: Sequence[str] = ()) -> NewLine:
    """Make ``patches/<line>/`` with an empty series on the base, and an example probe in
    ``verify/``. Existing files, and an existing verify/, are kept. ``typed`` are the words of the
    command, for the messages that tell how to go on.

    Raises UsageError if the line exists, or if upstream's address is not known.
    """
    if (version := request.wheel_version) and version_of(version) != version:
        raise UsageError(f"--wheel-version {version!r} is not a release such as 0.5.23")
    if request.project:
        check_project(request.project, "--project")
    settings = load(request.folder if request.folder.is_dir() else None)
    settings, asked = _settings(settings, request, typed)
    source = open_source(request.upstream, settings, request.url or request.upstream, progress)
    url, notes = _url(source, request, typed)
    target = source.resolve(request.base)
    profile, recognised = asked or _recognise(source, target, url)
    about = _about(target, source, url, request.wheel_version)
    name = request.line or (f"v{about.release}" if about.release else target.commit[:9])
    if not is_slug(name):
        raise UsageError(
            f"{name!r} cannot be the name of a line, which is a folder of patches/",
            hint=f"--line {slugify(name)}",
        )
    line = request.folder / "patches" / name
    if line.exists():
        raise UsageError(f"line {name} exists already", where=str(line), hint="--line OTHER-NAME")
    first = target.version or target.commit[:12]
    why = request.why or f"patches on {repository_name(url)}, first written for {first}"
    project = request.project if request.project != profile.project else None
    _write_files_around(request.folder, profile, project)
    own = load(request.folder)
    about = replace(
        about,
        profile=None if own.profile is profile else profile.name,
        project=None if own.project == project else project,
    )
    # The line comes last: once it is there, the same command is refused.
    rewrite(line, {"series": _SERIES.encode(), "upstream.toml": upstream_toml(about, why).encode()})
    untracked = advice_to_track(request.folder)
    notes = (*notes, *([untracked] if untracked else []))
    return NewLine(read_line(line), profile, recognised, notes)


def _settings(
    settings: Settings, request: InitRequest, typed: Sequence[str]
) -> tuple[Settings, tuple[Profile, str] | None]:
    """The settings with which the base is looked up, and the profile if the project's name on the
    package index tells it. Raises UsageError for a release of a project whose address is missing.
    """
    if request.upstream != "pypi":
        return replace(settings, project=request.project, profile=None), None
    name = request.project or settings.project or (settings.profile or SGLANG).project
    profile = SGLANG if name == SGLANG.project else PLAIN
    if profile is PLAIN and request.url is None:
        raise UsageError(
            "the package index does not say for certain in which repository "
            f"{name or 'the project'} is developed",
            hint=shlex.join(["fixtool", *typed, "--url", "URL"]),
        )
    chosen = replace(settings, project=name, profile=profile)
    return chosen, (profile, f"the project is called {name}")


def _url(source: Source, request: InitRequest, typed: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Upstream's address without a login, and what should be said of it. That of a clone is the one
    of its remote. Raises UsageError if its remotes name several upstreams."""
    if request.url:
        return public_url(check_url(request.url)), ()
    if not isinstance(source, Local):
        known = SGLANG.url if request.upstream == "pypi" else None
        return known or public_url(request.upstream), ()
    addresses = {name: _absolute(url, source) for name, url in remotes(source.clone).items()}
    named = [addresses[name] for name in ("upstream", "origin") if name in addresses]
    again = ["fixtool", *typed, "--url"]
    if len({repository_key(url) for url in named}) > 1:
        commands = "; or ".join(shlex.join([*again, url]) for url in named)
        raise UsageError(
            f"each remote of {source.name} may be upstream: {' and '.join(named)}",
            where=source.name,
            hint=commands,
        )
    if named:
        return named[0], ()
    note = (
        f"the clone {source.name} has no remote, so the line names the clone itself as its "
        f"upstream; to name another: {shlex.join([*again, 'URL'])}"
    )
    return f"file://{quote(source.name)}", (note,)


def _absolute(url: str, source: Local) -> str:
    """The address of a remote without a login. A path becomes an address that holds anywhere."""
    if "://" in url or re.match(r"[\w.-]+@[\w.-]+:|[\w.-]+:(?!/)", url):
        return public_url(url)
    return f"file://{quote(str((Path(source.name) / url).resolve()))}"


def _recognise(source: Source, target: Target, url: str) -> tuple[Profile, str]:
    """The profile of upstream, and by what it is recognised."""
    package = SGLANG.package
    if profile_of_tree(source.repo, target.commit) is SGLANG:
        return SGLANG, f"the tree holds {package}/"
    if profile_of_url(url) is SGLANG:
        return SGLANG, f"its address is {url}"
    return PLAIN, "fixtool knows no more of this project than git does"


def _about(target: Target, source: Source, url: str, wheel_version: str | None) -> Upstream:
    release = target.version if target.release else None
    return Upstream(
        url=url,
        base=target.commit,
        tree=target.tree,
        release=release,
        version=release or wheel_version or target.version or "0.0.0",
        date=day_of(target, source.repo),
    )


def _write_files_around(folder: Path, profile: Profile, project: str | None) -> None:
    """Write the files of a new patch repository that are not there yet, each whole or not at all:
    those that a run wrote which then failed are kept by the next one."""
    folder.mkdir(parents=True, exist_ok=True)
    table = f'[tool.fixtool]\nprofile = "{profile.name}"\n'
    table += f'project = "{project}"\n' if project else ""
    for file, text in {**_FILES, "pyproject.toml": table}.items():
        if not (folder / file).exists():
            write_atomically(folder / file, text)
    if not (folder / "verify").exists():
        with temporary_folder(".verify.new-", folder) as scratch:
            (scratch / "verify/probes").mkdir(parents=True)
            for file, template in _PROBES.items():
                shutil.copyfile(_TEMPLATES / template, scratch / "verify/probes" / file)
            (scratch / "verify").rename(folder / "verify")
