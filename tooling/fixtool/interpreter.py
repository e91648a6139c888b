"""Other Python interpreters: the wheel tags that they take, and installing a wheel. Each one runs
in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from packaging import tags as wheel_tags

from fixtool.documents import Field
from fixtool.errors import CannotRun, UsageError
from fixtool.isolation import without_credentials
from fixtool.text import argument, split_lines

_LARGEST_VERSION = 99
_FACTS = """
import json, platform, sys, sysconfig
print(json.dumps({"name": sys.implementation.name, "version": sys.version_info[:2],
    "threads": sysconfig.get_config_var("Py_GIL_DISABLED") or 0, "libc": platform.libc_ver(),
    "debug": hasattr(sys, "gettotalrefcount"), "platform": sysconfig.get_platform()}))
"""


def interpreter_tags(python: str) -> tuple[str, ...]:
    """The wheel tags that ``python`` (a path or command) would install, best first. Raises
    UsageError if there is no such interpreter, CannotRun if it does not work."""
    path = absolute(python)
    process = run([path, "-I", "-c", _FACTS])
    try:
        facts = Field(json.loads(process.stdout))
        major, minor = facts["version"].each(_small)
        name, libc = facts["platform"].text(), facts["libc"].texts()
    except (ValueError, RecursionError) as error:
        raise CannotRun(
            f"{python} does not work as a Python interpreter: {last_line(process)}",
            where=path,
            hint="name a python: --python PY",
        ) from error
    version, platforms = (major, minor), _platforms(name, libc)
    if facts["name"].value != "cpython":
        return tuple(map(str, wheel_tags.compatible_tags(version, None, platforms)))
    free, debug = bool(facts["threads"].value), bool(facts["debug"].value)
    abi = f"cp{major}{minor}{'t' * free}{'d' * debug}"
    own = wheel_tags.cpython_tags(version, [abi], platforms)
    any_python = wheel_tags.compatible_tags(version, f"cp{major}{minor}", platforms)
    return tuple(dict.fromkeys(map(str, (*own, *any_python))))


def install(python: str, wheel: Path) -> None:
    """Install ``wheel`` into the environment of ``python`` without its dependencies, over an older
    version. Raises CannotRun if pip fails."""
    process = run(
        [absolute(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--force-reinstall", "--no-input", "--disable-pip-version-check", str(wheel.absolute())]
    )  # fmt: skip
    if process.returncode != 0:
        hint = f"read the whole message: {python} -m pip install --no-deps {wheel}"
        if "No module named pip" in process.stderr:
            hint = f"{python} -m ensurepip"
        raise CannotRun(
            f"{python} could not install {wheel.name}: {last_line(process)}",
            where=str(wheel),
            hint=hint,
        )


def absolute(python: str) -> str:
    """The absolute path of an interpreter. Symlinks are not followed: the python of a virtual
    environment is one. Raises UsageError if there is none."""
    if path := shutil.which(python):
        return str(Path(path).absolute())
    inside = Path(python) / "bin" / "python"  # of a virtual environment
    hint = f"--python {argument(inside)}" if inside.is_file() else "--python PY"
    raise UsageError(f"no interpreter {python!r}", hint=f"give the path of a python: {hint}")


def run(command: Sequence[str], *, credentials: bool = False) -> subprocess.CompletedProcess[str]:
    """The finished process of ``command``. Only a program that runs no code of others, and needs
    the login of a package index, may see ``credentials`` in its environment. Raises CannotRun if it
    cannot be started."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, errors="replace",
            cwd=os.sep,  # otherwise python -m would import from the current folder
            env=dict(os.environ) if credentials else without_credentials(os.environ),
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise CannotRun(f"cannot run {command[0]}: {error.strerror}", where=command[0]) from error


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """The line of its output that says why a process failed: the last error, else the last line."""
    lines = [line.strip() for line in split_lines(process.stderr or process.stdout)]
    errors = [
        line
        for line in lines
        if line.lower().startswith("error") and "subprocess-exited" not in line  # pip's own frame
    ]
    return (errors or [line for line in lines if line] or [f"exit {process.returncode}"])[-1]


def _small(field: Field) -> int:
    """A part of an interpreter's version; there is a tag for each number below it."""
    if field.count() > _LARGEST_VERSION:
        raise field.wrong("a part of a version")
    return field.count()


def _platforms(name: str, libc: Sequence[str]) -> list[str]:
    """The platform tags of an interpreter with this platform ``name`` and ``libc``."""
    if name == sysconfig.get_platform() and tuple(libc) == platform.libc_ver():
        return list(wheel_tags.platform_tags())
    plain = re.sub(r"[-.]", "_", name)
    match = re.match(r"(\d{1,2})\.(\d{1,2})", "".join(libc[1:2]))
    if not plain.startswith("linux_") or not match:
        return [plain]
    arch = plain.removeprefix("linux_")
    newest = int(match[2])
    return [*(f"manylinux_{match[1]}_{minor}_{arch}" for minor in range(newest, 4, -1)), plain]
