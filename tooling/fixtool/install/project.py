"""Which project is looked for in an interpreter: that of the lines of a patch repository."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from fixtool.errors import CannotRun, UsageError
from fixtool.install.find import Found, find
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings


@dataclass(frozen=True)
class Project:
    """A project, with the ``settings`` of its lines, and the names of these ``lines``."""

    settings: Settings
    lines: tuple[str, ...]


def projects(
    settings: Settings, repository: PatchRepository | None = None, line: str | None = None
) -> list[Project]:
    """The projects of the lines of ``repository``, or of ``line`` alone. Without a repository, the
    one of ``settings``. Raises UsageError if no line says what its project is called on the package
    index."""
    if repository is None or not repository.lines:
        return [Project(settings, ())]
    name = line or settings.line
    found: dict[tuple[str, str], Project] = {}
    errors = []
    for each in [repository.line(name)] if name else repository.lines:
        own = each.upstream.settings(settings)
        try:
            key = (own.indexed, own.release_root)
        except UsageError as error:
            errors.append(error)
            continue
        known = found.get(key, Project(own, ()))
        found[key] = Project(own, (*known.lines, each.name))
    if not found:
        raise errors[0]
    return list(found.values())


def find_project(
    python: str, candidates: Sequence[Project], first: Sequence[str] = ()
) -> tuple[Project, Found]:
    """The one of ``candidates`` that ``python`` has installed, and where; ``first`` as in
    ``find``. Raises UsageError if it has several, and the errors of ``find``."""
    if len(candidates) == 1:
        return candidates[0], _find(python, candidates[0], first)
    there = []
    for candidate in candidates:
        with suppress(CannotRun):
            there.append((candidate, _find(python, candidate, first)))
    if not there:
        return candidates[0], _find(python, candidates[0], first)
    if len(there) > 1:
        names = " and ".join(found.project for _, found in there)
        hint = " or ".join(f"--line {candidate.lines[0]}" for candidate, _ in there)
        raise UsageError(f"{python} has {names}, and there are lines for both", hint=hint)
    return there[0]


def _find(python: str, candidate: Project, first: Sequence[str]) -> Found:
    return find(python, candidate.settings.indexed, candidate.settings.release_root, first)
