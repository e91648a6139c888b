"""The settings and environment of every call of git, and the communication with its process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtool.errors import CannotRun
from fixtool.text import argument

if TYPE_CHECKING:
    from concurrent.futures import Executor

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
    "LANGUAGE": "C",
    "LC_ALL": "C",
    "TZ": "UTC",
}
_GRACE = 10  # seconds
_FAREWELL = 1.0  # seconds that a process has which nobody holds any more
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


class _Process(subprocess.Popen[bytes]):
    """A process that ends when nobody holds it any more. An interrupt may come before the caller
    could see to that: also while the process is being made."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        _processes.add(self)
        super().__init__(words, **options)

    def wait(self, timeout: float | None = None) -> int:
        """As Popen's, which with a time limit would look again and again whether it has ended."""
        if timeout is not None and self.returncode is None and hasattr(os, "pidfd_open"):
            until = time.monotonic() + timeout
            with suppress(OSError):
                ended = os.pidfd_open(self.pid)
                try:
                    poll = select.poll()
                    poll.register(ended, select.POLLIN)
                    poll.poll(timeout * 1000)
                finally:
                    os.close(ended)
            timeout = max(until - time.monotonic(), 0)
        return super().wait(timeout)

    def __del__(self, *_: Any) -> None:
        if is_running(self):
            with suppress(OSError, subprocess.TimeoutExpired):
                self.terminate()
                self.wait(_FAREWELL)
        super().__del__()


_processes: weakref.WeakSet[_Process] = weakref.WeakSet()


def is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process was made, and is not known to have ended."""
    return getattr(process, "pid", None) is not None and process.returncode is None


def end_all() -> None:
    """End every git that still runs: fixtool was interrupted."""
    for process in list(_processes):
        if is_running(process):
            end(process)


def start(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: int | None
) -> subprocess.Popen[bytes]:
    """Start git, with ``words`` after its name, in ``folder``. Raises CannotRun if there is none.

    GitPython has a call for this too, but to import it takes longer than most commands.
    """
    try:
        return _Process(
            ["git", *words],
            cwd=folder if os.access(folder, os.X_OK) else None,
            env=environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise CannotRun("git is not on PATH", hint="install git 2.38 or newer") from error


def pinned() -> list[str]:
    """The words that give git the pinned settings."""
    return [word for key, value in PINNED.items() for word in ("-c", f"{key}={value}")]


def environment(own: Mapping[str, str], caller: Mapping[str, str]) -> dict[str, str]:
    """The environment of a call: that of fixtool's ``caller`` without what a hook or a shell has
    set (GIT_DIR, GIT_INDEX_FILE, GIT_EXTERNAL_DIFF), and then the variables of the call's ``own``.
    (When an own variable was taken off with the caller's, a private index turned into that of the
    `git commit` whose hook ran fixtool.)
    """
    return {name: value for name, value in caller.items() if not _is_foreign(name)} | dict(own)


def environment_of_user(caller: Mapping[str, str]) -> dict[str, str]:
    """The environment of a call with the user's own settings, but in no repository that the caller
    is at work in."""
    kept = {name: value for name, value in caller.items() if name not in _REPOSITORY_VARIABLES}
    return kept | {"LANGUAGE": "C", "LC_ALL": "C"}


def _is_foreign(name: str) -> bool:
    return name.startswith("GIT_") and name not in _NETWORK_VARIABLES and name not in ENVIRONMENT


def communicate(
    process: subprocess.Popen[bytes],
    stdin: bytes | None,
    hear: Callable[[str], None] | None,
    limit: float,
) -> tuple[bytes, bytes]:
    """Stdout and stderr of ``process``. ``hear`` gets stderr line by line while the process runs;
    it cannot be used with ``stdin``, whose pipe could fill up meanwhile.

    Raises TimeLimit if the process does not end within ``limit`` seconds, and KeyboardInterrupt if
    it was interrupted, as fixtool then is too.
    """
    try:
        with known_to_its_pool(process):
            if hear is None:
                stdout, stderr = process.communicate(stdin, limit)
            else:
                stdout, stderr = _hear_lines(process, hear, limit)
    except subprocess.TimeoutExpired as error:
        end(process)
        raise TimeLimit from error
    except BaseException:
        end(process)  # an interrupted fixtool leaves no git running
        raise
    if process.returncode in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP):
        raise KeyboardInterrupt
    return stdout, stderr


class TimeLimit(Exception):
    """A process did not end in time, and was ended."""


class _Pool:
    """The processes that the threads of one pool run now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.over = False

    def end(self) -> None:
        """End all of them. One that starts from now on is ended by its own thread."""
        with self.lock:
            self.over = True
            processes = list(self.processes)
        for process in processes:
            process.terminate()
        for process in processes:
            end(process)


_thread = threading.local()


@contextmanager
def pool() -> Iterator[Executor]:
    """Threads that call git side by side. If an exception leaves the block, such as that of an
    interrupt, the gits of all threads are ended and no further one starts: the end of the block
    waits for the threads, and an interrupt reaches only the main one."""
    from concurrent.futures import ThreadPoolExecutor  # it imports logging, which few runs need

    running = _Pool()

    def join() -> None:
        _thread.pool = running

    with ThreadPoolExecutor(os.cpu_count() or 1, initializer=join) as threads:
        try:
            yield threads
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            running.end()
            raise


@contextmanager
def known_to_its_pool(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the pool of this thread, if it is one of a pool's, end ``process`` at an interrupt: the
    thread may wait for it."""
    running: _Pool | None = getattr(_thread, "pool", None)
    if running is None:
        yield
        return
    with running.lock:
        if running.over:
            raise KeyboardInterrupt
        running.processes.add(process)
    try:
        yield
    finally:
        with running.lock:
            running.processes.discard(process)


def _hear_lines(
    process: subprocess.Popen[bytes], hear: Callable[[str], None], limit: float
) -> tuple[bytes, bytes]:
    """Stdout and stderr of ``process``. ``hear`` gets each line of stderr when it comes. Such a
    read has no time limit, so another thread ends the process after ``limit`` seconds."""
    assert process.stderr is not None
    assert process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        end(process)

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    lines = []
    try:
        for line in iter(lambda: _read_line(process), b""):
            lines.append(line)
            hear(line.decode("utf-8", "replace").strip())
        stdout = process.stdout.read()
        process.wait()
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeLimit
    return stdout, b"".join(lines)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, which has some seconds to remove its locks, and what it has started."""
    started = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in started:  # otherwise a connection that hangs keeps the pipes open
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def _descendants(pid: int) -> list[int]:
    """The children of a process, and theirs, as far as /proc tells."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
    found = [pid]
    for parent in found:  # which grows meanwhile
        found += [child for child, above in parents.items() if above == parent]
    return found[1:]


def _read_line(process: subprocess.Popen[bytes]) -> bytes:
    """One line of stderr. The lines of git's progress meters end with a carriage return."""
    assert process.stderr is not None
    line = bytearray()
    while byte := process.stderr.read(1):
        line += byte
        if byte in b"\r\n":
            break
    return bytes(line)


def remove_stale_locks(git_dir: Path, work_tree: Path | None, *names: str) -> None:
    """Remove the locks that a killed git left in a repository. A git that still runs there has some
    seconds to end. Raises CannotRun if one goes on, or if this system does not tell: its lock is
    not ours to take."""
    for path in (git_dir / f"{name}.lock" for name in names):
        deadline = time.monotonic() + _GRACE
        while (before := _identity(path)) is not None:
            holder = _holder_of(path, git_dir, work_tree)
            if holder is None and before == _identity(path):
                path.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise _held(path, holder or "another program")
            else:
                time.sleep(0.05)


def wait_for_lock(git_dir: Path, work_tree: Path | None, name: str) -> None:
    """Return as soon as nobody holds a lock. Raises CannotRun if that takes more than seconds."""
    path, deadline = git_dir / f"{name}.lock", time.monotonic() + _GRACE
    while path.exists():
        if time.monotonic() > deadline:
            raise _held(path, _holder_of(path, git_dir, work_tree) or "another program")
        time.sleep(0.05)


def _holder_of(lock: Path, git_dir: Path, work_tree: Path | None) -> str | None:
    """The git that runs in a repository as the user to whom ``lock`` belongs, in words; None if
    there is none. (git closes its locks before it is done with them, and writes no id into them.)
    """
    try:
        owner = lock.stat().st_uid
        entries = list(Path("/proc").glob("[0-9]*/comm"))
    except OSError:
        return None
    if not entries:
        return "another program"  # this system does not tell
    places = [str(place.resolve()) for place in (git_dir, work_tree) if place]
    for entry in entries:
        with suppress(OSError):
            process = entry.parent
            if not entry.read_text("utf-8", "replace").startswith("git"):
                continue
            if process.stat().st_uid == owner and _works_in(process, places):
                return f"git (process {process.name})"
    return None


def _held(lock: Path, holder: str) -> CannotRun:
    """The error that says who holds a lock of git's."""
    return CannotRun(
        f"{holder} is at work in this repository: it holds {lock.name}",
        where=str(lock),
        hint=f"wait for it to end; if none runs any more: rm {argument(lock)}; "
        "then the same command again",
    )


def _works_in(process: Path, places: Sequence[str]) -> bool:
    """Whether a process was started for one of ``places`` or is in one, as far as we may know."""
    words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape")
    try:
        folder = str((process / "cwd").readlink())
    except PermissionError:
        return True
    return any(place in words or f"{folder}/".startswith(f"{place}/") for place in places)


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None
