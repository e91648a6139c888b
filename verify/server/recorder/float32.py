"""Makes a server with float32 weights compute in float32.

On a GPU, SGLang's own kernels do not: its norms refuse ("failed to dispatch data type Float", seen on
an H100 at b0ce16d0c), and its fused experts round their sums to fp16. Each of these layers also has
``forward_native``, in PyTorch ops, for hosts without such kernels; here they take that. Routing,
attention and communication between GPUs are as in any server; `server/process.py` turns off TF32 in
Triton and cuBLAS.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

OPS = "sglang.srt.layers.utils.multi_platform"

_PLAIN = (
    "sglang.srt.layers.layernorm",
    "sglang.srt.layers.activation",
    "sglang.srt.layers.rotary_embedding",
)
_EXPERTS = "UnquantizedFusedMoEMethod"


def install(module: ModuleType, report: Callable[[str], None]) -> None:
    """Patch the dispatch of ``module``, which is OPS; ``report`` gets each changed layer's class name."""
    layer = module.MultiPlatformOp
    usual = layer.dispatch_forward
    reported: set[str] = set()

    def chosen(self: Any) -> Any:
        name = type(self).__name__
        if name == _EXPERTS:
            # Its own forward_native loops over all experts and waits for the GPU before each.
            from sglang.srt.layers.moe.fused_moe_native import fused_moe_forward_native as forward
        elif any(base.__module__.startswith(_PLAIN) for base in type(self).__mro__):
            forward = self.forward_native
        else:
            return usual(self)
        if name not in reported:
            reported.add(name)
            report(name)
        return forward

    layer.dispatch_forward = chosen
