"""Lets core modules report the progress of slow work, without knowing how it is shown."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """A piece of slow work that is under way. ``advance`` reports that ``amount`` more is done, in
    the same unit as the task's ``total``."""

    def advance(self, amount: int) -> None: ...


class Progress(Protocol):
    """Opens tasks. ``total`` is the size of the task: in bytes if ``unit`` is "B", otherwise a
    count of things, and None if it is not known."""

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
