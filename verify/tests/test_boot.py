"""verify/server/boot.py without a GPU, on trees whose launch_server is a small HTTP server.

The environment variable MOOD says how that server behaves; nvidia-smi is a script.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from support.processes import wait_until, with_enough_time
from support.repositories import ROOT
from support.sglang_server import BUG, KERNEL, FakeHost, ScriptResult
from verify.server import boot, gpu
from verify.server.log import ServerLog
from verify.server.supervisor import leftover_processes, send_signal

pytestmark = pytest.mark.slow(1)  # each starts a server

CALLER_PATH = "python/sglang/srt/models/gemma4_causal.py"
KERNEL_PATH = "python/sglang/srt/layers/gemma4_fused_ops.py"
DIES = ("--dies-with", BUG)

# --- a server that must die ----------------------------------------------------------------------


def test_a_server_dies_with_the_wanted_message(host: FakeHost) -> None:
    result = host.expect(0, "with the message asked for: AttributeError", "dies", *DIES)
    assert result.details["exit_code"] == -9
    assert result.details["matched"].startswith("AttributeError: 'Gemma4Assistant")
    assert BUG in (result.folder / "server.log").read_text()
    assert '"installed"' in (result.folder / "live.log").read_text()
    assert result.details["command"][1:3] == ["-m", "sglang.launch_server"]
    environment = result.details["environment"]
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["NCCL_SOCKET_IFNAME"] == "lo"


def test_another_cause_is_named(host: FakeHost) -> None:
    result = host.expect(1, "died of something else", "dies-otherwise", *DIES)
    assert "KeyError: 'vision_config'" in result.last_line, "not EOFError, which followed from it"
    assert "log: server.log" in result.last_line
    assert "line 1, in __init__" in result.stderr


def test_a_server_that_dies_without_an_exception(host: FakeHost) -> None:
    text = "no exception, after the line: Loading weights"
    assert "out of host memory?" in host.expect(1, text, "dies-silently", "--serves").last_line


def test_a_server_that_does_not_die(host: FakeHost) -> None:
    host.expect(1, "came up healthy", "healthy", *DIES)


def test_the_message_is_found_in_a_long_log(host: FakeHost) -> None:
    result = host.expect(0, "", "flood", *DIES)
    assert (result.folder / "server.log").stat().st_size > 20_000_000
    assert len(result.stderr) < 100_000


def test_a_process_that_stays_after_its_message_is_not_waited_for(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "_LAST_WORDS_SECONDS", 0.3)
    host.enter(monkeypatch, "says-and-stays")
    answer = boot.Boot(boot.parse_arguments([*DIES, "--models", str(host.models)])).run()
    assert answer.code == 0, answer
    assert answer.details["exit_code"] is None
    # This process has the mark in its own environment only since it started.
    assert host.processes() == []


def test_a_death_with_other_files_proves_nothing(host: FakeHost) -> None:
    (host.folder / "blobs.json").write_text(json.dumps({CALLER_PATH: "0" * 40}))
    host.expect(1, "gemma4_causal.py is blob", "dies", *DIES)


# --- a server that must serve --------------------------------------------------------------------


def test_a_server_serves(host: FakeHost) -> None:
    host.env["FIXTOOL_SHARED"] = str(host.folder / "shared")
    result = host.expect(0, "with CUDA graphs, MTP on (FROZEN_KV_MTP)", "late", "--serves")
    assert "54 calls of this tree's kernel" in result.last_line
    assert len(result.details["generated"]) == 9
    assert result.details["gpu_used_gib"] == 1.21
    installed = result.details["evidence"]["installed"][0]
    assert installed["kernel"]["file"] == str(host.tree / KERNEL_PATH)
    assert installed["kernel"]["runs_its_file"] is True
    assert set(result.details["evidence"]["patched"]) == {KERNEL_PATH, CALLER_PATH}
    assert not list(host.tree.rglob("__pycache__")), "bytecode belongs in the shared folder"


@pytest.mark.slow(7)
def test_real_routing_is_compared_with_the_oracle(host: FakeHost) -> None:
    pytest.importorskip("torch")
    host.expect(0, "18 calls of this tree's kernel", "torch", "--serves", "--eager")
    host.write(KERNEL_PATH, KERNEL.replace("scale[ids]", "scale[0]"))
    wrong = "routings are not the oracle's; the first (eager [6, 16]): weights"
    host.expect(1, wrong, "torch", "--serves", "--eager")


@pytest.mark.parametrize(
    ("mood", "text"),
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
def test_a_server_that_fails(host: FakeHost, mood: str, text: str) -> None:
    host.expect(1, text, mood, "--serves")


def test_files_of_another_tree(host: FakeHost) -> None:
    site = host.folder / "site"
    (site / "elsewhere").mkdir(parents=True)
    (site / "elsewhere/__init__.py").write_text(KERNEL)
    paths = (host.tree / "python", ROOT, site)
    host.env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    host.write(KERNEL_PATH, "from elsewhere import gemma4_fused_routing")
    host.expect(1, f"kernel comes from {site}/elsewhere/__init__.py", "healthy", "--serves")

    host.write(CALLER_PATH, "x = 1")
    host.expect(1, "has no gemma4_fused_routing", "healthy", "--serves")


@pytest.mark.slow(10)
def test_a_server_that_hangs(host: FakeHost) -> None:
    result, seconds = with_enough_time(
        lambda seconds: host.boot("hangs", "--serves", "--boot-timeout", seconds),
        lambda result: "Capture" in result.last_line,
    )
    assert result.code == 1
    assert f"neither ready nor gone after {seconds} s" in result.last_line
    assert "last line: Capture cuda graph begin" in result.last_line
    assert "in wait_for_the_gpu" in (result.folder / "live.log").read_text()
    assert "in wait_for_the_gpu" in result.stderr

    words = ("--serves", "--generate-timeout", 1)
    host.expect(1, "hangs: no answer from /generate within 1 s", "hangs-generating", *words)
    host.expect(1, "not healthy: /health answers 503", "unhealthy", *words)


@pytest.mark.slow(10)
def test_a_server_that_is_late_is_told_of_before_the_time_is_over(host: FakeHost) -> None:
    """A host's time ran out twice without a word of how far the check was."""

    def run(seconds: int) -> ScriptResult:
        host.env["FIXTOOL_SECONDS"] = str(boot._ENDING_SECONDS + seconds)
        return host.boot("hangs-generating", "--serves")

    result, _ = with_enough_time(run, lambda result: "in generation" in result.last_line)
    assert result.code == 2, result
    assert re.search(r"no answer within the \d+\.0 s that it has; server was in generation, short "
                     r"for \d+ s; last line: .*; where its processes stand: live\.log", result.last_line)  # fmt: skip
    assert {"preparation", "boot", "generation, short"} <= set(result.details["phases"])
    assert "do_POST" in (result.folder / "live.log").read_text()


# --- what the host lacks -------------------------------------------------------------------------


def test_ports(host: FakeHost) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        text = f"port {port} is in use: stop PID {os.getpid()} ("
        host.expect(4, text, "healthy", "--serves", "--port", port)
    host.expect(4, "was taken while it booted", "port-taken", "--serves")
    host.expect(4, "another server answers", "another", "--serves")


def test_too_little_gpu_memory(host: FakeHost) -> None:
    host.env = {"FAKE_FREE_MIB": "1946", "FAKE_APPS": "123456789, GPU-aaaa, 79000"}
    text = "GPU 0 (NVIDIA H100 80GB HBM3) has 1.9 GiB free of 79.6"
    line = host.expect(4, text, "healthy", "--serves").last_line
    assert "need about 6.2 GiB; stop PID 123456789 (79000 MiB, not visible from here)" in line
    assert "CUDA_VISIBLE_DEVICES" in line
    host.expect(0, "", "dies", *DIES, "--min-free-gib", 1)


@pytest.mark.slow(6)
def test_no_gpu(host: FakeHost) -> None:
    host.env = {"CUDA_VISIBLE_DEVICES": "3"}
    text = "asks for 3; this host has GPU 0 (NVIDIA H100 80GB HBM3)"
    host.expect(4, text, "healthy", "--serves")
    host.env = {"CUDA_VISIBLE_DEVICES": ""}
    assert "hides every GPU" in host.boot("healthy", "--serves").last_line
    host.env = {}
    (host.folder / "bin/nvidia-smi").write_text("#!/bin/sh\necho 'NVML: no driver'; exit 9\n")
    text = "no GPU on this host: nvidia-smi: NVML: no driver, and torch in"
    host.expect(4, text, "healthy", "--serves")


def test_a_missing_package_is_the_hosts_fault_and_a_missing_module_the_trees(
    host: FakeHost,
) -> None:
    text = f"{sys.executable} lacks the package uvicorn.config"
    host.expect(4, text, "lacks-uvicorn.config", "--serves")
    host.expect(1, "died: ModuleNotFoundError", "lacks-sglang.srt.gone", "--serves")


def test_a_gpu_by_number_and_by_uuid(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{host.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_FREE_MIB", "1024")
    for chosen in ("0", "GPU-aa", "0,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert gpu.first_gpu().free == 1.0


def test_the_cuda_toolkit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script named nvcc is passed over; a versioned library gets a link for the linker."""
    cuda = tmp_path / "cuda-13.0"
    for path in (
        tmp_path / "bin/nvcc", tmp_path / "cuda-12.9/x", cuda / "bin/nvcc",
        cuda / "lib64/libcudart.so.13", cuda / "targets/x86_64-linux/include/cuda_runtime.h",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for _ in range(2):  # the second time with the links of the first
        env = {"LIBRARY_PATH": "/mine"}
        gpu.set_cuda_paths(env, tmp_path / "links", tmp_path)
        assert env == {"CUDA_HOME": str(cuda), "LIBRARY_PATH": f"{tmp_path / 'links'}:/mine"}
    assert (tmp_path / "links/libcudart.so").resolve().name == "libcudart.so.13"
    (cuda / "lib64/libcudart.so").touch()
    env = {"CUDA_HOME": str(cuda)}
    gpu.set_cuda_paths(env, tmp_path / "links", tmp_path)
    assert env["LIBRARY_PATH"] == str(cuda / "lib64")


# --- no process is left --------------------------------------------------------------------------


def test_a_process_that_escapes_is_ended(host: FakeHost) -> None:
    result = host.expect(0, "", "escapes", "--serves")
    pid = int((result.folder / "escaped.pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_a_signal_while_it_boots(host: FakeHost, number: int, code: int, text: str) -> None:
    process = host.start("hangs", "--serves")
    wait_until(lambda: "Capture" in server_log(host))
    process.send_signal(number)
    result = host.end(process)
    assert (result.code, result.last_line) == (code, text)


def test_boot_is_killed(host: FakeHost) -> None:
    """Even SIGKILL leaves no process, though boot.py is not there to end them."""
    host.env["FIXTOOL_RUN"] = f"run-{host.mark}"
    process = host.start("escapes", "--serves", "--generate-timeout", 60)
    pid_file = host.scratch / "escaped.pid"
    wait_until(
        lambda: pid_file.exists() and pid_file.read_text() and "fired up" in server_log(host)
    )
    escaped = int(pid_file.read_text())
    marked = leftover_processes(f"\0FIXTOOL_RUN=run-{host.mark}", "-")
    process.kill()
    process.wait()
    wait_until(lambda: not host.processes())
    assert not Path(f"/proc/{escaped}").exists()
    assert marked, "the runner's mark reaches the server"


def test_the_supervisor_is_killed(host: FakeHost) -> None:
    process = host.start("hangs", "--serves")
    wait_until(lambda: "Capture" in server_log(host))
    supervisors = [pid for pid in host.processes() if b"supervisor.py" in command_line(pid)]
    send_signal(supervisors)
    assert (len(supervisors), host.end(process).code) == (1, 1)


def server_log(host: FakeHost) -> str:
    path = host.scratch / "server.log"
    return path.read_text() if path.exists() else ""


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_wrong_arguments(host: FakeHost) -> None:
    assert host.boot("healthy").code == 2
    assert host.boot("healthy", "--serves", "--dies-with", "x").code == 2
    assert host.boot("healthy", "--dies-with", "(").code == 2
    host.env["FIXTOOL_TREE"] = str(host.folder)
    host.expect(2, "holds no python/sglang/launch_server.py", "healthy", "--serves")


# --- the log -------------------------------------------------------------------------------------


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    log = ServerLog(path, re.compile("needle"))
    log.read()
    assert log.last == "nothing at all"
    with path.open("ab", buffering=0) as file:
        file.write(b"one\n\xff\xfe 10%\r 90%\rdone nee")
        log.read()
        assert (log.last, log.matched) == ("one", None)
        file.write(b"dle\n")
        log.read()
        assert log.matched == "done needle"
        file.write(b"y" * 300_000)
        log.read()
        file.write(b"\n  torch.Error: indented\n[x] torch.OutOfMemoryError: CUDA out of memory.")
        log.read()
        assert log.crash() is None
        log.read(final=True)
    assert log.cause_of_death() == "torch.OutOfMemoryError: CUDA out of memory."
