"""What nearly every function of a verb starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

from fixtool.progress import Progress, Silence
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings


@dataclass(frozen=True)
class Context:
    """The patch repository at hand, its settings, and who hears of slow work."""

    repository: PatchRepository
    settings: Settings
    progress: Progress = field(default_factory=Silence)
