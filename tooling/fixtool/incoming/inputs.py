"""Turns what a user names into inputs, each of which holds patches: files, folders, `series` files
and archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fixtool.errors import CannotRun, Mistyped, Refused, UsageError
from fixtool.files import TooLarge, beside, read_at_most, read_plain
from fixtool.text import argument, count

_LARGEST = 64 << 20  # bytes of all inputs together
_DEEPEST = 1000  # folders
_MOST_DIGITS = 18  # of a number in a name
_LAST_SECOND = 253402300799  # of the year 9999
_MOST_MEMBERS = 20_000  # of an archive or a folder
_LISTS = ("series", ".patches")  # of quilt and of Electron: names in order
_SUFFIXES = {".patch", ".diff", ".eml", ".mbox", ".mbx", ".mail", ".dpatch"}
_PACKED: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    ".gz": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    ".xz": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115
    ".bz2": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
}
_SHORT = {".tgz": ".gz", ".txz": ".xz", ".tbz": ".bz2", ".tbz2": ".bz2"}
_ARCHIVES = re.compile(r"\.(zip|tar|tgz|txz|tbz2?|tar\.(gz|xz|bz2))$", re.IGNORECASE)
_DAMAGED = (
    OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """The bytes of one file, as messages call it. ``changed_at`` has git's raw form. ``listed``
    says that a series names it, which gives the order, and perhaps ``strip`` and ``reverse``."""

    name: str
    raw: bytes
    changed_at: str
    strip: int | None = None
    reverse: bool = False
    listed: bool = False


@dataclass(frozen=True)
class _File:
    """A file in a folder or an archive that can be read. ``size`` is what the folder says."""

    size: int
    changed_at: str
    read: Callable[[], bytes]


_Files = Mapping[str, _File]


def read_inputs(paths: Sequence[Path]) -> list[Input]:
    """The inputs at ``paths``, in order. A folder or an archive has those that its `series` or
    `.patches` lists, or else all its patches by their names, with numbers in order.

    Raises CannotRun if something cannot be read, Refused if it holds no patch, is damaged, or has
    more bytes than are read.
    """
    left = _LARGEST
    inputs: list[Input] = []
    for path in paths:
        for item in _inputs(path):
            left -= len(item.raw)
            if left < 0:
                raise TooLarge(f"the patches have more than {_LARGEST} bytes", where=item.name)
            inputs.append(item)
    return inputs


def _inputs(path: Path) -> Iterator[Input]:
    try:
        yield from _opened(path)
    except OSError as error:
        if address := re.match(r"(https?):/+(\S+)", str(path)):
            url, name = f"{address[1]}://{address[2]}", Path(address[2]).name
            file = name if name.endswith((".patch", ".diff")) else f"{name}.patch"
            # GitHub and GitLab give the patch of a pull request or a commit by this ending.
            page = url if file == name else f"{url}.patch"
            raise UsageError(
                f"{url} is an address, and fixtool imports files",
                hint=f"fetch it, then import it: curl -fLo {argument(file)} {argument(page)} && "
                f"the same command with {argument(file)} instead of {argument(url)}",
            ) from error
        raise CannotRun(
            f"cannot read {path}: {error.strerror}",
            where=str(path),
            hint="name a file or a folder of patches: the same command with FILE instead of "
            f"{argument(path)}",
            mistyped=Mistyped(str(path), beside(path)),
        ) from error


def _opened(path: Path) -> Iterator[Input]:
    if path.is_dir():
        yield from _from_files(str(path), _in_folder(path))
    elif path.name in _LISTS:
        yield from _listed(str(path.parent), _in_folder(path.parent), path.name)
    else:
        raw = read_at_most(path, _LARGEST)
        if _ARCHIVES.search(path.name):
            yield from _from_files(str(path), _in_archive(path, raw))
        else:
            name, raw = _unpacked(str(path), raw, _LARGEST)
            yield Input(name, raw, _time(path.stat().st_mtime))


def _time(seconds: float) -> str:
    return f"{min(max(0, int(seconds)), _LAST_SECOND)} +0000"


def _from_files(where: str, files: _Files) -> Iterator[Input]:
    """The inputs in a folder or an archive, whose files have these names."""
    lists = sorted((name for name in files if _base(name) in _LISTS), key=_depth)
    names = sorted((name for name in files if _is_patch(name)), key=_natural)
    highest = min((name.count("/") for name in names), default=_DEEPEST)
    if lists and lists[0].count("/") <= highest:
        other = [name for name in lists[1:] if _depth(name) == _depth(lists[0])]
        if other:
            raise Refused(
                f"{lists[0]} and {other[0]} both list patches",
                where=where,
                hint="name one of them: the same command with "
                f"{argument(f'{where}/{lists[0]}')} instead of {argument(where)}",
            )
        yield from _listed(where, files, lists[0])
        return
    if not names:
        raise Refused(
            f"it has no series, and no file that ends in {', '.join(sorted(_SUFFIXES))}",
            where=where,
            hint=f"name the files: the same command with FILE instead of {argument(where)}",
        )
    for name in names:
        yield _input(where, files, name)


def _listed(where: str, files: _Files, series: str) -> Iterator[Input]:
    """The inputs that a `series` or `.patches` file lists, with their options."""
    if series not in files:
        raise CannotRun(f"cannot read {where}/{series}: no such file", where=where)
    folder = series.rpartition("/")[0]
    text = files[series].read().decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        place = f"{where}/{series}:{number}"
        name = str(PurePosixPath(folder) / words[0])
        if name not in files:
            raise Refused(f"the series names {words[0]}, and there is no such file", where=place)
        strip, reverse = _series_options(words[1:], place)
        found = _input(where, files, name)
        yield Input(found.name, found.raw, found.changed_at, strip, reverse, listed=True)


def _series_options(words: Sequence[str], place: str) -> tuple[int | None, bool]:
    """The options of a line of quilt's series: ``-p0``, ``-p1``, ``-pab`` and ``-R``."""
    strip: int | None = None
    reverse = False
    for word in words:
        if word == "-R":
            reverse = True
        elif word == "-pab":
            strip = 1
        elif match := re.fullmatch(r"-p([0-9]{1,2})", word):
            strip = int(match[1])
        else:
            raise Refused(
                f"the series has an option that fixtool does not know: {word[:40]}",
                where=place,
                hint="-pN and -R are known; import the files themselves: fixtool import FILE...",
            )
    return strip, reverse


def _input(where: str, files: _Files, name: str) -> Input:
    file = files[name]
    if file.size > _LARGEST:
        raise TooLarge(f"{name} has {file.size} bytes, at most {_LARGEST} are read", where=where)
    shown, raw = _unpacked(f"{where}/{name}", file.read(), _LARGEST)
    return Input(shown, raw, file.changed_at)


def _unpacked(name: str, raw: bytes, limit: int) -> tuple[str, bytes]:
    """The name and content of a file that may be compressed. No more than ``limit`` bytes are
    unpacked."""
    suffix = Path(name).suffix.lower()
    unpack = _PACKED.get(_SHORT.get(suffix, suffix))
    if unpack is None:
        return name, raw
    with _whole(name), unpack(io.BytesIO(raw)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"it unpacks to more than {limit} bytes", where=name)
    return name[: -len(Path(name).suffix)], content


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Turn every way in which a packed file can be damaged into one error."""
    try:
        yield
    except _DAMAGED as error:
        raise Refused(f"it cannot be unpacked: {error}", where=name) from error


def _in_folder(folder: Path) -> _Files:
    """The regular files in a folder and in its folders. A link or a device is passed over: reading
    it could lead anywhere."""
    files: dict[str, _File] = {}
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.is_symlink():
                continue
            if path.is_dir():
                if path.name != ".git":
                    waiting.append(path)
            elif path.is_file():
                name = path.relative_to(folder).as_posix()
                status = path.stat()
                files[name] = _File(status.st_size, _time(status.st_mtime), _reader(folder, name))
            if len(files) > _MOST_MEMBERS:
                raise Refused(f"it has more than {_MOST_MEMBERS} files", where=str(folder))
    return files


def _reader(folder: Path, name: str) -> Callable[[], bytes]:
    return lambda: read_plain(folder, name, _LARGEST)


def _in_archive(path: Path, raw: bytes) -> _Files:
    """The regular files in an archive. Nothing is written to disk. What has a name outside the
    archive, and links and devices, are refused."""
    with _whole(str(path)):
        files = _in_zip(path, raw) if zipfile.is_zipfile(io.BytesIO(raw)) else _in_tar(path, raw)
    for name in files:
        if name.startswith("/") or ".." in name.split("/"):
            raise Refused(f"{name!r} is a name outside the archive", where=str(path))
    return files


def _in_zip(path: Path, raw: bytes) -> _Files:
    archive = zipfile.ZipFile(io.BytesIO(raw))
    entries = archive.infolist()
    _require_few(path, len(entries), sum(entry.file_size for entry in entries))
    files = {}
    for entry in entries:
        if not entry.filename:
            raise Refused("it has a member without a name", where=str(path))
        if (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000, 0o040000):
            raise Refused(f"{entry.filename!r} is a link or a device", where=str(path))
        if not entry.is_dir():
            files[entry.filename] = _File(
                entry.file_size, _time(_zip_time(entry)), _unzipper(path, archive, entry)
            )
    return files


def _zip_time(entry: zipfile.ZipInfo) -> float:
    try:
        return datetime(*entry.date_time, tzinfo=UTC).timestamp()
    except ValueError:
        return 0


def _unzipper(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with _whole(str(path)), archive.open(entry) as file:
            return file.read(entry.file_size)  # no more, whatever it unpacks to

    return read


def _in_tar(path: Path, raw: bytes) -> _Files:
    # All of it is unpacked first, up to a limit: tarfile reads headers of any size into memory.
    _, raw = _unpacked(path.name, raw, 2 * _LARGEST)
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
        files: dict[str, _File] = {}
        size = number = end = 0
        for member in archive:
            end = member.offset_data + -(-member.size // 512) * 512
            size, number = size + member.size, number + 1
            _require_few(path, number, size)
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                data = content.read(member.size)
                name = str(PurePosixPath(member.name))
                files[name] = _File(member.size, _time(member.mtime), partial(bytes, data))
            elif not member.isdir():
                raise Refused(f"{member.name!r} is a link or a device", where=str(path))
    if raw[end : end + 512] != bytes(512):  # tarfile takes a damaged header for the end
        raise Refused("it cannot be unpacked: it is cut off or damaged", where=str(path))
    return files


def _require_few(path: Path, number: int, size: int) -> None:
    if number > _MOST_MEMBERS or size > _LARGEST:
        raise TooLarge(
            f"it has {count(number, 'member')} with {size} bytes; at most {_MOST_MEMBERS} with "
            f"{_LARGEST} are read",
            where=str(path),
        )


def _is_patch(name: str) -> bool:
    path = PurePosixPath(name)
    suffix = PurePosixPath(path.stem).suffix if path.suffix.lower() in _PACKED else path.suffix
    return suffix.lower() in _SUFFIXES


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _depth(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _natural(name: str) -> list[tuple[str, int, str]]:
    """A key by which ``2-b`` comes before ``10-a``."""
    parts = re.findall(r"(\D*)(\d*)", name)
    return [(text, int(digits[-_MOST_DIGITS:] or 0), digits) for text, digits in parts]
