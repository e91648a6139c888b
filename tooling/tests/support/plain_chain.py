"""The launchers of Gemma 4's routing and of its router's chain in plain PyTorch, in the place of SGLang's.

Tests import this module, or write its text into a tree. ``kernel`` stands in for a Triton kernel: each
answer of the chain launches it once. ``spoil`` changes the logits before they are routed.
"""

from __future__ import annotations

from typing import Any

import torch

_CHAIN_TILES = ((4, 1, 2, 4), (32, 4, 4, 4))


class Kernel:
    """What a check counts launches of has a module below triton, and a method ``run``."""

    __module__ = "triton.plain"

    def run(self) -> None:
        pass


kernel = Kernel()


def spoil(logits: Any) -> Any:
    return logits


def gemma4_fused_routing(logits: Any, scale: Any, topk: int) -> tuple[Any, Any]:
    value, ids = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    weights = torch.softmax(value, dim=-1) * scale.float()[ids]
    return weights.contiguous(), ids.int().contiguous()


def gemma4_router_chain(
    x: Any, channel: Any, matrix: Any, eps: float, scale: Any, topk: int, norm: Any,
    norm_eps: float, twice: bool = False,
) -> tuple[Any, ...] | None:  # fmt: skip
    if not 1 <= len(x) <= _CHAIN_TILES[-1][0]:
        return None
    kernel.run()

    def normed(eps: float, weight: Any, twice: bool) -> Any:
        wide = x.float()
        value = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        value = value.to(x.dtype).float() if twice else value
        return (value * weight.float()).to(x.dtype)

    channels = normed(eps, channel, twice)
    logits = spoil((channels.float() @ matrix.float().T).to(x.dtype))
    return logits, *gemma4_fused_routing(logits, scale, topk), normed(norm_eps, norm, False)


def moe_align_few(ids: Any, block: int, *buffers: Any) -> bool:
    fits = 1 <= ids.numel() <= 256
    if fits:
        align(ids, block, *buffers)
    return fits


def align(ids: Any, block: int, places: Any, owners: Any, total: Any) -> None:
    """Pairs of tokens and slots, sorted by expert, those of each expert in whole blocks."""
    chosen = ids.flatten().tolist()
    found: list[int] = []
    experts: list[int] = []
    for expert in sorted(set(chosen)):
        pairs = [pair for pair, own in enumerate(chosen) if own == expert]
        found += pairs + [len(chosen)] * (-len(pairs) % block)
        experts += [expert] * (-(-len(pairs) // block))
    places.fill_(len(chosen))
    places[: len(found)] = torch.tensor(found, dtype=places.dtype)
    owners[: len(experts)] = torch.tensor(experts, dtype=owners.dtype)
    total.fill_(len(found))
