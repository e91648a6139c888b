"""The files of what is installed, compared with what they should be."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from fixtool.files import read_at_most
from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.trees import list_tree
from fixtool.install import record
from fixtool.install._change import original_record, record_text
from fixtool.install.find import Found
from fixtool.install.record import Row
from fixtool.install.state import BEFORE, Installation, Place, digest_of
from fixtool.sources.release import is_native
from fixtool.text import count
from fixtool.verify.runner.git_ids import blob_id, tree_id

_LARGEST_RECORD = 64 << 20  # bytes
_SOURCES = {".py", ".pyc", ".so", ".pyd"}


def rows(found: Found) -> list[Row]:
    """The lines of RECORD as it is."""
    assert found.place.record is not None
    path = found.place.root / found.place.record
    return record.parse(read_at_most(path, _LARGEST_RECORD), str(path))


def tops(found: Found) -> set[str] | None:
    """The folders and files at the top of a package's distribution; None for a checkout, where
    every path has its place."""
    if found.place.record is None:
        return None
    return {row.path.split("/")[0] for row in rows(found) if _of_package(row.path)}


def _of_package(path: str) -> bool:
    """Whether a path of RECORD is a file of the package, not of metadata, a script or bytecode."""
    parts = path.split("/")
    outside = path.startswith(("/", "../")) or ".." in parts
    return not outside and not parts[0].endswith(".dist-info") and "__pycache__" not in parts


def blobs_before(
    found: Found, previous: Installation | None, paths: Iterable[str]
) -> dict[str, Oid]:
    """The blob ids of the files at ``paths`` as they were before any series; a path without a file
    is left out."""
    kept = {file.path: file.kept for file in previous.sources} if previous else {}
    blobs = {}
    for path in paths:
        file = found.place.root / path
        if path in kept:
            name = kept[path]
            if name is None:
                continue
            file = found.place.state / BEFORE / name
        if (blob := _blob(file)) is not None:
            blobs[path] = blob
    return blobs


def _blob(path: Path) -> Oid | None:
    try:
        if path.is_symlink():
            return Oid(blob_id(os.fsencode(path.readlink())))
        return Oid(blob_id(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def damaged_natives(found: Found, known: Collection[str]) -> list[str]:
    """The files of RECORD that are not in the tree of the release, such as native code, and that
    are not as RECORD says."""
    return [
        row.path
        for row in rows(found)
        if _of_package(row.path) and row.path not in known and row.digest
        and row.digest != digest_of(found.place.root / row.path)
        and not _is_ours(found.place, row.path)
    ]  # fmt: skip


def _is_ours(place: Place, path: str) -> bool:
    return path.startswith(f"{place.state.relative_to(place.root).as_posix()}/")


def record_is_right(place: Place, installation: Installation) -> bool:
    """Whether RECORD is, byte by byte, what fixtool made of it."""
    assert place.record is not None
    before = original_record(place, installation)
    texts = {}
    for file in installation.files:
        path = place.root / file.path
        texts[file.path] = path.read_bytes() if file.new is not None and path.exists() else None
    try:
        right = record_text(place, before, texts, place.state)
    except OSError:
        return False
    return right == (place.root / place.record).read_bytes()


def tree_of(entries: Mapping[str, TreeEntry], folder: str) -> Oid:
    """The id of the tree of ``folder`` with these files of the tree around it."""
    start = f"{folder}/"
    return Oid(tree_id({path.removeprefix(start): (entry.mode, entry.blob)
                        for path, entry in entries.items() if path.startswith(start)}))  # fmt: skip


def package_tree(found: Found, installation: Installation | None) -> Oid:
    """The id that git gives to the files of the package as they are now."""
    modes = {file.path: file.mode for file in installation.files} if installation else {}
    start = f"{found.package}/"
    if found.checkout is None:
        paths = [row.path for row in rows(found) if row.path.startswith(start)]
        paths = [path for path in paths if _of_package(path)]
        entries = {}
        for path in paths:
            try:
                data = (found.place.root / path).read_bytes()
            except OSError:
                continue
            if not is_native(data[:1024]):
                entries[path.removeprefix(start)] = (modes.get(path, "100644"), blob_id(data))
        return Oid(tree_id(entries))
    return _checkout_tree(found, modes, start)


def _checkout_tree(found: Found, modes: Mapping[str, str], start: str) -> Oid:
    assert found.checkout is not None
    tracked = list_tree(found.checkout, "HEAD", found.package)
    known = {**{path: entry.mode for path, entry in tracked.items()}, **modes}
    entries = {}
    for path, mode in known.items():
        if path.startswith(start) and (blob := _blob(found.place.root / path)) is not None:
            entries[path.removeprefix(start)] = (mode, blob)
    return Oid(tree_id(entries))


def wrong_rows(found: Found) -> Iterator[tuple[str, str]]:
    """The paths of RECORD whose file is missing or another one, each with what is wrong."""
    place = found.place
    for row in rows(found):
        if row.path == place.record:
            continue  # it cannot hold its own hash, and its size is not to be there
        digest = digest_of(place.root / row.path)
        if digest is None:
            if not row.path.endswith(".pyc"):
                yield row.path, "is missing"
        elif row.digest and row.digest != digest:
            yield row.path, "is not the file that RECORD names"
        elif row.size is not None and row.size != (place.root / row.path).stat().st_size:
            yield row.path, "has another size than RECORD says"


def strangers(found: Found) -> list[str]:
    """The files in the package that Python could import and that RECORD does not list."""
    if found.place.record is None or not found.folder.is_dir():
        return []
    listed = {row.path for row in rows(found)}
    foreign = []
    for folder, folders, names in os.walk(found.folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        top = Path(folder).relative_to(found.place.root).as_posix()
        foreign += [f"{top}/{name}" for name in sorted(names)
                    if Path(name).suffix in _SOURCES and f"{top}/{name}" not in listed]  # fmt: skip
    return foreign


def shadowing(found: Found, foreign: Iterable[str]) -> list[str]:
    """Those of ``foreign`` files that Python loads instead of a file that RECORD lists: a folder or
    native code of a module's name."""
    listed = {row.path for row in rows(found)}
    taken = []
    for path in foreign:
        folder, _, name = path.rpartition("/")
        module = f"{folder}.py" if name == "__init__.py" else f"{folder}/{name.split('.')[0]}.py"
        if module in listed and (name == "__init__.py" or not name.endswith((".py", ".pyc"))):
            taken.append(path)
    return taken


def notes(found: Found, installation: Installation | None) -> tuple[str, ...]:
    """What a person should know of the files here, one sentence each."""
    if found.checkout is not None:
        ours = {file.path for file in installation.files} if installation else set()
        own = [path for path in found.checkout.status() if path not in ours]
        own = [path for path in own if not _holds(path, ours)]
        if not own:
            return ()
        return (f"{count(len(own), 'path')} of your own in the checkout: {', '.join(own[:3])}",)
    foreign = strangers(found)
    if not foreign:
        return ()
    return (f"{count(len(foreign), 'file')} in the package, not of it: {', '.join(foreign[:3])}",)


def _holds(path: str, ours: Iterable[str]) -> bool:
    """Whether a new folder, as ``git status`` names it, holds files of the series alone."""
    return path.endswith("/") and any(file.startswith(path) for file in ours)
