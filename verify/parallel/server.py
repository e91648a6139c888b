"""Checks that a server on several GPUs answers as a server on one GPU does.

    --tp N    N ranks share every layer, with MTP on
    --pp M    a pipeline of M stages, the target alone: SGLang refuses speculative decoding there
    both      N times M ranks, as the pipeline

Two servers of this tree are booted with the same tiny float32 model, first on one GPU, then on
several. Both must be healthy, and route as the oracle does on every rank. Their greedy tokens must be
the same, and so must the experts of every token of some long texts in each layer, except where the
oracle's order is a tie (`compare.py`). They run eagerly, without a prefix cache, and with NCCL's
all-reduces alone.

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
from verify.parallel.compare import RoutingComparison, SavedCalls, compare_routing, read_saved_calls
from verify.server import boot, gpu
from verify.server.boot import Boot
from verify.server.process import ONE_GPU, Layout, Server, source

# Numbers of tokens of the prompts and of the answers. All differ, also with the answer added, and any
# two together are more than each: so the length of a prefill tells its prompt, and that a batch's
# prefill belongs to none.
_ALONE, _BATCH = (211, 257, 307), (401, 431, 461, 491)
_TOKENS = 24
# Two log probabilities this close are a tie: either token may be the greedy one.
_TIE = 1e-4
_FIRST_FORWARD_SECONDS = 400.0
_FREED_SECONDS = 60.0


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare a server on several GPUs with a server on one."
    )
    parser.add_argument("--tp", type=int, default=1, metavar="N", help="ranks that share a layer")
    parser.add_argument("--pp", type=int, default=1, metavar="M", help="stages of a pipeline")
    parser.add_argument("--boot-timeout", type=float, default=600.0, metavar="SECONDS")
    options = parser.parse_args(words)
    if options.tp < 1 or options.pp < 1:
        parser.error("--tp and --pp are 1 or more")
    return options


def _prompt(length: int) -> list[int]:
    return [(length + 7 * i * length) % 250 + 4 for i in range(length)]


class ComparedServer(Boot):
    """One of the two servers. ``reference`` is the other, whose answers this one must give."""

    size, float32 = "float32", True

    def __init__(
        self,
        options: argparse.Namespace,
        name: str,
        layout: Layout,
        reference: ComparedServer | None = None,
    ) -> None:
        self.name, self.live_name = name, f"{name}-live"
        self.layout, self.mtp, self.reference = layout, options.pp == 1, reference
        words = ["--serves", "--eager", "--boot-timeout", str(options.boot_timeout)]
        words += ["--generate-timeout", str(_FIRST_FORWARD_SECONDS)]
        super().__init__(boot.parse_arguments(words))
        self.options.more = flags_of_both(self.tree)
        self.prompts: dict[str, list[int]] = {}
        self.answers: dict[str, list[int]] = {}
        self.saved_calls: SavedCalls = {}
        self.routing = RoutingComparison()
        self.ties: list[dict[str, Any]] = []

    def _environment(self, server: Server) -> dict[str, str]:
        env = super()._environment(server)
        env["FIXTOOL_ROUTES"] = str(min(_ALONE))
        names = ("NCCL_", "NVSHMEM_", "TORCH_NCCL_", "TORCH_SYMM_MEM_", "CUDA_VISIBLE")
        between = {name: value for name, value in env.items() if name.startswith(names)}
        self.details["between_gpus"] = dict(sorted(between.items()))
        return env

    def _generate(self, server: Server) -> None:
        """Generate from some prompts alone and some as a batch, then from each with its answer. The
        answer is the one of one GPU, so that one prefill routes every generated token."""
        self.generated = []
        self.details["generated"] = self.generated
        alone = {f"alone {length}": _prompt(length) for length in _ALONE}
        batch = {f"batch {length}": _prompt(length) for length in _BATCH}
        for name, prompt in alone.items():
            self._ask(server, {name: prompt}, _TOKENS)
        self._ask(server, batch, _TOKENS)
        answers = self.reference.answers if self.reference else self.answers
        for name, prompt in (alone | batch).items():
            self._ask(server, {f"again {name}": prompt + answers[name]}, 1)
        # Read now: a question about a tie is another prefill.
        self.saved_calls = read_saved_calls(self.live)
        if self.reference is not None:
            self._compare(server, self.reference)

    def _ask(self, server: Server, prompts: dict[str, list[int]], tokens: int) -> None:
        self.enter(f"generation, {', '.join(prompts)}")
        answers = server.generate(list(prompts.values()), tokens, self.options.generate_timeout)
        self.prompts |= prompts
        for name, reply in zip(prompts, answers, strict=True):
            self.generated.append({"prompt": name, **reply})
            if reply["tokens"] != tokens or not isinstance(reply["output_ids"], list):
                raise Answer(FAILED, f"{name}: {reply['tokens']} tokens generated, not {tokens}")
            self.answers[name] = reply["output_ids"]

    def _compare(self, server: Server, reference: ComparedServer) -> None:
        self.enter("comparison")
        lengths = [*_ALONE, *(length + _TOKENS for length in (*_ALONE, *_BATCH))]
        routing = self.routing = compare_routing(
            reference.saved_calls, self.saved_calls, lengths, self.layout.tp, self.layout.pp
        )
        self.details.update(routing=routing.details(), token_ties=self.ties)
        if routing.problems:
            raise Answer(FAILED, f"it routes otherwise: {routing.problems[0]}")
        if not routing.rows * 2 > routing.of:
            rows = f"{routing.rows} of {routing.of}"
            raise Answer(BROKE, f"ties leave {rows} rows to compare", self.details)
        for name, wanted in reference.answers.items():
            self._compare_tokens(server, name, wanted)

    def _compare_tokens(self, server: Server, name: str, wanted: list[int]) -> None:
        """The first token that differs must follow from a tie, or be a tie. What follows it may differ."""
        prompt, actual = self.prompts[name], self.answers[name]
        at = next((i for i, token in enumerate(wanted) if token != actual[i]), None)
        if at is None:
            return
        rows = len(prompt) + (0 if name.startswith("again") else _TOKENS)
        tie = {"prompt": name, "token": at + 1, "after_row": self.routing.tied.get(rows)}
        if not self.routing.tied.get(rows, rows) < len(prompt) + at:
            likely = server.likely_tokens(prompt + wanted[:at], self.options.generate_timeout)
            gap = abs(likely.get(wanted[at], math.inf) - likely.get(actual[at], -math.inf))
            if gap > _TIE:
                raise Answer(
                    FAILED,
                    f"{name}: token {at + 1} is {actual[at]}, on one GPU {wanted[at]}, "
                    f"and that is no tie ({gap:.1e}); log: {self.name}.log",
                )
            tie["gap"] = gap
        self.ties.append(tie)


def flags_of_both(tree: Path) -> list[str]:
    """The flags that both servers of this tree get beside those of any server of the checks."""
    without_multicast = "--enforce-disable-flashinfer-allreduce-fusion"
    known = [without_multicast] if without_multicast in source(tree, "server_args.py") else []
    return ["--disable-radix-cache", "--disable-custom-all-reduce", *known]


def require_stages(folder: Path) -> None:
    """Raise Answer (does not apply) if the model's forward takes no earlier stage's output."""
    if "pp_proxy_tensors" not in source(folder, "models/gemma4_mm.py"):
        raise Answer(
            DOES_NOT_APPLY,
            "Gemma 4 of this tree has no pipeline stages: gemma4_mm.py takes no pp_proxy_tensors",
        )


def _wait_for_memory(free: float) -> None:
    """Wait until the first GPU has ``free`` GiB again after a server has ended on it. SGLang
    refuses GPUs of which one has less free memory than the others."""
    end = time.monotonic() + _FREED_SECONDS
    while gpu.first_gpu().free < free - 1.0 and time.monotonic() < end:
        time.sleep(1.0)


def main(options: argparse.Namespace) -> Answer:
    boot.end_on_signals()
    layout = Layout(options.tp, options.pp)
    gpus = gpu.visible_gpus()
    gpu.require_gpus(gpus, layout.ranks, layout.options)
    if layout.pp > 1:
        require_stages(Path(tree()))
    reference = ComparedServer(options, "one-gpu", ONE_GPU)
    parallel = ComparedServer(options, "ranks", layout, reference)
    details: dict[str, Any] = {"tp": layout.tp, "pp": layout.pp, "mtp": layout.pp == 1}
    running = "on one GPU"
    try:
        reference.run()
        _wait_for_memory(gpus[0].free)
        running = f"with {layout.options}"
        parallel.run()
    except Answer as raised:
        details |= {"one": reference.details, "many": parallel.details}
        raise Answer(raised.code, f"{running}: {raised.saw}", details) from None
    details |= {"one": reference.details, "many": parallel.details}
    tokens, routing = sum(map(len, parallel.answers.values())), parallel.routing
    mtp = "MTP on" if parallel.mtp else "the target alone"
    return Answer(
        PASSED,
        f"with {layout.options} ({layout.ranks} ranks, {mtp}) as on one GPU: {tokens} greedy tokens "
        f"({len(parallel.ties)} ties); {routing.rows:,} rows routed over {routing.layers} layers "
        f"({routing.ties} ties), a logit off by {routing.worst:.1e} of its row's spread at most",
        details,
    )


if __name__ == "__main__":
    options = parse_arguments()  # outside of answer(): --help is no answer
    answer(lambda: main(options))
