"""A token of the user's, looked for by code of others and in what fixtool leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from attack_table.place import Attack, Place, Wrong
from fixtool.isolation import can_isolate
from support.command import command_line
from support.repositories import Ran
from support.spy import TOKEN, finds, spy

OWN_VARIABLES = """\
import json, os
token = "".join(["ghp_", "5ecret" * 6])
with open(%r, "a") as file:
    print(json.dumps([name for name, value in os.environ.items() if token in value]), file=file)
"""


def put_spy(place: Place, text: str = "") -> Path:
    """Have the probe of both patches look for the token, by ``text`` or everywhere. Returns the log
    of what it finds."""
    log = place.root / "out" / "log"
    script = place.team.root / "verify" / "probes" / "fix.py"
    script.write_text((text % str(log) if text else spy(log)) + script.read_text())
    for slug in ("fix", "other"):
        file = place.line / f"{slug}.patch"
        text = file.read_text()
        file.write_text(text.replace("Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n"))
    return log


def verify(place: Place) -> tuple[str | Path, ...]:
    return ("verify", "--prove", "--sglang-ref", "v1.0", "--source", place.up.path,
            "--python", sys.executable)  # fmt: skip


def probe(variable: str) -> Callable[[Place], Ran]:
    """A probe that looks into its environment, /proc, the memory of its parents, and git."""

    def attempt(place: Place) -> Ran:
        log = put_spy(place)
        ran = place.process(*verify(place), **{variable: TOKEN})
        finds_none(log)
        leaves_none(place)
        return ran

    return attempt


def finds_none(log: Path) -> None:
    found = [places for places in finds(log) if places]
    if found and can_isolate():
        raise Wrong(f"a probe found it: {found[0]}")


HOLDERS = {
    "an open file that the shell holds": 'exec 9<"$1"; rm "$1"; shift; "$@"; exit $?',
    "an open file that fixtool inherits": 'exec 9<"$1"; rm "$1"; shift; exec "$@"',
    "a variable of the shell that is not exported": 'held=$(cat "$1"); rm "$1"; shift; "$@"; rc=$?; : $held; exit $rc',
    "git's configuration in variables": 'held=$(cat "$1"); rm "$1"; shift; export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraHeader'
    ' GIT_CONFIG_VALUE_0="Authorization: $held"; "$@"; exit $?',
    "a credential helper in git's variables": 'held=$(cat "$1"); rm "$1"; shift; export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=credential.helper'
    ' GIT_CONFIG_VALUE_0="!echo username=x; echo password=$held;:"; "$@"; exit $?',
    "a program that GIT_ASKPASS names": 'printf "#!/bin/sh\\necho %s\\n" "$(cat "$1")" > "$1.sh"; chmod 700 "$1.sh"; rm "$1";'
    ' export GIT_ASKPASS="$1.sh"; shift; "$@"; exit $?',
    "a parent's command line and environment, in CI": 'held=$(cat "$1"); rm "$1"; shift; exec env RUNNER_TOKEN="$held" "$@"',
}  # fmt: skip


def holder(script: str) -> Callable[[Place], Ran]:
    """The token is where a shell, or the process around fixtool, holds it."""

    def attempt(place: Place) -> Ran:
        log = put_spy(place)
        secret = place.out / "secret"
        secret.write_text(TOKEN + "\n")
        command = ["bash", "-c", script, "bash", str(secret), *command_line(*verify(place))]
        done = subprocess.run(
            command, cwd=place.team.root, env={**os.environ, **place.environment()}, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        (place.out / "secret.sh").unlink(missing_ok=True)
        finds_none(log)
        leaves_none(place)
        return Ran(done.returncode, done.stdout, done.stderr)

    return attempt


WITHOUT_LANDLOCK = """\
import ctypes, os, struct, sys
# A filter of system calls, by which landlock_create_ruleset does not exist.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7FFF0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))
program = Program(len(steps), ctypes.addressof(text))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def without_landlock(variable: str, *words: str) -> Callable[[Place], Ran]:
    """On a kernel without Landlock, fixtool warns, and the probe's own environment is still clean."""

    def attempt(place: Place) -> Ran:
        log = put_spy(place, OWN_VARIABLES)
        place.commit_all()
        given = verify(place) if words == ("verify",) else (*words, "--source", place.up.path)
        command = [sys.executable, "-c", WITHOUT_LANDLOCK, *command_line(*given)]
        done = subprocess.run(
            command, cwd=place.team.root, check=False, capture_output=True, text=True,
            env={**os.environ, **place.environment(), variable: TOKEN},
        )  # fmt: skip
        if not re.search(rf"^warning: .* could read .*{variable}", done.stderr, re.MULTILINE):
            raise Wrong(f"it does not warn: {done.stderr[:200]}")
        own = [found for found in (finds(log) if log.exists() else ()) if variable in found]
        if own or TOKEN in done.stdout + done.stderr:
            raise Wrong(f"the probe got it, or it was printed: {own}")
        leaves_none(place)
        return Ran(done.returncode, done.stdout, done.stderr)

    return attempt


def leaves_none(place: Place) -> None:
    for folder in (place.state, place.cache, place.team.root):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink() and TOKEN.encode() in file.read_bytes():
                raise Wrong(f"the token is in {Path(file).relative_to(place.root)}")


def login(form: str, verb: str) -> Callable[[Place], Ran]:
    """A login in an address is neither printed nor stored."""

    def attempt(place: Place) -> Ran:
        url = form.replace("TOKEN", TOKEN)
        if verb == "apply":
            ran = place.run(
                "apply", "--no-build", "--source", url, "--sglang-ref", "v1.0", FIXTOOL_TIMEOUT="2"
            )
        elif verb == "index":
            place.env["PIP_INDEX_URL"] = url
            ran = place.run("apply", "--no-build", "--source", "pypi", "--sglang-ref", "1.0")
        else:
            ran = place.run("init", place.out / "new", "--upstream", url, "--base", "a" * 40)
        if TOKEN in ran.out + ran.err:
            raise Wrong("the token was printed")
        leaves_none(place)
        return ran

    return attempt


def attacks() -> Iterator[Attack]:
    for variable in ("GITHUB_TOKEN", "MY_SECRET", "AWS_SECRET_ACCESS_KEY"):
        yield Attack(
            "patch repository",
            "verify --prove",
            f"a probe looks for {variable}",
            probe(variable),
            "held",
        )
    for what, script in HOLDERS.items():
        who, attempt = "patch repository", holder(script)
        yield Attack(who, "verify --prove", f"a probe looks for a token in {what}", attempt, "held")
    for variable, words in {
        "GITHUB_TOKEN": ("verify",),
        "AWS_SECRET_ACCESS_KEY": ("rebase", "--onto", "v1.1", "--probe", "--dry-run", "--python", sys.executable),
        "MY_PASSWORD": ("upstream", "fix", "--onto", "v1.1"),
    }.items():  # fmt: skip
        attempt = without_landlock(variable, *words)
        yield Attack(
            "upstream tree", words[0], f"no Landlock, and {variable} is set", attempt, "held"
        )
    for form in ("http://me:TOKEN@127.0.0.1:1/x", "http://TOKEN@127.0.0.1:1/x", "https://x-access-token:TOKEN@127.0.0.1:1/x.git",
                 "ssh://me:TOKEN@127.0.0.1:1/x", "http://me:TOKEN@127.0.0.1:1/x\ny", "ftp://me:TOKEN@127.0.0.1:1/x", "git+ssh://me:TOKEN@127.0.0.1:1/x",
                 "me:TOKEN@127.0.0.1:x", "https://me%3ATOKEN@127.0.0.1:1/x", "https://127.0.0.1:1/x?private_token=TOKEN", "https://me:a/TOKEN@127.0.0.1:1/x",
                 "https%3A%2F%2Fme%3ATOKEN%40127.0.0.1%3A1%2Fx"):  # fmt: skip
        for verb in ("apply", "init", "index"):
            yield Attack("colleague", verb, f"a login in {form!r}", login(form, verb))
