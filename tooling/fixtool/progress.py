"""How core modules report slow work without knowing who shows it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """A piece of slow work that is under way. ``advance`` counts in the unit of its total."""

    def advance(self, amount: int) -> None: ...


class Progress(Protocol):
    """Opens tasks. ``total`` is in bytes if ``unit`` is "B", otherwise a count; None if unknown."""

    def task(
        self, label: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]: ...


class _Silent:
    def advance(self, amount: int) -> None:
        pass


class Silence:
    """A progress that shows nothing, for pipes, tests and library callers."""

    def task(
        self,
        label: str,  # noqa: ARG002
        total: int | None = None,  # noqa: ARG002
        unit: str = "",  # noqa: ARG002
    ) -> AbstractContextManager[Task]:
        return nullcontext(_Silent())
