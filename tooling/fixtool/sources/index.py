"""The package index: which wheels a release has, and downloading one of them, verified.

The user's pip configuration is used, because the mirrors, proxies and certificates of a company are
already written down there. No address of any index is written in this module. pypi_simple (with
requests) is imported inside functions, because it takes 0.4 s and only a download needs it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from fixtool.errors import CannotRun, Mistyped, UsageError
from fixtool.files import lock, read_at_most
from fixtool.progress import Progress, Silence, Task
from fixtool.sources.resolve import UnknownRef
from fixtool.text import public_url, redact, split_lines

if TYPE_CHECKING:
    import requests
    from pypi_simple import DistributionPackage

_CHUNK = 1 << 16  # bytes that are read at once
_PAGE = 1 << 26  # bytes that the page of a project may have
_LONGEST_TAG = 4000  # bytes
_LONGEST_NAME = 255  # characters of the name of a file
_TAG = re.compile(rb"""[^"'>]*(?:(?:"[^"]*"|'[^']*')[^"'>]*)*>""")  # after its `<`
_FLOOR = 1024  # bytes a second; what comes slower would take days
_WINDOW = 4  # of pip's timeouts: a minute, over which the speed is measured
_SECTIONS = ("global", "install", "download", ":env:")  # in pip's order: the later one wins
_ANOTHER_INDEX = (
    "name a mirror with PIP_INDEX_URL=URL, or a folder of wheels with PIP_FIND_LINKS=DIR"
)
_ANOTHER_WAY = f"use a local clone: the same command with --source PATH; or {_ANOTHER_INDEX}"


@dataclass(frozen=True)
class WheelFile:
    """One wheel that an index or a folder offers. ``size`` is in bytes; ``tags`` are strings such
    as cp311-cp311-manylinux_2_34_x86_64. ``uploaded`` is the day of its upload in UTC, such as
    2026-05-23; None if the index or folder does not give it."""

    filename: str
    url: str
    sha256: str | None
    size: int | None
    version: str
    tags: tuple[str, ...]
    uploaded: str | None = None


@dataclass(frozen=True)
class PipConfig:
    """What pip would use. ``timeout`` is in seconds, for the connection and for each read."""

    indexes: tuple[str, ...]
    links: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: float = 15.0
    trusted: tuple[str, ...] = ()


@dataclass
class _Listing:
    """What all indexes offer of a project, and which of them could not be read."""

    wheels: dict[str, WheelFile] = field(default_factory=dict)  # by file name, the first one wins
    sdists: set[Version] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    @property
    def versions(self) -> set[Version]:
        return {Version(wheel.version) for wheel in self.wheels.values()}


def pip_config(environment: Mapping[str, str] = os.environ) -> PipConfig:
    """pip's own configuration; only the ``PIP_*`` variables if this interpreter has no pip."""
    return _pip_config(tuple(sorted(environment.items())))


@lru_cache(maxsize=1)  # asking pip takes 0.4 s
def _pip_config(environment: tuple[tuple[str, str], ...]) -> PipConfig:
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    asking = [sys.executable, "-P", "-m", "pip", "config", "list"]
    with subprocess.Popen(
        asking, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(environment)
    ) as process:
        import pypi_simple  # noqa: F401 - pip takes as long to start, and this is needed next

        answer, _ = process.communicate()
    if process.returncode == 0:
        for line in split_lines(answer):
            match = re.fullmatch(r"(.+?)\.([a-z-]+)=('.*'|\".*\")", line)
            if match and match[1] in sections:
                sections[match[1]][match[2]] = _literal(match[3])
    else:
        for name, value in environment:
            if name.startswith("PIP_"):
                sections[":env:"][name[4:].lower().replace("_", "-")] = value
    options: dict[str, str] = {}
    for section in sections.values():
        options |= section
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


def _literal(text: str) -> str:
    """The value of an option as `pip config list` prints it. Raises CannotRun if it is no text: to
    pass it over could mean to ask another index than the user's."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise CannotRun(
            f"`pip config list` prints a value that cannot be read: {text[:60]}",
            hint=f"see what pip says: {sys.executable} -m pip config debug",
        ) from error


def _default_index() -> str:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return PYPI_SIMPLE_ENDPOINT


def versions(project: str) -> tuple[str, ...]:
    """Every version that has a wheel, oldest first. Raises CannotRun if no index can be reached."""
    listing = _list(project)
    if not listing.wheels and listing.failures:
        raise _unreachable(listing)
    return tuple(str(version) for version in sorted(listing.versions))


def find(project: str, version: str | None = None) -> tuple[WheelFile, ...]:
    """The wheels of one release (None: the newest that is no pre-release), sorted by file name.

    Raises CannotRun if there is no such version (with its neighbours), if the release has no wheel,
    or if no index could be reached.
    """
    wanted = None if version is None else parse_version(version)
    listing = _list(project)
    if wanted is None:
        final = [version for version in listing.versions if not version.is_prerelease]
        wanted = max(final or listing.versions, default=None)
    wheels = [wheel for wheel in listing.wheels.values() if Version(wheel.version) == wanted]
    if wheels:
        return tuple(sorted(map(_with_hash, wheels), key=lambda wheel: wheel.filename))
    if listing.failures:
        raise _unreachable(listing)
    if wanted is None:
        raise CannotRun(f"no index has a wheel of {project}", hint=_ANOTHER_WAY)
    if wanted in listing.sdists:
        raise CannotRun(
            f"{project} {wanted} has no wheel, only a source archive",
            hint="use the git tag: the same command with --source git",
        )
    versions = sorted(listing.versions)
    at = bisect(versions, wanted)
    near = tuple(map(str, versions[max(0, at - 3) : at + 3]))
    if not near:
        raise UnknownRef(
            f"the package index has no release of {project}",
            where=project,
            hint="name a clone of upstream: --source CLONE",
        )
    raise UnknownRef(
        f"{project} has no release {wanted}; the nearest are: {', '.join(near)}",
        where=project,
        hint=f"the same command with {near[-1]} instead of {wanted}",
        mistyped=Mistyped(version or "", near),
    )


def parse_version(text: str) -> Version:
    """A PEP 440 version. Raises UsageError if ``text`` is none."""
    try:
        return Version(text)
    except ValueError as error:  # no version, or a number of thousands of digits
        raise UsageError(
            f"{text[:60]!r} is not a release", hint="give a version such as 0.5.23"
        ) from error


def choose(wheels: Sequence[WheelFile], python_tags: Sequence[str]) -> WheelFile:
    """The wheel that an interpreter with these tags (best first) would install; if none fits, the
    first by file name, because the Python files are the same in all."""
    return fitting(wheels, python_tags) or min(wheels, key=lambda wheel: wheel.filename)


def fitting(wheels: Sequence[WheelFile], python_tags: Sequence[str]) -> WheelFile | None:
    """The wheel that an interpreter with these tags (best first) would install, if any."""
    rank = {tag: number for number, tag in reversed(list(enumerate(python_tags)))}
    fits = [wheel for wheel in wheels if any(tag in rank for tag in wheel.tags)]

    def order(wheel: WheelFile) -> tuple[int, str]:
        return min(rank[tag] for tag in wheel.tags if tag in rank), wheel.filename

    return min(fits, key=order, default=None)


def fetch(wheel: WheelFile, folder: Path, progress: Progress | None = None) -> Path:
    """The verified wheel at ``<folder>/<sha256>/<filename>``, downloaded if it is not there.

    A broken transfer is resumed from ``<filename>.part``. Raises CannotRun if the index gives no
    hash, if the transfer breaks off, if the file does not have the hash (it is removed then), or if
    it cannot be written.
    """
    if wheel.sha256 is None:
        raise CannotRun(
            f"the index gives no sha256 for {wheel.filename}, so it cannot be verified",
            where=public_url(wheel.url),
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
                    where=public_url(wheel.url),
                    hint="run the same command again; if it stays, the mirror is broken or hostile",
                )
            part.replace(target)
    return target


def is_file_name(text: str) -> bool:
    """Whether ``text`` can be the name of a file that an index offers."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}", text))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """A requests session with the settings that pip would use."""

    def __init__(self, config: PipConfig) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.config = config
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=2))

    def get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The response to a request; its body is still to be read, with ``_body``."""
        config = self.config
        parts = urlsplit(url)
        # These are given with each request. As session settings, REQUESTS_CA_BUNDLE and HTTPS_PROXY
        # would take precedence over them, unlike in pip.
        return self.session.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=config.timeout,
            cert=config.client_cert,
            verify=(not {parts.hostname, parts.netloc} & set(config.trusted))
            and (config.cert or True),
            proxies={"http": config.proxy, "https": config.proxy} if config.proxy else None,
        )


def _list(project: str) -> _Listing:
    """What all configured indexes and folders offer of ``project``. Those that fail are noted."""
    config = pip_config()
    import pypi_simple
    import requests

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
            with client.get(place, {"Accept": pypi_simple.ACCEPT_ANY}) as response:
                if response.status_code != 404:  # the index does not have the project
                    response.raise_for_status()
                    _list_packages(listing, name, _packages(response, name, config.timeout))
        except (requests.RequestException, OSError, ValueError) as error:
            listing.failures.append(f"{public_url(place)} ({_reason(error)})")
        except pypi_simple.UnsupportedRepoVersionError as error:
            listing.failures.append(f"{public_url(place)} ({redact(str(error))})")
    return listing


def _packages(response: requests.Response, name: str, timeout: float) -> list[DistributionPackage]:
    """What the page of a project offers. Raises ValueError if it is none."""
    from pypi_simple import ProjectPage

    data = bytearray()
    for chunk in _body(response, timeout):
        data += chunk
        if len(data) > _PAGE:
            raise ValueError(f"its page has more than {_PAGE} bytes")
    kind, _, parameters = response.headers.get("content-type", "text/html").partition(";")
    if kind.strip().lower() == "application/vnd.pypi.simple.v1+json":
        with _reading():
            read = json.loads(data)
            read["files"] = [file for file in read["files"] if _is_short(file["filename"])]
            return ProjectPage.from_json_data(read, response.url).packages
    if kind.strip().lower() not in ("application/vnd.pypi.simple.v1+html", "text/html"):
        raise ValueError(f"its page is {kind!r}, which is no page of an index")
    charset = re.search(r"charset=\"?([\w.:-]+)", parameters, re.IGNORECASE)
    return _packages_of_html(bytes(data), name, response.url, charset and charset[1])


def _packages_of_html(
    page: bytes, name: str, base_url: str, charset: str | None = None
) -> list[DistributionPackage]:
    """The links of a page of HTML."""
    from pypi_simple import DistributionPackage, RepositoryPage

    with _reading():
        links = RepositoryPage.from_html(_html(page), base_url, from_encoding=charset).links
        return [DistributionPackage.from_link(link, name) for link in links if _is_short(link.text)]


def _is_short(name: str) -> bool:
    """Whether ``name`` can be a file's. pypi_simple takes a time that grows with the cube of the
    length of a name, if it is none of a distribution."""
    return len(name) <= _LONGEST_NAME


def _html(page: bytes) -> bytes:
    """``page`` if each of its tags and comments ends: Python's parser of HTML looks through what
    does not end again and again. Raises ValueError if not."""
    outside = []
    at = 0
    while (start := page.find(b"<!--", at)) >= 0:
        outside.append(page[at:start])
        end = page.find(b"-->", start)
        if end < 0:
            raise ValueError("its page is no HTML: a comment does not end")
        at = end
    outside.append(page[at:])
    for part in b"".join(outside).split(b"<")[1:]:
        tag = _TAG.match(part, 0, _LONGEST_TAG)
        if tag is None:
            raise ValueError("its page is no HTML: a tag does not end")
    return page


def _body(response: requests.Response, timeout: float) -> Iterator[bytes]:
    """The body of a response as it comes. Raises requests.ConnectionError if it breaks off, or
    comes slower than _FLOOR: a server that sends a byte now and then never meets a timeout."""
    import requests
    from urllib3.exceptions import HTTPError

    window = _WINDOW * timeout
    began, count = time.monotonic(), 0
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            yield chunk
            count, now = count + len(chunk), time.monotonic()
            if now - began > window:
                if count < _FLOOR * window:
                    raise requests.ConnectionError(
                        f"only {count} bytes came in {now - began:.0f} seconds"
                    )
                began, count = now, 0
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever a parser meets in a page of others into a ValueError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"the page cannot be read: {error}"[:200]) from error


def _as_url(place: str) -> str:
    return place if "://" in place else Path(place).expanduser().absolute().as_uri()


def _list_folder(listing: _Listing, name: str, place: str) -> None:
    """Add what is in a folder of wheels, an HTML page, or one project of an index on this disk."""
    path = Path(url2pathname(urlsplit(place).path))
    page = path / "index.html" if path.is_dir() else path
    if page.is_file():
        with _reading():
            data = read_at_most(page, _PAGE)
        _list_packages(listing, name, _packages_of_html(data, name, place))
    elif path.is_dir():
        for file in sorted(path.iterdir()):
            _add(listing, name, file.name, file.as_uri(), None, file.stat().st_size)


def _list_packages(listing: _Listing, name: str, packages: Sequence[DistributionPackage]) -> None:
    for package in packages:
        # A find-links page may name a link anything, but its address ends in the file name.
        base = unquote(urlsplit(package.url).path.rpartition("/")[2])
        file_name = base if base.endswith((".whl", ".gz", ".zip")) else package.filename
        sha256, uploaded = package.digests.get("sha256"), package.upload_time
        day = uploaded.astimezone(UTC).date().isoformat() if uploaded else None
        _add(listing, name, file_name, package.url, sha256, package.size, day)


def _add(
    listing: _Listing,
    name: str,
    file_name: str,
    url: str,
    sha256: str | None,
    size: int | None,
    uploaded: str | None = None,
) -> None:
    if not is_file_name(file_name):
        return  # the name would become a path in the cache
    with suppress(InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        if file_name.endswith((".tar.gz", ".zip")):
            project, version = parse_sdist_filename(file_name)
            if project == name:
                listing.sdists.add(version)
            return
        project, version, _, tags = parse_wheel_filename(file_name)
        if project == name and (sha256 is None or re.fullmatch(r"[0-9a-f]{64}", sha256)):
            wheel = WheelFile(
                file_name, url, sha256, size, str(version), tuple(sorted(map(str, tags))), uploaded
            )
            listing.wheels.setdefault(file_name, wheel)


def _with_hash(wheel: WheelFile) -> WheelFile:
    """``wheel`` with a hash. If it is a file on this machine without one, compute the hash."""
    if wheel.sha256 is not None or urlsplit(wheel.url).scheme != "file":
        return wheel
    path = Path(url2pathname(urlsplit(wheel.url).path))
    try:
        return replace(wheel, sha256=sha256_of(path))
    except (OSError, ValueError) as error:
        raise CannotRun(f"cannot read {wheel.filename}: {error}", where=str(path)) from error


def _unreachable(listing: _Listing) -> CannotRun:
    return CannotRun(
        f"the package index cannot be reached: {'; '.join(listing.failures)}", hint=_ANOTHER_WAY
    )


def _reason(error: Exception) -> str:
    """The message of the operating system, which requests and urllib3 wrap in theirs. Their own
    messages hold the address, with its login."""
    text = getattr(error, "strerror", None) or str(error)
    match = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", text)
    return match[1] if match else redact(text)


def _transfer(wheel: WheelFile, part: Path, progress: Progress) -> None:
    """Fill ``part`` up to the end of the file, starting from where it ends."""
    size = part.stat().st_size if part.exists() else 0
    if wheel.size is not None and size > wheel.size:
        size = 0
    if wheel.size is not None and size == wheel.size:
        return
    with progress.task(f"download {wheel.filename}", wheel.size, "B") as task:
        if urlsplit(wheel.url).scheme == "file":
            with Path(url2pathname(urlsplit(wheel.url).path)).open("rb") as source:
                _append(part, 0, iter(lambda: source.read(_CHUNK), b""), task)
        else:
            _download(wheel, part, size, task)


def _download(wheel: WheelFile, part: Path, start: int, task: Task) -> None:
    """Append the bytes of ``wheel`` from ``start`` on to ``part``; from the first one if the server
    does not resume transfers."""
    import requests

    config = pip_config()
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        with _Client(config).get(wheel.url, headers) as response:
            if response.status_code == 416:  # the part is not a part of this file
                part.unlink()
            response.raise_for_status()
            first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status_code != 206 or not first or int(first[1]) != start:
                start = 0
            if start:
                task.advance(start)
            _append(part, start, _body(response, config.timeout), task)
    except requests.RequestException as error:
        broken = f"broke off: {_reason(error)}"
    else:
        size = part.stat().st_size
        if wheel.size is None or size >= wheel.size:
            return
        broken = f"ended after {size} of {wheel.size} bytes"
    raise CannotRun(
        f"the download of {wheel.filename} {broken}",
        where=public_url(wheel.url),
        hint="run the same command again: it goes on from where it stopped",
    )


def _append(part: Path, at: int, chunks: Iterable[bytes], task: Task) -> None:
    with part.open("r+b" if at else "wb") as file:
        file.seek(at)
        for chunk in chunks:
            file.write(chunk)
            task.advance(len(chunk))
