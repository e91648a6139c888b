"""The files of a commit once more, without compression, for the next check-out of it.

More than half of the CPU time of a check-out goes into the decompression of the files (53 % for the
5,582 files of SGLang). A store therefore keeps the objects of the commits that work trees are made
of again and again in a pack of compression level 0, which lies beside its own objects. Nothing but
a check-out reads it, and it may be removed at any time.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from fixtool.errors import CannotRun
from fixtool.files import temporary_folder
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.text import split_lines

_FOLDER = "uncompressed"
_KEPT = 2  # commits
_LARGEST = 512 << 20  # bytes of all objects of a commit

_Repo = TypeVar("_Repo", bound=Repo)


def reading_uncompressed(tree: _Repo, store: Repo, commit: Oid) -> _Repo:
    """``tree``, a work tree of ``store``, which reads the files of ``commit`` from an uncompressed
    copy. The copy is made when the commit is asked for the second time: most are so only once.

    ``tree`` itself is returned if there is no copy, such as when the disk is full: git then reads
    the objects of the store.
    """
    folder = store.git_dir / _FOLDER / commit
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _remove_oldest(folder.parent)
            return tree
        os.utime(folder)
        if not (folder / "pack").is_dir():
            _write(store, commit, folder)
    except (OSError, CannotRun):
        return tree
    return tree.reading_first(folder)


def _write(store: Repo, commit: Oid, folder: Path) -> None:
    """Make the copy, whole or not at all. Raises CannotRun if the commit is too large for one."""
    words = ("rev-list", "--objects", "--no-object-names", "--no-walk", commit)
    objects = [Oid(name) for name in split_lines(store.run(*words).text)]
    if sum(store.sizes(objects).values()) > _LARGEST:
        raise CannotRun(f"the files of {commit} are too large to keep a copy of them")
    with temporary_folder("pack-", folder) as staging:
        made = staging / "pack"
        made.mkdir()
        store.run(
            "pack-objects", "--quiet", "--compression=0", "--window=0", "--no-reuse-object",
            str(made / "pack"), stdin="".join(f"{oid}\n" for oid in objects).encode(),
        )  # fmt: skip
        made.rename(folder / "pack")


def _remove_oldest(copies: Path) -> None:
    """Remove all but the copies that were used last."""
    folders = [folder for folder in copies.iterdir() if is_full_sha(folder.name)]
    for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime)[:-_KEPT]:
        with suppress(OSError):
            shutil.rmtree(folder)
