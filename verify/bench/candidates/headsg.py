"""Sorted lanes, a round over the heads; one vector load, split; scale loaded with the logits and gathered."""

import torch
import triton
import triton.language as tl

TILE = None  # (rows, warps) to force


@triton.jit
def _bits(x):
    """Float bits with one zero and one NaN, which is the largest."""
    if x.dtype == tl.bfloat16:  # by hand: the interpreter's cast loses subnormals
        x = (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    x = x.to(tl.float32) + 0.0  # -0.0 becomes +0.0
    return tl.where(x == x, x.to(tl.int32, bitcast=True), 0x7FFFFFFF)


@triton.jit
def _key(x):
    """fp32 to an int32 in the same order."""
    v = _bits(x)
    return v ^ ((v >> 31) & 0x7FFFFFFF)


@triton.jit
def _value(key):
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _pack(x, experts, TILE: tl.constexpr):
    """A 16-bit float and its expert in one int32: in fp32 its low 13 bits are free."""
    v = _bits(x)
    return ((v & -TILE) | (TILE - 1 - experts)) ^ ((v >> 31) & (0x80000000 - TILE))


@triton.jit
def _unpack(packed, TILE: tl.constexpr):
    v = packed & -TILE
    return (v ^ ((v >> 31) & (0x80000000 - TILE))).to(tl.float32, bitcast=True)


@triton.jit
def _order(a, b):
    return tl.maximum(a, b), tl.minimum(a, b)


@triton.jit
def _swap(a, i, b, j):
    """Two keys and their experts, the higher key first; equal ones stay."""
    up = b > a
    return tl.where(up, b, a), tl.where(up, j, i), tl.where(up, a, b), tl.where(up, i, j)


@triton.jit
def _read(at, live, experts, E: tl.constexpr, ROWS: tl.constexpr):
    if E == 128 and ROWS == 1:
        x = tl.load(at)
    elif E == 128:
        x = tl.load(at, mask=live, other=0.0)
    else:
        x = tl.load(at, mask=live & (experts < E), other=0.0)
    return x


@triton.jit
def _padded(key, experts, E: tl.constexpr):
    return key if E == 128 else tl.where(experts < E, key, -(2**31))


@triton.jit
def _softmax(top, first, K: tl.constexpr, ROWS: tl.constexpr):
    """Of the first K of 32 lanes; sums over as few lanes as hold K."""
    FEW: tl.constexpr = triton.next_power_of_2(K)
    exps = tl.exp(top - first)
    if K != FEW:
        exps = tl.where(tl.arange(0, 32)[None, :] < K, exps, 0.0)
    exps = tl.reshape(exps, [ROWS, 32 // FEW, FEW])
    return tl.reshape(exps / tl.sum(exps, axis=2)[:, :, None], [ROWS, 32])


@triton.jit
def _scale(scale_ptr, experts, E: tl.constexpr, ROWS: tl.constexpr):
    if E == 128:
        s = tl.load(scale_ptr + experts)
    else:
        s = tl.load(scale_ptr + experts, mask=experts < E, other=0.0)
    return tl.broadcast_to(s.to(tl.float32), [ROWS, 32])


@triton.jit(do_not_specialize=["num_tokens"])
def _heads_kernel(
    logits_ptr, scale_ptr, weights_ptr, ids_ptr, num_tokens, stride_t,
    E: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A row on 32 lanes of 4: each lane sorts its own, and a round is a max over the heads."""
    WIDE: tl.constexpr = logits_ptr.dtype.element_ty == tl.float32
    LOWEST: tl.constexpr = -(2**31)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.arange(0, 32)[None, :]
    live = rows < num_tokens
    # The scale comes with the logits, not after the rounds.
    s0 = _scale(scale_ptr, lane, E, ROWS)
    s1 = _scale(scale_ptr, lane + 32, E, ROWS)
    s2 = _scale(scale_ptr, lane + 64, E, ROWS)
    s3 = _scale(scale_ptr, lane + 96, E, ROWS)
    i0, i1, i2, i3 = 4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3
    experts = tl.arange(0, 128)[None, :]
    x = _read(logits_ptr + rows.to(tl.int64) * stride_t + experts, live, experts, E, ROWS)
    if WIDE:
        key = _padded(_key(x), experts, E)
    else:
        key = _padded(_pack(x, experts, 128), experts, E)
    even, odd = tl.split(tl.reshape(key, [ROWS, 32, 2, 2]))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    if WIDE:  # neighbours only, so that equal keys keep their experts' order
        a, i0, b, i1 = _swap(a, i0, b, i1)
        c, i2, d, i3 = _swap(c, i2, d, i3)
        b, i1, c, i2 = _swap(b, i1, c, i2)
        a, i0, b, i1 = _swap(a, i0, b, i1)
        c, i2, d, i3 = _swap(c, i2, d, i3)
        b, i1, c, i2 = _swap(b, i1, c, i2)
    else:
        a, b = _order(a, b)
        c, d = _order(c, d)
        a, c = _order(a, c)
        b, d = _order(b, d)
        b, c = _order(b, c)

    chosen = tl.zeros([ROWS, 32], dtype=tl.int32)  # slot k in lane k
    ids = tl.zeros([ROWS, 32], dtype=tl.int32)
    first = tl.zeros([ROWS, 1], dtype=tl.float32)
    for k in tl.static_range(K):
        best = tl.max(a, axis=1)[:, None]
        if WIDE:
            who = tl.min(tl.where(a == best, i0, 128), axis=1)[:, None]
            ids = tl.where(lane == k, who, ids)
            won = (a == best) & (i0 == who)
            i0, i1, i2 = tl.where(won, i1, i0), tl.where(won, i2, i1), tl.where(won, i3, i2)
        else:
            won = a == best
        if k == 0:
            first = _value(best) if WIDE else _unpack(best, 128)
        chosen = tl.where(lane == k, best, chosen)
        a, b, c, d = (
            tl.where(won, b, a),
            tl.where(won, c, b),
            tl.where(won, d, c),
            tl.where(won, LOWEST, d),
        )

    out = (lane < K) if ROWS == 1 else (live & (lane < K))
    if WIDE:
        top = _value(chosen)
    else:
        ids = 127 - (chosen & 127)
        top = _unpack(chosen, 128)
    at = ids & 31
    low = tl.where((ids & 32) == 0, tl.gather(s0, at, 1), tl.gather(s1, at, 1))
    high = tl.where((ids & 32) == 0, tl.gather(s2, at, 1), tl.gather(s3, at, 1))
    scale = tl.where(ids < 64, low, high)
    weights = _softmax(top, first, K, ROWS)
    to = rows.to(tl.int64) * K + lane
    tl.store(weights_ptr + to, weights * scale, mask=out)
    tl.store(ids_ptr + to, ids, mask=out)


@triton.jit(do_not_specialize=["num_tokens"])
def _rounds_kernel(
    logits_ptr, scale_ptr, weights_ptr, ids_ptr, num_tokens, stride_t,
    E: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """K rounds of row max; fp32 in two steps, the highest key and then its lowest expert."""
    TILE: tl.constexpr = triton.next_power_of_2(E)
    SLOTS: tl.constexpr = 32
    WIDE: tl.constexpr = logits_ptr.dtype.element_ty == tl.float32
    LOWEST: tl.constexpr = -(2**31)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    experts = tl.arange(0, TILE)[None, :]
    slots = tl.arange(0, SLOTS)[None, :]
    live = rows < num_tokens
    at = logits_ptr + rows.to(tl.int64) * stride_t + experts
    if ROWS == 1 and E == TILE:
        x = tl.load(at)
    elif E == TILE:
        x = tl.load(at, mask=live, other=0.0)
    else:
        x = tl.load(at, mask=live & (experts < E), other=0.0)
    key = _key(x) if WIDE else _pack(x, experts, TILE)
    if E != TILE:
        key = tl.where(experts < E, key, LOWEST)
    chosen = tl.zeros([ROWS, SLOTS], dtype=tl.int32)
    first = tl.zeros([ROWS, 1], dtype=tl.float32)
    chosen_ids = tl.zeros([ROWS, SLOTS], dtype=tl.int32)
    for k in tl.static_range(K):
        best = tl.max(key, axis=1)[:, None]
        if k == 0:
            first = _value(best) if WIDE else _unpack(best, TILE)
        chosen = tl.where(slots == k, best, chosen)
        if WIDE:
            who = tl.min(tl.where(key == best, experts, TILE), axis=1)[:, None]
            chosen_ids = tl.where(slots == k, who, chosen_ids)
            key = tl.where(experts == who, LOWEST, key)
        else:
            key = tl.where(key == best, LOWEST, key)
    if WIDE:
        ids = chosen_ids
        top = _value(chosen)
    else:
        ids = TILE - 1 - (chosen & (TILE - 1))
        top = _unpack(chosen, TILE)
    out = live & (slots < K)
    flat = tl.reshape(ids, [ROWS * SLOTS])  # or the load takes a layout of its own
    wanted = tl.reshape(tl.broadcast_to(out, [ROWS, SLOTS]), [ROWS * SLOTS])
    scale = tl.load(scale_ptr + flat, mask=wanted, other=0.0).to(tl.float32)
    scale = tl.reshape(scale, [ROWS, SLOTS])
    top = tl.where(slots < K, top, -float("inf"))
    exps = tl.exp(top - first)
    weights = exps / tl.sum(exps, axis=1)[:, None]
    at = rows.to(tl.int64) * K + slots
    tl.store(weights_ptr + at, weights * scale, mask=out)
    tl.store(ids_ptr + at, ids, mask=out)


def gemma4_fused_routing(
    gating_output: torch.Tensor, per_expert_scale: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    assert gating_output.dim() == 2, "logits must be [T, E]"
    T, E = gating_output.shape
    dtype = gating_output.dtype
    assert dtype in (torch.bfloat16, torch.float16, torch.float32), f"logits are {dtype}"
    assert E <= 1024, f"at most 1024 experts, got {E}"
    assert per_expert_scale.shape == (E,), f"scale must be one number for each of {E}"
    assert 1 <= topk <= min(E, 32), f"topk must be in 1..{min(E, 32)}, got {topk}"
    if gating_output.stride(1) != 1:
        gating_output = gating_output.contiguous()
    weights = gating_output.new_empty((T, topk), dtype=torch.float32)
    ids = gating_output.new_empty((T, topk), dtype=torch.int32)
    if T == 0:
        return weights, ids
    rows, warps = TILE or ((4, 4) if T > 1024 and E <= 128 else (1, 1))
    if E <= 128:
        _heads_kernel[(triton.cdiv(T, rows),)](
            gating_output, per_expert_scale.contiguous(), weights, ids, T, gating_output.stride(0),
            E, topk, rows, num_warps=warps,
        )  # fmt: skip
    else:
        _rounds_kernel[(triton.cdiv(T, rows),)](
            gating_output, per_expert_scale.contiguous(), weights, ids, T, gating_output.stride(0),
            E, topk, rows, num_warps=warps,
        )  # fmt: skip
    return weights, ids
