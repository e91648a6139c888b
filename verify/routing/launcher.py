"""What a launcher is made of: the Triton kernels that it starts, and the batches that it takes.

A launcher is a Python function that starts kernels, such as `gemma4_fused_routing`. That it was called,
or gave an answer, does not prove that its kernel ran; so checks count the launches themselves. Standard
library only, since the recorder in a live server imports this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

CHAIN = "gemma4_router_chain"


def kernels_of(launcher: Any) -> list[Any]:
    """The Triton kernels that a launcher names, by themselves or in a table of tuples, each once."""
    function = inspect.unwrap(launcher)
    code = getattr(function, "__code__", None)
    named = [function.__globals__.get(name) for name in code.co_names] if code is not None else []
    kernels: list[Any] = []
    while named:
        value = named.pop()
        if isinstance(value, tuple):
            named.extend(value)
        elif _is_kernel(value) and not any(value is kernel for kernel in kernels):
            kernels.append(value)
    return kernels


def _is_kernel(value: Any) -> bool:
    return type(value).__module__.startswith("triton.") and callable(getattr(value, "run", None))


def on_launch(kernel: Any, count: Callable[[], None]) -> None:
    """Have ``count`` called at each launch of the kernel from now on. Raises AttributeError if the
    kernel does not allow it."""
    run = kernel.run

    def counted(*args: Any, **kwargs: Any) -> Any:
        count()
        return run(*args, **kwargs)

    kernel.run = counted


@contextmanager
def count_launches(launcher: Any) -> Iterator[list[str]]:
    """Yield a list that grows by the name of a kernel at each launch of one that the launcher names."""
    launches: list[str] = []
    kernels = kernels_of(launcher)
    before = [kernel.run for kernel in kernels]
    try:
        for kernel in kernels:
            name = getattr(getattr(kernel, "fn", None), "__name__", "a kernel")
            on_launch(kernel, partial(launches.append, name))
        yield launches
    finally:
        for kernel, run in zip(kernels, before, strict=True):
            kernel.run = run


def defines_chain(file: Path) -> bool:
    """Whether this file of a tree defines the launcher of the router's chain."""
    if file.suffix != ".py" or not file.is_file():
        return False
    return f"\ndef {CHAIN}(" in file.read_text(encoding="utf-8", errors="replace")


def most_tokens(chain: Any) -> int:
    """The most tokens of a batch that this launcher of the router's chain takes."""
    return int(inspect.unwrap(chain).__globals__["_CHAIN_TILES"][-1][0])
