"""Releases as wheels: small ones made here, and the real ones."""

from __future__ import annotations

import fcntl
from pathlib import Path

from fixtool.sources import index
from support.package_index import (
    ARM,
    ELF,
    GPU_ELF,
    REAL_CACHE,
    X86,
    make_wheel,
)

SO = "sglang/srt/_core.cpython-311-x86_64-linux-gnu.so"


NAMES = {
    "sglang/__init__.py": b"x = 1\n",
    "sglang/_version.py": b"__version__ = '1.0'\n",
    "sglang/srt/E=32,N=1,device_name=X.json": b"{}\n",
    "sglang/srt/kernel.co": GPU_ELF,
    "sglang/srt/naïve \"quoted\".txt": b"no final newline",
    "tools/get_version_tag.py": b"#!/usr/bin/env python3\n",
}  # fmt: skip


def make_release(folder: Path, version: str = "1.0") -> list[Path]:
    """Two wheels that differ as real ones do: in native code, and in modes."""
    arm_so = SO.replace("311-x86_64", "312-aarch64")
    return [
        make_wheel(folder, version, X86, {**NAMES, SO: ELF}, ("sglang/__init__.py",)),
        make_wheel(folder, version, ARM, {**NAMES, arm_so: ELF + b"arm"}),
    ]


def real_wheel(version: str, tag: str) -> Path:
    """A wheel of the real release, downloaded once on this machine."""
    REAL_CACHE.mkdir(parents=True, exist_ok=True)
    with (REAL_CACHE / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tests run in parallel, and fetch does not wait
        wheel = index.fitting(index.find("sglang", version), [tag])
        assert wheel is not None
        return index.fetch(wheel, REAL_CACHE / "releases")
