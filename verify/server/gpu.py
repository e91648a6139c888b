"""What a server needs from its host: free GPU memory, a port, and CUDA's compiler and runtime.

It is asked in other processes or read from /proc, so that this process holds no GPU memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from fixtool.verify.answer import CANNOT_RUN, Answer

_TORCH = """
import json, torch
found = [(torch.cuda.get_device_name(n), *torch.cuda.mem_get_info(n))
         for n in range(torch.cuda.device_count())]
if found:
    print(json.dumps(found))
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU that a server can see. Sizes in GiB."""

    label: str
    free: float
    total: float
    index: int | None = None
    uuid: str | None = None


def first_gpu() -> Gpu:
    """The GPU that a server on one GPU takes."""
    return visible_gpus()[0]


def visible_gpus() -> list[Gpu]:
    """The GPUs that a server can see, in the order in which it takes them.

    nvidia-smi is asked first; if it is missing or does not know the chosen GPUs, a process of torch.
    Raises Answer (cannot run) if there is none.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not chosen.strip():
        raise Answer(CANNOT_RUN, "CUDA_VISIBLE_DEVICES is empty: it hides every GPU")
    rows, problem = _smi("--query-gpu=index,uuid,name,memory.free,memory.total")
    on_host = []
    for row in rows:
        with contextlib.suppress(ValueError, IndexError):
            free, total = (float(mib) / 1024 for mib in row[3:5])
            on_host.append(Gpu(f"GPU {row[0]} ({row[2]})", free, total, int(row[0]), row[1]))
    if on_host and (visible := _chosen(on_host, chosen)):
        return visible
    try:
        torch = subprocess.run(
            [sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=180
        )
        listed = json.loads(torch.stdout.splitlines()[-1])
        return [Gpu(f"the GPU ({name})", free / 2**30, of / 2**30) for name, free, of in listed]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        if on_host:
            labels = ", ".join(gpu.label for gpu in on_host)
            raise Answer(
                CANNOT_RUN, f"CUDA_VISIBLE_DEVICES asks for {chosen}; this host has {labels}"
            ) from None
        raise Answer(
            CANNOT_RUN, f"no GPU on this host: {problem}, and torch in {sys.executable} sees none"
        ) from None


def _chosen(gpus: list[Gpu], chosen: str | None) -> list[Gpu]:
    """The GPUs that CUDA takes for this variable: up to the first name that fits none."""
    if chosen is None:
        return gpus
    visible: list[Gpu] = []
    for name in filter(None, (word.strip() for word in chosen.split(","))):
        fits = (g for g in gpus if name == str(g.index) or (g.uuid or "").startswith(name))
        if (gpu := next(fits, None)) is None:
            break
        visible.append(gpu)
    return visible


def require_gpus(gpus: list[Gpu], ranks: int, options: str) -> None:
    """Raise Answer (cannot run) if there is not one GPU for each rank. Two ranks on the same GPU
    would wait for each other. ``options`` are the words that asked for them."""
    if ranks <= len(gpus):
        return
    labels = ", ".join(gpu.label for gpu in gpus)
    raise Answer(
        CANNOT_RUN,
        f"{options} needs {ranks} GPUs, one a rank, and this host has {len(gpus)} ({labels}): ask for "
        "fewer ranks, or run it on a host that has them",
        {"gpus": [gpu.label for gpu in gpus]},
    )


def used_memory_gib(gpu: Gpu) -> float | None:
    """The memory of a GPU that is in use now, by anybody; None if nvidia-smi does not say."""
    rows, _ = _smi("--query-gpu=index,memory.used")
    for row in rows:
        with contextlib.suppress(ValueError, IndexError):
            if gpu.index is None or int(row[0]) == gpu.index:
                return round(float(row[1]) / 1024, 2)
    return None


def require_memory(gpu: Gpu, weights: float, reserve: float) -> None:
    """Raise Answer (cannot run) now, with numbers, rather than fail in the middle of a load.
    ``weights`` of a checkpoint and ``reserve`` for its cache, in GiB."""
    need = weights * 1.15 + reserve
    if gpu.free >= need:
        return
    raise Answer(
        CANNOT_RUN,
        f"{gpu.label} has {gpu.free:.1f} GiB free of {gpu.total:.1f}; the checkpoint ({weights:.1f} "
        f"GiB) and its cache need about {need:.1f} GiB; {_who_holds(gpu)} or choose another GPU with "
        "CUDA_VISIBLE_DEVICES",
        {"gpu": gpu.label, "free_gib": gpu.free, "need_gib": need},
    )


def _who_holds(gpu: Gpu) -> str:
    """What to stop, in words: the processes that hold the GPU's memory."""
    rows, _ = _smi("--query-compute-apps=pid,gpu_uuid,used_memory")
    held = []
    for row in rows:
        if len(row) == 3 and (gpu.uuid is None or row[1] == gpu.uuid):
            name = _command(row[0]) or "not visible from here"
            held.append(f"PID {row[0]} ({row[2]} MiB, {name})")
    if held:
        return f"stop {', '.join(held[:4])}"
    return "stop what holds it (nvidia-smi names no process: it may be in another container)"


def _smi(query: str) -> tuple[list[list[str]], str]:
    """nvidia-smi's answer as rows, and what is wrong if there is none."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        smi = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return [], "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {error}"
    if smi.returncode != 0:
        lines = (smi.stdout + smi.stderr).strip().splitlines()
        return [], f"nvidia-smi: {lines[-1] if lines else smi.returncode}"
    return [
        [cell.strip() for cell in line.split(",")] for line in smi.stdout.splitlines() if line
    ], "nvidia-smi lists none"


def _command(pid: str) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:60]
    return ""


# --- ports ---------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Free ports below the range from which the kernel itself assigns ports. A server binds its
    port a minute later, and until then the kernel must not give it to anybody."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(20000, 32000), 400):
        if _bindable(port):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise Answer(CANNOT_RUN, "no free port between 20000 and 32000")


def require_port(port: int) -> None:
    """Raise Answer (cannot run), with its owner's name, if the port is in use."""
    if _bindable(port):
        return
    owner = next(_listeners(port), None)
    who = f"PID {owner} ({_command(str(owner))})" if owner else "a process that /proc does not show"
    raise Answer(
        CANNOT_RUN, f"port {port} is in use: stop {who}, or leave out --port and have one chosen"
    )


def _bindable(port: int) -> bool:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
            server.listen(1)
        except OSError:
            return False
    return True


def _listeners(port: int) -> Iterator[int]:
    """The pids of processes that listen on the port, as far as /proc shows them."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as file:
            for line in file:
                cells = line.split()
                if cells[1].endswith(f":{port:04X}") and cells[3] == "0A":
                    inodes.add(f"socket:[{cells[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(os.readlink(file) in inodes for file in folder.iterdir()):
                yield int(folder.parent.name)


# --- CUDA ----------------------------------------------------------------------------------------


def set_cuda_paths(
    env: MutableMapping[str, str], links: Path, installed: Path = Path("/usr/local")
) -> None:
    """Set CUDA_HOME, and put a libcudart.so on LIBRARY_PATH, if the host has them.

    SGLang compiles some of its kernels when it first needs them. torch's own packages bring the
    runtime as libcudart.so.<version> only, but the linker looks for it without a version: the folder
    ``links`` gets a link by that name.
    """
    torch = importlib.util.find_spec("torch")
    packages = Path(torch.origin).parent.parent if torch is not None and torch.origin else None
    if not env.get("CUDA_HOME") and (home := _toolkit(installed, packages)) is not None:
        env["CUDA_HOME"] = str(home)
    paths = [path for path in env.get("LIBRARY_PATH", "").split(os.pathsep) if path]
    folders = [Path(path) for path in paths]
    if toolkit := env.get("CUDA_HOME"):
        folders += [Path(toolkit, "lib64"), Path(toolkit, "lib")]
        folders += Path(toolkit).glob("targets/*/lib")
    with_plain_name = [folder for folder in folders if (folder / "libcudart.so").exists()]
    if with_plain_name:
        library_path = str(with_plain_name[0])
    else:
        if packages is not None:
            folders += sorted(packages.glob("nvidia/*/lib"))
        versioned = [lib for folder in folders for lib in sorted(folder.glob("libcudart.so.*"))]
        if not versioned:
            return
        links.mkdir(exist_ok=True)
        (links / "libcudart.so").unlink(missing_ok=True)
        (links / "libcudart.so").symlink_to(versioned[-1])
        library_path = str(links)
    if library_path not in paths:
        env["LIBRARY_PATH"] = os.pathsep.join([library_path, *paths])


def _toolkit(installed: Path, packages: Path | None) -> Path | None:
    """The first folder that holds a whole toolkit. The nvcc on PATH may be a script that calls the
    real one, in a folder without a toolkit, so the headers must be there too."""
    nvcc = shutil.which("nvcc")
    homes = [Path(nvcc).resolve().parent.parent] if nvcc else []
    homes += [installed / "cuda", *sorted(installed.glob("cuda-*"), reverse=True)]
    if packages is not None:
        homes += sorted(packages.glob("nvidia/cu*"), reverse=True)
    for home in homes:
        header = next(
            home.glob("targets/*/include/cuda_runtime.h"), home / "include/cuda_runtime.h"
        )
        if (home / "bin/nvcc").exists() and header.exists():
            return home
    return None
