"""The proof that the router's chain ran: what the recorder in a server counts, what is missing when the
chain is bypassed, and what the check through SGLang's own layer says then. No GPU and no server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fixtool.verify.runner.git_ids import blob_id
from support.repositories import ROOT

torch: Any = pytest.importorskip("torch")

from verify.routing import chain_layer  # noqa: E402
from verify.routing.chain import inputs  # noqa: E402
from verify.routing.launcher import count_launches, kernels_of, most_tokens  # noqa: E402
from verify.routing.load import load_file  # noqa: E402
from verify.server.evidence import missing_proof, read_evidence, summarise  # noqa: E402
from verify.server.recorder import recorder  # noqa: E402

SHAPE = (24, 16, 4)  # hidden, experts, winners
KERNELS = "python/sglang/srt/layers/gemma4_fused_ops.py"
CALLER = "python/sglang/srt/models/gemma4_causal.py"
PLAIN = (ROOT / "tooling/tests/support/plain_chain.py").read_text()


def by_the_chain(served: Served, given: Any) -> None:
    """As the router and the routing function call them."""
    module = served.module
    answer = module.gemma4_router_chain(
        given.x, given.channel, given.matrix, given.eps, given.scale, given.topk, given.norm,
        given.norm_eps, given.twice,
    )  # fmt: skip
    if answer is None:
        module.gemma4_fused_routing(given.x @ given.matrix.T, given.scale, given.topk)


def without_it(served: Served, given: Any) -> None:
    served.module.gemma4_fused_routing(given.x @ given.matrix.T, given.scale, given.topk)


class Served:
    """A tree whose kernels are plain PyTorch, and its model's module with the recorder in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = PLAIN) -> None:
        self.tree, self.live = folder / "tree", folder / "live"
        self.live.mkdir()
        caller = "from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing\n"
        for name, content in ((KERNELS, text), (CALLER, caller)):
            path = self.tree / name
            path.parent.mkdir(parents=True)
            path.write_text(content)
        self.blobs = {n: blob_id((self.tree / n).read_bytes()) for n in (KERNELS, CALLER)}
        monkeypatch.setenv("FIXTOOL_TREE_BLOBS", str(folder / "none.json"))
        sglang = ModuleType("sglang")
        sglang.__file__ = str(self.tree / "python/sglang/__init__.py")
        monkeypatch.setitem(sys.modules, "sglang", sglang)
        self.kernels = load_file(self.tree / KERNELS, "plain_kernels_under_test")
        self.module = ModuleType("gemma4_causal")
        self.module.__file__ = str(self.tree / CALLER)
        for name in ("gemma4_fused_routing", "gemma4_router_chain"):
            setattr(self.module, name, getattr(self.kernels, name))
        self.capturing = False

    def record(self) -> None:
        evidence = recorder.EvidenceFile(str(self.live))
        self.recorder = recorder.install(self.module, evidence)
        assert self.recorder is not None
        self.recorder._capturing = lambda _: self.capturing

    def serve(
        self, route: Callable[..., None] = by_the_chain, sizes: tuple[int, ...] = (40, 1, 4, 32, 33)
    ) -> None:
        for tokens in sizes:
            route(self, inputs(tokens, SHAPE, torch.bfloat16, "cpu", False))

    def missing(self, **more: Any) -> str | None:
        self.recorder.summarise()
        self.evidence = read_evidence(self.live)
        return missing_proof(self.evidence, self.tree, self.blobs, **{"graphs": False, **more})


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(tmp_path, monkeypatch)


def test_every_small_batch_that_the_chain_takes_is_a_launch_and_is_right(served: Served) -> None:
    served.record()
    served.serve()
    assert served.missing() is None
    counts = served.evidence.counts
    assert (counts["chain_calls"], counts["chain_taken"], counts["chain_enqueued"]) == (3, 3, 3)
    assert (counts["chain_compared"], counts["chain_rows"], counts["bypassed"]) == (3, 37, 0)
    assert (counts["launches"], counts["eager"], counts["mismatches"]) == (2, 5, 0)
    assert served.evidence.installed[0]["chain"]["file"] == str(served.tree / KERNELS)
    assert "the router's chain took 3 batches; 5 routings (110 tokens)" in summarise(
        served.evidence
    )
    assert served.missing(ranks=2) == "1 of 2 ranks routed"


def test_replays_of_the_chain_are_compared_with_the_oracle(served: Served) -> None:
    served.record()
    served.serve()
    assert (
        served.missing(graphs=True) == "no CUDA graph that holds gemma4_router_chain was replayed"
    )
    served.capturing = True
    served.serve(sizes=(2, 8))
    served.capturing = False
    served.serve(sizes=(41,))
    assert served.missing(graphs=True) is None
    counts = served.evidence.counts
    assert (counts["captured"], counts["replayed"], counts["chain_replayed"]) == (2, 2, 2)
    assert (counts["graph_compared"], counts["graph_rows"]) == (2, 10)
    slot = served.recorder._slots[0]
    slot.ids[0, 0] = (slot.ids[0, 0] + 1) % 16
    served.recorder._buffers.counters[slot.index] += 1
    served.serve(sizes=(42,))
    assert "1 routings are not the oracle's; the first (graph [2, 16])" in str(served.missing())


def test_a_bypassed_chain_is_no_proof(served: Served) -> None:
    """The same answers, by the other kernels, as where a layer does not join its router."""
    served.record()
    served.serve(without_it)
    assert served.missing() == (
        "3 batches that the chain takes were routed without it (0 calls of gemma4_router_chain, 0 of "
        "which it took)"
    )


def test_a_chain_that_takes_only_some_batches_is_no_proof(served: Served) -> None:
    served.record()
    served.serve()
    served.serve(without_it, (2,))
    assert str(served.missing()).startswith("1 batches that the chain takes were routed without it")


def test_answers_without_a_launch_are_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a launcher that computes its answer by other means: its kernel counts, not its answer."""
    idle = PLAIN.replace("    kernel.run()\n", "    kernel and None\n")
    served = Served(tmp_path, monkeypatch, idle)
    served.record()
    served.serve()
    wanted = "gemma4_router_chain took 3 batches, with 0 launches of its kernel"
    assert served.missing() == wanted


def test_a_chain_that_nobody_imports_is_no_proof(served: Served) -> None:
    del served.module.gemma4_router_chain
    served.record()
    served.serve(without_it)
    wanted = f"{KERNELS} defines gemma4_router_chain, and gemma4_causal does not import it"
    assert served.missing() == wanted


def test_a_chain_of_another_file_is_no_proof(served: Served, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.py"
    other.write_text(PLAIN)
    served.module.gemma4_router_chain = load_file(other, "elsewhere").gemma4_router_chain
    served.record()
    served.serve()
    assert str(served.missing()).startswith(f"the server's chain comes from {other}")


def test_a_wrong_answer_of_the_chain_is_recorded(served: Served) -> None:
    """Logits that are not those of their definition, though the experts are right for them."""
    served.record()
    served.kernels.spoil = lambda logits: logits * 1.125
    served.serve()
    problem = str(served.missing())
    assert problem.startswith("3 routings are not the oracle's; the first (chain [1, 16]): ")
    assert "logits are off" in problem
    assert not served.evidence.errors


def test_a_broken_recorder_does_not_disturb_the_chain(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder.Recorder, "_compare_chain", staticmethod(lambda *_: 1 / 0))
    served.record()
    served.serve()
    served.missing()
    assert [error["at"] for error in served.evidence.errors] == ["_after_chain"]


# --- through SGLang's own layer ------------------------------------------------------------------


def layer(kernels: ModuleType, chains: bool = True) -> tuple[Any, Any, Any, Any]:
    """Model's module, router, MoE block and experts' norm, as small as `compare_layer` can use them."""
    given = inputs(1, SHAPE, torch.bfloat16, "cpu", False)
    gemma4 = SimpleNamespace(gemma4_router_chain=kernels.gemma4_router_chain)
    routed: list[Any] = []
    normed: list[Any] = []

    class Router:
        _fused_scale, _can_chain = given.channel, None
        proj, norm = SimpleNamespace(weight=given.matrix), SimpleNamespace(eps=1e-6)

        def __call__(self, x: Any) -> Any:
            answer = chains and gemma4.gemma4_router_chain(
                x, given.channel, given.matrix, 1e-6, given.scale, 4, given.norm, 1e-6, True
            )
            if not answer:
                return x.as_subclass(torch.Tensor) @ given.matrix.T
            routed[:], normed[:] = answer[:3], [answer[3]]
            return answer[0]

    def route(states: Any, logits: Any, topk: int, renormalize: bool) -> Any:
        found = routed[1:] or kernels.gemma4_fused_routing(logits, given.scale, topk)
        routed.clear()
        return found

    class Norm:
        variance_epsilon, weight, normed = 1e-6, given.norm, ()

        def __call__(self, x: Any) -> Any:
            return normed.pop() if normed else x

    config = SimpleNamespace(custom_routing_function=route)
    moe = SimpleNamespace(
        topk=SimpleNamespace(topk_config=config), per_expert_scale=given.scale, routed=routed
    )
    return gemma4, Router(), moe, Norm()


@pytest.mark.parametrize(
    ("text", "chains", "problem"),
    [
        (PLAIN, True, ""),
        (PLAIN, False, "the chain took 5 tokens 0 times by 0 launches of its kernel, not once by one"),
        (PLAIN.replace("    kernel.run()\n", "    kernel and None\n"), True, "1 times by 0 launches"),
        (PLAIN.replace("    kernel.run()\n", "    kernel.run(), kernel.run()\n"), True, "1 times by 2"),
    ],
)  # fmt: skip
def test_the_layers_check_counts_launches(
    tmp_path: Path, text: str, chains: bool, problem: str
) -> None:
    (tmp_path / "kernels.py").write_text(text)
    kernels = load_file(tmp_path / "kernels.py", "kernels_of_a_layer")
    gemma4, router, moe, norm = layer(kernels, chains)
    states = inputs(5, SHAPE, torch.bfloat16, "cpu", False).x
    found = chain_layer.compare_layer(gemma4, router, moe, norm, states, 4, False)
    assert problem in "; ".join(found.problems)
    assert bool(found.problems) == bool(problem)
    assert gemma4.gemma4_router_chain is kernels.gemma4_router_chain


def test_a_batch_that_is_left_may_fail_in_other_kernels(tmp_path: Path) -> None:
    """On a GPU the check of fp32 broke: sgl_kernel's norm, which takes what the chain leaves, has none."""
    (tmp_path / "kernels.py").write_text(PLAIN)
    kernels = load_file(tmp_path / "kernels.py", "kernels_of_a_left_batch")
    gemma4, router, _, _ = layer(kernels)
    states = inputs(5, SHAPE, torch.bfloat16, "cpu", False).x

    class FailingRouter:
        asks = True

        def __call__(self, x: Any) -> Any:
            if self.asks:
                router(x)
            raise RuntimeError("failed to dispatch data type Float")

    failing = FailingRouter()
    assert chain_layer.takes(gemma4, failing, states)
    gemma4.gemma4_router_chain = lambda *arguments: None  # it leaves the batch
    assert not chain_layer.takes(gemma4, failing, states)
    failing.asks = False
    with pytest.raises(RuntimeError, match="failed to dispatch"):
        chain_layer.takes(gemma4, failing, states)


def test_launches_are_counted_only_while_asked(tmp_path: Path) -> None:
    from support import plain_chain

    assert kernels_of(plain_chain.gemma4_router_chain) == [plain_chain.kernel]
    assert kernels_of(plain_chain.gemma4_fused_routing) == []
    assert most_tokens(plain_chain.gemma4_router_chain) == 32
    with count_launches(plain_chain.gemma4_router_chain) as launches:
        plain_chain.kernel.run()
    plain_chain.kernel.run()
    assert launches == ["a kernel"]
