"""Does the fused router of Gemma 4 define what `torch.topk` and softmax do in the corners?

Upstream's router (0.5.13 to 0.5.23) routes finite logits right, and differs where they are not, or
are zero: -0.0 ranks below +0.0; a NaN whose sign bit is set ranks last; a row of which NaN or +inf
is chosen gets weights that are partly finite; more than 1024 experts are an assertion. Our patch
for 0.5.23 replaces the kernel, and its order is: logit descending, then id ascending; -0.0 equals
+0.0; every NaN above +inf, as in `torch.topk`; a row with NaN or +inf among its winners, or of -inf
only, has NaN weights throughout, as from `torch.softmax`. Rows may be strided. More than 1024
experts, or 32 winners, take the PyTorch operations.

0   every corner, in bf16, fp16 and fp32, is as above
1   one is not: the line says which, and how
2   the probe broke, or its control did: finite logits must be routed right
77  the tree has no fused router: its routing_function launches no kernel, or more than one
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

INF, NAN = float("inf"), float("nan")
EXPERTS, TOPK = 12, 4


def oracle(logits: Any, scale: Any, topk: int) -> tuple[Any, Any]:
    """Weights and ids in float64. The order of the ids is part of what is defined."""
    import torch

    value = logits.cpu().double() + 0.0  # turns -0.0 into +0.0
    value = torch.where(value.isnan(), torch.full_like(value, NAN), value)  # one NaN for all
    value, ids = torch.sort(value, dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    return torch.softmax(value, dim=-1) * scale.double()[ids], ids


def said(row: Any) -> str:
    """A row of weights, short."""
    return "[" + ", ".join(f"{value:.3g}" for value in row.tolist()) + "]"


def differs(seen: Any, logits: Any, scale: Any, topk: int) -> str | None:
    """How a call's results differ from the oracle's, or None."""
    import torch

    want_weights, want_ids = oracle(logits, scale, topk)
    ids, weights = seen.ids.long(), seen.weights.double()
    if ids.shape != want_ids.shape or weights.shape != want_weights.shape:
        return f"shapes {[*ids.shape]} and {[*weights.shape]}"
    if not bool((ids == want_ids).all()):
        row = int((ids != want_ids).any(dim=-1).nonzero()[0])
        return f"ids {ids[row].tolist()}, not {want_ids[row].tolist()}"
    same = torch.isclose(weights, want_weights, rtol=2e-5, atol=1e-6, equal_nan=True)
    if not bool(same.all()):
        row = int(same.logical_not().any(dim=-1).nonzero()[0])
        return f"weights {said(weights[row])}, not {said(want_weights[row])}"
    return None


def corners(dtype: Any, device: str) -> Iterator[tuple[str, Any, int]]:
    """A name, logits on the device, and K."""
    import torch

    generator = torch.Generator().manual_seed(12)

    def finite(rows: int, experts: int = EXPERTS) -> Any:
        steps = [torch.randperm(experts, generator=generator) + 1 for _ in range(rows)]
        return (torch.stack(steps) / 8).to(dtype)

    def having(**at: float) -> Any:
        logits = finite(1)
        for place, value in at.items():
            logits[0, int(place[1:])] = value
        return logits

    # The sign bit of a NaN does not survive arithmetic: it is set in the bits.
    negative_nan = -finite(1).fill_(NAN)
    integer = torch.int16 if dtype.itemsize == 2 else torch.int32
    negative_nan.view(integer).bitwise_or_(torch.iinfo(integer).min)
    below_zero = having(_7=NAN)
    below_zero[0, 7] = negative_nan[0, 0]

    zeros = -finite(2)
    zeros[0, [2, 5, 8]] = torch.tensor([-0.0, 0.0, -0.0], dtype=dtype)
    zeros[1, [1, 3, 4, 6, 9, 11]] = torch.tensor([0.0, -0.0, 0.0, -0.0, 0.0, -0.0], dtype=dtype)
    yield "finite logits", finite(2), TOPK  # the control: first
    yield "-0.0 equals +0.0", zeros, TOPK
    yield "NaN ranks above +inf", having(_3=INF, _7=NAN), TOPK
    yield "NaN with its sign bit set ranks above +inf", below_zero, TOPK
    yield "NaN of both signs tie", negative_nan.where(torch.arange(EXPERTS) % 2 == 0, NAN), TOPK
    yield "+inf among the winners", having(_5=INF), TOPK
    yield "two +inf", having(_2=INF, _9=INF), TOPK
    yield "-inf last", having(**{f"_{i}": -INF for i in range(9)}), TOPK
    yield "-inf only", finite(1).fill_(-INF), TOPK
    wide = finite(4, 30).to(device)
    yield "rows of a wider tensor", wide[:, 7:19], TOPK
    yield "every other row", wide[::2, :EXPERTS], TOPK
    yield "transposed", finite(5, 3).to(device).T, TOPK
    if dtype.itemsize == 4:  # exact in fp32 only, and the path is one for all
        yield "more than 1024 experts", finite(2, 1030), TOPK
        yield "more than 32 winners", finite(1, 40), 33


def main() -> Answer:
    from verify import tiny

    details: dict[str, Any] = {"stand_ins": install(), **versions(), "tree": tree()}
    ran_on = details["ran_on"] = tiny.pick_device()
    causal = from_tree("sglang.srt.models.gemma4_causal", absent=DOES_NOT_APPLY)
    file = details["file"] = in_tree(causal.__file__)
    details["stand_ins"] += tiny.one_rank()
    import torch

    built: dict[tuple[int, int], Any] = {}
    found: dict[str, str] = {}
    tried: set[str] = set()
    kernel, calls = "", 0
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        short = str(dtype).removeprefix("torch.")
        for corner, logits, topk in corners(dtype, "cuda" if torch.cuda.is_available() else "cpu"):
            size = (logits.shape[1], topk)
            if size not in built:
                built[size] = tiny.Routing(*size)
            tried.add(corner)
            calls += 1
            seen = None
            try:
                seen = built[size](logits)
                saw = differs(seen, logits, built[size].scale, topk)
            except AssertionError as error:
                saw = f"AssertionError: {error}"
            if corner == "finite logits":
                if seen is None:
                    raise Answer(BROKE, f"control: {file}: finite {short} logits: {saw}", details)
                if not seen.fused:
                    raise Answer(
                        DOES_NOT_APPLY,
                        f"{file}: no fused router here: {short} logits take {len(seen.kernels)} "
                        f"Triton kernels and {len(seen.operations)} PyTorch operations",
                        details,
                    )
                if saw:
                    raise Answer(BROKE, f"control: {file}: finite {short} logits: {saw}", details)
                kernel = seen.kernels[0]
            elif saw:
                found.setdefault(corner, f"{saw} ({short})")
                details.setdefault("differs", []).append([corner, short, saw])
    details.update(kernel=kernel, calls=calls, corners=sorted(tried))
    if found:
        listed = "; ".join(f"{corner}: {saw}" for corner, saw in found.items())
        raise Answer(PRESENT, f"{kernel} differs in {len(found)} corners: {listed}", details)
    return Answer(
        NOT_PRESENT,
        f"{kernel}: {len(tried) - 1} corners in {calls} calls are as defined ({ran_on})",
        details,
    )


if __name__ == "__main__":
    answer(main)
