"""Check: is the Gemma 4 MTP assistant built and loaded on every stage of a pipeline?

    (nothing)           every rank must build it, with the pipeline group of all ranks, and load it
    --dies-with REGEX   every rank must die of this instead

Two processes (--stages N for more) are the ranks of SGLang's own groups, over gloo on the CPU: one
process alone is first and last stage at once, and cannot tell the pipeline's group from any other.
Each builds the tiny assistant, hands it all of its weights, as SGLang's loader does, and says what
became of it. (They are forks of this one, which has imported SGLang for all of them.)

This is about the class. No server comes this far: SGLang refuses speculative decoding in a pipeline,
which each rank asks the tree for as well, and the last stage is left without a head, since the
embedding that it is tied to lies on the first.

0   as wanted    1   a rank says otherwise, or hangs    2   the check broke: a rank without a word
77  the tree has no MTP assistant, or its Gemma 4 no stages
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
# All ranks do the same work once they have met, so the last is not far behind the first.
_BEHIND_SECONDS = 60.0
# Two ranks cannot share a GPU. And where SGLang finds NCCL it has every group of several ranks use it,
# whatever they run on: "Expected a cuda device, but got: cpu", seen on an H100 at b0ce16d0c.
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "SGLANG_NCCL_SO_PATH": "none: these ranks have no GPU"}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        description="Build and load the MTP assistant on every stage of a pipeline, on the CPU."
    )
    asked.add_argument("--dies-with", metavar="REGEX", help="every rank must die of this")
    asked.add_argument("--stages", type=int, default=2)
    asked.add_argument("--limit", type=float, default=240.0, metavar="SECONDS")
    return asked.parse_args(given)


# --- one rank ------------------------------------------------------------------------------------


def rank(number: int, stages: int, mtp: ModuleType) -> dict[str, Any]:
    """What this rank is, and what became of its assistant."""
    import torch

    from verify import tiny

    torch.set_num_threads(1)
    meet = Path("meet").absolute().as_uri()  # a file: no port that somebody else may take
    standing_in = tiny.one_stage(number, stages, meet)
    pipeline = from_tree("sglang.srt.distributed.parallel_state").get_pp_group()
    met: list[Any] = [None] * stages
    torch.distributed.all_gather_object(met, number, group=pipeline.cpu_group)
    said = {
        "rank": number,
        "ranks": pipeline.world_size,
        "pp_rank": pipeline.rank_in_group,
        "first": pipeline.is_first_rank,
        "last": pipeline.is_last_rank,
        "met": met,
        "refusal": refusal(stages),
        "stand_ins": standing_in,
        "file": in_tree(mtp.__file__),
        "did": "was not built",
        "error": None,
    }
    if met != list(range(stages)) or pipeline.rank_in_group != number:
        raise Answer(BROKE, f"no pipeline of {stages} ranks: {said}")
    try:
        build(mtp, pipeline, said)
    except Answer:
        raise
    except Exception as error:
        traceback.print_exc()
        said["error"] = f"{type(error).__name__}: {error}"
    return said


def build(mtp: Any, pipeline: Any, said: dict[str, Any]) -> None:
    """The assistant of this stage, ``said`` growing as it does."""
    import torch

    from verify import tiny
    from verify.server import tiny_models as models

    config = tiny.assistant_config()
    model = mtp.Gemma4AssistantForCausalLM(config)
    said["did"] = "built it"
    if not hasattr(model.model, "pp_group"):
        raise Answer(DOES_NOT_APPLY, f"{said['file']}: Gemma 4 has no pipeline stages in this tree")
    if model.pp_group is not pipeline:
        name = getattr(model.pp_group, "unique_name", model.pp_group)
        raise ValueError(f"its pp_group is {name}, not the pipeline's {pipeline.unique_name}")
    said["layers"] = list(range(model.model.start_layer, model.model.end_layer))
    said["head"] = type(model.lm_head).__name__
    draw = torch.Generator().manual_seed(0)
    shapes = models.shapes(config.to_dict())
    weights = {name: torch.rand(shape, generator=draw) for name, shape in shapes.items()}
    said["loaded"] = len(model.load_weights(iter(weights.items())))
    said["did"] = "built and loaded it"
    for name, held in (*model.named_parameters(), *model.named_buffers()):
        if name in weights and not torch.equal(held, weights[name]):
            raise ValueError(f"{name} does not hold what the checkpoint does")


def refusal(stages: int) -> str | None:
    """Where and how this tree refuses to serve with an MTP assistant in a pipeline; None where it
    does not, or no longer says so in this place."""
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

    before = objection()  # has nothing to do with an assistant
    settings.speculative_algorithm = "FROZEN_KV_MTP"
    after = objection()
    return None if after == before else after


def say(number: int, stages: int, mtp: ModuleType) -> None:
    """Leave what this rank has to say where ``heard`` looks for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with the one that started it
    with Path(f"rank-{number}.log").open("wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    faulthandler.enable(2)  # SIGABRT, which a rank that hangs is sent, tells where it stands
    try:
        said = rank(number, stages, mtp)
    except Answer as raised:
        said = {"answer": raised.code, "said": raised.saw}
    except Exception as error:
        traceback.print_exc()
        said = {"answer": BROKE, "said": f"{type(error).__name__}: {error}"}
    Path(f"rank-{number}.json").write_text(json.dumps(said), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # gloo would wait for its peers


# --- all of them ---------------------------------------------------------------------------------


def main(given: argparse.Namespace) -> Answer:
    wanted = None if given.dies_with is None else re.compile(given.dies_with)
    os.environ |= _NO_GPU
    details: dict[str, Any] = {"stages": given.stages, "stand_ins": install(), **versions()}
    mtp = from_tree("sglang.srt.models.gemma4_mtp", absent=DOES_NOT_APPLY)
    details["ranks"] = ranks = spoken(given, mtp)
    for one in ranks:
        if "answer" in one:
            raise Answer(one["answer"], f"rank {one['rank']}: {one['said']}", details)
    told = "; ".join(map(in_words, ranks))
    if wanted is not None:
        others = [one for one in ranks if not wanted.search(one["error"] or "")]
        if others:
            raise Answer(FAILED, f"not all died of /{given.dies_with}/: {told}", details)
        return Answer(PASSED, f"all died with the message asked for: {told}", details)
    if any(one["error"] for one in ranks):
        raise Answer(FAILED, told, details)
    layers = [layer for one in ranks for layer in one["layers"]]
    if layers != list(range(len(layers))) or not all(one["layers"] for one in ranks):
        raise Answer(FAILED, f"their stages do not make one pipeline: {told}", details)
    if said := ranks[0]["refusal"]:
        told += f"; (no server of this tree runs it so: {said})"
    return Answer(PASSED, told, details)


def in_words(one: dict[str, Any]) -> str:
    place = "first" if one["first"] else "last" if one["last"] else "between"
    said = f"rank {one['pp_rank']} of {one['ranks']} ({place}) {one['did']}"
    if one["error"]:
        return f"{said}: {one['error']}"
    return f"{said}: layers {one['layers']}, {one['loaded']} parameters, head {one['head']}"


def spoken(given: argparse.Namespace, mtp: ModuleType) -> list[dict[str, Any]]:
    """What each rank said. None of them is left when this returns."""
    started: list[BaseProcess] = []
    try:
        for number in range(given.stages):
            started.append(start(number, given.stages, mtp))
        hanging = wait(started, given.limit)
    finally:
        for one in started:
            one.kill()
            one.join()
    return [heard(number, one, number in hanging) for number, one in enumerate(started)]


def start(number: int, stages: int, mtp: ModuleType) -> BaseProcess:
    one = multiprocessing.get_context("fork").Process(target=say, args=(number, stages, mtp))
    one.start()
    return one


def wait(started: list[BaseProcess], limit: float) -> set[int]:
    """Until all have ended, or their time is up. Gives those that hang."""
    until = time.monotonic() + limit
    while True:
        alive = {number for number, one in enumerate(started) if one.is_alive()}
        if not alive:
            return alive
        if len(alive) < len(started):
            until = min(until, time.monotonic() + _BEHIND_SECONDS)
        if time.monotonic() > until:
            break
        time.sleep(_POLL_SECONDS)
    for pid in (started[number].pid for number in alive):
        if pid is not None:
            os.kill(pid, signal.SIGABRT)
    time.sleep(1.0)  # to write their stacks
    return alive


def heard(number: int, process: BaseProcess, hangs: bool) -> dict[str, Any]:
    """A rank's own words, or what there is to say of one without any."""
    if hangs:
        return {"rank": number, "answer": FAILED, "said": f"hangs; its stacks: rank-{number}.log"}
    try:
        said = json.loads(Path(f"rank-{number}.json").read_text(encoding="utf-8"))
        return {"rank": number, **said}
    except (OSError, ValueError):
        how = f"ended with {process.exitcode} and without a word: rank-{number}.log"
        return {"rank": number, "answer": BROKE, "said": how}


if __name__ == "__main__":
    asked = arguments()  # here, since --help is no answer
    answer(lambda: main(asked))
