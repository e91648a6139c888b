"""Finds the routing kernel of a tree by the name that its caller imports, and loads its file alone.

SGLang moves modules about, but Gemma 4's model file always imports the kernel. Loading that one file
by its path needs torch and triton, and none of SGLang's other packages.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

CALLER = "python/sglang/srt/models/gemma4_causal.py"
LAUNCHER = "gemma4_fused_routing"


def _module_file(tree: Path, module: str) -> Path | None:
    path = tree / "python" / Path(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def find_kernel(tree: str | Path) -> Path | None:
    """Return the file that defines the kernel's launcher in a tree, or None if Gemma 4 has none there.

    Follows ``from … import gemma4_fused_routing`` from the model's file through re-exports. Raises
    ValueError if an import leads to no definition.
    """
    tree = Path(tree)
    file = tree / CALLER
    if not file.is_file():
        return None
    name = LAUNCHER
    for hop in range(5):
        module_ast = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == name for node in module_ast.body):
            return file
        imports = [
            (node.module or "", alias.name)
            for node in ast.walk(module_ast)
            if isinstance(node, ast.ImportFrom) and node.level == 0
            for alias in node.names
            if (alias.asname or alias.name) == name
        ]
        if not imports and hop == 0:
            return None
        if not imports:
            break
        module, name = imports[0]
        if (imported := _module_file(tree, module)) is None:
            raise ValueError(f"{file} imports {name} from {module}, which the tree lacks")
        file = imported
    raise ValueError(f"{file} neither defines {name} nor imports it")


def load_file(file: str | Path, name: str) -> ModuleType:
    """Return the module of a Python file, imported under ``name``. Raises whatever running it raises."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # triton looks a kernel's globals up here
    spec.loader.exec_module(module)
    return module


def load_kernel(file: str | Path, name: str = "routing_under_test") -> ModuleType:
    """Return the module of that file, imported under ``name``. Raises whatever running it raises,
    and AttributeError if it has no ``gemma4_fused_routing``."""
    module = load_file(file, name)
    getattr(module, LAUNCHER)
    return module
