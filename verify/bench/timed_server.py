"""The server that the serving benchmark times, and the workloads that fit its models."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from verify.bench.contender import Contender
from verify.server import gpu
from verify.server.evidence import HOOK_FOLDER
from verify.server.log import ServerLog
from verify.server.process import RequestRefused, Server, greedy
from verify.server.tiny_models import Models


@dataclass(frozen=True)
class Size:
    """A workload that fits a model. Lengths in tokens, memory in GiB."""

    model: str
    batches: tuple[int, ...]
    prompt: int
    out: int
    prefill: tuple[int, int]  # prompts, and the length of each
    vocabulary: range
    flags: tuple[str, ...]
    reserve: float


FULL = Size(
    "full", (1, 16, 64), 128, 192, (16, 1024), range(400, 200_000),
    ("--load-format", "dummy", "--max-running-requests", "64"), 8.0,
)  # fmt: skip
TINY = Size(
    "tiny", (1, 4, 8), 64, 96, (4, 256), range(400, 1000), ("--max-running-requests", "8"), 6.0
)


class TimedServer(Server):
    """A server without the recorder, whose copies would be timed too. With ``mtp`` it drafts; with
    made-up weights no draft is accepted, so each step verifies four tokens of a request and keeps one,
    unless the contender's tree accepts all."""

    def __init__(
        self,
        contender: Contender,
        models: Models,
        log: ServerLog,
        size: Size,
        batches: tuple[int, ...],
        more: list[str],
        *,
        mtp: bool = False,
    ) -> None:
        port, nccl = gpu.free_ports(2)
        super().__init__(
            contender.folder, models, log, port=port, nccl_port=nccl, graphs=True,
            real=size.model == "full", more=[], mtp=mtp,
        )  # fmt: skip
        new = "--cuda-graph-max-bs-decode" in self.command
        self.command = [
            *_without(self.command, "--max-running-requests", "--cuda-graph-max-bs"),
            *size.flags,
            "--cuda-graph-bs-decode" if new else "--cuda-graph-bs", *map(str, batches),
            *more,
        ]  # fmt: skip

    def environment(self, live: Path) -> dict[str, str]:
        env = super().environment(live)
        env.pop("FIXTOOL_LIVE")
        paths = [p for p in env["PYTHONPATH"].split(os.pathsep) if p != str(HOOK_FOLDER)]
        env["PYTHONPATH"] = os.pathsep.join(paths)
        # CUPTI, once it has been torn down, can crash when it meets a CUDA graph again.
        env |= {"TEARDOWN_CUPTI": "0", "DISABLE_CUPTI_LAZY_REINIT": "1"}
        return env

    def time(self, prompts: list[list[int]], tokens: int, timeout: float) -> tuple[float, int]:
        """Send all prompts in one request, with ``tokens`` out of each, greedy. Returns the seconds
        that it took, and the number of different answers."""
        body = {"input_ids": prompts, "sampling_params": greedy(tokens)}
        start = time.perf_counter()
        content = self.fetch("/generate", body, timeout)
        seconds = time.perf_counter() - start
        try:
            replies = json.loads(content)
            counts = [reply["meta_info"]["completion_tokens"] for reply in replies]
            different = len(
                {str(reply.get("output_ids") or reply.get("text")) for reply in replies}
            )
        except (ValueError, KeyError, TypeError):
            raise RequestRefused(f"/generate answers {content[:200]!r}") from None
        if counts != [tokens] * len(prompts):
            raise RequestRefused(
                f"{len(prompts)} prompts of {tokens} tokens each gave {counts[:8]}"
            )
        return seconds, different


def _without(words: list[str], *flags: str) -> list[str]:
    """The words of a command without the flags that start with ``flags``, and without their values."""
    kept, dropping = [], False
    for word in words:
        if word.startswith("--"):
            dropping = word.startswith(flags)
        if not dropping:
            kept.append(word)
    return kept
