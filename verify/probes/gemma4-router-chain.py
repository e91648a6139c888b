"""Do the router's norm, its projection and its routing take a launch each for a decode step's few tokens?

In SGLang a layer of Gemma 4 launches four or five kernels between the residual and the experts' ids,
and one more for the experts' norm of the same residual. With the patch `Gemma4Router` does it all in
one launch, for up to 32 tokens. The probe calls router, norm and routing function as the decoder layer
does, and compares logits, weights, ids and the experts' input with their definition in float64. Without
a GPU the kernel runs in Triton's interpreter.

0   one launch, and everything right
1   the router has no such path; or its result is wrong: the line says how
2   the probe broke, or its control did: more tokens than the kernel takes must be left to the others
77  the tree has no Gemma4Router
"""

from __future__ import annotations

import os
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

SHAPE = (96, 16, 4)  # hidden, experts, winners


def main() -> Answer:
    from verify import tiny

    details: dict[str, Any] = {"stand_ins": install(), "tree": tree()}
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    gemma4 = from_tree("sglang.srt.models.gemma4_causal", absent=DOES_NOT_APPLY)
    if not hasattr(gemma4, "Gemma4Router"):
        raise Answer(DOES_NOT_APPLY, "Gemma 4 has no router here", details)
    details |= {**versions(), "file": in_tree(gemma4.__file__)}
    from verify.routing.chain_layer import (
        compare_layer,
        experts_norm,
        has_chain,
        takes,
        truncates,
    )

    if not has_chain(gemma4):
        raise Answer(
            PRESENT, f"{details['file']}: norm, projection and routing take a launch each", details
        )
    from verify.routing.end_to_end import build_layers, hidden_states

    details["stand_ins"] += tiny.one_rank()
    device = "cuda" if on_gpu else "cpu"
    cut = truncates(device)
    rows = 0
    with torch.no_grad():
        for dtype in (torch.bfloat16, torch.float16):
            router, moe = build_layers(gemma4, SHAPE, dtype, device)
            norm = experts_norm(gemma4, router, moe)
            many = hidden_states(33, SHAPE[0], dtype, device)
            if takes(gemma4, router, many):
                raise Answer(BROKE, "control: 33 tokens were not left to other kernels", details)
            for tokens in (1, 5, 16):
                states = hidden_states(tokens, SHAPE[0], dtype, device)
                found = compare_layer(gemma4, router, moe, norm, states, SHAPE[2], cut)
                rows += found.rows
                if found.problems:
                    raise Answer(
                        PRESENT, f"{tokens} tokens in {dtype}: {found.problems[0]}", details
                    )
    where = torch.cuda.get_device_name() if on_gpu else "interpreter"
    return Answer(NOT_PRESENT, f"one launch, {rows} rows right ({where})", details)


if __name__ == "__main__":
    answer(main)
