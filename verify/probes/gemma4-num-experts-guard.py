"""Does loading a dense Gemma 4 checkpoint raise, or lose weights, because of ``num_experts: null``?

`Gemma4ForCausalLM.load_weights`, which the MTP assistants share, asks for a mapping of the weights of
`config.num_experts` experts for every model. A dense config says null, and `range(None)` raises
TypeError. A fix must load a dense checkpoint completely, and still load the experts of a MoE model.

A checkpoint of the tiny assistant is made by transformers' own class, so that its names are not this
probe's idea of SGLang's. It is loaded into a model full of NaN, and every tensor of it must arrive in
its place: tensors of the same name, stacked ones (qkv, gate_up), and renamed ones.

0   every tensor of the dense checkpoint arrives, and so does every one of a MoE checkpoint (control)
1   loading the dense one raises because of the experts, or leaves some of it out; or a MoE model's
    expert weights are left out
2   the probe broke, or does not know this tree's names: other weights of the control do not arrive
77  the tree has no MTP assistant

If the assistant cannot be built because it lacks its pipeline group (another bug, with a probe of its
own, which hides this one), it is given one first, and the line says so.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions

Tensors = dict[str, Any]


def randomized(state: Tensors) -> Tensors:
    """A random checkpoint of these names and shapes; without the tied head, as in safetensors files."""
    import torch

    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randn(value.shape, generator=generator)
        for name, value in state.items()
        if name != "lm_head.weight"
    }


def split_experts(checkpoint: Tensors) -> Tensors:
    """The same with each expert stored separately, as in FP8 and NVFP4 checkpoints."""
    split = {}
    for name, value in checkpoint.items():
        if name.endswith(".experts.gate_up_proj"):
            for expert, both in enumerate(value):
                gate, up = both.chunk(2)
                split[name.replace("gate_up_proj", f"{expert}.gate_proj.weight")] = gate
                split[name.replace("gate_up_proj", f"{expert}.up_proj.weight")] = up
        elif name.endswith(".experts.down_proj"):
            for expert, down in enumerate(value):
                split[name.replace("down_proj", f"{expert}.down_proj.weight")] = down
        else:
            split[name] = value
    return split


def target_of(name: str, value: Any, own: Tensors, heads: tuple[int, int]) -> Any:
    """The view of the model's tensors where a tensor of the checkpoint belongs; None if unknown.
    ``own`` are the model's tensors; ``heads`` the widths of all queries and of all keys."""
    queries, keys = heads

    def rows(part: str, whole: str, start: int) -> Any:
        target = own.get(name.replace(part, whole))
        return None if target is None else target[start : start + value.shape[0]]

    if match := re.fullmatch(r"(.*)\.experts\.(\d+)\.(gate|up|down)_proj\.weight", name):
        layer, expert, part = match[1], int(match[2]), match[3]
        target = own.get(f"{layer}.moe.experts.{'w2' if part == 'down' else 'w13'}_weight")
        if target is None or part == "down":
            return None if target is None else target[expert]
        return target[expert].chunk(2)[part == "up"]
    if name.endswith(".experts.gate_up_proj"):
        return own.get(name.replace(".experts.gate_up_proj", ".moe.experts.w13_weight"))
    if name.endswith(".experts.down_proj"):
        return own.get(name.replace(".experts.down_proj", ".moe.experts.w2_weight"))
    if ".q_proj." in name:
        return rows(".q_proj.", ".qkv_proj.", 0)
    if ".k_proj." in name:
        return rows(".k_proj.", ".qkv_proj.", queries)
    if ".v_proj." in name:
        return rows(".v_proj.", ".qkv_proj.", queries + keys)
    if ".gate_proj." in name:
        return rows(".gate_proj.", ".gate_up_proj.", 0)
    if ".up_proj." in name:
        return rows(".up_proj.", ".gate_up_proj.", value.shape[0])
    return own.get(name.replace(".router.per_expert_scale", ".moe.per_expert_scale"))


def load(model: Any, checkpoint: Tensors) -> dict[str, list[str]]:
    """Load the checkpoint, and sort the names of its tensors by what became of them. The keys:
    "landed" (arrived), "left out", "wrong" (changed) and "unknown" (no place known)."""
    config = model.config
    heads = (
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    )
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    own = {name: value.detach() for name, value in own.items()}
    targets = {name: target_of(name, value, own, heads) for name, value in checkpoint.items()}
    for target in targets.values():
        if target is not None:
            target.fill_(float("nan"))
    model.load_weights(iter(checkpoint.items()))
    sorted_: dict[str, list[str]] = {"landed": [], "left out": [], "wrong": [], "unknown": []}
    for name, value in checkpoint.items():
        target = targets[name]
        if target is None or target.shape != value.shape:
            sorted_["unknown"].append(name)
        elif target.isnan().any():
            sorted_["left out"].append(name)
        else:
            equal = bool((target.cpu().float() == value).all())
            sorted_["landed" if equal else "wrong"].append(name)
    return sorted_


def about_experts(error: Exception) -> bool:
    """Whether an error is about the number of experts, by its text or the tree's line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line or "" for frame in frames if not in_tree(frame.filename).startswith("..")]
    number = re.compile(r"\bn\w*_experts\b|cannot be interpreted as an integer")
    return any(number.search(text) for text in (str(error), *lines[-1:]))


def few(names: list[str]) -> str:
    """The first of some names, and how many more."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def build_assistant(assistant: Any, config: Callable[[], Any]) -> tuple[Any, bool]:
    """The assistant, and whether it had to be given its pipeline group."""
    try:
        return assistant(config()), False
    except AttributeError as error:
        if "pp_group" not in str(error) and "world_size" not in str(error):
            raise
    groups = from_tree("sglang.srt.distributed.parallel_state")
    # With a setter, since an incomplete fix may assign it, too late or to something else.
    assistant.pp_group = property(lambda _: groups.get_pp_group(), lambda _, value: None)
    return assistant(config()), True


def main() -> Answer:
    details: dict[str, Any] = {"stand_ins": install(), **versions(), "tree": tree()}
    mtp = from_tree("sglang.srt.models.gemma4_mtp", absent=DOES_NOT_APPLY)
    causal = from_tree("sglang.srt.models.gemma4_causal")
    file = details["file"] = in_tree(causal.__file__)

    from verify import tiny

    details["stand_ins"] += tiny.one_rank()
    import transformers

    dense = tiny.assistant_config()
    if dense.text_config.num_experts is not None:
        raise Answer(
            BROKE, f"transformers' dense config has {dense.text_config.num_experts} experts"
        )
    checkpoint = randomized(transformers.Gemma4AssistantForCausalLM(dense).state_dict())
    of_moe = randomized(transformers.Gemma4ForCausalLM(tiny.moe_text_config()).state_dict())
    layouts = {"fused": of_moe}
    # Older trees know the fused layout only.
    if "make_expert_params_mapping" in inspect.getsource(causal.Gemma4ForCausalLM.load_weights):
        layouts["one by one"] = split_experts(of_moe)

    lost_experts = [
        lost
        for layout, weights in layouts.items()
        if (lost := check_moe(causal, layout, weights, details))
    ]
    note = check_dense(mtp.Gemma4AssistantForCausalLM, checkpoint, details)
    if lost_experts:
        raise Answer(PRESENT, lost_experts[0], details)
    return Answer(
        NOT_PRESENT,
        f"{file}: all {len(checkpoint)} tensors of a dense assistant land{note}, and all "
        + " and ".join(f"{len(weights)} ({layout})" for layout, weights in layouts.items())
        + " of a MoE model",
        details,
    )


def check_moe(causal: Any, layout: str, weights: Tensors, details: dict[str, Any]) -> str | None:
    """Load a MoE checkpoint, and say which weights of its experts are left out, or None. The
    control: all of its other weights must arrive."""
    from verify import tiny

    file = details["file"]
    try:
        loaded = load(causal.Gemma4ForCausalLM(tiny.moe_text_config()), weights)
    except Exception as error:
        if not about_experts(error):
            raise
        what = f"{type(error).__name__}: {error}"
        raise Answer(
            PRESENT, f"{file}: loading a MoE checkpoint ({layout}) raises {what}", details
        ) from error
    details.setdefault("control", {})[layout] = {kind: len(names) for kind, names in loaded.items()}
    lost = [name for name in loaded["left out"] if ".experts." in name]
    others = [
        name
        for kind in ("left out", "wrong", "unknown")
        for name in loaded[kind]
        if name not in lost
    ]
    if others:
        raise Answer(
            BROKE,
            f"control: {file} does not load {few(others)} of a MoE checkpoint ({layout}) "
            "to where this probe looks for it",
            details,
        )
    if not lost:
        return None
    return (
        f"{file}: a MoE checkpoint ({layout}) loses its experts' weights: "
        f"{few(lost)} of {len(weights)} tensors left out"
    )


def check_dense(assistant: Any, checkpoint: Tensors, details: dict[str, Any]) -> str:
    """Every tensor of the dense checkpoint must arrive in the assistant. Returns a note for the line."""
    from verify import tiny

    file = details["file"]
    model, was_given = build_assistant(assistant, tiny.assistant_config)
    note = " (given a pp_group first: without one it cannot be built)" if was_given else ""
    details["pp_group_given"] = was_given
    try:
        loaded = load(model, checkpoint)
    except Exception as error:
        if not about_experts(error):
            raise
        raise Answer(
            PRESENT,
            f"{file}: loading the dense assistant raises {type(error).__name__}: {error}{note}",
            details,
        ) from error
    details["dense"] = {kind: len(names) for kind, names in loaded.items()}
    if loaded["unknown"]:
        raise Answer(
            BROKE, f"no place known for {few(loaded['unknown'])} of the assistant", details
        )
    if missing := loaded["left out"] or loaded["wrong"]:
        how = "left out" if loaded["left out"] else "changed"
        raise Answer(
            PRESENT,
            f"{file}: the dense assistant loads, but {few(missing)} of {len(checkpoint)} tensors "
            f"{how}{note}",
            details,
        )
    return note


if __name__ == "__main__":
    answer(main)
