"""Check: several GPUs answer as one does.

    --tp N    N ranks share every layer, with MTP on
    --pp M    a pipeline of M stages, the target alone: SGLang refuses speculative decoding there
    both      N times M ranks, as the pipeline

Two servers of this tree are booted on one tiny float32 model, first on one GPU, then spread. Both must
be healthy, and route as the oracle says on every rank. Their greedy tokens must be the same, and so must
the experts that every token of some long texts goes to, in each layer, except where the oracle's own
order is a tie (`alike.py`). Eagerly, without a cache of prefixes, and with NCCL's all-reduces alone.

--tp 1 compares one GPU with itself. Logs: one-gpu.log, ranks.log. Runs under the contract of
verify/README.md.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer, tree
from verify.parallel import compare as alike
from verify.server import boot
from verify.server import gpu as host
from verify.server.boot import Boot
from verify.server.layout import ONE_GPU, Layout
from verify.server.process import Server, source

# Tokens of the prompts, and of the answers. All are other numbers, also with the answer added, and less
# than two of them together: so a prefill is known by its length, and a batch's for none of them.
_ALONE, _BATCH = (211, 257, 307), (401, 431, 461, 491)
_TOKENS = 24
# Two log probabilities this close are a tie: either token is the greedy one.
_TIE = 1e-4
_FIRST_FORWARD_SECONDS = 400.0
_FREED_SECONDS = 60.0


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(description="Compare a server on several GPUs with one on one.")
    asked.add_argument("--tp", type=int, default=1, metavar="N", help="ranks that share a layer")
    asked.add_argument("--pp", type=int, default=1, metavar="M", help="stages of a pipeline")
    asked.add_argument("--boot-timeout", type=float, default=600.0, metavar="SECONDS")
    found = asked.parse_args(given)
    if found.tp < 1 or found.pp < 1:
        asked.error("--tp and --pp are 1 or more")
    return found


def _made(length: int) -> list[int]:
    return [(length + 7 * i * length) % 250 + 4 for i in range(length)]


class Spread(Boot):
    """One of the two servers. ``like`` is the other, whose answers this one is to give."""

    size, float32 = "float32", True

    def __init__(
        self, given: argparse.Namespace, name: str, layout: Layout, like: Spread | None = None
    ) -> None:
        self.name, self.live_name = name, f"{name}-live"
        self.layout, self.mtp, self.like = layout, given.pp == 1, like
        words = ["--serves", "--eager", "--boot-timeout", str(given.boot_timeout)]
        words += ["--generate-timeout", str(_FIRST_FORWARD_SECONDS)]
        super().__init__(boot.arguments(words))
        self.given.more = [
            "--disable-radix-cache", "--disable-custom-all-reduce", *_without_multicast(self.tree),
        ]  # fmt: skip
        self.prompts: dict[str, list[int]] = {}
        self.said: dict[str, list[int]] = {}
        self.kept: alike.Places = {}
        self.routed = alike.Compared()
        self.ties: list[dict[str, Any]] = []

    def _environment(self, server: Server) -> dict[str, str]:
        env = super()._environment(server)
        env["FIXTOOL_ROUTES"] = str(min(_ALONE))
        names = ("NCCL_", "NVSHMEM_", "TORCH_NCCL_", "TORCH_SYMM_MEM_", "CUDA_VISIBLE")
        kept = {name: value for name, value in env.items() if name.startswith(names)}
        self.details["between_gpus"] = dict(sorted(kept.items()))
        return env

    def _generate(self, server: Server) -> None:
        """Some prompts alone, some as a batch; then each with one GPU's answer, so that one prefill
        routes every token that was generated."""
        self.generated = []
        self.details["generated"] = self.generated
        alone = {f"alone {length}": _made(length) for length in _ALONE}
        batch = {f"batch {length}": _made(length) for length in _BATCH}
        for name, prompt in alone.items():
            self._ask(server, {name: prompt}, _TOKENS)
        self._ask(server, batch, _TOKENS)
        answers = self.like.said if self.like else self.said
        for name, prompt in (alone | batch).items():
            self._ask(server, {f"again {name}": prompt + answers[name]}, 1)
        self.kept = alike.read(self.live)  # before any question about a tie, which prefills as well
        if self.like is not None:
            self._compare(server, self.like)

    def _ask(self, server: Server, prompts: dict[str, list[int]], tokens: int) -> None:
        said = server.generate(list(prompts.values()), tokens, self.given.generate_timeout)
        self.prompts |= prompts
        for name, one in zip(prompts, said, strict=True):
            self.generated.append({"prompt": name, **one})
            if one["tokens"] != tokens or not isinstance(one["output_ids"], list):
                raise Answer(FAILED, f"{name}: {one['tokens']} tokens generated, not {tokens}")
            self.said[name] = one["output_ids"]
        self.say(f"generated {', '.join(prompts)}")

    def _compare(self, server: Server, like: Spread) -> None:
        lengths = [*_ALONE, *(length + _TOKENS for length in (*_ALONE, *_BATCH))]
        self.routed = alike.compare(like.kept, self.kept, lengths, self.layout.tp, self.layout.pp)
        self.details.update(routing=self.routed.details(), token_ties=self.ties)
        if self.routed.problems:
            raise Answer(FAILED, f"it routes otherwise: {self.routed.problems[0]}")
        if not self.routed.rows * 2 > self.routed.of:
            left = f"{self.routed.rows} of {self.routed.of}"
            raise Answer(BROKE, f"ties leave {left} rows to compare", self.details)
        for name, wanted in like.said.items():
            self._compare_tokens(server, name, wanted)

    def _compare_tokens(self, server: Server, name: str, wanted: list[int]) -> None:
        """The first token that differs must follow a tie, or be one: what comes then is another text."""
        prompt, got = self.prompts[name], self.said[name]
        pairs = enumerate(zip(wanted, got, strict=True))
        at = next((i for i, (mine, theirs) in pairs if mine != theirs), None)
        if at is None:
            return
        rows = len(prompt) + (0 if name.startswith("again") else _TOKENS)
        tie = {"prompt": name, "token": at + 1, "after_row": self.routed.tied.get(rows)}
        if not self.routed.tied.get(rows, rows) < len(prompt) + at:
            likely = server.likeliest(prompt + wanted[:at], self.given.generate_timeout)
            gap = abs(likely.get(wanted[at], math.inf) - likely.get(got[at], -math.inf))
            if gap > _TIE:
                told = f"{name}: token {at + 1} is {got[at]}, on one GPU {wanted[at]}"
                raise Answer(
                    FAILED, f"{told}, and that is no tie ({gap:.1e}); log: {self.name}.log"
                )
            tie["gap"] = gap
        self.ties.append(tie)


def _without_multicast(place: Any) -> list[str]:
    flag = "--enforce-disable-flashinfer-allreduce-fusion"
    return [flag] if flag in source(place, "server_args.py") else []


def require_stages(folder: Path) -> None:
    """A pipeline's stages hand on what they computed, where the model's forward takes it."""
    if "pp_proxy_tensors" not in source(folder, "models/gemma4_mm.py"):
        said = "Gemma 4 of this tree has no pipeline stages: gemma4_mm.py takes no pp_proxy_tensors"
        raise Answer(DOES_NOT_APPLY, said)


def _wait_for_memory(free: float) -> None:
    """SGLang refuses GPUs of which one has less free than the others, as just after a server on it."""
    end = time.monotonic() + _FREED_SECONDS
    while host.gpus()[0].free < free - 1.0 and time.monotonic() < end:
        time.sleep(1.0)


def main(given: argparse.Namespace) -> Answer:
    boot.end_on_signals()
    layout = Layout(given.tp, given.pp)
    seen = host.gpus()
    host.require(seen, layout.ranks, layout.asked)
    if layout.pp > 1:
        require_stages(Path(tree()))
    details: dict[str, Any] = {"tp": layout.tp, "pp": layout.pp, "mtp": layout.pp == 1}
    one = Spread(given, "one-gpu", ONE_GPU)
    many = Spread(given, "ranks", layout, one)
    running = one
    try:
        one.run()
        _wait_for_memory(seen[0].free)
        running = many
        many.run()
    except Answer as raised:
        who = "on one GPU" if running is one else f"with {layout.asked}"
        details |= {"one": one.details, "many": many.details}
        raise Answer(raised.code, f"{who}: {raised.saw}", details) from None
    details |= {"one": one.details, "many": many.details}
    tokens, routed = sum(map(len, many.said.values())), many.routed
    return Answer(
        PASSED,
        f"with {layout.asked} ({layout.ranks} ranks, {'MTP on' if many.mtp else 'the target alone'}) "
        f"as on one GPU: {tokens} greedy tokens ({len(many.ties)} ties); {routed.rows:,} rows routed over "
        f"{routed.layers} layers ({routed.ties} ties), a logit off by {routed.worst:.1e} of its row's "
        "spread at most",
        details,
    )


if __name__ == "__main__":
    asked = arguments()  # here, since --help is no answer
    answer(lambda: main(asked))
