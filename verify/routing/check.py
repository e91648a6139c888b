"""Check gemma4_fused_routing on a CUDA GPU against a float64 oracle, then time it.

    python verify/routing/check.py PATH/gemma4_fused_ops.py [--peer NAME=PATH ...]
                                   [--jobs 8] [--no-check] [--no-bench] [--sweep]

PATH is a file holding gemma4_fused_routing(logits, scale, topk); it is loaded by
path and may import torch and triton only. Exit 0: all equal. 1: a mismatch, each
printed. 2: could not run. The last line is RES and one JSON object.
With TRITON_INTERPRET=1 and no GPU, a small part of the check runs on the CPU.
"""

import argparse
import importlib.util
import itertools
import json
import multiprocessing as mp
import os
import statistics
import sys
import time
import traceback

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TS = [0, 1, 7, 9] if INTERPRETED else [0, 1, 7, 8, 64, 255, 1024, 1025, 8192]
ES = [5, 100, 128] if INTERPRETED else [5, 64, 96, 100, 127, 128, 256, 512, 1000, 1024]
KS = [1, 4, 8] if INTERPRETED else [1, 2, 4, 5, 6, 8, 16, 32]
BENCH_TS = [1, 8, 64, 256, 1024, 8192, 65536]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SCALES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INF, NAN = float("inf"), float("nan")


def load(path, name="under_test"):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # triton finds a kernel's globals through here
    spec.loader.exec_module(module)
    return module


def oracle(logits, scale, k):
    v = logits.double() + 0.0  # -0.0 becomes +0.0
    v = torch.where(v.isnan(), torch.full_like(v, NAN), v)  # one NaN, sign clear
    v, ids = torch.sort(v, dim=-1, descending=True, stable=True)
    v, ids = v[:, :k], ids[:, :k]
    return torch.softmax(v, -1) * scale.double()[ids], ids


def compare(fn, logits, scale, k):
    """None, or what is wrong."""
    T, E = logits.shape
    w, i = fn(logits, scale, k)
    if w.dtype != torch.float32 or i.dtype != torch.int32:
        return f"dtypes {w.dtype} {i.dtype}"
    if tuple(w.shape) != (T, k) or tuple(i.shape) != (T, k):
        return f"shapes {tuple(w.shape)} {tuple(i.shape)}"
    if T == 0:
        return None
    i = i.long()
    if not bool(((i >= 0) & (i < E)).all()):
        return f"id out of range: {i.min().item()}..{i.max().item()}"
    if k > 1 and not bool((i.sort(-1).values.diff(dim=-1) > 0).all()):
        return "an id twice in a row"
    rw, ri = oracle(logits, scale, k)
    if not torch.equal(i, ri):
        t = int((i != ri).any(-1).nonzero()[0])
        return f"ids of row {t}: {i[t].tolist()} != {ri[t].tolist()}; row {logits[t].tolist()[:20]}"
    try:
        torch.testing.assert_close(w.double(), rw, rtol=2e-5, atol=1e-7, equal_nan=True)
    except AssertionError as e:
        return "weights: " + " ".join(str(e).split())[:300]
    return None


def row_of(kind, n, E, g):
    r = lambda: torch.randn(n, E, generator=g)
    pick = lambda p: torch.rand(n, E, generator=g) < p
    if kind == 0:
        return r() * 2
    if kind == 1:  # few values: nearly everything ties
        return torch.randint(-3, 4, (n, E), generator=g) / 2.0
    if kind == 2:  # all equal
        values = torch.tensor([0.0, -0.0, 1.5, -INF, INF, NAN])
        return values[torch.randint(0, 6, (n, 1), generator=g)].expand(n, E).clone()
    if kind == 3:  # zeros of either sign
        return torch.where(pick(0.5), torch.tensor(-0.0), torch.tensor(0.0)) + torch.where(
            pick(0.1), r(), torch.tensor(-0.0)
        )
    if kind == 4:  # mostly -inf: often fewer finite logits than winners
        return torch.where(pick(0.95), torch.tensor(-INF), r())
    if kind == 5:  # NaN of either sign, infinities
        x = torch.where(pick(0.05), torch.tensor(INF), r())
        x = torch.where(pick(0.05), torch.tensor(NAN), x)
        return torch.where(pick(0.05), -torch.tensor(NAN), x)
    if kind == 6:  # wide range, subnormals
        return r() * torch.exp2(torch.randint(-140, 15, (n, E), generator=g).double()).float()
    raise ValueError(kind)


KINDS = 7


def make(T, E, dtype, seed, kinds=range(KINDS)):
    g = torch.Generator().manual_seed(seed)
    kinds = list(kinds)
    x = torch.empty(T, E)
    for j, kind in enumerate(kinds):
        n = len(range(j, T, len(kinds)))
        if n:
            x[j :: len(kinds)] = row_of(kind, n, E, g)
    return x.to(dtype).to(DEVICE)


def task(args):
    path, dname, E = args
    bad, n = [], 0
    try:
        fn = load(path).gemma4_fused_routing
        dtype = DTYPES[dname]
        scales = itertools.cycle(SCALES)

        def one(what, logits, k, scale=None):
            nonlocal n
            if scale is None:
                scale = (torch.rand(logits.shape[1], device=DEVICE) - 0.2).to(next(scales))
            n += 1
            why = compare(fn, logits, scale, k)
            if why:
                bad.append(f"{dname} E={E} K={k} {what} scale={scale.dtype}: {why}")

        ks = sorted({k for k in KS if k <= E} | ({E} if E <= 32 else set()))
        for T in TS:
            batches = [(f"T={T}", make(T, E, dtype, 7 * T + E))]
            if T == 1:
                batches = [
                    (f"T=1 kind {j}", make(1, E, dtype, 31 * j + E, [j])) for j in range(KINDS)
                ]
            for k in ks:
                for what, logits in batches:
                    one(what, logits, k)
        k = min(8, E)
        wide = make(37, 2 * E + 37, dtype, 5)
        one("wide[:, :E]", wide[:, :E], k)
        one("wide[:, 3:]", wide[:, 3 : 3 + E], k)
        one("wide[::2]", wide[::2, 1 : 1 + E], k)
        one("expanded", wide[:1, :E].expand(9, E), k)
        one("overlapping", wide.as_strided((9, E), (1, 1)), k)
        one("transposed", make(E, 19, dtype, 6).T, k)
        aligned = torch.zeros(
            1500 if not INTERPRETED else 9, ((E + 79) // 64) * 64, dtype=dtype, device=DEVICE
        )
        aligned[:, :E] = make(aligned.shape[0], E, dtype, 8)
        one("16-byte strides", aligned[:, :E], k)
        for sd in SCALES:
            one("scale dtypes", make(9, E, dtype, 9), k, torch.rand(E, device=DEVICE).to(sd))
            one(
                "scale strided",
                make(9, E, dtype, 9),
                k,
                torch.rand(2 * E, device=DEVICE).to(sd)[::2],
            )
    except Exception:
        bad.append(f"{dname} E={E}: " + traceback.format_exc()[-1500:])
    return n, bad


def once(module):
    """Single-process checks: graphs, allocations, syncs, offsets, compilations, errors."""
    fn, bad, said = module.gemma4_fused_routing, [], []

    def expect(ok, what):
        said.append(("ok   " if ok else "FAIL ") + what)
        if not ok:
            bad.append(what)

    # the oracle on this device against plain Python, on one hard batch
    x = make(40, 33, torch.bfloat16, 3)
    rank = lambda v, e: ((0, 0.0) if v != v else (1, -v), e)
    plain = [sorted(range(33), key=lambda e: rank(row[e], e)) for row in x.cpu().double().tolist()]
    expect(
        oracle(x, torch.ones(33, device=DEVICE), 33)[1].tolist() == plain,
        "the oracle orders as plain Python does",
    )
    for what, call in {
        "1-D": lambda: fn(torch.zeros(8, device=DEVICE), torch.ones(8, device=DEVICE), 2),
        "fp64": lambda: fn(
            torch.zeros(2, 8, device=DEVICE).double(), torch.ones(8, device=DEVICE), 2
        ),
        "E=1025": lambda: fn(
            torch.zeros(2, 1025, device=DEVICE), torch.ones(1025, device=DEVICE), 2
        ),
        "K=33": lambda: fn(torch.zeros(2, 64, device=DEVICE), torch.ones(64, device=DEVICE), 33),
        "K=0": lambda: fn(torch.zeros(2, 64, device=DEVICE), torch.ones(64, device=DEVICE), 0),
        "scale": lambda: fn(torch.zeros(2, 64, device=DEVICE), torch.ones(63, device=DEVICE), 4),
    }.items():
        try:
            call()
            expect(False, f"refuses {what}")
        except AssertionError as e:
            expect(bool(str(e)), f"refuses {what}: {e}")
    if INTERPRETED:
        return bad, said

    scale = torch.rand(128, device=DEVICE)
    for T in (1, 7, 1024, 2000):
        x = make(T, 128, torch.bfloat16, T)
        fn(x, scale, 8)
        torch.cuda.synchronize()
        count = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]
        before = count()
        torch.cuda.set_sync_debug_mode("error")
        try:
            fn(x, scale, 8)
            expect(True, f"T={T}: no host sync")
        except RuntimeError as e:
            expect(False, f"T={T}: host sync: {e}")
        torch.cuda.set_sync_debug_mode("default")
        expect(count() - before == 2, f"T={T}: {count() - before} allocations, 2 wanted")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            w, i = fn(x, scale, 8)
        for r in range(3):
            y = make(T, 128, torch.bfloat16, 100 + r)
            x.copy_(y)
            graph.replay()
            rw, ri = oracle(y, scale, 8)
            same = torch.equal(i.long(), ri) and torch.allclose(
                w.double(), rw, rtol=2e-5, atol=1e-7, equal_nan=True
            )
            expect(same, f"T={T}: CUDA graph replay {r}")
    try:
        from torch.profiler import ProfilerActivity, profile

        x = make(64, 128, torch.bfloat16, 1)
        with profile(activities=[ProfilerActivity.CUDA]) as prof:
            fn(x, scale, 8)
            torch.cuda.synchronize()
        names = [
            e.name
            for e in prof.events()
            if "CUDA" in str(e.device_type)
            and not any(x in e.name.lower() for x in ("sync", "activity buffer"))
        ]
        if names:
            expect(len(names) == 1, f"one launch: {names}")
        else:
            said.append("note the profiler saw no kernels here; launches not counted")
    except Exception as e:
        said.append(f"note launches not counted: {e!r}")

    kernel = getattr(module, "_gemma4_fused_routing_kernel", None)
    if kernel is not None and hasattr(kernel, "device_caches"):
        size = lambda: sum(len(c[0]) for c in kernel.device_caches.values())
        x = make(4096, 128, torch.float16, 2)
        before = size()
        for T in [1, 2, 3, 5, 16, 17, 31, 64, 100, 128, 1000, 1024, 1025, 1040, 2049, 4096]:
            fn(x[:T], scale, 8)
        expect(
            size() - before <= 2,
            f"{size() - before} compilations over 16 values of T, at most 2 wanted",
        )

    if torch.cuda.mem_get_info()[0] > 20 << 30:
        storage = torch.empty((1 << 31) + 4096, device=DEVICE, dtype=torch.bfloat16)
        for T, stride in ((3, 1 << 30), (2, 1 << 31), (1100, (1 << 31) // 1099)):
            x = storage.as_strided((T, 128), (stride, 1))
            x.copy_(make(T, 128, torch.bfloat16, T))
            why = compare(fn, x, scale, 8)
            expect(why is None, f"T={T}, stride {stride}: offsets to 2**31 {why or ''}")
        del storage, x
        torch.cuda.empty_cache()
        big = torch.randint(-4, 5, (1 << 20, 128), device=DEVICE).to(torch.bfloat16)
        why = compare(fn, big, scale, 8)
        expect(why is None, f"T=2**20 {why or ''}")
    return bad, said


def torch_path(logits, scale, k):
    top, ids = torch.topk(logits, k=k, dim=-1)
    weights = torch.nn.functional.softmax(top, dim=-1)
    weights = weights * scale[ids].to(weights.dtype)
    return weights.to(torch.float32), ids.to(torch.int32)


def us(fn, reps=41):
    """Median microseconds a call inside a CUDA graph."""
    for _ in range(3):
        fn()
    torch.cuda.synchronize()
    t0, t1 = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    t0.record(), fn(), t1.record()
    torch.cuda.synchronize()
    calls = max(10, min(200, int(4000 / max(1.0, t0.elapsed_time(t1) * 1e3))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            fn()
    for _ in range(3):
        graph.replay()
    out = []
    for _ in range(reps):
        t0.record(), graph.replay(), t1.record()
        torch.cuda.synchronize()
        out.append(t0.elapsed_time(t1) * 1e3 / calls)
    return round(statistics.median(out), 3)


def bench(module, peers, dtype=torch.bfloat16, E=128, K=8):
    rows = {"torch ops": torch_path, "this": module.gemma4_fused_routing}
    rows.update({n: m.gemma4_fused_routing for n, m in peers.items()})
    rows["clone"] = lambda g, s, k: g.clone()
    table = {n: [] for n in rows}
    for T in BENCH_TS:
        g, s = torch.randn(T, E, device=DEVICE).to(dtype), torch.rand(E, device=DEVICE)
        for n, f in rows.items():
            try:
                table[n].append(us(lambda: f(g, s, K)))
            except Exception as e:
                print(f"bench {n} T={T}: {e!r}"[:300])
                table[n].append(None)
    print(f"\nmicroseconds a call, CUDA graph, median; {dtype}, E={E}, K={K}")
    print(f"{'T':>16} " + " ".join(f"{T:>8}" for T in BENCH_TS))
    for n, v in table.items():
        print(f"{n:>16} " + " ".join(f"{x if x is not None else '-':>8}" for x in v))
    return table


def sweep(module, dtype, E=128, K=8):
    """Every tile, to see whether the module's own choice is the best one."""
    import triton

    kernel = getattr(module, "_gemma4_fused_routing_kernel", None)
    if kernel is None:
        print("sweep: no _gemma4_fused_routing_kernel in this file")
        return {}
    out = {}
    print(f"\ntiles (rows x warps), microseconds; {dtype}, E={E}, K={K}")
    for rows, warps in [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8)]:
        v = []
        for T in BENCH_TS:
            g, s = torch.randn(T, E, device=DEVICE).to(dtype), torch.rand(E, device=DEVICE)
            w = torch.empty(T, K, device=DEVICE)
            i = torch.empty(T, K, device=DEVICE, dtype=torch.int32)
            v.append(
                us(
                    lambda: kernel[(triton.cdiv(T, rows),)](
                        g,
                        s,
                        w,
                        i,
                        T,
                        g.stride(0),
                        E=E,
                        K=K,
                        ROWS=rows,
                        BLOCK_E=triton.next_power_of_2(E),
                        BLOCK_K=triton.next_power_of_2(K),
                        num_warps=warps,
                    ),
                    15,
                )
            )
        out[f"{rows}x{warps}"] = v
        print(f"{rows:>9} x {warps:<4} " + " ".join(f"{x:>8}" for x in v))
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("path")
    p.add_argument("--peer", action="append", default=[], metavar="[NAME=]PATH")
    p.add_argument("--jobs", type=int, default=1 if INTERPRETED else 8)
    p.add_argument("--no-check", action="store_true")
    p.add_argument("--no-bench", action="store_true")
    p.add_argument("--sweep", action="store_true")
    a = p.parse_args()
    if not INTERPRETED and not torch.cuda.is_available():
        print("no CUDA GPU (TRITON_INTERPRET=1 runs a small part on the CPU)")
        return 2
    import triton

    where = "interpreter" if INTERPRETED else torch.cuda.get_device_name()
    print(f"{where}, torch {torch.__version__}, triton {triton.__version__}, {a.path}")
    module, res = load(a.path), {"path": a.path, "device": where, "triton": triton.__version__}
    bad = []
    if not a.no_check:
        t = time.time()
        tasks = [(a.path, d, E) for E in sorted(ES, reverse=True) for d in ("fp32", "bf16", "fp16")]
        if a.jobs > 1:
            with mp.get_context("spawn").Pool(a.jobs) as pool:
                results = list(pool.imap_unordered(task, tasks, chunksize=1))
        else:
            results = [task(x) for x in tasks]
        n = sum(r[0] for r in results)
        bad += [b for r in results for b in r[1]]
        more, said = once(module)
        bad += more
        print("\n".join(said))
        print(f"{n} comparisons with the oracle, {len(bad)} failures, {time.time() - t:.0f} s")
        for b in bad[:40]:
            print("MISMATCH", b)
        res.update(comparisons=n, failures=len(bad), check_s=round(time.time() - t))
    if not INTERPRETED and not a.no_bench:
        peers = {}
        for j, spec in enumerate(a.peer):
            name, _, path = spec.rpartition("=")
            peers[name or f"peer{j}"] = load(path, f"peer{j}")
        res["bench_T"] = BENCH_TS
        res["bench_bf16"] = bench(module, peers)
        res["bench_fp32"] = bench(module, peers, torch.float32)
        res["bench_bf16_E256"] = bench(module, peers, torch.bfloat16, 256)
        if a.sweep:
            res["sweep_bf16"] = sweep(module, torch.bfloat16)
            res["sweep_fp32"] = sweep(module, torch.float32)
    print("RES " + json.dumps(res))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
