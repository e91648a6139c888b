"""Reads all changes in what a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fixtool.errors import UsageError
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming, author_from
from fixtool.incoming.file import read_input
from fixtool.incoming.inputs import read_inputs


def read_paths(
    repo: Repo, paths: Sequence[Path], author: str | None, subject: str | None
) -> list[Incoming]:
    """The changes in files, folders, `series` files and archives, in order. ``author`` and
    ``subject`` are for diffs that name neither.

    Raises UsageError if there are several files and one ``subject``.
    """
    inputs = read_inputs(paths)
    if subject is not None and len(inputs) > 1:
        raise UsageError(
            f"--subject is for one patch, and these are {len(inputs)} files",
            hint="import the patch that needs it alone",
        )
    changes = []
    for item in inputs:
        signature = author_from(author, item.changed_at)
        for change in read_input(repo, item.name, item.raw, signature, subject):
            changes.append(replace(change, strip=item.strip, reverse=item.reverse))
    return changes
