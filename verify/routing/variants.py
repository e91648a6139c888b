"""Which of its kernels a launcher chooses for a batch, and how to make it take another.

The launcher of our series chooses by a table, `_ROUTING_KERNELS`. A row holds a kernel, the least
number of tokens, the most experts, winners and bytes a logit, and tokens and warps a program; a batch
takes the first row that it fits. A variant is such a row, named by what its kernel does ("heads" for
`_routing_by_heads_kernel`). LARGE is the whole table without its least numbers of tokens. A file
without a table has no variants.
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
NEVER_FORCED = ("refuse", "variants", "names")  # executions for which no variant is forced


def variants_of(module: ModuleType) -> dict[str, tuple[Any, ...]]:
    """The rows of a kernel module's table, by the variant's name."""
    return {
        row[0].__name__.removeprefix("_routing_by_").removesuffix("_kernel"): row
        for row in getattr(module, TABLE, ())
    }


def reachable(module: ModuleType, case: Case) -> dict[str, int]:
    """The variants that batches of the case's shape can take, each with its least number of tokens."""
    reached: dict[str, int] = {}
    for name, (_, tokens, experts, topk, size, *_) in variants_of(module).items():
        if case.experts <= experts and case.topk <= topk and DTYPES[case.dtype].itemsize <= size:
            reached[name] = tokens
            if tokens <= 1:
                break
    return reached


def chosen(module: ModuleType, case: Case) -> str:
    """The variant that the case takes; "" if the module has no table."""
    if case.variant not in ("", LARGE):
        return case.variant
    for name, least in reachable(module, case).items():
        if case.variant == LARGE or case.tokens >= least:
            return name
    return ""


def with_every_variant(module: ModuleType, cases: list[Case]) -> list[Case]:
    """Each case, followed by a copy for every other variant that its shape can reach, forced."""
    expanded = []
    for case in cases:
        expanded.append(case)
        if case.variant or case.execution.split(" ")[0] in NEVER_FORCED or not case.tokens:
            continue
        expanded += [
            dataclasses.replace(case, name=f"{case.name} by {name}", variant=name)
            for name in reachable(module, case)
            if name != chosen(module, case)
        ]
    return expanded


def forced_table(module: ModuleType, variant: str, *tile: int) -> tuple[tuple[Any, ...], ...]:
    """A table by which ``variant`` takes every batch, whatever its number of tokens.

    For LARGE all variants do. ``tile`` replaces the tokens and warps a program. Raises KeyError if
    there is no such variant.
    """
    rows = variants_of(module)
    return tuple(
        (kernel, 1, *limits, *(tile or (tokens, warps)))
        for kernel, _, *limits, tokens, warps in (
            rows.values() if variant == LARGE else [rows[variant]]
        )
    )


@contextmanager
def forced(module: ModuleType, variant: str, *tile: int) -> Iterator[None]:
    """Have the launcher choose by `forced_table`; "" changes nothing."""
    if not variant or not hasattr(module, TABLE):
        yield
        return
    with mock.patch.object(module, TABLE, forced_table(module, variant, *tile)):
        yield
