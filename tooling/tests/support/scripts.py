"""Loads a script of ci/ as a module: a start of Python for each question takes longer than the question."""

from __future__ import annotations

from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from support.repositories import ROOT


@cache
def load_script(path: str) -> ModuleType:
    """The script at a path below the repository, whose name needs no suffix."""
    name = path.replace("/", "_").replace("-", "_")
    spec = spec_from_loader(name, SourceFileLoader(name, str(ROOT / path)))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
