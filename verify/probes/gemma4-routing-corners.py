"""Does the fused router of Gemma 4 treat special values as `torch.topk` and softmax do?

Upstream's router (0.5.13 to 0.5.23) routes finite logits right, but differs on zeros and non-finite
logits: -0.0 ranks below +0.0; a NaN whose sign bit is set ranks last; a row of which NaN or +inf is
chosen gets weights that are partly finite; more than 1024 experts raise an assertion. Our patches for
0.5.13 and for 0.5.23 replace the kernel. Its order is: logit descending, then id ascending; -0.0 equals +0.0; every
NaN above +inf, as in `torch.topk`. A row with NaN or +inf among its winners, or of -inf only, has NaN
weights throughout, as from `torch.softmax`. Rows may be strided. More than 1024 experts, or 32
winners, take the PyTorch operations.

0   every corner case, in bf16, fp16 and fp32, is as above
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
    """Weights and ids in float64. The order of the ids is defined too."""
    import torch

    value = logits.cpu().double() + 0.0  # turns -0.0 into +0.0
    value = torch.where(value.isnan(), torch.full_like(value, NAN), value)  # one NaN for all
    value, ids = torch.sort(value, dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    return torch.softmax(value, dim=-1) * scale.double()[ids], ids


def short(row: Any) -> str:
    """A row of weights with three digits each."""
    return "[" + ", ".join(f"{value:.3g}" for value in row.tolist()) + "]"


def difference(routed: Any, logits: Any, scale: Any, topk: int) -> str | None:
    """How a call's results (a `tiny.Routed`) differ from the oracle's, or None."""
    import torch

    want_weights, want_ids = oracle(logits, scale, topk)
    ids, weights = routed.ids.long(), routed.weights.double()
    if ids.shape != want_ids.shape or weights.shape != want_weights.shape:
        return f"shapes {[*ids.shape]} and {[*weights.shape]}"
    if not bool((ids == want_ids).all()):
        row = int((ids != want_ids).any(dim=-1).nonzero()[0])
        return f"ids {ids[row].tolist()}, not {want_ids[row].tolist()}"
    same = torch.isclose(weights, want_weights, rtol=2e-5, atol=1e-6, equal_nan=True)
    if not bool(same.all()):
        row = int(same.logical_not().any(dim=-1).nonzero()[0])
        return f"weights {short(weights[row])}, not {short(want_weights[row])}"
    return None


def corners(dtype: Any, device: str) -> Iterator[tuple[str, Any, int]]:
    """Yield the name, the logits on the device and K of every corner case; first the control."""
    import torch

    generator = torch.Generator().manual_seed(12)

    def finite(rows: int, experts: int = EXPERTS) -> Any:
        steps = [torch.randperm(experts, generator=generator) + 1 for _ in range(rows)]
        return (torch.stack(steps) / 8).to(dtype)

    def with_values(**at: float) -> Any:
        logits = finite(1)
        for place, value in at.items():
            logits[0, int(place[1:])] = value
        return logits

    # The sign bit of a NaN does not survive arithmetic: it is set in the bits.
    negative_nan = -finite(1).fill_(NAN)
    integer = torch.int16 if dtype.itemsize == 2 else torch.int32
    negative_nan.view(integer).bitwise_or_(torch.iinfo(integer).min)
    below_zero = with_values(_7=NAN)
    below_zero[0, 7] = negative_nan[0, 0]

    zeros = -finite(2)
    zeros[0, [2, 5, 8]] = torch.tensor([-0.0, 0.0, -0.0], dtype=dtype)
    zeros[1, [1, 3, 4, 6, 9, 11]] = torch.tensor([0.0, -0.0, 0.0, -0.0, 0.0, -0.0], dtype=dtype)
    yield "finite logits", finite(2), TOPK  # the control: first
    yield "-0.0 equals +0.0", zeros, TOPK
    yield "NaN ranks above +inf", with_values(_3=INF, _7=NAN), TOPK
    yield "NaN with its sign bit set ranks above +inf", below_zero, TOPK
    yield "NaN of both signs tie", negative_nan.where(torch.arange(EXPERTS) % 2 == 0, NAN), TOPK
    yield "+inf among the winners", with_values(_5=INF), TOPK
    yield "two +inf", with_values(_2=INF, _9=INF), TOPK
    yield "-inf last", with_values(**{f"_{i}": -INF for i in range(9)}), TOPK
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

    layers: dict[tuple[int, int], Any] = {}
    differing: dict[str, str] = {}
    tried: set[str] = set()
    kernel, calls = "", 0
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        dtype_name = str(dtype).removeprefix("torch.")
        for corner, logits, topk in corners(dtype, "cuda" if torch.cuda.is_available() else "cpu"):
            size = (logits.shape[1], topk)
            layer = layers[size] = layers.get(size) or tiny.Routing(*size)
            tried.add(corner)
            calls += 1
            routed = None
            try:
                routed = layer(logits)
                problem = difference(routed, logits, layer.scale, topk)
            except AssertionError as error:
                problem = f"AssertionError: {error}"
            if corner == "finite logits":
                kernel = check_control(
                    routed, problem, f"{file}: finite {dtype_name} logits", details
                )
            elif problem:
                differing.setdefault(corner, f"{problem} ({dtype_name})")
                details.setdefault("differs", []).append([corner, dtype_name, problem])
    details.update(kernel=kernel, calls=calls, corners=sorted(tried))
    if differing:
        listed = "; ".join(f"{corner}: {problem}" for corner, problem in differing.items())
        raise Answer(PRESENT, f"{kernel} differs in {len(differing)} corners: {listed}", details)
    return Answer(
        NOT_PRESENT,
        f"{kernel}: {len(tried) - 1} corners in {calls} calls are as defined ({ran_on})",
        details,
    )


def check_control(routed: Any, problem: str | None, what: str, details: dict[str, Any]) -> str:
    """Finite logits must take one fused kernel, whose name is returned, and be routed right."""
    if routed is not None and not routed.fused:
        raise Answer(
            DOES_NOT_APPLY,
            f"{details['file']}: no fused router here: {what.rpartition('finite ')[2]} take "
            f"{len(routed.kernels)} Triton kernels and {len(routed.operations)} PyTorch operations",
            details,
        )
    if problem:
        raise Answer(BROKE, f"control: {what}: {problem}", details)
    return str(routed.kernels[0])


if __name__ == "__main__":
    answer(main)
