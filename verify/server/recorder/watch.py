"""Installs the recorder, and float32 computation if it is wanted, once SGLang's modules are imported.

The hook imports this in every Python process of a server.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

OnImport = Callable[[ModuleType], Any]


def watch_imports(folder: str) -> None:
    """Install both when their modules are imported, and write this process's stacks on SIGUSR1."""
    recorder = _load_beside("recorder")
    evidence = recorder.EvidenceFile(folder)
    stacks = open(os.path.join(folder, f"{os.getpid()}.stacks"), "a")  # noqa: SIM115
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    awaited: dict[str, OnImport] = {
        recorder.CALLER: lambda module: recorder.install(module, evidence)
    }
    if os.environ.get("FIXTOOL_FLOAT32"):
        float32 = _load_beside("float32")
        report = functools.partial(evidence.write, "native")
        for name in float32.OPS:
            awaited[name] = lambda module: float32.install(module, lambda name: report(layer=name))
    sys.meta_path.insert(0, _Watch(evidence, awaited))


def _load_beside(name: str) -> Any:
    """Load a module of this folder by its path, under a name that SGLang never looks for."""
    path = os.path.join(os.path.dirname(__file__), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"fixtool_live_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Watch:
    """An import finder that defers to the others, and calls back once an awaited module has run."""

    def __init__(self, evidence: Any, awaited: dict[str, OnImport]) -> None:
        self._evidence, self._awaited = evidence, awaited

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._awaited:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = spec.loader
                loader.exec_module = functools.partial(self._run, loader.exec_module)
                return spec
        return None

    def _run(self, run: OnImport, module: ModuleType) -> None:
        run(module)
        try:
            self._awaited[module.__name__](module)
        except Exception:
            self._evidence.write("error", at="install", traceback=traceback.format_exc())
