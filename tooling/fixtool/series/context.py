"""What nearly every command starts from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from fixtool.progress import Progress, Silence
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings


@dataclass(frozen=True)
class Context:
    """A patch repository, its settings, and the progress that shows slow work. ``typed`` are the
    words of the command after ``fixtool``, as the user typed them."""

    repository: PatchRepository
    settings: Settings
    progress: Progress = field(default_factory=Silence)
    typed: tuple[str, ...] = ()

    def again(self, *words: str) -> str:
        """The command that the user typed, with ``words`` behind it."""
        return shlex.join(["fixtool", *self.typed, *words])
