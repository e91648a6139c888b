"""On SM100 (B200), does ``--moe-runner-backend auto`` choose a backend for NVFP4 for a bf16 Gemma 4?

Gemma 4's experts use gelu. flashinfer_trtllm has gelu in NVFP4 but not in bf16, so a bf16 MoE
checkpoint that gets it fails in its first forward pass. The probe resolves `ServerArgs` for three
tiny checkpoints (config.json only) in bf16, FP8 and ModelOpt's NVFP4, for the text-only and for the
multimodal architecture, with SGLang made to believe that the host is SM100.

0   NVFP4 gets flashinfer_trtllm, which also shows that the host passes for SM100; bf16 and FP8 do
    not get it; and a backend that the user names is kept
1   bf16 or FP8 gets it too; or NVFP4 no longer gets it, though this tree's kernel has gelu
2   the probe broke, or found no place to say that the host is SM100
77  NVFP4 does not get it, and this tree's flashinfer_trtllm has no gelu: the tree is older than it
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

TRTLLM = "flashinfer_trtllm"
NVFP4 = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "group_size": 16,
    "exclude_modules": ["lm_head"],
}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
QUANTIZATIONS: dict[str, dict[str, Any] | None] = {"bf16": None, "fp8": FP8, "nvfp4": NVFP4}
TEXT, MULTIMODAL = "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"


def write_checkpoint(architecture: str, quantization: str) -> str:
    """Write the files of a checkpoint that `ServerArgs` reads, and return its folder."""
    from verify import tiny

    settings = tiny.moe_text_config()
    text = settings.to_dict()
    text.update(model_type="gemma4_text", dtype="bfloat16")
    # 0.5.23 reads this of a multimodal config, but transformers 5.8.1, which every other tree needs,
    # does not have it yet. It is false for layers that are all alike, as these are.
    if not hasattr(settings, "is_heterogeneous"):
        text["is_heterogeneous"] = False
    config: dict[str, Any] = text
    if architecture == MULTIMODAL:
        config = {"model_type": "gemma4", "text_config": text, "dtype": "bfloat16"}
    config["architectures"] = [architecture]
    folder = os.path.join(os.getcwd(), "checkpoints", f"{architecture}-{quantization}")
    os.makedirs(folder, exist_ok=True)
    if stored := QUANTIZATIONS[quantization]:
        config["quantization_config"] = stored
    if quantization == "nvfp4":
        with open(os.path.join(folder, "hf_quant_config.json"), "w", encoding="utf-8") as file:
            json.dump(
                {"producer": {"name": "modelopt", "version": "0.37"}, "quantization": NVFP4}, file
            )
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    return folder


@contextlib.contextmanager
def sm100() -> Iterator[int]:
    """Make SGLang believe that this host is SM100; yields the number of places that were patched.
    Only the answer to that question is patched, and nothing that SGLang concludes from it."""
    with contextlib.ExitStack() as stack:
        places = 0
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", "")
            if name.startswith("sglang.") and "is_sm100_supported" in vars(module):
                stack.enter_context(
                    mock.patch.object(module, "is_sm100_supported", return_value=True)
                )
                places += 1
        try:  # newer trees ask a platform object, and have a hook to override its answers
            context = importlib.import_module("sglang.srt.runtime_context")
        except ModuleNotFoundError:
            pass
        else:
            if hasattr(context, "override_platform"):
                stack.enter_context(context.override_platform(is_sm100=True))
                places += 1
        stack.enter_context(mock.patch("torch.cuda.get_device_capability", return_value=(10, 0)))
        yield places


def resolve(folder: str, **settings: Any) -> tuple[str, str | None]:
    """The MoE backend and the quantization that this tree chooses."""
    arguments = from_tree("sglang.srt.server_args").ServerArgs(
        model_path=folder,
        device="cuda",
        skip_tokenizer_init=True,
        mem_fraction_static=0.5,
        **settings,
    )
    if not hasattr(arguments, "resolve_once"):
        return arguments.moe_runner_backend, arguments.quantization
    arguments.resolve_once()
    resolved = from_tree("sglang.srt.arg_groups.model_override_base").resolved_view(arguments)
    return resolved.moe_runner_backend, resolved.quantization


def kernel_takes_gelu() -> bool:
    """Whether this tree's NVFP4 kernel of that name lists gelu among its activations."""
    path = os.path.join(tree(), "python/sglang/srt/layers/moe/moe_runner/flashinfer_trtllm.py")
    try:
        with open(path, encoding="utf-8") as file:
            written = ast.parse(file.read())
    except FileNotFoundError:
        return False
    return any(
        isinstance(node, ast.Assign)
        and any("FP4" in ast.unparse(target).upper() for target in node.targets)
        and any(isinstance(n, ast.Constant) and n.value == "gelu" for n in ast.walk(node.value))
        for node in ast.walk(written)
    )


def choosing_file() -> str:
    """The file that chooses the backend, for the answer's line. It moved in 0.5.15 and in 0.5.19."""
    for name in ("arg_groups.model_overrides.gemma4", "arg_groups.overrides", "server_args"):
        module = sys.modules.get(f"sglang.srt.{name}")
        if module is not None and "for Gemma-4" in inspect.getsource(module):
            return in_tree(module.__file__)
    return in_tree(from_tree("sglang.srt.server_args").__file__)


def main() -> Answer:
    details: dict[str, Any] = {"stand_ins": install(), **versions(), "tree": tree()}
    from_tree("sglang.srt.server_args")
    chosen: dict[str, dict[str, str]] = {}
    with sm100() as places:
        if not places:
            raise Answer(
                BROKE, "found nothing in this tree to tell that the host is SM100", details
            )
        for architecture in (TEXT, MULTIMODAL):
            chosen[architecture] = {}
            for quantization in QUANTIZATIONS:
                folder = write_checkpoint(architecture, quantization)
                backend, settled = resolve(folder)
                chosen[architecture][quantization] = backend
                details[f"{architecture}, {quantization}"] = [backend, settled]
        named, _ = resolve(write_checkpoint(TEXT, "nvfp4"), moe_runner_backend="triton")
    details.update(told=places, named=named)
    file = details["file"] = choosing_file()
    listed = "; ".join(
        f"{architecture}: " + ", ".join(f"{q} -> {backend}" for q, backend in backends.items())
        for architecture, backends in chosen.items()
    )
    for kind in ("bf16", "fp8"):
        for architecture, backends in chosen.items():
            if backends[kind].startswith(TRTLLM):
                raise Answer(
                    PRESENT,
                    f"{file}: on SM100 auto gives a {kind} {architecture} {backends[kind]} ({listed})",
                    details,
                )
    without = [name for name, b in chosen.items() if not b["nvfp4"].startswith(TRTLLM)]
    if without and not kernel_takes_gelu():
        raise Answer(
            DOES_NOT_APPLY,
            f"{file}: this tree gives no Gemma 4 {TRTLLM}, whose kernel has no gelu here ({listed})",
            details,
        )
    if without:
        raise Answer(
            PRESENT,
            f"{file}: on SM100 auto no longer gives an NVFP4 {without[0]} {TRTLLM}, "
            f"though the kernel here has gelu ({listed})",
            details,
        )
    if named != "triton":
        raise Answer(PRESENT, f"{file}: triton, named by the user, became {named}", details)
    return Answer(
        NOT_PRESENT, f"{file}: on SM100 auto gives {TRTLLM} to NVFP4 only ({listed})", details
    )


if __name__ == "__main__":
    answer(main)
