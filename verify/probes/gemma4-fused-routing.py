"""Does every MoE layer of Gemma 4 route its tokens in more than one kernel, or route them wrong?

Without the patch (or upstream's own router, since 0.5.13) `Gemma4MoE.routing_function` picks the top K
logits, takes their softmax and scales it, in four to six PyTorch kernels on a few hundred bytes a
token. The probe calls the function as `TopK` does, on logits of several dtypes, numbers of experts
and of winners, and on those of the tree's own `Gemma4Router`. It counts what the function launches,
and compares the result with softmax(top K logits) * scale in float64. Zeros of either sign, NaN and
infinities are left to gemma4-routing-corners.py.

On a host without a GPU the kernel runs in Triton's interpreter: that shows that it computes the right
values, but tests neither the compiled code nor its speed.

0   one Triton kernel and no computing PyTorch operation a call, for each dtype; every row right: K
    different ids in range, those of the K largest logits (the lowest ids where logits tie), and
    weights
1   otherwise: the line says how many launches there are, or which row is wrong and how
2   the probe broke, or its control did: float64 logits, which take no fused path, must be routed
    right
77  the tree has no gemma4_causal
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

TOLERANCE = 1e-5  # of weights up to 1.5: fp32 softmax against float64


def problem_of(routed: Any, logits: Any, scale: Any, topk: int) -> str | None:
    """What is wrong with a call's results, or None. The order of a row's winners is free."""
    import torch

    tokens, experts = logits.shape
    shape = (tokens, topk)
    if routed.ids.shape != shape or routed.weights.shape != shape:
        return f"shapes {[*routed.ids.shape]} and {[*routed.weights.shape]}, not {[*shape]}"
    if (routed.ids.dtype, routed.weights.dtype) != (torch.int32, torch.float32):
        return f"dtypes {routed.ids.dtype} and {routed.weights.dtype}, not int32 and float32"
    if not tokens:
        return None
    ids = routed.ids.long()
    if not bool(((ids >= 0) & (ids < experts)).all()):
        return f"ids from {int(ids.min())} to {int(ids.max())}, of {experts} experts"
    ids, order = ids.sort(dim=-1)
    if topk > 1 and not bool((ids.diff(dim=-1) > 0).all()):
        row = int((ids.diff(dim=-1) <= 0).any(dim=-1).nonzero()[0])
        return f"row {row} has an id twice: {routed.ids[row].tolist()}"
    # A stable sort leaves equal logits in the order of their ids.
    top, best = torch.sort(logits.double(), dim=-1, descending=True, stable=True)
    want = torch.softmax(top[:, :topk], dim=-1) * scale.double()[best[:, :topk]]
    best, reorder = best[:, :topk].sort(dim=-1)
    if not bool((ids == best).all()):
        row = int((ids != best).any(dim=-1).nonzero()[0])
        return f"row {row} chose {ids[row].tolist()}, not {best[row].tolist()}"
    off = (routed.weights.double().gather(1, order) - want.gather(1, reorder)).abs()
    if not bool((off <= TOLERANCE).all()):
        row = int((off <= TOLERANCE).logical_not().any(dim=-1).nonzero()[0])
        return f"row {row} has weights off by up to {float(off[row].max()):.2g}"
    return None


def cases(on_gpu: bool) -> Iterator[tuple[str, Any, int]]:
    """Yield name, logits and K of each case. Few without a GPU: a token takes the interpreter 0.1 s."""
    import torch

    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    generator = torch.Generator().manual_seed(20260523)

    def distinct(tokens: int, experts: int) -> Any:
        # A permutation of steps that every dtype holds exactly: one right answer in each of them.
        rows = [torch.randperm(experts, generator=generator) for _ in range(tokens)]
        steps = torch.stack(rows) if rows else torch.empty(0, experts)
        return (steps - experts // 2).double() / 8 + 1 / 16

    def random(tokens: int, experts: int) -> Any:
        return torch.randn(tokens, experts, generator=generator) * 3

    def tied(tokens: int, experts: int) -> Any:
        return torch.randint(1, 4, (tokens, experts), generator=generator) / 2

    listed: list[tuple[str, Any, Any, int]] = [
        *(("distinct logits", distinct(2, 64), dtype, 8) for dtype in (bf16, fp16, fp32)),
        *(("random logits", random(1, 128), dtype, 8) for dtype in (bf16, fp16, fp32)),
        ("random logits", random(3, 96), bf16, 6),
        ("random logits", random(2, 100), fp16, 7),
        ("random logits", random(4, 5), fp32, 3),
        ("random logits", random(2, 7), bf16, 1),
        ("every expert chosen", random(2, 8), bf16, 8),
        ("tied logits", tied(2, 60), bf16, 5),
        ("tied logits", tied(2, 9), fp32, 4),
        ("no tokens", distinct(0, 128), bf16, 8),
    ]
    if on_gpu:
        for tokens in (64, 1500):
            for dtype in (bf16, fp16, fp32):
                listed += [
                    ("random logits", random(tokens, 128), dtype, 8),
                    ("tied logits", tied(tokens, 100), dtype, 7),
                    ("random logits", random(tokens, 1000), dtype, 16),
                ]
    for name, logits, dtype, topk in listed:
        short = str(dtype).removeprefix("torch.")
        tokens, experts = logits.shape
        yield f"{name}, {tokens} x {experts} {short}, top {topk}", logits.to(dtype), topk


def raised_in_tree(error: Exception) -> bool:
    """Whether the tree's own code raised the error, rather than Triton or PyTorch below it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and not in_tree(frames[-1].filename).startswith("..")


def router_logits(routing: Any, router: type) -> Any:
    """Logits that the tree's own router computes, with random weights."""
    import torch

    generator = torch.Generator().manual_seed(1)
    module = router(routing.config).to(torch.bfloat16).to(routing.device)
    hidden = torch.randn(3, routing.config.hidden_size, generator=generator).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return module(hidden.to(routing.device))


def main() -> Answer:
    from verify import tiny

    details: dict[str, Any] = {"stand_ins": install(), **versions(), "tree": tree()}
    ran_on = details["ran_on"] = tiny.pick_device()
    causal = from_tree("sglang.srt.models.gemma4_causal", absent=DOES_NOT_APPLY)
    file = details["file"] = in_tree(causal.__file__)
    details["stand_ins"] += tiny.one_rank()
    import torch

    layers: dict[tuple[int, int], Any] = {}

    def layer_of(experts: int, topk: int) -> Any:
        if (experts, topk) not in layers:
            layers[experts, topk] = tiny.Routing(experts, topk, seed=experts)
        return layers[experts, topk]

    draw = torch.Generator().manual_seed(2)
    control = torch.randperm(16 * 3, generator=draw).view(3, 16).double() / 8 + 1 / 16
    plain = layer_of(16, 4)
    if problem := problem_of(plain(control, on_gpu=False), control, plain.scale, 4):
        raise Answer(BROKE, f"control: {file}: float64 logits are routed wrong: {problem}", details)

    listed = list(cases(torch.cuda.is_available()))
    logits = router_logits(layer_of(24, 4), causal.Gemma4Router)
    dtype_name = str(logits.dtype).removeprefix("torch.")
    listed.append((f"logits of Gemma4Router, 3 x 24 {dtype_name}, top 4", logits.cpu(), 4))
    kernels: set[str] = set()
    for name, logits, topk in listed:
        kernels.update(check_case(layer_of(logits.shape[1], topk), name, logits, topk, details))
    rows = sum(logits.shape[0] for _, logits, _ in listed)
    details.update(kernels=sorted(kernels), cases=len(listed), rows=rows)
    with_triton = f", triton {details['triton']}" if os.environ.get("TRITON_INTERPRET") else ""
    return Answer(
        NOT_PRESENT,
        f"{file}: routing_function launches one kernel, {' or '.join(sorted(kernels))}, and "
        f"{len(listed)} cases of {rows} rows are right ({ran_on}{with_triton})",
        details,
    )


def check_case(layer: Any, name: str, logits: Any, topk: int, details: dict[str, Any]) -> list[str]:
    """Route the logits of one case. Returns the kernels that were launched."""
    file = details["file"]
    try:
        routed = layer(logits)
    except Exception as error:
        if not raised_in_tree(error):
            raise
        saw = f"{file}: {name}: routing raises {type(error).__name__}: {error}"
        raise Answer(PRESENT, saw, details) from error
    problem = problem_of(routed, logits, layer.scale, topk)
    if problem and routed.kernels:
        raise Answer(PRESENT, f"{file}: {routed.kernels[0]}: {name}: {problem}", details)
    if logits.shape[0] and not routed.fused:
        raise Answer(
            PRESENT,
            f"{file}: {name}: routing_function takes {len(routed.kernels)} Triton kernels and "
            f"{len(routed.operations)} PyTorch operations ({', '.join(routed.operations)}), "
            "not one kernel",
            {**details, "kernels": routed.kernels, "operations": routed.operations},
        )
    if problem:
        raise Answer(PRESENT, f"{file}: {name}: {problem}", details)
    return list(routed.kernels)


if __name__ == "__main__":
    answer(main)
