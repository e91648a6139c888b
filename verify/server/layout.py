"""How a server is spread over GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """``tp`` ranks share each layer, in each of ``pp`` stages of a pipeline."""

    tp: int = 1
    pp: int = 1

    @property
    def ranks(self) -> int:
        return self.tp * self.pp

    @property
    def asked(self) -> str:
        """As it is asked for on a command line."""
        tp, pp = f"--tp {self.tp}", f"--pp {self.pp}"
        return tp if self.pp == 1 else pp if self.tp == 1 else f"{tp} {pp}"


ONE_GPU = Layout()
