"""kernel_walk.py FILE: how many steps torch.compile takes through each routing kernel of a file.

Torch finds out which arguments a kernel reads and writes by walking back from each address, once along
every path. That is so from torch 2.13 on (https://github.com/pytorch/pytorch/issues/193703). This counts
the steps without taking them, and prints them as JSON. It needs no GPU, and a process in which Triton
has not interpreted.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any
from unittest import mock

import torch
import triton
from torch._higher_order_ops import triton_kernel_wrap
from triton.backends.compiler import GPUTarget

from verify.routing.load import load_kernel
from verify.routing.variants import variants_of

TOKENS, EXPERTS, WINNERS = 5000, 128, 8
MEMORY = {"tt.load", "tt.store"}


def steps(kernel: Any, rows: int) -> int:
    """The steps of all walks through one kernel, for bf16 logits."""
    given: dict[str, Any] = {
        "logits_ptr": torch.empty(TOKENS, EXPERTS, dtype=torch.bfloat16),
        "scale_ptr": torch.empty(EXPERTS),
        "weights_ptr": torch.empty(TOKENS, WINNERS),
        "ids_ptr": torch.empty(TOKENS, WINNERS, dtype=torch.int32),
        "num_tokens": TOKENS, "stride_t": EXPERTS, "E": EXPERTS, "K": WINNERS, "ROWS": rows,
    }  # fmt: skip
    ttir, _ = triton_kernel_wrap.generate_ttir(kernel, given, {})
    functions = triton_kernel_wrap.ttir_to_functions(ttir)

    @functools.cache
    def walks(name: str) -> tuple[frozenset[int], int]:
        """The arguments of a function that its walks reach, and the steps of the walks in it."""
        operations = functions[name]

        @functools.cache
        def walk(value: Any) -> tuple[frozenset[int], int]:
            if isinstance(value, triton_kernel_wrap.Param):
                return frozenset([value.idx]), 1
            if not isinstance(value, triton_kernel_wrap.Intermediate) or value.fake():
                return frozenset(), 1
            found = [walk(arg) for operation in operations[value] for arg in operation.args]
            return frozenset[int]().union(*(reached for reached, _ in found)), 1 + sum(n for _, n in found)  # fmt: skip

        begun = []
        for operation in [each for group in operations.values() for each in group]:
            if operation.name in MEMORY:
                begun.append(operation.args[0])
            elif operation.name == "tt.call":
                reached, _ = walks(operation.fn_call_name)
                begun += [arg for number, arg in enumerate(operation.args) if number in reached]
        found = [walk(value) for value in begun]
        return frozenset[int]().union(*(reached for reached, _ in found)), sum(n for _, n in found)

    return sum(walks(name)[1] for name in functions)


def main(file: str) -> None:
    sys.setrecursionlimit(100_000)
    module = load_kernel(file)
    driver = mock.Mock()
    driver.active.get_current_target.return_value = GPUTarget("cuda", 90, 32)
    with mock.patch.object(triton.runtime, "driver", driver):
        found = {name: steps(row[0], row[-2]) for name, row in variants_of(module).items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
