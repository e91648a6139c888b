"""The cases of the routing check, as data: the inputs of each call, and not how the answer is judged.

One list serves a GPU, which runs it as it stands, and Triton's interpreter, which needs 7 to 17 ms a
token: `shorten` takes tokens off each case so that the whole list takes it about a minute.
The tensors of a case are deterministic: same case, same bits, on every host.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SCALE_DTYPES = {**DTYPES, "fp64": torch.float64}
TOKENS = (0, 1, 2, 3, 7, 8, 33, 64, 255, 1024, 1025, 4096, 8192, 65536)
EXPERTS = (2, 3, 5, 8, 16, 31, 64, 96, 100, 127, 128, 129, 160, 255, 256, 384, 512, 1000, 1023, 1024)  # fmt: skip
TOPKS = (1, 2, 3, 4, 6, 8, 12, 16)
INF, NAN = math.inf, math.nan
HIDDEN = 2816  # the width of Gemma 4 26B-A4B, whose router has 128 experts and takes 8
GPU_ONLY = ("cuda-graph", "torch.compile", "streams", "launches", "variants", "far")


@dataclass(frozen=True)
class Case:
    """One thing to check. ``name`` is unique in the list.

    ``values`` names the values of the logits (a key of KINDS or EQUAL, "mixed" or "router") and
    ``layout`` how they lie in memory (`lay_out`). ``rows`` holds drawn rows instead, ``source`` the
    file and tensor of a real router matrix. ``execution`` names how the case is run
    (`verify.routing.executions`), ``variant`` the kernel that it is forced to take, if any
    (`verify.routing.variants`). `shorten` never takes it below ``least`` tokens.
    """

    name: str
    family: str
    dtype: str
    tokens: int
    experts: int
    topk: int
    values: str = "mixed"
    layout: str = "contiguous"
    scale: str = "fp32"
    scale_values: str = "ordinary"
    scale_layout: str = "contiguous"
    execution: str = "call"
    variant: str = ""
    seed: int = 0
    least: int = 0
    rows: tuple[tuple[float, ...], ...] = ()
    source: str = ""

    @property
    def gpu_only(self) -> bool:
        return self.family in GPU_ONLY


# --- values: (rows, experts, dtype, generator) -> that many rows of logits -------------------

Rows = Callable[[int, int, torch.dtype, torch.Generator], torch.Tensor]


def _from_bits(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return bits.to(torch.int16 if dtype.itemsize == 2 else torch.int32).view(dtype)


def _bits_of(value: float, dtype: torch.dtype) -> int:
    integer = torch.int16 if dtype.itemsize == 2 else torch.int32
    return int(torch.tensor(value, dtype=dtype).view(integer))


def _normal(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    return torch.randn(n, e, generator=g).mul_(2.0).to(dtype)


def _ties(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Seven values only, so that nearly every winner ties with another expert."""
    return (torch.randint(-3, 4, (n, e), generator=g) / 4).to(dtype)


def _close(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Normal values so near to each other that rounding to 16 bits makes many equal."""
    return (4 + torch.randn(n, e, generator=g) / 64).to(dtype)


def _zeros(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Zeros of either sign, and a few others."""
    sign = torch.where(torch.rand(n, e, generator=g) < 0.5, -0.0, 0.0)
    other = torch.randn(n, e, generator=g)
    return torch.where(torch.rand(n, e, generator=g) < 0.1, other, sign).to(dtype)


def _minus_inf(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Mostly -inf: often fewer finite logits than winners, and all of them negative."""
    value = -torch.rand(n, e, generator=g) - 1
    return torch.where(torch.rand(n, e, generator=g) < 0.95, -INF, value).to(dtype)


def _plus_inf(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    value = torch.randn(n, e, generator=g)
    return torch.where(torch.rand(n, e, generator=g) < 0.06, INF, value).to(dtype)


def _nans(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """NaN of either sign and of many payloads, beside infinities and finite values."""
    value = _plus_inf(n, e, dtype, g)
    infinity = _bits_of(INF, dtype)
    top = 2 ** (8 * dtype.itemsize - 1)
    payload = torch.randint(infinity + 1, top, (n, e), generator=g)
    negative = torch.rand(n, e, generator=g) < 0.5
    nan = _from_bits(torch.where(negative, payload - top, payload), dtype)
    return torch.where(torch.rand(n, e, generator=g) < 0.06, nan, value)


def _large(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """About 200 or -200: exp of them leaves fp32 unless the largest is subtracted first."""
    offset = torch.where(torch.rand(n, 1, generator=g) < 0.5, 200.0, -200.0)
    return (torch.randn(n, e, generator=g) * 3 + offset).to(dtype)


def _neighbours(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Floats next to each other around 0 (subnormals), 1 and the ends of the format."""
    low = [0, _bits_of(torch.finfo(dtype).tiny, dtype) - 2, _bits_of(1.0, dtype)]
    low.append(_bits_of(torch.finfo(dtype).max, dtype) - 5)
    start = torch.tensor(low)[torch.randint(0, 4, (n, 1), generator=g)]
    bits = start + torch.randint(0, 6, (n, e), generator=g)
    value = _from_bits(bits, dtype)
    return torch.where(torch.rand(n, e, generator=g) < 0.5, -value, value)


def _bits(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Every bit pattern of the format alike."""
    top = 2 ** (8 * dtype.itemsize - 1)
    return _from_bits(torch.randint(-top, top, (n, e), generator=g), dtype)


def _wide(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Normal values times powers of two: from subnormal to large, all finite."""
    power = torch.randint(-30, 12, (n, e), generator=g)
    return torch.ldexp(torch.randn(n, e, generator=g), power).to(dtype)


def _equal(n: int, e: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    value = torch.tensor([0.0, -0.0, 1.5, -3.0, INF, -INF, NAN, -NAN], dtype=dtype)
    return value[torch.randint(0, len(value), (n, 1), generator=g)].repeat(1, e)


KINDS: dict[str, Rows] = {
    "normal": _normal,
    "ties": _ties,
    "nans": _nans,
    "minus-inf": _minus_inf,
    "equal": _equal,
    "large": _large,
    "neighbours": _neighbours,
    "zeros": _zeros,
    "plus-inf": _plus_inf,
    "bits": _bits,
    "close": _close,
    "wide": _wide,
}
EQUAL = {"zero": 0.0, "minus-zero": -0.0, "one-half": 1.5, "minus-three": -3.0, "inf": INF, "-inf": -INF, "nan": NAN, "-nan": -NAN}  # fmt: skip


def _router(n: int, e: int, dtype: torch.dtype, case: Case, g: torch.Generator) -> torch.Tensor:
    """The logits that Gemma4Router computes, with a random or a real matrix.

    Hidden states of very unequal channels are RMS-normalised, multiplied by 1/sqrt(hidden) and by a
    scale per channel, and projected, each step rounded to the dtype of the logits.
    """
    step = torch.float32 if dtype == torch.float32 else dtype
    if case.source:
        matrix, channel = (tensor.float() for tensor in read_router(case.source))
    else:
        groups = torch.randn(8, HIDDEN, generator=g)  # experts that resemble each other
        matrix = 1.2 * torch.randn(e, HIDDEN, generator=g)
        matrix += 1.2 * groups[torch.randint(0, 8, (e,), generator=g)]
        channel = 1 + torch.randn(HIDDEN, generator=g) / 8
    hidden = matrix.shape[1]
    spread = torch.randn(hidden, generator=g).exp()
    logits = torch.empty(n, e, dtype=dtype)
    for start in range(0, n, 4096):
        x = torch.randn(min(4096, n - start), hidden, generator=g) * spread
        x = x.to(step).float()
        x = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)).to(step)
        x = x * (channel * hidden**-0.5).to(step)
        logits[start : start + len(x)] = (x.float() @ matrix.to(step).float().T).to(dtype)
    return logits


def rows_of(case: Case, tokens: int) -> torch.Tensor:
    """``tokens`` rows of the case's logits [tokens, E], contiguous, on the CPU."""
    dtype, e = DTYPES[case.dtype], case.experts
    g = torch.Generator().manual_seed(case.seed)
    if case.rows:
        return torch.tensor(case.rows, dtype=torch.float64)[:tokens].to(dtype)
    if case.values in EQUAL:
        return torch.full((tokens, e), EQUAL[case.values], dtype=dtype)
    if case.values == "router":
        return _router(tokens, e, dtype, case, g)
    if case.values != "mixed":
        return KINDS[case.values](tokens, e, dtype, g)
    logits = torch.empty(tokens, e, dtype=dtype)
    kinds = list(KINDS.values())
    for first in range(min(tokens, len(kinds))):  # row t is of kind (t + seed) % len(kinds)
        count = len(range(first, tokens, len(kinds)))
        kind = kinds[(first + case.seed) % len(kinds)]
        logits[first :: len(kinds)] = kind(count, e, dtype, g)
    return logits


# --- layouts: how the same rows lie in memory -------------------------------------------------


def lay_out(rows: torch.Tensor, layout: str) -> torch.Tensor:
    """A tensor [T, E] that holds ``rows`` in the given memory layout, on their device.

    In three layouts elements share memory, so the values differ: "expanded" repeats the first row,
    "one-column" the first column, and "overlapping" begins each row one element later.
    """
    tokens, e = rows.shape

    def room(*shape: int) -> torch.Tensor:
        return torch.full(shape, 7.5, dtype=rows.dtype, device=rows.device)  # wins if it is read

    if layout == "contiguous":
        return rows.contiguous()
    if layout == "expanded":
        return rows[:1].contiguous().expand(tokens, e)
    if layout == "one-column":
        return rows[:, :1].contiguous().expand(tokens, e)
    if layout == "overlapping":
        flat = rows.flatten()[: tokens + e - 1].contiguous()
        return flat.as_strided((tokens, e), (1, 1))
    if layout == "columns":
        view = room(tokens, 2 * e + 37)[:, 3 : 3 + e]
    elif layout == "rows-apart":
        view = room(3 * tokens, e + 1)[1::3, :e]
    elif layout == "aligned":
        view = room(tokens, (e // 64 + 1) * 64)[:, :e]
    elif layout == "odd-start":
        view = room(tokens * e + 1)[1:].view(tokens, e)
    elif layout == "transposed":
        view = room(e, tokens).T
    elif layout == "every-other":
        view = room(tokens, 2 * e)[:, ::2]
    else:
        raise ValueError(f"no layout named {layout}")
    view.copy_(rows)
    return view


LAYOUTS = ("columns", "rows-apart", "aligned", "odd-start", "transposed", "every-other", "expanded", "one-column", "overlapping")  # fmt: skip


def scale_of(case: Case, device: str) -> torch.Tensor:
    """The case's scale [E]: positive, negative and zero numbers. "special" adds NaN, infinities,
    and numbers at the ends of the dtype."""
    g = torch.Generator().manual_seed(case.seed + 1)
    dtype, e = SCALE_DTYPES[case.scale], case.experts
    scale = torch.rand(e, generator=g, dtype=torch.float64) * 1.5 - 0.25
    scale[torch.rand(e, generator=g) < 0.1] = 0.0
    scale = scale.to(dtype)
    if case.scale_values == "special":
        info = torch.finfo(dtype)
        ends = torch.tensor([INF, -INF, NAN, -0.0, info.max, info.min, info.tiny], dtype=dtype)
        put = torch.randint(0, 3 * len(ends), (e,), generator=g)
        scale = torch.where(put < len(ends), ends[put % len(ends)], scale)
    scale = scale.to(device)
    if case.scale_layout == "every-other":
        wide = torch.full((2 * e,), 9.0, dtype=dtype, device=device)
        wide[::2] = scale
        return wide[::2]
    if case.scale_layout == "expanded":
        return scale[:1].expand(e)
    return scale


def build(case: Case, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits [T, E] and the scale [E] of a case."""
    return lay_out(rows_of(case, case.tokens).to(device), case.layout), scale_of(case, device)


# --- real router matrices ---------------------------------------------------------------------


def _tensors(file: Path) -> dict[str, dict[str, Any]]:
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _tensor(file: Path, name: str) -> torch.Tensor:
    """One tensor of a safetensors file, read without that package."""
    entry = _tensors(file)[name]
    dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[entry["dtype"]]
    start, end = entry["data_offsets"]
    with file.open("rb") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little") + start)
        data = bytearray(stream.read(end - start))
    return torch.frombuffer(data, dtype=dtype).reshape(entry["shape"])


def find_routers(path: str) -> list[tuple[str, list[int]]]:
    """``FILE::TENSOR`` and shape [E, hidden] of each router matrix in a safetensors file or a
    folder. Raises ValueError if there is none."""
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else [Path(path)]
    matrices = [
        (f"{file}::{name}", entry["shape"])
        for file in files
        for name, entry in sorted(_tensors(file).items())
        if name.endswith("router.proj.weight")
    ]
    if not matrices:
        raise ValueError(f"{path}: no tensor named …router.proj.weight in any safetensors file")
    return matrices


def read_router(source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix [E, hidden] that ``FILE::TENSOR`` names, and the channels' scale [hidden]. The
    scale is the tensor beside the matrix, or ones if the file has none."""
    file, _, name = source.rpartition("::")
    matrix = _tensor(Path(file), name)
    beside = name.removesuffix("proj.weight") + "scale"
    if beside in _tensors(Path(file)):
        return matrix, _tensor(Path(file), beside)
    return matrix, torch.ones(matrix.shape[1])


# --- the list ---------------------------------------------------------------------------------


def _corners() -> Iterator[Case]:
    """Each kind of value for each dtype, on a few shapes. First, since they find most mistakes."""
    names, shapes = list(DTYPES), ((5, 3), (33, 8), (128, 8), (300, 6))
    for turn, (n, kind), (e, k) in product(range(len(names)), enumerate(KINDS), shapes):
        yield Case("", "corners", names[(n + turn) % 3], 4 * len(KINDS), e, k, kind)


def _equal_rows() -> Iterator[Case]:
    for (e, k), dtype, value in product(((2, 2), (5, 4), (100, 8), (128, 16)), DTYPES, EQUAL):
        yield Case("", "equal", dtype, 3, e, k, value)


def _every_expert() -> Iterator[Case]:
    experts = (1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32)
    for e, dtype, kind in product(experts, DTYPES, ("mixed", "ties")):
        yield Case("", "k-equals-e", dtype, 48, e, e, kind)


def _layouts() -> Iterator[Case]:
    for (e, k), layout, dtype in product(((128, 8), (37, 5)), LAYOUTS, DTYPES):
        yield Case("", "layouts", dtype, 37, e, k, "mixed", layout)


def _scales() -> Iterator[Case]:
    layouts = ("contiguous", "every-other", "expanded")
    kinds = (("normal", "special"), ("mixed", "ordinary"))
    for scale, layout, (kind, values), dtype in product(SCALE_DTYPES, layouts, kinds, DTYPES):
        yield Case("", "scales", dtype, 24, 64, 8, kind, "contiguous", scale, values, layout)


def _tiles() -> Iterator[Case]:
    """Numbers of tokens around 2**n, where a launcher may change its tile."""
    for e, k in ((6, 2), (128, 8), (130, 8)):
        for tokens in (1023, 1025, 1024, 1026, 1027, 1028, 2047, 2049, 4095, 4097):
            for dtype in DTYPES:
                # So that the interpreter too runs several programs, the last of them not full.
                least = 8 + tokens % 4 if e == 6 else 0
                yield Case("", "tiles", dtype, tokens, e, k, "mixed", least=least)


def _few_tokens() -> Iterator[Case]:
    """Few tokens, by the kernels that are for many: does the launcher keep each one's limits?"""
    shapes = ((100, 6), (200, 8), (128, 8), (128, 9), (100, 32), (1024, 4))
    for (e, k), dtype in product(shapes, DTYPES):
        yield Case("", "large", dtype, 5, e, k, "large", variant="large")


def _ties16() -> Iterator[Case]:
    """bf16 rows full of ties, as most rows of a router are."""
    shapes = ((128, 8), (128, 16), (64, 4), (256, 8), (100, 6), (1024, 16))
    for (e, k), tokens, kind in product(shapes, (1, 64, 1025, 8192), ("ties", "close")):
        yield Case("", "bf16-ties", "bf16", tokens, e, k, kind)


def _routers(source: str | None) -> Iterator[Case]:
    for dtype, tokens, (e, k) in product(DTYPES, (1, 7, 64, 1024, 8192), ((128, 8), (64, 4))):
        yield Case("", "router", dtype, tokens, e, k, "router")
    for tensor, shape in find_routers(source) if source else ():
        for dtype in DTYPES:
            k = min(8, shape[0])
            yield Case("", "real-router", dtype, 1024, shape[0], k, "router", source=tensor)


def _grid() -> Iterator[Case]:
    """Every dtype, E and K, with numbers of tokens in turn; then every dtype and T, on four shapes."""
    turn = 0
    for e, k, dtype in product(EXPERTS, TOPKS, DTYPES):
        if k <= e:
            turn += 1
            tokens = min(TOKENS[turn % len(TOKENS)], 2**22 // e)
            scale = list(SCALE_DTYPES)[turn // 3 % 4]
            yield Case("", "grid", dtype, tokens, e, k, "mixed", scale=scale)
    for (e, k), tokens, dtype in product(((2, 1), (100, 6), (128, 8), (1024, 16)), TOKENS, DTYPES):
        yield Case("", "tokens", dtype, tokens, e, k, "mixed")


def drawn(count: int = 150) -> list[Case]:
    """Cases of rows that hypothesis draws, the same on every run of one version of it.

    Each row has few different values, among them the corners of its format. Raises ImportError
    without hypothesis.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    # Hypothesis takes its seed from the source of `collect`: a change there draws other cases.
    found: list[Case] = []

    @st.composite
    def batches(draw: st.DrawFn) -> Case:
        dtype = draw(st.sampled_from(list(DTYPES)))
        e = draw(st.sampled_from((2, 3, 5, 8, 17, 32)))
        k = draw(st.sampled_from([k for k in (1, 2, 4, 8) if k <= e]))
        number = st.floats(width=16 if dtype == "fp16" else 32)
        pool = draw(st.lists(number, min_size=1, max_size=6))
        row = st.lists(st.one_of(st.sampled_from(pool), number), min_size=e, max_size=e)
        rows = tuple(map(tuple, draw(st.lists(row, min_size=1, max_size=3))))
        return Case("", "drawn", dtype, len(rows), e, k, f"drawn-{len(found)}", rows=rows)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(batches())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def _on_gpu() -> Iterator[Case]:
    for dtype in DTYPES:
        for tokens in (1, 7, 64, 1024, 1025, 4096):
            yield Case("", "cuda-graph", dtype, tokens, 128, 8, execution="graph")
        yield Case("", "cuda-graph", dtype, 5000, 128, 8, "shared-pool", execution="graphs")
    for execution in ("compile-default", "compile-dynamic", "compile-reduce-overhead"):
        for dtype in ("bf16", "fp32"):
            yield Case("", "torch.compile", dtype, 64, 128, 8, execution=execution)
    for dtype in DTYPES:
        yield Case("", "streams", dtype, 512, 128, 8, execution="streams")
        yield Case("", "streams", dtype, 2048, 128, 8, execution="late-stream")
    for dtype in ("bf16", "fp32"):
        for tokens in (1, 64, 1024, 2000):
            yield Case("", "launches", dtype, tokens, 128, 8, execution="launches")
    for dtype in DTYPES:
        yield Case("", "variants", dtype, 4096, 128, 8, execution="variants")
        for tokens, stride in ((3, 2**30), (2, 2**31), (1100, 2**31 // 1099)):
            yield Case(
                "", "far", dtype, tokens, 128, 8, f"stride-{stride}", execution=f"far {stride}"
            )
    yield Case("", "far", "bf16", 2**20, 128, 8, "mixed")


def _refusals() -> Iterator[Case]:
    for check in ("1-D", "3-D", "fp64", "E=1025", "K=0", "K=33", "K>E", "short-scale"):
        yield Case("", "refusals", "fp32", 2, 64, 8, "normal", execution=f"refuse {check}")


def _named(case: Case, seed: int) -> Case:
    """The case with its name, made of what distinguishes it, and the given seed."""
    words = [case.family, case.dtype, f"T{case.tokens}", f"E{case.experts}", f"K{case.topk}"]
    words += [case.values]
    words += [case.layout] if case.layout != "contiguous" else []
    scale = [case.scale, case.scale_values, case.scale_layout]
    words += [word for word in scale if word not in ("fp32", "ordinary", "contiguous")]
    words += [case.execution.replace(" ", "-")] if case.execution != "call" else []
    words += [case.source.rpartition("::")[2]] if case.source else []
    return dataclasses.replace(case, name=" ".join(words), seed=seed)


def all_cases(source: str | None = None) -> tuple[list[Case], dict[str, str]]:
    """All cases, the cheap ones that find most first, and the families left out, with the reason.
    ``source`` is a safetensors file, or a model's folder, with real router matrices."""
    cases: list[Case] = []
    skipped: dict[str, str] = {}
    for make in (
        _corners, _equal_rows, _every_expert, _layouts, _scales, _refusals, _few_tokens, _ties16, _tiles,
        lambda: _routers(source), _grid, _on_gpu,
    ):  # fmt: skip
        cases += make()
    try:
        cases += drawn()
    except ImportError:
        skipped["drawn"] = "hypothesis is not installed"
    cases.append(Case("", "names", "fp32", 1, 128, 8, execution="names"))
    if not source:
        skipped["real-router"] = "no --router was given"
    return [_named(case, 1000 + n) for n, case in enumerate(cases)], skipped


def interleave_families(cases: list[Case]) -> list[Case]:
    """The first case of each family, then the second, and so on: this finds a mistake soonest."""
    families: dict[str, list[Case]] = {}
    for case in cases:
        families.setdefault(case.family, []).append(case)
    rounds = zip_longest(*families.values())
    return [case for cases in rounds for case in cases if case is not None]


# --- for the interpreter ------------------------------------------------------------------------


def shorten(case: Case, budget_ms: float = 30.0) -> Case:
    """The case with as many tokens as Triton's interpreter does in ``budget_ms`` milliseconds.

    At least one and at least ``case.least``; the name stays. On 2026's CPUs a program costs 7 ms
    and 0.6 ms for each winner, whatever E is.
    """
    programs = max(1, int(budget_ms / (7 + 0.6 * case.topk)))
    return dataclasses.replace(case, tokens=min(case.tokens, max(programs, case.least)))
