"""Repositories for objects that nobody needs later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtool.files import temporary_folder
from fixtool.git.repo import Repo

_PREFIX = "fixtool-scratch-"


@contextmanager
def scratch_repo(lender: Repo) -> Iterator[Repo]:
    """A bare repository that reads the objects of ``lender``. What is written to it is removed at
    the end of the block. It fetches nothing."""
    with temporary_folder(_PREFIX) as folder:
        (folder / "refs").mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text("[core]\n\tbare = true\n")
        _borrow(folder / "objects", lender)
        yield Repo(folder)


@contextmanager
def scratch_objects(repo: Repo) -> Iterator[dict[str, str]]:
    """Variables with which a git command on ``repo`` writes its objects to a place of their own,
    which is removed at the end of the block."""
    with temporary_folder(_PREFIX) as folder:
        _borrow(folder, repo)
        yield {"GIT_OBJECT_DIRECTORY": str(folder)}


def _borrow(folder: Path, lender: Repo) -> None:
    (folder / "info").mkdir(parents=True)
    (folder / "info" / "alternates").write_text(f"{lender.objects_folder}\n")
