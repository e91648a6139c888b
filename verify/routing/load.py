"""Finds a tree's routing kernel by the name its caller uses, and loads its file alone.

SGLang moves modules about; Gemma4's model file always says where its kernel is. Loading the one file
by its path needs torch and triton, not SGLang's other packages.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

CALLER = "python/sglang/srt/models/gemma4_causal.py"
NAME = "gemma4_fused_routing"


def _module_file(tree: Path, module: str) -> Path | None:
    place = tree / "python" / Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def find(tree: str | Path) -> Path | None:
    """The file that defines the kernel's launcher in a tree; None if Gemma4 has none there.

    Follows ``from … import gemma4_fused_routing`` from the model's file, through re-exports. Raises
    ValueError if the trail leads nowhere.
    """
    tree = Path(tree)
    file: Path | None = tree / CALLER
    if not file.is_file():
        return None
    name = NAME
    for hop in range(5):
        parsed = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(one, ast.FunctionDef) and one.name == name for one in parsed.body):
            return file
        imports = [
            (one.module or "", alias.name)
            for one in ast.walk(parsed)
            if isinstance(one, ast.ImportFrom) and one.level == 0
            for alias in one.names
            if (alias.asname or alias.name) == name
        ]
        if not imports and hop == 0:
            return None
        if not imports:
            break
        module, name = imports[0]
        came_from, file = file, _module_file(tree, module)
        if file is None:
            raise ValueError(f"{came_from} imports {name} from {module}, which the tree lacks")
    raise ValueError(f"{file} neither defines {name} nor says where it is from")


def load(file: str | Path, name: str = "routing_under_test") -> ModuleType:
    """The module of that file. Raises whatever running it raises; AttributeError if it holds no
    ``gemma4_fused_routing``."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # triton looks a kernel's globals up here
    spec.loader.exec_module(module)
    getattr(module, NAME)
    return module


def blob(file: str | Path) -> str:
    """The git blob id of a file."""
    content = Path(file).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
