"""Keeps credentials from code of others: probes, checks, tests, hooks and builds.

Such code runs as the user, and may read the user's files. Its environment holds no credential. On
Linux it also runs in a Landlock domain, in which a process cannot read the environment, the memory
or the open files of a process outside of it: not of fixtool, and not of the shell or the CI runner
that started fixtool with a token.

    python3 -I isolation.py COMMAND [ARGUMENT ...]

runs a command in such a domain. The module is also part of the probe kit, for GPU hosts.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_SECRET_NAMES = re.compile(
    r"TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR)|ASKPASS|COOKIE|JWT|_PAT$|_KEY"
    r"|^ACTIONS_|^VSCODE_GIT_IPC|^NETRC$",
    re.IGNORECASE,
)
# What is written to these files acts in later steps of the same job, which may have a secret.
_COMMAND_FILES = {"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE",
                  "GITHUB_STEP_SUMMARY"}  # fmt: skip
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
_PLACE = re.compile(r"[/~.]|\w+://[^@]*$")  # of a key, or of a server: no secret itself
_LONG = 16  # the number of characters from which on a secret is looked for in other variables

# Linux. The numbers of these system calls are the same on every architecture that Python runs on.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF, _VERSION = 444, 445, 446, 1
_REFER = 1 << 13  # the right to move files between folders
_OLDEST_ABI = 2  # with the first version, no domain can move a file to another folder
_SET_DUMPABLE, _GET_DUMPABLE, _DROP_BOUND, _NO_NEW_PRIVILEGES = 4, 3, 24, 38
# The capabilities of root that would lead out: SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN,
# PERFMON and BPF.
_CAPABILITIES = (16, 17, 19, 21, 38, 39)
_CAPABILITY_VERSION = 0x20080522


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environment`` that code of others may see: no variable whose name is that of a
    credential, none that repeats the value of one, and no address with its login. What belongs to
    the caller's git, or to later steps of a CI job, is left out too."""
    secret = {name for name in environment if _SECRET_NAMES.search(name)}
    values = {environment[name] for name in secret if len(environment[name]) >= _LONG}
    values = {value for value in values if not _PLACE.match(value)}
    return {
        name: _LOGIN.sub("", value)
        for name, value in environment.items()
        if name not in secret | _COMMAND_FILES
        and not name.startswith("GIT_")
        and not any(hidden_value in value for hidden_value in values)
    }


def exposed(environment: Mapping[str, str]) -> list[str]:
    """The credentials in ``environment`` that code of others could read in this process, or in the
    one that started it, because this kernel cannot keep it from that."""
    return [] if can_isolate() else sorted(filter(_SECRET_NAMES.search, environment))


def isolated(command: Sequence[str]) -> list[str]:
    """``command``, started in a domain of its own. It gets the same process id, exit code and
    signals. Where the kernel has no domains, it just runs."""
    return [sys.executable, "-I", "-S", str(Path(__file__).absolute()), *command]


def can_isolate() -> bool:
    """Whether the kernel keeps an isolated process from reading others."""
    return sys.platform == "linux" and _syscall(_CREATE_RULESET, None, 0, _VERSION) >= _OLDEST_ABI


def isolate() -> bool:
    """Move this process, and all that it will start, into a domain of its own, for good. Returns
    whether the kernel did. It must be called before the first thread starts."""
    if not can_isolate():
        return False
    # A domain restricts something. This one takes no right away: it has the one right that every
    # domain takes by default, for all files.
    rights = ctypes.c_uint64(_REFER)
    ruleset = _syscall(_CREATE_RULESET, ctypes.byref(rights), ctypes.sizeof(rights), 0)
    if ruleset < 0:
        return False
    top = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(_REFER, top)
        _drop_capabilities()
        return (
            _syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0) == 0
            and _prctl(_NO_NEW_PRIVILEGES, 1) == 0
            and _syscall(_RESTRICT_SELF, ruleset, 0) == 0
        )
    finally:
        os.close(top)
        os.close(ruleset)


@contextmanager
def hidden() -> Iterator[None]:
    """Keep this process unreadable for the user's other processes during the block, where the
    kernel has no domains. (Only root could then read it. Parents of this process stay readable.)"""
    if sys.platform != "linux":
        yield
        return
    before = _prctl(_GET_DUMPABLE, 0)
    _prctl(_SET_DUMPABLE, 0)
    try:
        yield
    finally:
        _prctl(_SET_DUMPABLE, 1 if before == 1 else 0)


def run(
    command: Sequence[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command that is, or starts, code of others, in ``folder``, with what it may see of
    ``environment``. No process of its group outlives it.

    Raises subprocess.TimeoutExpired after ``timeout`` seconds, OSError if it cannot be started.
    """
    with hidden():
        process = subprocess.Popen(
            isolated(command), cwd=folder, env=without_credentials(environment),
            text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """32 capabilities: those in effect, those permitted, and those inherited."""

    _fields_ = (("effect", ctypes.c_uint32), ("permitted", ctypes.c_uint32),
                ("inherited", ctypes.c_uint32))  # fmt: skip


def _drop_capabilities() -> None:
    """Give up what root could read other processes with. Without them nothing changes."""
    libc = ctypes.CDLL(None)
    header, sets = _Header(_CAPABILITY_VERSION, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        return
    for number in _CAPABILITIES:
        _prctl(_DROP_BOUND, number)
        half, others = sets[number // 32], ~(1 << number % 32)
        half.effect &= others
        half.permitted &= others
        half.inherited &= others
    libc.capset(ctypes.byref(header), sets)


def _syscall(number: int, *arguments: object) -> int:
    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    return int(call(ctypes.c_long(number), *words))


def _prctl(option: int, value: int) -> int:
    none = ctypes.c_ulong(0)
    words = (ctypes.c_ulong(value), none, none, none)
    return int(ctypes.CDLL(None).prctl(option, *words))


if __name__ == "__main__":
    isolate()
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
    except OSError as error:
        with suppress(OSError):
            os.write(2, f"{sys.argv[1]}: {error.strerror}\n".encode())
        raise SystemExit(127) from None
