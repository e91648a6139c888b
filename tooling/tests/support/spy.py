"""Code of others that looks for a token wherever a process of the same user can look: environments,
command lines, open files, memory, git's configuration and its credential helpers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.command import command_line
from support.processes import GENEROUS
from support.repositories import Ran

TOKEN = "ghp_" + "5ecret" * 6

_SPY = """\
import json, os, stat, subprocess
token = b"".join([b"ghp_", b"5ecret" * 6])
found = [name for name, value in os.environ.items() if token.decode() in value]
def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
def memory(pid):
    text = b""
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in read(f"/proc/{pid}/maps").decode().splitlines():
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                if line.split()[1].startswith("rw") and end - start < 1 << 26:
                    try:
                        mem.seek(start)
                        text += mem.read(end - start)
                    except OSError:
                        pass
    except OSError:
        pass
    return text
def parents():
    pid = os.getppid()
    while pid:
        yield pid
        pid = int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        if token in read(f"/proc/{pid}/{name}"):
            found.append(f"/proc/{pid}/{name}")
def opened(pid):
    try:
        return [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
def is_file(path):
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
for pid in filter(str.isdigit, os.listdir("/proc")):
    found += [path for path in opened(pid) if is_file(path) and token in read(path)]
found += [f"memory of {pid}" for pid in parents() if token in memory(pid)]
for words, typed in ((("credential", "fill"), b"protocol=https\\nhost=github.com\\n\\n"),
                     (("config", "--list", "--show-origin"), b"")):
    try:
        said = subprocess.run(["git", *words], input=typed, capture_output=True, timeout=20,
                              env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}).stdout
    except (OSError, subprocess.SubprocessError):
        said = b""
    if token in said:
        found.append("git " + words[0])
with open(%r, "a") as file:
    print(json.dumps(found), file=file)
"""


def spy(log: Path) -> str:
    """The text of a script that writes where it found the token to ``log``, as one line."""
    return _SPY % str(log)


def finds(log: Path) -> list[list[str]]:
    """What each run of the script found."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def run_with_token(*command: str | Path, words: Sequence[str] = ()) -> Ran:
    """Run fixtool, or another command, from a shell that holds the token and waits for it."""
    given = list(map(str, command)) or [sys.executable, *words]
    env = {**os.environ, "GITHUB_TOKEN": TOKEN, "GH_TOKEN": TOKEN, "MY_OWN": f"x {TOKEN}"}
    done = subprocess.run(
        ["bash", "-c", '"$@"; exit $?', "bash", *(command_line(*given) if command else given)],
        env=env, capture_output=True, text=True, check=False, timeout=GENEROUS,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)
