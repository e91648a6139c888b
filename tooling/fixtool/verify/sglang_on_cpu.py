"""Lets SGLang be imported on a host without a GPU: stand-ins for the packages that it then lacks.

SGLang expects a CUDA host and imports, on its way to any model, packages that have no use without
one. There are three stand-ins, none near the code under test (a model's own modules, its routing,
its loader, the server's arguments):

torchvision
    Reads images. Its wheels on PyPI are built for CUDA, and beside a CPU build of PyTorch the
    import fails. SGLang and transformers only import names from it. Every name exists and refuses
    to be used. `InterpolationMode`, which transformers reads at import, is a real enumeration.
vllm._custom_ops.rotary_embedding
    SGLang's rotary embedding binds vLLM's kernel if it sees neither CUDA nor the CPU engine. The
    name exists and refuses to run. (SGLANG_USE_CPU_ENGINE=1 would avoid it at the base, but later
    trees then import a CPU build of sgl_kernel, which PyPI does not have.)
torch.compile
    A decorator that is used while modules are imported and loads Inductor: 3 s that no probe needs.
    The stand-in returns the function as it is.

On a host with a GPU there are no stand-ins: if a real package is missing, the environment is at
fault, and a script then says so.
"""

from __future__ import annotations

import enum
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from fixtool.verify.answer import BROKE, Answer, tree

_ENUM: Any = enum.Enum  # mypy takes literals alone
_RESAMPLING = ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")


def install() -> list[str]:
    """Put the stand-ins up, before anything of SGLang is imported. Returns their names.

    Warnings are switched off too: the import warns of each thing that a CPU lacks.
    """
    os.environ.pop("SGLANG_USE_CPU_ENGINE", None)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    # An import allocates a lot and frees next to nothing: collecting meanwhile costs a sixth of it.
    gc.disable()
    import torch

    if torch.cuda.is_available():
        return []
    stand_ins = []
    if torch.version.cuda is None or importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, _Torchvision())
        stand_ins.append("torchvision")
    torch.compile = _leave_eager
    return [*stand_ins, "torch.compile"]


def bind_rotary_embedding() -> list[str]:
    """Let a rotary embedding be constructed. Call it after the model's modules are imported: other
    modules of SGLang look for vLLM at import, and would behave differently if they found it.
    Returns the names of the stand-ins.
    """
    import torch

    if torch.cuda.is_available() or importlib.util.find_spec("vllm") is not None:
        return []
    package, ops = types.ModuleType("vllm"), types.ModuleType("vllm._custom_ops")
    package.__path__, package.__spec__ = [], importlib.machinery.ModuleSpec("vllm", None)
    ops.__spec__ = importlib.machinery.ModuleSpec("vllm._custom_ops", None)
    vars(ops)["rotary_embedding"] = _refusing("vllm._custom_ops.rotary_embedding")
    vars(package)["_custom_ops"] = ops
    sys.modules["vllm"], sys.modules["vllm._custom_ops"] = package, ops
    return ["vllm._custom_ops.rotary_embedding"]


def from_tree(name: str, absent: int = BROKE) -> types.ModuleType:
    """Import a module of SGLang from the tree under test, and from nowhere else.

    ``absent`` is the answer if the tree does not have it: DOES_NOT_APPLY for the module that a
    probe is about, BROKE for one that the probe only needs in order to look. Any other missing
    package is a fault of the environment, and so is an SGLang from elsewhere: these raise BROKE.
    """
    root = os.path.realpath(os.path.join(tree(), "python", "sglang"))
    try:
        package = importlib.import_module("sglang")
        if os.path.realpath(os.path.dirname(package.__file__ or "")) != root:
            raise Answer(
                BROKE, f"sglang comes from {package.__file__}, not from the tree at {root}"
            )
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        # The module itself, or a package above it: moved, or never there. If any other module of
        # SGLang is missing, the tree is not consistent, which says nothing about the bug.
        if missing.startswith("sglang.") and f"{name}.".startswith(f"{missing}."):
            raise Answer(absent, f"this tree has no {missing}") from error
        if missing.partition(".")[0] == "sglang":
            raise Answer(BROKE, f"{name} imports {missing}, which this tree lacks") from error
        raise Answer(
            BROKE, f"the environment lacks the package {missing}, which {name} imports"
        ) from error


def in_tree(file: str | None) -> str:
    """A file's path relative to the tree. It is not the real path, because a folder that does not
    differ from the base is a link to it."""
    return os.path.relpath(os.path.abspath(file or "?"), os.path.abspath(tree()))


def versions() -> dict[str, str]:
    """The Python and the packages that an answer depends on."""
    from importlib import metadata

    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("torch", "triton", "transformers"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions


def _refusing(name: str) -> type:
    """A class that cannot be called. It is a class because some names are subclassed, or used in
    annotations."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"{name} is a stand-in, and this host cannot run it")

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__module__": __name__})


class _Hollow(types.ModuleType):
    """A module in which every public name exists and refuses to be used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # the import system and `inspect` ask for many of these
            raise AttributeError(f"{self.__name__} (a stand-in) has no {name}")
        value: Any = _refusing(f"{self.__name__}.{name}")
        if name == "InterpolationMode":
            value = _ENUM(name, {mode: mode.lower() for mode in _RESAMPLING})
        setattr(self, name, value)
        return value


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and every module below it, as hollow modules."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run: `_Hollow` makes each name when it is asked for."""


def _leave_eager(model: Any = None, **_: Any) -> Any:
    """torch.compile as a decorator, with or without arguments: the function stays as it is."""
    return (lambda function: function) if model is None else model
