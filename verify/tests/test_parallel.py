"""verify/parallel without a GPU: two small HTTP servers in the place of SGLang's, the ranks of a pipeline
as processes, and the comparison of their answers. (test_proofs.py runs real ranks.)"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtool.verify.answer import Answer
from support.processes import wait_until
from support.repositories import ROOT
from support.sglang_server import JSON_HANDLER, KERNEL, FakeHost, ScriptResult, write_smi
from verify.parallel import pipeline
from verify.parallel import server as parallel_server
from verify.parallel.compare import RoutingComparison, SavedCalls, compare_routing
from verify.server import gpu, tiny_models
from verify.server.process import Layout
from verify.server.recorder import float32
from verify.server.supervisor import send_signal

pytestmark = pytest.mark.slow(1)  # each starts servers or ranks

# --- a server of several processes ---------------------------------------------------------------

LAUNCH = (
    JSON_HANDLER
    + """
import os, subprocess, sys

flags = dict(zip(sys.argv[1:], sys.argv[2:]))
tp, pp = int(flags.get("--tp-size", 1)), int(flags.get("--pp-size", 1))
name = "ranks" if "--tp-size" in flags else "one-gpu"
with open(f"{name}.env.json", "w") as file:
    json.dump({"argv": sys.argv[1:], **os.environ}, file)
ranks = [
    subprocess.Popen([sys.executable, "-m", "sglang.rank"], stdin=-1, stdout=-1, text=True,
                     env={**os.environ, "PLACE": f"{stage} {rank} {pp}"})
    for stage in range(pp) for rank in range(tp)
]

def route(rows):
    for rank in ranks:
        rank.stdin.write(f"{rows}\\n")
        rank.stdin.flush()
    for rank in ranks:
        rank.stdout.readline()

class Handler(JsonHandler):
    def do_GET(self):
        if self.path == "/model_info":
            self.answer({"model_path": flags["--model-path"]})
        elif self.path == "/server_info":
            algorithm = "FROZEN_KV_MTP" if "--speculative-algorithm" in flags else None
            self.answer({"speculative_algorithm": algorithm, "internal_states": [{}],
                         "disable_cuda_graph": True, "tp_size": tp, "pp_size": pp})
        else:
            self.answer({})
    def do_POST(self):
        request = self.request_body()
        prompt, n = request["input_ids"], request["sampling_params"]["max_new_tokens"]
        route(len(prompt))
        tokens = [(sum(prompt) + 3 * i) % 800 for i in range(n)]
        self.answer({"text": "abc", "output_ids": tokens, "meta_info": {
            "completion_tokens": n, "finish_reason": {"type": "length"}}})

server = ThreadingHTTPServer(("127.0.0.1", int(flags["--port"])), Handler)
print("The server is fired up and ready to roll!", flush=True)
server.serve_forever()
"""
)

RANK = """
import os, sys
import sglang.srt.distributed.parallel_state
import sglang.srt.layers.layernorm
import sglang.srt.models.gemma4_causal as caller

stage, _, stages = map(int, os.environ["PLACE"].split())
sglang.srt.layers.layernorm.RMSNorm()
for line in sys.stdin:
    caller.route(int(line), range(4)[stage * 4 // stages : (stage + 1) * 4 // stages])
    print("routed", flush=True)
"""

GROUPS = """
import os
from types import SimpleNamespace

stage, rank, _ = map(int, os.environ.get("PLACE", "0 0 1").split())
get_pp_group = lambda: SimpleNamespace(rank_in_group=stage)
get_tp_group = lambda: SimpleNamespace(rank_in_group=rank)
"""

CALLER = """
from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing

def route(rows, layers):
    import torch
    for layer in layers:
        torch.manual_seed(100 * rows + layer)
        gemma4_fused_routing(torch.randn(rows, 16), torch.full((16,), 1.5), 4)
"""

OPS = """
class MultiPlatformOp:
    def __init__(self):
        self.chosen = self.dispatch_forward()
    def dispatch_forward(self):
        return "a kernel's"
"""

NORM = """
from sglang.srt.layers.utils.multi_platform import MultiPlatformOp

class RMSNorm(MultiPlatformOp):
    forward_native = "PyTorch's"
"""

SMI = """#!/bin/sh
case "$1" in
*memory.used*) echo "0, 1234" ;;
*) for n in $FAKE_GPUS; do echo "$n, GPU-$n$n, NVIDIA H200, 140000, 143771"; done ;;
esac
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the small float32 models are made, once."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-float32"


@pytest.fixture
def host(tmp_path: Path, shared: Path) -> Iterator[FakeHost]:
    host = FakeHost(tmp_path, tmp_path / "tree", tmp_path, "verify/parallel/server.py")
    srt = "python/sglang/srt/"
    for name in ("", "srt/", "srt/models/", "srt/layers/", "srt/layers/utils/", "srt/distributed/"):
        host.write(f"python/sglang/{name}__init__.py", "")
    host.write("python/sglang/launch_server.py", LAUNCH)
    host.write("python/sglang/rank.py", RANK)
    host.write(f"{srt}server_args.py", 'F = "--enforce-disable-flashinfer-allreduce-fusion"\n')
    host.write(f"{srt}distributed/parallel_state.py", GROUPS)
    host.write(f"{srt}layers/utils/multi_platform.py", OPS)
    host.write(f"{srt}layers/layernorm.py", NORM)
    host.write(f"{srt}models/gemma4_mm.py", "def forward(pp_proxy_tensors=None): ...\n")
    host.write(f"{srt}models/gemma4_causal.py", CALLER)
    host.write(f"{srt}layers/gemma4_fused_ops.py", KERNEL)
    write_smi(tmp_path, SMI)
    host.env = {"FAKE_GPUS": "0 1", "FIXTOOL_SHARED": str(shared)}
    yield host
    send_signal(host.processes())


def environment_of(result: ScriptResult, server: str) -> dict[str, Any]:
    return dict(json.loads((result.folder / f"{server}.env.json").read_text()))


@pytest.mark.slow(15)
@pytest.mark.release(sample_of="ranks on a CPU")
def test_ranks_that_share_layers_give_the_same_answers(host: FakeHost) -> None:
    """The host's settings for communication between GPUs reach the servers. NVLink multicast is off,
    whether the host sets it or not."""
    pytest.importorskip("torch")
    host.env |= {"NCCL_DEBUG": "WARN", "NCCL_P2P_LEVEL": "NVL", "NVSHMEM_DISABLE_NVLS": "1"}
    result = host.boot("", "--tp", 2)
    assert result.code == 0, result
    assert (
        "with --tp 2 (2 ranks, MTP on) as on one GPU: 175 greedy tokens (0 ties)"
        in result.last_line
    )
    many = result.details["many"]
    rows = 2 * 4 * (211 + 257 + 307 + sum(n + 24 for n in (211, 257, 307, 401, 431, 461, 491)))
    routing = many["routing"]
    assert (routing["layers"], routing["rows"], routing["of"]) == (4, rows, rows)
    assert (many["evidence"]["routers"], many["evidence"]["native"]) == (2, ["RMSNorm"])
    assert many["server_info"]["tp_size"] == 2
    assert {path.name for path in result.folder.glob("*.log")} == {
        "one-gpu.log", "one-gpu-live.log", "ranks.log", "ranks-live.log",
    }  # fmt: skip
    assert "--tp-size" not in environment_of(result, "one-gpu")["argv"]
    flags = environment_of(result, "ranks")["argv"]
    assert flags[flags.index("--dtype") + 1] == "float32"
    assert {
        "--speculative-algorithm", "--disable-custom-all-reduce", "--disable-cuda-graph",
        "--enforce-disable-flashinfer-allreduce-fusion", "--disable-radix-cache",
    } <= set(flags)  # fmt: skip

    between = {
        "NCCL_NVLS_ENABLE": "0", "NCCL_SOCKET_IFNAME": "lo", "NVSHMEM_DISABLE_NVLS": "1",
        "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NCCL_DEBUG": "WARN", "NCCL_P2P_LEVEL": "NVL",
    }  # fmt: skip
    for server in ("one-gpu", "ranks"):
        env = environment_of(result, server)
        starts = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")
        assert {name: env[name] for name in env if name.startswith(starts)} == between
        assert (env["NVIDIA_TF32_OVERRIDE"], env["TRITON_F32_DEFAULT"]) == ("0", "ieee")
    assert many["between_gpus"] == between


@pytest.mark.slow(10)
def test_a_pipeline_runs_the_target_alone(host: FakeHost) -> None:
    pytest.importorskip("torch")
    result = host.boot("", "--pp", 2)
    assert result.code == 0, result
    assert "with --pp 2 (2 ranks, the target alone) as on one GPU" in result.last_line
    for server in ("one-gpu", "ranks"):
        assert not [
            word for word in environment_of(result, server)["argv"] if "speculative" in word
        ]
    host.write("python/sglang/srt/models/gemma4_mm.py", "def forward(): ...\n")
    result = host.boot("", "--pp", 2)
    assert (result.code, "has no pipeline stages" in result.last_line) == (77, True)


CHAINED = """
from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing, gemma4_router_chain

def route(rows, layers):
    import torch
    for layer in layers:
        torch.manual_seed(100 * rows + layer)
        gemma4_fused_routing(torch.randn(rows, 16), torch.full((16,), 1.5), 4)
        for step in range(3):  # the decode steps that follow
            x, matrix, one = torch.randn(4, 24), torch.randn(16, 24), torch.ones(24)
            scale = torch.full((16,), 1.5)
            gemma4_router_chain(x, one, matrix, 1e-6, scale, 4, one, 1e-6, True)
"""


@pytest.mark.slow(20)
@pytest.mark.release(sample_of="ranks on a CPU")
def test_two_stages_of_two_ranks_with_the_routers_chain(host: FakeHost) -> None:
    """Four processes, as on four GPUs: in each the chain takes the decode steps, and is compared."""
    pytest.importorskip("torch")
    host.env["FAKE_GPUS"] = "0 1 2 3"
    host.write("python/sglang/srt/models/gemma4_causal.py", CHAINED)
    text = (ROOT / "tooling/tests/support/plain_chain.py").read_text()
    host.write("python/sglang/srt/layers/gemma4_fused_ops.py", text)
    result = host.boot("", "--tp", 2, "--pp", 2)
    assert result.code == 0, result
    assert "with --tp 2 --pp 2 (4 ranks, the target alone) as on one GPU" in result.last_line
    many = result.details["many"]
    assert (many["evidence"]["routers"], many["evidence"]["chained"]) == (4, 4)
    counts = many["evidence"]["counts"]
    # 14 prefills, of which each rank routes two layers, and three decode steps after each layer. The
    # last summary of a rank is of its last comparison, so that the last steps may be missing in it.
    assert 4 * 2 * 3 * 13 < counts["chain_taken"] <= 4 * 2 * 3 * 14
    assert counts["chain_enqueued"] == counts["chain_taken"]
    assert (counts["bypassed"], counts.get("mismatches", 0)) == (0, 0)
    assert {"boot", "comparison"} <= set(many["phases"])


def answers(tied: dict[int, int], likely: dict[int, float]) -> Any:
    """A server whose answer to a prompt of 9 tokens is another from the third token on."""
    compared = object.__new__(parallel_server.ComparedServer)
    compared.prompts, compared.answers, compared.ties = (
        {"alone 9": [5] * 9},
        {"alone 9": [1, 2, 7, 4]},
        [],
    )
    compared.name, compared.options = "ranks", parallel_server.boot.parse_arguments(["--serves"])
    compared.routing = RoutingComparison(tied=tied)
    prompts: list[list[int]] = []
    server = types.SimpleNamespace(likely_tokens=lambda prompt, _: prompts.append(prompt) or likely)
    compared._compare_tokens(server, "alone 9", [1, 2, 3, 4])
    return prompts, compared.ties


def test_another_token_is_a_tie_or_follows_one() -> None:
    prompts, (tie,) = answers({}, {3: -1.0, 7: -1.00001})
    assert prompts == [[*[5] * 9, 1, 2]]
    assert (tie["prompt"], tie["token"], tie["gap"]) == ("alone 9", 3, pytest.approx(1e-5))
    rows = 9 + parallel_server._TOKENS
    prompts, (tie,) = answers({rows: 10}, {})  # the third token comes of row 10
    assert (prompts, tie["after_row"]) == ([], 10)
    for tied, likely in (({rows: 11}, {3: -1.0, 7: -1.5}), ({9: 0}, {3: -1.0})):
        with pytest.raises(Answer) as raised:
            answers(tied, likely)
        assert raised.value.code == 1
        assert "token 3 is 7, on one GPU 3, and that is no tie" in raised.value.saw


def test_more_ranks_than_gpus_start_nothing(host: FakeHost) -> None:
    host.env["FAKE_GPUS"] = "0"
    result = host.boot("", "--tp", 4)
    assert result.code == 4
    assert result.last_line == (
        "--tp 4 needs 4 GPUs, one a rank, and this host has 1 (GPU 0 (NVIDIA H200)): ask for fewer "
        "ranks, or run it on a host that has them"
    )
    assert not list(result.folder.iterdir())
    host.env |= {"FAKE_GPUS": "0 1 2 3", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert "--tp 2 --pp 2 needs 4 GPUs, one a rank, and this host has 2 (GPU 2" in (
        host.boot("", "--tp", 2, "--pp", 2).last_line
    )


def test_gpus_in_the_order_of_cuda(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{host.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GPUS", "0 1 2 3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.index for device in gpu.visible_gpus()] == [0, 1, 2, 3]
    for chosen, visible in (("2,0", [2, 0]), ("GPU-33, 1", [3, 1]), ("1,7,2", [1]), ("3,", [3])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert [device.index for device in gpu.visible_gpus()] == visible
        assert gpu.first_gpu().index == visible[0]


def test_options_of_a_layout() -> None:
    options = {(1, 1): "--tp 1", (2, 1): "--tp 2", (1, 2): "--pp 2", (2, 4): "--tp 2 --pp 4"}
    assert {layout: Layout(*layout).options for layout in options} == options
    assert Layout(2, 4).ranks == 8
    with pytest.raises(SystemExit):
        parallel_server.parse_arguments(["--tp", "0"])


def test_the_float32_model_can_be_shared() -> None:
    """By two, four and eight ranks, and by pipelines in which every stage has a layer of each kind."""
    target, assistant = (
        tiny_models.target_config("float32"),
        tiny_models.assistant_config("float32"),
    )
    text, vision = target["text_config"], target["vision_config"]
    for ranks in (2, 4, 8):
        for config in (text, assistant["text_config"]):
            assert config["num_attention_heads"] % ranks == 0
            assert config["intermediate_size"] % ranks == 0
        assert text["moe_intermediate_size"] % ranks == vision["num_attention_heads"] % ranks == 0
    layers = text["layer_types"]
    for count in (2, 3, 4, 6):
        width = len(layers) // count
        assert all(len({*layers[at : at + width]}) == 2 for at in range(0, len(layers), width))
    norm = tiny_models._values("model.layers.0.self_attn.q_norm.weight", (2,), b"\x80\x3e")
    assert (norm, tiny_models._values("model.norm.weight", (2,))) == (
        b"\x80\x3e" * 2,
        b"\x80\x3f" * 2,
    )


# --- routing alike -------------------------------------------------------------------------------


def saved(place: tuple[int, int], logits: Any) -> dict[str, Any]:
    import torch

    ids = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :4]
    return {"place": place, "logits": logits, "ids": ids.int()}


def layers(count: int = 3, rows: int = 8) -> list[Any]:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return [torch.randn(rows, 16) for _ in range(count)]


def on_one_gpu(logits: list[Any]) -> SavedCalls:
    return {(0, 0): [saved((0, 0), layer) for layer in logits]}


def test_the_stages_of_a_pipeline_are_joined() -> None:
    logits = layers(4)
    many = {
        (0, 0): [saved((0, 0), x) for x in logits[:2]],
        (1, 0): [saved((1, 0), x) for x in logits[2:]],
    }
    comparison = compare_routing(on_one_gpu(logits), many, [8], 1, 2)
    assert (
        comparison.problems,
        comparison.layers,
        comparison.rows,
        comparison.of,
        comparison.ties,
    ) == ([], 4, 32, 32, 0)
    many[1, 0].pop()
    assert compare_routing(on_one_gpu(logits), many, [8], 1, 2).problems == [
        "prefill of 8 tokens, tensor rank 0: 3 layers routed, on one GPU 4"
    ]


def test_noise_is_allowed_and_more_is_not() -> None:
    logits = layers()
    off = [layer * (1 + 1e-6) for layer in logits]
    comparison = compare_routing(on_one_gpu(logits), on_one_gpu(off), [8], 1, 1)
    assert comparison.problems == []
    assert 0 < comparison.worst < 2e-6
    off[1] = logits[1].clone()
    off[1][5] *= float("nan")
    (problem,) = compare_routing(on_one_gpu(logits), on_one_gpu(off), [8], 1, 1).problems
    assert "layer 1: logits of row 5 are off by nan" in problem


def test_after_a_tie_nothing_later_is_compared() -> None:
    """Row 4 of layer 0 has two equal experts, of which either server may take one."""
    logits = layers()
    logits[0][4, :2] = logits[0][4].max() + 1
    many = [layer.clone() for layer in logits]
    many[0][4, 1] += 1e-6
    many[1][4:] = -many[1][4:]
    comparison = compare_routing(on_one_gpu(logits), on_one_gpu(many), [8], 1, 1)
    assert (comparison.problems, comparison.ties, comparison.tied) == ([], 1, {8: 4})
    assert (comparison.rows, comparison.of) == (8 + 4 + 4, 24)
    many[1][3] = -many[1][3]
    assert (
        "layer 1: logits of row 3"
        in compare_routing(on_one_gpu(logits), on_one_gpu(many), [8], 1, 1).problems[0]
    )


def test_another_expert_without_a_tie_is_a_problem() -> None:
    logits = layers()
    places = on_one_gpu([layer.clone() for layer in logits])
    ids = places[0, 0][2]["ids"]
    ids[6] = ids[6].flip(0)
    (problem,) = compare_routing(on_one_gpu(logits), places, [8], 1, 1).problems
    assert "layer 2: row 6 goes to" in problem
    assert problem.endswith("their logits are no tie")


# --- computing in float32 ------------------------------------------------------------------------


FUSED_OPS = OPS.replace("MultiPlatformOp", "BaseFusedOp").replace("dispatch_", "_resolve_").replace(
    "forward()", "forward_method()").replace("_forward(self)", "_forward_method(self)")  # fmt: skip
OLD_NAME = "class MultiPlatformOp(BaseFusedOp): ..."


@pytest.mark.parametrize(
    ("text", "name"), [(OPS, "MultiPlatformOp"), (f"{FUSED_OPS}\n{OLD_NAME}", "BaseFusedOp")]
)
def test_layers_whose_kernels_are_not_float32(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    """In a tree of May 2026, and in 0.5.23, where another class chooses."""
    base = name
    ops = types.ModuleType("ops")
    exec(text, vars(ops))
    native = types.ModuleType("sglang.srt.layers.moe.fused_moe_native")
    vars(native)["fused_moe_forward_native"] = "all experts"
    for name in ("sglang", "sglang.srt", "sglang.srt.layers", "sglang.srt.layers.moe"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, native.__name__, native)
    reported: list[str] = []
    float32.install(ops, reported.append)

    def chosen(name: str, module: str) -> object:
        layer = type(name, (vars(ops)[base],), {"__module__": module, "forward_native": "PyTorch's"})  # fmt: skip
        return layer().chosen

    layernorm = "sglang.srt.layers.layernorm"
    assert chosen("Gemma4RMSNorm", layernorm) == chosen("Gemma4RMSNorm", layernorm) == "PyTorch's"
    assert chosen("RotaryEmbedding", "sglang.srt.layers.rotary_embedding.base") == "PyTorch's"
    assert chosen("TopK", "sglang.srt.layers.moe.topk") == "a kernel's"
    experts = chosen("UnquantizedFusedMoEMethod", "sglang.srt.layers.quantization.unquant")
    assert experts == "all experts"
    assert reported == ["Gemma4RMSNorm", "RotaryEmbedding", "UnquantizedFusedMoEMethod"]
    # The module that keeps the old name imports the class, and leaves it as it is.
    plugins = types.ModuleType("plugins")
    vars(plugins)[base] = vars(ops)[base]
    float32.install(plugins, reported.append)
    assert chosen("TopK", "sglang.srt.layers.moe.topk") == "a kernel's"
    assert len(reported) == 3


# --- ranks that are stages -----------------------------------------------------------------------


def test_ranks_that_report_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that hangs is ended, and its stacks are kept; a rank that reports nothing is named."""
    monkeypatch.chdir(tmp_path)
    up = tmp_path / "up"
    does = {
        0: lambda: (up.touch(), time.sleep(3600)),
        1: lambda: (wait_until(up.exists), os._exit(3)),
    }
    monkeypatch.setattr(pipeline, "run_rank", lambda number, *_: does[number]())
    monkeypatch.setattr(pipeline, "_LAST_RANK_SECONDS", 0.5)
    reports = pipeline.run_ranks(pipeline.parse_arguments([]), types.ModuleType("mtp"))
    assert [(report["answer"], report["said"]) for report in reports] == [
        (1, "hangs; its stacks: rank-0.log"),
        (2, "ended with 3 and without a word: rank-1.log"),
    ]
    assert "Fatal Python error: Aborted" in (tmp_path / "rank-0.log").read_text()
    assert multiprocessing.active_children() == []


def report(number: int, **other: Any) -> dict[str, Any]:
    return {
        "rank": number, "ranks": 2, "pp_rank": number, "first": number == 0, "last": number == 1,
        "did": "built and loaded it", "error": None, "layers": [number], "loaded": 13,
        "head": "PPMissingLayer", "refusal": "server_args.py:7: no", **other,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "ranks", "code", "text"),
    [
        ([], [{}, {}], 0, "rank 1 of 2 (last) built and loaded it: layers [1], 13 parameters"),
        ([], [{}, {}], 0, "(no server of this tree runs it so: server_args.py:7: no)"),
        ([], [{}, {"error": "KeyError: 1"}], 1, "(last) built and loaded it: KeyError: 1"),
        ([], [{}, {"layers": [0]}], 1, "their stages do not make one pipeline"),
        (["--dies-with", "Key"], [{"error": "KeyError: 1"}] * 2, 0, "all died with the message"),
        (["--dies-with", "Key"], [{"error": "KeyError: 1"}, {}], 1, "not all died of /Key/"),
        ([], [{}, {"answer": 2, "said": "hangs"}], 2, "rank 1: hangs"),
    ],
)
def test_the_answer_for_the_reports_of_the_ranks(
    monkeypatch: pytest.MonkeyPatch, words: list[str], ranks: list[Any], code: int, text: str
) -> None:
    reports = [report(number, **changes) for number, changes in enumerate(ranks)]
    monkeypatch.setattr(pipeline, "run_ranks", lambda *_: reports)
    monkeypatch.setattr(pipeline, "install", list)
    monkeypatch.setattr(pipeline, "from_tree", lambda *_, **__: None)
    for name in ("CUDA_VISIBLE_DEVICES", "SGLANG_NCCL_SO_PATH"):
        monkeypatch.setenv(name, "as the host has it")  # main's own are gone after the test
    try:
        answer = pipeline.main(pipeline.parse_arguments(words))
    except Answer as raised:
        answer = raised
    assert (answer.code, text in answer.saw) == (code, True), answer.saw
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    with pytest.raises(
        OSError, match="cannot open shared object"
    ):  # on a GPU host too: see _NO_GPU
        ctypes.CDLL(os.environ["SGLANG_NCCL_SO_PATH"])
