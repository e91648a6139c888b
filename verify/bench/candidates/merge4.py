"""4 lanes a row: sorted eights merged in registers, then across lanes."""

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


LANES = tl.constexpr(4)  # that share a row, 8 experts each at a time


@triton.jit
def _order(a, b):
    if a.dtype == tl.int64:
        up = b > a
        return tl.where(up, b, a), tl.where(up, a, b)
    else:
        return tl.maximum(a, b), tl.minimum(a, b)


@triton.jit
def _top(a, b):
    return tl.maximum(a, b)


@triton.jit
def _sort8(t0, t1, t2, t3, t4, t5, t6, t7):
    """The highest first."""
    t0, t2 = _order(t0, t2)
    t1, t3 = _order(t1, t3)
    t4, t6 = _order(t4, t6)
    t5, t7 = _order(t5, t7)
    t0, t4 = _order(t0, t4)
    t1, t5 = _order(t1, t5)
    t2, t6 = _order(t2, t6)
    t3, t7 = _order(t3, t7)
    t0, t1 = _order(t0, t1)
    t2, t3 = _order(t2, t3)
    t4, t5 = _order(t4, t5)
    t6, t7 = _order(t6, t7)
    t2, t4 = _order(t2, t4)
    t3, t5 = _order(t3, t5)
    t1, t4 = _order(t1, t4)
    t3, t6 = _order(t3, t6)
    t1, t2 = _order(t1, t2)
    t3, t4 = _order(t3, t4)
    t5, t6 = _order(t5, t6)
    return t0, t1, t2, t3, t4, t5, t6, t7


@triton.jit
def _merge8(
    a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7
):  # fmt: skip
    """The eight highest of two sorted eights, sorted."""
    t0, t1, t2, t3 = _top(a0, b7), _top(a1, b6), _top(a2, b5), _top(a3, b4)
    t4, t5, t6, t7 = _top(a4, b3), _top(a5, b2), _top(a6, b1), _top(a7, b0)
    t0, t4 = _order(t0, t4)
    t1, t5 = _order(t1, t5)
    t2, t6 = _order(t2, t6)
    t3, t7 = _order(t3, t7)
    t0, t2 = _order(t0, t2)
    t1, t3 = _order(t1, t3)
    t4, t6 = _order(t4, t6)
    t5, t7 = _order(t5, t7)
    t0, t1 = _order(t0, t1)
    t2, t3 = _order(t2, t3)
    t4, t5 = _order(t4, t5)
    t6, t7 = _order(t6, t7)
    return t0, t1, t2, t3, t4, t5, t6, t7


@triton.jit
def _logit(packed, TILE: tl.constexpr, WIDE: tl.constexpr):
    return _value((packed >> 32).to(tl.int32)) if WIDE else _unpack(packed, TILE)


@triton.jit
def _by_lane(t0, t1, t2, t3, t4, t5, t6, t7, ROWS: tl.constexpr):
    """[ROWS, LANES]: lane k holds t_k."""
    lane = tl.arange(0, LANES)[None, :]
    a = tl.where(lane == 1, t1[:, None], t0[:, None])
    a = tl.where(lane == 2, t2[:, None], a)
    a = tl.where(lane == 3, t3[:, None], a)
    if LANES == 8:
        a = tl.where(lane == 4, t4[:, None], a)
        a = tl.where(lane == 5, t5[:, None], a)
        a = tl.where(lane == 6, t6[:, None], a)
        a = tl.where(lane == 7, t7[:, None], a)
    return a


@triton.jit
def _total(
    t0, t1, t2, t3, t4, t5, t6, t7, top, K: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr
):
    """The sum of the exponentials, which every lane of a row knows without a shuffle."""
    first = _logit(top, TILE, WIDE)
    s = tl.exp(first - first)
    if K > 1:
        s += tl.exp(_logit(t1, TILE, WIDE) - first)
    if K > 2:
        s += tl.exp(_logit(t2, TILE, WIDE) - first)
    if K > 3:
        s += tl.exp(_logit(t3, TILE, WIDE) - first)
    if K > 4:
        s += tl.exp(_logit(t4, TILE, WIDE) - first)
    if K > 5:
        s += tl.exp(_logit(t5, TILE, WIDE) - first)
    if K > 6:
        s += tl.exp(_logit(t6, TILE, WIDE) - first)
    if K > 7:
        s += tl.exp(_logit(t7, TILE, WIDE) - first)
    return s


@triton.jit
def _write(
    packed, first, total, base, rows, live, scale_ptr, weights_ptr, ids_ptr,
    K: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    slot = base + tl.arange(0, LANES)[None, :]
    ids = TILE - 1 - (packed & (TILE - 1)).to(tl.int32)
    out = live & (slot < K)
    flat = tl.reshape(ids, [ROWS * LANES])  # or the load takes a layout of its own
    wanted = tl.reshape(out, [ROWS * LANES])
    scale = tl.load(scale_ptr + flat, mask=wanted, other=0.0).to(tl.float32)
    scale = tl.reshape(scale, [ROWS, LANES])
    exps = tl.exp(_logit(packed, TILE, WIDE) - _logit(first, TILE, WIDE)[:, None])
    weights = exps / total[:, None] * scale
    to = rows.to(tl.int64) * K + slot
    tl.store(weights_ptr + to, weights, mask=out)
    tl.store(ids_ptr + to, ids, mask=out)


@triton.jit
def _four(
    row, live, first, E: tl.constexpr, FULL: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """The packed keys of four neighbouring experts a lane, as four tensors."""
    experts = first + tl.arange(0, 4 * LANES)[None, :]
    if E == FULL:
        x = tl.load(row + experts, mask=live, other=0.0)
    else:
        x = tl.load(row + experts, mask=live & (experts < E), other=0.0)
    if WIDE:
        packed = (_key(x).to(tl.int64) << 32) | (TILE - 1 - experts)
        if E != FULL:
            packed = tl.where(experts < E, packed, -(2**63))
    else:
        packed = _pack(x, experts, TILE)
        if E != FULL:
            packed = tl.where(experts < E, packed, -(2**31))
    even, odd = tl.split(tl.reshape(packed, [ROWS, LANES, 2, 2]))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@triton.jit(do_not_specialize=["num_tokens"])
def _merge_kernel(
    logits_ptr, scale_ptr, weights_ptr, ids_ptr, num_tokens, stride_t,
    E: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Few lanes a row: each keeps the sorted eight of what it reads, then lanes merge."""
    WIDE: tl.constexpr = logits_ptr.dtype.element_ty == tl.float32
    CHUNK: tl.constexpr = 8 * LANES
    FULL: tl.constexpr = (E + CHUNK - 1) // CHUNK * CHUNK
    TILE: tl.constexpr = triton.next_power_of_2(FULL)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    live = rows < num_tokens
    row = logits_ptr + rows.to(tl.int64) * stride_t
    for c in tl.static_range(0, FULL, CHUNK):
        a0, a1, a2, a3 = _four(row, live, c, E, FULL, TILE, ROWS, WIDE)
        a4, a5, a6, a7 = _four(row, live, c + CHUNK // 2, E, FULL, TILE, ROWS, WIDE)
        a0, a1, a2, a3, a4, a5, a6, a7 = _sort8(a0, a1, a2, a3, a4, a5, a6, a7)
        if c == 0:
            t0, t1, t2, t3, t4, t5, t6, t7 = a0, a1, a2, a3, a4, a5, a6, a7
        else:
            t0, t1, t2, t3, t4, t5, t6, t7 = _merge8(
                t0, t1, t2, t3, t4, t5, t6, t7, a0, a1, a2, a3, a4, a5, a6, a7
            )
    t0, t1, t2, t3, t4, t5, t6, t7 = tl.reduce((t0, t1, t2, t3, t4, t5, t6, t7), 1, _merge8)
    if LANES == 8:
        total = _total(t0, t1, t2, t3, t4, t5, t6, t7, t0, K, TILE, WIDE)
        low = _by_lane(t0, t1, t2, t3, t4, t5, t6, t7, ROWS)
        _write(low, t0, total, 0, rows, live, scale_ptr, weights_ptr, ids_ptr, K, TILE, ROWS, WIDE)
    else:
        total = _total(t0, t1, t2, t3, t4, t5, t6, t7, t0, K, TILE, WIDE)
        low = _by_lane(t0, t1, t2, t3, t0, t0, t0, t0, ROWS)
        _write(low, t0, total, 0, rows, live, scale_ptr, weights_ptr, ids_ptr, K, TILE, ROWS, WIDE)
        if K > 4:
            low = _by_lane(t4, t5, t6, t7, t0, t0, t0, t0, ROWS)
            _write(
                low, t0, total, 4, rows, live, scale_ptr, weights_ptr, ids_ptr, K, TILE, ROWS, WIDE
            )


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
    if topk <= 8:
        rows, warps = TILE or (32, 4)
        _merge_kernel[(triton.cdiv(T, rows),)](
            gating_output, per_expert_scale.contiguous(), weights, ids, T, gating_output.stride(0),
            E, topk, rows, num_warps=warps,
        )  # fmt: skip
    else:
        rows, warps = (4, 4) if T > 1024 and E <= 128 else (1, 1)
        _rounds_kernel[(triton.cdiv(T, rows),)](
            gating_output, per_expert_scale.contiguous(), weights, ids, T, gating_output.stride(0),
            E, topk, rows, num_warps=warps,
        )  # fmt: skip
    return weights, ids
