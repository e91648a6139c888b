"""verify/server/recorder on CPU tensors: what it counts, compares and writes."""

from __future__ import annotations

import inspect
import json
import os
import py_compile
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.repositories import ROOT
from support.sglang_server import FakeHost
from verify.server.evidence import HOOK_FOLDER, LiveEvidence, foreign_files, read_evidence
from verify.server.recorder import recorder


def route_plainly(logits: Any, scale: Any, topk: int) -> Any:
    import torch

    value, ids = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    return (torch.softmax(value, dim=-1) * scale[ids]).contiguous(), ids.int().contiguous()


@dataclass
class RecordedRouting:
    """A recorder on CPU tensors. While ``capturing``, it is told that a CUDA graph is captured: its
    copies are made once, which it takes for one replay."""

    folder: Path
    function: Callable[..., Any] = route_plainly
    floats: int = 1 << 20
    capturing: bool = False

    def __post_init__(self) -> None:
        self.torch = pytest.importorskip("torch")
        evidence = recorder.EvidenceFile(str(self.folder))
        self.recorder = recorder.Recorder(
            lambda *a, **k: self.function(*a, **k),
            evidence,
            lambda _: self.capturing,
            floats=self.floats,
        )
        # The lambda above has another signature.
        self.recorder._signature = inspect.signature(route_plainly)
        self.route = self.recorder.wrapped()
        self.scale = self.torch.rand(16) + 0.5

    def call(self, rows: int, **other: Any) -> Any:
        logits = self.torch.randn(rows, 16).to(self.torch.bfloat16)
        return self.route(logits, self.scale, **{"topk": 4, **other})

    def evidence(self) -> LiveEvidence:
        self.recorder.summarise()
        return read_evidence(self.folder)


def test_right_routings_are_counted(tmp_path: Path) -> None:
    routing = RecordedRouting(tmp_path)
    with routing.torch.inference_mode():
        for rows in (3, 7, 0, 3):
            routing.call(rows)
        routing.capturing = True
        routing.call(5)
        routing.call(2)
        routing.capturing = False
        routing.call(9)
    counts = routing.evidence().counts
    assert counts["launches"] == 6
    assert (counts["eager"], counts["eager_compared"], counts["eager_rows"]) == (4, 4, 22)
    assert (counts["captured"], counts["slots"], counts["replayed"]) == (2, 2, 2)
    assert (counts["graph_compared"], counts["graph_rows"], counts["mismatches"]) == (2, 7, 0)
    assert counts["eager_varied"] == 22


def test_wrong_routings_are_recorded(tmp_path: Path) -> None:
    def forgets(logits: Any, scale: Any, topk: int) -> Any:
        return route_plainly(logits, scale * 0 + 1, topk)

    def widens(logits: Any, scale: Any, topk: int) -> Any:
        weights, ids = route_plainly(logits, scale, topk)
        return weights, ids.long()

    routing = RecordedRouting(tmp_path)
    routing.call(3)
    assert routing.evidence().counts["mismatches"] == 0
    routing.function = forgets
    routing.call(3)
    routing.capturing = True
    routing.call(4)
    routing.function = widens
    routing.call(4)
    routing.capturing = False
    routing.function = route_plainly
    routing.call(5)
    evidence = routing.evidence()
    assert evidence.counts["mismatches"] == 3
    assert [mismatch["where"] for mismatch in evidence.mismatches] == ["eager", "capture", "graph"]
    assert "ids of torch.int64" in evidence.mismatches[1]["problems"][0]
    assert not evidence.errors


def test_every_replay_is_compared(tmp_path: Path) -> None:
    """As a graph would, without its capture: fill a slot's buffers and raise its counter."""
    routing = RecordedRouting(tmp_path)
    routing.call(1)
    routing.capturing = True
    routing.call(4)
    routing.capturing = False
    routing.call(2)
    slot, counters = routing.recorder._slots[0], routing.recorder._buffers.counters
    slot.ids[2, 0] = (slot.ids[2, 0] + 1) % 16
    routing.call(3)
    assert routing.evidence().counts["mismatches"] == 0, "no replay, nothing new"
    counters[slot.index] += 5
    routing.call(3)
    counts = routing.evidence().counts
    assert (counts["mismatches"], counts["replayed"], counts["graph_compared"]) == (1, 6, 2)


def test_buffers_run_out(tmp_path: Path) -> None:
    routing = RecordedRouting(tmp_path, floats=16 * 10)
    routing.capturing = True
    routing.call(4)  # before any eager call there are none
    routing.capturing = False
    routing.call(1)
    routing.capturing = True
    for _ in range(4):
        routing.call(4)
    routing.capturing = False
    routing.call(2)
    counts = routing.evidence().counts
    assert (counts["captured"], counts["slots"], counts["replayed"]) == (5, 2, 4)
    assert counts["graph_compared"] == 2


def test_often_seen_shapes_are_compared_less(tmp_path: Path) -> None:
    routing = RecordedRouting(tmp_path)
    for _ in range(200):
        routing.call(1)
    counts = routing.evidence().counts
    assert counts["launches"] == 200
    assert 64 < counts["eager_compared"] < 80


def test_a_broken_recorder_does_not_disturb_the_routing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing = RecordedRouting(tmp_path)
    monkeypatch.setattr(recorder.Recorder, "_compare", staticmethod(lambda *_: 1 / 0))
    for _ in range(3):
        weights, _ = routing.call(3)
        assert weights.shape == (3, 4)
    evidence = routing.evidence()
    assert [error["at"] for error in evidence.errors] == ["_after"]
    assert "ZeroDivisionError" in evidence.errors[0]["traceback"]
    assert evidence.counts["launches"] == 3

    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("the routing's own")

    routing.function = fails
    with pytest.raises(ValueError, match="the routing's own"):
        routing.call(1)


def test_collapsed_activations_prove_nothing(tmp_path: Path) -> None:
    routing = RecordedRouting(tmp_path)
    routing.route(routing.torch.zeros(4, 16), routing.scale, 4)
    counts = routing.evidence().counts
    assert (counts["eager_rows"], counts["eager_varied"]) == (4, 0)


@pytest.mark.slow(2)
@pytest.mark.slow(4)
def test_triton_launches_are_counted(tmp_path: Path) -> None:
    """In Triton's interpreter, in a process of its own, since it is chosen at import."""
    pytest.importorskip("triton")
    code = """
import sys, torch, triton, triton.language as tl
from verify.server.recorder import recorder
from verify.server.supervisor import leftover_processes, send_signal
@triton.jit
def kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at))
@triton.jit
def another(x, y, N: tl.constexpr):
    kernel(x, y, N)
table = ((another, 1),)
def routing(logits, scale, topk):
    for each, _ in ((kernel, 1), *table):
        each[(1,)](logits, torch.empty_like(logits), N=16)
    return scale, topk
recorded = recorder.Recorder(routing, recorder.EvidenceFile(sys.argv[1]))
routing(torch.zeros(1, 16), 0, 0)
print(recorded.counts["enqueued"])
"""
    path = tmp_path / "kernel.py"
    path.write_text(code)
    result = subprocess.run(
        [sys.executable, str(path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["2"], result.stderr


SPAWNED = """
import multiprocessing, os, sys
def child():
    import sglang.srt.models.gemma4_causal
if __name__ == "__main__":
    import sglang.srt.models.gemma4_causal, sitecustomize
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start(); process.join()
    print(sitecustomize.WHOSE)
"""


def test_spawned_processes_are_recorded_and_the_hosts_sitecustomize_runs(
    host: FakeHost, tmp_path: Path
) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/sitecustomize.py").write_text("WHOSE = 'the host'")
    (tmp_path / "main.py").write_text(SPAWNED)
    path = [HOOK_FOLDER, host.tree / "python", ROOT, tmp_path / "own"]
    result = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "FIXTOOL_LIVE": str(tmp_path / "live"),
            "FIXTOOL_TREE_BLOBS": str(tmp_path / "blobs.json"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("the host\n", "")
    evidence = read_evidence(tmp_path / "live")
    assert len({process["pid"] for process in evidence.installed}) == 2
    blobs = json.loads((tmp_path / "blobs.json").read_text())
    assert foreign_files(evidence, host.tree, blobs) is None
    for part in ("caller", "kernel"):
        file = evidence.installed[0][part]
        assert file["blob"] == blobs[str(Path(file["file"]).relative_to(host.tree))]


def test_stale_bytecode_is_seen(tmp_path: Path) -> None:
    """Same size and time, other content: Python runs the old bytecode of such a file."""
    path = tmp_path / "stale.py"
    path.write_text("def gemma4_fused_routing(): return 1\n")
    py_compile.compile(str(path))
    stamp = path.stat().st_mtime
    path.write_text("def gemma4_fused_routing(): return 2\n")
    os.utime(path, (stamp, stamp))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import stale\n"
        "from verify.server.recorder import recorder\n"
        "print(stale.gemma4_fused_routing(), "
        "recorder._of_function(stale.gemma4_fused_routing)['runs_its_file'])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONPYCACHEPREFIX", None)
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert result.stdout.split() == ["1", "False"], result.stderr
