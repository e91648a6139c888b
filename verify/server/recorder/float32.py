"""Has a server of float32 weights compute in float32.

On a GPU, SGLang's own kernels do not: its norms refuse ("failed to dispatch data type Float", seen on
an H100 at b0ce16d0c), and its fused experts round what they have summed up to fp16. But each of these
layers has the same in PyTorch ops, ``forward_native`` for hosts without such kernels, and takes it
here. Routing, attention and what goes between GPUs are as in any server; `serving.py` has Triton and
cuBLAS leave out TF32.
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


def install(module: ModuleType, say: Callable[[str], None]) -> None:
    """Choose for the layers of ``module``, which is OPS; ``say`` hears the name of each kind."""
    layer = module.MultiPlatformOp
    usual = layer.dispatch_forward
    said: set[str] = set()

    def chosen(self: Any) -> Any:
        name = type(self).__name__
        if name == _EXPERTS:
            # Its own forward_native loops over all experts and waits for the GPU before each.
            from sglang.srt.layers.moe.fused_moe_native import fused_moe_forward_native as forward
        elif type(self).__module__.startswith(_PLAIN):
            forward = self.forward_native
        else:
            return usual(self)
        if name not in said:
            said.add(name)
            say(name)
        return forward

    layer.dispatch_forward = chosen
