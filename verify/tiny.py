"""Tiny Gemma 4 models for probes, the process groups that SGLang builds them in, and their routing.

Two layers of width 32: every module of the real models is there, but nothing is worth timing.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

from fixtool.verify.sglang_on_cpu import bind_rotary_embedding, from_tree, in_tree

NUM_EXPERTS, TOP_K = 4, 2


def text_config(**settings: Any) -> Any:
    """A `Gemma4TextConfig`: dense, with ``num_experts: null`` as in the MTP assistants."""
    from transformers import Gemma4TextConfig

    defaults: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16,
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
        "max_position_embeddings": 64, "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 0,
    }  # fmt: skip
    return Gemma4TextConfig(**{**defaults, **settings})


def moe_text_config(**settings: Any) -> Any:
    """The same with experts: the shape, though not the size, of 26B-A4B."""
    defaults = {
        "enable_moe_block": True, "num_experts": NUM_EXPERTS, "top_k_experts": TOP_K,
        "moe_intermediate_size": 16,
    }  # fmt: skip
    return text_config(**{**defaults, **settings})


def assistant_config() -> Any:
    """The MTP assistant of a target of width 48."""
    from transformers import Gemma4AssistantConfig

    return Gemma4AssistantConfig(text_config=text_config().to_dict(), backbone_hidden_size=48)


def one_rank() -> list[str]:
    """Make SGLang's real process groups of world size 1, and settings for a server without a model.

    Call it once the model's modules are imported. Returns the names of the stand-ins it installed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return one_stage(0, 1, f"tcp://127.0.0.1:{port}")


def one_stage(rank: int, stages: int, rendezvous: str) -> list[str]:
    """The same for rank ``rank`` of a pipeline of ``stages`` processes. They meet at the URL
    ``rendezvous``; returns once all of them are there."""
    import torch

    stand_ins = bind_rotary_embedding()
    cuda = torch.cuda.is_available()
    _publish("cuda" if cuda else "cpu", rank, stages)
    groups = from_tree("sglang.srt.distributed.parallel_state")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if cuda else "gloo"
    groups.init_distributed_environment(
        world_size=stages,
        rank=rank,
        local_rank=rank,
        distributed_init_method=rendezvous,
        backend=backend,
    )
    width = "pipeline_model_parallel_size"  # later trees read it from what is published
    takes_width = width in inspect.signature(groups.initialize_model_parallel).parameters
    groups.initialize_model_parallel(backend=backend, **{width: stages} if takes_width else {})
    return stand_ins


def _publish(device: str, rank: int, stages: int) -> None:
    """Publish server settings in the way that this tree expects."""
    arguments = from_tree("sglang.srt.server_args")
    settings = arguments.ServerArgs(model_path="dummy", device=device, pp_size=stages)
    if hasattr(settings, "resolve_once"):  # since 0.5.2x construction no longer resolves
        settings.resolve_once()
    try:
        context: Any = importlib.import_module("sglang.srt.runtime_context")  # since 0.5.14
    except ModuleNotFoundError:
        context = None
    if hasattr(context, "SpawnRanks"):  # since 0.5.21
        context.publish(settings, role="scheduler", ranks=context.SpawnRanks(world_rank=rank))
    elif hasattr(context, "publish"):  # since 0.5.17
        context.publish(settings, role="scheduler")
    else:
        arguments.set_global_server_args_for_scheduler(settings)
    utils = from_tree("sglang.srt.layers.moe.utils")
    takes_settings = utils.initialize_moe_config.__code__.co_argcount > 0
    utils.initialize_moe_config(*[settings] * takes_settings)


# --- routing ---------------------------------------------------------------------------------


@dataclass
class Routed:
    """The answer of one call of a routing function, and what it launched."""

    weights: Any
    ids: Any
    kernels: list[str]  # Triton launches, each as "name in file"
    operations: list[str]  # PyTorch operations that compute, outside those launches

    @property
    def fused(self) -> bool:
        return len(self.kernels) == 1 and not self.operations


class Routing:
    """`Gemma4MoE.routing_function` of the tree, of a tiny MoE layer, called as its `TopK` calls it.

    On a host without a GPU the logits claim to be on one (`is_cuda`); nothing else about them is
    changed. The function asks that before it calls its kernel, which Triton's interpreter, chosen by
    `pick_device`, then runs as written.
    """

    def __init__(self, experts: int, topk: int, seed: int = 0) -> None:
        import torch

        causal = from_tree("sglang.srt.models.gemma4_causal")
        config = moe_text_config(num_experts=experts, top_k_experts=topk, moe_intermediate_size=8)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.topk, self.config = topk, config
        self.layer = causal.Gemma4MoE(config.hidden_size, 0, config).to(self.device)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.layer.per_expert_scale.copy_(torch.rand(experts, generator=generator) + 0.5)
        self.scale = self.layer.per_expert_scale.detach().cpu()
        self._function = self.layer.topk.topk_config.custom_routing_function

    def __call__(self, logits: Any, on_gpu: bool = True) -> Routed:
        import torch

        hidden = torch.zeros(logits.shape[0], self.config.hidden_size, device=self.device)
        logits = logits.to(self.device)
        if on_gpu and self.device == "cpu":
            logits = claim_cuda(logits)
        with torch.no_grad(), _record_launches() as (kernels, operations):
            weights, ids = self._function(hidden, logits, self.topk, True)
        plain = torch.Tensor
        return Routed(
            weights.as_subclass(plain).cpu(), ids.as_subclass(plain).cpu(), kernels, operations
        )


def pick_device() -> str:
    """Have Triton's kernels compiled if there is a GPU, and interpreted otherwise. Call it before
    anything is decorated with `triton.jit`. Returns which it is, for the answer."""
    import torch

    if torch.cuda.is_available():
        os.environ.pop("TRITON_INTERPRET", None)
        return torch.cuda.get_device_name()
    os.environ["TRITON_INTERPRET"] = "1"
    return "Triton's interpreter"


def claim_cuda(tensor: Any) -> Any:
    """A CPU tensor with the same data that answers `is_cuda` with True."""
    return tensor.as_subclass(_claims_cuda())


@cache
def _claims_cuda() -> Any:
    import torch

    class ClaimsCuda(torch.Tensor):
        """What is computed from it is a plain tensor again."""

        __torch_function__ = torch._C._disabled_torch_function_impl
        is_cuda = property(lambda _: True)

    return ClaimsCuda


# Making, viewing and describing tensors, which launch nothing.
_NO_WORK = (
    "empty", "new_empty", "detach", "alias", "view", "as_strided", "slice", "expand", "lift",
)  # fmt: skip


@contextlib.contextmanager
def _record_launches() -> Iterator[tuple[list[str], list[str]]]:
    """Record each launch of a Triton kernel, and each PyTorch operation outside those launches."""
    from torch.utils._python_dispatch import TorchDispatchMode

    kernels: list[str] = []
    operations: list[str] = []
    launching = False

    class RecordOperations(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__
            if not launching and not name.startswith(_NO_WORK):
                operations.append(name)
            return func(*args, **(kwargs or {}))

    def recording(launch: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal launching
            code = inspect.unwrap(self.fn).__code__
            kernels.append(f"{code.co_name} in {in_tree(code.co_filename)}")
            outer, launching = launching, True
            try:
                return launch(self, *args, **kwargs)
            finally:
                launching = outer

        return recorded

    if os.environ.get("TRITON_INTERPRET") == "1":
        from triton.runtime.interpreter import GridExecutor as launcher

        method = "__call__"
    else:
        from triton.runtime.jit import JITFunction as launcher

        method = "run"
    with (
        mock.patch.object(launcher, method, recording(getattr(launcher, method))),
        RecordOperations(),
    ):
        yield kernels, operations
