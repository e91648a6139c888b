"""The settings and environment of every call of git, and the communication with its process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

PINNED = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.safecrlf": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.quotePath": "true",
    "core.checkStat": "default",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "apply.whitespace": "nowarn",
    "apply.ignoreWhitespace": "no",
    "merge.conflictStyle": "diff3",
    "merge.renames": "true",
    "merge.directoryRenames": "conflict",
    "diff.renames": "true",
    "diff.algorithm": "myers",
    "advice.detachedHead": "false",
    # A repository of somebody else, named as a source or lying inside another one, runs nothing.
    "safe.bareRepository": "explicit",
    "core.alternateRefsCommand": "true",
    "diff.ignoreSubmodules": "dirty",
    "submodule.recurse": "false",
    "log.showSignature": "false",
    "checkout.workers": "0",  # one a core: a tree of 5,600 files in 0.6 s instead of 0.8
}
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ADVICE": "0",
    "GIT_MERGE_AUTOEDIT": "no",
    "LC_ALL": "C",
    "TZ": "UTC",
}
ALLOWED_PROTOCOLS = "file:http:https:ssh:git"
"""For the repositories that may fetch. Any other repository reaches no remote, because its own
configuration could name a program for that, such as the uploadpack of a partial clone."""

_NETWORK_VARIABLES = {
    "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY", "GIT_SSH", "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_PROXY_SSL_CAINFO", "GIT_HTTP_USER_AGENT",
    "GIT_EXEC_PATH", "GIT_TRACE_CURL",
}  # fmt: skip
# What `git rev-parse --local-env-vars` lists, without the two that hold the user's own settings
# (GIT_CONFIG_COUNT and GIT_CONFIG_PARAMETERS).
_REPOSITORY_VARIABLES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG",
    "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
}  # fmt: skip


def command(own: Collection[str], caller: Iterable[str]) -> list[str]:
    """``git`` with the pinned settings.

    GitPython hands the environment of fixtool's ``caller`` down and can only add to it, so env(1)
    takes off what a hook or a shell has set: GIT_DIR, GIT_INDEX_FILE, GIT_EXTERNAL_DIFF. A variable
    of the call's ``own`` stays, because its value has replaced the caller's. (When it was taken off
    too, a private index turned into that of the `git commit` whose hook ran fixtool.)
    """
    foreign = sorted(name for name in caller if _is_foreign(name) and name not in own)
    settings = [word for key, value in PINNED.items() for word in ("-c", f"{key}={value}")]
    return [*_without(foreign), "git", *settings]


def command_of_user(caller: Iterable[str]) -> list[str]:
    """``git`` with the user's own settings, but in no repository that the caller is at work in."""
    return [*_without(sorted(_REPOSITORY_VARIABLES.intersection(caller))), "git"]


def _is_foreign(name: str) -> bool:
    return name.startswith("GIT_") and name not in _NETWORK_VARIABLES and name not in ENVIRONMENT


def _without(names: Sequence[str]) -> list[str]:
    return ["env", *(word for name in names for word in ("-u", name))] if names else []


def communicate(
    process: subprocess.Popen[bytes], stdin: bytes | None, hear: Callable[[str], None] | None
) -> tuple[bytes, bytes]:
    """Stdout and stderr of ``process``. ``hear`` gets stderr line by line while the process runs;
    it cannot be used with ``stdin``, whose pipe could fill up meanwhile."""
    try:
        if hear is None:
            return process.communicate(stdin)
        assert process.stderr is not None
        assert process.stdout is not None
        lines = []
        for line in iter(lambda: _read_line(process), b""):
            lines.append(line)
            hear(line.decode("utf-8", "replace").strip())
        stdout = process.stdout.read()
        process.wait()
        return stdout, b"".join(lines)
    except BaseException:
        process.terminate()  # an interrupted fixtool leaves no git running
        process.wait()
        raise


def _read_line(process: subprocess.Popen[bytes]) -> bytes:
    """One line of stderr. The lines of git's progress meters end with a carriage return."""
    assert process.stderr is not None
    line = bytearray()
    while byte := process.stderr.read(1):
        line += byte
        if byte in b"\r\n":
            break
    return bytes(line)


def remove_stale_locks(git_dir: Path, *names: str) -> None:
    """Remove the locks that a killed git left. One that is still running has a second to end."""
    for lock in (git_dir / f"{name}.lock" for name in names):
        with suppress(FileNotFoundError):
            while time.time() - lock.stat().st_mtime < 1:
                time.sleep(0.05)
            lock.unlink()
