"""A small HTTP server in the place of SGLang's, a tree that holds it, and a script as nvidia-smi."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fixtool.verify.runner.git_ids import blob_id
from support.processes import GENEROUS
from support.repositories import ROOT
from verify.server import tiny_models
from verify.server.supervisor import leftover_processes, send_signal

BUG = "object has no attribute 'pp_group'"


# The source of a server's base class: it answers with JSON, or with bytes as they are.
JSON_HANDLER = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class JsonHandler(BaseHTTPRequestHandler):
    def log_message(self, *words): pass
    def request_body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    def answer(self, content, status=200):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
"""


LAUNCH = (
    JSON_HANDLER
    + """
import os, signal, subprocess, sys, threading, time

mood = os.environ["MOOD"]
port = int(sys.argv[sys.argv.index("--port") + 1])
model = sys.argv[sys.argv.index("--model-path") + 1]
print("args", sys.argv[1:], flush=True)
import sglang.srt.models.gemma4_causal as caller

def record(event, **content):
    path = os.path.join(os.environ["FIXTOOL_LIVE"], f"{os.getpid()}.jsonl")
    with open(path, "a") as file:
        print(json.dumps({"event": event, "pid": os.getpid(), **content}), file=file)

def crash(line, before="Scheduler hit an exception: "):
    print(f"[2026-11-23 12:00:00] {before}Traceback (most recent call last):", flush=True)
    print('  File "gemma4_mtp.py", line 1, in __init__', flush=True)
    print(line, flush=True)

if mood == "dies":
    crash("AttributeError: 'Gemma4AssistantForCausalLM' object has no attribute 'pp_group'")
    print("[2026-11-23 12:00:00] Received sigquit from a child process.", flush=True)
    crash("RuntimeError: Rank 0 scheduler died during initialization (exit code: -9).", before="")
    os.kill(os.getpid(), 9)
if mood == "dies-otherwise":
    crash("KeyError: 'vision_config'")
    crash("EOFError", before="")
    os.kill(os.getpid(), 9)
if mood == "dies-silently":
    print("Loading weights", flush=True)
    os.kill(os.getpid(), 9)
if mood == "port-taken":
    crash("OSError: [Errno 98] Address already in use", before="")
    sys.exit(1)
if mood.startswith("lacks-"):
    crash(f"ModuleNotFoundError: No module named '{mood[6:]}'", before="")
    sys.exit(1)
if mood == "flood":
    line = "x" * 200 + chr(10)
    for n in range(60):
        sys.stdout.write(line * 2000)
        if n == 20:
            crash("AttributeError: object has no attribute 'pp_group'")
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
if mood == "says-and-stays":
    crash("AttributeError: object has no attribute 'pp_group'")
    time.sleep(3600)
if mood == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("Capture cuda graph begin", flush=True)
    def wait_for_the_gpu(): time.sleep(3600)
    wait_for_the_gpu()
if mood == "escapes":
    # Leaves group, session, parent, environment and log behind.
    away = ("import os, sys, time, signal; signal.signal(15, signal.SIG_IGN)\\n"
            "if os.fork(): os._exit(0)\\n"
            "os.setsid()\\n"
            "if os.fork(): os._exit(0)\\n"
            "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(3600)")
    subprocess.run([sys.executable, "-c", away, os.path.join(os.getcwd(), "escaped.pid")],
                   env={}, stdin=-3, stdout=-3, stderr=-3)
if mood == "late":
    time.sleep(1)

calls = {"launches": 0}

class Handler(JsonHandler):
    def do_GET(self):
        if self.path == "/model_info":
            self.answer({"model_path": "/another" if mood == "another" else model})
        elif self.path == "/health":
            self.answer(b"", 503 if mood == "unhealthy" else 200)
        elif self.path == "/server_info":
            algorithm = None if mood == "no-mtp" else "FROZEN_KV_MTP"
            self.answer({"speculative_algorithm": algorithm, "internal_states": [{}],
                         "disable_cuda_graph": "--disable-cuda-graph" in sys.argv})
    def do_POST(self):
        request = self.request_body()
        if mood == "hangs-generating":
            time.sleep(3600)
        if mood == "dies-generating":
            crash("RuntimeError: CUDA error: an illegal memory access was encountered")
            os.kill(os.getpid(), 9)
        if mood == "errors":
            return self.answer({"error": "no"}, 400)
        tokens = request["sampling_params"]["max_new_tokens"]
        if mood == "torch":
            caller.route(len(request["input_ids"]))
        elif mood != "no-evidence":
            calls["launches"] += 6
            counts = {name: calls["launches"] for name in (
                "launches", "enqueued", "eager", "eager_compared", "eager_rows", "eager_varied",
                "captured", "replayed", "graph_compared")}
            if mood == "no-replay":
                counts["replayed"] = 0
            if mood == "mismatch":
                counts["mismatches"] = 1
                record("mismatch", where="graph", shape=[4, 128], problems=["ids of 4 rows"])
            record("summary", **counts)
        self.answer({"text": "abc", "meta_info": {
            "completion_tokens": tokens - (mood == "short"), "finish_reason": {"type": "length"},
            "spec_verify_ct": 0 if mood == "no-mtp" else 3}})

server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("The server is fired up and ready to roll!", flush=True)
server.serve_forever()
"""
)


CALLER = """
from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing

def route(tokens):
    import torch
    torch.manual_seed(tokens)
    scale = torch.rand(16) + 0.5
    for _ in range(2):
        gemma4_fused_routing(torch.randn(tokens, 16).to(torch.bfloat16), scale, 4)
"""


KERNEL = """
def gemma4_fused_routing(logits, scale, topk):
    import torch
    value, ids = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
    value, ids = value[:, :topk], ids[:, :topk]
    weights = torch.softmax(value, dim=-1) * scale[ids]
    return weights.contiguous(), ids.int().contiguous()
"""


SMI = """#!/bin/sh
case "$1" in
*compute-apps*) printf "$FAKE_APPS" ;;
*memory.used*) echo "0, 1234" ;;
*) echo "0, GPU-aaaa, NVIDIA H100 80GB HBM3, $FAKE_FREE_MIB, 81559" ;;
esac
"""


@dataclass
class ScriptResult:
    """How a script ended. ``last_line`` is of stdout, or of stderr if stdout is empty."""

    code: int
    last_line: str
    details: dict[str, Any]
    stdout: str
    stderr: str
    folder: Path


@dataclass
class FakeHost:
    """A tree, a GPU and a scratch folder in which a script of verify/ runs."""

    folder: Path
    tree: Path
    models: Path
    script: str = "verify/server/boot.py"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def details_file(self) -> Path:
        return self.folder / "details.json"

    def write(self, name: str, text: str) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        blobs = {
            str(file.relative_to(self.tree)): blob_id(file.read_bytes())
            for file in self.tree.rglob("gemma4_*.py")
        }
        (self.folder / "blobs.json").write_text(json.dumps(blobs))

    def environment(self, mood: str = "") -> dict[str, str]:
        """The environment of a script, as fixtool's runner and a GPU host would have it."""
        env = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(self.tree / "python"), str(ROOT)]),
            "FIXTOOL_TREE": str(self.tree),
            "FIXTOOL_TREE_BLOBS": str(self.folder / "blobs.json"),
            "FIXTOOL_DETAILS": str(self.details_file),
            "FAKE_FREE_MIB": "79000",
            "FAKE_APPS": "",
            "MOOD": mood,
            "TEST_MARK": self.mark,
            "http_proxy": "http://127.0.0.1:9",
            **self.env,
        }
        for name in {"CUDA_VISIBLE_DEVICES", "FIXTOOL_SHARED"} - set(self.env):
            env.pop(name, None)
        return env

    def enter(self, monkeypatch: pytest.MonkeyPatch, mood: str = "") -> None:
        """Give this process that environment and working directory."""
        self.scratch.mkdir(exist_ok=True)
        monkeypatch.chdir(self.scratch)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in self.environment(mood).items():
            monkeypatch.setenv(name, value)

    def start(self, mood: str, *arguments: object) -> subprocess.Popen[str]:
        self.scratch.mkdir(exist_ok=True)
        words = list(map(str, arguments))
        if "--model" not in words and self.script.endswith("boot.py"):
            words = ["--models", str(self.models), *words]
        with (self.folder / "stdout").open("w") as out, (self.folder / "stderr").open("w") as err:
            return subprocess.Popen(
                [sys.executable, str(ROOT / self.script), *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True,
                env=self.environment(mood), cwd=self.scratch, start_new_session=True,
            )  # fmt: skip

    def end(self, process: subprocess.Popen[str]) -> ScriptResult:
        code = process.wait(GENEROUS)
        alive = self.processes()
        assert alive == [], subprocess.run(["ps", "-fp", *map(str, alive)], check=False)
        return self.result(code)

    def result(self, code: int) -> ScriptResult:
        path = self.details_file
        details = json.loads(path.read_text()) if path.exists() else {}
        stdout, stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        last_line = (stdout.splitlines() or stderr.splitlines() or [""])[-1]
        return ScriptResult(code, last_line, details, stdout, stderr, self.scratch)

    def boot(self, mood: str, *arguments: object) -> ScriptResult:
        return self.end(self.start(mood, *arguments))

    def expect(self, code: int, text: str, mood: str, *arguments: object) -> ScriptResult:
        """Boot; the exit code must be ``code``, and the last line must hold ``text``."""
        result = self.boot(mood, *arguments)
        assert result.code == code, result
        assert text in result.last_line, result
        return result

    def processes(self) -> list[int]:
        """The pids of a run's processes that still run."""
        return leftover_processes(f"TEST_MARK={self.mark}", str(self.scratch / "server.log"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models, made once. The workers of xdist share them; a lock guards their making."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models-tiny"
    tiny_models.make(folder)
    return folder


def write_smi(folder: Path, text: str) -> None:
    """Put a script as nvidia-smi into folder/bin."""
    smi = folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(text)
    smi.chmod(0o755)


@pytest.fixture
def host(tmp_path: Path, tiny: Path) -> Iterator[FakeHost]:
    host = FakeHost(tmp_path, tmp_path / "tree", tiny)
    for name in ("", "srt/", "srt/models/", "srt/layers/"):
        host.write(f"python/sglang/{name}__init__.py", "")
    host.write("python/sglang/launch_server.py", LAUNCH)
    host.write("python/sglang/srt/models/gemma4_causal.py", CALLER)
    host.write("python/sglang/srt/layers/gemma4_fused_ops.py", KERNEL)
    write_smi(tmp_path, SMI)
    yield host
    send_signal(host.processes())
