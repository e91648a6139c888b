"""Sees to the recorder, and to float32 where it is asked for, once the module that each is about has
been imported. The hook brings this into every Python process of a server."""

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

Then = Callable[[ModuleType], Any]


def watch_imports(folder: str) -> None:
    """Wait for those modules, and let boot.py ask for this process's stacks (SIGUSR1)."""
    recorder = _beside("recorder")
    evidence = recorder.Evidence(folder)
    stacks = open(os.path.join(folder, f"{os.getpid()}.stacks"), "a")  # noqa: SIM115
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    awaited: dict[str, Then] = {recorder.CALLER: lambda one: recorder.install(one, evidence)}
    if os.environ.get("FIXTOOL_FLOAT32"):
        float32 = _beside("float32")
        say = functools.partial(evidence.say, "native")
        awaited[float32.OPS] = lambda one: float32.install(one, lambda name: say(layer=name))
    sys.meta_path.insert(0, _Watch(evidence, awaited))


def _beside(name: str) -> Any:
    """A module of this folder, by path: nothing of fixtool's becomes importable by a name that
    SGLang might look for."""
    path = os.path.join(os.path.dirname(__file__), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"fixtool_live_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Watch:
    """A finder that finds what the others find, and looks once an awaited module has run."""

    def __init__(self, evidence: Any, awaited: dict[str, Then]) -> None:
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

    def _run(self, run: Then, module: ModuleType) -> None:
        run(module)
        try:
            self._awaited[module.__name__](module)
        except Exception:
            self._evidence.say("error", at="install", traceback=traceback.format_exc())
