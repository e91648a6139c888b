"""verify/server without a GPU: trees whose launch_server is a small HTTP server with a mind of its
own, nvidia-smi as a script, and the recorder on CPU tensors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtool.verify.answer import Answer
from support.repositories import ROOT
from support.sglang_server import BUG, KERNEL, FakeHost, wait_until
from verify.server import boot, checkpoint, gpu, tiny_models
from verify.server.evidence import HOOK_FOLDER, LiveEvidence, foreign_files, read_evidence
from verify.server.log import ServerLog
from verify.server.recorder import recorder
from verify.server.supervisor import leftover_processes, send_signal

# --- a tree that is not SGLang -------------------------------------------------------------------


# --- a death that is asked for -------------------------------------------------------------------


def test_the_death_asked_for(fake_host: FakeHost) -> None:
    result = fake_host.boot("dies", "--dies-with", BUG)
    assert (result.code, "with the message asked for: AttributeError" in result.last_line) == (
        0,
        True,
    ), result
    assert result.details["exit_code"] == -9
    assert result.details["matched"].startswith("AttributeError: 'Gemma4Assistant")
    assert BUG in (result.folder / "server.log").read_text()
    assert '"installed"' in (result.folder / "live.log").read_text()
    assert result.details["command"][1:3] == ["-m", "sglang.launch_server"]
    environment = result.details["environment"]
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["NCCL_SOCKET_IFNAME"] == "lo"


def test_another_death_is_named(fake_host: FakeHost) -> None:
    result = fake_host.boot("dies-otherwise", "--dies-with", BUG)
    assert result.code == 1
    assert "died of something else" in result.last_line
    assert "KeyError: 'vision_config'" in result.last_line, "not EOFError, which followed from it"
    assert "log: server.log" in result.last_line
    assert "line 1, in __init__" in result.stderr


def test_a_death_without_a_word(fake_host: FakeHost) -> None:
    result = fake_host.boot("dies-silently", "--serves")
    assert result.code == 1
    assert "no exception, after the line: Loading weights" in result.last_line
    assert "out of host memory?" in result.last_line


def test_no_death(fake_host: FakeHost) -> None:
    result = fake_host.boot("healthy", "--dies-with", BUG)
    assert result.code == 1
    assert "came up healthy" in result.last_line


def test_a_message_within_a_flood(fake_host: FakeHost) -> None:
    result = fake_host.boot("flood", "--dies-with", BUG)
    assert result.code == 0, result
    assert (result.folder / "server.log").stat().st_size > 20_000_000
    assert len(result.stderr) < 100_000


def test_its_last_words_are_enough(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that stays after its message is not waited for until the boot's own time is up."""
    monkeypatch.setattr(boot, "_LAST_WORDS_SECONDS", 0.3)
    fake_host.scratch.mkdir()
    monkeypatch.chdir(fake_host.scratch)
    for name, value in (
        ("FIXTOOL_TREE", fake_host.tree),
        ("FIXTOOL_TREE_BLOBS", tmp_path / "blobs.json"),
        ("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"),
        ("FAKE_FREE_MIB", "79000"),
        ("MOOD", "says-and-stays"),
        ("TEST_MARK", fake_host.mark),
    ):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = boot.Boot(
        boot.parse_arguments(["--dies-with", BUG, "--models", str(fake_host.models)])
    ).run()
    assert said.code == 0, said
    assert said.details["exit_code"] is None
    # This process has the mark in its own environment only since it started.
    assert fake_host.processes() == []


def test_a_death_of_other_files_proves_nothing(fake_host: FakeHost) -> None:
    (fake_host.folder / "blobs.json").write_text(
        json.dumps({"python/sglang/srt/models/gemma4_causal.py": "0" * 40})
    )
    result = fake_host.boot("dies", "--dies-with", BUG)
    assert result.code == 1
    assert "gemma4_causal.py is blob" in result.last_line


# --- a service -----------------------------------------------------------------------------------


def test_it_serves(fake_host: FakeHost) -> None:
    fake_host.env["FIXTOOL_SHARED"] = str(fake_host.folder / "shared")
    result = fake_host.boot("late", "--serves")
    assert result.code == 0, result
    assert "with CUDA graphs, MTP on (FROZEN_KV_MTP)" in result.last_line
    assert "54 calls of this tree's kernel" in result.last_line
    assert len(result.details["generated"]) == 9
    assert result.details["gpu_used_gib"] == 1.21
    installed = result.details["evidence"]["installed"][0]
    kernel = fake_host.tree / "python/sglang/srt/layers/gemma4_fused_ops.py"
    assert installed["kernel"]["file"] == str(kernel)
    assert installed["kernel"]["runs_its_file"] is True
    assert set(result.details["evidence"]["patched"]) == {
        "python/sglang/srt/layers/gemma4_fused_ops.py",
        "python/sglang/srt/models/gemma4_causal.py",
    }
    assert not list(fake_host.tree.rglob("__pycache__")), "bytecode belongs in the shared folder"


def test_its_routing_is_compared_for_real(fake_host: FakeHost) -> None:
    pytest.importorskip("torch")
    result = fake_host.boot("torch", "--serves", "--eager")
    assert result.code == 0, result
    assert "18 calls of this tree's kernel" in result.last_line
    wrong = KERNEL.replace("scale[ids]", "scale[0]")
    fake_host.write("python/sglang/srt/layers/gemma4_fused_ops.py", wrong)
    result = fake_host.boot("torch", "--serves", "--eager")
    assert result.code == 1, result
    assert "routings are not the oracle's; the first (eager [6, 16]): weights" in result.last_line


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("no-evidence", "imported and never called"),
        ("no-replay", "captured in CUDA graphs, and none was replayed"),
        ("mismatch", "the first (graph [4, 128]): ids of 4 rows"),
        ("no-mtp", "without MTP"),
        ("short", "short: 23 tokens generated, not 24"),
        ("errors", "/generate answers 400"),
        ("dies-generating", "died: RuntimeError: CUDA error: an illegal memory access"),
        ("dies", "died: AttributeError"),
    ],
)
def test_what_is_no_service(fake_host: FakeHost, mood: str, said: str) -> None:
    result = fake_host.boot(mood, "--serves")
    assert result.code == 1
    assert said in result.last_line


def test_files_that_are_not_the_trees(fake_host: FakeHost) -> None:
    site = fake_host.folder / "site"
    (site / "elsewhere").mkdir(parents=True)
    (site / "elsewhere/__init__.py").write_text(KERNEL)
    fake_host.env["PYTHONPATH"] = os.pathsep.join(
        [str(fake_host.tree / "python"), str(ROOT), str(site)]
    )
    fake_host.write(
        "python/sglang/srt/layers/gemma4_fused_ops.py",
        "from elsewhere import gemma4_fused_routing",
    )
    result = fake_host.boot("healthy", "--serves")
    assert result.code == 1
    assert f"kernel comes from {site}/elsewhere/__init__.py" in result.last_line

    fake_host.write("python/sglang/srt/models/gemma4_causal.py", "x = 1")
    result = fake_host.boot("healthy", "--serves")
    assert result.code == 1
    assert "has no gemma4_fused_routing" in result.last_line


def test_hangs_are_told_from_deaths(fake_host: FakeHost) -> None:
    result = fake_host.boot("hangs", "--serves", "--boot-timeout", 1.5)
    assert result.code == 1
    assert "neither ready nor gone after 2 s" in result.last_line
    assert "last line: Capture cuda graph begin" in result.last_line
    assert "in wait_for_the_gpu" in (result.folder / "live.log").read_text()
    assert "in wait_for_the_gpu" in result.stderr

    result = fake_host.boot("hangs-generating", "--serves", "--generate-timeout", 1)
    assert result.code == 1
    assert "hangs: no answer from /generate within 1 s" in result.last_line

    result = fake_host.boot("unhealthy", "--serves", "--generate-timeout", 1)
    assert result.code == 1
    assert "not healthy: /health answers 503" in result.last_line


# --- what the host cannot do ---------------------------------------------------------------------


def test_ports(fake_host: FakeHost) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = fake_host.boot("healthy", "--serves", "--port", port)
        assert result.code == 4
        assert f"port {port} is in use: stop PID {os.getpid()} (" in result.last_line
    result = fake_host.boot("port-taken", "--serves")
    assert result.code == 4
    assert "was taken while it booted" in result.last_line
    result = fake_host.boot("another", "--serves")
    assert result.code == 4
    assert "another server answers" in result.last_line


def test_too_little_gpu_memory(fake_host: FakeHost) -> None:
    fake_host.env = {"FAKE_FREE_MIB": "1946", "FAKE_APPS": "123456789, GPU-aaaa, 79000"}
    result = fake_host.boot("healthy", "--serves")
    assert result.code == 4
    assert "GPU 0 (NVIDIA H100 80GB HBM3) has 1.9 GiB free of 79.6" in result.last_line
    assert (
        "need about 6.2 GiB; stop PID 123456789 (79000 MiB, not visible from here)"
        in result.last_line
    )
    assert "CUDA_VISIBLE_DEVICES" in result.last_line
    assert fake_host.boot("dies", "--dies-with", BUG, "--min-free-gib", 1).code == 0


def test_no_gpu(fake_host: FakeHost) -> None:
    fake_host.env = {"CUDA_VISIBLE_DEVICES": "3"}
    result = fake_host.boot("healthy", "--serves")
    assert result.code == 4
    assert "asks for 3; this host has GPU 0 (NVIDIA H100 80GB HBM3)" in result.last_line
    fake_host.env = {"CUDA_VISIBLE_DEVICES": ""}
    assert "hides every GPU" in fake_host.boot("healthy", "--serves").last_line
    fake_host.env = {}
    (fake_host.folder / "bin/nvidia-smi").write_text("#!/bin/sh\necho 'NVML: no driver'; exit 9\n")
    result = fake_host.boot("healthy", "--serves")
    assert result.code == 4
    assert "no GPU on this host: nvidia-smi: NVML: no driver, and torch in" in result.last_line


def test_missing_packages_are_the_hosts_and_missing_modules_the_trees(fake_host: FakeHost) -> None:
    result = fake_host.boot("lacks-uvicorn.config", "--serves")
    assert result.code == 4
    assert f"{sys.executable} lacks the package uvicorn.config" in result.last_line
    result = fake_host.boot("lacks-sglang.srt.gone", "--serves")
    assert (result.code, "died: ModuleNotFoundError" in result.last_line) == (1, True)


def test_gpu_by_number_and_uuid(fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{fake_host.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_FREE_MIB", "1024")
    for chosen in ("0", "GPU-aa", "0,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert gpu.first_gpu().free == 1.0


def test_the_cuda_toolkit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a script by nvcc's name, and with a link for the linker where only a version is there."""
    for name in (
        "bin/nvcc",
        "cuda-12.9/x",
        "cuda-13.0/bin/nvcc",
        "cuda-13.0/lib64/libcudart.so.13",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cuda-13.0/targets/x86_64-linux/include").mkdir(parents=True)
    (tmp_path / "cuda-13.0/targets/x86_64-linux/include/cuda_runtime.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for _ in range(2):  # in one folder again
        env = {"LIBRARY_PATH": "/mine"}
        gpu.set_cuda_paths(env, tmp_path / "links", tmp_path)
        assert env == {
            "CUDA_HOME": str(tmp_path / "cuda-13.0"),
            "LIBRARY_PATH": f"{tmp_path / 'links'}:/mine",
        }
    assert (tmp_path / "links/libcudart.so").resolve().name == "libcudart.so.13"
    (tmp_path / "cuda-13.0/lib64/libcudart.so").touch()
    env = {"CUDA_HOME": str(tmp_path / "cuda-13.0")}
    gpu.set_cuda_paths(env, tmp_path / "links", tmp_path)
    assert env["LIBRARY_PATH"] == str(tmp_path / "cuda-13.0/lib64")


def copy_of(tiny: Path, to: Path) -> Path:
    """The tiny models, as a checkpoint that somebody downloaded."""
    for folder in ("target", "assistant"):
        (to / folder).mkdir(parents=True)
        for one in (tiny / folder).iterdir():
            os.link(one, to / folder / one.name)
    return to / "target"


def test_checkpoints(fake_host: FakeHost) -> None:
    model = fake_host.folder / "gemma"
    result = fake_host.boot("healthy", "--serves", "--model", model)
    assert result.code == 4
    assert f"--model {model}: no such folder" in result.last_line

    model = copy_of(fake_host.models, fake_host.folder / "real")
    result = fake_host.boot("healthy", "--serves", "--model", model)
    assert result.code == 4
    assert "has no MTP assistant at" in result.last_line
    assert "give its folder with --assistant" in result.last_line

    result = fake_host.boot("healthy", "--serves", "--model", model, "--assistant", model)
    assert result.code == 4
    assert "is no Gemma 4 MTP assistant (model_type 'gemma4'" in result.last_line

    (model.parent / "assistant").rename(model.parent / "target-assistant")
    result = fake_host.boot("healthy", "--serves", "--model", model)
    assert result.code == 0, result
    assert f"{model}-assistant" in result.details["command"]


def test_broken_checkpoints(tiny: Path, tmp_path: Path) -> None:
    def said() -> str:
        with pytest.raises(Answer) as raised:
            checkpoint.check_weights(checkpoint.find_checkpoint(str(model), None), dummy=False)
        assert raised.value.code == 4
        return raised.value.saw

    model = copy_of(tiny, tmp_path / "real")
    (model.parent / "assistant").rename(model / "assistant")
    found = checkpoint.find_checkpoint(str(model), None)
    assert found.assistant == model / "assistant"
    assert checkpoint.check_weights(found, dummy=False) > 160 << 20
    file = model / "model.safetensors"
    whole = file.read_bytes()
    for content in (b"version https://git-lfs.github.com/spec/v1\n", whole[:1000], whole[:-1]):
        file.unlink()
        file.write_bytes(content)
        assert f"{file} is broken" in said()
    file.unlink()
    assert "has no safetensors" in said()
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a-1-of-2"}}')
    assert "lacks 1 of 1 shards (a-1-of-2)" in said()
    config = model / "config.json"
    config.unlink()
    assert "it has no config.json" in said()
    config.write_text("{")
    assert "cannot read" in said()
    config.write_text('{"text_config": {"num_experts": null}}')
    assert "is dense" in said()


def test_a_checkpoint_by_its_hub_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name, part in (("it", "target"), ("it-assistant", "assistant")):
        (tmp_path / f"models--google--{name}/refs").mkdir(parents=True)
        (tmp_path / f"models--google--{name}/refs/main").write_text("abc\n")
        (tmp_path / f"models--google--{name}/snapshots").mkdir()
        (tmp_path / f"models--google--{name}/snapshots/abc").symlink_to(tiny / part)
    found = checkpoint.find_checkpoint("google/it", None)
    assert found.assistant.name == "abc"
    assert checkpoint.check_weights(found, dummy=True) > 160 << 20


# --- nothing is left -----------------------------------------------------------------------------


def test_what_escapes_is_ended_too(fake_host: FakeHost) -> None:
    result = fake_host.boot("escapes", "--serves")
    assert result.code == 0, result
    pid = int((result.folder / "escaped.pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_ended_in_the_middle(fake_host: FakeHost, number: int, code: int, said: str) -> None:
    process = fake_host.start("hangs", "--serves")
    wait_until(lambda: "Capture" in log(fake_host))
    process.send_signal(number)
    result = fake_host.end(process)
    assert (result.code, result.last_line) == (code, said)


def test_killed_in_the_middle(fake_host: FakeHost) -> None:
    """Even SIGKILL leaves nothing, though nobody of this run is there to see to it."""
    fake_host.env["FIXTOOL_RUN"] = f"run-{fake_host.mark}"
    process = fake_host.start("escapes", "--serves", "--generate-timeout", 60)
    wait_until(
        lambda: (fake_host.scratch / "escaped.pid").exists() and "fired up" in log(fake_host)
    )
    escaped = int((fake_host.scratch / "escaped.pid").read_text())
    marked = leftover_processes(f"\0FIXTOOL_RUN=run-{fake_host.mark}", "-")
    process.kill()
    process.wait()
    wait_until(lambda: not fake_host.processes())
    assert not Path(f"/proc/{escaped}").exists()
    assert marked, "the runner's mark reaches the server"


def test_a_killed_keeper(fake_host: FakeHost) -> None:
    process = fake_host.start("hangs", "--serves")
    wait_until(lambda: "Capture" in log(fake_host))
    keepers = [pid for pid in fake_host.processes() if b"supervisor.py" in words_of(pid)]
    send_signal(keepers)
    result = fake_host.end(process)
    assert (len(keepers), result.code) == (1, 1)


def log(fake_host: FakeHost) -> str:
    path = fake_host.scratch / "server.log"
    return path.read_text() if path.exists() else ""


def words_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_script_that_is_run_wrongly(fake_host: FakeHost) -> None:
    assert fake_host.boot("healthy").code == 2
    assert fake_host.boot("healthy", "--serves", "--dies-with", "x").code == 2
    assert fake_host.boot("healthy", "--dies-with", "(").code == 2
    fake_host.env["FIXTOOL_TREE"] = str(fake_host.folder)
    result = fake_host.boot("healthy", "--serves")
    assert (result.code, "holds no python/sglang/launch_server.py" in result.last_line) == (2, True)


# --- the log -------------------------------------------------------------------------------------


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    import re

    path = tmp_path / "server.log"
    read = ServerLog(path, re.compile("needle"))
    read.read()
    assert read.last == "nothing at all"
    with path.open("ab", buffering=0) as file:
        file.write(b"one\n\xff\xfe 10%\r 90%\rdone nee")
        read.read()
        assert (read.last, read.matched) == ("one", None)
        file.write(b"dle\n")
        read.read()
        assert read.matched == "done needle"
        file.write(b"y" * 300_000)
        read.read()
        file.write(b"\n  torch.Error: indented\n[x] torch.OutOfMemoryError: CUDA out of memory.")
        read.read()
        assert read.crash() is None
        read.read(final=True)
    assert read.cause_of_death() == "torch.OutOfMemoryError: CUDA out of memory."


# --- the models ----------------------------------------------------------------------------------


def test_the_models_are_the_same_everywhere(tiny: Path) -> None:
    import hashlib

    got = {
        one: hashlib.sha256((tiny / one / "model.safetensors").read_bytes()).hexdigest()[:16]
        for one in ("target", "assistant")
    }
    assert got == {"target": "4bc8602d93c5ddcb", "assistant": "e353a1647e373807"}


def test_their_safetensors(tiny: Path) -> None:
    content = (tiny / "target/model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert (8 + length) % 8 == 0
    end = 0
    for name, shape in tiny_models.tensor_shapes(tiny_models.target_config("tiny")).items():
        one = header[name]
        assert (one["dtype"], one["shape"], one["data_offsets"][0]) == ("BF16", list(shape), end)
        end = one["data_offsets"][1]
    assert 8 + length + end == len(content)
    # bf16 1.0 in a norm, and 0.5 to 2 in the experts' scale, which must tell experts apart.
    assert tensor(content, header, "model.language_model.norm.weight") == b"\x80\x3f" * 256
    layer = "model.language_model.layers.3."
    scale = tensor(content, header, f"{layer}router.per_expert_scale")
    assert set(scale[1::2]) == {0x3F}
    assert len({scale[i : i + 2] for i in range(0, 256, 2)}) > 64
    other = tensor(content, header, "model.language_model.layers.4.router.proj.weight")
    assert tensor(content, header, f"{layer}router.proj.weight") != other


def tensor(content: bytes, header: dict[str, Any], name: str) -> bytes:
    start = 8 + int.from_bytes(content[:8], "little")
    first, last = header[name]["data_offsets"]
    return content[start + first : start + last]


def test_the_full_size_is_a_configuration_only(tmp_path: Path) -> None:
    made = tiny_models.make(tmp_path / "full", "full")
    assert not list((tmp_path / "full").rglob("*.safetensors"))
    assert 48e9 < checkpoint.check_weights(made, dummy=True) < 56e9


def test_transformers_would_make_the_same_tensors(tiny: Path) -> None:
    """With a Python that has transformers: FIXTOOL_TARGET_PYTHON, or this one."""
    target = os.environ.get("FIXTOOL_TARGET_PYTHON", sys.executable)
    code = """
import sys, json, torch
try:
    if torch.version.cuda is None:
        ops = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"): ops.define(f"{op}(Tensor a, Tensor b, float c) -> Tensor")
    import transformers
    from transformers import AutoConfig, AutoTokenizer, Gemma4AssistantForCausalLM
    from transformers import Gemma4ForConditionalGeneration
except ImportError as error:
    print("no", error); sys.exit(77)
found = {}
for name, cls in (("target", Gemma4ForConditionalGeneration), ("assistant", Gemma4AssistantForCausalLM)):
    at = f"{sys.argv[1]}/{name}"
    with torch.device("meta"):
        model = cls(AutoConfig.from_pretrained(at))
    found[name] = {k: list(v.shape) for k, v in model.state_dict().items() if k != "lm_head.weight"}
tokens = AutoTokenizer.from_pretrained(at)
found["text"] = tokens.decode(tokens.encode("hello G\\u00e9"))
print(json.dumps(found))
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [target, "-c", code, str(tiny)], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode != 0 and ("No module named" in done.stdout + done.stderr):
        pytest.skip(f"{target} has no transformers with Gemma 4")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, config in (
        ("target", tiny_models.target_config),
        ("assistant", tiny_models.assistant_config),
    ):
        ours = {
            key: list(shape) for key, shape in tiny_models.tensor_shapes(config("tiny")).items()
        }
        assert found[name] == ours
    assert found["text"] == "hello Gé"


def small(monkeypatch: pytest.MonkeyPatch, pause: float = 0.0) -> list[Path]:
    """Models whose weights are nothing, and a note of each that is written."""
    written: list[Path] = []

    def write(path: Path, *_: object) -> None:
        time.sleep(pause)
        written.append(path)
        path.write_bytes(b"")

    monkeypatch.setattr(tiny_models, "_write_safetensors", write)
    return written


def test_a_folder_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = small(monkeypatch, pause=0.05)
    threads = [
        threading.Thread(target=tiny_models.make, args=(tmp_path / "deep/models",))
        for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(written) == 2
    assert sorted(one.name for one in (tmp_path / "deep").iterdir()) == ["models", "models.lock"]


def test_a_killed_maker_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, time; from verify.server import tiny_models as models\n"
        "models._write_safetensors = lambda *_: (print('here', flush=True), time.sleep(60))\n"
        "models.make(sys.argv[1])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "models")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        maker.kill()
    assert not (tmp_path / "models").exists()
    written = small(monkeypatch)
    tiny_models.make(tmp_path / "models")
    assert len(written) == 2
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "home") == [
        "models",
        "models.lock",
    ]


def test_an_outdated_folder_is_made_anew_and_a_strangers_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = small(monkeypatch)
    tiny_models.make(tmp_path / "models")
    monkeypatch.setattr(tiny_models, "_RECIPE", 99)
    tiny_models.make(tmp_path / "models")
    assert len(written) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="holds something else"):
        tiny_models.make(tmp_path / "mine")
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


# --- the recorder --------------------------------------------------------------------------------


def routing(logits: Any, scale: Any, topk: int) -> Any:
    import torch

    value, ids = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    return (torch.softmax(value, dim=-1) * scale[ids]).contiguous(), ids.int().contiguous()


@dataclass
class Tape:
    """A recorder on CPU tensors, with a capture that is only said to be one: its copies are made
    once, which looks to the recorder like one replay."""

    folder: Path
    function: Callable[..., Any] = routing
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
        # The lambda's signature is not the routing's.
        self.recorder._signature = __import__("inspect").signature(routing)
        self.route = self.recorder.wrapped()
        self.scale = self.torch.rand(16) + 0.5

    def call(self, rows: int, **other: Any) -> Any:
        logits = self.torch.randn(rows, 16).to(self.torch.bfloat16)
        return self.route(logits, self.scale, **{"topk": 4, **other})

    def seen(self) -> LiveEvidence:
        self.recorder.summarise()
        return read_evidence(self.folder)


def test_right_routings_are_counted(tmp_path: Path) -> None:
    tape = Tape(tmp_path)
    with tape.torch.inference_mode():
        for rows in (3, 7, 0, 3):
            tape.call(rows)
        tape.capturing = True
        tape.call(5)
        tape.call(2)
        tape.capturing = False
        tape.call(9)
    counts = tape.seen().counts
    assert counts["launches"] == 6
    assert (counts["eager"], counts["eager_compared"], counts["eager_rows"]) == (4, 4, 22)
    assert (counts["captured"], counts["slots"], counts["replayed"]) == (2, 2, 2)
    assert (counts["graph_compared"], counts["graph_rows"], counts["mismatches"]) == (2, 7, 0)
    assert counts["eager_varied"] == 22


def test_wrong_routings_are_told(tmp_path: Path) -> None:
    def forgets(logits: Any, scale: Any, topk: int) -> Any:
        return routing(logits, scale * 0 + 1, topk)

    def widens(logits: Any, scale: Any, topk: int) -> Any:
        weights, ids = routing(logits, scale, topk)
        return weights, ids.long()

    tape = Tape(tmp_path)
    tape.call(3)
    assert tape.seen().counts["mismatches"] == 0
    tape.function = forgets
    tape.call(3)
    tape.capturing = True
    tape.call(4)
    tape.function = widens
    tape.call(4)
    tape.capturing = False
    tape.function = routing
    tape.call(5)
    seen = tape.seen()
    assert seen.counts["mismatches"] == 3
    assert [one["where"] for one in seen.mismatches] == ["eager", "capture", "graph"]
    assert "ids of torch.int64" in seen.mismatches[1]["problems"][0]
    assert not seen.errors


def test_a_replay_is_looked_at_anew(tmp_path: Path) -> None:
    """As a graph would, without its capture: fill a slot's buffers and raise its counter."""
    tape = Tape(tmp_path)
    tape.call(1)
    tape.capturing = True
    tape.call(4)
    tape.capturing = False
    tape.call(2)
    slot, counters = tape.recorder._slots[0], tape.recorder._buffers.counters
    slot.ids[2, 0] = (slot.ids[2, 0] + 1) % 16
    tape.call(3)
    assert tape.seen().counts["mismatches"] == 0, "no replay, nothing new"
    counters[slot.index] += 5
    tape.call(3)
    counts = tape.seen().counts
    assert (counts["mismatches"], counts["replayed"], counts["graph_compared"]) == (1, 6, 2)


def test_buffers_run_out(tmp_path: Path) -> None:
    tape = Tape(tmp_path, floats=16 * 10)
    tape.capturing = True
    tape.call(4)  # before any eager call there are none
    tape.capturing = False
    tape.call(1)
    tape.capturing = True
    for _ in range(4):
        tape.call(4)
    tape.capturing = False
    tape.call(2)
    counts = tape.seen().counts
    assert (counts["captured"], counts["slots"], counts["replayed"]) == (5, 2, 4)
    assert counts["graph_compared"] == 2


def test_often_seen_shapes_are_compared_less(tmp_path: Path) -> None:
    tape = Tape(tmp_path)
    for _ in range(200):
        tape.call(1)
    counts = tape.seen().counts
    assert counts["launches"] == 200
    assert 64 < counts["eager_compared"] < 80


def test_a_broken_recorder_gets_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape(tmp_path)
    monkeypatch.setattr(recorder.Recorder, "_compare", staticmethod(lambda *_: 1 / 0))
    for _ in range(3):
        weights, _ = tape.call(3)
        assert weights.shape == (3, 4)
    seen = tape.seen()
    assert [one["at"] for one in seen.errors] == ["_after"]
    assert "ZeroDivisionError" in seen.errors[0]["traceback"]
    assert seen.counts["launches"] == 3

    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("the routing's own")

    tape.function = fails
    with pytest.raises(ValueError, match="the routing's own"):
        tape.call(1)


def test_collapsed_activations_prove_nothing(tmp_path: Path) -> None:
    tape = Tape(tmp_path)
    tape.route(tape.torch.zeros(4, 16), tape.scale, 4)
    counts = tape.seen().counts
    assert (counts["eager_rows"], counts["eager_varied"]) == (4, 0)


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
    for one, _ in ((kernel, 1), *table):
        one[(1,)](logits, torch.empty_like(logits), N=16)
    return scale, topk
one = recorder.Recorder(routing, recorder.EvidenceFile(sys.argv[1]))
routing(torch.zeros(1, 16), 0, 0)
print(one.counts["enqueued"])
"""
    path = tmp_path / "kernel.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["2"], done.stderr


SPAWNED = """
import multiprocessing, os, sys
def child():
    import sglang.srt.models.gemma4_causal
if __name__ == "__main__":
    import sglang.srt.models.gemma4_causal, sitecustomize
    one = multiprocessing.get_context("spawn").Process(target=child)
    one.start(); one.join()
    print(sitecustomize.WHOSE)
"""


def test_spawned_processes_are_recorded_and_the_hosts_own_hook_runs(
    fake_host: FakeHost, tmp_path: Path
) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/sitecustomize.py").write_text("WHOSE = 'the host'")
    (tmp_path / "main.py").write_text(SPAWNED)
    path = [HOOK_FOLDER, fake_host.tree / "python", ROOT, tmp_path / "own"]
    done = subprocess.run(
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
    assert (done.stdout, done.stderr) == ("the host\n", "")
    seen = read_evidence(tmp_path / "live")
    assert len({one["pid"] for one in seen.installed}) == 2
    blobs = json.loads((tmp_path / "blobs.json").read_text())
    assert foreign_files(seen, fake_host.tree, blobs) is None
    for part in ("caller", "kernel"):
        file = seen.installed[0][part]
        assert file["blob"] == blobs[str(Path(file["file"]).relative_to(fake_host.tree))]


def test_stale_bytecode_is_seen(tmp_path: Path) -> None:
    """Same size and time, other content: Python runs the old bytecode of such a file."""
    import py_compile

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
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "False"], done.stderr
