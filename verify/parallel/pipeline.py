"""Checks that the Gemma 4 MTP assistant is built and loaded on every stage of a pipeline.

    (no option)         every rank must build it, with the pipeline group of all ranks, and load it
    --dies-with REGEX   every rank must fail with a matching error instead

Two processes (--stages N for more) are the ranks of SGLang's own process groups, over gloo on the
CPU. One process alone is first and last stage at once, and cannot tell the pipeline's group from any
other. Each rank builds the tiny assistant, gives it all of its weights, as SGLang's loader does, and
reports the result. (They are forks of this process, which has imported SGLang for all of them.)

This checks the class. No server comes this far: SGLang refuses speculative decoding in a pipeline
(each rank records the tree's refusal), and the last stage has no head, since the embedding that it is
tied to is on the first stage.

0   as wanted    1   a rank reports otherwise, or hangs    2   the check broke: a rank reports nothing
77  the tree has no MTP assistant, or its Gemma 4 has no stages
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, FAILED, PASSED, Answer, answer
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

_POLL_SECONDS = 0.05
# All ranks do the same work, so the last ends soon after the first.
_LAST_RANK_SECONDS = 60.0
# Two ranks cannot share a GPU. And if SGLang finds NCCL, every group of several ranks uses it, whatever
# device they run on: "Expected a cuda device, but got: cpu", seen on an H100 at b0ce16d0c.
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "SGLANG_NCCL_SO_PATH": "none: these ranks have no GPU"}


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Build and load the MTP assistant on every stage of a pipeline, on the CPU."
    )
    parser.add_argument("--dies-with", metavar="REGEX", help="every rank must fail with this")
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--limit", type=float, default=240.0, metavar="SECONDS")
    return parser.parse_args(words)


# --- one rank ------------------------------------------------------------------------------------


def run_rank(number: int, stages: int, mtp: ModuleType) -> dict[str, Any]:
    """Join the pipeline, build and load the assistant, and return this rank's report."""
    import torch

    from verify import tiny

    torch.set_num_threads(1)
    rendezvous = Path("meet").absolute().as_uri()  # a file: no port that another process may take
    stand_ins = tiny.one_stage(number, stages, rendezvous)
    pipeline = from_tree("sglang.srt.distributed.parallel_state").get_pp_group()
    ranks: list[Any] = [None] * stages
    torch.distributed.all_gather_object(ranks, number, group=pipeline.cpu_group)
    report = {
        "rank": number,
        "ranks": pipeline.world_size,
        "pp_rank": pipeline.rank_in_group,
        "first": pipeline.is_first_rank,
        "last": pipeline.is_last_rank,
        "met": ranks,
        "refusal": refusal(stages),
        "stand_ins": stand_ins,
        "file": in_tree(mtp.__file__),
        "did": "was not built",
        "error": None,
    }
    if ranks != list(range(stages)) or pipeline.rank_in_group != number:
        raise Answer(BROKE, f"no pipeline of {stages} ranks: {report}")
    try:
        build_assistant(mtp, pipeline, report)
    except Answer:
        raise
    except Exception as error:
        traceback.print_exc()
        report["error"] = f"{type(error).__name__}: {error}"
    return report


def build_assistant(mtp: Any, pipeline: Any, report: dict[str, Any]) -> None:
    """Build and load the assistant of this stage, and update ``report`` after each step. Raises
    whatever building raises, and ValueError if the result is wrong."""
    import torch

    from verify import tiny
    from verify.server.tiny_models import tensor_shapes

    config = tiny.assistant_config()
    model = mtp.Gemma4AssistantForCausalLM(config)
    report["did"] = "built it"
    if not hasattr(model.model, "pp_group"):
        raise Answer(
            DOES_NOT_APPLY, f"{report['file']}: Gemma 4 has no pipeline stages in this tree"
        )
    if model.pp_group is not pipeline:
        name = getattr(model.pp_group, "unique_name", model.pp_group)
        raise ValueError(f"its pp_group is {name}, not the pipeline's {pipeline.unique_name}")
    report["layers"] = list(range(model.model.start_layer, model.model.end_layer))
    report["head"] = type(model.lm_head).__name__
    draw = torch.Generator().manual_seed(0)
    shapes = tensor_shapes(config.to_dict())
    weights = {name: torch.rand(shape, generator=draw) for name, shape in shapes.items()}
    report["loaded"] = len(model.load_weights(iter(weights.items())))
    report["did"] = "built and loaded it"
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if name in weights and not torch.equal(value, weights[name]):
            raise ValueError(f"{name} does not hold what the checkpoint does")


def refusal(stages: int) -> str | None:
    """Where and how this tree refuses to serve with an MTP assistant in a pipeline. None if it does
    not, or if the refusal has moved elsewhere."""
    settings = from_tree("sglang.srt.server_args").ServerArgs(model_path="dummy", device="cpu")
    settings.pp_size, settings.disable_overlap_schedule = stages, True

    def objection() -> str | None:
        try:
            settings.check_server_args()
        except AssertionError as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            return f"{in_tree(at.filename)}:{at.lineno}: {error}"
        except Exception:  # settings without a model are not whole
            return None
        return None

    before = objection()  # an objection that is not about the assistant
    settings.speculative_algorithm = "FROZEN_KV_MTP"
    after = objection()
    return None if after == before else after


def rank_process(number: int, stages: int, mtp: ModuleType) -> None:
    """The process of one rank: write its report, or its answer, to rank-<number>.json."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # die with the parent process
    with Path(f"rank-{number}.log").open("wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    faulthandler.enable(2)  # SIGABRT, which a rank that hangs is sent, writes its stacks
    try:
        report = run_rank(number, stages, mtp)
    except Answer as raised:
        report = {"answer": raised.code, "said": raised.saw}
    except Exception as error:
        traceback.print_exc()
        report = {"answer": BROKE, "said": f"{type(error).__name__}: {error}"}
    Path(f"rank-{number}.json").write_text(json.dumps(report), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # gloo would wait for the other ranks


# --- all ranks -----------------------------------------------------------------------------------


def main(options: argparse.Namespace) -> Answer:
    wanted = None if options.dies_with is None else re.compile(options.dies_with)
    os.environ |= _NO_GPU
    details: dict[str, Any] = {"stages": options.stages, "stand_ins": install(), **versions()}
    mtp = from_tree("sglang.srt.models.gemma4_mtp", absent=DOES_NOT_APPLY)
    details["ranks"] = ranks = run_ranks(options, mtp)
    for rank in ranks:
        if "answer" in rank:
            raise Answer(rank["answer"], f"rank {rank['rank']}: {rank['said']}", details)
    summary = "; ".join(map(describe, ranks))
    if wanted is not None:
        if not all(wanted.search(rank["error"] or "") for rank in ranks):
            raise Answer(FAILED, f"not all died of /{options.dies_with}/: {summary}", details)
        return Answer(PASSED, f"all died with the message asked for: {summary}", details)
    if any(rank["error"] for rank in ranks):
        raise Answer(FAILED, summary, details)
    layers = [layer for rank in ranks for layer in rank["layers"]]
    if layers != list(range(len(layers))) or not all(rank["layers"] for rank in ranks):
        raise Answer(FAILED, f"their stages do not make one pipeline: {summary}", details)
    if refused := ranks[0]["refusal"]:
        summary += f"; (no server of this tree runs it so: {refused})"
    return Answer(PASSED, summary, details)


def describe(rank: dict[str, Any]) -> str:
    """A rank's report as a phrase."""
    place = "first" if rank["first"] else "last" if rank["last"] else "between"
    text = f"rank {rank['pp_rank']} of {rank['ranks']} ({place}) {rank['did']}"
    if rank["error"]:
        return f"{text}: {rank['error']}"
    return f"{text}: layers {rank['layers']}, {rank['loaded']} parameters, head {rank['head']}"


def run_ranks(options: argparse.Namespace, mtp: ModuleType) -> list[dict[str, Any]]:
    """Run all ranks and return their reports. None of the processes is left afterwards."""
    processes: list[BaseProcess] = []
    try:
        for number in range(options.stages):
            processes.append(start(number, options.stages, mtp))
        hanging = wait(processes, options.limit)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [read_report(number, p, number in hanging) for number, p in enumerate(processes)]


def start(number: int, stages: int, mtp: ModuleType) -> BaseProcess:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=rank_process, args=(number, stages, mtp))
    process.start()
    return process


def wait(processes: list[BaseProcess], limit: float) -> set[int]:
    """Wait until all have ended, or for ``limit`` seconds. Returns the numbers of those that hang."""
    until = time.monotonic() + limit
    while True:
        alive = {number for number, process in enumerate(processes) if process.is_alive()}
        if not alive:
            return alive
        if len(alive) < len(processes):
            until = min(until, time.monotonic() + _LAST_RANK_SECONDS)
        if time.monotonic() > until:
            break
        time.sleep(_POLL_SECONDS)
    for pid in (processes[number].pid for number in alive):
        if pid is not None:
            os.kill(pid, signal.SIGABRT)
    time.sleep(1.0)  # for them to write their stacks
    return alive


def read_report(number: int, process: BaseProcess, hangs: bool) -> dict[str, Any]:
    """A rank's own report, or an answer for a rank that wrote none."""
    if hangs:
        return {"rank": number, "answer": FAILED, "said": f"hangs; its stacks: rank-{number}.log"}
    try:
        report = json.loads(Path(f"rank-{number}.json").read_text(encoding="utf-8"))
        return {"rank": number, **report}
    except (OSError, ValueError):
        how = f"ended with {process.exitcode} and without a word: rank-{number}.log"
        return {"rank": number, "answer": BROKE, "said": how}


if __name__ == "__main__":
    options = parse_arguments()  # outside of answer(): --help is no answer
    answer(lambda: main(options))
