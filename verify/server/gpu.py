"""What a server needs of its host: free GPU memory, a port, and CUDA's compiler and runtime.

Asked in other processes or read from /proc, so that this one holds no GPU memory.
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
    """One that a server can see. Sizes in GiB."""

    label: str
    free: float
    total: float
    index: int | None = None
    uuid: str | None = None


def gpu() -> Gpu:
    """The one that a server on one GPU takes."""
    return gpus()[0]


def gpus() -> list[Gpu]:
    """Those that a server can see, in the order in which it takes them: by nvidia-smi; where that is
    missing or does not know the chosen ones, by a process of torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not chosen.strip():
        raise Answer(CANNOT_RUN, "CUDA_VISIBLE_DEVICES is empty: it hides every GPU")
    rows, said = _smi("--query-gpu=index,uuid,name,memory.free,memory.total")
    found = []
    for row in rows:
        with contextlib.suppress(ValueError, IndexError):
            free, total = (float(one) / 1024 for one in row[3:5])
            found.append(Gpu(f"GPU {row[0]} ({row[2]})", free, total, int(row[0]), row[1]))
    if found and (seen := _chosen(found, chosen)):
        return seen
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=180
        )
        told = json.loads(asked.stdout.splitlines()[-1])
        return [Gpu(f"the GPU ({name})", free / 2**30, of / 2**30) for name, free, of in told]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        if found:
            have = ", ".join(one.label for one in found)
            raise Answer(
                CANNOT_RUN, f"CUDA_VISIBLE_DEVICES asks for {chosen}; this host has {have}"
            ) from None
        raise Answer(
            CANNOT_RUN, f"no GPU on this host: {said}, and torch in {sys.executable} sees none"
        ) from None


def _chosen(found: list[Gpu], chosen: str | None) -> list[Gpu]:
    """As CUDA reads the variable: up to the first that is not there."""
    if chosen is None:
        return found
    seen: list[Gpu] = []
    for word in filter(None, (one.strip() for one in chosen.split(","))):
        fits = (one for one in found if word == str(one.index) or (one.uuid or "").startswith(word))
        if (one := next(fits, None)) is None:
            break
        seen.append(one)
    return seen


def require(seen: list[Gpu], ranks: int, asked: str) -> None:
    """One a rank: two ranks on the same would wait for each other."""
    if ranks <= len(seen):
        return
    have = ", ".join(one.label for one in seen)
    raise Answer(
        CANNOT_RUN,
        f"{asked} needs {ranks} GPUs, one a rank, and this host has {len(seen)} ({have}): ask for fewer "
        "ranks, or run it on a host that has them",
        {"gpus": [one.label for one in seen]},
    )


def used_gib(one: Gpu) -> float | None:
    """What is in use on it now, by anybody."""
    rows, _ = _smi("--query-gpu=index,memory.used")
    for row in rows:
        with contextlib.suppress(ValueError, IndexError):
            if one.index is None or int(row[0]) == one.index:
                return round(float(row[1]) / 1024, 2)
    return None


def require_memory(one: Gpu, weights: float, reserve: float) -> None:
    """Stop here, with numbers, rather than in the middle of a load."""
    need = weights * 1.15 + reserve
    if one.free >= need:
        return
    raise Answer(
        CANNOT_RUN,
        f"{one.label} has {one.free:.1f} GiB free of {one.total:.1f}; the checkpoint ({weights:.1f} "
        f"GiB) and its cache need about {need:.1f} GiB; {_who_holds(one)} or choose another GPU with "
        "CUDA_VISIBLE_DEVICES",
        {"gpu": one.label, "free_gib": one.free, "need_gib": need},
    )


def _who_holds(one: Gpu) -> str:
    rows, _ = _smi("--query-compute-apps=pid,gpu_uuid,used_memory")
    held = []
    for row in rows:
        if len(row) == 3 and (one.uuid is None or row[1] == one.uuid):
            name = _command(row[0]) or "not visible from here"
            held.append(f"PID {row[0]} ({row[2]} MiB, {name})")
    if held:
        return f"stop {', '.join(held[:4])}"
    return "stop what holds it (nvidia-smi names no process: it may be in another container)"


def _smi(query: str) -> tuple[list[list[str]], str]:
    """nvidia-smi's answer as rows, and in words what is wrong where there is none."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return [], "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {error}"
    if asked.returncode != 0:
        said = (asked.stdout + asked.stderr).strip().splitlines()
        return [], f"nvidia-smi: {said[-1] if said else asked.returncode}"
    return [
        [cell.strip() for cell in line.split(",")] for line in asked.stdout.splitlines() if line
    ], "nvidia-smi lists none"


def _command(pid: str) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:60]
    return ""


# --- ports ---------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Free ones below the range from which the kernel hands out ports by itself: a server binds
    its port a minute after this, and until then nobody must be given it by chance."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20000, 32000), 400):
        if _bindable(port):
            found.append(port)
            if len(found) == count:
                return found
    raise Answer(CANNOT_RUN, "no free port between 20000 and 32000")


def require_port(port: int) -> None:
    if _bindable(port):
        return
    owner = next(_listeners(port), None)
    who = f"PID {owner} ({_command(str(owner))})" if owner else "a process that /proc does not show"
    raise Answer(
        CANNOT_RUN, f"port {port} is in use: stop {who}, or leave out --port and have one chosen"
    )


def _bindable(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen(1)
        except OSError:
            return False
    return True


def _listeners(port: int) -> Iterator[int]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as file:
            for line in file:
                cells = line.split()
                if cells[1].endswith(f":{port:04X}") and cells[3] == "0A":
                    inodes.add(f"socket:[{cells[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(os.readlink(one) in inodes for one in folder.iterdir()):
                yield int(folder.parent.name)


# --- CUDA ----------------------------------------------------------------------------------------


def find_cuda(
    env: MutableMapping[str, str], links: Path, installed: Path = Path("/usr/local")
) -> None:
    """Set CUDA_HOME, and a libcudart.so on LIBRARY_PATH, where the host has them.

    SGLang compiles some of its kernels when it first needs them. torch's own packages bring the
    runtime as libcudart.so.<version> only, and the linker asks for it without; ``links`` gets a
    link by that name.
    """
    torch = importlib.util.find_spec("torch")
    packages = Path(torch.origin).parent.parent if torch is not None and torch.origin else None
    if not env.get("CUDA_HOME") and (home := _toolkit(installed, packages)) is not None:
        env["CUDA_HOME"] = str(home)
    paths = [one for one in env.get("LIBRARY_PATH", "").split(os.pathsep) if one]
    folders = [Path(one) for one in paths]
    if toolkit := env.get("CUDA_HOME"):
        folders += [Path(toolkit, "lib64"), Path(toolkit, "lib")]
        folders += Path(toolkit).glob("targets/*/lib")
    plain = [one for one in folders if (one / "libcudart.so").exists()]
    if plain:
        found = str(plain[0])
    else:
        if packages is not None:
            folders += sorted(packages.glob("nvidia/*/lib"))
        numbered = [lib for one in folders for lib in sorted(one.glob("libcudart.so.*"))]
        if not numbered:
            return
        links.mkdir(exist_ok=True)
        (links / "libcudart.so").unlink(missing_ok=True)
        (links / "libcudart.so").symlink_to(numbered[-1])
        found = str(links)
    if found not in paths:
        env["LIBRARY_PATH"] = os.pathsep.join([found, *paths])


def _toolkit(installed: Path, packages: Path | None) -> Path | None:
    """The first folder that holds a whole toolkit. The nvcc on PATH may be a script that only calls
    the real one, and the folder above it no toolkit, so its headers are asked for too."""
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
