"""verify/bench/serving.py without a GPU: its arithmetic, and whole runs with small HTTP servers.

The file mood.json in a tree says how fast its server is, and which kernels are in its trace.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtool.verify.answer import Answer
from fixtool.verify.runner.git_ids import blob_id, folder_id
from support.processes import GENEROUS, wait_until, with_enough_time
from support.repositories import ROOT
from support.sglang_server import (
    JSON_HANDLER,
    SMI,
    FakeHost,
    ScriptResult,
    tiny,
    write_smi,
)
from verify.bench import serving, trace, workloads
from verify.bench.contender import Contender, overlay
from verify.bench.summary import decode_rates, ratios, summarise, table
from verify.server.supervisor import leftover_processes, send_signal

pytestmark = pytest.mark.slow(1)  # each times servers

__all__ = ["tiny"]  # a fixture

# --- the trace -----------------------------------------------------------------------------------

TORCH = (
    ("void at::native::sbtopk::gatherTopK<c10::BFloat16, unsigned int, 2, false>(…)", 6.0),
    ("void at::native::bitonicSortKVInPlace<2, -1, 16, 16, c10::BFloat16, long>(…)", 4.0),
    ("void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, …>(…)", 2.0),
    ("void at::native::index_elementwise_kernel<128, 4, …>(…)", 2.0),
    ("void at::native::vectorized_elementwise_kernel<4, …MulFunctor<float>…>(…)", 1.5),
    ("void at::native::unrolled_elementwise_kernel<…direct_copy_kernel_cuda…>(…)", 1.5),
    ("void at::native::unrolled_elementwise_kernel<…direct_copy_kernel_cuda…>(…)", 1.5),
)
UPSTREAM = (("_gemma4_routing_kernel", 2.8),)
OURS = (("_gemma4_fused_routing_kernel", 2.3),)


def decode(routing: tuple[tuple[str, float], ...], layers: int = 3, steps: int = 2) -> list[Any]:
    """The kernels of some decode steps, in the order of the real ones."""
    layer = (
        ("_fwd_grouped_kernel_stage1", 8.0),
        ("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 9.0),
        ("nvjet_tst_128x8_64x12_2x1_v_bz_TNT", 6.0),  # the router's
        ("void cublasLt::splitKreduce_kernel<32, 16, int, …>(…)", 2.0),
        ("void flashinfer::norm::RMSNormKernel<8u, __nv_bfloat16>(…)", 2.0),
        *routing,
        ("Memset (Device)", 0.5),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>…>(…)",
            0.5,
        ),
        ("moe_align_block_size_kernel", 3.0),
        ("count_and_sort_expert_tokens_kernel", 2.0),
        ("fused_moe_kernel", 40.0),
        ("act_and_mul_kernel", 2.0),
        ("fused_moe_kernel", 30.0),
        ("moe_sum_reduce_warp_per_token_topk_kernel", 3.0),
    )
    kernels, at = [], 1000.0
    for _ in range(steps):
        for name, duration in (*layer * layers, ("nvjet_lm_head", 100.0)):
            kernels.append(trace.Kernel(name, at, duration))
            at += duration + 1.0
    return kernels


@pytest.mark.parametrize(("routing", "names"), [(TORCH, 7), (UPSTREAM, 1), (OURS, 1)])
def test_routing_is_found_by_its_place(routing: Any, names: int) -> None:
    kernels = decode(routing)
    found = trace.routing(list(reversed(kernels)), layers=3)
    a_call = sum(duration for _, duration in routing)
    rest = sum(kernel.duration for kernel in decode(())) / 2
    assert (found["steps"], found["calls"], found["odd"], len(found["kernels"])) == (2, 6, 0, names)
    assert found["call_us"] == pytest.approx(a_call)
    assert found["step_us"] == pytest.approx(rest + 3 * a_call)
    assert found["share_percent"] == pytest.approx(100 * 3 * a_call / (rest + 3 * a_call), abs=1e-3)


def test_the_names_that_are_told() -> None:
    assert trace.routing(decode(OURS), 3)["kernels"] == ["_gemma4_fused_routing_kernel"]
    assert trace.routing(decode(TORCH), 3)["kernels"][:3] == [
        "sbtopk::gatherTopK<c10::BFloat16, unsigned int, 2, false>(…)",
        "bitonicSortKVInPlace<2, -1, 16, 16, c10::BFloat16, long>(…)",
        "(anonymous namespace)::softmax_warp_forward<c10::BFloat16, …>(…)",
    ]


def test_a_step_that_was_caught_in_the_middle() -> None:
    kernels = decode(TORCH, steps=3)
    at = [kernel.name for kernel in kernels].index("moe_align_block_size_kernel") - 4
    found = trace.routing(kernels[at:], 3)
    assert (found["calls"], found["odd"]) == (8, 0), "what is left of the first call has no topk"


def test_a_call_unlike_the_others_is_counted() -> None:
    kernels = decode(TORCH)
    odd = [kernel.name for kernel in kernels].index(TORCH[2][0])
    found = trace.routing(kernels[:odd] + kernels[odd + 1 :], 3)
    assert (found["odd"], len(found["kernels"])) == (1, 7)


def test_no_routing_to_be_found() -> None:
    with pytest.raises(trace.NoRouting, match="among 14 kernels: 2 x fused_moe_kernel"):
        trace.routing(decode((), layers=1, steps=1)[:14], 1)
    with pytest.raises(trace.NoRouting, match="no GPU work at all"):
        trace.routing([], 30)


def test_a_trace_file(tmp_path: Path) -> None:
    """Kernels only from what is timed on the GPU; as torch writes it, packed or not."""
    events = [
        {"ph": "X", "cat": "kernel", "name": "a", "ts": 1.5, "dur": 2, "args": {"graph id": 1}},
        {"ph": "X", "cat": "gpu_memset", "name": "Memset (Device)", "ts": 9, "dur": 1},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 1, "dur": 50},
        {"ph": "X", "cat": "gpu_user_annotation", "name": "step", "ts": 1, "dur": 50},
        {"ph": "i", "cat": "kernel", "name": "b", "ts": 1},
        {"ph": "M", "name": "process_name"},
    ]
    text = json.dumps({"traceEvents": events})
    (tmp_path / "a.json").write_text(text)
    with gzip.open(tmp_path / "a.json.gz", "wt") as file:
        file.write(text)
    want = [trace.Kernel("a", 1.5, 2.0), trace.Kernel("Memset (Device)", 9.0, 1.0)]
    assert trace.read(tmp_path / "a.json") == trace.read(tmp_path / "a.json.gz") == want


# --- the rows ------------------------------------------------------------------------------------


def test_decode_rates() -> None:
    # 16 prompts; a first token after 0.5 s; 10 more each in 2 and 4 s; nothing of a broken clock.
    assert decode_rates(16, 11, [0.4, 0.5, 9.0], [2.5, 4.5, 0.1]) == [80.0, 40.0]


def boot(name: str, *rates: float, **more: Any) -> dict[str, Any]:
    return {
        "contender": name,
        "decode": {"1": {"tokens_per_s": list(rates)}},
        "prefill": {"16x1024": {"tokens_per_s": [2 * rate for rate in rates]}},
        "routing": {},
        **more,
    }


ROUTED = {"share_percent": 5.8, "call_us": 18.5, "step_us": 5812.0, "kernels": ["a"] * 7}


def test_the_rows_of_all_boots() -> None:
    boots = [
        boot("fixes", 100, 101, 102, routing={"1": ROUTED}),
        boot("ours", 110, 111, routing={"1": {"problem": "no"}}),
        boot("ours", 112, 109),
        boot("fixes", 98, 100),
        boot("late", decode={}, prefill={}),
    ]
    summary = summarise(boots, ["fixes", "ours", "late"])
    assert summary["decode"]["1"]["fixes"] == {
        "median": 100, "spread_percent": 4.0, "samples": 5, "ratio": 1.0,
    }  # fmt: skip
    assert summary["decode"]["1"]["ours"]["ratio"] == 1.105
    assert summary["prefill"]["16x1024"]["ours"]["median"] == 221
    assert summary["routing"] == {"1": {"fixes": ROUTED}}
    assert ratios(boots, "ours", "fixes") == {"1": (1.105, 1.0792, 1.1327)}
    assert ratios(boots, "late", "fixes") == {}
    text = "\n".join(table(summary, ["fixes", "ours", "late"]))
    for cell in ("100 (4.0%,5) 1.000x", "110 (2.7%,4) 1.105x", "5.80% 18.50/7k 5.812ms"):
        assert cell in text
    # Without the first contender there is nothing to be a multiple of.
    assert summarise(boots[1:2], ["fixes", "ours"])["decode"]["1"]["ours"]["ratio"] is None


# --- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "--tree"),
        ("--tree here", "not NAME=PATH"),
        ("--tree a/b=x", "not NAME=PATH"),
        ("--tree a=x --tree a=y", "a is there twice"),
        ("--tree a=x --kernel b=y", "--kernel b: no --tree has that name"),
        ("--tree a=x --order a,b", "no --tree is named 'b'"),
        ("--tree a=x --not-slower a:b", "no --tree is named 'b'"),
        ("--tree a=x --not-slower a", "--not-slower wants NAME:THAN"),
        ("--tree a=x --batches 0,1", "--batches"),
        ("--tree a=x --batches one", "--batches"),
        ("--tree a=x --batches 65", "the full model's server takes 64 at most"),
        ("--tree a=x --tiny --batches 16", "the tiny model's server takes 8 at most"),
        ("--tree a=x --reps 0", "--reps is at least 1"),
        ("--tree a=x --workload 1000", "'1000' is not IN/OUT or IN/OUTxN"),
        ("--tree a=x --workload 10/0", "'10/0' is not IN/OUT"),
    ],
)
def test_wrong_arguments(words: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        serving.parse_arguments(words.split())
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_there_and_back() -> None:
    options = serving.parse_arguments(
        ["--tree", "a=x", "--tree", "b=y", "--kernel", "b=k", "--", "--flag"]
    )
    assert options.order == ["a", "b", "b", "a"]
    assert options.more == ["--flag"]
    assert options.contenders["b"].kernel == Path("k").absolute()


# --- contenders ----------------------------------------------------------------------------------

LAUNCH = (
    JSON_HANDLER
    + """
import gzip, os, signal, sys, threading, time
from pathlib import Path
from sglang.srt.layers import gemma4_fused_ops as ops

settings = json.loads((Path(__file__).parent / "mood.json").read_text())
mood, speed = settings["mood"], settings["speed"]
port = int(sys.argv[sys.argv.index("--port") + 1])
model = sys.argv[sys.argv.index("--model-path") + 1]
assert any("speculative" in word for word in sys.argv) == settings.get("mtp", False), sys.argv
assert "FIXTOOL_LIVE" not in os.environ
print("args", sys.argv[1:], flush=True)

if mood == "dies":
    print("[now] Scheduler hit an exception: Traceback (most recent call last):", flush=True)
    print("torch.OutOfMemoryError: CUDA out of memory.", flush=True)
    os.kill(os.getpid(), 9)
if mood == "hangs":
    print("Capture cuda graph begin", flush=True)
    time.sleep(3600)

profile = {}

def write_trace():
    events = settings["traces"][str(ops.KERNEL)]
    folder = Path(profile["output_dir"])
    for stage, content in (("EXTEND", []), ("DECODE", events)):
        data = gzip.compress(json.dumps({"traceEvents": content}).encode())
        with open(folder / f"1.0-TP-0-{stage}.trace.json.gz", "wb") as file:
            file.write(data[:20])
            file.flush()
            time.sleep(0.1)
            file.write(data[20:])

class Handler(JsonHandler):
    def do_GET(self):
        self.answer({"model_path": model, "internal_states": [{}], "disable_cuda_graph": False})
    def do_POST(self):
        request = self.request_body()
        if self.path == "/start_profile":
            if mood == "no-profiler":
                return self.answer({"error": "no"}, 500)
            profile.update(request)
            return self.answer(b"Start profiling.")
        tokens = request["sampling_params"]["max_new_tokens"]
        batch = len(request["input_ids"])
        if profile:
            if mood == "dies-profiling":
                os.kill(os.getpid(), 9)
            threading.Thread(target=write_trace).start()
        if mood == "dies-generating" and batch == 4 and tokens > 8:
            print("RuntimeError: CUDA error: an illegal memory access was encountered", flush=True)
            os.kill(os.getpid(), 9)
        if mood == "slow" and tokens > 8:
            time.sleep(3600)
        time.sleep(0.001 + tokens / speed)
        meta = {"completion_tokens": tokens}
        self.answer([{"text": str(i), "output_ids": [i], "meta_info": meta} for i in range(batch)])

print("ready", flush=True)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
)
BENCH_SERVING = """
import json, sys
from pathlib import Path
flags = dict(zip(sys.argv[1:], sys.argv[2:]))
settings = json.loads((Path(__file__).parent / "mood.json").read_text())
if settings["mood"] == "no-bench":
    sys.exit("ValueError: no tokenizer")
n = int(flags["--num-prompts"]) - (settings["mood"] == "drops")
rate = settings["speed"] * n + int(flags["--seed"])
assert "--tokenize-prompt" in sys.argv and flags["--dataset-name"] == "random-ids"
with open(flags["--output-file"], "a") as file:
    file.write(json.dumps({"output_throughput": rate, "mean_tpot_ms": 1.5, "completed": n}) + chr(10))
"""
CALLER = "from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing\n"
KERNEL = """
KERNEL = "_gemma4_fused_routing_kernel"
def gemma4_fused_routing(): pass
"""
PEER = """
KERNEL = "_gemma4_routing_kernel"
def gemma4_fused_routing(): pass
"""
CAUSAL = "srt/models/gemma4_causal.py"
FUSED = "srt/layers/gemma4_fused_ops.py"


TRACES = {
    name: [
        {"ph": "X", "cat": "kernel", "name": k.name, "ts": k.start, "dur": k.duration}
        for k in decode(routing, layers=6, steps=10)
    ]
    for name, routing in (
        ("None", TORCH),
        ("_gemma4_routing_kernel", UPSTREAM),
        ("_gemma4_fused_routing_kernel", OURS),
    )
}


def make_tree(tree: Path, mood: str = "well", speed: float = 1000, fused: bool = True) -> Path:
    files = {f"{folder}__init__.py": "" for folder in ("", "srt/", "srt/models/", "srt/layers/")}
    files |= {
        "launch_server.py": LAUNCH,
        "mood.json": json.dumps({"mood": mood, "speed": speed, "traces": TRACES}),
        CAUSAL: CALLER if fused else "",
        FUSED: KERNEL if fused else "KERNEL = None\n",
        "srt/models/other.py": "",
        "bench_serving.py": BENCH_SERVING,
        "jit_kernel/csrc/kernel.cuh": "",
    }
    for name, text in files.items():
        path = tree / "python/sglang" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


def test_another_kernel_in_a_trees_place(tmp_path: Path) -> None:
    tree, peer = make_tree(tmp_path / "tree"), tmp_path / "peer.py"
    peer.write_text(PEER)
    before = folder_id(tree)
    contender = Contender("peer", tree, peer)
    contender.lay_out(tmp_path / "place", dummy=False)
    assert contender.folder == tmp_path / "place"
    assert list(contender.files) == [f"python/sglang/{FUSED}"]
    text = (contender.folder / "python/sglang" / FUSED).read_text()
    assert text.index("_gemma4_fused_routing_kernel") < text.index("_gemma4_routing_kernel")
    kernels = contender.folder / "python/sglang/jit_kernel/csrc"
    assert kernels.resolve() == tree / "python/sglang/jit_kernel/csrc", "compiled once for all"
    assert folder_id(tree) == before, "a tree is never written to"
    assert contender.details()["kernel"]["blob"] == blob_id(peer.read_bytes())

    plain = Contender("series", tree)
    plain.lay_out(tmp_path / "other", dummy=False)
    assert (plain.folder, plain.files) == (tree, {})


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1", "defines no gemma4_fused_routing"),
        ("def gemma4_fused_routing(:", "invalid syntax"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_replace_the_kernel(
    tmp_path: Path, source: str | None, problem: str
) -> None:
    tree, peer = make_tree(tmp_path / "tree"), tmp_path / "peer.py"
    if source is not None:
        peer.write_text(source)
    with pytest.raises(Answer, match=problem) as raised:
        Contender("peer", tree, peer).lay_out(tmp_path / "place", dummy=False)
    assert raised.value.code == 2


def test_trees_that_cannot_be_contenders(tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(PEER)
    unfused = make_tree(tmp_path / "unfused", fused=False)
    for contender, dummy, text in (
        (Contender("a", tmp_path), False, "holds no python/sglang/launch_server.py"),
        (Contender("a", unfused, peer), False, "has no gemma4_fused_routing to be replaced"),
        (Contender("a", unfused), True, "weight_utils.py"),
    ):
        with pytest.raises(Answer, match=text):
            contender.lay_out(tmp_path / "place", dummy=dummy)


def test_made_up_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tree = make_tree(tmp_path / "tree")
    weights = tree / "python/sglang/srt/model_loader/weight_utils.py"
    weights.parent.mkdir()
    weights.write_text("import torch\ndef initialize_dummy_weights(model):\n    raise KeyError\n")
    contender = Contender("a", tree)
    contender.lay_out(tmp_path / "place", dummy=True)
    module: dict[str, Any] = {}
    exec((contender.folder / weights.relative_to(tree)).read_text(), module)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    module["initialize_dummy_weights"](net)
    assert bool((net[0].bias == 1).all())
    assert 0.045 < float(net[0].weight.detach().abs().max()) <= 0.05
    assert not torch.equal(net[0].weight, net[1].weight), "layers that are alike route alike"


def test_every_draft_is_accepted(tmp_path: Path) -> None:
    """Two requests with two drafts each, none of which the target agrees with."""
    torch = pytest.importorskip("torch")
    tree = make_tree(tmp_path / "tree")
    file = tree / "python/sglang/srt/speculative/eagle_utils.py"
    file.parent.mkdir()
    file.write_text(
        "import torch\n"
        "def verify_tree_greedy_func(predicts, accept_index, accept_token_num, *rest):\n"
        "    accept_token_num.zero_()\n"
        "    return predicts, accept_index, accept_token_num\n"
    )
    contender = Contender("a", tree)
    contender.lay_out(tmp_path / "place", dummy=False, accept=True)
    assert list(contender.files) == [str(file.relative_to(tree))]
    module: dict[str, Any] = {}
    exec((contender.folder / file.relative_to(tree)).read_text(), module)
    predicts, accepted = torch.zeros(7, dtype=torch.int32), torch.full((2, 3), -1)
    found = module["verify_tree_greedy_func"](
        predicts=predicts, accept_index=accepted, accept_token_num=torch.zeros(2),
        candidates=torch.tensor([[1, 2, 3], [4, 5, 6]]),
        retrieve_index=torch.arange(6).view(2, 3), retrieve_next_token=None,
        retrieve_next_sibling=None, target_predict=torch.tensor([[70, 71, 72], [80, 81, 82]]), topk=1,
    )  # fmt: skip
    assert [each.tolist() for each in found] == [
        [2, 3, 72, 5, 6, 82, 0],
        [[0, 1, 2], [3, 4, 5]],
        [2, 2],
    ]


def test_a_trees_id_is_gits(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a.py", "a/b.py", "a-b", "z/run.sh", "z/a.b/c"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "z/run.sh").chmod(0o755)
    (tree / "z/link").symlink_to("run.sh")
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD^{tree}"], capture_output=True, check=True)
    shutil.rmtree(tree / ".git")
    (tree / "__pycache__").mkdir()
    assert folder_id(tree) == head.stdout.decode().strip()
    (tmp_path / "whole/python").parent.mkdir()
    tree.rename(tmp_path / "whole/python")
    overlay(tmp_path / "whole", tmp_path / "linked", {"python/a/b.py": b"a/b.py"})
    assert folder_id(tmp_path / "linked/python") == folder_id(tmp_path / "whole/python")


def test_a_compilation_is_ended_with_its_workers(tmp_path: Path) -> None:
    """Workers of compileall wait for ever if only their parent is killed."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for number in range(2000):
        (folder / f"m{number}.py").write_text("x = [" + "1, " * 2000 + "]\n")
    mark = f"TEST_MARK={tmp_path}"
    script = (
        "import os, sys; from pathlib import Path; from verify.bench import bytecode as b\n"
        "b.compile_in_background([Path(sys.argv[1])], dict(os.environ), jobs=2)\n"
        "sys.stdin.read(1); b.stop_compiling()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    env["TEST_MARK"] = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, env=env
    ) as process:
        wait_until(lambda: len(leftover_processes(mark, "-")) >= 4)  # two, and two workers
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.wait(GENEROUS) == 0
    wait_until(lambda: not leftover_processes(mark, "-"))


# --- whole runs ----------------------------------------------------------------------------------


class FakeGpuHost(FakeHost):
    """A host on which the benchmark runs; the details of a run are what --out holds."""

    @property
    def details_file(self) -> Path:
        return self.folder / "out.json"

    def end(self, process: subprocess.Popen[str]) -> ScriptResult:
        code = process.wait(GENEROUS)
        # The compilation of bytecode was killed, and the kernel needs a moment to end it.
        wait_until(lambda: not self.processes(), "the compilation of bytecode was left behind")
        return self.result(code)

    def run(self, trees: dict[str, Path], *words: object) -> ScriptResult:
        named = [word for name, tree in trees.items() for word in ("--tree", f"{name}={tree}")]
        fixed = ("--tiny", "--batches", "1,4", "--reps", 1, "--out", self.details_file)
        return self.boot("", *fixed, *named, *words)


@pytest.fixture
def gpu_host(tmp_path: Path, tiny: Path) -> Iterator[FakeGpuHost]:
    host = FakeGpuHost(tmp_path, tmp_path / "tree", tiny, "verify/bench/serving.py")
    host.env = {
        "FIXTOOL_SHARED": str(tiny.parent), "PYTHONPYCACHEPREFIX": f"{tiny.parent}/pycache",
        "FIXTOOL_DETAILS": str(tmp_path / "details.json"),
    }  # fmt: skip
    write_smi(tmp_path, SMI)
    yield host
    send_signal(host.processes())


@pytest.mark.slow(8)
def test_three_contenders(gpu_host: FakeGpuHost) -> None:
    """A B C C B A: each timed in two boots, profiled in one, and told apart by their kernels."""
    fixes = make_tree(gpu_host.folder / "fixes", speed=500, fused=False)
    series = make_tree(gpu_host.folder / "series", speed=1000)
    peer = gpu_host.folder / "peer.py"
    peer.write_text(PEER)
    trees = {"fixes": fixes, "upstream": series, "series": series}
    result = gpu_host.run(
        trees, "--kernel", f"upstream={peer}", "--not-slower", "series:upstream", "--tolerance", 80
    )
    assert result.code == 0, result.stdout
    assert result.last_line.startswith("6 boots on GPU 0 (NVIDIA H100 80GB HBM3)"), result.last_line
    assert "series / upstream: " in result.last_line
    details = result.details
    assert [boot["contender"] for boot in details["boots"]] == [*trees, *reversed(trees)]
    assert details["left_out"] == []
    row = details["summary"]["decode"]["4"]
    assert row["fixes"]["samples"] == row["series"]["samples"] == 2
    assert 1.1 < row["series"]["ratio"] < 4
    routing = details["summary"]["routing"]["1"]
    assert [len(routing[name]["kernels"]) for name in trees] == [7, 1, 1]
    assert routing["upstream"]["kernels"] == ["_gemma4_routing_kernel"]
    assert routing["series"]["kernels"] == ["_gemma4_fused_routing_kernel"]
    assert routing["fixes"]["share_percent"] > 4 * routing["upstream"]["share_percent"]
    assert routing["fixes"]["steps"] == 10
    assert [bool(boot["routing"]) for boot in details["boots"]] == [True] * 3 + [False] * 3
    assert details["contenders"]["upstream"]["files_not_the_trees"]
    assert details["contenders"]["series"]["python_tree"] == folder_id(series / "python")
    assert details["boots"][0]["decode"]["4"]["different_answers"] == 4
    assert "18.50/7k" in result.stdout
    command = details["boots"][0]["command"]
    assert command[-3:] == ["--cuda-graph-bs", "1", "4"]

    # What an earlier run saw counts, if it was of the same trees.
    add = (
        "--kernel",
        f"upstream={peer}",
        "--add",
        gpu_host.folder / "out.json",
        "--order",
        "series",
    )
    text = (out := gpu_host.folder / "out.json").read_text()
    out.write_text(text.replace("GPU 0 (NVIDIA H100", "GPU 3 (NVIDIA H200"))
    result = gpu_host.run(trees, *add)
    assert (result.code, "has another device" in result.last_line) == (2, True), result.last_line
    out.write_text(
        text.replace("GPU 0 (NVIDIA H100", "GPU 3 (NVIDIA H100")
    )  # a session's other card
    result = gpu_host.run(trees, *add)
    assert result.code == 0, result.stdout
    assert result.details["summary"]["decode"]["4"]["series"]["samples"] == 3
    assert result.details["boots"][-1]["routing"] == {}, "profiled before"
    (series / "python/sglang" / FUSED).write_text(KERNEL + "\n")
    result = gpu_host.run(trees, *add)
    assert (result.code, "has another upstream, series" in result.last_line) == (2, True), (
        result.last_line
    )


@pytest.mark.slow(6)
def test_the_workloads_of_bench_serving(gpu_host: FakeGpuHost) -> None:
    """Each boot keeps what it measured; a server has room for what runs at once."""
    trees = {
        "upstream": make_tree(gpu_host.folder / "a", speed=500),
        "series": make_tree(gpu_host.folder / "b", speed=550),
    }
    words = ("--workload", "100/50x4", "--workload", "200/20x2", "--reps", 2, "--not-slower", "series:upstream")  # fmt: skip
    result = gpu_host.run(trees, *words)
    assert result.code == 0, result
    rows = result.details["summary"]["decode"]
    assert rows["100/50x4"]["series"]["median"] == 4 * 550 + 1.5
    assert rows["200/20x2"]["upstream"]["samples"] == 4
    assert set(result.details["ratios"]["series:upstream"]) == {"100/50x4", "200/20x2"}
    boot = result.details["boots"][0]
    assert boot["decode"]["200/20x2"]["reported"][0]["completed"] == 2
    command = boot["command"]
    last = {word: command[n + 1] for n, word in enumerate(command[:-1]) if word.startswith("--")}
    assert (last["--context-length"], last["--max-running-requests"]) == ("284", "4")
    assert last["--max-total-tokens"] == str(600 + 64 * 4)
    at = command.index("--cuda-graph-bs")
    assert command[at + 1 : at + 4] == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("mood", "text"),
    [("no-bench", "bench_serving 9/9x3 ended with 1: ValueError: no tokenizer; bench-1-0-0.log"),
     ("drops", "bench_serving 9/9x3: 2 of 3 requests")],
)  # fmt: skip
def test_a_workload_that_fails(gpu_host: FakeGpuHost, mood: str, text: str) -> None:
    trees = {"a": make_tree(gpu_host.folder / "a", mood)}
    result = gpu_host.run(trees, "--order", "a", "--workload", "9/9x3")
    assert (result.code, text in result.last_line) == (1, True), result


def test_random_prompts_hold_no_image(tiny: Path, tmp_path: Path) -> None:
    """bench_serving draws ids from the whole vocabulary, and a server would look for an image."""
    tokenizer, stand_ins = workloads.client_files(tiny / "target", tmp_path)
    content = json.loads((tokenizer / "tokenizer.json").read_text())
    ids = content["model"]["vocab"].values()
    assert sorted(ids) == [*range(300)]
    assert max(token["id"] for token in content["added_tokens"]) < 300
    assert "image" not in (tokenizer / "tokenizer_config.json").read_text()
    if (file := stand_ins / "datasets.py").is_file():
        code = "import datasets\ndatasets.load_dataset('x')"
        env = {**os.environ, "PYTHONPATH": str(file.parent)}
        ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)  # fmt: skip
        assert "datasets.load_dataset is not on this host" in ran.stderr


def test_a_server_that_drafts(gpu_host: FakeGpuHost) -> None:
    tree = make_tree(gpu_host.folder / "a")
    mood = tree / "python/sglang/mood.json"
    mood.write_text(json.dumps({**json.loads(mood.read_text()), "mtp": True}))
    result = gpu_host.run({"a": tree}, "--order", "a", "--mtp", "--profile-steps", 0, "--reps", 1)
    assert result.code == 0, result
    assert (result.details["mtp"], result.details["accept_drafts"]) == (True, False)
    command = result.details["boots"][0]["command"]
    assert command[command.index("--speculative-num-draft-tokens") + 1] == "4"
    assert "--speculative-draft-model-path" in command


def test_what_a_spread_leaves_open() -> None:
    """One slow boot says nothing about the contender that it booted; many that agree do."""
    fast = [boot("a", 100, 101), boot("b", 102, 103)]
    slow = [boot("a", 90, 91), boot("b", 101, 102)]
    ratio, low, high = ratios(fast + slow, "a", "b")["1"]
    assert low < ratio < 1
    assert low < 0.9
    ratio, low, high = ratios(fast * 8, "a", "b")["1"]
    assert 0.97 < low <= ratio <= high < 1


def test_slower_is_told(gpu_host: FakeGpuHost) -> None:
    trees = {
        "upstream": make_tree(gpu_host.folder / "a", speed=1500),
        "series": make_tree(gpu_host.folder / "b", speed=300),
    }
    words = ("--order", "series,upstream", "--not-slower", "series:upstream", "--profile-steps", 0)
    result = gpu_host.run(trees, *words)
    assert result.code == 1
    assert "not shown: at least 0.99 at every batch" in result.last_line
    assert result.details["summary"]["routing"] == {}


def test_one_that_dies_does_not_end_the_others(gpu_host: FakeGpuHost) -> None:
    trees = {
        "dies": make_tree(gpu_host.folder / "a", "dies"),
        "breaks": make_tree(gpu_host.folder / "b", "dies-generating"),
        "well": make_tree(gpu_host.folder / "c"),
    }
    result = gpu_host.run(trees, "--profile-steps", 0)
    assert result.code == 1
    assert (
        "dies: died: torch.OutOfMemoryError: CUDA out of memory.; log: server-1-dies.log"
        in result.last_line
    )
    assert "breaks: died: RuntimeError: CUDA error: an illegal memory access" in result.last_line
    assert [boot["contender"] for boot in result.details["boots"]] == [
        "dies",
        "breaks",
        "well",
        "well",
    ]
    assert result.details["summary"]["decode"]["1"].keys() == {"breaks", "well"}
    assert len(result.details["left_out"]) == 2


@pytest.mark.parametrize(
    ("mood", "text"),
    [
        ("no-profiler", "/start_profile answers 500"),
        ("dies-profiling", "the server went down with the profiler"),
    ],
)
def test_a_profiler_that_fails_costs_its_rows_only(
    gpu_host: FakeGpuHost, mood: str, text: str
) -> None:
    trees = {"a": make_tree(gpu_host.folder / "a", mood)}
    result = gpu_host.run(trees, "--order", "a")
    assert result.code == 0, result.stdout
    assert text in result.details["boots"][0]["routing"]["1"]["problem"]
    assert result.details["summary"]["decode"]["4"]["a"]["samples"] == 1


def here(
    gpu_host: FakeGpuHost, monkeypatch: pytest.MonkeyPatch, *words: object
) -> serving.ServingBench:
    """A run in this process, where the seconds that it keeps back can be fewer."""
    gpu_host.enter(monkeypatch)
    monkeypatch.setattr(serving, "_STOP_SECONDS", 0.5)
    monkeypatch.setattr(serving, "_FIRST_BOOT_SECONDS", 0.1)
    fixed = ["--tiny", "--reps", 1, "--profile-steps", 0, "--out", gpu_host.folder / "out.json"]
    return serving.ServingBench(serving.parse_arguments([*map(str, (*fixed, *words))]))


@pytest.mark.slow(6)
def test_out_of_time(gpu_host: FakeGpuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of a boot: the results so far are kept, and what is left is named."""
    tree, late = (
        make_tree(gpu_host.folder / "a", speed=2000),
        make_tree(gpu_host.folder / "b", "slow"),
    )
    words = ("--tree", f"a={tree}", "--tree", f"late={late}", "--seconds")

    def run(seconds: int) -> tuple[Answer, dict[str, Any]]:
        answer = here(gpu_host, monkeypatch, *words, 3 * seconds).run()
        return answer, json.loads((gpu_host.folder / "out.json").read_text())

    (answer, written), _ = with_enough_time(
        run, lambda result: "late: batch 1" in result[1]["left_out"][0]
    )
    assert (answer.code, "never timed: late" in answer.saw) == (4, True), answer
    assert [boot["contender"] for boot in written["boots"]] == ["a", "late"]
    assert written["summary"]["decode"]["8"].keys() == {"a"}
    assert written["left_out"] == [
        "boot 2 of 4: late: batch 1, batch 4, batch 8, prefill (out of time)",
        "boot 3 of 4: late (out of time)",
        "boot 4 of 4: a (out of time)",
    ]
    assert not gpu_host.processes()


def test_one_that_hangs(gpu_host: FakeGpuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(gpu_host.folder / "a", "hangs")
    words = ("--tree", f"a={tree}", "--boot-timeout")
    answer, seconds = with_enough_time(
        lambda seconds: here(gpu_host, monkeypatch, *words, seconds).run(),
        lambda answer: "Capture" in answer.saw,
    )
    assert answer.code == 1
    assert (
        f"a: not ready after {seconds} s; last line: Capture cuda graph begin; log: " in answer.saw
    )
    assert not gpu_host.processes()


def test_ended_in_the_middle(gpu_host: FakeGpuHost) -> None:
    tree = make_tree(gpu_host.folder / "a", "slow")
    out = gpu_host.folder / "out.json"
    process = gpu_host.start("", "--tiny", "--tree", f"a={tree}", "--out", out)
    wait_until(lambda: "warm" in (gpu_host.folder / "stdout").read_text())
    process.send_signal(signal.SIGTERM)
    result = gpu_host.end(process)
    assert (result.code, result.last_line) == (143, "ended by SIGTERM")
    assert result.details["boots"][0]["ready_s"] > 0


def test_no_gpu_no_run(gpu_host: FakeGpuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    run = here(gpu_host, monkeypatch, "--tree", f"a={make_tree(gpu_host.folder / 'a')}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(Answer, match="hides every GPU") as raised:
        run.run()
    assert raised.value.code == 4


# --- out of a bundle -----------------------------------------------------------------------------


def make_bundle(gpu_host: FakeGpuHost, above: Sequence[str] = ()) -> Path:
    """As fixtool makes them: a base, what each of two patches changes, and what both do; and what a
    patch that stands on the second changes, besides it, at the paths ``above``."""
    base = make_tree(gpu_host.folder / "base", fused=False)
    series = make_tree(gpu_host.folder / "series")
    other = "python/sglang/srt/models/other.py"
    for path in (other, *above):
        (series / path).write_text("x = 1\n")
    folder = gpu_host.folder / "fixtool-verify"
    (folder / "blobs").mkdir(parents=True)

    def changed(*paths: str) -> dict[str, list[str]]:
        entries = {}
        for path in paths:
            data = (series / path).read_bytes()
            entries[path] = ["100644", blob_id(data)]
            (folder / "blobs" / entries[path][1]).write_bytes(data)
        return entries

    routing = [f"python/sglang/{CAUSAL}", f"python/sglang/{FUSED}"]
    trees = {
        "base": {}, "series": changed(other, *routing, *above),
        "+fix": changed(other), "+gemma4-fused-routing": changed(*routing),
    }  # fmt: skip
    if above:
        trees["+chain"] = changed(*routing, *above)
    plan = {
        "about": {"patches": [
            {"slug": slug, "needs": ["gemma4-fused-routing"] if slug == "chain" else []}
            for slug in (name[1:] for name in trees if name[0] == "+")
        ]},
        "trees": {
            name: {
                "folder": name, "changes": changes, "touched": [],
                "python_tree": folder_id((base if name == "base" else series) / "python"),
            }
            for name, changes in trees.items()
        },
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    with tarfile.open(folder / "base.tar", "w") as tar:
        tar.add(base / "python", "python")
    with tarfile.open(gpu_host.folder / "out.tar", "w") as tar:
        tar.add(folder, "fixtool-verify")
    return gpu_host.folder / "out.tar"


@pytest.mark.slow(6)
def test_out_of_a_bundle(gpu_host: FakeGpuHost) -> None:
    bundle, work = make_bundle(gpu_host), gpu_host.folder / "work"
    peer, out = gpu_host.folder / "peer.py", gpu_host.details_file
    peer.write_text(PEER)
    shutil.rmtree(gpu_host.folder / "series")
    gpu_host.script = "ci/serving"
    words = (bundle, "--peer", peer, "--work", work, "--", "--tiny", "--reps", 1, "--batches", 1)
    # Unpacked, and found unpacked. A contender that the order does not name need not be timed.
    for order in ("fixes,series", "upstream,series"):
        gpu_host.expect(0, "", "", *words, "--order", order, "--out", out, "--add", out)
    assert (work / "run/server-4-series.log").is_file()
    details = json.loads(out.read_text())
    assert len(details["boots"]) == 4
    routing = details["summary"]["routing"]["1"]
    assert [len(routing[name]["kernels"]) for name in ("fixes", "upstream", "series")] == [7, 1, 1]
    fixes = work / "trees/fixes/python/sglang"
    assert (fixes / "srt/models/other.py").read_text() == "x = 1\n"
    assert (fixes / FUSED).read_text() == "KERNEL = None\n"


@pytest.mark.slow(6)
def test_what_stands_on_the_routing_is_in_neither_of_its_contenders(gpu_host: FakeGpuHost) -> None:
    above = "python/sglang/srt/models/chain.py"
    bundle, work = make_bundle(gpu_host, [above]), gpu_host.folder / "work"
    peer = gpu_host.folder / "peer.py"
    peer.write_text(PEER)
    gpu_host.script = "ci/serving"
    order = "fixes,upstream,routing,series"
    run = gpu_host.folder / "place/run"
    words = (bundle, "--peer", peer, "--work", work, "--run", run)
    words += ("--", "--tiny", "--reps", 1, "--batches", 1)
    gpu_host.expect(0, "", "", *words, "--order", order, "--out", gpu_host.details_file)
    has = {tree: ((work / "trees" / tree / above).exists(),
                  (work / "trees" / tree / "python/sglang" / FUSED).read_text() != "KERNEL = None\n")
           for tree in ("fixes", "routing", "series")}  # fmt: skip
    assert has == {"fixes": (False, False), "routing": (False, True), "series": (True, True)}
    assert len(json.loads(gpu_host.details_file.read_text())["boots"]) == 4
    assert (run / "server-4-series.log").is_file()
    assert not (work / "run").exists()


def test_a_bundle_that_will_not_do(gpu_host: FakeGpuHost) -> None:
    bundle = make_bundle(gpu_host)
    work = gpu_host.folder / "work"
    gpu_host.script = "ci/serving"
    (empty := gpu_host.folder / "empty.tar").touch()
    with tarfile.open(gpu_host.folder / "other.tar", "w") as tar:
        tar.add(empty, "empty.tar")
    for words, code, text in (
        ([gpu_host.folder / "none.tar"], 2, "there is no"),
        (
            [empty, "--work", work],
            1,
            "empty.tar is no bundle: make one with fixtool verify --bundle",
        ),
        ([gpu_host.folder / "other.tar", "--work", work], 1, "other.tar is no bundle"),
        ([bundle, "--without", "gemma5", "--work", work], 1, "no patch of the bundle is gemma5"),
    ):
        gpu_host.expect(code, text, "", *words)
