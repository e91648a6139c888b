"""What fixtool has put into a package or a checkout, kept beside it, with what was there before.

For an installed package, the folder lies in the distribution's dist-info, and RECORD lists its
files. So it moves with the environment, and pip takes it away together with the patched files when
it removes or replaces the distribution. For a checkout it lies in git's own folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from fixtool import documents
from fixtool.documents import Field, FieldError
from fixtool.errors import CannotRun
from fixtool.git.objects import Oid
from fixtool.judgement.manifest import Manifest, read_manifest

SCHEMA = 1
FILE = "state.json"
JOURNAL = "journal.json"
BEFORE = "before"  # the folder of the files that were there
NEW = "new"  # the folder of the files that come
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where files are changed: ``root`` is the folder that their paths start from, ``state`` the
    folder of fixtool's own files, ``record`` the path of RECORD below ``root`` (None in a
    checkout), and ``prefix`` what stands before such a path in the tree of git."""

    root: Path
    state: Path
    record: str | None
    prefix: str

    @property
    def coming(self) -> Path:
        """The state folder that is being made."""
        return self.state.with_name(f"{self.state.name}.next")


@dataclass(frozen=True)
class ChangedFile:
    """A file that the series changes. ``old`` and ``new`` are the sha256 of what was there and of
    what is there now, None where there is no file; ``kept`` is the name of the file that keeps what
    was there; ``mode`` is the one of git. ``bytecode`` says that it is compiled from another
    one."""

    path: str
    old: str | None
    new: str | None
    kept: str | None
    mode: str
    bytecode: bool


@dataclass(frozen=True)
class Installation:
    """A line that was put in. ``version`` is the release or the commit that it was put onto;
    ``package`` is the folder in the tree of git whose id ``package_tree`` is; ``left_out`` are the
    paths of the series' files that have no place here, such as tests."""

    project: str
    version: str
    package: str
    package_tree: Oid
    tree: Oid
    left_out: tuple[str, ...]
    files: tuple[ChangedFile, ...]
    manifest: Manifest

    @property
    def sources(self) -> tuple[ChangedFile, ...]:
        """The changed files that are no bytecode."""
        return tuple(file for file in self.files if not file.bytecode)


def read_installation(place: Place) -> Installation | None:
    """What was put in here; None if nothing was. Raises CannotRun if the file that says so is
    damaged."""
    path = place.state / FILE
    found = documents.read_own(path, _installation)
    if found is None and path.exists():
        raise CannotRun(
            "fixtool's record of what it put in here is not readable",
            where=str(path),
            hint="install the package anew, for example with pip install --force-reinstall "
            "--no-deps",
        )
    return found


def text_of(installation: Installation) -> bytes:
    """The content of the file that keeps ``installation``."""
    return (json.dumps({"schema": SCHEMA, **asdict(installation)}, indent=1) + "\n").encode()


def digest_of(path: Path) -> str | None:
    """The sha256 of a regular file; None if there is nothing. Anything else, such as a link, has a
    digest of no file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "no regular file"
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_path(field: Field) -> str:
    """A path below a folder, which does not lead out of it. Raises FieldError if it does."""
    path = field.text()
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise field.wrong("a path below the package")
    return path


def _installation(field: Field) -> Installation:
    if field["schema"].value != SCHEMA:
        raise FieldError("the schema is another one")
    texts = {name: field[name].text() for name in ("project", "version", "package")}
    return Installation(
        **texts,
        package_tree=_oid(field["package_tree"]),
        tree=_oid(field["tree"]),
        left_out=field["left_out"].texts(),
        files=field["files"].each(_file),
        manifest=read_manifest(field["manifest"]),
    )


def _file(field: Field) -> ChangedFile:
    kept = field["kept"].optional(Field.text)
    if kept is not None and not re.fullmatch(r"\d+", kept):
        raise field["kept"].wrong("the number of a file")
    return ChangedFile(
        check_path(field["path"]), field["old"].optional(Field.text),
        field["new"].optional(Field.text), kept, field["mode"].text(), field["bytecode"].flag(),
    )  # fmt: skip


def _oid(field: Field) -> Oid:
    if not re.fullmatch("[0-9a-f]{40}", field.text()):
        raise field.wrong("an object id")
    return Oid(field.text())


def own_files(place: Place, names: Sequence[str]) -> list[str]:
    """The paths below ``place.root`` of files ``names`` in the state folder, as RECORD has them."""
    folder = place.state.relative_to(place.root).as_posix()
    return [f"{folder}/{name}" for name in names]
