"""Asks an interpreter what is installed in it and what it would import, and lets it compile.

The interpreter runs isolated (``-I``), so that neither the current folder nor ``PYTHONPATH`` can
bring code in. It imports nothing but the standard library: no package is loaded for an answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool import interpreter
from fixtool.documents import Field
from fixtool.errors import CannotRun, Refused

_FACTS = r"""
import importlib.machinery, importlib.metadata, importlib.util, json, os, re, site, sys
asked = json.loads(sys.argv[1])
# -I leaves the user's own site-packages out, which the interpreter has otherwise.
shared = sys.prefix == sys.base_prefix or any(
    path.startswith(sys.base_prefix + os.sep) and path.endswith("site-packages")
    for path in sys.path)
folder = site.getusersitepackages()
if asked["user"] and shared and os.path.isdir(folder):
    before = list(sys.path)
    site.addsitedir(folder)
    ends = ("site-packages", "dist-packages")
    at = next((n for n, path in enumerate(before) if path.endswith(ends)), len(before))
    sys.path[:] = before[:at] + sys.path[len(before):] + before[at:]
found, names = {}, []
for distribution in importlib.metadata.distributions(name=asked["project"]):
    path = os.path.realpath(str(distribution._path))
    record = distribution.read_text("RECORD")
    metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    version = re.search(r"(?m)^Version: *(\S+)", metadata)
    found.setdefault(path, {
        "path": os.path.abspath(str(distribution._path)), "version": version[1] if version else "",
        "direct_url": distribution.read_text("direct_url.json"), "record": record is not None})
    for line in (record or "").splitlines():
        match = re.match(r"([A-Za-z]\w*)(?:/__init__)?\.py,", line)
        names += [match[1]] if match else []
own = re.sub(r"[-_.]+", "_", asked["project"])
names = sorted(set(names) or {own}, key=lambda name: (name.lower() != own.lower(), name))
def place(spec):
    return spec.origin if spec and spec.has_location else None
imports = []
for name in names:
    try:
        origin = place(importlib.util.find_spec(name))
    except (ImportError, ValueError, AttributeError):
        origin = None
    first = None
    for entry in asked["first"]:
        there = place(importlib.machinery.PathFinder.find_spec(name, [entry]))
        first = first or (there and [entry, there])
    imports.append({"name": name, "origin": origin, "first": first})
print(json.dumps({"distributions": list(found.values()), "imports": imports,
    "cache_tag": sys.implementation.cache_tag or "", "prefix": sys.prefix}))
"""

_COMPILE = r"""
import json, py_compile, sys
failed = []
for source, target, shown, optimize, mode in json.load(open(sys.argv[1])):
    try:
        py_compile.compile(source, target, shown, True, optimize,
                           py_compile.PycInvalidationMode[mode])
    except py_compile.PyCompileError as error:
        failed.append([shown, str(error.exc_value)])
print(json.dumps(failed))
"""

_COMPARE = r"""
import json, marshal, sys
wrong = []
for source, cached, optimize in json.loads(sys.argv[1]):
    try:
        with open(cached, "rb") as file:
            code = marshal.loads(file.read()[16:])
        with open(source, "rb") as file:
            fresh = compile(file.read(), source, "exec", dont_inherit=True, optimize=optimize)
        same = code == fresh
    except (SyntaxError, ValueError, EOFError, TypeError):
        same = False
    wrong += [] if same else [cached]
print(json.dumps(wrong))
"""


@dataclass(frozen=True)
class Distribution:
    """A distribution that is installed. ``path`` is its folder of metadata; ``direct_url`` is the
    text of direct_url.json, None if it came from a package index."""

    path: str
    version: str
    direct_url: str | None
    record: bool


@dataclass(frozen=True)
class Imported:
    """The file ``origin`` that an import of ``name`` loads; None if there is none. ``first`` is an
    entry of the caller's own path, such as its current folder, and the file there that would be
    loaded instead."""

    name: str
    origin: str | None
    first: tuple[str, str] | None


@dataclass(frozen=True)
class Facts:
    """What an interpreter says of itself and of a project."""

    python: str
    distributions: tuple[Distribution, ...]
    imports: tuple[Imported, ...]
    cache_tag: str
    prefix: str


def ask(python: str, project: str, first: Sequence[str] = ()) -> Facts:
    """What ``python`` (a path or command) knows of the distribution ``project``. ``first`` are the
    folders that come before its own when the user runs it: the current one, ``PYTHONPATH``. Raises
    UsageError if there is no such interpreter, CannotRun if it does not work."""
    path = interpreter.absolute(python)
    user = "PYTHONNOUSERSITE" not in os.environ
    question = json.dumps({"project": project, "first": list(first), "user": user})
    process = interpreter.run([path, "-I", "-B", "-c", _FACTS, question])
    try:
        answer = Field(json.loads(process.stdout))
        return Facts(
            path, answer["distributions"].each(_distribution), answer["imports"].each(_imported),
            answer["cache_tag"].text(), answer["prefix"].text(),
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise CannotRun(
            f"{python} does not work as a Python interpreter: {interpreter.last_line(process)}",
            where=path,
            hint="name a python: --python PY",
        ) from error


@dataclass(frozen=True)
class ToCompile:
    """A source file, the bytecode to write, the path that tracebacks show, the level of
    optimization (-1: that of the interpreter) and the kind of check, as ``py_compile`` names it."""

    source: Path
    target: Path
    shown: Path
    optimize: int
    mode: str


def compile_files(python: str, files: Sequence[ToCompile], work: Path) -> None:
    """Let ``python`` compile ``files``; ``work`` is a path for the question. Raises Refused if a
    file is not valid for this interpreter."""
    if not files:
        return
    rows = [[str(file.source), str(file.target), str(file.shown), file.optimize, file.mode]
            for file in files]  # fmt: skip
    work.write_text(json.dumps(rows), "utf-8")
    process = interpreter.run([python, "-I", "-B", "-c", _COMPILE, str(work)])
    work.unlink()
    try:
        failed = json.loads(process.stdout)
    except ValueError as error:
        raise CannotRun(
            f"{python} cannot compile: {interpreter.last_line(process)}", where=python
        ) from error
    if failed:
        raise Refused(f"the patched file is not valid Python here: {failed[0][1]}",
                      where=str(failed[0][0]))  # fmt: skip


def stale_bytecode(python: str, files: Sequence[tuple[Path, Path, int]]) -> list[str]:
    """Those of ``files``, each a source, its bytecode and a level of optimization, whose bytecode
    is not what the source gives."""
    if not files:
        return []
    rows = json.dumps([[str(source), str(cached), level] for source, cached, level in files])
    process = interpreter.run([python, "-I", "-B", "-c", _COMPARE, rows])
    try:
        return list(Field(json.loads(process.stdout)).texts())
    except ValueError as error:
        raise CannotRun(
            f"{python} cannot compare bytecode: {interpreter.last_line(process)}", where=python
        ) from error


def _distribution(field: Field) -> Distribution:
    return Distribution(
        field["path"].text(), field["version"].text(), field["direct_url"].optional(Field.text),
        field["record"].flag(),
    )  # fmt: skip


def _imported(field: Field) -> Imported:
    first = field["first"].optional(Field.texts)
    return Imported(
        field["name"].text(), field["origin"].optional(Field.text),
        (first[0], first[1]) if first and len(first) == 2 else None,
    )  # fmt: skip
