"""verify/bench without a GPU: what is extracted from a peer's file. (Serving: test_serving.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

VLLM = """
import not_here
from not_here.triton_utils import tl, triton

LIMIT: int = 4
if not_here.is_gpu():
    OTHER = not_here.OTHER

def _times(x):
    return x * LIMIT

def _unused():
    return OTHER

@not_here.register("routing")
def gemma4_fused_routing_kernel_triton(gating_output, topk, per_expert_scale, num_warps=1):
    return _times(topk), gating_output, per_expert_scale

class Model(not_here.Model):
    pass
"""

SGLANG = """
from not_here import register

_ROUNDS = 2

@register(mutates=["out"])
def gemma4_fused_routing(
    gating_output: torch.Tensor, per_expert_scale: torch.Tensor, topk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return topk * _ROUNDS, gating_output, per_expert_scale
"""


@pytest.mark.parametrize(("text", "first"), [(VLLM, 12), (SGLANG, 6)])
def test_a_peers_launcher_runs_without_its_package(tmp_path: Path, text: str, first: int) -> None:
    """Whatever the order of its arguments; and nothing comes with it that it does not need."""
    pytest.importorskip("triton")
    from verify.bench import peer

    file = tmp_path / "model.py"
    file.write_text(text)
    routing = peer.load_peer(str(file), "peer_under_test").gemma4_fused_routing
    assert routing("logits", "scale", 3) == (first, "logits", "scale")
    kept = peer.extract_launcher(str(file))
    assert not [name for name in ("not_here", "Model", "_unused", "OTHER") if name in kept]


def test_a_file_without_a_launcher_is_no_peer(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from verify.bench import peer

    file = tmp_path / "other.py"
    file.write_text("def routing(): ...\n")
    with pytest.raises(AttributeError, match=r"other\.py has no gemma4_fused_routing"):
        peer.load_peer(str(file), "peer_under_test")


def test_what_is_timed_takes_turns() -> None:
    """A clock that drifts affects all alike, and each has its median, least and most."""
    pytest.importorskip("torch")
    from verify.bench.timing import in_turns

    clock: list[str] = []

    def timed(name: str, *results: float) -> float:
        clock.append(name)
        return results[clock.count(name) - 1]

    runs = {"a": lambda: timed("a", 3, 1.00049, 9), "b": lambda: timed("b", 5, 5, 4)}
    assert in_turns(runs, 3) == {"a": [3, 1.0, 9], "b": [5, 4, 5]}
    assert "".join(clock) == "ababab"
