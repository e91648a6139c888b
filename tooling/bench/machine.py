"""What was measured, and on which machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from place import ROOT

BUSY = 0.5
"""The load average from which on a run is not to be trusted."""


def describe(fixtool: Path, folders: dict[str, Path]) -> dict[str, object]:
    """The machine and the versions. ``folders`` are named for what they are used for."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "file_systems": {name: _file_system(folder) for name, folder in folders.items()},
        "load_average": round(os.getloadavg()[0], 2),
        "python": _output(fixtool.with_name("python"), "--version").removeprefix("Python "),
        "git": _output("git", "--version").removeprefix("git version "),
        "quilt": _output("quilt", "--version"),
        "stgit": _output("stg", "--version").partition("\n")[0].removeprefix("Stacked GIT "),
        "fixtool": _output(fixtool, "--version").removeprefix("fixtool "),
        # The last commit that changed the program: a commit of the results is another one.
        "commit": _output("git", "-C", ROOT, "log", "-1", "--format=%H", "--", "tooling/fixtool"),
        "changed_since_commit": bool(
            _output("git", "-C", ROOT, "status", "--porcelain", "--", "tooling/fixtool")
        ),
    }


def warn_if_busy(load: object) -> None:
    if isinstance(load, float) and load > BUSY:
        print(f"warning: the load average is {load}: other work slows this run", file=sys.stderr)


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.M)
    return found[1] if found else platform.machine()


def _file_system(folder: Path) -> str:
    return _output("stat", "--file-system", "--format=%T", folder) or "unknown"


def _output(*words: str | Path) -> str:
    """The output of a command, or an empty text if it is not installed or fails."""
    if not shutil.which(words[0]):
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
