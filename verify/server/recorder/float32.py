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

# Where a layer's implementation is chosen: in the first up to 0.5.20 or so, in the second at 0.5.23.
OPS = ("sglang.srt.layers.utils.multi_platform", "sglang.kernels.fused_op")
_CHOOSERS = {"MultiPlatformOp": "dispatch_forward", "BaseFusedOp": "_resolve_forward_method"}

_PLAIN = (
    "sglang.srt.layers.layernorm",
    "sglang.srt.layers.activation",
    "sglang.srt.layers.rotary_embedding",
)
_EXPERTS = "UnquantizedFusedMoEMethod"


def chooser(module: ModuleType) -> tuple[Any, str] | None:
    """The class of this module, which is one of OPS, and its method that chooses a layer's
    implementation; None if another module has it, as where the old name is kept for plugins."""
    for name, method in _CHOOSERS.items():
        layer = vars(module).get(name)
        if layer is not None and method in vars(layer):
            return layer, method
    return None


def install(module: ModuleType, report: Callable[[str], None]) -> None:
    """Patch the choice that is made in ``module``, which is one of OPS, if it is made there;
    ``report`` gets each changed layer's class name."""
    if (found := chooser(module)) is None or found[0].__module__ != module.__name__:
        return
    layer, method = found
    usual = getattr(layer, method)
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

    setattr(layer, method, chosen)
