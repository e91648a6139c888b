"""Laying our own series into a folder, so that a person can try fixtool without a copy of our
repository."""

from __future__ import annotations

from pathlib import Path

from fixtool.edit.init import _FILES
from fixtool.errors import CannotRun, Refused
from fixtool.files import holds, read_at_most, write_atomically
from fixtool.series.line import PatchRepository
from fixtool.series.patch import LARGEST
from fixtool.series.write import rewrite
from fixtool.text import count

_PACKAGE = Path(__file__).parent.parent
_IN_A_WHEEL = _PACKAGE / "example"
_IN_A_CHECKOUT = _PACKAGE.parent.parent
_PARTS = ("patches", "verify")
_NOT_LAID = {"tests", "results", "__pycache__"}
_SETTINGS = Path(__file__).with_name("templates") / "example.toml"


def example_files() -> dict[str, bytes]:
    """The files of our own lines and of their checks, by path. A wheel carries them as data of the
    package; a checkout has them in their own place. Raises CannotRun if neither is there."""
    root = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else _IN_A_CHECKOUT
    files = {
        path.relative_to(root).as_posix(): read_at_most(path, LARGEST)
        for part in _PARTS
        for path in sorted((root / part).rglob("*"))
        if _is_laid(path, root)
    }
    if not any(name.endswith("/series") for name in files):
        raise CannotRun(
            "this installation of fixtool lacks the example",
            where=str(_IN_A_WHEEL),
            hint="pip install --force-reinstall sglang-fixtool",
        )
    return files


def _is_laid(path: Path, root: Path) -> bool:
    names = path.relative_to(root).parts
    hidden = any(name in _NOT_LAID or name.startswith(".") for name in names)
    return path.is_file() and path.suffix != ".md" and not hidden


def lay_example(folder: Path) -> PatchRepository:
    """Make ``folder`` a patch repository with our own lines. Files in it that already have the
    same content are kept. Raises Refused if it holds another line, or another file where one of
    ours belongs; nothing is written then."""
    files = example_files()
    files["pyproject.toml"] = _SETTINGS.read_bytes()
    _require_room(folder, files)
    for name, text in _FILES.items():  # those of every patch repository, which may be one's own
        files.setdefault(name, text.encode())
    lines: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        if name.startswith("patches/"):
            _, line, inner = name.split("/", 2)
            lines.setdefault(line, {})[inner] = data
        elif not (path := folder / name).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
    # The lines come last: after a run that was killed, the same command does the rest.
    for line, inside in lines.items():
        rewrite(folder / "patches" / line, inside)
    return PatchRepository(folder)


def _require_room(folder: Path, files: dict[str, bytes]) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused("the example needs a folder of its own", where=str(folder))
    taken = [
        name for name, data in files.items()
        if (path := folder / name).is_symlink() or (path.exists() and not holds(path, data))
    ]  # fmt: skip
    taken += [
        path.relative_to(folder).as_posix()
        for path in sorted((folder / "patches").glob("*/*"))
        if path.relative_to(folder).as_posix() not in files
    ]
    if taken:
        more = f", and {count(len(taken) - 1, 'other file')}" if taken[1:] else ""
        raise Refused(
            f"the folder has a {taken[0]} of its own{more}",
            where=str(folder),
            hint=f"name another folder: the same command with ANOTHER-FOLDER instead of {folder}",
        )
