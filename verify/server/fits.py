"""Checks, without a GPU, that this tree has what the server checks ask of a tree.

A server check that asks for a flag which the tree does not know dies after minutes on a GPU host. So the
tree's own parser is given the command line of each server that boot.py and parallel/server.py start. And
the tree must have the requests that they send, the classes of the tiny models, and the names by which the
recorder finds routing, the chain, norms and experts.

0   everything is there    1   something is not: the line names it    2   the check broke
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtool.verify.answer import FAILED, PASSED, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, install, versions
from verify.parallel.server import flags_of_both
from verify.routing.launcher import CHAIN, defines_chain
from verify.routing.load import find_kernel
from verify.server.log import ServerLog
from verify.server.process import Layout, Server, source
from verify.server.recorder import float32, recorder
from verify.server.tiny_models import Models, assistant_config, target_config

_REQUESTS = ("/generate", "/health", "/model_info", "/server_info")


def servers(folder: Path) -> Iterator[tuple[str, Server]]:
    """Each kind of server that the checks start, by name."""

    def server(name: str, **more: Any) -> tuple[str, Server]:
        models = Models(Path("target"), Path("assistant"))
        settings = {"graphs": False, "real": False, "more": [], "port": 1, "nccl_port": 2, **more}
        return name, Server(folder, models, ServerLog(Path("server.log"), None), **settings)

    both = flags_of_both(folder)
    yield server("eager")
    yield server("with CUDA graphs", graphs=True)
    yield server("with a real model", graphs=True, real=True)
    yield server("with --tp 2", layout=Layout(2, 1), float32=True, more=both)
    if "pp_proxy_tensors" in source(folder, "models/gemma4_mm.py"):
        pp = {"layout": Layout(2, 2), "float32": True, "mtp": False, "more": both}
        yield server("with --tp 2 --pp 2", **pp)


def refused_flags(folder: Path) -> Iterator[str]:
    """What the tree's parser has against each server's command line."""
    arguments = from_tree("sglang.srt.server_args").ServerArgs
    for name, server in servers(folder):
        parser = argparse.ArgumentParser()
        arguments.add_cli_args(parser)
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                parser.parse_args(server.command[3:])  # after python -m sglang.launch_server
        except SystemExit:
            yield f"a server {name}: {errors.getvalue().strip().splitlines()[-1]}"


def missing_names(folder: Path) -> Iterator[str]:
    """Names that are not where the checks look for them."""
    text = source(folder, "entrypoints/http_server.py")
    yield from (f"the server answers no {path}" for path in _REQUESTS if f'"{path}"' not in text)
    caller = from_tree(recorder.CALLER)
    wanted = [recorder.ROUTING] if (kernel := find_kernel(folder)) else []
    if kernel and defines_chain(kernel):
        wanted.append(CHAIN)
    places = {
        recorder.CALLER: wanted,
        "sglang.srt.layers.moe.fused_moe_native": ["fused_moe_forward_native"],
        "sglang.srt.layers.quantization.unquant": ["UnquantizedFusedMoEMethod"],
        "sglang.srt.distributed.parallel_state": ["get_pp_group", "get_tp_group"],
    }
    for module, names in places.items():
        found = caller if module == recorder.CALLER else importlib.import_module(module)
        yield from (f"{module} has no {name}" for name in names if not hasattr(found, name))
    modules = filter(None, (sys.modules.get(name) for name in float32.OPS))
    if not any(map(float32.chooser, modules)):
        yield "no class chooses a layer's implementation as float32.py knows it"
    for module, config in (("gemma4_mm", target_config("tiny")), ("gemma4_mtp", assistant_config("tiny"))):  # fmt: skip
        entry = from_tree(f"sglang.srt.models.{module}").EntryClass
        classes = {each.__name__ for each in (entry if isinstance(entry, list) else [entry])}
        if not classes & set(config["architectures"]):
            yield f"{module} serves {', '.join(sorted(classes))}, not {config['architectures'][0]}"


def main() -> Answer:
    folder = Path(tree())
    details: dict[str, Any] = {"stand_ins": install(), **versions()}
    problems = [*refused_flags(folder), *missing_names(folder)]
    details |= {"problems": problems, "servers": [name for name, _ in servers(folder)]}
    if problems:
        return Answer(FAILED, f"{len(problems)} problems; first: {problems[0]}", details)
    names = ", ".join(details["servers"])
    return Answer(PASSED, f"the tree takes the command lines of servers {names}", details)


if __name__ == "__main__":
    answer(main)
