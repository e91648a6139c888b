"""A progress that remembers what was reported to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Amount:
    """How much of a task there is, and how much of it is done."""

    total: int | None
    done: int = 0

    def advance(self, amount: int) -> None:
        self.done += amount


@dataclass
class Counted:
    """Keeps the amounts of all tasks, by the first word of their label."""

    tasks: dict[str, Amount] = field(default_factory=dict)

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Amount]:
        yield self.tasks.setdefault(label.split()[0], Amount(total))
