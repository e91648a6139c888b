"""What nearly every command starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

from fixtool.progress import Progress, Silence
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings


@dataclass(frozen=True)
class Context:
    """A patch repository, its settings, and the progress that shows slow work."""

    repository: PatchRepository
    settings: Settings
    progress: Progress = field(default_factory=Silence)
