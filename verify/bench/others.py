"""Routings of other projects, as rows beside the router's chain.

    vllm           the launcher in vLLM's model file, on fp32 logits, as vLLM routes Gemma 4
    topk_softmax   sgl_kernel's, without the experts' scale, which it does not know
    muse_spark     SGLang's CUDA routing for another model (muse_spark/routing.cuh, compiled by nvcc at the
                   first call), on fp32 logits, as softmax, without a bias, and without the experts' scale
    quack          quack's topk with softmax (CuTe DSL), without the experts' scale

What this host lacks, or what fails at its first call, is named with its reason, and costs only its rows.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from verify.bench.peer import load_peer
from verify.routing.compare import compare_with_oracle


@dataclass(frozen=True)
class OtherRouting:
    """A routing of another project: ``route(logits, scale, topk)`` gives weights and ids. ``dtype`` is
    that of the logits that it takes; None, if it takes the model's. ``scales``: it knows the scale."""

    name: str
    route: Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
    dtype: torch.dtype | None = None
    scales: bool = False

    def problem(self, logits: torch.Tensor, scale: torch.Tensor, topk: int, answer: Any) -> str:
        """What differs from the oracle's answer; "" if nothing does. Others may order ties, zeros and
        NaN as they like, so this is told and not held against them."""
        weights, ids = answer
        scale = scale if self.scales else torch.ones_like(scale)
        found = compare_with_oracle(weights.float(), ids.int(), logits, scale, topk)
        return "; ".join(found.problems)[:300]


def fp32_product(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """x times the transposed matrix, in fp32: in one launch on a GPU, if torch is new enough."""
    if x.is_cuda:
        return torch.mm(x, matrix.T, out_dtype=torch.float32)
    return x.float() @ matrix.T.float()


def vllm(file: str) -> OtherRouting:
    launcher = load_peer(file, "vllm_routing").gemma4_fused_routing
    return OtherRouting("vllm", launcher, torch.float32, scales=True)


def topk_softmax() -> OtherRouting:
    fill = importlib.import_module("sgl_kernel").topk_softmax

    def route(
        logits: torch.Tensor, scale: torch.Tensor, topk: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights = logits.new_empty((len(logits), topk), dtype=torch.float32)
        ids = logits.new_empty((len(logits), topk), dtype=torch.int32)
        fill(weights, ids, logits, True)  # renormalized over the winners
        return weights, ids

    return OtherRouting("topk_softmax", route)


def muse_spark(folder: str) -> OtherRouting:
    """``folder`` is a release's python/ folder, as it is in the wheel of 0.5.23."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = "sglang.kernels.ops.moe.muse_spark_routing_jit"
    fused = importlib.import_module(name).fused_muse_spark_routing_jit
    biases: dict[int, torch.Tensor] = {}

    def route(
        logits: torch.Tensor, scale: torch.Tensor, topk: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        experts = logits.shape[1]
        if experts not in biases:
            biases[experts] = torch.zeros(experts, dtype=torch.float32, device=logits.device)
        weights, ids, _ = fused(
            logits, biases[experts], topk, 1.0, router_score_normalization="softmax"
        )
        return weights, ids

    return OtherRouting("muse_spark", route, torch.float32)


def quack() -> OtherRouting:
    topk_of = importlib.import_module("quack.topk").topk

    def route(
        logits: torch.Tensor, scale: torch.Tensor, topk: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights, ids = topk_of(logits, topk, softmax=True)
        return weights, ids

    return OtherRouting("quack", route)


def load_others(options: argparse.Namespace) -> tuple[list[OtherRouting], dict[str, str]]:
    """Those that can be loaded, and why the rest cannot. ``options`` has --vllm and --sglang."""
    loaders: dict[str, Callable[[], OtherRouting]] = {"topk_softmax": topk_softmax, "quack": quack}
    missing = {}
    for name, option, loader in (("vllm", "vllm", vllm), ("muse_spark", "sglang", muse_spark)):
        if place := getattr(options, option):
            loaders[name] = partial(loader, place)
        else:
            missing[name] = f"not asked for: --{option}"
    others = []
    for name, load in loaders.items():
        try:
            others.append(load())
        except Exception as error:
            missing[name] = repr(error)[:200]
    return others, missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vllm", metavar="FILE", help="vLLM's model file, with its fused routing")
    parser.add_argument(
        "--sglang", metavar="FOLDER", help="python/ of SGLang 0.5.23, to compile from"
    )
