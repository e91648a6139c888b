"""Every row of the kernel benchmarks runs, without a GPU: its kernels are plain PyTorch, and CUDA's events
and graphs have stand-ins. What is timed means nothing; what is called, checked, saved and told is real."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from support.repositories import ROOT

torch: Any = pytest.importorskip("torch")
pytest.importorskip("triton")

from support import plain_chain  # noqa: E402
from verify.bench import chain, others, routing, timing  # noqa: E402

PLAIN = str(ROOT / "tooling/tests/support/plain_chain.py")
PEER = """
import torch

def gemma4_fused_routing_of_a_peer(gating_output, topk, per_expert_scale):
    value, ids = torch.sort(gating_output.float(), dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    weights = torch.softmax(value, dim=-1) * per_expert_scale.float()[ids]
    return weights.contiguous(), ids.int().contiguous()
"""
MATVEC = """
import torch
from sglang.kernels.jit.utils import is_arch_support_pdl

def router_gate_matvec(x, matrix):
    is_arch_support_pdl()
    return x.float() @ matrix.float().T
"""
SMALL_ALIGN = """
def moe_align_small_numel(ids, experts, block, places, owners, total):
    from support.plain_chain import moe_align_few
    moe_align_few(ids, block, places, owners, total)
"""


class Graph:
    """The calls of a capture have run; a replay does nothing."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


class Event:
    clock = itertools.count()

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = next(Event.clock)

    def elapsed_time(self, other: Event) -> float:
        return (other.at - self.at) / 1000


def rmsnorm(x: Any, weight: Any, eps: float) -> Any:
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * inverse * weight.float()).to(x.dtype)


def aligned(ids: Any, experts: int, block: int, *buffers: Any) -> None:
    assert experts == 17 or experts == 129
    plain_chain.align(ids, block, *buffers[:3])


def plain_routing(logits: Any, topk: int) -> tuple[Any, Any]:
    found: tuple[Any, Any] = plain_chain.gemma4_fused_routing(
        logits, torch.ones(logits.shape[1]), topk
    )
    return found


def fill(weights: Any, ids: Any, logits: Any, renormalize: bool) -> None:
    assert renormalize
    found = plain_routing(logits, weights.shape[1])
    weights.copy_(found[0]), ids.copy_(found[1])


def of_muse_spark(logits: Any, bias: Any, topk: int, scale: float, **more: Any) -> Any:
    assert (logits.dtype, bias.any(), scale) == (torch.float32, False, 1.0)
    assert more == {"router_score_normalization": "softmax"}
    return *plain_routing(logits, topk), None


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's stand-ins, and the packages that a GPU host has."""
    stands = {
        "Event": Event, "CUDAGraph": Graph, "synchronize": lambda *_: None,
        "graph": lambda *_, **__: contextlib.nullcontext(), "is_available": lambda: True,
        "get_device_name": lambda *_: "a stand-in", "get_device_capability": lambda *_: (9, 0),
    }  # fmt: skip
    for name, stand in stands.items():
        monkeypatch.setattr(torch.cuda, name, stand)
    for module in (chain, routing):
        monkeypatch.setattr(module, "DEVICE", "cpu")
        monkeypatch.setattr(module, "empty_kernel", lambda: lambda tensor: None)
        monkeypatch.setattr(module, "REPLAYS", 2)
    packages = {
        "flashinfer": {}, "flashinfer.norm": {"rmsnorm": rmsnorm},
        "sgl_kernel": {"moe_align_block_size": aligned, "topk_softmax": fill},
        "quack": {}, "quack.topk": {"topk": lambda x, k, softmax: plain_routing(x, k)},
    }  # fmt: skip
    for name, content in packages.items():
        package = ModuleType(name)
        vars(package).update(content)
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(chain, "WARM", 1)


def files(folder: Path) -> dict[str, str]:
    found = {}
    for name, text in (("peer", PEER), ("matvec", MATVEC), ("small-align", SMALL_ALIGN)):
        (folder / f"{name}.py").write_text(text)
        found[name] = str(folder / f"{name}.py")
    return found


def test_every_row_of_the_chains_table(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "SHAPE", (96, 16, 4))
    monkeypatch.setattr(chain, "WEIGHTS", 2)
    muse = SimpleNamespace(fused_muse_spark_routing_jit=of_muse_spark)
    monkeypatch.setitem(sys.modules, "sglang.kernels.ops.moe.muse_spark_routing_jit", muse)
    monkeypatch.setattr(sys, "path", [*sys.path])
    paths = files(tmp_path)
    words = [word for name, path in paths.items() for word in (f"--{name}", path)]
    words += ["--kernel", PLAIN, "--vllm", paths["peer"], "--sglang", str(tmp_path / "python")]
    out = tmp_path / "out.json"
    options = chain.parse_arguments([*words, "--out", str(out), "--tokens", "2,65"])
    answer = chain.main(options)
    assert answer.code == 0, answer
    details = json.loads(out.read_text())
    assert (details["wrong"], details["missing"], details["notes"]) == ({}, {}, {})
    assert [point["T"] for point in details["points"]] == [2, 65]
    few, many = (set(point["cold"]) for point in details["points"])
    named = ("vllm", "topk_softmax", "muse_spark", "quack")
    rest = {f"{name} routing" for name in (*named, "ours")} | {
        f"{name} apart - norm" for name in named
    }
    rest |= {f"{name} apart{end}" for name in ("ours", "peer") for end in (
        "", " - norm", "+align", "+align - norm")} | {"empty"}  # fmt: skip
    chained = {"chain", "chain+align", "chain, sgl_kernel's align", "matvec", "matvec - norm"}
    small = {f"{name} apart+small align - norm" for name in ("ours", "peer")}
    assert few == rest | chained | small
    assert many == rest
    assert set(details["points"][0]["warm"]) == few
    assert details["points"][1]["warm"] == {}


def test_what_the_host_lacks_costs_only_its_rows(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what goes wrong is told: a chain that is wrong fails, another project's ties do not."""
    monkeypatch.setattr(chain, "SHAPE", (96, 16, 4))
    monkeypatch.setattr(chain, "WEIGHTS", 2)
    for name in ("flashinfer.norm", "sgl_kernel", "quack.topk"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "wrong.py").write_text(
        (ROOT / PLAIN).read_text().replace("    return logits\n", "    return logits * 1.25\n")
    )
    out = str(tmp_path / "out.json")
    words = ["--kernel", str(tmp_path / "wrong.py"), "--out", out, "--tokens", "2"]
    answer = chain.main(chain.parse_arguments(words))
    assert answer.code == 1
    assert "logits are off" in answer.saw
    details = json.loads(Path(out).read_text())
    assert set(details["missing"]) == {
        "flashinfer", "sgl_kernel", "topk_softmax", "quack", "vllm", "muse_spark",
    }  # fmt: skip
    assert set(details["points"][0]["cold"]) == {"chain+align", "ours routing", "empty"}


def test_another_projects_order_of_ties_is_a_note() -> None:
    logits, scale = torch.zeros(3, 8), torch.ones(8)
    last = others.OtherRouting("last", lambda *_: None)  # type: ignore[arg-type, return-value]
    highest = torch.full((3, 2), 0.5), torch.tensor([[7, 6]] * 3)
    assert "ids of 3 rows" in last.problem(logits, scale, 2, highest)
    assert last.problem(logits, scale, 2, plain_routing(logits, 2)) == ""


@pytest.mark.slow(8)
def test_every_part_of_the_routings_table(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "TOKENS", (1,))
    monkeypatch.setattr(routing, "FEW", (1,))
    monkeypatch.setattr(routing, "AROUND", (16,))
    monkeypatch.setattr(routing, "BATCH_US", 0.2)
    out = tmp_path / "out.json"
    words = ["--kernel", f"ours={PLAIN}", "--peer", f"peer={files(tmp_path)['peer']}"]
    words += [w for part in routing.PARTS if part != "first" for w in ("--only", part)]
    monkeypatch.setattr(sys, "argv", ["routing.py", *words, "--out", str(out)])
    answer = routing.main(routing.parse_arguments())
    assert answer.code == 0, answer
    details = json.loads(out.read_text())
    assert (details["wrong"], details["refused"], details["points_skipped"]) == ({}, [], 0)
    assert {point["part"] for point in details["points"]} == {*routing.PARTS} - {"first"}
    rows = {"ours", "peer", "torch ops", "empty", "copy"}
    assert all(set(point["us"]) == rows for point in details["points"])
    # The first calls, in this process: a row that does not fit has no time.
    name, seconds = routing.first_calls(f"ours={PLAIN}", False, str(tmp_path / "cache"))
    assert (name, len(seconds)) == ("ours", 4)
    assert None not in seconds
    assert routing.compile_part(f"ours={PLAIN}", False, "topk") == ""
    assert "no-such-file" in routing.compile_part("x=no-such-file.py", False, "topk")


def test_a_graph_is_captured_and_replayed(no_gpu: None) -> None:
    """`timing`: a capture calls each once and replays once; a time is that of a replay."""
    called: list[int] = []
    before = Graph.replays
    graph = timing.capture([lambda: called.append(1), lambda: called.append(2)])
    assert (called, Graph.replays - before) == ([1, 2], 1)
    assert timing.microseconds(graph.replay) == pytest.approx(1.0)
    assert Graph.replays - before == 2
