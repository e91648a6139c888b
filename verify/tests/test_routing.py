"""The routing check: its oracle, its cases, and the kernel of the series and of every mutant.

The kernel's text comes out of its patch, so nothing is needed but torch, triton and hypothesis.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from support.repositories import ROOT

ROUTING = ROOT / "verify/routing"
HOMES = [
    "python/sglang/srt/layers/gemma4_fused_ops.py",
    "python/sglang/kernels/ops/layernorm/gemma4_fused_ops.py",
    "python/sglang/kernels/ops/moe/gemma4_routing.py",
]
MUTANTS = tomllib.loads((ROOT / "verify/mutants/kernel.toml").read_text())["mutant"]
NAMES = [mutant["name"] for mutant in MUTANTS]
PARTS = 16

for package in ("torch", "triton", "hypothesis"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"pip install '.[verify,dev]' brings {package}", allow_module_level=True)


def added(patch: str, path: str) -> str:
    """The lines that a patch adds to a file."""
    section = patch.split(f"diff --git a/{path} b/{path}\n", 1)[1].split("\ndiff --git ", 1)[0]
    lines = section.split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith("@@"))
    return "".join(f"{line[1:]}\n" for line in lines[start:] if line.startswith("+"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest tree that routes: a caller that imports the kernel, and the kernel."""
    patch = (ROOT / "patches/b0ce16d0c/gemma4-fused-routing.patch").read_text()
    place = tmp_path_factory.mktemp("tree")
    files = {
        "python/sglang/srt/models/gemma4_causal.py": "from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing\n",
        HOMES[0]: "import torch\nimport triton\nimport triton.language as tl\n\n\n"
        + added(patch, HOMES[0]).lstrip(),
    }
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return place


def run(script: str, *args: str | Path, tree: Path, details: Path | None = None):
    """Run a script as fixtool's runner does: its exit code, last line, details and whole output."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FIXTOOL_TREE": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    env.pop("FIXTOOL_DETAILS", None)
    if details:
        env["FIXTOOL_DETAILS"] = str(details)
    result = subprocess.run(
        [sys.executable, str(ROUTING / script), *map(str, args)],
        env={**env, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    lines = result.stdout.strip().splitlines()
    document = json.loads(details.read_text()) if details and details.exists() else {}
    last = lines[-1] if lines else result.stderr[-2000:]
    return result.returncode, last, document, result.stdout


# --- the oracle ---------------------------------------------------------------------------------


def check_oracle(row: list[float], dtype, scale: list[float], topk: int) -> None:
    import torch

    from verify.routing.oracle import route, route_plainly

    logits = torch.tensor([row], dtype=torch.float64).to(dtype)
    factors = torch.tensor(scale, dtype=torch.float64)
    weights, ids = route(logits, factors, topk)
    want_weights, want_ids = route_plainly(
        logits[0].double().tolist(), factors.float().double().tolist(), topk
    )
    assert ids[0].tolist() == want_ids
    assert weights[0].tolist() == pytest.approx(want_weights, rel=1e-12, abs=0, nan_ok=True)


@pytest.mark.slow(5)
def test_the_oracle_is_the_plain_definition() -> None:
    import torch
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @st.composite
    def rows(draw: st.DrawFn):
        dtype = draw(st.sampled_from((torch.bfloat16, torch.float16, torch.float32)))
        number = st.floats(width=16 if dtype == torch.float16 else 32)
        pool = st.sampled_from(draw(st.lists(number, min_size=1, max_size=4)))
        row = draw(st.lists(st.one_of(pool, number), min_size=1, max_size=20))
        scale = draw(st.lists(st.floats(-4, 4), min_size=len(row), max_size=len(row)))
        return row, dtype, scale, draw(st.integers(1, len(row)))

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(rows())
    def same(drawn) -> None:
        check_oracle(*drawn)

    same()


@pytest.mark.parametrize(
    ("row", "ids", "weights"),
    [
        ([1.0, 2.0, 2.0, 0.0], [1, 2, 0], None),
        ([-0.0, 0.0, -1.0, 0.0], [0, 1, 3], [1 / 3] * 3),
        ([1.0, -math.nan, math.inf, math.nan], [1, 3, 2], [math.nan] * 3),
        ([-math.inf] * 4, [0, 1, 2], [math.nan] * 3),
        ([-math.inf, -math.inf, -math.inf, -9.0], [3, 0, 1], [1.0, 0.0, 0.0]),
        ([math.inf, 3.0, 3.0, math.inf], [0, 3, 1], [math.nan] * 3),
        ([1e-40, 2e-40, 0.0, -1e-40], [1, 0, 2], None),
    ],
)
def test_the_corners_that_the_oracle_documents(row, ids, weights) -> None:
    import torch

    from verify.routing.oracle import route

    got_weights, got_ids = route(torch.tensor([row]), torch.ones(4), 3)
    assert got_ids.tolist() == [ids]
    if weights is not None:
        assert got_weights[0].tolist() == pytest.approx(weights, rel=1e-9, abs=0, nan_ok=True)


def test_a_scale_counts_as_its_value_in_fp32() -> None:
    import torch

    from verify.routing.oracle import route

    weights, _ = route(torch.zeros(1, 3), torch.tensor([1 / 3, 1e300, 0.0], dtype=torch.float64), 3)
    third = torch.tensor(1 / 3).double().item()  # as fp32 has it
    assert weights[0].tolist() == pytest.approx([third / 3, math.inf, 0.0], rel=1e-12)


# --- the comparison ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda w, i: (w, i), None),
        (lambda w, i: (w.double(), i), "weights are torch.float64"),
        (lambda w, i: (w, i.long()), "ids are torch.int64"),
        (lambda w, i: (w[:, :2], i), "weights are [2, 2]"),
        (lambda w, i: (w.T.contiguous().T, i), "not contiguous"),
        (lambda w, i: (w, i + 3), "id out of range"),
        (lambda w, i: (w, i * 0), "an id twice"),
        (lambda w, i: (w, i.flip(-1).contiguous()), "ids of 2 rows"),
        (lambda w, i: (w * 1.0001, i), "weights of 2 rows"),
        (lambda w, i: (w * math.nan, i), "weights of 2 rows"),
    ],
)
def test_a_wrong_answer_is_a_problem(change, problem) -> None:
    import torch

    from verify.routing.compare import compare_with_oracle
    from verify.routing.oracle import route

    logits, scale = torch.tensor([[1.0, 3.0, 2.0, 0.0], [4.0, 5.0, 6.0, 7.0]]), torch.ones(4)
    weights, ids = route(logits, scale, 3)
    comparison = compare_with_oracle(*change(weights.float(), ids.int()), logits, scale, 3)
    if problem is None:
        assert comparison.problems == []
        assert 0 < comparison.relative < 1e-6
        assert comparison.rows == 2
    else:
        assert any(problem in text for text in comparison.problems)


# --- the cases ----------------------------------------------------------------------------------


@pytest.mark.slow(2)
def test_the_cases_are_as_many_and_as_wide_as_promised() -> None:
    from verify.routing.cases import all_cases

    cases, skipped = all_cases()
    assert set(skipped) == {"real-router"}
    assert len({case.name for case in cases}) == len(cases) >= 1300
    assert repr(cases) == repr(all_cases()[0])  # a NaN is not equal to itself
    called = [case for case in cases if case.family in ("grid", "tokens")]
    assert len(called) >= 500
    assert {case.dtype for case in called} == {"bf16", "fp16", "fp32"}
    assert {case.tokens for case in called} >= {0, 1, 7, 1024, 1025, 65536}
    assert {case.experts for case in called} >= {2, 3, 100, 127, 128, 129, 256, 1000, 1024}
    assert {case.topk for case in called} == {1, 2, 3, 4, 6, 8, 12, 16}
    families = {case.family for case in cases}
    assert families > {"drawn", "bf16-ties", "router", "layouts", "scales", "k-equals-e"}
    assert families > {"cuda-graph", "torch.compile", "streams", "far", "launches", "variants"}
    assert sum(not case.gpu_only for case in cases) >= 1300


def test_a_case_is_the_same_twice_and_its_cut_is_small() -> None:
    import torch

    from verify.routing.cases import all_cases, build, interleave_families, shorten
    from verify.routing.compare import as_bits

    cases = [case for case in all_cases()[0] if not case.gpu_only and case.execution == "call"]
    for case in interleave_families(cases)[:120]:
        small = shorten(case)
        assert small.name == case.name
        assert small.tokens <= max(5, case.least)
        logits, scale = build(small, "cpu")
        assert logits.shape == (small.tokens, case.experts)
        assert scale.shape == (case.experts,)
        again = build(small, "cpu")
        assert torch.equal(as_bits(logits), as_bits(again[0]))
        assert torch.equal(as_bits(scale), as_bits(again[1]))


def test_real_router_matrices_are_read_without_safetensors(tmp_path: Path) -> None:
    import torch

    from verify.routing.cases import all_cases, read_router, rows_of

    matrix, scale = torch.randn(6, 8).bfloat16(), torch.rand(8)
    tensors = {"model.layers.0.router.proj.weight": matrix, "model.layers.0.router.scale": scale}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        raw = bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())
        header[name] = {
            "dtype": {2: "BF16", 4: "F32"}[tensor.element_size()],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    head = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)

    cases, skipped = all_cases(str(tmp_path))
    real = [case for case in cases if case.family == "real-router"]
    assert [case.dtype for case in real] == ["bf16", "fp16", "fp32"]
    assert (real[0].experts, real[0].topk) == (6, 6)
    assert skipped == {}
    read = read_router(real[0].source)
    assert torch.equal(read[0], matrix)
    assert torch.equal(read[1], scale)
    assert rows_of(real[0], 5).shape == (5, 6)


# --- the kernel ---------------------------------------------------------------------------------


@pytest.mark.slow(60)
@pytest.mark.release(sample_of="the kernel's tests")
@pytest.mark.parametrize(
    "families",
    [
        ("corners", "equal", "k-equals-e", "layouts", "scales", "refusals", "drawn", "large"),
        ("bf16-ties", "tiles", "grid", "tokens", "router"),
    ],
    ids=["corners", "grid"],
)
def test_the_kernel_of_the_series_passes(families, tree: Path, tmp_path: Path) -> None:
    named = [word for name in families for word in ("--family", name)]
    code, line, details, _ = run("check.py", *named, tree=tree, details=tmp_path / "details.json")
    assert code == 0, line
    assert set(details["families"]) == set(families)
    assert details["cases"] >= 600
    assert details["cases_skipped"] == 0
    assert details["families_skipped"] == {}
    assert set(details["paths"]) == {"merge", "heads", "rounds"}
    assert min(details["paths"].values()) >= 30
    assert details["kernel"]["file"] == str(tree / HOMES[0])
    assert re.fullmatch("[0-9a-f]{40}", details["kernel"]["blob"])
    assert all(worst["relative"] < 2e-6 for worst in details["worst_weight_error"].values())


@pytest.mark.slow(3)
def test_families_that_need_a_gpu_are_skipped(tree: Path, tmp_path: Path) -> None:
    words = ["--family", "cuda-graph", "--family", "far", "--family", "refusals"]
    code, line, details, _ = run("check.py", *words, tree=tree, details=tmp_path / "details.json")
    assert code == 0
    assert "families skipped: cuda-graph, far" in line
    assert details["families"]["far"]["why"] == {"needs a CUDA GPU": 17}  # 7 by both kernels


def test_a_tree_without_fused_routing(tmp_path: Path) -> None:
    assert run("check.py", tree=tmp_path)[0] == 77
    caller = tmp_path / "python/sglang/srt/models/gemma4_causal.py"
    caller.parent.mkdir(parents=True)
    caller.write_text("import torch\n")
    assert run("check.py", tree=tmp_path)[0] == 77


def test_the_kernel_is_found_through_a_re_export(tmp_path: Path) -> None:
    from verify.routing.load import find_kernel

    for path, text in {
        "srt/models/gemma4_causal.py": "def f():\n    from sglang.kernels.moe import gemma4_fused_routing\n",
        "kernels/moe/__init__.py": "from sglang.kernels.moe.routing import fused as gemma4_fused_routing\n",
        "kernels/moe/routing.py": "def fused(a, b, c): ...\n",
    }.items():
        file = tmp_path / "python/sglang" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert find_kernel(tmp_path) == tmp_path / "python/sglang/kernels/moe/routing.py"
    (tmp_path / "python/sglang/kernels/moe/routing.py").unlink()
    with pytest.raises(ValueError, match="which the tree lacks"):
        find_kernel(tmp_path)


@pytest.mark.slow(8)
def test_a_process_that_dies_costs_its_case_only(tmp_path: Path) -> None:
    from verify.routing.cases import all_cases
    from verify.routing.pool import run_in_processes

    kernel = tmp_path / "kernel.py"
    kernel.write_text(
        "import os\ndef gemma4_fused_routing(logits, scale, topk):\n"
        "    if logits.shape[1] == 3: os._exit(9)\n    raise RuntimeError('no')\n"
    )
    listed = [case for case in all_cases()[0] if case.family == "k-equals-e"]
    cases = [next(case for case in listed if case.experts == 3), *listed[-2:]]
    problems = {r.case.name: r.what for r in run_in_processes(cases, str(kernel), "cpu", 1)}
    assert set(problems) == {case.name for case in cases}
    died = {name for name, what in problems.items() if what == "its process died"}
    assert died == {case.name for case in cases if case.experts == 3}
    assert all("raised RuntimeError: no" in problems[name] for name in problems.keys() - died)


def test_the_check_says_which_case_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that was cut off after 311 s on a GPU host had not said where it stood."""
    from verify.routing import pool
    from verify.routing.cases import all_cases

    monkeypatch.setattr(pool, "SAY_SECONDS", 0.0)
    kernel = tmp_path / "kernel.py"
    kernel.write_text(
        "def gemma4_fused_routing(logits, scale, topk):\n    raise RuntimeError('no')\n"
    )
    cases = [case for case in all_cases()[0] if case.family == "k-equals-e"][:2]
    heard: list[str] = []
    assert len(list(pool.run_in_processes(cases, str(kernel), "cpu", 1, say=heard.append))) == 2
    assert heard[0].startswith(f"0 of 2 cases; {cases[0].name} has run for ")
    assert heard[-1].startswith(f"1 of 2 cases; {cases[1].name} has run for ")


@pytest.mark.slow(8)
def test_torch_compile_is_soon_through_with_each_kernel(tree: Path) -> None:
    """Merge kept torch 2.14 busy for minutes, and then for minutes more: 10**8 steps, some of 10**-6 s."""
    from verify.routing.load import find_kernel

    command = [sys.executable, str(ROOT / "verify/tests/kernel_walk.py"), str(find_kernel(tree))]
    env = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tooling")])
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-600:]
    walks = json.loads(ran.stdout)
    assert set(walks) == {"merge", "heads", "rounds"}
    assert max(walks.values()) < 100_000, walks


def test_a_check_says_what_took_its_time() -> None:
    """A kernel that two processes compiled at once counts twice, and is one of two different ones."""
    from verify.routing.cases import all_cases
    from verify.routing.check import time_by_phase
    from verify.routing.executions import CaseResult

    first, second = all_cases()[0][:2]
    one = CaseResult(first, "passed", seconds=3.0, compiling=2.0, comparing=0.25, compiled=["a", "b"])  # fmt: skip
    other = CaseResult(second, "passed", seconds=1.0, compiling=1.0, compiled=["a"])
    assert time_by_phase([other, one]) == {
        "seconds": {"compiling": 3.0, "comparing": 0.2, "rest": 0.8},
        "compiled": 3,
        "compiled_different": 2,
        "slowest": [
            {"case": first.name, "seconds": 3.0, "compiling": 2.0},
            {"case": second.name, "seconds": 1.0, "compiling": 1.0},
        ],
    }


def test_what_the_compiler_takes_is_told() -> None:
    import triton

    from verify.routing.cases import all_cases
    from verify.routing.executions import CaseResult, watch_compiler

    result = CaseResult(all_cases()[0][0], "passed")
    with watch_compiler(result):
        for cached in (False, True):
            triton.knobs.compilation.listener(
                src=None, metadata={"hash": "a"}, metadata_group={},
                times=types.SimpleNamespace(total=2_000_000), cache_hit=cached,
            )  # fmt: skip
    assert (result.compiling, result.compiled) == (4.0, ["a"])
    assert triton.knobs.compilation.listener is None


@pytest.mark.parametrize(
    ("shape", "itself", "reached"),
    [
        (("bf16", 1, 128, 8), "heads", ["merge", "heads"]),
        (("fp16", 4096, 5, 5), "merge", ["merge", "heads"]),
        (("fp32", 4096, 128, 8), "heads", ["heads"]),
        (("bf16", 65536, 128, 9), "heads", ["heads"]),
        (("bf16", 65536, 129, 8), "rounds", ["rounds"]),
        (("fp32", 1, 1024, 32), "rounds", ["rounds"]),
    ],
)
def test_a_case_runs_by_every_kernel_that_its_shape_reaches(shape, itself, reached, tree) -> None:
    from verify.routing import variants
    from verify.routing.cases import Case
    from verify.routing.load import load_kernel

    module = load_kernel(tree / HOMES[0])
    before = getattr(module, variants.TABLE)
    case = Case("a case", "grid", *shape)
    assert variants.chosen(module, case) == itself
    assert {each.variant or itself for each in variants.with_every_variant(module, [case])} == set(
        reached
    )
    for path in reached:
        with variants.forced(module, path, 2, 1):
            ((_, least, *_, tokens, warps),) = getattr(module, variants.TABLE)
            assert (list(variants.variants_of(module)), least, tokens, warps) == ([path], 1, 2, 1)
        assert getattr(module, variants.TABLE) is before
    large = Case("few tokens", "large", shape[0], 1, *shape[2:], variant=variants.LARGE)
    assert variants.chosen(module, large) == reached[0]


def test_a_kernel_without_a_table_runs_each_case_once() -> None:
    import types

    from verify.routing import variants
    from verify.routing.cases import Case

    plain, case = types.ModuleType("plain"), Case("a case", "grid", "bf16", 1, 128, 8)
    assert variants.with_every_variant(plain, [case]) == [case]
    assert variants.chosen(plain, case) == ""
    with variants.forced(plain, variants.LARGE):
        assert not hasattr(plain, variants.TABLE)


# --- the mutants --------------------------------------------------------------------------------


def test_mutants_are_whole() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 15
    for mutant in MUTANTS:
        assert mutant["patch"] == "gemma4-fused-routing"
        assert mutant["killer"] == "routing"
        assert mutant["what"]
        assert all(edit["files"] == HOMES for edit in mutant["edit"])


@pytest.mark.slow(35)
@pytest.mark.release(sample_of="the kernel's tests")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_mutant_is_killed(part: int, tree: Path, tmp_path: Path) -> None:
    chosen = NAMES[part::PARTS]
    code, line, details, table = run(
        "mutant_table.py", tree / HOMES[0], *chosen, tree=tree, details=tmp_path / "details.json"
    )
    print(table)
    assert code == 0, line
    assert set(details["killers"]) == set(chosen)


@pytest.mark.slow(6)
def test_the_check_itself_kills_a_mutant_and_names_the_case(tree: Path, tmp_path: Path) -> None:
    from verify.routing.mutant_table import apply_mutant, read_mutants

    mutant = next(m for m in read_mutants() if m["name"] == "kernel-heads-winner-stays")
    file = tmp_path / "mutant.py"
    file.write_text(apply_mutant((tree / HOMES[0]).read_text(), mutant))
    code, line, _, _ = run("check.py", "--kernel", file, "--fail-fast", tree=tree)
    assert code == 1
    assert "1 failed; first: corners bf16 T48 E5 K3 normal: an id twice in 3 rows" in line
