"""How core modules tell of slow work without knowing who listens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """One piece of slow work under way; ``advance`` counts in the unit its total was given in."""

    def advance(self, amount: int) -> None: ...


class Progress(Protocol):
    """Opens tasks. ``total`` is in bytes when ``unit`` is "B", else a count; None is not known."""

    def task(
        self, label: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]: ...


class _Silent:
    def advance(self, amount: int) -> None:
        pass


class Silence:
    """The listener that hears nothing: pipes, tests, library callers."""

    def task(
        self,
        label: str,  # noqa: ARG002
        total: int | None = None,  # noqa: ARG002
        unit: str = "",  # noqa: ARG002
    ) -> AbstractContextManager[Task]:
        return nullcontext(_Silent())
