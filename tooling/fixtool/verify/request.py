"""What a user asks of a run: what it is for, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fixtool.sources.target import TargetRequest


class RunKind(StrEnum):
    """What a run is for."""

    CHECKS = "checks"
    ASK = "ask"  # the probes on the base alone
    PROVE = "prove"
    MUTANTS = "mutants"
    FLIP = "flip"  # the probes on the base and on the series


@dataclass(frozen=True)
class VerifyRequest(TargetRequest):
    """What to verify, and on which commit."""

    kinds: tuple[RunKind, ...] = (RunKind.CHECKS,)


@dataclass(frozen=True)
class RunOptions:
    """How a plan is run. ``python`` is the target's; ``jobs`` 0 means one for each core; ``only``
    are names of steps. ``tp`` and ``pp`` spread over GPUs the checks that can be spread, which do
    not run without either."""

    python: str | None = None
    jobs: int = 0
    only: tuple[str, ...] = ()
    model: Path | None = None
    assistant: Path | None = None
    port: int | None = None
    require_gpu: bool = False
    keep_trees: bool = False
    tp: int | None = None
    pp: int | None = None

    @property
    def spread(self) -> bool:
        return bool(self.tp or self.pp)

    @property
    def arguments(self) -> list[str]:
        """The runner's arguments that say the same."""
        arguments = ["--jobs", str(self.jobs)] if self.jobs else []
        for name in ("model", "assistant", "port", "tp", "pp"):
            value = getattr(self, name)
            if value is not None:
                text = str(value.resolve()) if isinstance(value, Path) else str(value)
                arguments += [f"--{name}", text]
        for name in self.only:
            arguments += ["--only", name]
        return [*arguments, "--keep-trees"] if self.keep_trees else arguments
