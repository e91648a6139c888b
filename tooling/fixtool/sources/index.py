"""The package index: what wheels a release has, and fetching one of them, verified.

The user's pip configuration is honoured, because it is where mirrors, proxies and certificates of a
company are already written down. pypi_simple (with requests) is imported inside functions: it costs
0.4 s, and only a cold download should pay. No address of any index is written here.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from fixtool.errors import CannotRun, UsageError
from fixtool.files import lock
from fixtool.progress import Progress, Silence, Task

if TYPE_CHECKING:
    import requests
    from pypi_simple import ProjectPage

_CHUNK = 1 << 16  # bytes; of a broken transfer, all but the last chunk is kept
_SECTIONS = ("global", "install", "download", ":env:")  # pip's order: each wins over the one before
_ANOTHER_WAY = (
    "use a local clone: fixtool apply --source PATH --sglang-ref REF; or name a mirror with "
    "PIP_INDEX_URL=URL, or a folder of wheels with PIP_FIND_LINKS=DIR"
)


@dataclass(frozen=True)
class WheelFile:
    """One wheel that an index or a folder offers. ``size`` is in bytes; ``tags`` are strings such
    as cp311-cp311-manylinux_2_34_x86_64."""

    filename: str
    url: str
    sha256: str | None
    size: int | None
    version: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class PipConfig:
    """What pip would use. ``timeout`` is in seconds, for a connection and for each read."""

    indexes: tuple[str, ...]
    links: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: float = 15.0
    trusted: tuple[str, ...] = ()


@dataclass
class _Listing:
    wheels: dict[str, WheelFile] = field(default_factory=dict)  # by file name, the first one wins
    sdists: set[Version] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    @property
    def versions(self) -> set[Version]:
        return {Version(wheel.version) for wheel in self.wheels.values()}


def pip_config(environment: Mapping[str, str] = os.environ) -> PipConfig:
    """pip's own configuration; ``PIP_*`` alone where this interpreter has no pip."""
    return _pip_config(tuple(sorted(environment.items())))


@lru_cache(maxsize=1)  # pip takes 0.4 s to say it
def _pip_config(environment: tuple[tuple[str, str], ...]) -> PipConfig:
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    process = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "config", "list"],
        capture_output=True, text=True, env=dict(environment), check=False,
    )  # fmt: skip
    if process.returncode == 0:
        for line in process.stdout.splitlines():
            if (match := re.fullmatch(r"(.+?)\.([a-z-]+)=('.*'|\".*\")", line)) and match[
                1
            ] in found:
                found[match[1]][match[2]] = str(ast.literal_eval(match[3]))
    else:
        for name, value in environment:
            if name.startswith("PIP_"):
                found[":env:"][name[4:].lower().replace("_", "-")] = value
    options: dict[str, str] = {}
    for section in _SECTIONS:
        options |= found[section]
    indexes: tuple[str, ...] = ()
    if options.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        indexes = (options.get("index-url") or _default_index(),)
        indexes += tuple(options.get("extra-index-url", "").split())
    try:
        timeout = float(options.get("timeout") or options.get("default-timeout") or 15)
    except ValueError:
        timeout = 15.0
    return PipConfig(
        indexes=tuple(dict.fromkeys(indexes)),
        links=tuple(options.get("find-links", "").split()),
        cert=options.get("cert"),
        client_cert=options.get("client-cert"),
        proxy=options.get("proxy"),
        timeout=timeout,
        trusted=tuple(options.get("trusted-host", "").split()),
    )


def _default_index() -> str:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return PYPI_SIMPLE_ENDPOINT


def versions(project: str) -> tuple[str, ...]:
    """Every version that has a wheel, oldest first. CannotRun where no index can be reached."""
    listing = _list(project)
    if not listing.wheels and listing.failures:
        raise _unreachable(listing)
    return tuple(str(version) for version in sorted(listing.versions))


def find(project: str, version: str | None = None) -> tuple[WheelFile, ...]:
    """The wheels of one release (None: the newest that is no pre-release), sorted by file name.

    Raises CannotRun for an unknown version (naming its neighbours), for a release without wheels,
    and where no index could be reached.
    """
    wanted = None if version is None else parse_version(version)
    listing = _list(project)
    if wanted is None:
        final = [one for one in listing.versions if not one.is_prerelease]
        wanted = max(final or listing.versions, default=None)
    found = [one for one in listing.wheels.values() if Version(one.version) == wanted]
    if found:
        return tuple(sorted(map(_with_hash, found), key=lambda wheel: wheel.filename))
    if listing.failures:
        raise _unreachable(listing)
    if wanted is None:
        raise CannotRun(f"no index has a wheel of {project}", hint=_ANOTHER_WAY)
    if wanted in listing.sdists:
        raise CannotRun(
            f"{project} {wanted} has no wheel, only a source archive",
            hint=f"use the git tag: fixtool apply --source git --sglang-ref v{wanted}",
        )
    known = sorted(listing.versions)
    at = bisect(known, wanted)
    near = ", ".join(str(one) for one in known[max(0, at - 3) : at + 3]) or "none"
    raise CannotRun(
        f"{project} has no release {wanted}; the nearest are: {near}",
        hint="name one of these with --sglang-ref",
    )


def parse_version(text: str) -> Version:
    """A PEP 440 version; UsageError where ``text`` is none."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UsageError(
            f"{text!r} is not a release", hint="give a version such as 0.5.23"
        ) from error


def choose(wheels: Sequence[WheelFile], python_tags: Sequence[str]) -> WheelFile:
    """The wheel that an interpreter with these tags (best first) would install; where none fits,
    the first by file name, for the Python files are the same in all."""
    return fitting(wheels, python_tags) or min(wheels, key=lambda wheel: wheel.filename)


def fitting(wheels: Sequence[WheelFile], python_tags: Sequence[str]) -> WheelFile | None:
    """The wheel that an interpreter with these tags (best first) would install, if any."""
    rank = {tag: place for place, tag in reversed(list(enumerate(python_tags)))}
    ranked = [
        (min(rank[tag] for tag in wheel.tags if tag in rank), wheel.filename, wheel)
        for wheel in wheels
        if any(tag in rank for tag in wheel.tags)
    ]
    return min(ranked, key=lambda one: one[:2])[2] if ranked else None


def fetch(wheel: WheelFile, folder: Path, progress: Progress | None = None) -> Path:
    """The verified wheel at ``<folder>/<sha256>/<filename>``, downloaded if it is not there.

    What a broken transfer left in ``<filename>.part`` is resumed. Raises CannotRun; a file with a
    wrong hash is removed.
    """
    if wheel.sha256 is None:
        raise CannotRun(
            f"the index gives no sha256 for {wheel.filename}, so it cannot be verified",
            where=shown(wheel.url),
            hint="download it yourself and name its folder with PIP_FIND_LINKS=DIR",
        )
    target = folder / wheel.sha256 / wheel.filename
    part = target.with_name(f"{wheel.filename}.part")
    with _writing(target):
        if target.is_file() and sha256_of(target) == wheel.sha256:
            return target
        with lock(target.with_name(".lock"), f"the download of {wheel.filename}"):
            if target.is_file() and sha256_of(target) == wheel.sha256:
                return target  # another run was first
            _transfer(wheel, part, progress or Silence())
            if (actual := sha256_of(part)) != wheel.sha256:
                part.unlink()
                raise CannotRun(
                    f"{wheel.filename} is not what the index promised: its sha256 is {actual}, "
                    f"promised was {wheel.sha256}",
                    where=shown(wheel.url),
                    hint="run the same command again; if it stays, the mirror is broken or hostile",
                )
            part.replace(target)
    return target


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(url: str) -> str:
    """``url`` for people and files: without the password that a mirror's address may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotRun(
            f"cannot keep {path.name}: {error.strerror or error}",
            where=str(path.parent),
            hint="make room there, or choose another place with FIXTOOL_CACHE_DIR, and run again",
        ) from error


class _Client:
    """requests, set up as pip would be."""

    def __init__(self, config: PipConfig) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.config = config
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=2))

    def get(self, url: str, headers: dict[str, str], *, stream: bool = False) -> requests.Response:
        config = self.config
        parts = urlsplit(url)
        # Given with each request: as session settings they would lose to REQUESTS_CA_BUNDLE and
        # HTTPS_PROXY, which pip puts behind its own options.
        return self.session.get(
            url,
            headers=headers,
            stream=stream,
            timeout=config.timeout,
            cert=config.client_cert,
            verify=(not {parts.hostname, parts.netloc} & set(config.trusted))
            and (config.cert or True),
            proxies={"http": config.proxy, "https": config.proxy} if config.proxy else None,
        )


def _list(project: str) -> _Listing:
    """All that every configured place offers of ``project``; one that fails is only noted."""
    import pypi_simple
    import requests

    config = pip_config()
    client = _Client(config)
    listing = _Listing()
    name = canonicalize_name(project)
    places = [_as_url(link) for link in config.links]
    places += [f"{_as_url(index).rstrip('/')}/{name}/" for index in config.indexes]
    for place in places:
        try:
            if urlsplit(place).scheme == "file":
                _list_folder(listing, name, place)
                continue
            response = client.get(place, {"Accept": pypi_simple.ACCEPT_ANY})
            if response.status_code != 404:  # an index that lacks the project is no failure
                response.raise_for_status()
                _list_page(listing, name, pypi_simple.ProjectPage.from_response(response, name))
        except (requests.RequestException, OSError, ValueError) as error:
            listing.failures.append(f"{shown(place)} ({_reason(error)})")
        except pypi_simple.UnsupportedRepoVersionError as error:
            listing.failures.append(f"{shown(place)} ({error})")
    return listing


def _as_url(place: str) -> str:
    return place if "://" in place else Path(place).expanduser().absolute().as_uri()


def _list_folder(listing: _Listing, name: str, place: str) -> None:
    """A folder of wheels, an HTML page on this disk, or one project of an index on this disk."""
    from pypi_simple import ProjectPage

    path = Path(url2pathname(urlsplit(place).path))
    page = path / "index.html" if path.is_dir() else path
    if page.is_file():
        _list_page(listing, name, ProjectPage.from_html(name, page.read_bytes(), base_url=place))
    elif path.is_dir():
        for file in sorted(path.iterdir()):
            _add(listing, name, file.name, file.as_uri(), None, file.stat().st_size)


def _list_page(listing: _Listing, name: str, page: ProjectPage) -> None:
    for package in page.packages:
        # The link text of a find-links page may be anything; the address ends in the file's name.
        base = unquote(urlsplit(package.url).path.rpartition("/")[2])
        file_name = base if base.endswith((".whl", ".gz", ".zip")) else package.filename
        _add(listing, name, file_name, package.url, package.digests.get("sha256"), package.size)


def _add(
    listing: _Listing, name: str, file_name: str, url: str, sha256: str | None, size: int | None
) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._+!-]+", file_name):
        return  # the name becomes a path in the cache
    with suppress(InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        if file_name.endswith((".tar.gz", ".zip")):
            project, version = parse_sdist_filename(file_name)
            if project == name:
                listing.sdists.add(version)
            return
        project, version, _, tags = parse_wheel_filename(file_name)
        if project == name and (sha256 is None or re.fullmatch(r"[0-9a-f]{64}", sha256)):
            wheel = WheelFile(
                file_name, url, sha256, size, str(version), tuple(sorted(map(str, tags)))
            )
            listing.wheels.setdefault(file_name, wheel)


def _with_hash(wheel: WheelFile) -> WheelFile:
    """Files on this disk are as trusted as the disk: their hash is what it is."""
    if wheel.sha256 is not None or urlsplit(wheel.url).scheme != "file":
        return wheel
    return replace(wheel, sha256=sha256_of(Path(url2pathname(urlsplit(wheel.url).path))))


def _unreachable(listing: _Listing) -> CannotRun:
    return CannotRun(
        f"the package index cannot be reached: {'; '.join(listing.failures)}", hint=_ANOTHER_WAY
    )


def _reason(error: Exception) -> str:
    """The system's own words, for requests wraps urllib3, which wraps them in its own."""
    text = getattr(error, "strerror", None) or str(error)
    match = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", text)
    return match[1] if match else text


def _transfer(wheel: WheelFile, part: Path, progress: Progress) -> None:
    """Fill ``part`` up to the end of the file, going on from where it ends."""
    have = part.stat().st_size if part.exists() else 0
    if wheel.size is not None and have > wheel.size:
        have = 0
    if wheel.size is not None and have == wheel.size:
        return
    with progress.task(f"download {wheel.filename}", wheel.size, "B") as task:
        if urlsplit(wheel.url).scheme == "file":
            with Path(url2pathname(urlsplit(wheel.url).path)).open("rb") as source:
                _append(part, 0, iter(lambda: source.read(_CHUNK), b""), task)
        else:
            _download(wheel, part, have, task)


def _download(wheel: WheelFile, part: Path, have: int, task: Task) -> None:
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _Client(pip_config()).get(wheel.url, headers, stream=True) as response:
            if response.status_code == 416:  # the part is not a part of this file
                part.unlink()
            response.raise_for_status()
            told = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status_code != 206 or not told or int(told[1]) != have:
                have = 0
            if have:
                task.advance(have)
            _append(part, have, response.iter_content(_CHUNK), task)
    except requests.RequestException as error:
        broken = f"broke off: {_reason(error)}"
    else:
        got = part.stat().st_size
        if wheel.size is None or got >= wheel.size:
            return
        broken = f"ended after {got} of {wheel.size} bytes"
    raise CannotRun(
        f"the download of {wheel.filename} {broken}",
        where=shown(wheel.url),
        hint="run the same command again: it goes on from where it stopped",
    )


def _append(part: Path, at: int, chunks: Iterable[bytes], task: Task) -> None:
    with part.open("r+b" if at else "wb") as file:
        file.seek(at)
        for chunk in chunks:
            file.write(chunk)
            task.advance(len(chunk))
