"""Which of its kernels a launcher takes, and how to have it take another.

The launcher of our series picks by a table, `_ROUTING_KERNELS`: rows of a kernel, the least number of
tokens, the most experts, winners and bytes a logit, and tokens and warps a program; a batch takes the
first row that it fits. A path is such a row, named by what its kernel does ("heads" for
`_routing_by_heads_kernel`); LARGE is the whole table without its numbers of tokens. A file without a
table has no paths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

from verify.routing.cases import DTYPES, Case

TABLE = "_ROUTING_KERNELS"
LARGE = "large"
BY_THEMSELVES = ("refuse", "variants", "names")  # ways that no path is forced upon


def rows(module: ModuleType) -> dict[str, tuple[Any, ...]]:
    """The table of a kernel's module, by name of the path."""
    name = lambda kernel: kernel.__name__.removeprefix("_routing_by_").removesuffix("_kernel")
    return {name(row[0]): row for row in getattr(module, TABLE, ())}


def reached(module: ModuleType, case: Case) -> dict[str, int]:
    """The paths that batches like the case take, from how many tokens on."""
    found: dict[str, int] = {}
    for path, (_, tokens, experts, topk, size, *_) in rows(module).items():
        if case.experts <= experts and case.topk <= topk and DTYPES[case.dtype].itemsize <= size:
            found[path] = tokens
            if tokens <= 1:
                break
    return found


def taken(module: ModuleType, case: Case) -> str:
    """The path that the case takes; "" if the module has no table."""
    if case.path not in ("", LARGE):
        return case.path
    all_fit = case.path == LARGE
    fits = (
        path for path, least in reached(module, case).items() if all_fit or case.tokens >= least
    )
    return next(fits, "")


def spread(module: ModuleType, cases: list[Case]) -> list[Case]:
    """Each case, and after it the same once more for each path that it would take with other
    numbers of tokens, forced upon it."""
    found = []
    for case in cases:
        found.append(case)
        if case.path or case.way.split(" ")[0] in BY_THEMSELVES or not case.tokens:
            continue
        found += [
            dataclasses.replace(case, name=f"{case.name} by {path}", path=path)
            for path in reached(module, case)
            if path != taken(module, case)
        ]
    return found


def table(module: ModuleType, path: str, *tile: int) -> tuple[tuple[Any, ...], ...]:
    """One by which that path takes all that it is given, whatever its number of tokens, or of which
    all do (LARGE). ``tile`` gives other tokens and warps a program. Raises KeyError if there is no
    such path."""
    known = rows(module)
    return tuple(
        (kernel, 1, *limits, *(tile or (tokens, warps)))
        for kernel, _, *limits, tokens, warps in (
            known.values() if path == LARGE else [known[path]]
        )
    )


@contextmanager
def forced(module: ModuleType, path: str, *tile: int) -> Iterator[None]:
    """Within, the launcher goes by that `table`; "" changes nothing."""
    if not path or not hasattr(module, TABLE):
        yield
        return
    with mock.patch.object(module, TABLE, table(module, path, *tile)):
        yield
